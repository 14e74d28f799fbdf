"""The same over real sockets: rotation, polls, and several egress addresses through real proxies."""

import asyncio
import contextlib
import time

import pytest

from src.config import Settings
from src.jobs.hyperliquid.source import HyperliquidSource, Pace
from src.models.metrics import Metrics
from src.venues.clock import SystemClock
from src.venues.feed import Heartbeat
from src.venues.hyperliquid.simulator import Cadences, HyperliquidSimulator, Limits, MarketConfig, SimulatorConfig
from src.venues.timing import Timing
from tests.support.forward_proxy import forward_proxy
from tests.support.virtual_venue import Notes

pytestmark = pytest.mark.integration
PACE = Pace(Timing(tick_s=0.05, retry_first_s=0.05), Heartbeat(20.0, 10.0))


async def until(condition, what, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def a_source(simulator, *egress, **settings):
    clock = SystemClock()
    notes = Notes(clock)
    source = HyperliquidSource(
        Settings(
            hyperliquid_ws_url=simulator.ws_url,
            hyperliquid_api_url=simulator.api_url,
            hyperliquid_coins=(),
            hyperliquid_egress=egress or ("direct",),
            trader_ws_clients=2,
            **settings,
        ),
        sink=notes,
        clock=clock,
        metrics=Metrics(),
        pace=PACE,
    )
    running = asyncio.create_task(source.run())
    try:
        yield source, notes
    finally:
        await source.close()
        await asyncio.wait_for(running, 15)


def a_simulator(traders=24, **config):
    market = MarketConfig(traders=traders, actions_per_s=5.0, orders_per_trader=4, positions_per_trader=2)
    return HyperliquidSimulator(SimulatorConfig(market=market, cadences=Cadences.quick(0.5), **config))


def everybody_was_looked_at(source):
    return all(source.looks[trader].looked_at is not None for trader in source.followed)


async def test_rotation_over_sockets_keeps_to_the_limits():
    async with (
        a_simulator() as simulator,
        a_source(simulator, hyperliquid_max_users=4, hyperliquid_pinned=2) as (source, notes),
    ):
        promised = {}
        notes.listeners.append(lambda data: promised.setdefault(data.stream.subject, set()).add(data.within_s))
        source.follow(simulator.traders)
        await until(lambda: everybody_was_looked_at(source), "a look at everybody")
        modes = source.status()["following"]["modes"]
        assert modes["live"] == 2
        assert modes["rotation"] == 22
        assert sum(values == {None} for values in promised.values()) == 2  # the live ones carry no promise
        usage = simulator.limits.of("127.0.0.1")
        assert not usage.refused
        assert not notes.refusals


async def test_where_users_stay_counted_batches_of_looks_go_on():
    async with (
        a_simulator(users_freed="connection", limits=Limits(users=4, connects_per_minute=None)) as simulator,
        a_source(simulator, hyperliquid_max_users=4, hyperliquid_pinned=2, hyperliquid_rotation="connection") as (
            source,
            notes,
        ),
    ):
        source.follow(simulator.traders[:8])
        await until(lambda: everybody_was_looked_at(source), "a look at everybody")
        assert not notes.refusals
        assert simulator.connects > 3  # a connection for each batch


async def test_polling_over_sockets_shows_the_same_streams():
    async with (
        a_simulator(traders=6) as simulator,
        a_source(simulator, hyperliquid_max_users=1, hyperliquid_rotation="never", hyperliquid_look_within=20.0) as (
            source,
            notes,
        ),
    ):
        seen = set()
        notes.listeners.append(lambda data: seen.add((data.stream.channel, data.stream.subject)))
        source.follow(simulator.traders)
        await until(lambda: everybody_was_looked_at(source), "a poll of everybody")
        assert seen >= {(c, t) for t in simulator.traders for c in ("openOrders", "clearinghouseState")}
        assert not simulator.limits.of("127.0.0.1").refused


async def test_each_egress_address_has_its_own_limits():
    async with (
        forward_proxy("127.0.0.2") as second,
        forward_proxy("127.0.0.3") as third,
        a_simulator(traders=30, limits=Limits(users=3)) as simulator,
        a_source(simulator, "direct", second.url, third.url, hyperliquid_max_users=3, hyperliquid_pinned=1) as (
            source,
            notes,
        ),
    ):
        source.follow(simulator.traders)
        await until(lambda: everybody_was_looked_at(source), "a look at everybody")
        assert second.tunnels >= 2
        assert third.tunnels >= 2
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            usage = simulator.limits.of(address)
            assert not usage.refused, (address, usage.refused)
            assert usage.connections >= 1
        assert not notes.refusals
        answer = await source.rests[1].exchange_status()
        assert answer.time > 0
        assert second.requests + second.tunnels >= 3  # REST leaves through it as well
        assert source.status()["following"]["modes"]["live"] == 3
