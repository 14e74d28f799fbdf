"""Hyperliquid's REST history as a `History`: answers go through the same mapper as live frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from src.jobs.history import PastOrder, Shown
from src.models.clock import Clock
from src.models.errors import VenueError, WireError
from src.models.messages import Data, Fill, Trade
from src.venues.hyperliquid.mapper import VENUE, HyperliquidMapper
from src.venues.hyperliquid.rest import HyperliquidRest, OrderOutcome

LIVE_STATUSES = frozenset({"open", "triggered"})
AT_ONCE = frozenset({"Ioc", "FrontendMarket", "LiquidationMarket"})
"""Times in force of orders that never rest."""


class HyperliquidHistory:
    """See `History`. Every request is paid from the budget of ``rest``."""

    venue = VENUE
    shown: Mapping[str, frozenset[Shown]] = {
        "openOrders": frozenset({Shown.ORDERS}),
        "clearinghouseState": frozenset({Shown.POSITIONS}),
        "allDexsClearinghouseState": frozenset({Shown.POSITIONS}),
        "webData2": frozenset({Shown.ORDERS, Shown.POSITIONS}),
        "userFills": frozenset({Shown.FILLS}),
        "trades": frozenset({Shown.TRADES}),
        "l2Book": frozenset({Shown.BOOKS}),
    }
    most_orders = 2_000
    fills_page = 2_000
    fills_reach = 10_000

    def __init__(self, rest: HyperliquidRest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock
        self._mapper = HyperliquidMapper()

    async def past_order(self, trader: str, oid: int) -> PastOrder | None:
        """``orderStatus`` (weight 2)."""
        outcome = await self._rest.order_status(trader, oid)
        return None if outcome is None else _past_order(outcome)

    async def past_orders(self, trader: str) -> Sequence[PastOrder]:
        """``historicalOrders`` (weight 20 to 120), over all dexes."""
        return [_past_order(outcome) for outcome in await self._rest.historical_orders(trader)]

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """``userFillsByTime`` (weight 20 to 120)."""
        body = await self._rest.user_fills_by_time(trader, start_ms)
        frame = b'{"channel":"userFills","data":{"user":"' + trader.encode() + b'","fills":' + body + b"}}"
        return [message for message in self._messages(frame) if isinstance(message, Fill)]

    async def recent_trades(self, symbol: str) -> Sequence[Trade]:
        """``recentTrades`` (weight 20 to 30)."""
        frame = b'{"channel":"trades","data":' + await self._rest.recent_trades(symbol) + b"}"
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
    refused = outcome.status.lower().endswith("rejected")
    return PastOrder(
        oid=outcome.oid,
        status=outcome.status,
        status_ms=outcome.status_ms,
        ended=outcome.status not in LIVE_STATUSES,
        rested=kind.tif not in AT_ONCE and kind.orderType != "Market" and not refused,
    )
