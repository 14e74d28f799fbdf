"""Recorded frames through the whole pipeline into MongoDB, with the times they were recorded at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import structlog
from msgspec import Struct, structs

from src.jobs.recordings.recorded_frames import RecordedFrame
from src.models.changes import DeadLetter, kept
from src.models.clock import Clock
from src.models.errors import WireError
from src.models.messages import (
    Data,
    Decoded,
    Fill,
    Ignored,
    OrderHistory,
    OrdersSnapshot,
    PositionsSnapshot,
    Refusal,
    Several,
)
from src.models.metrics import DEAD_LETTERS, FRAMES_IGNORED, FRAMES_RECEIVED, FRAMES_REJECTED, Metrics
from src.models.writes import Collection
from src.pipeline.diff import Diff
from src.pipeline.documents import to_ms
from src.pipeline.flush import Flusher
from src.pipeline.pipeline import Pipeline
from src.pipeline.restore import restore_traders
from src.store.base import Query, Store
from src.venues.feed import Feed

log = structlog.get_logger(__name__)

SAMPLE_BYTES = 4096
DRAIN_EVERY = 200
"""Frames between drains and flushes; keeps memory flat however long the recording is."""


class ReplayResult(Struct):
    """What became of the frames."""

    frames: int = 0
    data: int = 0
    control: int = 0
    ignored: int = 0
    rejected: int = 0
    older_than_stored: int = 0
    reasons: Counter[str] = Counter()


class Replay:
    """One replay into one store. The store must be prepared, the pipeline fresh."""

    def __init__(
        self,
        *,
        store: Store,
        feed: Feed,
        diff: Diff,
        pipeline: Pipeline,
        flusher: Flusher,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._clock = clock
        self._feed = feed
        self._diff = diff
        self._pipeline = pipeline
        self._flusher = flusher
        self._metrics = metrics
        self._watermarks: dict[str, int] = {}
        self._now_ms = 0

    async def run(
        self, frames: Iterable[RecordedFrame], progress: Callable[[int], None] | None = None
    ) -> ReplayResult:
        """Feed every frame; returns when all of it is stored.

        A frame of a trader that is older than what is stored of this trader is left out: replaying the past over the
        present must not undo the present, and replaying a file twice changes nothing.
        """
        result = ReplayResult(reasons=Counter())
        for frame in frames:
            result.frames += 1
            await self._feed_frame(frame, result)
            if result.frames % DRAIN_EVERY == 0:
                await self._settle()
                if progress is not None:
                    progress(result.frames)
        await self._settle()
        if progress is not None:
            progress(result.frames)
        return result

    def dead_letters(self) -> int:
        """How many frames and documents were put aside so far."""
        return int(self._metrics.total(DEAD_LETTERS))

    async def _feed_frame(self, frame: RecordedFrame, result: ReplayResult) -> None:
        venue = frame.venue or self._feed.venue
        self._metrics.add(FRAMES_RECEIVED, venue)
        try:
            decoded = self._decode(frame)
        except WireError as error:
            result.rejected += 1
            result.reasons[error.reason] += 1
            self._metrics.add(FRAMES_REJECTED, venue, error.reason)
            self._pipeline.rejected(
                DeadLetter(
                    venue=venue,
                    stage="decode",
                    reason=error.reason,
                    detail=error.detail,
                    sample=frame.frame[:SAMPLE_BYTES],
                    size_bytes=len(frame.frame),
                    received_ms=frame.recv_ms or self._now_ms,
                    payload=kept(frame.frame),
                    kept_ms=self._clock.wall_ms(),
                )
            )
            return
        await self._take(decoded, venue, result)

    async def _take(self, decoded: Decoded, venue: str, result: ReplayResult) -> None:
        if isinstance(decoded, Several):
            for part in decoded.parts:
                await self._take(part, venue, result)
        elif isinstance(decoded, Ignored):
            result.ignored += 1
            self._metrics.add(FRAMES_IGNORED, venue, decoded.reason)
        elif not isinstance(decoded, Data):
            result.control += 1
            if isinstance(decoded, Refusal):
                log.info("recorded_refusal", text=decoded.text)
        elif await self._is_older(decoded):
            result.older_than_stored += 1
        else:
            result.data += 1
            self._pipeline.data(decoded)

    def _decode(self, frame: RecordedFrame) -> Decoded:
        """With the receipt time of the recording, else with the frame's own venue time, else with the last known."""
        if frame.recv_ms is not None:
            self._now_ms = frame.recv_ms
            return self._feed.decode(frame.frame, frame.recv_ms)
        decoded = self._feed.decode(frame.frame, self._now_ms)
        if not isinstance(decoded, Data) or decoded.venue_ms is None:
            return decoded
        self._now_ms = decoded.venue_ms
        messages = tuple(structs.replace(message, received_ms=self._now_ms) for message in decoded.messages)
        return structs.replace(decoded, messages=messages)

    async def _is_older(self, data: Data) -> bool:
        older = False
        for message in data.messages:
            if isinstance(message, OrdersSnapshot | OrderHistory | PositionsSnapshot | Fill):
                if message.trader not in self._watermarks:
                    self._watermarks[message.trader] = await self._watermark(message.trader)
                    await restore_traders(self._store, self._diff, [message.trader], message.received_ms)
                is_state = not isinstance(message, Fill)
                older = older or (is_state and message.received_ms < self._watermarks[message.trader])
        return older

    async def _watermark(self, trader: str) -> int:
        """When the newest stored event of this trader was received, in ms; 0 when there is none."""
        newest = 0
        for collection in (Collection.TRADER_ORDER_EVENTS, Collection.TRADER_POSITION_EVENTS):
            query = Query(equals={"ethAddress": trader}, sort=(("receivedAt", True),), limit=1)
            async for event in self._store.find(collection, query):
                newest = max(newest, to_ms(event["receivedAt"]) or 0)
        return newest

    async def _settle(self) -> None:
        self._pipeline.drain()
        await self._flusher.drain()
        await asyncio.sleep(0)


def summary(result: ReplayResult, metrics: Metrics) -> str:
    """One line for a person."""
    parts = [
        f"{result.frames} frames: {result.data} data",
        f"{result.control} control",
        f"{result.ignored} not kept",
        f"{result.rejected} rejected",
    ]
    if result.older_than_stored:
        parts.append(f"{result.older_than_stored} older than what is stored")
    if result.reasons:
        parts.append("reasons: " + ", ".join(f"{reason} {count}" for reason, count in result.reasons.most_common()))
    letters = int(metrics.total(DEAD_LETTERS))
    if letters:
        parts.append(f"{letters} dead letters")
    return ", ".join(parts)
