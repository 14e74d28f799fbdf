"""What looking things up in a venue's history has in common, whatever is looked up.

What waits is worked on until the stop. A venue that does not answer is left alone for growing pauses. What a full
queue or a stop leaves behind is found again in the database, once the queue is empty.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from src.jobs.stoppable import is_set_within, unless_stopped
from src.models.clock import Clock
from src.models.errors import StoreError, VenueError
from src.models.metrics import REPAIRS_DROPPED, Metric, Metrics

POLL_S = 1.0
BARRIER_FIRST_S, BARRIER_CAP_S = 1.0, 30.0
FAILED_FIRST_S, FAILED_CAP_S = 5.0, 300.0
MOST_ATTEMPTS = 300
LOOK_BACK_TRIES = 3


class LookUp(ABC):
    """See the module. A subclass says what is looked up, and sets ``_wake`` when there is more of it.

    Args:
        clock: monotonic for waiting.
        metrics: drops, and how much waits.
        what: name of what is looked up, in ``REPAIRS_DROPPED``.
        gauge: shows how much waits.
        poll_s: seconds between looks at what waits.
    """

    def __init__(self, clock: Clock, metrics: Metrics, *, what: str, gauge: Metric, poll_s: float) -> None:
        self._clock = clock
        self._metrics = metrics
        self._what = what
        self._gauge = gauge
        self._poll_s = poll_s
        self._look_back = True
        self._look_back_failures = 0
        self._venue_failures = 0
        self._ask_venue_at_s = 0.0
        self._wake = asyncio.Event()

    @abstractmethod
    def waiting(self) -> int:
        """How much waits to be looked up."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Look up what waits until ``stopping``; a request under way is given up then."""
        while await unless_stopped(self.work(), stopping):
            await unless_stopped(self._sleep(), stopping)

    async def work(self) -> None:
        """Look up everything that is due, as far as MongoDB and the venue answer."""
        try:
            await self._look_back_if_wanted()
            while self._clock.monotonic() >= self._ask_venue_at_s and await self._work_once():
                self._venue_failures = 0
        except StoreError as error:  # everything waits; the flush tells people that MongoDB is away
            self._tell_store_away(error)
        except VenueError as error:
            self._note_venue_failure(error)
        self._show_waiting()

    # -- what a subclass does --------------------------------------------------------------------------------------

    @abstractmethod
    async def _work_once(self) -> bool:
        """One round over what is due; False when nothing was."""

    @abstractmethod
    async def _find_undone(self, now_ms: int) -> None:
        """Note what the database shows to have been left undone."""

    @abstractmethod
    def _tell_store_away(self, error: StoreError) -> None:
        """MongoDB does not answer, in the log."""

    @abstractmethod
    def _tell_delay(self, error: VenueError) -> None:
        """The venue has stopped answering, in the log."""

    def _show_waiting(self) -> None:
        """After every change of what waits: a round over much of it takes long."""
        self._metrics.put(self._gauge, value=self.waiting())

    # -- notes -----------------------------------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        """Count what is not looked up now; it is looked for in the database when the queue is empty."""
        self._metrics.add(REPAIRS_DROPPED, self._what, reason)
        self._look_back, self._look_back_failures = True, 0

    async def _look_back_if_wanted(self) -> None:
        """Find in the database what an earlier run, or a full queue, has left undone."""
        if not self._look_back or self.waiting() > 0:
            return
        self._look_back = False
        try:
            await self._find_undone(self._clock.wall_ms())
        except StoreError:
            self._look_back_failures += 1
            self._look_back = self._look_back_failures < LOOK_BACK_TRIES
            raise

    def _note_venue_failure(self, error: VenueError) -> None:
        if not self._venue_failures:
            self._tell_delay(error)
        pause_s = min(FAILED_CAP_S, FAILED_FIRST_S * 2 ** min(self._venue_failures, 10))
        self._venue_failures += 1
        self._ask_venue_at_s = self._clock.monotonic() + pause_s

    async def _sleep(self) -> None:
        """Until something new is heard, or the poll interval is over."""
        if await is_set_within(self._wake, self._poll_s):
            self._wake.clear()
