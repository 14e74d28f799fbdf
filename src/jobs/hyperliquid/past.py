"""Hyperliquid's memory of traders and trades; answers go through the same mapper as live frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from msgspec import structs

from src.config import Settings
from src.jobs.backfill.past import PastOrders, TradesPage
from src.jobs.following.past_looks import PastLooks
from src.models.clock import Clock
from src.models.errors import VenueError, WireError
from src.models.messages import Data, Fill, Message, OrderHistory, Trade
from src.models.metrics import FRAMES_REJECTED, Metrics
from src.pipeline.restore import HISTORY
from src.venues.hyperliquid.feed import FILLS_CHANNEL, HISTORY_CHANNEL
from src.venues.hyperliquid.mapper import VENUE, HyperliquidMapper
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import Priority, WeightBudget

BESIDE_A_COLLECTOR = 120
"""Weight per minute of a command that may run beside a collector: what that one leaves of the venue's limit."""

_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


class HyperliquidPast:
    """See `src.jobs.backfill.past.TraderPast`. A look takes it along where one can; else it is asked for over REST.

    Args:
        rests: those of the egress addresses.
        clock: when an answer arrived.
        metrics: rows that could not be read.
        priority: of what is asked for over REST; it goes out where it gets out soonest.
        looks: who can take it along, None where nobody looks by turns.
        strict: an answer with a row that cannot be read is none; else that row is left out and counted, and costs
            none of the others.
    """

    venue = VENUE
    most_orders = 2_000
    fills_page = 2_000
    fills_reach = 10_000

    def __init__(
        self,
        rests: Sequence[HyperliquidRest],
        clock: Clock,
        metrics: Metrics,
        *,
        priority: Priority = Priority.BACKFILL,
        looks: PastLooks | None = None,
        strict: bool = False,
    ) -> None:
        self._rests = tuple(rests)
        self._clock = clock
        self._metrics = metrics
        self._priority = priority
        self._looks = looks
        self._strict = strict
        self._mapper = HyperliquidMapper()

    def may_look(self, trader: str) -> bool:
        """Whether a look could take the orders of ``trader`` along now."""
        return self._looks is not None and self._looks.may_ask(trader)

    async def orders(self, trader: str, since_ms: int | None) -> PastOrders:
        """``userHistoricalOrders``, else ``historicalOrders`` (weight 20 to 120), over all dexes and spot.

        ``since_ms`` None = the newest ones, however few.
        """
        looks = self._looks
        if looks is None or (seen := await looks.orders(trader, since_ms)) is None:
            return PastOrders(await self._ask_orders(trader))
        rows = seen.rows.rows
        if since_ms == 0 and seen.is_whole and rows and looks.wants_check(HISTORY_CHANNEL):
            told = await self._ask_orders(trader)
            oldest_ms = min(row.status_ms for row in rows)
            looks.checked(HISTORY_CHANNEL, was_whole=all(row.status_ms >= oldest_ms for row in told.rows))
            return PastOrders(told)
        return PastOrders(structs.replace(seen.rows, source=HISTORY), is_all=seen.is_whole)

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """``userFills``, else ``userFillsByTime`` (weight 20 to 120)."""
        looks = self._looks
        if looks is None or (seen := await looks.fills(trader, start_ms)) is None:
            return await self._ask_fills(trader, start_ms)
        if start_ms == 0 and seen.is_whole and seen.rows and looks.wants_check(FILLS_CHANNEL):
            told = await self._ask_fills(trader, start_ms)
            oldest_ms = seen.rows[0].time_ms
            looks.checked(FILLS_CHANNEL, was_whole=all(fill.time_ms >= oldest_ms for fill in told))
            return told
        return seen.rows[: self.fills_page]

    async def _ask_orders(self, trader: str) -> OrderHistory:
        body = await self.rest().info({"type": "historicalOrders", "user": trader}, priority=self._priority)
        head = b'{"channel":"userHistoricalOrders","data":{"isSnapshot":true,"user":"' + trader.encode()
        messages = self._decoded(head + b'","orderHistory":', body)
        rows = [row for message in messages if isinstance(message, OrderHistory) for row in message.rows]
        return OrderHistory(VENUE, trader, self._clock.wall_ms(), tuple(rows), HISTORY, is_snapshot=True)

    async def _ask_fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        body = await self.rest().user_fills_by_time(trader, start_ms, priority=self._priority)
        head = b'{"channel":"userFills","data":{"user":"' + trader.encode() + b'","fills":'
        return [message for message in self._decoded(head, body) if isinstance(message, Fill)]

    def rest(self) -> HyperliquidRest:
        """The address through which a request gets out soonest."""
        if len(self._rests) == 1:
            return self._rests[0]
        return min(self._rests, key=lambda rest: (rest.budget.ahead_of(self._priority), -rest.budget.left()))

    def _decoded(self, head: bytes, body: bytes) -> list[Message]:
        """The rows as the mapper understands them, all at once or, where one is ill, one by one."""
        try:
            return list(self._decode(head + body + b"}}"))
        except WireError as whole:
            if self._strict:
                raise VenueError(f"the answer is not what the venue promises: {whole}") from whole
            try:
                rows = _ROWS.decode(body)
            except msgspec.MsgspecError as error:
                raise VenueError(f"the answer is not what the venue promises: {error}") from error
            found: list[Message] = []
            ill = 0
            for row in rows:
                try:
                    found += self._decode(head + b"[" + bytes(row) + b"]}}")
                except WireError as error:
                    ill += 1
                    self._metrics.add(FRAMES_REJECTED, VENUE, error.reason)
            if rows and ill == len(rows):
                raise VenueError(f"no row of the answer can be read: {whole}") from whole
            return found

    def _decode(self, frame: bytes) -> tuple[Message, ...]:
        decoded = self._mapper.decode(frame, self._clock.wall_ms())
        if not isinstance(decoded, Data):
            raise WireError("wrong_type", f"not data: {type(decoded).__name__}")
        return decoded.messages


class HyperliquidTrades:
    """See `src.jobs.backfill.past.TradesPast`: the venue has no history of trades, only the newest few."""

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
        trades = await newest_trades(self._rest, self._mapper, self._clock, symbol, Priority.BACKFILL)
        return TradesPage([trade for trade in trades if from_ms <= trade.time_ms < to_ms])


async def newest_trades(
    rest: HyperliquidRest, mapper: HyperliquidMapper, clock: Clock, symbol: str, priority: Priority
) -> list[Trade]:
    """``recentTrades`` (weight 20 to 30), read as a live frame would be.

    Raises:
        VenueError: the venue did not answer, or with what it does not promise.
    """
    body = await rest.recent_trades(symbol, priority=priority)
    try:
        decoded = mapper.decode(b'{"channel":"trades","data":' + body + b"}", clock.wall_ms())
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
