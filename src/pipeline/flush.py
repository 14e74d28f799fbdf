"""The flush: a transaction over one segment at a time.

A segment ends as stored (acknowledged by a majority, journaled) or it is kept and offered again; single documents
that MongoDB refuses for their content go to ``dead_letters``. Offering a segment twice changes nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec import Struct

from src.models.changes import Change, DeadLetter, kept
from src.models.clock import Clock
from src.models.errors import StoreError, StoreFatalError
from src.models.metrics import (
    DEAD_LETTERS,
    FLUSH_RETRIES,
    FLUSHES,
    WRITES_PENDING,
    Metrics,
)
from src.models.writes import Collection, Insert, Rejected, WriteBatch, WriteResult
from src.pipeline.batches import BatchBuilder
from src.pipeline.kept_writes import pack_write
from src.pipeline.pending import SEGMENT_SIZE, Pending
from src.pipeline.samples import Samples
from src.store.base import Store
from src.store.counting import count_written

log = structlog.get_logger(__name__)

BUILD_CHUNK = 250
"""Changes translated before other tasks get a turn."""

RETRY_FIRST_S = 0.5
RETRY_CAP_S = 10.0
FATAL_RETRY_S = 30.0
REPORT_EVERY_S = 30.0
SAMPLE_BYTES = 4096
UNTRANSLATABLE = "untranslatable"


class StoreOutage(Struct, frozen=True):
    """MongoDB has not taken a batch since ``since_s`` (monotonic); ``error`` is its last word."""

    since_s: float
    error: str
    attempts: int


Sieve = Callable[[Sequence[Change]], Awaitable[list[Change]]]
"""Leaves out what must not be stored any more; may raise `StoreError`."""


class Flusher:
    """Stores what is pending, on a timer, by size, and on demand.

    Attributes:
        sieve: looks at every segment before it is stored; None = everything is.
        outage: set while MongoDB does not take anything.
        last_flush_ms: when the last segment was stored.
    """

    def __init__(
        self,
        *,
        store: Store,
        pending: Pending,
        metrics: Metrics,
        clock: Clock,
        interval_s: float,
        flush_size: int = SEGMENT_SIZE,
        rng: random.Random | None = None,
        gate: Callable[[], bool] | None = None,
    ) -> None:
        """Nothing is stored yet.

        Args:
            store: where to.
            pending: what is taken from, segment by segment.
            metrics: where to count.
            clock: for durations and for the time of the last flush.
            interval_s: seconds between flushes.
            flush_size: so many pending changes ask for a flush at once.
            rng: jitter of retries.
            gate: asked before every batch; while it says False batches are kept (another program may be writing).
        """
        self._gate = gate
        self._store = store
        self._pending = pending
        self._metrics = metrics
        self._clock = clock
        self._interval_s = interval_s
        self._flush_size = flush_size
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._wanted = asyncio.Event()
        self._storing = asyncio.Lock()
        self._sequence = 0
        self._reported: Counter[str] = Counter()
        self._reported_at = clock.monotonic() - REPORT_EVERY_S  # the first flush is told at once
        self._fatal = False
        self._samples = Samples(clock)
        self.sieve: Sieve | None = None
        self.outage: StoreOutage | None = None
        self.last_flush_ms: int | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Flush until ``stopping``; the last flush is the caller's, with its own deadline (see `drain`)."""
        while not stopping.is_set():
            await self._wait(self._interval_s, stopping)
            # What comes in meanwhile waits for its own turn: the interval is kept however long a write takes.
            backlog = self._pending.segments
            while backlog and not stopping.is_set():
                if await self.flush_once():
                    backlog -= 1
                else:
                    await self._wait_to_retry(stopping)

    def request(self) -> None:
        """Flush as soon as possible."""
        self._wanted.set()

    def nudge(self) -> None:
        """Flush soon if enough is pending."""
        if len(self._pending) >= self._flush_size:
            self.request()

    async def drain(self) -> None:
        """Store everything that is pending, trying again until it is done; bound it with a timeout."""
        while len(self._pending):
            if not await self.flush_once():
                await asyncio.sleep(self._retry_delay_s())

    async def flush_once(self) -> bool:
        """Store the oldest segment; False when it was not offered or not taken, and waits for its next turn.

        Segments are stored one after the other: a second caller waits for the first.
        """
        async with self._storing:
            return await self._flush_oldest()

    async def _flush_oldest(self) -> bool:
        if not self._may_write():
            return False
        segment = self._pending.take()
        if segment is None:
            return not len(self._pending)  # what waits on a disk that cannot be read now has its turn later
        stored = False
        try:
            changes = segment.changes if self.sieve is None else await self.sieve(segment.changes)
            batch = await self._build(changes)
            if not self._may_write():  # asked last: the process may have been frozen meanwhile
                return False
            result = await self._store.write(batch)
            stored = True
        except StoreError as error:
            self._note_outage(error)
            return False
        finally:
            if not stored:
                self._pending.put_back(segment)
        self._pending.done(segment)
        self._note_stored(changes, result)
        return True

    def _may_write(self) -> bool:
        return self._gate is None or self._gate()

    async def _build(self, segment: Sequence[Change]) -> WriteBatch:
        self._sequence += 1
        builder = BatchBuilder(self._sequence)
        for start in range(0, len(segment), BUILD_CHUNK):
            for change in segment[start : start + BUILD_CHUNK]:
                self._translate(builder, change)
            await asyncio.sleep(0)
        return builder.build()

    def _translate(self, builder: BatchBuilder, change: Change) -> None:
        try:
            builder.add(change)
        except Exception:  # one change that cannot be translated must not hold up all that wait behind it for ever
            self._metrics.add(DEAD_LETTERS, "store", UNTRANSLATABLE)
            log.exception("change_not_translated", change=type(change).__name__)
            builder.add(self._letter(UNTRANSLATABLE, type(change).__name__, repr(change)))

    def _note_stored(self, segment: Sequence[Change], result: WriteResult) -> None:
        if self.outage is not None:
            away_s = self._clock.monotonic() - self.outage.since_s
            log.info("database_back", away_s=round(away_s, 1), pending=len(self._pending))
            self.outage = None
        self.last_flush_ms = self._clock.wall_ms()
        self._metrics.add(FLUSHES)
        self._metrics.put(WRITES_PENDING, value=len(self._pending))
        count_written(self._metrics, result)
        self._put_aside(result.rejected)
        self._report(segment)

    def _put_aside(self, rejected: Sequence[Rejected]) -> None:
        letters: list[Change] = []
        for item in rejected:
            self._metrics.add(DEAD_LETTERS, "store", item.reason)
            if item.write.collection is Collection.DEAD_LETTERS or not self._samples.take(item.reason):
                continue  # only counted: it cannot be stored, or enough of its kind are kept already
            sample = repr(item.write.document if isinstance(item.write, Insert) else item.write.values)
            detail = f"{item.write.collection.value}: {item.detail}" if item.detail else item.write.collection.value
            letters.append(self._letter(item.reason, detail, sample, kept(pack_write(item.write))))
        if letters:
            log.error("documents_rejected", count=len(letters), reason=rejected[0].reason)
            self._pending.add(letters)

    def _letter(self, reason: str, detail: str, sample: str, payload: bytes = b"") -> DeadLetter:
        body = sample.encode("utf-8", "backslashreplace")
        printable = detail.encode("utf-8", "backslashreplace").decode()
        now_ms = self._clock.wall_ms()
        return DeadLetter("", "store", reason, printable, body[:SAMPLE_BYTES], len(body), now_ms, payload)

    def _report(self, segment: Sequence[Change]) -> None:
        """One line with sums, at most every `REPORT_EVERY_S`."""
        self._reported.update(type(change).__name__ for change in segment)
        now = self._clock.monotonic()
        if now - self._reported_at < REPORT_EVERY_S:
            return
        self._reported_at = now
        sums, self._reported = self._reported, Counter()
        log.info(
            # The sentence users of the predecessor look for; the sums beside it are fields.
            f"Flushed {sums['OrderChange']} order updates to database",  # noqa: G004
            positions=sums["PositionChange"],
            fills=sums["FillSeen"],
            trades=sums["TradeSeen"],
            books=sums["BookChange"],
            pending=len(self._pending),
        )

    def _note_outage(self, error: StoreError) -> None:
        self._metrics.add(FLUSH_RETRIES)
        if self.outage is None:
            self.outage = StoreOutage(self._clock.monotonic(), str(error), 1)
            level = log.error if isinstance(error, StoreFatalError) else log.warning
            level("database_away", error=str(error), pending=len(self._pending), fatal=not error.retryable)
        else:
            self.outage = StoreOutage(self.outage.since_s, str(error), self.outage.attempts + 1)
        self._fatal = isinstance(error, StoreFatalError)

    def _retry_delay_s(self) -> float:
        if self._fatal:
            return FATAL_RETRY_S
        attempts = self.outage.attempts if self.outage is not None else 1
        return self._rng.uniform(0.1, min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(attempts, 10)))

    async def _wait_to_retry(self, stopping: asyncio.Event) -> None:
        try:
            await asyncio.wait_for(stopping.wait(), self._retry_delay_s())
        except TimeoutError:
            return

    async def _wait(self, seconds: float, stopping: asyncio.Event) -> None:
        """Until the interval is over, a nudge, or the stop."""
        waits = [asyncio.ensure_future(self._wanted.wait()), asyncio.ensure_future(stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._wanted.clear()
