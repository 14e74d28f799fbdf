"""Repair of one trader: what holes in the trader's streams hid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from src.jobs.repair.history import History, PastOrder, Shown
from src.jobs.repair.plan import (
    SKEW_MS,
    ClosedHole,
    FillWalk,
    Verdict,
    ended_inside,
    judge_orders,
    judge_positions,
    patch_of_hole,
    unseen_inside,
)
from src.jobs.repair.store import RepairStore
from src.models.changes import Change, FillSeen
from src.models.clock import Clock
from src.models.messages import Fill
from src.models.metrics import REPAIRS, Metrics
from src.pipeline.documents import write_of_fill
from src.pipeline.short_lived import changes_of_short_lived, parents, successors

SOURCE = "history"
"""Stored with orders that only the venue's history has told of."""

Learned = Callable[[str, Sequence[PastOrder]], None]


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
        learned: Learned,
    ) -> None:
        self._store = store
        self._history = history
        self._clock = clock
        self._metrics = metrics
        self._fills = fills
        self._publish = publish
        self._learned = learned
        self._walks: dict[str, FillWalk] = {}

    async def repair(self, trader: str, holes: Sequence[ClosedHole]) -> None:
        """Look into ``holes``."""
        shown = {one for hole in holes for one in self._shown(hole)}
        past: Sequence[PastOrder] | None = None
        if Shown.ORDERS in shown:
            since_ms = min(hole.from_ms for hole in holes) - SKEW_MS
            past = await self._history.past_orders(trader, max(0, since_ms))
            self._learned(trader, past)
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
            stored = await self._add_unseen(hole, past)
            return judge_orders(hole, past, stored, most_rows=self._history.most_orders)
        if walk is None:
            return Verdict(shown.value, complete=False, note="fills are not collected")
        return walk.verdict() if shown is Shown.FILLS else judge_positions(hole, walk.verdict(), walk)

    def _shown(self, hole: ClosedHole) -> frozenset[Shown]:
        return self._history.shown.get(hole.stream.channel, frozenset())

    # -- orders ----------------------------------------------------------------------------------------------------

    async def _add_unseen(self, hole: ClosedHole, past: Sequence[PastOrder]) -> set[int]:
        """Store orders that began and ended in the hole, as the history tells them; returns which are stored now."""
        trader = hole.stream.subject
        unseen = unseen_inside(hole, past)
        stored = await self._store.stored_oids(trader, {*ended_inside(hole, past), *unseen})
        rows = [row.row for row in past if row.row is not None]
        above, links = parents(rows), successors(rows)
        changes = [
            change
            for oid, row in unseen.items()
            if oid not in stored
            for change in changes_of_short_lived(
                row,
                venue=self._history.venue,
                trader=trader,
                received_ms=self._clock.wall_ms(),
                source=SOURCE,
                observed="late",
                parent=row.order.parentOid or above.get(oid),
                links=links,
            )
        ]
        await self._store.write_changes(changes, "orders")
        self._publish(changes)
        return stored | {change.order.oid for change in changes}

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
