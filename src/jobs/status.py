"""What the running program says about itself: health, ``/stats`` and the status line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from src.jobs.sources import Sources
from src.models.clock import Clock
from src.models.metrics import (
    BYTES_RECEIVED,
    DEAD_LETTERS,
    DOCUMENTS_INSERTED,
    DOCUMENTS_MODIFIED,
    EVENT_LOOP_LAG_MS,
    FRAMES_IGNORED,
    FRAMES_RECEIVED,
    FRAMES_REJECTED,
    REFUSALS,
    TASK_FAILURES,
    WRITES_REPEATED,
    Metrics,
)
from src.models.status import Check, Health
from src.models.writes import Collection
from src.pipeline.diff import Diff
from src.pipeline.flush import Flusher
from src.pipeline.journal import Journal
from src.pipeline.pipeline import Pipeline

START_GRACE_S = 60.0
"""For so long after the start, streams that have not spoken yet are no fault."""

LAG_BAD_MS = 1_000.0
REDIS_OFF = "off"
NEEDS_LOGIN = "needs login"

Phase = Literal["starting", "waiting for MongoDB", "standby", "running", "stopping"]


class RunState(Struct):
    """Where the program stands; written by the composition root.

    ``writer`` says why this program may not write to the database now; empty when it may.
    """

    phase: Phase = "starting"
    database: str = ""
    topology: str = ""
    database_error: str = ""
    writer: Callable[[], str] = lambda: ""


class ProgramStatus:
    """Answers from memory, at once; see `src.models.status.StatusSource`."""

    def __init__(
        self,
        *,
        state: RunState,
        pipeline: Pipeline,
        flusher: Flusher,
        diff: Diff,
        sources: Sources,
        followed: Callable[[], int] = lambda: 0,
        sections: Mapping[str, Callable[[], Any]] | None = None,
        checks: Callable[[], Sequence[Check]] = tuple,
        redis: Callable[[], str] = lambda: REDIS_OFF,
        journal: Journal | None = None,
        metrics: Metrics,
        clock: Clock,
        version: str,
    ) -> None:
        """Nothing is asked yet.

        Args:
            state: where the program stands.
            pipeline: the flow, told by itself.
            flusher: knows outages.
            diff: counts what is open.
            sources: the venues.
            followed: how many traders are followed.
            sections: more of ``/stats``, by name.
            checks: more of ``/health``.
            redis: state of the exchange with other processes.
            journal: of the program.
            metrics: counted by everybody.
            clock: for durations.
            version: of the program.
        """
        self._state = state
        self._pipeline = pipeline
        self._flusher = flusher
        self._diff = diff
        self._sources = sources
        self._followed = followed
        self._sections = dict(sections or {})
        self._checks = checks
        self._redis = redis
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._version = version
        self._started = clock.monotonic()
        self._line_frames = 0.0
        self._line_at = self._started

    def health(self) -> Health:
        """Ready = collecting and storing; degraded = something is stale, failed or behind; down = not collecting."""
        running = self._state.phase == "running"
        standby = self._state.phase == "standby"
        venues = [] if standby else self._sources.statuses()
        checks = (
            self._check_phase(),
            self._check_database(),
            self._check_writer(),
            *map(self._check_venue, venues),
            *self._check_journal(),
            *self._check_redis(),
            *self._checks(),
            self._check_loop(),
        )
        collecting = standby or self._is_young() or not _is_deaf(venues)
        ready = running and collecting and self._flusher.outage is None and not self._state.writer()
        status: Literal["ok", "degraded", "down"] = "ok"
        if not collecting or self._state.phase == "stopping":
            status = "down"
        elif not all(check.ok for check in checks):
            status = "degraded"
        facts = {
            "uptime_s": round(self._clock.monotonic() - self._started, 1),
            "redis": self._redis(),
            "feed_connected": any(source.is_connected for source in self._sources),
        }
        return Health(status, ready, checks, facts)

    def stats(self) -> Mapping[str, Any]:
        """Everything countable, JSON-ready."""
        metrics = self._metrics
        inserted = _by_label(metrics, DOCUMENTS_INSERTED)
        return {
            "version": self._version,
            "phase": self._state.phase,
            "uptime_s": round(self._clock.monotonic() - self._started, 1),
            "database": {
                "uri": self._state.database,
                "topology": self._state.topology,
                "away": self._flusher.outage is not None,
                "error": self._flusher.outage.error if self._flusher.outage else self._state.database_error,
            },
            "writer": {"may_write": not self._state.writer(), "why": self._state.writer()},
            "tracked_traders": self._followed(),
            "tracked_orders": self._diff.open_orders,
            "tracked_positions": self._diff.open_positions,
            "orders_inserted": inserted.get(Collection.TRADER_ORDER_EVENTS, 0),
            "positions_inserted": inserted.get(Collection.TRADER_POSITION_EVENTS, 0),
            "messages_received": metrics.total(FRAMES_RECEIVED),
            "bytes_received": metrics.total(BYTES_RECEIVED),
            "messages_rejected": _by_last_label(metrics, FRAMES_REJECTED),
            "messages_ignored": _by_last_label(metrics, FRAMES_IGNORED),
            "venue_refusals": _by_last_label(metrics, REFUSALS),
            "dead_letters": metrics.total(DEAD_LETTERS),
            "documents_inserted": inserted,
            "documents_modified": _by_label(metrics, DOCUMENTS_MODIFIED),
            "writes_repeated": metrics.total(WRITES_REPEATED),
            "task_failures": _by_label(metrics, TASK_FAILURES),
            **self._pipeline.stats(),
            "journal": self._journal_stats(),
            **{name: tell() for name, tell in self._sections.items()},
            **self._sources.status(),
        }

    def line(self) -> str:
        """One short line for a terminal."""
        now = self._clock.monotonic()
        frames = self._metrics.total(FRAMES_RECEIVED)
        rate = (frames - self._line_frames) / max(now - self._line_at, 1e-3)
        self._line_frames, self._line_at = frames, now
        parts = [f"{rate:.1f} messages/s"]
        if len(self._sources):
            status = self._sources.status()
            states = Counter(status["states"])
            fresh = states.pop("fresh", 0)
            others = "".join(f", {count} {name}" for name, count in sorted(states.items()))
            parts.append(f"{_opened(status)} connections, {fresh} streams fresh{others}")
        parts.append(f"{self._diff.open_orders} orders and {self._diff.open_positions} positions open")
        stored = int(self._metrics.total(DOCUMENTS_INSERTED))
        parts.append(f"{stored} documents stored")
        outage = self._flusher.outage
        if outage is not None:
            waiting = self._pipeline.stats()["pending"]
            parts.append(f"MongoDB away for {now - outage.since_s:.0f} s, {waiting} changes waiting")
        return " | ".join(parts)

    def _journal_stats(self) -> dict[str, Any]:
        if self._journal is None:
            return {"enabled": False}
        return {
            "enabled": True,
            "bytes": self._journal.size_bytes,
            "usage": round(self._journal.usage, 4),
            "changes": self._journal.changes,
            **self._pipeline.journal_stats(),
        }

    def _check_phase(self) -> Check:
        phase = self._state.phase
        return Check("program", phase == "running", phase)

    def _check_database(self) -> Check:
        outage = self._flusher.outage
        if outage is not None:
            away_s = self._clock.monotonic() - outage.since_s
            return Check("mongodb", ok=False, text=f"away for {away_s:.0f} s, collecting goes on: {outage.error}")
        if self._state.database_error:
            return Check("mongodb", ok=False, text=self._state.database_error)
        return Check("mongodb", ok=True, text=self._state.topology or "not asked yet")

    def _check_writer(self) -> Check:
        text = self._state.writer()
        return Check("writer", not text, text or "the only one to write to this database")

    def _check_venue(self, status: Mapping[str, Any]) -> Check:
        """A venue of which nothing is wanted now needs no connection; one that waits for a log-in is a fault."""
        login: Mapping[str, Any] = status.get("login") or {}
        if login.get("state") == NEEDS_LOGIN:
            return Check(status["venue"], ok=False, text=f"{NEEDS_LOGIN}: {login.get('why', '')}")
        states: Mapping[str, int] = status["states"]
        faults = {name: count for name, count in states.items() if name != "fresh"}
        if self._is_young():
            faults.pop("pending", None)
        opened = _opened(status)
        told = ", ".join(f"{count} {name}" for name, count in sorted(states.items())) or "nothing subscribed"
        ok = (bool(opened) or not status["streams"]) and not faults
        return Check(status["venue"], ok, f"{opened} connections open; streams: {told}")

    def _check_journal(self) -> list[Check]:
        if self._journal is None:
            return []
        told = self._pipeline.journal_stats()
        if told["error"]:
            return [Check("journal", ok=False, text=f"cannot be written, changes wait in memory: {told['error']}")]
        dropping = f", dropping history of {told['suspended_streams']} streams" if told["suspended_streams"] else ""
        return [Check("journal", not dropping, f"{self._journal.usage:.0%} of its limit in use{dropping}")]

    def _check_redis(self) -> list[Check]:
        state = self._redis()
        if state == REDIS_OFF:
            return []
        text = "live data is shared" if state == "ok" else "away; this process goes on alone"
        return [Check("redis", state == "ok", text)]

    def _check_loop(self) -> Check:
        lag_ms = self._metrics.value(EVENT_LOOP_LAG_MS)
        return Check("event loop", lag_ms < LAG_BAD_MS, f"{lag_ms:.0f} ms late")

    def _is_young(self) -> bool:
        return self._clock.monotonic() - self._started < START_GRACE_S


def _is_deaf(venues: Sequence[Mapping[str, Any]]) -> bool:
    """Whether something is wanted and no venue can be heard."""
    wanted = [status for status in venues if status["streams"]]
    return bool(wanted) and not any(_opened(status) for status in wanted)


def _opened(status: Mapping[str, Any]) -> int:
    return sum(1 for connection in status["connections"] if connection["state"] == "open")


def _by_label(metrics: Metrics, metric: Any) -> dict[str, float]:
    return {labels[0]: value for labels, value in metrics.by_label(metric).items()}


def _by_last_label(metrics: Metrics, metric: Any) -> dict[str, float]:
    sums: dict[str, float] = {}
    for labels, value in metrics.by_label(metric).items():
        sums[labels[-1]] = sums.get(labels[-1], 0) + value
    return sums
