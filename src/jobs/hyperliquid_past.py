"""Hyperliquid's REST history for the backfill; answers go through the same mapper as live frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from src.config import Settings
from src.jobs.past import TradesPage
from src.models.clock import Clock
from src.models.errors import VenueError, WireError
from src.models.messages import Data, Fill, OrderHistory, OrderStatus, Trade
from src.models.metrics import FRAMES_REJECTED, Metrics
from src.pipeline.restore import HISTORY
from src.venues.hyperliquid.mapper import VENUE, HyperliquidMapper
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import Priority, WeightBudget

BESIDE_A_COLLECTOR = 120
"""Weight per minute of a command that may run beside a collector: what that one leaves of the venue's limit."""

_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


class HyperliquidPast:
    """See `src.jobs.past.TraderPast`. Every request is paid last of all, where most weight is left just now.

    A row that cannot be read is left out and counted; it costs none of the others.
    """

    venue = VENUE
    most_orders = 2_000
    fills_page = 2_000
    fills_reach = 10_000

    def __init__(self, rests: Sequence[HyperliquidRest], clock: Clock, metrics: Metrics) -> None:
        """``rests`` are those of the egress addresses."""
        self._rests = rests
        self._clock = clock
        self._metrics = metrics
        self._mapper = HyperliquidMapper()

    async def orders(self, trader: str) -> OrderHistory:
        """``historicalOrders`` (weight 20 to 120), over all dexes and spot."""
        body = await self._rest().info({"type": "historicalOrders", "user": trader}, priority=Priority.BACKFILL)
        head = b'{"channel":"userHistoricalOrders","data":{"isSnapshot":true,"user":"' + trader.encode()
        rows: list[OrderStatus] = []
        for data in self._decoded(head + b'","orderHistory":', body):
            for message in data.messages:
                if isinstance(message, OrderHistory):
                    rows += message.rows
        return OrderHistory(VENUE, trader, self._clock.wall_ms(), tuple(rows), HISTORY, is_snapshot=True)

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """``userFillsByTime`` (weight 20 to 120)."""
        body = await self._rest().user_fills_by_time(trader, start_ms, priority=Priority.BACKFILL)
        head = b'{"channel":"userFills","data":{"user":"' + trader.encode() + b'","fills":'
        messages = [message for data in self._decoded(head, body) for message in data.messages]
        return [message for message in messages if isinstance(message, Fill)]

    def _rest(self) -> HyperliquidRest:
        return max(self._rests, key=lambda rest: rest.budget.left())

    def _decoded(self, head: bytes, body: bytes) -> list[Data]:
        """The rows as the mapper understands them, all at once or, where one is ill, one by one."""
        try:
            return [self._decode(head + body + b"}}")]
        except WireError as whole:
            try:
                rows = _ROWS.decode(body)
            except msgspec.MsgspecError as error:
                raise VenueError(f"the answer is not what the venue promises: {error}") from error
            found = []
            for row in rows:
                try:
                    found.append(self._decode(head + b"[" + bytes(row) + b"]}}"))
                except WireError as error:
                    self._metrics.add(FRAMES_REJECTED, VENUE, error.reason)
            if rows and not found:
                raise VenueError(f"no row of the answer can be read: {whole}") from whole
            return found

    def _decode(self, frame: bytes) -> Data:
        decoded = self._mapper.decode(frame, self._clock.wall_ms())
        if not isinstance(decoded, Data):
            raise WireError("wrong_type", f"not data: {type(decoded).__name__}")
        return decoded


class HyperliquidTrades:
    """See `src.jobs.past.TradesPast`: the venue has no history of trades, only the newest few."""

    venue = VENUE
    reach = "Hyperliquid keeps no history of public trades: only the newest few of each coin can be asked for"
    is_complete = False

    def __init__(self, rest: HyperliquidRest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock
        self._mapper = HyperliquidMapper()

    async def page(self, symbol: str, from_ms: int, to_ms: int, token: str | None) -> TradesPage:
        """``recentTrades`` (weight 20 to 30); there is never a second page."""
        del token
        trades = await self._newest(symbol)
        return TradesPage([trade for trade in trades if from_ms <= trade.time_ms < to_ms])

    async def _newest(self, symbol: str) -> Sequence[Trade]:
        body = await self._rest.recent_trades(symbol, priority=Priority.BACKFILL)
        try:
            decoded = self._mapper.decode(b'{"channel":"trades","data":' + body + b"}", self._clock.wall_ms())
        except WireError as error:
            raise VenueError(f"the answer is not what the venue promises: {error}") from error
        return [m for m in decoded.messages if isinstance(m, Trade)] if isinstance(decoded, Data) else []


def rest_of(settings: Settings, clock: Clock, metrics: Metrics, *, per_minute: int | None = None) -> HyperliquidRest:
    """Requests of a command; ``per_minute`` is its share of the venue's limit, None = all of it."""
    proxy = settings.hyperliquid_proxy
    budget = WeightBudget(clock=clock, metrics=metrics)
    if per_minute is not None:
        budget = WeightBudget(clock=clock, metrics=metrics, per_minute=per_minute, usable_share=1.0)
    return HyperliquidRest(
        settings.hyperliquid_api_url,
        clock=clock,
        metrics=metrics,
        budget=budget,
        proxy=None if proxy is None else proxy.get_secret_value(),
    )


@asynccontextmanager
async def hyperliquid_past(settings: Settings, clock: Clock, metrics: Metrics) -> AsyncIterator[HyperliquidPast]:
    """The past of traders, for a command that is alone behind its address."""
    rest = rest_of(settings, clock, metrics)
    try:
        yield HyperliquidPast([rest], clock, metrics)
    finally:
        await rest.close()


@asynccontextmanager
async def hyperliquid_trades(settings: Settings, clock: Clock, metrics: Metrics) -> AsyncIterator[HyperliquidTrades]:
    """The newest public trades, within what a collector behind the same address leaves."""
    rest = rest_of(settings, clock, metrics, per_minute=BESIDE_A_COLLECTOR)
    try:
        yield HyperliquidTrades(rest, clock)
    finally:
        await rest.close()
