"""Buffer, diff, hub and flush in one line: what connections deliver ends up in MongoDB and with the listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from src.models.changes import Change, DeadLetter
from src.models.clock import Clock
from src.models.messages import Data, Gap, GapReason, OrderHistory, Refusal
from src.models.metrics import (
    BUFFER_LENGTH,
    DEAD_LETTERS,
    EVENT_LOOP_LAG_MS,
    FLUSHES,
    MESSAGES_COALESCED,
    MESSAGES_DROPPED,
    MESSAGES_HELD,
    MESSAGES_OUTDATED,
    ORDER_CHANGES,
    POSITION_CHANGES,
    TASK_FAILURES,
    WRITES_PENDING,
    Metrics,
)
from src.models.streams import StreamKey, Subscription
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff
from src.pipeline.flush import Flusher
from src.pipeline.hub import Hub
from src.pipeline.pending import Pending
from src.pipeline.samples import Samples

log = structlog.get_logger(__name__)

FAULT_LOG_EVERY_S = 60.0

FUTURE_MS = 86_400_000
"""Frames dated later than this after their receipt are refused."""

NOT_ASKED_FOR = frozenset({GapReason.UNSUBSCRIBED, GapReason.NOT_COLLECTED})
"""Holes that are nobody's trouble: nothing was expected to arrive."""

RefusalListener = Callable[[Refusal, tuple[Subscription, ...]], None]


class Pipeline:
    """The `src.venues.feed.Sink` of every connection. `run_drain` and `Flusher.run` are its two tasks."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        diff: Diff,
        hub: Hub,
        pending: Pending,
        flusher: Flusher,
        metrics: Metrics,
        clock: Clock,
        drain_interval_s: float,
    ) -> None:
        self._buffer = buffer
        self._diff = diff
        self._hub = hub
        self._pending = pending
        self._flusher = flusher
        self._metrics = metrics
        self._clock = clock
        self._drain_interval_s = drain_interval_s
        self._samples = Samples(clock)
        self._fault_logged_at: float | None = None
        self.on_refused: RefusalListener | None = None
        self.is_hurried: Callable[[], bool] = lambda: False
        """Whether somebody waits for data right now; then it is diffed as it arrives, not at the next interval."""
        self._drain_soon = False

    # -- Sink ------------------------------------------------------------------------------------------------------

    def data(self, data: Data) -> None:
        """Take a frame; a full buffer drains at once and asks for a flush."""
        if _is_from_the_future(data):
            self.rejected(_future_letter(data))
            return
        lost = self._buffer.put(data)
        if lost is not None:
            since_ms = lost.arrived_ms if lost.arrived_ms is not None else self._clock.wall_ms()
            self._take(self._diff.apply_gap(Gap((lost.stream,), GapReason.OVERFLOW, since_ms)))
        if self._buffer.is_full:
            self.drain()
            self._flusher.request()
        elif not self._drain_soon and self.is_hurried():
            self._drain_soon = True
            asyncio.get_running_loop().call_soon(self._drain_hurried)

    def gap(self, gap: Gap) -> None:
        """Note that streams are no longer seen, after what they had delivered before."""
        self.drain()
        self._take(self._diff.apply_gap(gap))

    def explain(self, history: OrderHistory) -> None:
        """Take what a history that was looked up says of known orders, after what had arrived."""
        self._apply_buffered()
        self._take(self._diff.explain(history))

    def untrack(self, trader: str, venue: str) -> None:
        """A trader is let go: after what had arrived, everything open goes out of sight and is forgotten."""
        self._apply_buffered()
        self._take(self._diff.untrack(trader, venue, self._clock.wall_ms()))

    def replaced(self, streams: Iterable[StreamKey]) -> None:
        """Note that other streams are asked for instead of these: their holes end."""
        self._take(self._diff.end_holes(streams, self._clock.wall_ms()))

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """A venue refused something: a hole for every stream that failed, and a word to the venue's own logic."""
        if failed:
            streams = tuple(subscription.key for subscription in failed)
            self.gap(Gap(streams, GapReason.REFUSED, self._clock.wall_ms(), refusal.text))
        if self.on_refused is not None:
            self.on_refused(refusal, failed)

    def rejected(self, letter: DeadLetter) -> None:
        """Keep a sample of a frame that could not be used."""
        self._metrics.add(DEAD_LETTERS, letter.stage, letter.reason)
        if not self._pending.is_full and self._samples.take(letter.reason):
            self._take([letter])

    # -- flow ------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Diff everything buffered, unless too much already waits for MongoDB."""
        if self._pending.is_full or not len(self._buffer):
            return
        self._apply_buffered()

    async def run_drain(self, stopping: asyncio.Event) -> None:
        """Drain every ``DIFF_INTERVAL`` seconds until ``stopping``, and measure how late the loop is."""
        while not stopping.is_set():
            due = self._clock.monotonic() + self._drain_interval_s
            await asyncio.sleep(self._drain_interval_s)
            lag_ms = max(0.0, (self._clock.monotonic() - due) * 1000)
            self._metrics.put(EVENT_LOOP_LAG_MS, value=lag_ms)
            self.drain()
            self._metrics.put(BUFFER_LENGTH, value=len(self._buffer))
            self._metrics.put(WRITES_PENDING, value=len(self._pending))

    async def finish(self, timeout_s: float) -> int:
        """Diff and store what is left, within ``timeout_s``; returns how many changes could not be stored."""
        self._apply_buffered()
        try:
            await asyncio.wait_for(self._flusher.drain(), timeout_s)
        except TimeoutError:
            log.error("stopped_with_unstored_changes", pending=len(self._pending))  # noqa: TRY400 - no trace needed
        return len(self._pending)

    def stats(self) -> Mapping[str, Any]:
        """Counters of buffer, diff and flush, JSON-ready."""
        metrics = self._metrics
        return {
            "buffer": {
                "length": len(self._buffer),
                "full": self._buffer.is_full,
                "coalesced": metrics.total(MESSAGES_COALESCED),
                "dropped": metrics.total(MESSAGES_DROPPED),
            },
            "diff": {
                "orders": _by_first_label(metrics, ORDER_CHANGES),
                "positions": _by_first_label(metrics, POSITION_CHANGES),
                "outdated": metrics.total(MESSAGES_OUTDATED),
                "held": _by_first_label(metrics, MESSAGES_HELD),
                "holes_open": sum(hole.reason not in NOT_ASKED_FOR for hole in self._diff.holes.values()),
            },
            "pending": len(self._pending),
            "pending_full": self._pending.is_full,
            "flushes": metrics.total(FLUSHES),
            "last_flush_ms": self._flusher.last_flush_ms,
            "event_loop_lag_ms": round(metrics.value(EVENT_LOOP_LAG_MS), 1),
        }

    def journal_stats(self) -> dict[str, Any]:
        """How the journal is doing; JSON-ready."""
        pending = self._pending
        return {
            "on_disk_only": pending.on_disk,
            "suspended_streams": pending.suspended,
            "error": pending.journal_error,
        }

    def _drain_hurried(self) -> None:
        """Diff what the event loop brought in at once, in one go."""
        self._drain_soon = False
        self.drain()

    def _apply_buffered(self) -> None:
        for data in self._buffer.drain():
            try:
                changes = self._diff.apply(data)
            except Exception as error:  # noqa: BLE001 - a frame's fault costs neither the connection nor later frames
                self._metrics.add(TASK_FAILURES, "diff")
                self._log_fault(data, error)
            else:
                self._take(changes, data.stream)

    def _log_fault(self, data: Data, error: Exception) -> None:
        """Tell one a minute; the counter tells the rest."""
        now = self._clock.monotonic()
        if self._fault_logged_at is None or now - self._fault_logged_at >= FAULT_LOG_EVERY_S:
            self._fault_logged_at = now
            log.error("frame_not_applied", stream=str(data.stream), exc_info=error)

    def _take(self, changes: list[Change], stream: StreamKey | None = None) -> None:
        if not changes:
            return
        self._hub.publish(changes)
        self._pending.add(changes, stream)
        self._flusher.nudge()


def _is_from_the_future(data: Data) -> bool:
    """A state dated ahead by a day would make every later one look outdated."""
    arrived_ms = data.arrived_ms
    return data.venue_ms is not None and arrived_ms is not None and data.venue_ms > arrived_ms + FUTURE_MS


def _future_letter(data: Data) -> DeadLetter:
    return DeadLetter(
        venue=data.stream.venue,
        stage="decode",
        reason="time_in_future",
        detail=f"{data.stream}: {data.venue_ms}",
        sample=b"",
        size_bytes=data.size_bytes,
        received_ms=data.arrived_ms or 0,
    )


def _by_first_label(metrics: Metrics, metric: Any) -> dict[str, float]:
    return {labels[0]: value for labels, value in metrics.by_label(metric).items()}
