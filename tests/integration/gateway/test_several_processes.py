"""A collecting process and one that only serves clients, sharing live data through a real Redis."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from redis.asyncio.client import PubSub

from tests.support.gateway_world import ScriptedSource, gateway_world, speaker, until

pytestmark = pytest.mark.integration


@asynccontextmanager
async def two(redis, **settings):
    """A collector, and a process whose own sources do not run."""
    async with (
        gateway_world(redis_url=redis.url, **settings) as collector,
        gateway_world(redis_url=redis.url, collecting=False, **settings) as other,
    ):
        for world in (collector, other):
            await until(lambda world=world: world.side.stats()["redis"]["processes"] == 2)
        yield collector, other


async def test_clients_of_another_process_get_what_the_collector_collects(redis_server):
    async with two(redis_server) as (collector, other), speaker(other, "/ws/desk") as one:
        collector.source.accepts = set()
        await one.say(action="subscribe", symbols=["DOGE"], topics=["book", "trade"])
        await until(lambda: collector.source.wanted.get("DOGE") == {"book", "trade"})
        await one.settled()
        assert one.found("subscription_confirmed") == []
        collector.source.accepts.add("DOGE")
        await one.until("subscription_confirmed", count=2)
        collector.book("DOGE", "0.5")
        collector.trade("DOGE", "0.25")
        assert (await one.until("orderbook_update"))["data"]["bids"][0]["price"] == 0.5
        assert (await one.until("trade"))["data"]["price"] == 0.25
        assert other.source.history[-1].get("DOGE") is not None  # remembered for the day it takes over
        await until(lambda: collector.side.book_subscribers("hyperliquid", "DOGE") == 1)


async def test_a_newcomer_elsewhere_gets_the_present_book_at_once(redis_server):
    async with two(redis_server) as (collector, other), speaker(collector, "/ws/a") as first:
        await first.say(action="subscribe", symbol="BTC")
        await first.until("subscription_confirmed")
        collector.book("BTC", "70000.5")
        await first.until("orderbook_update")
        async with speaker(other, "/ws/b") as second:
            await second.say(action="subscribe", symbol="BTC")
            assert (await second.until("orderbook_update"))["data"]["bids"][0]["price"] == 70000.5


async def test_a_newcomer_whose_process_is_slow_to_listen_gets_the_present_book_too(redis_server, monkeypatch):
    monkeypatch.setattr("src.jobs.live.relay.SAY_EVERY_S", 0.05)  # the collector looks again and again meanwhile
    subscribe = PubSub.subscribe

    async def slowly(self, *channels):
        await asyncio.sleep(0.5)
        await subscribe(self, *channels)

    async with two(redis_server) as (collector, other), speaker(collector, "/ws/a") as first:
        await first.say(action="subscribe", symbol="BTC")
        await first.until("subscription_confirmed")
        collector.book("BTC", "70000.5")
        await first.until("orderbook_update")
        monkeypatch.setattr(PubSub, "subscribe", slowly)
        async with speaker(other, "/ws/b") as second:
            await second.say(action="subscribe", symbol="BTC")
            assert (await second.until("orderbook_update"))["data"]["bids"][0]["price"] == 70000.5


async def test_a_refusal_reaches_clients_elsewhere(redis_server):
    source = ScriptedSource()
    source.refuses["NOPE"] = "no such coin"
    async with (
        gateway_world(redis_url=redis_server.url, source=source) as collector,
        gateway_world(redis_url=redis_server.url, collecting=False) as other,
        speaker(other) as one,
    ):
        await until(lambda: collector.side.stats()["redis"]["processes"] == 2)
        await until(lambda: other.side.stats()["redis"]["processes"] == 2)
        await one.say(action="subscribe", symbol="NOPE")
        assert (await one.until("error"))["message"] == "no such coin"


async def test_a_client_that_reconnects_elsewhere_finds_its_subscriptions(redis_server):
    async with two(redis_server) as (collector, other):
        async with speaker(collector, "/ws/desk-7") as one:
            await one.say(action="subscribe", symbols=["BTC", "ETH"])
            await one.until("subscription_confirmed", count=2)
        await until(lambda: not collector.side.relay._memories)
        async with speaker(other, "/ws/desk-7") as again:
            await again.until("subscription_confirmed", symbol="BTC")
            await again.until("subscription_confirmed", symbol="ETH")
            collector.book("ETH")
            assert (await again.until("orderbook_update"))["symbol"] == "ETH"


async def test_what_the_last_client_elsewhere_gives_back_is_released(redis_server):
    async with two(redis_server, gateway_release_after_s=0) as (collector, other):
        async with speaker(other) as one:
            await one.say(action="subscribe", symbol="DOGE")
            await one.until("subscribed")
            assert "DOGE" in collector.source.wanted
        await until(lambda: collector.source.wanted == {})


async def test_without_redis_the_local_gateway_goes_on_and_comes_back_to_it(redis_server):
    async with gateway_world(redis_url=redis_server.url) as world, speaker(world, "/ws/a") as one:
        await until(lambda: world.side.stats()["redis"]["state"] == "ok")
        await redis_server.stop()
        await until(lambda: world.side.stats()["redis"]["state"] == "down")
        await one.say(action="subscribe", symbol="BTC")
        await one.until("subscription_confirmed")
        world.book("BTC", "1.5")
        assert (await one.until("orderbook_update"))["data"]["bids"][0]["price"] == 1.5
        async with speaker(world, "/ws/b") as two_:
            await two_.settled()
        await redis_server.start()
        await until(lambda: world.side.stats()["redis"]["state"] == "ok")


async def test_a_redis_that_never_was_there(unused_tcp_port_of_nobody):
    url = f"redis://127.0.0.1:{unused_tcp_port_of_nobody}/0"
    async with gateway_world(redis_url=url) as world, speaker(world) as one:
        await one.say(action="subscribe", symbol="BTC")
        await one.until("subscribed")
        await until(lambda: world.side.stats()["redis"]["state"] == "down")


@pytest.fixture
def unused_tcp_port_of_nobody():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


async def test_trades_are_told_once_when_redis_comes_back(redis_server):
    async with two(redis_server) as (collector, other), speaker(other) as one:
        await one.say(action="subscribe", symbol="BTC")
        await one.until("subscribed")
        collector.trade("BTC", number=1)
        await one.until("trade")
        await redis_server.stop()
        await until(lambda: collector.side.stats()["redis"]["state"] == "down")
        await until(lambda: other.side.stats()["redis"]["state"] == "down")
        await redis_server.start()
        await until(lambda: collector.side.stats()["redis"]["wanted_elsewhere"] == 1)
        collector.trade("BTC", number=2)
        await one.until("trade", 2)
        assert [trade["data"]["id"] for trade in one.found("trade")] == ["1", "2"]
