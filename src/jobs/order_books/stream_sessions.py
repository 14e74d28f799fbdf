"""One order-book session: its state, its statistics, and how it is stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any

from msgspec import Struct

from src.models.writes import Collection, Upsert
from src.pipeline.documents import to_date, to_ms

CONNECTED = "connected"


class SessionState(StrEnum):
    """``interrupted``: the program stopped; its next start goes on with the session."""

    RUNNING = "running"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


class Link(Struct, frozen=True):
    """How the connections to a venue stand.

    Attributes:
        connected: at least one is open.
        attempts: connection attempts since one was open last.
        error: why the last one ended or failed, empty when none did.
        obstacle: what stands in the way until a person does something; empty when nothing does.
        requires_login: a person has to log in.
        connects: how often the one connection was opened so far; 0 where there are several, or it is not known.
        lost_ms: when it was lost last.
    """

    connected: bool
    attempts: int = 0
    error: str = ""
    obstacle: str = ""
    requires_login: bool = False
    connects: int = 0
    lost_ms: int | None = None


def link_of(connections: Iterable[Mapping[str, Any]], *, obstacle: str = "", requires_login: bool = False) -> Link:
    """How a venue stands, from the ``connections`` of its pool's status (see `src.venues.report.pool_status`)."""
    rows = list(connections)
    errors = [row["last_error"] for row in rows if row.get("last_error")]
    last = max(errors, key=lambda error: error["at_ms"], default=None)
    only = rows[0] if len(rows) == 1 else {}
    return Link(
        connected=any(row["state"] == "open" for row in rows),
        attempts=max((row["failures_in_a_row"] for row in rows), default=0),
        error="" if last is None else last["detail"] or last["reason"],
        obstacle=obstacle,
        requires_login=requires_login,
        connects=only.get("connects", 0),
        lost_ms=None if last is None else last["at_ms"],
    )


class Session(Struct):
    """A session; times of day in ms since 1970, ``connected_at`` on the monotonic clock.

    Attributes:
        counts, last_ms: books received and when the last one was, by ticker.
        connected_ms: since when the venue is connected, None while it is not.
        was_connected: whether it ever was, so that the next time is a reconnect.
        connects: see `Link`, at the last look; a connection may be lost and back between two looks.
        revision: counts stored versions.
    """

    session_id: str
    venue: str
    tickers: tuple[str, ...]
    started_ms: int
    state: SessionState = SessionState.STOPPED
    stopped_ms: int | None = None
    counts: dict[str, int] = {}
    last_ms: dict[str, int] = {}
    connected_ms: int | None = None
    connected_at: float = 0.0
    was_connected: bool = False
    connects: int = 0
    attempts: int = 0
    reconnects: int = 0
    last_error: str = ""
    disconnected_ms: int | None = None
    obstacle: str = ""
    revision: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it collects now."""
        return self.state is SessionState.RUNNING

    @property
    def is_resumed(self) -> bool:
        """Whether the start of the program goes on with it."""
        return self.state is not SessionState.STOPPED

    @property
    def holder(self) -> str:
        """Its name among those who want something of a venue."""
        return f"stream:{self.session_id}"

    def begin(self, now: float) -> None:
        """Collect from now on."""
        self.state, self.stopped_ms = SessionState.RUNNING, None
        self.connected_ms, self.connected_at = None, now
        self.was_connected, self.connects, self.attempts, self.obstacle = False, 0, 0, ""

    def end(self, state: SessionState, now_ms: int) -> None:
        """Collect no longer."""
        self.state, self.stopped_ms = state, now_ms
        self.connected_ms = None
        self.obstacle = ""

    def note(self, link: Link, now_ms: int, now: float) -> bool:
        """Take note of how the venue's connections stand; True when something changed that is stored."""
        self.attempts, self.obstacle = link.attempts, link.obstacle
        if not link.connected:
            self.last_error = link.obstacle or link.error or self.last_error
            if self.connected_ms is not None:
                self.connected_ms, self.disconnected_ms = None, now_ms
                return True
            return False
        opened = link.connects - self.connects if self.connects else 0
        if self.connected_ms is not None and opened <= 0:
            self.connects = link.connects
            return False
        if self.connected_ms is not None:
            self.last_error = link.error or self.last_error
            self.disconnected_ms = now_ms if link.lost_ms is None else link.lost_ms
        self.reconnects += max(1, opened) if self.was_connected else 0
        self.connected_ms, self.connected_at, self.was_connected = now_ms, now, True
        self.connects = link.connects
        return True


def statistics(session: Session, zone: tzinfo, now: float, refused: str = "") -> dict[str, Any]:
    """What the HTTP interface tells of a session; times without an offset, in the time of the exchange."""
    connected = session.is_active and session.connected_ms is not None
    told: dict[str, Any] = {
        "session_id": session.session_id,
        "running": connected,
        "tickers": list(session.tickers),
        "message_counts": {ticker: session.counts.get(ticker, 0) for ticker in session.tickers},
        "last_updates": {
            ticker: local_text(session.last_ms[ticker], zone)
            for ticker in session.tickers
            if ticker in session.last_ms
        },
        "connection_time": local_text(session.connected_ms, zone),
        "uptime_seconds": round(max(0.0, now - session.connected_at), 3) if connected else 0.0,
        "status": "running" if session.is_active else "stopped",
        "started_at": local_text(session.started_ms, zone),
        "venue": session.venue,
        "connection_status": _connection_status(session),
        "retry_count": session.attempts if session.is_active and not connected else 0,
        "total_reconnects": session.reconnects,
        "last_error": (refused if session.is_active else "") or session.last_error or None,
        "last_disconnect_time": local_text(session.disconnected_ms, zone),
    }
    if session.stopped_ms is not None:
        told["stopped_at"] = local_text(session.stopped_ms, zone)
    return told


def local_text(wall_ms: int | None, zone: tzinfo) -> str | None:
    """A moment as ISO 8601 without an offset; None for none."""
    if wall_ms is None:
        return None
    return datetime.fromtimestamp(wall_ms / 1000, zone).replace(tzinfo=None).isoformat()


def session_write(session: Session, now_ms: int) -> Upsert:
    """The write that stores a session; counts its revision up."""
    session.revision += 1
    return Upsert(
        Collection.STREAMS,
        session.session_id,
        "revision",
        session.revision,
        {
            "status": session.state.value,
            "stoppedAt": to_date(session.stopped_ms),
            "messages": [
                {
                    "ticker": ticker,
                    "count": session.counts.get(ticker, 0),
                    "lastUpdateAt": to_date(session.last_ms.get(ticker)),
                }
                for ticker in session.tickers
            ],
            "connectedAt": to_date(session.connected_ms),
            "disconnectedAt": to_date(session.disconnected_ms),
            "reconnects": session.reconnects,
            "lastError": session.last_error or None,
            "updatedAt": to_date(now_ms),
        },
        {
            "sessionId": session.session_id,
            "venue": session.venue,
            "tickers": list(session.tickers),
            "startedAt": to_date(session.started_ms),
        },
    )


def from_document(document: Mapping[str, Any]) -> Session | None:
    """A session as it was stored, None when the document is none."""
    try:
        messages = {str(row["ticker"]): row for row in document["messages"]}
        session = Session(
            str(document["sessionId"]),
            str(document["venue"]),
            tuple(str(ticker) for ticker in document["tickers"]),
            to_ms(document["startedAt"]) or 0,
            _state(document["status"]),
            to_ms(document.get("stoppedAt")),
            {ticker: int(row["count"]) for ticker, row in messages.items()},
            {ticker: at for ticker, row in messages.items() if (at := to_ms(row["lastUpdateAt"])) is not None},
            reconnects=int(document.get("reconnects") or 0),
            last_error=str(document.get("lastError") or ""),
            disconnected_ms=to_ms(document.get("disconnectedAt")),
            revision=int(document["revision"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return session if session.session_id == document.get("_id") and session.tickers else None


def _state(stored: str) -> SessionState:
    """A session that is stored as running was interrupted by a crash."""
    state = SessionState(stored)
    return SessionState.INTERRUPTED if state is SessionState.RUNNING else state


def _connection_status(session: Session) -> str:
    if not session.is_active:
        return "stopped"
    if session.connected_ms is not None:
        return CONNECTED
    if session.obstacle:
        return "error"
    if session.was_connected:
        return "retrying"
    return "retrying" if session.attempts > 1 else "connecting"
