"""The running program's side of the writer's lease: wait as a standby, renew until the last write, stop when lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from src.jobs.status import RunState
from src.jobs.writer.lease import WriterLease
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.pipeline.supervise import supervise

log = structlog.get_logger(__name__)

EXIT_FENCED = 75
"""Another collector took over the writing. A service manager may start this one again: it then waits as a standby."""


class WriterRole:
    """Whether this program writes, and what happens when it may not any more.

    Attributes:
        gives_back: False when MongoDB did not take the last changes either: the lease is left to end by itself.
    """

    def __init__(
        self,
        lease: WriterLease,
        *,
        state: RunState,
        stopping: asyncio.Event,
        on_fault: Callable[[BaseException], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Nothing begins yet.

        Args:
            lease: to be held.
            state: gets the phase ``standby`` while another program writes, and the words for the health check.
            stopping: ends the wait; set when the lease is lost.
            on_fault: told when the task that renews died too often.
            clock: for the supervision of that task.
            metrics: for the same.
        """
        self._lease = lease
        self._state = state
        self._stopping = stopping
        self._on_fault = on_fault
        self._clock = clock
        self._metrics = metrics
        self._waiting = ""
        self.gives_back = True
        state.writer = self._why_not

    def may_write(self) -> bool:
        """The gate of the flush."""
        return self._lease.is_held

    @property
    def is_lost(self) -> bool:
        """Another program took over: what is not stored yet stays in the journal."""
        return self._lease.lost.is_set()

    @property
    def others_wrote(self) -> bool:
        """Another data directory wrote before us: what our journal holds may be outdated."""
        return self._lease.others_wrote

    async def become_writer(self) -> bool:
        """Wait until no other collector writes to this database; False when stopped meanwhile."""
        return await self._lease.acquire(self._stopping, self._note_waiting)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the lease, once there is one, until the end of the block (the last write); then give it back."""
        work = supervise("lease", lambda: self._lease.run(asyncio.Event()), metrics=self._metrics, clock=self._clock)
        task = asyncio.create_task(work, name="lease")
        task.add_done_callback(self._on_ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if self.gives_back:
                await self._lease.release()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._on_fault(error)
        elif self.is_lost:
            self._stopping.set()
            log.error(
                "another_collector_took_over",
                why="this one had not renewed its lease in time (frozen, or cut off from MongoDB)",
                action="stopping; what the other one stored wins",
                exit_code=EXIT_FENCED,
            )

    def _note_waiting(self, text: str) -> None:
        self._waiting = text
        self._state.phase = "standby" if text else "starting"

    def _why_not(self) -> str:
        return self._waiting or self._lease.trouble
