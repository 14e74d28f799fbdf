"""Backfill in the running program: every follower's history in turn, with the request weight that nobody else needs.

Whose history is read next: what somebody asks for, then who was never read, then who is overdue most. The budget lets
these requests through last, so nothing here has to be sparing; it only has to be in time before the venue forgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from msgspec import Struct

from src.jobs.backfill.backfill import Backfill, Reading
from src.jobs.backfill.plan import Cursor, Kind, wait_s
from src.jobs.backfill.store import Request
from src.jobs.stoppable import unless_stopped
from src.models.clock import Clock
from src.models.errors import StoreError, VenueError, VenueRequestError
from src.models.metrics import BACKFILL_BEHIND, BACKFILL_READS, Metrics

log = structlog.get_logger(__name__)

POLL_S = 2.0
FAILED_FIRST_S, FAILED_CAP_S = 5.0, 300.0
REFUSED_AGAIN_S = 3600.0
"""A history the venue calls wrong to ask for is asked for again after this long."""


class _Place(Struct):
    """When the history of one trader is due: monotonic seconds; minus infinity = never read."""

    due_s: float = float("-inf")
    wait_s: float = 1.0


class BackfillJob:
    """See the module.

    Args:
        backfill: reads one history.
        followed: whose.
        kinds: what is collected.
        clock: monotonic for what is due, wall for what was read before the start.
        metrics: readings by outcome, and how many are due.
        longest_s: seconds from one reading of a trader to the next at the most.
        may_write: False while another program may be writing.
    """

    def __init__(
        self,
        backfill: Backfill,
        *,
        followed: Callable[[], Sequence[str]],
        kinds: Sequence[Kind],
        clock: Clock,
        metrics: Metrics,
        longest_s: float,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._backfill = backfill
        self._followed = followed
        self._kinds = kinds
        self._clock = clock
        self._metrics = metrics
        self._longest_s = longest_s
        self._may_write = may_write
        self._places: dict[tuple[Kind, str], _Place] = {}
        self._failures = 0
        self._go_on_s = float("-inf")

    async def run(self, stopping: asyncio.Event) -> None:
        """Read until ``stopping``; a request under way is given up then, its cursor has not moved."""
        while await unless_stopped(self.work(), stopping):
            await unless_stopped(asyncio.sleep(POLL_S), stopping)

    async def work(self) -> None:
        """Read everything that is due, as far as MongoDB and the venue answer."""
        try:
            while self._may_write() and self._clock.monotonic() >= self._go_on_s and await self._work_once():
                pass
        except StoreError as error:
            log.debug("backfill_waits_for_mongodb", error=str(error))
        except VenueError as error:
            self._note_failure(error)
        self._show()

    def status(self) -> dict[str, Any]:
        """How many histories there are, and how many of them are due; JSON-ready."""
        now_s = self._clock.monotonic()
        return {
            kind.value: {
                "traders": sum(one is kind for one, _ in self._places),
                "never_read": self._count(kind, float("-inf")),
                "due": self._count(kind, now_s),
            }
            for kind in self._kinds
        }

    # -- one step --------------------------------------------------------------------------------------------------

    async def _work_once(self) -> bool:
        """Read one history; False when none is due."""
        for request in await self._backfill.store.requests(self._backfill.venue):
            await self._answer(request)
            return True
        await self._take_up()
        self._show()
        due = self._most_overdue()
        if due is None:
            return False
        await self._read(*due)
        return True

    async def _answer(self, request: Request) -> None:
        try:
            reading = await self._backfill.read(request.kind, request.subject, request.range)
        except VenueRequestError as error:
            self._metrics.add(BACKFILL_READS, request.kind.value, "refused")
            await self._backfill.store.answer(request, self._backfill.venue, {"error": str(error)[:300]})
            return
        self._note(request.kind, request.subject, reading)
        answer = {"found": reading.found, "explained": reading.explained, "lost": len(reading.lost)}
        await self._backfill.store.answer(request, self._backfill.venue, answer)

    async def _read(self, kind: Kind, trader: str) -> None:
        try:
            reading = await self._backfill.read(kind, trader)
        except VenueRequestError as error:
            self._metrics.add(BACKFILL_READS, kind.value, "refused")
            self._places[kind, trader] = _Place(self._clock.monotonic() + REFUSED_AGAIN_S, REFUSED_AGAIN_S)
            log.warning("history_refused", kind=kind.value, trader=trader, error=str(error))
            return
        self._note(kind, trader, reading)

    def _note(self, kind: Kind, trader: str, reading: Reading) -> None:
        self._failures = 0
        self._metrics.add(BACKFILL_READS, kind.value, "ok")
        if (kind, trader) in self._places:
            self._places[kind, trader] = self._place(reading.cursor)
        if reading.found or reading.lost:
            notes = [one.note for one in reading.lost]
            log.debug("history_read", kind=kind.value, trader=trader, found=reading.found, lost=notes)

    # -- whose turn it is ------------------------------------------------------------------------------------------

    async def _take_up(self) -> None:
        """Bring the places up to who is followed now; how far they were read before is in the database."""
        followed = self._followed()
        wanted = {(kind, trader) for kind in self._kinds for trader in followed}
        for gone in self._places.keys() - wanted:
            del self._places[gone]
        for kind in self._kinds:
            fresh = [trader for trader in followed if (kind, trader) not in self._places]
            for cursor in await self._backfill.store.cursors(kind, self._backfill.venue, fresh):
                self._places[kind, cursor.subject] = self._place(cursor)

    def _place(self, cursor: Cursor) -> _Place:
        if cursor.read_ms is None:
            return _Place()
        pause_s = wait_s(cursor, self._backfill.reach(cursor.kind), self._longest_s)
        age_s = max(0.0, (self._clock.wall_ms() - cursor.read_ms) / 1000)  # a clock may have been set back
        return _Place(self._clock.monotonic() + pause_s - age_s, pause_s)

    def _most_overdue(self) -> tuple[Kind, str] | None:
        now_s = self._clock.monotonic()
        due = [(key, place) for key, place in self._places.items() if place.due_s <= now_s]
        if not due:
            return None
        return max(due, key=lambda item: ((now_s - item[1].due_s) / item[1].wait_s, item[0][1], item[0][0]))[0]

    # -- telling ---------------------------------------------------------------------------------------------------

    def _note_failure(self, error: VenueError) -> None:
        self._metrics.add(BACKFILL_READS, "any", "failed")
        if not self._failures:
            log.warning("backfill_delayed", error=str(error))
        pause_s = min(FAILED_CAP_S, FAILED_FIRST_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._go_on_s = self._clock.monotonic() + pause_s

    def _show(self) -> None:
        now_s = self._clock.monotonic()
        for kind in self._kinds:
            self._metrics.put(BACKFILL_BEHIND, kind.value, value=self._count(kind, now_s))

    def _count(self, kind: Kind, until_s: float) -> int:
        return sum(one is kind and place.due_s <= until_s for (one, _), place in self._places.items())
