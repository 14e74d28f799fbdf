"""Short ways for tests to say what a venue showed, and to see what the diff made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from src.models.changes import Change, OrderChange, OrderLink, PositionChange
from src.models.messages import Data, Gap, GapReason, OrdersSnapshot, PositionsSnapshot
from src.models.metrics import Metrics
from src.models.orders import Order, pack_order
from src.models.positions import Account, Leverage, Position
from src.models.streams import StreamKey
from src.pipeline.batches import BatchBuilder
from src.pipeline.diff import Diff
from src.pipeline.restore import restore_holes, restore_traders, roll_forward
from src.store.memory import MemoryStore

TRADER = "0x00000000000000000000000000000000000000aa"
OTHER_TRADER = "0x00000000000000000000000000000000000000bb"
VENUE = "hyperliquid"
START_MS = 1_791_280_000_000
STEP_MS = 5_000


def an_order(oid: int, **fields: Any) -> Order:
    """A resting limit order; any field can be given."""
    known: dict[str, Any] = {
        "coin": "BTC",
        "side": "B",
        "limitPx": "84000.0",
        "sz": "0.2",
        "origSz": "0.2",
        "timestamp": START_MS,
        "orderType": "Limit",
        "tif": "Gtc",
        "reduceOnly": False,
        "isTrigger": False,
        "triggerPx": "0.0",
        "triggerCondition": "N/A",
        "isPositionTpsl": False,
    }
    return Order(oid, **{**known, **fields})


def some_orders(*oids: int, **fields: Any) -> list[Order]:
    return [an_order(oid, **fields) for oid in oids]


def orders_data(
    orders: Iterable[Order],
    *,
    received_ms: int,
    venue_ms: int | None = None,
    trader: str = TRADER,
    dex: str = "",
    channel: str = "openOrders",
    rows: Mapping[int, bytes] | None = None,
) -> Data:
    """One complete list of orders as the mapper would hand it on."""
    listed = {order.oid: pack_order(order) for order in orders} if rows is None else rows
    snapshot = OrdersSnapshot(VENUE, trader, dex, venue_ms, received_ms, listed)
    return Data(StreamKey(VENUE, channel, trader, dex), venue_ms, (snapshot,), received_ms=received_ms)


def a_position(coin: str = "BTC", szi: str = "0.5", **fields: Any) -> Position:
    known: dict[str, Any] = {"leverage": Leverage("cross", 20), "entryPx": "86100.0", "maxLeverage": 40}
    return Position(coin, szi, **{**known, **fields})


def positions_data(
    positions: Iterable[Position],
    *,
    received_ms: int,
    venue_ms: int | None = None,
    trader: str = TRADER,
    dex: str = "",
    channel: str = "clearinghouseState",
    account: Account | None = None,
) -> Data:
    """One complete list of positions as the mapper would hand it on."""
    listed = {position.coin: position for position in positions}
    snapshot = PositionsSnapshot(VENUE, trader, dex, venue_ms, received_ms, listed, account)
    return Data(StreamKey(VENUE, channel, trader, dex), venue_ms, (snapshot,), received_ms=received_ms)


class Watcher:
    """Shows lists of one trader to a diff, five seconds apart, and tells what it found."""

    def __init__(self, *, trader: str = TRADER, dex: str = "", timed: bool = False) -> None:
        self.metrics = Metrics()
        self.diff = Diff(metrics=self.metrics)
        self.now_ms = START_MS
        self.changes: list[Change] = []
        self.last: list[Change] = []
        self._trader = trader
        self._dex = dex
        self._timed = timed

    def shows(self, orders: Iterable[Order], *, at_ms: int | None = None, **where: Any) -> list[Any]:
        """The next list of orders; returns the order changes it made. ``at_ms`` is the venue's time of it."""
        self.now_ms += STEP_MS
        venue_ms = at_ms if at_ms is not None else (self.now_ms if self._timed else None)
        where = {"trader": self._trader, "dex": self._dex, **where}
        found = self.applies(orders_data(orders, received_ms=self.now_ms, venue_ms=venue_ms, **where))
        return [change for change in found if isinstance(change, OrderChange | OrderLink)]

    def holds(self, positions: Iterable[Position], *, at_ms: int | None = None, **where: Any) -> list[Any]:
        """The next list of positions; returns the position changes it made."""
        self.now_ms += STEP_MS
        venue_ms = self.now_ms if at_ms is None else at_ms
        where = {"trader": self._trader, "dex": self._dex, **where}
        found = self.applies(positions_data(positions, received_ms=self.now_ms, venue_ms=venue_ms, **where))
        return [change for change in found if isinstance(change, PositionChange)]

    def loses_sight(self, *channels: str, reason: GapReason = GapReason.DISCONNECT) -> list[Change]:
        """A gap in the streams of this trader."""
        keys = tuple(
            StreamKey(VENUE, channel, self._trader, self._dex)
            for channel in channels or ("openOrders", "clearinghouseState")
        )
        changes = self.diff.apply_gap(Gap(keys, reason, self.now_ms))
        self.changes += changes
        return changes

    async def stored(self) -> MemoryStore:
        """A store that holds everything found so far."""
        store = MemoryStore()
        await store_changes(store, self.changes)
        return store

    async def restarted(self) -> Watcher:
        """What the next run of the program knows, from what this one stored."""
        return await watcher_over(await self.stored(), now_ms=self.now_ms, trader=self._trader, timed=self._timed)

    def applies(self, data: Data) -> list[Change]:
        """Any frame; returns every change it made, which ``last`` repeats."""
        changes = self.diff.apply(data)
        self.changes += changes
        self.last = changes
        return changes


async def watcher_over(store: MemoryStore, *, now_ms: int, trader: str = TRADER, timed: bool = False) -> Watcher:
    """A fresh diff that knows what the store holds of this trader."""
    watcher = Watcher(trader=trader, timed=timed)
    watcher.now_ms = now_ms
    await roll_forward(store)
    await restore_traders(store, watcher.diff, [trader], now_ms)
    await restore_holes(store, watcher.diff)
    return watcher


async def store_changes(store: MemoryStore, changes: Iterable[Change], *, seq: int = 1) -> None:
    builder = BatchBuilder(seq)
    for change in changes:
        builder.add(change)
    result = await store.write(builder.build())
    assert not result.rejected


def told(changes: Iterable[Change]) -> list[tuple[str, int, int]]:
    """(action, oid, revision) of order changes; a reopening is told as such."""
    return [
        ("reopened" if change.reopened else change.action, change.order.oid, change.revision)
        for change in changes
        if isinstance(change, OrderChange)
    ]


def links(changes: Iterable[Change]) -> dict[int, tuple[int | None, int | None]]:
    """oid -> (replaces, replaced by), as the documents would have it after all of these changes."""
    found: dict[int, tuple[int | None, int | None]] = {}
    for change in changes:
        if isinstance(change, OrderChange | OrderLink):
            oid = change.order.oid if isinstance(change, OrderChange) else change.oid
            replaces, replaced_by = found.get(oid, (None, None))
            found[oid] = (change.replaces or replaces, change.replaced_by or replaced_by)
    return {oid: pair for oid, pair in found.items() if pair != (None, None)}
