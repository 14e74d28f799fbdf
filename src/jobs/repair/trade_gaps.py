"""Holes in trades of a venue that keeps its whole history: what they hid is read page by page and stored.

`TradeGaps.heard` listens to the hub and only takes notes; `TradeGaps.run` reads. A hole is looked into when its end
is stored, so nothing overtakes what explains it. Everything may be done twice; what a stop leaves behind is found
again in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from src.jobs.backfill.past import TradesPast
from src.jobs.repair.due_queue import DueQueue
from src.jobs.repair.plan import ClosedHole, Verdict, patch_of_hole
from src.jobs.repair.store import RepairStore, is_nobodys_trouble
from src.jobs.stoppable import unless_stopped
from src.models.changes import Change, HoleClosed, TradeSeen
from src.models.clock import Clock
from src.models.errors import StoreError, VenueError, VenueRateLimitedError, VenueRequestError
from src.models.messages import Trade
from src.models.metrics import REPAIRS, REPAIRS_DROPPED, Metrics
from src.models.streams import StreamKey
from src.models.writes import Collection, Insert, Patch
from src.pipeline.documents import write_of_trade
from src.store.base import Store

log = structlog.get_logger(__name__)

POLL_S = 1.0
SETTLE_S = 2.0
"""Between the end of a hole and the look at the history, which may lag behind the stream."""

SKEW_MS = 5_000
"""Added on both sides of a hole: its bounds are times of ours, those of trades are the exchange's."""

HOLES_LIMIT = 10_000
AT_ONCE = 50
BARRIER_FIRST_S, BARRIER_CAP_S = 1.0, 30.0
FAILED_FIRST_S, FAILED_CAP_S = 5.0, 300.0
MOST_ATTEMPTS = 300
WHAT = "trades"
CHANNEL = "trades"


class TradeGaps:
    """See the module.

    Args:
        store: read and written directly, besides the pipeline.
        past: the venue's history; it has to be complete.
        clock: monotonic for waiting.
        metrics: outcomes and drops.
        publish: hears of trades that were missing.
        delay_ms: how late the venue's stream tells what happened; the history knows the true times.
        settle_s, poll_s: see the constants.
    """

    def __init__(
        self,
        store: Store,
        past: TradesPast,
        clock: Clock,
        metrics: Metrics,
        *,
        publish: Callable[[Sequence[Change]], None] = lambda _: None,
        delay_ms: int = 0,
        settle_s: float = SETTLE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = RepairStore(store, metrics)
        self._past = past
        self._clock = clock
        self._metrics = metrics
        self._publish = publish
        self._delay_ms = delay_ms
        self._settle_s = settle_s
        self._poll_s = poll_s
        self._holes: DueQueue[ClosedHole] = DueQueue(HOLES_LIMIT)
        self._look_back = True
        self._ask_at_s = float("-inf")
        self._failures = 0

    def heard(self, changes: Sequence[Change]) -> None:
        """Take note of holes that ended; a listener of the hub."""
        for change in changes:
            if (
                isinstance(change, HoleClosed)
                and change.venue == self._past.venue
                and not is_nobodys_trouble(change.reason)
            ):
                self._note(ClosedHole(StreamKey.parse(change.stream), change.from_ms, change.to_ms))

    def waiting(self) -> int:
        """How many holes wait to be looked into."""
        return len(self._holes)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look into what waits until ``stopping``; a request under way is given up then."""
        while await unless_stopped(self.work(), stopping):
            await unless_stopped(asyncio.sleep(self._poll_s), stopping)

    async def work(self) -> None:
        """Look into everything that is due, as far as MongoDB and the venue answer."""
        try:
            await self._look_back_once()
            while self._clock.monotonic() >= self._ask_at_s and await self._work_once():
                pass
        except StoreError as error:  # everything waits; the flush tells people that MongoDB is away
            log.debug("gaps_wait_for_mongodb", error=str(error))

    # -- one round -------------------------------------------------------------------------------------------------

    async def _work_once(self) -> bool:
        due = self._holes.ready(self._clock.monotonic(), AT_ONCE)
        if not due:
            return False
        stored = await self._store.stored_holes(due)
        for key, hole in due.items():
            if key not in stored:
                if self._put_off(key, BARRIER_FIRST_S, BARRIER_CAP_S):
                    self._metrics.add(REPAIRS_DROPPED, "holes", "never_stored")
                    self._holes.done(key)
                continue
            try:
                await self._fill(hole)
            except VenueError as error:
                await self._put_off_or_leave(hole, error)
                return False
            self._failures = 0
        return bool(stored)

    async def _fill(self, hole: ClosedHole) -> None:
        """Read the whole of a hole; it counts as repaired when the last page was stored."""
        from_ms = max(0, hole.from_ms - self._delay_ms - SKEW_MS)
        to_ms = hole.to_ms - self._delay_ms + SKEW_MS
        token: str | None = None
        found = 0
        while True:
            page = await self._past.page(hole.stream.subject, from_ms, to_ms, token)
            found += await self._keep(page.trades, hole.to_ms - self._delay_ms)
            token = page.next
            if token is None:
                break
        note = f"the venue's history was read to the end of this time; {found} trades were missing"
        await self._leave(hole, Verdict(WHAT, complete=True, note=note, from_ms=from_ms, to_ms=to_ms))

    async def _keep(self, trades: Sequence[Trade], told_until_ms: int) -> int:
        """Store what is missing, mark what was amended meanwhile, tell of what is new.

        What is newer than ``told_until_ms`` came live as well: it may not be stored yet, but it was told.
        """
        by_id: dict[str, tuple[Insert, Trade]] = {}
        for trade in trades:
            insert = write_of_trade(TradeSeen(trade))
            by_id[str(insert.document["_id"])] = (insert, trade)
        missing = await self._store.missing([insert for insert, _ in by_id.values()])
        await self._store.write(missing, WHAT)
        new = {str(insert.document["_id"]) for insert in missing}
        patches = [
            patch for key, (insert, trade) in by_id.items() if key not in new for patch in _patches(insert, trade)
        ]
        await self._store.write(patches, WHAT)
        hidden = [trade for key, (_, trade) in by_id.items() if key in new and trade.time_ms <= told_until_ms]
        seen = [TradeSeen(trade) for trade in hidden if trade.update is None]
        if seen:
            self._publish(seen)
        return len(hidden)

    async def _leave(self, hole: ClosedHole, verdict: Verdict) -> None:
        await self._store.write([patch_of_hole(hole, [verdict], self._clock.wall_ms())], "holes")
        self._metrics.add(REPAIRS, WHAT, "complete" if verdict.complete else "incomplete")
        self._holes.done(hole.id)

    async def _put_off_or_leave(self, hole: ClosedHole, error: VenueError) -> None:
        """Again later what the venue did not answer; what it calls wrong, or never answers, stays as it is."""
        exhausted = self._put_off(hole.id, FAILED_FIRST_S, FAILED_CAP_S)
        if exhausted or isinstance(error, VenueRequestError):
            note = f"the venue's history could not be read: {error}"[:300]
            await self._leave(hole, Verdict(WHAT, complete=False, note=note))
            return
        asked_s = error.retry_after_s if isinstance(error, VenueRateLimitedError) else None
        pause_s = min(FAILED_CAP_S, FAILED_FIRST_S * 2 ** min(self._failures, 10)) if asked_s is None else asked_s
        if not self._failures:
            log.warning("gaps_put_off", error=str(error)[:200], waiting=self.waiting(), pause_s=round(pause_s))
        self._failures += 1
        self._ask_at_s = self._clock.monotonic() + pause_s

    # -- notes -----------------------------------------------------------------------------------------------------

    def _note(self, hole: ClosedHole) -> None:
        if hole.stream.channel != CHANNEL:
            return
        if not self._holes.add(hole.id, hole, self._clock.monotonic() + self._settle_s):
            self._metrics.add(REPAIRS_DROPPED, "holes", "queue_full")
            self._look_back = True

    async def _look_back_once(self) -> None:
        """Find in the database what an earlier run, or a full queue, has left undone."""
        if not self._look_back or self.waiting():
            return
        for hole in await self._store.unlooked_holes(self._past.venue, self._clock.wall_ms()):
            self._note(hole)
        self._look_back = False

    def _put_off(self, key: str, first_s: float, cap_s: float) -> bool:
        return self._holes.put_off(key, self._clock.monotonic(), first_s=first_s, cap_s=cap_s) > MOST_ATTEMPTS


def _patches(insert: Insert, trade: Trade) -> list[Patch]:
    """For an amended trade that is stored: its mark, and all of it where only its end had been seen."""
    if trade.update is None:
        return []
    key = str(insert.document["_id"])
    unknown = {
        name: value
        for name, value in insert.document.items()
        if name not in ("_id", "receivedAt", "cancelled", "corrected")
    }
    return [
        Patch(Collection.TRADES, key, unknown | {"unseen": False}, {"unseen": True}),
        Patch(Collection.TRADES, key, {trade.update: True}),
    ]
