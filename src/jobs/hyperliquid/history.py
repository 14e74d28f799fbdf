"""Hyperliquid's memory as a `History`: answers go through the same mapper as live frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from src.jobs.following.past_looks import PastLooks
from src.jobs.hyperliquid.past import HyperliquidPast, newest_trades
from src.jobs.repair.history import PastOrder, Shown
from src.models.clock import Clock
from src.models.errors import VenueError
from src.models.messages import Fill, OrderStatus, Trade
from src.models.metrics import Metrics
from src.venues.hyperliquid.mapper import VENUE, HyperliquidMapper
from src.venues.hyperliquid.rest import HyperliquidRest, OrderOutcome
from src.venues.hyperliquid.statuses import LIVE_STATUSES, is_refusal
from src.venues.hyperliquid.weight_budget import Priority
from src.venues.hyperliquid.weights import base_weight, rows_weight

AT_ONCE = frozenset({"Ioc", "FrontendMarket", "LiquidationMarket"})
"""Times in force of orders that never rest."""

WORTH_OF_LOOK = 6
"""A look that takes the past along costs no weight, but there are only so many: worth three single questions."""


class HyperliquidHistory:
    """See `History`. Every request goes out where it gets out soonest, in its turn by ``priority``."""

    venue = VENUE
    shown: Mapping[str, frozenset[Shown]] = {
        "openOrders": frozenset({Shown.ORDERS}),
        "clearinghouseState": frozenset({Shown.POSITIONS}),
        "allDexsClearinghouseState": frozenset({Shown.POSITIONS}),
        "webData2": frozenset({Shown.ORDERS, Shown.POSITIONS}),
        "userFills": frozenset({Shown.FILLS}),
        "userHistoricalOrders": frozenset({Shown.ORDERS}),
        "trades": frozenset({Shown.TRADES}),
        "l2Book": frozenset({Shown.BOOKS}),
    }
    most_orders = HyperliquidPast.most_orders
    weight_of_one = base_weight("orderStatus")
    fills_page = HyperliquidPast.fills_page
    fills_reach = HyperliquidPast.fills_reach

    def __init__(
        self,
        rests: Sequence[HyperliquidRest],
        clock: Clock,
        metrics: Metrics,
        *,
        priority: Priority = Priority.REPAIR,
        looks: PastLooks | None = None,
    ) -> None:
        """See `HyperliquidPast`. What is proved with an answer needs all of it."""
        self._past = HyperliquidPast(rests, clock, metrics, priority=priority, looks=looks, strict=True)
        self._priority = priority
        self._clock = clock
        self._mapper = HyperliquidMapper()

    async def past_order(self, trader: str, oid: int) -> PastOrder | None:
        """``orderStatus`` (weight 2)."""
        outcome = await self._past.rest().order_status(trader, oid, priority=self._priority)
        return None if outcome is None else _past_order(outcome)

    async def past_orders(self, trader: str, since_ms: int | None = None) -> Sequence[PastOrder]:
        """See `HyperliquidPast.orders`."""
        told = await self._past.orders(trader, since_ms)
        return [_past_of_row(row) for row in told.history.rows]

    def weight_of_all(self, trader: str, rows: int) -> int:
        """What ``historicalOrders`` costs with so many rows, or what a look that takes it along is worth."""
        if self._past.may_look(trader):
            return WORTH_OF_LOOK
        return base_weight("historicalOrders") + rows_weight("historicalOrders", min(rows, self.most_orders))

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """See `HyperliquidPast.fills`."""
        return await self._past.fills(trader, start_ms)

    async def recent_trades(self, symbol: str) -> Sequence[Trade]:
        """``recentTrades`` (weight 20 to 30)."""
        return await newest_trades(self._past.rest(), self._mapper, self._clock, symbol, self._priority)


class _OrderKind(Struct):
    tif: str | None = None
    orderType: str | None = None  # noqa: N815 - the venue's field name


_KIND = msgspec.json.Decoder(_OrderKind)


def _past_order(outcome: OrderOutcome) -> PastOrder:
    try:
        kind = _KIND.decode(outcome.order)
    except msgspec.MsgspecError as error:
        raise VenueError(f"order {outcome.oid} of the history has another shape: {error}") from error
    return PastOrder(
        oid=outcome.oid,
        status=outcome.status,
        status_ms=outcome.status_ms,
        ended=outcome.status not in LIVE_STATUSES,
        rested=_rested(kind.tif, kind.orderType, outcome.status),
    )


def _past_of_row(row: OrderStatus) -> PastOrder:
    return PastOrder(
        oid=row.order.oid,
        status=row.status,
        status_ms=row.status_ms,
        ended=row.status not in LIVE_STATUSES,
        rested=_rested(row.order.tif, row.order.orderType, row.status),
        row=row,
    )


def _rested(tif: str | None, order_type: str | None, status: str) -> bool:
    return tif not in AT_ONCE and order_type != "Market" and not is_refusal(status)
