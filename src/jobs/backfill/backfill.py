"""Makes history whole: what lived between two looks gets its documents afterwards, from the venue's history.

An order that is stored is never touched, except that a close whose reason is unknown learns it. An order that is not
stored gets the two events it would have had (see `src.pipeline.short_lived`). A cursor moves only after everything up
to it is stored, so that a kill at any moment costs one answer of the venue, and nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from src.jobs.backfill.past import TraderPast
from src.jobs.backfill.plan import (
    Cursor,
    FillPages,
    Kind,
    Lost,
    Range,
    after_orders,
    again_from_ms,
    lost_orders,
    writes_of_cursor,
    writes_of_lost,
)
from src.jobs.backfill.store import BackfillStore, StoredOrder
from src.models.changes import OrderChange, OrderEnded
from src.models.clock import Clock
from src.models.messages import OrderHistory, OrderStatus
from src.models.metrics import BACKFILL_FOUND, Metrics
from src.pipeline.short_lived import changes_of_short_lived, endings, parents, successors
from src.store.base import Store

UNKNOWN = frozenset({None, "unknown"})
MOST_FILL_PAGES = 60
"""Pages of one reading; a trader quicker than that is read on the next time."""


class Live(Protocol):
    """The running program's view of orders, which the backfill must not contradict; absent in a command."""

    async def settle(self, history: OrderHistory) -> None:
        """Let the diff make what it can of a history, and store all that it has found so far.

        Raises:
            StoreError: MongoDB does not take it now.
        """

    def knows(self, trader: str, oid: int, coin: str) -> bool:
        """Whether the diff holds this order for open: it will close it by itself."""

    def note_ended(self, trader: str, oid: int, coin: str, told_ms: int) -> None:
        """An order is stored as ended, as told then: a late list that still shows it is to be ignored."""


class Reading(Struct, frozen=True):
    """What one reading has done.

    Attributes:
        found: orders or fills that were not stored before.
        explained: closes whose reason was unknown.
        lost: what the venue does not tell any more.
    """

    cursor: Cursor
    found: int = 0
    explained: int = 0
    lost: tuple[Lost, ...] = ()


class Backfill:
    """Reads the history of one trader at a time.

    Args:
        store: written directly; in the running program beside the pipeline, under its lease.
        past: the venue.
        clock: stored times.
        metrics: what was found.
        live: the running program's view, None where nobody collects.
    """

    def __init__(
        self, store: Store, past: TraderPast, clock: Clock, metrics: Metrics, *, live: Live | None = None
    ) -> None:
        self.store = BackfillStore(store, metrics)
        self._past = past
        self._clock = clock
        self._metrics = metrics
        self._live = live

    @property
    def venue(self) -> str:
        """Whose history it is."""
        return self._past.venue

    def reach(self, kind: Kind) -> int:
        """How many rows of a trader the venue keeps."""
        return self._past.most_orders if kind is Kind.ORDERS else self._past.fills_reach

    async def read(self, kind: Kind, trader: str, wanted: Range | None = None) -> Reading:
        """Read what is new since the last time, or a range once more.

        Raises:
            VenueError: the venue did not answer; what was stored by then stays, the next call goes on from there.
            StoreError: MongoDB is away; the same.
        """
        cursor = await self.store.cursor(kind, self._past.venue, trader)
        reading = await (self._orders(cursor, wanted) if kind is Kind.ORDERS else self._fills(cursor, wanted))
        self._metrics.add(BACKFILL_FOUND, kind.value, amount=reading.found)
        return reading

    # -- orders ----------------------------------------------------------------------------------------------------

    async def _orders(self, cursor: Cursor, wanted: Range | None) -> Reading:
        told = await self._past.orders(cursor.subject, self._begin_ms(cursor, wanted))
        history = told.history
        if self._live is not None:
            await self._live.settle(history)
        ended = self._to_look_at(history, cursor, wanted)
        stored = await self.store.orders(cursor.subject, [row.order.oid for row in ended])
        missing = [
            row for row in ended if row.lived and row.order.oid not in stored and not self._is_live(row, cursor)
        ]
        explained = self._explained(history, ended, stored)
        for row in missing:
            if self._live is not None:
                self._live.note_ended(cursor.subject, row.order.oid, row.order.coin, history.received_ms)
        await self.store.store_changes([*self._appeared(history, missing), *explained])
        lost = lost_orders(cursor, history.rows, self._past.most_orders) if told.is_all else None
        moves = wanted is None or wanted.to_ms is None
        after = cursor
        if moves:
            after = after_orders(cursor, told, self._past.most_orders, self._clock.wall_ms())
            await self._keep(after, (lost,) if lost else ())
        return Reading(after, len(missing), len(explained), (lost,) if lost else ())

    def _to_look_at(self, history: OrderHistory, cursor: Cursor, wanted: Range | None) -> list[OrderStatus]:
        if wanted is not None and wanted.to_ms is not None:
            return [row for row in endings(history.rows).values() if wanted.holds(row.status_ms)]
        begin_ms = self._begin_ms(cursor, wanted)
        return [row for row in endings(history.rows).values() if row.status_ms >= begin_ms]

    @staticmethod
    def _begin_ms(cursor: Cursor, wanted: Range | None) -> int:
        return min(again_from_ms(cursor, None), again_from_ms(cursor, wanted))

    def _is_live(self, row: OrderStatus, cursor: Cursor) -> bool:
        return self._live is not None and self._live.knows(cursor.subject, row.order.oid, row.order.coin)

    def _appeared(self, history: OrderHistory, missing: Sequence[OrderStatus]) -> list[OrderChange]:
        if not missing:
            return []
        links, of_parents = successors(history.rows), parents(history.rows)
        found: list[OrderChange] = []
        for row in missing:
            found += changes_of_short_lived(
                row,
                venue=history.venue,
                trader=history.trader,
                received_ms=history.received_ms,
                source=history.source,
                observed="late",
                parent=row.order.parentOid or of_parents.get(row.order.oid),
                links=links,
            )
        return found

    def _explained(
        self, history: OrderHistory, ended: Sequence[OrderStatus], stored: dict[int, StoredOrder]
    ) -> list[OrderEnded]:
        found = []
        for row in ended:
            known = stored.get(row.order.oid)
            if known is None or known.status != "closed" or known.reason not in UNKNOWN:
                continue
            found.append(
                OrderEnded(
                    venue=history.venue,
                    trader=history.trader,
                    oid=row.order.oid,
                    revision=known.revision,
                    reason=row.status,
                    ended_ms=row.status_ms,
                    received_ms=history.received_ms,
                )
            )
        return found

    # -- fills -----------------------------------------------------------------------------------------------------

    async def _fills(self, cursor: Cursor, wanted: Range | None) -> Reading:
        pages = FillPages(cursor, page_rows=self._past.fills_page, reach=self._past.fills_reach, wanted=wanted)
        found, told = 0, 0
        for _ in range(MOST_FILL_PAGES):
            page = await self._past.fills(cursor.subject, pages.start_ms)
            found += await self.store.store_fills(pages.take(page))
            if pages.done:
                pages.finish()
            await self._keep(pages.cursor(self._clock.wall_ms()), pages.lost[told:])
            told = len(pages.lost)
            if pages.done:
                break
        return Reading(pages.cursor(self._clock.wall_ms()), found, lost=tuple(pages.lost))

    async def _keep(self, cursor: Cursor, lost: Sequence[Lost]) -> None:
        """Holes first, so that a kill in between cannot lose them; then the cursor."""
        holes = [writes_of_lost(cursor, one) for one in lost]
        begun, moved = writes_of_cursor(cursor)
        await self.store.write([begin for begin, _ in holes], [end for _, end in holes], [begun], [moved])
