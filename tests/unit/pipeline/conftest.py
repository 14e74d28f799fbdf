"""A store that behaves as badly as a test asks, around the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from src.models.changes import Change
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.metrics import Metrics
from src.models.writes import Rejected, Write, WriteBatch, WriteResult
from src.pipeline.flush import Flusher
from src.pipeline.pending import Pending
from src.store.memory import MemoryStore


class ScriptedStore(MemoryStore):
    """Fails, waits or rejects on demand.

    Attributes:
        offered: every batch that was offered, also those that were not stored.
        lost_answers: so many batches are stored and then reported as failed, as when the connection breaks.
        gate: batches wait here while it is closed.
        refuses: writes to be rejected for their content.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offered: list[WriteBatch] = []
        self.lost_answers = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = asyncio.Event()
        self.refuses: Callable[[Write], bool] = lambda _write: False

    async def write(self, batch: WriteBatch) -> WriteResult:
        self.offered.append(batch)
        self.under_way.set()
        await self.gate.wait()
        refused = [write for group in batch.groups for write in group if self.refuses(write)]
        kept = [[write for write in group if write not in refused] for group in batch.groups]
        result = await super().write(WriteBatch(batch.seq, kept))
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreError("the answer was lost")
        rejected = [Rejected(write, "refused", "not wanted") for write in refused]
        return WriteResult(result.inserted, result.modified, result.repeated, [*result.rejected, *rejected])


class FlushRig:
    """A flusher over a scripted store."""

    def __init__(self, *, interval_s: float = 0.01, limit: int = 1_000, flush_size: int = 100) -> None:
        self.store = ScriptedStore()
        self.metrics = Metrics()
        self.clock = ManualClock()
        self.pending = Pending(limit, clock=self.clock, metrics=self.metrics)
        self.flusher = Flusher(
            store=self.store,
            pending=self.pending,
            metrics=self.metrics,
            clock=self.clock,
            interval_s=interval_s,
            flush_size=flush_size,
        )

    def cut_segments_at(self, size: int) -> None:
        """Let segments hold fewer changes than in earnest."""
        self.pending._segment_size = size

    def add(self, changes: Sequence[Change]) -> None:
        self.pending.add(changes)
        self.flusher.nudge()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, giving way to everybody else."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - any state, not only what an event tells
                await asyncio.sleep(0.001)


@pytest.fixture
async def rig() -> FlushRig:
    return FlushRig()
