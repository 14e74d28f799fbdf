"""REST answers of the venue as history: through the mapper of live frames."""

import pytest

from src.jobs.history import PastOrder, Shown
from src.jobs.hyperliquid_history import HyperliquidHistory
from src.models.clock import ManualClock
from src.models.errors import VenueError
from src.models.messages import Fill, Trade
from src.venues.hyperliquid.feed import SPLIT_CHANNELS
from src.venues.hyperliquid.rest import OrderOutcome

USER = "0x00000000000000000000000000000000000000aa"
FILL = (
    b'{"coin":"BTC","px":"86006.0","sz":"0.07905","side":"B","time":1791280942711,"startPosition":"-0.14136",'
    b'"dir":"Close Short","closedPnl":"-2.600745","hash":"0x0d","oid":566617233807,"crossed":true,"fee":"2.106",'
    b'"tid":669583051366496,"feeToken":"USDC","twapId":null}'
)
TRADE = (
    b'{"coin":"BTC","side":"A","px":"86000.0","sz":"0.1","time":1791280942711,"hash":"0x0d","tid":7,'
    b'"users":["0x01","0x02"]}'
)


class Answers:
    """Stands in for `HyperliquidRest`."""

    def __init__(self, *, body=b"[]", outcomes=()):
        self.body, self.outcomes, self.asked = body, list(outcomes), []

    async def order_status(self, user, oid):
        self.asked.append((user, oid))
        return self.outcomes[0] if self.outcomes else None

    async def historical_orders(self, user):
        return self.outcomes

    async def user_fills_by_time(self, user, start_ms):
        self.asked.append((user, start_ms))
        return self.body

    async def recent_trades(self, coin):
        return self.body


def history_of(**answers):
    return HyperliquidHistory(Answers(**answers), ManualClock(wall_ms=1_791_280_950_000))


async def test_fills_are_those_a_live_frame_would_have_shown():
    [fill] = await history_of(body=b"[" + FILL + b"]").fills(USER, 5)
    assert isinstance(fill, Fill)
    assert (fill.trader, fill.coin, fill.tid, fill.px) == (USER, "BTC", 669583051366496, "86006.0")
    assert (fill.time_ms, fill.received_ms) == (1_791_280_942_711, 1_791_280_950_000)


async def test_trades_are_those_a_live_frame_would_have_shown():
    [trade] = await history_of(body=b"[" + TRADE + b"]").recent_trades("BTC")
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.trade_id, trade.side) == ("BTC", "1791280942711-7", "A")


async def test_empty_answers_are_empty():
    history = history_of()
    assert not await history.fills(USER, 5)
    assert not await history.recent_trades("BTC")
    assert await history.past_orders(USER) == []
    assert await history.past_order(USER, 1) is None


@pytest.mark.parametrize("body", [b'[{"coin":5}]', b"[" + FILL.replace(b"86006.0", b"x") + b"]", b'{"a":1}'])
async def test_what_the_mapper_refuses_is_a_fault_of_the_venue(body):
    with pytest.raises(VenueError, match="not what the venue promises"):
        await history_of(body=body).fills(USER, 5)


@pytest.mark.parametrize(
    ("status", "order", "ended", "rested"),
    [
        ("filled", b'{"orderType":"Limit","tif":"Gtc"}', True, True),
        ("canceled", b'{"orderType":"Stop Market","tif":null}', True, True),
        ("open", b'{"orderType":"Limit","tif":"Alo"}', False, True),
        ("triggered", b'{"orderType":"Stop Market","tif":null}', False, True),
        ("filled", b'{"orderType":"Market","tif":"FrontendMarket"}', True, False),
        ("iocCancelRejected", b'{"orderType":"Limit","tif":"Ioc"}', True, False),
        ("perpMarginRejected", b'{"orderType":"Limit","tif":"Gtc"}', True, False),
        ("rejected", b'{"orderType":"Limit","tif":"Gtc"}', True, False),
        ("somethingNew", b"{}", True, True),
    ],
)
async def test_statuses(status, order, ended, rested):
    outcome = OrderOutcome(7, status, 55, order)
    wanted = PastOrder(7, status, 55, ended=ended, rested=rested)
    assert await history_of(outcomes=[outcome]).past_order(USER, 7) == wanted
    assert await history_of(outcomes=[outcome]).past_orders(USER) == [wanted]


async def test_an_order_of_another_shape_is_a_fault_of_the_venue():
    with pytest.raises(VenueError, match="another shape"):
        await history_of(outcomes=[OrderOutcome(7, "filled", 5, b'{"tif":5}')]).past_order(USER, 7)


def test_every_channel_that_is_subscribed_shows_something():
    assert set(SPLIT_CHANNELS) | {"webData2", "userFills", "trades", "l2Book"} <= set(HyperliquidHistory.shown)
    assert HyperliquidHistory.shown["webData2"] == {Shown.ORDERS, Shown.POSITIONS}
