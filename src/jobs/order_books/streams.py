"""Order-book sessions: somebody asks for tickers, and until it is stopped they are collected, counted and written.

Sessions share everything behind them: each asks the venue through the same `Upstream`, which subscribes once however
many want a ticker, and each ticker has one CSV file. They are kept in the collection ``streams`` and go on when the
program starts again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from src.jobs.order_books.csv_rows import ticker_of
from src.jobs.order_books.exchange_days import zone_of
from src.jobs.order_books.stream_sessions import Link, Session, SessionState, local_text, statistics
from src.jobs.order_books.stream_store import KeptSessions
from src.jobs.stoppable import is_set_within
from src.models.changes import BookChange, Change
from src.models.clock import Clock
from src.models.errors import StoreError, StreamRefusedError
from src.models.live import Topic, Upstream
from src.models.metrics import STREAM_SESSIONS, Metrics
from src.models.symbols import VenueSymbols
from src.store.base import Store

MOST_TICKERS = 500
MOST_RUNNING = 100
MOST_STOPPED = 200
"""Stopped sessions that are listed, the last stopped ones; older ones stay in the collection."""

LOOK_S = 1.0
SAVE_S = 10.0
RESTORE_RETRY_S = 2.0
START_WAIT_S = 3.0
LAST_SAVE_S = 2.0
BOOK = "book"

_log = structlog.get_logger(__name__)

LinkOf = Callable[[], Link]
"""How a venue's connections stand now."""


class StreamSessions:
    """All sessions of this program; `run` is its supervised task.

    Args:
        store: where sessions are kept.
        upstream: takes the demand for tickers.
        venues: spelling of symbols, by venue.
        links: how the connections of each venue stand; a venue without one is not collected by this program.
        market: tells what the exchange with trading hours does now.
        clock: for times and durations.
        metrics: counts sessions.
    """

    def __init__(
        self,
        store: Store,
        *,
        upstream: Upstream,
        venues: Sequence[VenueSymbols],
        links: Mapping[str, LinkOf],
        market: Callable[[], Mapping[str, Any]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._kept = KeptSessions(store, clock=clock, metrics=metrics)
        self._upstream = upstream
        self._venues = {venue.venue: venue for venue in venues}
        self._links = links
        self._market = market
        self._clock = clock
        self._metrics = metrics
        self._sessions: dict[str, Session] = {}
        self._by_ticker: dict[tuple[str, str], list[Session]] = {}
        self._dirty: set[str] = set()
        self._restored = asyncio.Event()
        self._stopping = False

    # -- what the HTTP side asks -------------------------------------------------------------------------------------

    async def start(self, tickers: Sequence[str], *, venue: str, session_id: str | None) -> Mapping[str, Any]:
        """Begin a session; it is effective at once and stored soon.

        Raises:
            StreamRefusedError: it cannot be; the text says why.
            StoreError: the database does not answer.
        """
        await self._until_restored()
        spelt = self._spelt(tickers, venue)
        is_stored = session_id is not None and await self._kept.has(session_id)
        if is_stored or session_id in self._sessions:
            raise StreamRefusedError(f"Session {session_id} already exists")
        if self._links[venue]().requires_login:
            raise StreamRefusedError("No valid token", requires_login=True)
        if self._running() >= MOST_RUNNING:
            raise StreamRefusedError(f"{MOST_RUNNING} sessions are running already; stop one first")
        now_ms = self._clock.wall_ms()
        session = Session(session_id or self._new_id(venue, spelt[0], now_ms), venue, tuple(spelt), now_ms)
        self._sessions[session.session_id] = session
        self._begin(session)
        _log.info("stream_started", session=session.session_id, venue=venue, tickers=len(spelt))
        await self._save_quickly()
        return {
            "session_id": session.session_id,
            "tickers": list(session.tickers),
            "started_at": _local(session, session.started_ms),
        }

    async def stop(self, session_id: str) -> Mapping[str, Any]:
        """End a session; what was collected stays.

        Raises:
            StreamRefusedError: there is none of this id, or it does not run.
        """
        self._check_restored()
        session = self._sessions.get(session_id)
        if session is None:
            raise StreamRefusedError(f"Session {session_id} not found")
        if not session.is_resumed:
            raise StreamRefusedError(f"Session {session_id} is not running")
        self._end(session, SessionState.STOPPED)
        self._forget_oldest()
        _log.info("stream_stopped", session=session_id)
        await self._save_quickly()
        return {"session_id": session_id, "stopped_at": _local(session, session.stopped_ms or 0)}

    async def refresh(self, session_id: str) -> Mapping[str, Any]:
        """Begin a session anew: a stopped one runs again, a running one asks its venue again.

        Raises:
            StreamRefusedError: there is none of this id, or it cannot run.
        """
        self._check_restored()
        session = self._sessions.get(session_id)
        if session is None:
            raise StreamRefusedError(f"Session {session_id} not found")
        link = self._links[session.venue]() if session.venue in self._links else None
        if link is None or link.requires_login:
            raise StreamRefusedError("No valid token", requires_login=link is not None)
        if not session.is_active and self._running() >= MOST_RUNNING:
            raise StreamRefusedError(f"{MOST_RUNNING} sessions are running already; stop one first")
        self._end(session, SessionState.INTERRUPTED)
        self._begin(session)
        _log.info("stream_refreshed", session=session_id)
        await self._save_quickly()
        return {"session_id": session_id, "refreshed_at": _local(session, self._clock.wall_ms())}

    def sessions(self) -> list[Mapping[str, Any]]:
        """Statistics of all sessions, the first started first.

        Raises:
            StreamRefusedError: sessions of before are not read yet.
        """
        self._check_restored()
        links = {venue: link() for venue, link in self._links.items()}
        return [self._statistics(session, links) for session in self._in_order()]

    def session(self, session_id: str) -> Mapping[str, Any] | None:
        """Statistics of one session, None when there is none of this id.

        Raises:
            StreamRefusedError: sessions of before are not read yet.
        """
        self._check_restored()
        session = self._sessions.get(session_id)
        if session is None:
            return None
        link = self._links.get(session.venue)
        return self._statistics(session, {session.venue: link()} if link else {})

    def market_status(self) -> Mapping[str, Any]:
        """What the exchange with trading hours does now."""
        return self._market()

    def is_wanted(self, venue: str, ticker: str) -> bool:
        """Whether a running session wants this ticker."""
        return (venue, ticker) in self._by_ticker

    # -- what happens ------------------------------------------------------------------------------------------------

    def listen(self, changes: Sequence[Change]) -> None:
        """Count the books of running sessions; a listener of the hub."""
        if not self._by_ticker:
            return
        for change in changes:
            if isinstance(change, BookChange):
                ticker = ticker_of(change.book)
                for session in self._by_ticker.get((change.book.venue, ticker), ()):
                    session.counts[ticker] = session.counts.get(ticker, 0) + 1
                    session.last_ms[ticker] = change.book.received_ms
                    self._dirty.add(session.session_id)

    async def run(self, stopping: asyncio.Event) -> None:
        """Go on with the sessions of before, then watch and store them until ``stopping``; `stop_all` comes later.

        Raises:
            StoreFatalError: the database refuses for good.
        """
        while not stopping.is_set() and not self._restored.is_set():
            if not await self._restore():
                await is_set_within(stopping, RESTORE_RETRY_S)
        save_at = self._clock.monotonic() + SAVE_S
        while not stopping.is_set():
            self._look()
            if self._clock.monotonic() >= save_at:
                await self._save()
                save_at = self._clock.monotonic() + SAVE_S
            await is_set_within(stopping, LOOK_S)

    async def stop_all(self, *, stored: bool = True) -> None:
        """End every running session for now: the next start of the program goes on with them.

        Called when everything that arrived has been told. ``stored`` False = another program writes to the database.
        """
        self._stopping = True
        for session in list(self._sessions.values()):
            if session.is_active:
                self._end(session, SessionState.INTERRUPTED)
        if not stored:
            return
        try:
            async with asyncio.timeout(LAST_SAVE_S):
                await self._save()
        except TimeoutError:
            _log.warning("streams_not_stored", sessions=len(self._dirty), effect="their last counts are lost")

    def _begin(self, session: Session) -> None:
        session.begin(self._clock.monotonic())
        for ticker in session.tickers:
            self._by_ticker.setdefault((session.venue, ticker), []).append(session)
            self._upstream.hold(session.holder, Topic(BOOK, session.venue, ticker))
        self._dirty.add(session.session_id)
        self._look()

    def _end(self, session: Session, state: SessionState) -> None:
        for ticker in session.tickers if session.is_active else ():
            self._upstream.release(session.holder, Topic(BOOK, session.venue, ticker))
            wanting = self._by_ticker[session.venue, ticker]
            wanting.remove(session)
            if not wanting:
                del self._by_ticker[session.venue, ticker]
        session.end(state, self._clock.wall_ms())
        self._dirty.add(session.session_id)
        self._count()

    def _look(self) -> None:
        """Note how the connections of running sessions stand."""
        links: dict[str, Link] = {}
        for session in self._sessions.values():
            if session.is_active and session.venue in self._links:
                if session.venue not in links:
                    links[session.venue] = self._links[session.venue]()
                if session.note(links[session.venue], self._clock.wall_ms(), self._clock.monotonic()):
                    self._dirty.add(session.session_id)
        self._count()

    def _count(self) -> None:
        states = Counter("running" if session.is_active else "stopped" for session in self._sessions.values())
        for state in ("running", "stopped"):
            self._metrics.put(STREAM_SESSIONS, state, value=states[state])

    def _running(self) -> int:
        return sum(session.is_active for session in self._sessions.values())

    def _in_order(self) -> list[Session]:
        return sorted(self._sessions.values(), key=lambda session: (session.started_ms, session.session_id))

    def _forget_oldest(self) -> None:
        stopped = [session for session in self._sessions.values() if not session.is_active]
        stopped.sort(key=lambda session: session.stopped_ms or 0)
        for session in stopped[: max(0, len(stopped) - MOST_STOPPED)]:
            if session.session_id not in self._dirty:
                del self._sessions[session.session_id]

    def _statistics(self, session: Session, links: Mapping[str, Link]) -> Mapping[str, Any]:
        link = links.get(session.venue) if session.is_active else None
        if link is not None and session.note(link, self._clock.wall_ms(), self._clock.monotonic()):
            self._dirty.add(session.session_id)
        refused = ""
        if session.is_active:
            for ticker in session.tickers:
                standing = self._upstream.standing(Topic(BOOK, session.venue, ticker))
                if standing.state == "refused":
                    refused = f"{ticker}: {standing.text or standing.code}"
                    break
        zone = zone_of(session.venue, session.tickers[0])
        return statistics(session, zone, self._clock.monotonic(), refused)

    # -- what may be asked for ---------------------------------------------------------------------------------------

    def _spelt(self, tickers: Sequence[str], venue: str) -> list[str]:
        """The tickers as the venue spells them, each once."""
        known = self._venues.get(venue)
        if known is None or venue not in self._links:
            raise StreamRefusedError(
                f"Venue {venue[:40]} is not collected by this program; it collects {', '.join(sorted(self._links))}"
            )
        if BOOK not in known.kinds:
            raise StreamRefusedError(f"Venue {venue} has no order books")
        given = [ticker.strip() for ticker in tickers if ticker.strip()]
        if not given:
            raise StreamRefusedError("At least one ticker required")
        found = {ticker: known.native(ticker) for ticker in given}
        wrong = [ticker[:40] for ticker, native in found.items() if native is None]
        if wrong:
            raise StreamRefusedError(f"Not a ticker of {venue}: {', '.join(wrong[:10])}")
        spelt = list(dict.fromkeys(native for native in found.values() if native is not None))
        if len(spelt) > MOST_TICKERS:
            raise StreamRefusedError(f"{len(spelt)} tickers are too many; a session takes {MOST_TICKERS}")
        return spelt

    def _new_id(self, venue: str, ticker: str, now_ms: int) -> str:
        """``stream_YYYYMMDD_HHMMSS`` in the exchange's time; the second of one second gets a number."""
        stamp = datetime.fromtimestamp(now_ms / 1000, zone_of(venue, ticker)).strftime("stream_%Y%m%d_%H%M%S")
        number, name = 1, stamp
        while name in self._sessions:
            number += 1
            name = f"{stamp}_{number}"
        return name

    async def _until_restored(self) -> None:
        if self._stopping:
            raise StreamRefusedError("The program stops", later=True)
        await is_set_within(self._restored, START_WAIT_S)
        self._check_restored()

    def _check_restored(self) -> None:
        if not self._restored.is_set():
            raise StreamRefusedError("The program is not collecting yet; /health says why", later=True)

    # -- storing -----------------------------------------------------------------------------------------------------

    async def _restore(self) -> bool:
        """Read the sessions of before and go on with those nobody stopped; False while the database is away."""
        found = await self._kept.read(MOST_STOPPED)
        if found is None:
            return False
        for session in found:
            self._sessions[session.session_id] = session
            if session.is_resumed and session.venue in self._links and session.venue in self._venues:
                self._begin(session)
        if self._running():
            _log.info("streams_resumed", sessions=self._running())
        self._restored.set()
        return True

    async def _save(self) -> None:
        """Store what changed; what the database does not take now is stored later."""
        changed = [self._sessions[name] for name in self._dirty if name in self._sessions]
        self._dirty.clear()
        try:
            stored = await self._kept.write(changed)
        except BaseException:
            self._dirty.update(session.session_id for session in changed)
            raise
        if not stored:
            self._dirty.update(session.session_id for session in changed)

    async def _save_quickly(self) -> None:
        """Store at once what somebody just did, unless the database is slow: then `run` does it."""
        try:
            async with asyncio.timeout(START_WAIT_S):
                await self._save()
        except (StoreError, TimeoutError) as error:
            _log.warning("streams_stored_later", error=str(error))


def _local(session: Session, wall_ms: int) -> str | None:
    """A time as the statistics tell it: without an offset, in the time of the exchange."""
    return local_text(wall_ms, zone_of(session.venue, session.tickers[0]))
