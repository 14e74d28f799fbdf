"""Repair of one trader: how late closes ended, and what holes in the trader's streams hid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from src.jobs.history import History, PastOrder, Shown
from src.jobs.repair_plan import (
    ClosedHole,
    FillWalk,
    LateClose,
    Verdict,
    ended_inside,
    judge_orders,
    judge_positions,
    latest_by_oid,
    patch_of_hole,
    patches_of_close,
)
from src.jobs.repair_store import RepairStore
from src.models.changes import Change, FillSeen
from src.models.clock import Clock
from src.models.errors import VenueRequestError
from src.models.messages import Fill
from src.models.metrics import REPAIRS, Metrics
from src.pipeline.documents import write_of_fill

MANY_CLOSES = 40
"""From so many closes on, reading the whole order history (at most weight 120) is cheaper than single questions."""

Ending = Literal["resolved", "alive", "unknown"]


class TraderRepair:
    """Asks the venue about one trader at a time.

    Every method raises `VenueError` or `StoreError` when it could not finish; what it had found by then is stored,
    and the next call goes on from there.
    """

    def __init__(
        self,
        store: RepairStore,
        history: History,
        clock: Clock,
        metrics: Metrics,
        *,
        fills: bool,
        publish: Callable[[Sequence[Change]], None],
    ) -> None:
        self._store = store
        self._history = history
        self._clock = clock
        self._metrics = metrics
        self._fills = fills
        self._publish = publish
        self._walks: dict[str, FillWalk] = {}

    async def repair(
        self,
        trader: str,
        holes: Sequence[ClosedHole],
        closes: Sequence[LateClose],
        note: Callable[[LateClose, Ending], None],
    ) -> None:
        """Resolve ``closes`` (each is told to ``note``), then look into ``holes``."""
        shown = {one for hole in holes for one in self._shown(hole)}
        past: Sequence[PastOrder] | None = None
        if Shown.ORDERS in shown or len(closes) >= MANY_CLOSES:
            past = await self._history.past_orders(trader)
        await self._resolve(closes, past, note)
        walk = None
        if self._fills and shown & {Shown.FILLS, Shown.POSITIONS}:
            walk = await self._walk(trader, min(hole.from_ms for hole in holes))
        patches = []
        for hole in holes:
            verdicts = [await self._verdict(hole, one, past or (), walk) for one in sorted(self._shown(hole))]
            patches.append(patch_of_hole(hole, verdicts, self._clock.wall_ms()))
            for verdict in verdicts:
                self._metrics.add(REPAIRS, verdict.what, "complete" if verdict.complete else "incomplete")
        await self._store.write(patches, "holes")

    async def _verdict(
        self, hole: ClosedHole, shown: Shown, past: Sequence[PastOrder], walk: FillWalk | None
    ) -> Verdict:
        if shown is Shown.ORDERS:
            stored = await self._store.stored_oids(hole.stream.subject, ended_inside(hole, past))
            return judge_orders(hole, past, stored, most_rows=self._history.most_orders)
        if walk is None:
            return Verdict(shown.value, complete=False, note="fills are not collected")
        return walk.verdict() if shown is Shown.FILLS else judge_positions(hole, walk.verdict(), walk)

    def _shown(self, hole: ClosedHole) -> frozenset[Shown]:
        return self._history.shown.get(hole.stream.channel, frozenset())

    # -- closes ----------------------------------------------------------------------------------------------------

    async def _resolve(
        self, closes: Sequence[LateClose], past: Sequence[PastOrder] | None, note: Callable[[LateClose, Ending], None]
    ) -> None:
        """The whole history first where it was read; what it does not end is asked one by one."""
        listed = latest_by_oid(past or ())
        known = [(close, listed[close.oid]) for close in closes if close.oid in listed and listed[close.oid].ended]
        await self._store_endings(known, note)
        settled = {close.event_id for close, _ in known}
        for close in closes:
            if close.event_id in settled:
                continue
            order = await self._ask(close)
            if order is not None and order.ended:
                await self._store_endings([(close, order)], note)
            else:
                note(close, "unknown" if order is None else "alive")

    async def _ask(self, close: LateClose) -> PastOrder | None:
        try:
            return await self._history.past_order(close.trader, close.oid)
        except VenueRequestError:  # it understood the question and has no answer: as good as not knowing the order
            return None

    async def _store_endings(
        self, endings: Sequence[tuple[LateClose, PastOrder]], note: Callable[[LateClose, Ending], None]
    ) -> None:
        now_ms = self._clock.wall_ms()
        patches = [patches_of_close(close, order, now_ms) for close, order in endings]
        # The event last: as long as it has no reason, a restart finds it and asks again.
        await self._store.write([state for state, _ in patches], "closes")
        await self._store.write([event for _, event in patches], "closes")
        for close, _ in endings:
            note(close, "resolved")

    # -- fills -----------------------------------------------------------------------------------------------------

    async def _walk(self, trader: str, from_ms: int) -> FillWalk:
        """Read and store the trader's fills since ``from_ms``; goes on where a failed attempt stopped."""
        walk = self._walks.get(trader)
        if walk is None or walk.begin_ms > from_ms:
            walk = self._walks[trader] = await self._store.begin_walk(self._history, trader, from_ms)
        while not walk.done:
            page = await self._history.fills(trader, walk.start_ms)
            await self._store_fills(page)
            walk.take(page)
        del self._walks[trader]
        return walk

    async def _store_fills(self, fills: Sequence[Fill]) -> None:
        by_id = {}
        for fill in fills:
            insert = write_of_fill(FillSeen(fill))
            by_id[insert.document["_id"]] = (insert, fill)
        missing = await self._store.missing([insert for insert, _ in by_id.values()])
        await self._store.write(missing, "fills")
        if missing:
            self._publish([FillSeen(by_id[insert.document["_id"]][1]) for insert in missing])
