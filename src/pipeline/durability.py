"""How soon the journal reaches the disk, and that it says how far MongoDB is."""

from __future__ import annotations

import asyncio

import structlog

from src.models.metrics import JOURNAL_BYTES, JOURNAL_ERRORS, Metrics
from src.pipeline.journal import Journal

log = structlog.get_logger(__name__)

IDLE_TURN_S = 0.5


class Durability:
    """Forces the journal onto the disk every ``interval_s`` seconds.

    0 = the journal does so itself with each append; None = that is left to the operating system.

    Whatever the interval, killing the program loses nothing that was journaled; it bounds what a power cut can cost.
    """

    def __init__(self, journal: Journal, *, metrics: Metrics, interval_s: float | None) -> None:
        self._journal = journal
        self._metrics = metrics
        self._interval_s = interval_s
        self._failing = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until ``stopping``."""
        turn_s = self._interval_s or IDLE_TURN_S  # with 0 each append is forced by itself
        while not stopping.is_set():
            await self.turn()
            try:
                await asyncio.wait_for(stopping.wait(), turn_s)
            except TimeoutError:
                continue

    async def turn(self) -> None:
        """One look: sync in a thread, note the acknowledgement."""
        self._metrics.put(JOURNAL_BYTES, value=self._journal.size_bytes)
        try:
            await asyncio.to_thread(self._journal.sync, force=self._interval_s is not None)
            self._journal.save_ack()
        except OSError as error:
            self._metrics.add(JOURNAL_ERRORS, "sync")
            if not self._failing:
                log.error("journal_not_synced", error=str(error), remedy="free space below DATA_DIR")  # noqa: TRY400
            self._failing = True
        else:
            self._failing = False
