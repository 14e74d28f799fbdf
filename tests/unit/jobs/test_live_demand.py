"""Demand told to sources, answers told to holders."""

import asyncio
from types import SimpleNamespace

import pytest

from src.jobs.live.live import Live
from src.models.changes import TradeSeen
from src.models.clock import ManualClock
from src.models.live import ACCEPTED, WANTED, Standing, Topic
from src.models.messages import Trade
from src.pipeline.demand import Demand
from tests.support.gateway_world import ScriptedSource, until

BTC = Topic("trade", "hyperliquid", "BTC")
ETH = Topic("book", "hyperliquid", "ETH")


@pytest.fixture
def world():
    clock, source = ManualClock(), ScriptedSource()
    live = Live(demand=Demand(grace_s=10.0, most_topics=3), sources=[source], clock=clock)
    world = SimpleNamespace(clock=clock, source=source, live=live, changed=[], released=[])
    live.on_change, live.on_released = world.changed.append, world.released.append
    return world


def test_what_many_want_at_once_is_told_to_the_source_once(world):
    for holder in ("a", "b"):
        assert world.live.hold(holder, BTC) == WANTED
        world.live.hold(holder, ETH)
    assert world.source.history == []
    world.live.look()
    assert world.source.history == [{"BTC": {"trade"}, "ETH": {"book"}}]
    assert set(world.changed) == {BTC, ETH}
    assert world.live.standing(BTC) == ACCEPTED
    world.live.look()
    assert len(world.source.history) == 1


def test_release_is_told_after_the_grace_period(world):
    world.live.hold("a", BTC)
    world.live.look()
    world.live.release("a", BTC)
    world.clock.advance(9.9)
    world.live.look()
    assert world.released == []
    world.clock.advance(0.2)
    world.live.look()
    assert world.released == [BTC]
    assert world.source.wanted == {}


def test_a_refusal_and_a_later_acceptance_are_both_told(world):
    world.source.refuses["BTC"] = "no"
    world.live.hold("a", BTC)
    world.live.look()
    assert world.live.standing(BTC) == Standing("refused", "upstream_refused", "no")
    assert world.changed == []  # who held it was told by the answer to hold
    del world.source.refuses["BTC"]
    world.live.look()
    assert world.changed == [BTC]


def test_data_proves_acceptance(world):
    world.source.accepts = set()
    world.live.hold("a", BTC)
    world.live.look()
    world.live.heard([TradeSeen(Trade("hyperliquid", "BTC", "1", "1", "1", None, 0, 0))])
    world.live.look()
    assert world.changed == [BTC]
    assert world.live.standing(BTC) == ACCEPTED


def test_what_is_beyond_the_bound_is_refused_and_a_venue_nobody_collects_too(world):
    for symbol in ("A", "B", "C"):
        world.live.hold("client:1", Topic("trade", "hyperliquid", symbol))
    assert world.live.hold("client:1", BTC).code == "limit"
    assert BTC not in world.live
    assert world.live.hold("session:idx", BTC).state == "wanted"  # the bound is on clients alone
    assert BTC in world.live
    assert world.live.own_standing(Topic("book", "futu", "US.AAPL")).code == "no_source"


def test_other_holders_count_alike(world):
    world.live.keep("configuration", [BTC, ETH])
    world.live.hold("client:1", ETH)
    world.live.look()
    assert world.live.topics_held_besides("configuration") == [ETH]
    world.live.keep("configuration", [])
    world.clock.advance(20)
    world.live.look()
    assert world.source.wanted == {"ETH": {"book"}}
    world.live.leave("client:1")
    world.clock.advance(20)
    world.live.look()
    assert world.source.wanted == {}


def test_while_another_process_collects_its_answer_counts(world):
    collecting = [False]
    live = Live(
        demand=Demand(grace_s=1.0), sources=[world.source], clock=world.clock, is_collecting=lambda: collecting[0]
    )
    live.remote = lambda _: Standing("refused", "upstream_refused", "over there")
    live.remote_connected = lambda: {"hyperliquid": False}
    assert live.hold("a", BTC).text == "over there"
    assert live.connected() == {"hyperliquid": False}
    collecting[0] = True
    live.look()
    assert live.standing(BTC) == ACCEPTED
    assert live.connected() == {"hyperliquid": True}


async def test_it_runs_until_it_is_stopped(world):
    stopping = asyncio.Event()
    task = asyncio.create_task(world.live.run(stopping))
    world.live.hold("a", BTC)
    await until(lambda: BTC in world.changed)
    stopping.set()
    async with asyncio.timeout(10):
        await task
