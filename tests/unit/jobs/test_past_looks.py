"""Histories that looks take along: who may ask, what an answer proves, and when REST has to tell instead."""

import asyncio

import pytest
from msgspec import structs

from src.jobs.following.past_looks import (
    CHECKS,
    MOST_PER_MINUTE,
    MOST_ROWS_PER_MINUTE,
    UNKNOWN_FOR_S,
    WAIT_S,
    PastLooks,
)
from src.jobs.hyperliquid.past import HyperliquidPast
from src.models.clock import ManualClock
from src.models.messages import Data, OrderHistory
from src.models.metrics import PAST_LOOKS, Metrics
from src.models.streams import StreamKey
from tests.support.past_world import a_fill, a_status
from tests.support.trader_states import START_MS, TRADER, VENUE
from tests.support.virtual_time import run_virtually

ORDERS, FILLS = "userHistoricalOrders", "userFills"
OTHER = "0x" + "2" * 40


class Turns:
    """Looks by turns: at everybody in ``members``."""

    def __init__(self, *members):
        self.members = members
        self.hurried = []

    def looks_at(self, trader):
        return trader in self.members

    def hurry(self, trader):
        self.hurried.append(trader)


def orders(*times, trader=TRADER, is_snapshot=True):
    rows = tuple(a_status(number, at_ms=time_ms) for number, time_ms in enumerate(times, 1))
    history = OrderHistory(VENUE, trader, START_MS, rows, ORDERS, is_snapshot)
    return Data(StreamKey(VENUE, ORDERS, trader), None, (history,), received_ms=START_MS)


def fills(*times, trader=TRADER, is_snapshot=True):
    told = [
        structs.replace(a_fill(n, time_ms=t, trader=trader), is_snapshot=is_snapshot) for n, t in enumerate(times)
    ]
    return Data(StreamKey(VENUE, FILLS, trader), None, tuple(told), received_ms=START_MS)


class World:
    def __init__(self, *members):
        self.clock, self.metrics, self.turns = ManualClock(), Metrics(), Turns(*members)
        self.looks = PastLooks(clock=self.clock, metrics=self.metrics)
        self.looks.use(self.turns)

    def outcomes(self, channel=ORDERS):
        return {w: n for w in ("told", "short", "late", "failed") if (n := self.count(channel, w))}

    def count(self, channel, outcome):
        return self.metrics.value(PAST_LOOKS, VENUE, channel, outcome)

    async def after(self, question, *answers):
        """What is said to ``question`` when looks bring these."""
        asked = asyncio.ensure_future(question)
        await asyncio.sleep(0)
        for answer in answers:
            self.looks.took(answer)
        return await asked


@pytest.fixture
def world():
    return World(TRADER)


async def test_a_look_at_once_takes_along_what_is_asked_for(world):
    asked = asyncio.ensure_future(world.looks.orders(TRADER, 20))
    await asyncio.sleep(0)
    assert world.turns.hurried == [TRADER]
    assert [s.key.channel for s in world.looks.subscriptions(TRADER)] == [ORDERS]
    assert {s.user for s in world.looks.subscriptions(TRADER)} == {TRADER}
    assert world.looks.subscriptions(OTHER) == []
    assert world.looks.took(orders(10, 30))
    told = await asked
    assert [row.status_ms for row in told.rows.rows] == [10, 30]
    assert world.looks.subscriptions(TRADER) == []
    assert world.outcomes() == {"told": 1}


async def test_several_who_ask_the_same_share_one_look(world):
    first, second = (asyncio.ensure_future(world.looks.orders(TRADER, since)) for since in (20, 5))
    await asyncio.sleep(0)
    world.looks.took(orders(10, 30))
    assert (await first) is not None
    assert (await second) is None, "what it proves is judged for each"
    assert world.turns.hurried == [TRADER]


async def test_who_has_no_turns_is_told_so_at_once(world):
    assert await world.looks.orders(OTHER, None) is None
    assert not world.looks.may_ask(OTHER)
    assert world.outcomes() == {}


@pytest.mark.parametrize(("since", "enough"), [(11, True), (10, False), (9, False), (None, True)])
async def test_only_a_row_older_than_wanted_proves_that_none_is_missing(world, since, enough):
    told = await world.after(world.looks.orders(TRADER, since), orders(10, 30))
    assert (told is not None) is enough
    assert told is None or not told.is_whole


@pytest.mark.parametrize(("since", "enough"), [(11, True), (10, False)])
async def test_fills_are_those_from_the_wanted_time_on_oldest_first(world, since, enough):
    told = await world.after(world.looks.fills(TRADER, since), fills(30, 10, 20))
    assert (told is not None) is enough
    if told:
        assert [fill.time_ms for fill in told.rows] == [20, 30]


async def test_fewer_rows_than_another_answer_had_are_all_there_are(world):
    world.turns.members = (TRADER, OTHER)
    assert await world.after(world.looks.orders(TRADER, 0), orders(10, 20, 30)) is None
    told = await world.after(world.looks.orders(OTHER, 0), orders(10, 20, trader=OTHER))
    assert told.is_whole
    assert await world.after(world.looks.orders(TRADER, 0), orders(10, 20, 30)) is None, "cut there, perhaps"


async def test_no_row_at_all_is_everything(world):
    assert (await world.after(world.looks.orders(TRADER, 0), orders())).is_whole
    assert (await world.after(world.looks.fills(TRADER, 0), fills())).rows == []


async def test_as_many_statuses_as_rest_ever_tells_are_as_good_as_rest(world):
    told = await world.after(world.looks.orders(TRADER, 0), orders(*range(10, 2010)))
    assert told.is_whole


async def test_news_is_not_the_past(world):
    asked = asyncio.ensure_future(world.looks.orders(TRADER, 20))
    await asyncio.sleep(0)
    assert not world.looks.took(orders(10, is_snapshot=False))
    assert not asked.done()
    assert world.looks.took(orders(10))
    assert await asked is not None


async def test_a_look_that_ends_without_it_leaves_it_to_rest(world):
    asked = asyncio.ensure_future(world.looks.fills(TRADER, 20))
    await asyncio.sleep(0)
    world.looks.ended([StreamKey(VENUE, FILLS, TRADER)])
    assert await asked is None
    assert world.outcomes(FILLS) == {"failed": 1}


def test_a_turn_that_does_not_come_leaves_it_to_rest():
    world = World(TRADER)

    async def ask():
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = await asyncio.gather(*(world.looks.orders(TRADER, 20) for _ in range(2)))
        return answers, loop.time() - began

    assert run_virtually(ask()) == ([None, None], WAIT_S)
    assert world.looks.subscriptions(TRADER) == []
    assert world.outcomes() == {"late": 1}


async def test_who_stops_waiting_does_not_disturb_the_others(world):
    gives_up, stays = (asyncio.ensure_future(world.looks.orders(TRADER, 20)) for _ in range(2))
    await asyncio.sleep(0)
    gives_up.cancel()
    await asyncio.sleep(0)
    world.looks.took(orders(10))
    assert await stays is not None


async def test_a_minute_has_room_for_so_many_questions(world):
    for _ in range(MOST_PER_MINUTE):
        assert await world.after(world.looks.orders(TRADER, 20), orders(10)) is not None
    assert not world.looks.may_ask(TRADER)
    assert await world.looks.orders(TRADER, 20) is None
    world.clock.advance(60.0)
    assert world.looks.may_ask(TRADER)
    assert world.looks.status() == {"asked_last_minute": 0, "rows_last_minute": 0}


async def test_a_minute_has_room_for_so_many_rows(world):
    many = fills(*range(MOST_ROWS_PER_MINUTE))
    assert await world.after(world.looks.fills(TRADER, 20), many) is not None
    assert world.looks.status()["rows_last_minute"] == MOST_ROWS_PER_MINUTE
    assert await world.looks.orders(TRADER, 20) is None
    world.clock.advance(60.0)
    assert await world.after(world.looks.orders(TRADER, 20), orders(10)) is not None


async def test_a_feed_the_venue_does_not_know_is_left_alone_for_hours(world):
    world.looks.unknown(ORDERS)
    assert await world.looks.orders(TRADER, 20) is None
    assert await world.after(world.looks.fills(TRADER, 20), fills(10)) is not None
    world.clock.advance(UNKNOWN_FOR_S)
    assert await world.after(world.looks.orders(TRADER, 20), orders(10)) is not None


# -- beside REST -------------------------------------------------------------------------------------------------------


class Rest:
    """Knows more than first frames tell, or not."""

    def __init__(self, *times):
        self.rows = ",".join(_row(number, time_ms) for number, time_ms in enumerate(times, 1))
        self.asked = []

    async def info(self, payload, *, priority):
        self.asked.append((payload["type"], priority.label))
        return f"[{self.rows}]".encode()


def _row(number, time_ms):
    order = f'{{"coin":"BTC","side":"B","limitPx":"1","sz":"0","oid":{number},"timestamp":5,"origSz":"1"}}'
    return f'{{"order":{order},"status":"filled","statusTimestamp":{time_ms}}}'


async def read(world, past, number, *times):
    trader = f"0x{number:040x}"
    world.turns.members = (*world.turns.members, trader)
    return await world.after(past.orders(trader, 0), orders(*times, trader=trader))


async def test_what_seems_to_be_whole_is_compared_with_rest_before_it_is_believed():
    world, rest = World(), Rest(10, 20)
    past = HyperliquidPast([rest], world.clock, world.metrics, looks=world.looks)
    await read(world, past, 1, 10, 20, 30)
    for number in range(2, CHECKS + 4):
        told = await read(world, past, number, 10, 20)
        assert told.is_all
        assert told.history.source == "history"
    assert len(rest.asked) == 1 + CHECKS


async def test_where_rest_told_more_first_frames_are_never_whole_again():
    world, rest = World(), Rest(5, 10, 20)
    past = HyperliquidPast([rest], world.clock, world.metrics, looks=world.looks)
    await read(world, past, 1, 10, 20, 30)
    for number in range(2, 12):
        told = await read(world, past, number, 10, 20)
        assert [row.status_ms for row in told.history.rows] == [5, 10, 20]
    assert len(rest.asked) == 11


async def test_a_later_reading_costs_nothing():
    world, rest = World(TRADER), Rest(5, 10, 20)
    past = HyperliquidPast([rest], world.clock, world.metrics, looks=world.looks)
    told = await world.after(past.orders(TRADER, 15), orders(10, 20))
    assert not told.is_all
    assert told.history.source == "history"
    assert rest.asked == []
