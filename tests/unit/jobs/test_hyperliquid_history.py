"""REST answers of the venue as history: through the mapper of live frames."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from src.jobs.hyperliquid.history import HyperliquidHistory
from src.jobs.repair.history import PastOrder, Shown
from src.models.clock import ManualClock
from src.models.errors import VenueError
from src.models.messages import Fill, Trade
from src.models.metrics import Metrics
from src.venues.hyperliquid.feed import HISTORY_CHANNEL, SPLIT_CHANNELS
from src.venues.hyperliquid.rest import OrderOutcome
from src.venues.hyperliquid.weight_budget import Priority, WeightBudget

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
        self.body, self.outcomes, self.asked, self.priorities = body, list(outcomes), [], []

    async def order_status(self, user, oid, *, priority):
        self.asked.append((user, oid))
        self.priorities.append(priority)
        return self.outcomes[0] if self.outcomes else None

    async def info(self, payload, *, priority):
        self.asked.append(payload)
        self.priorities.append(priority)
        return self.body

    async def user_fills_by_time(self, user, start_ms, *, priority):
        self.asked.append((user, start_ms))
        self.priorities.append(priority)
        return self.body

    async def recent_trades(self, coin, *, priority):
        self.priorities.append(priority)
        return self.body


def history_of(**answers):
    return HyperliquidHistory([Answers(**answers)], ManualClock(wall_ms=1_791_280_950_000), Metrics())


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
    answer = b'[{"order":{"oid":7,"coin":"BTC","side":"B","limitPx":"1","sz":"0","children":[{"oid":8,"coin":"BTC",'
    answer += b'"side":"A","limitPx":"2","sz":"1"}],' + order[1:] + b',"status":"' + status.encode()
    answer = answer.replace(b",}", b"}") + b'","statusTimestamp":55}]'
    [past] = await history_of(body=answer).past_orders(USER)
    assert structs.replace(past, row=None) == wanted
    assert (past.row.order.oid, past.row.status, past.row.status_ms, past.row.children) == (7, status, 55, (8,))
    assert past.row.ended is (ended and status != "somethingNew")  # a word that nobody knows explains nothing
    assert past.row.lived is not status.endswith("ejected")


async def test_every_question_has_the_priority_of_who_asks():
    rest = Answers()
    history = HyperliquidHistory([rest], ManualClock(), Metrics(), priority=Priority.REASON)
    await history.past_order(USER, 1)
    await history.past_orders(USER)
    await history.fills(USER, 5)
    await history.recent_trades("BTC")
    assert rest.priorities == [Priority.REASON] * 4
    rest = Answers()
    await HyperliquidHistory([rest], ManualClock(), Metrics()).past_order(USER, 1)
    assert rest.priorities == [Priority.REPAIR]


def test_weights_are_those_the_venue_bills():
    history = history_of()
    assert history.weight_of_one == 2
    assert [history.weight_of_all(USER, rows) for rows in (0, 1, 2_000, 9_999)] == [20, 21, 120, 120]


async def test_recorded_histories_are_understood():
    path = Path(__file__).parents[4] / "shared/data/hyperliquid/recorded/pysdk_historical_orders.json"
    if not path.exists():
        pytest.skip("recorded data is not here: pysdk_historical_orders.json")
    past = await history_of(body=path.read_bytes()).past_orders(USER)
    assert len(past) > 0
    assert all(one.row.order.oid == one.oid for one in past)
    assert {one.status for one in past} >= {"canceled", "iocCancelRejected"}


async def test_an_order_of_another_shape_is_a_fault_of_the_venue():
    with pytest.raises(VenueError, match="another shape"):
        await history_of(outcomes=[OrderOutcome(7, "filled", 5, b'{"tif":5}')]).past_order(USER, 7)


def test_every_channel_that_is_subscribed_shows_something():
    channels = {"webData2", "userFills", "trades", "l2Book", HISTORY_CHANNEL}
    assert set(SPLIT_CHANNELS) | channels <= set(HyperliquidHistory.shown)
    assert HyperliquidHistory.shown["webData2"] == {Shown.ORDERS, Shown.POSITIONS}


async def test_a_request_goes_out_where_nobody_is_ahead_and_most_is_left():
    clock = ManualClock()
    rests = [Answers(), Answers(), Answers()]
    for rest, spent in zip(rests, (0, 500, 200), strict=True):
        rest.budget = WeightBudget(clock=clock)
        rest.budget.settle(rest.budget.take(spent), spent)
    rests[0].budget.pause(5)
    history = HyperliquidHistory(rests, clock, Metrics())
    await history.past_order(USER, 1)
    assert [len(rest.asked) for rest in rests] == [0, 0, 1]
    waiting = asyncio.create_task(rests[2].budget.acquire(1_000, Priority.REPAIR))
    await asyncio.sleep(0)
    await history.past_order(USER, 2)
    assert [len(rest.asked) for rest in rests] == [0, 1, 1]
    waiting.cancel()
