"""Hyperliquid's REST history as a `History`: answers go through the same mapper as live frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from src.jobs.history import PastOrder, Shown
from src.models.clock import Clock
from src.models.errors import VenueError, WireError
from src.models.messages import Data, Fill, OrderHistory, OrderStatus, Trade
from src.venues.hyperliquid.mapper import VENUE, HyperliquidMapper
from src.venues.hyperliquid.rest import HyperliquidRest, OrderOutcome
from src.venues.hyperliquid.statuses import LIVE_STATUSES, is_refusal
from src.venues.hyperliquid.weight_budget import Priority
from src.venues.hyperliquid.weights import base_weight, rows_weight

AT_ONCE = frozenset({"Ioc", "FrontendMarket", "LiquidationMarket"})
"""Times in force of orders that never rest."""


class HyperliquidHistory:
    """See `History`. Every request goes out where most of the budget is left, in its turn by ``priority``."""

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
    most_orders = 2_000
    weight_of_one = base_weight("orderStatus")
    fills_page = 2_000
    fills_reach = 10_000

    def __init__(
        self, rests: Sequence[HyperliquidRest], clock: Clock, *, priority: Priority = Priority.REPAIR
    ) -> None:
        """``rests``: one for each egress address."""
        self._rests = tuple(rests)
        self._priority = priority
        self._clock = clock
        self._mapper = HyperliquidMapper()

    @property
    def _rest(self) -> HyperliquidRest:
        """The address through which a request of this priority gets out soonest."""
        if len(self._rests) == 1:
            return self._rests[0]
        return min(self._rests, key=lambda rest: (rest.budget.ahead_of(self._priority), -rest.budget.left()))

    async def past_order(self, trader: str, oid: int) -> PastOrder | None:
        """``orderStatus`` (weight 2)."""
        outcome = await self._rest.order_status(trader, oid, priority=self._priority)
        return None if outcome is None else _past_order(outcome)

    async def past_orders(self, trader: str) -> Sequence[PastOrder]:
        """``historicalOrders`` (weight 20 to 120), over all dexes."""
        body = await self._rest.info({"type": "historicalOrders", "user": trader}, priority=self._priority)
        frame = (
            b'{"channel":"userHistoricalOrders","data":{"user":"'
            + trader.encode()
            + b'","orderHistory":'
            + body
            + b"}}"
        )
        found = [message for message in self._messages(frame) if isinstance(message, OrderHistory)]
        return [_past_of_row(row) for history in found for row in history.rows]

    def weight_of_all(self, rows: int) -> int:
        """What ``historicalOrders`` costs with so many rows."""
        return base_weight("historicalOrders") + rows_weight("historicalOrders", min(rows, self.most_orders))

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """``userFillsByTime`` (weight 20 to 120)."""
        body = await self._rest.user_fills_by_time(trader, start_ms, priority=self._priority)
        frame = b'{"channel":"userFills","data":{"user":"' + trader.encode() + b'","fills":' + body + b"}}"
        return [message for message in self._messages(frame) if isinstance(message, Fill)]

    async def recent_trades(self, symbol: str) -> Sequence[Trade]:
        """``recentTrades`` (weight 20 to 30)."""
        frame = (
            b'{"channel":"trades","data":' + await self._rest.recent_trades(symbol, priority=self._priority) + b"}"
        )
        return [message for message in self._messages(frame) if isinstance(message, Trade)]

    def _messages(self, frame: bytes) -> Sequence[object]:
        try:
            decoded = self._mapper.decode(frame, self._clock.wall_ms())
        except WireError as error:
            raise VenueError(f"the answer is not what the venue promises: {error}") from error
        return decoded.messages if isinstance(decoded, Data) else ()


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
