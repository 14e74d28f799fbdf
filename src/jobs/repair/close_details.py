"""What else is known of a closed order: how much of it was filled at which price, and which other order ended it.

Size and price are sums over the fills that are stored, made again whenever one of them arrives, however late. A
take-profit whose stop-loss was filled, or a child whose parent was cancelled, gets the id of the order that took it
along. Everything may be done twice; nothing is read before what it is made of is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import structlog
from msgspec import Struct

from src.jobs.repair.due_queue import DueQueue
from src.jobs.repair.history import PastOrder
from src.jobs.repair.plan import Close
from src.jobs.repair.store import RepairStore, StoredFill
from src.jobs.stoppable import unless_stopped
from src.models.changes import Change, FillSeen, OrderChange, OrderEnded
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.metrics import REPAIRS_DROPPED, Metrics
from src.models.writes import Collection, Patch
from src.pipeline.documents import to_ms
from src.pipeline.identities import event_id, fill_id, order_id

log = structlog.get_logger(__name__)

POLL_S = 1.0
SETTLE_S = 3.0
"""So long the fills of an order may come after one another; they are summed up once."""

LIMIT = 50_000
AT_ONCE = 500
WAIT_FIRST_S, WAIT_CAP_S = 2.0, 300.0
MOST_WAITS = 12
SIBLING_FILLED = "siblingFilledCanceled"


class _Wanted(Struct):
    """An order to look at.

    Attributes:
        fill: the newest fill that must be stored first.
        closed: it is known to be closed, so it will be stored.
    """

    trader: str
    oid: int
    fill: str | None = None
    closed: bool = True


class CloseDetails:
    """See the module. Listens to the hub; orders of other venues than ``venue`` are left alone."""

    def __init__(
        self,
        store: RepairStore,
        clock: Clock,
        metrics: Metrics,
        *,
        venue: str,
        settle_s: float = SETTLE_S,
        poll_s: float = POLL_S,
        limit: int = LIMIT,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._venue = venue
        self._settle_s = settle_s
        self._poll_s = poll_s
        self._queue: DueQueue[_Wanted] = DueQueue(limit)
        self._look_back = True

    def heard(self, changes: Sequence[Change]) -> None:
        """Take note of closes, reasons and fills; a listener of the hub."""
        for change in changes:
            if isinstance(change, FillSeen):
                if change.fill.venue == self._venue:
                    identity = fill_id(change.fill)
                    self._note(change.fill.trader, change.fill.oid, identity, closed=False)
            elif isinstance(change, OrderEnded):
                if change.venue == self._venue:
                    self._note(change.trader, change.oid)
            elif isinstance(change, OrderChange) and change.action == "closed" and change.venue == self._venue:
                self._note(change.trader, change.order.oid)

    def explained(self, found: Sequence[tuple[Close, PastOrder]]) -> None:
        """Take note of closes whose reason was looked up and is stored."""
        for close, _ in found:
            self._note(close.trader, close.oid)

    def waiting(self) -> int:
        """How many orders wait to be looked at."""
        return len(self._queue)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work every ``poll_s`` seconds until ``stopping``."""
        while await unless_stopped(self.work(), stopping):
            await unless_stopped(asyncio.sleep(self._poll_s), stopping)

    async def work(self) -> None:
        """Look at everything that is due, as far as MongoDB answers."""
        try:
            if self._look_back and not self.waiting():
                found = await self._store.closes_without_details(self._clock.wall_ms())
                self._look_back = False
                for trader, oid in found:
                    self._note(trader, oid)
            while due := self._queue.ready(self._clock.monotonic(), AT_ONCE):
                await self._look_at(due)
        except StoreError as error:  # everything waits; the flush tells people that MongoDB is away
            log.debug("details_wait_for_mongodb", error=str(error))

    # -- one round -------------------------------------------------------------------------------------------------

    async def _look_at(self, due: Mapping[str, _Wanted]) -> None:
        states = await self._store.order_states(due)
        fills = await self._fills(due.values())
        patches: list[Patch] = []
        for key, wanted in due.items():
            made, state = fills.get(key, []), states.get(key)
            if wanted.fill is not None and all(fill.id != wanted.fill for fill in made):
                self._wait(key, wanted)
            elif state is not None and state["status"] == "closed":
                patches += await self._complete(key, wanted, state, made)
            elif state is None and wanted.closed:
                self._wait(key, wanted)
            else:
                self._done(key, wanted)  # when it closes, it is noted anew
        await self._store.write(patches, "details")

    async def _fills(self, wanted: Iterable[_Wanted]) -> dict[str, list[StoredFill]]:
        by_trader: dict[str, list[int]] = {}
        for one in wanted:
            by_trader.setdefault(one.trader, []).append(one.oid)
        found: dict[str, list[StoredFill]] = {}
        for trader, oids in by_trader.items():
            for fill in await self._store.fills_of(trader, oids):
                found.setdefault(order_id(trader, fill.oid), []).append(fill)
        return found

    async def _complete(
        self, key: str, wanted: _Wanted, state: Mapping[str, Any], fills: Sequence[StoredFill]
    ) -> list[Patch]:
        values = _sums(state, fills)
        ended_by, is_known = await self._ended_by(state)
        if ended_by is not None:
            values["closedBy"] = ended_by
        if is_known:
            self._done(key, wanted)
        else:
            self._wait(key, wanted)
        return _patches(key, state, values)

    async def _ended_by(self, state: Mapping[str, Any]) -> tuple[int | None, bool]:
        """The order whose end ended this one, None where there is none; and whether that is certain by now."""
        reason, closed_at = state.get("closeReason"), state.get("closedAt")
        if reason == SIBLING_FILLED:
            sibling = await self._sibling(state)
            return sibling, sibling is not None
        parent = state.get("parentOid")
        if parent is None or state.get("activated") or reason in {"filled", "unknown", None}:
            return None, True
        key = order_id(state["ethAddress"], parent)
        above = (await self._store.order_states([key])).get(key)
        if above is None:
            return None, True
        if above["status"] != "closed" or above.get("closeReason") == "unknown":
            return None, False
        return (int(parent), True) if above.get("closedAt") == closed_at else (None, True)

    async def _sibling(self, state: Mapping[str, Any]) -> int | None:
        """The trigger order that was filled in the very millisecond in which this one was cancelled."""
        trader, at_ms = state["ethAddress"], to_ms(state["closedAt"]) or 0
        oids = await self._store.filled_at(trader, state["coin"], at_ms) - {int(state["oid"])}
        others = await self._store.order_states([order_id(trader, oid) for oid in oids])
        triggers = sorted(int(other["oid"]) for other in others.values() if other.get("isTrigger"))
        of_parent = [
            oid for oid in triggers if others[order_id(trader, oid)].get("parentOid") == state.get("parentOid")
        ]
        return next(iter([*of_parent, *triggers]), None)

    # -- notes -----------------------------------------------------------------------------------------------------

    def _note(self, trader: str, oid: int, fill: str | None = None, *, closed: bool = True) -> None:
        key, due_s = order_id(trader, oid), self._clock.monotonic() + self._settle_s
        earlier = self._queue.get(key)
        if earlier is not None:
            self._queue.done(key)
            fill, closed = fill or earlier.fill, closed or earlier.closed
        if not self._queue.add(key, _Wanted(trader, oid, fill, closed), due_s):
            self._metrics.add(REPAIRS_DROPPED, "details", "queue_full")
            self._look_back = True

    def _done(self, key: str, wanted: _Wanted) -> None:
        if self._queue.get(key) is wanted:  # else it was noted anew meanwhile
            self._queue.done(key)

    def _wait(self, key: str, wanted: _Wanted) -> None:
        if self._queue.get(key) is not wanted:
            return  # noted anew meanwhile
        attempts = self._queue.put_off(key, self._clock.monotonic(), first_s=WAIT_FIRST_S, cap_s=WAIT_CAP_S)
        if attempts > MOST_WAITS:
            self._queue.done(key)


def _sums(state: Mapping[str, Any], fills: Sequence[StoredFill]) -> dict[str, Any]:
    """Filled size and average price; an order that ended otherwise, and has no fills, was not filled."""
    size = sum((Decimal(repr(fill.sz)) for fill in fills), Decimal(0))
    if size:
        notional = sum((Decimal(repr(fill.px)) * Decimal(repr(fill.sz)) for fill in fills), Decimal(0))
        return {"filledSz": float(size), "avgPx": float(f"{notional / size:.15g}")}
    if state.get("closeReason") in {None, "unknown", "filled"}:
        return {}
    return {"filledSz": 0.0, "avgPx": None}


def _patches(key: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> list[Patch]:
    """For the order and the event that closed it, where they do not say so already."""
    missing = object()
    if all(state.get(name, missing) == value for name, value in values.items()):
        return []
    guard = {"status": "closed", "revision": state["revision"]}
    return [
        Patch(Collection.TRADER_ORDERS, key, values, guard),
        Patch(Collection.TRADER_ORDER_EVENTS, event_id(key, state["revision"]), values, {"action": "closed"}),
    ]
