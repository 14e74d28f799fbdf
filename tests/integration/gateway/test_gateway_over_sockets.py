"""Both dialects over real sockets: what a page and a program see."""

import json
from contextlib import AsyncExitStack
from datetime import datetime

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from src.models.live import Topic
from src.models.messages import GapReason
from tests.support.gateway_world import ScriptedSource, gateway_world, speaker, until

pytestmark = pytest.mark.integration


class TestTimeAndSales:
    async def test_a_trade_reaches_those_who_asked_in_the_documented_shape(self):
        async with gateway_world() as world, speaker(world) as one, speaker(world) as other:
            await one.say(action="subscribe", symbol="BTC")
            connecting = await one.until("connecting")
            assert connecting == {
                "type": "connecting",
                "symbol": "BTC",
                "message": "Connecting to Hyperliquid stream...",
            }
            assert await one.until("subscribed") == {
                "type": "subscribed",
                "symbol": "BTC",
                "message": "Subscribed to BTC trades",
            }
            assert world.source.wanted["BTC"] == {"trade"}
            world.trade("BTC", "100.25", number=7)
            trade = await one.until("trade")
            assert trade["symbol"] == "BTC"
            data = trade["data"]
            assert (data["price"], data["size"], data["id"], data["side"]) == (100.25, 3, "7", "B")
            assert datetime.fromisoformat(data["timestamp"]).utcoffset().total_seconds() == 0
            assert data["timestamp"].endswith("Z")
            await other.settled()
            assert other.found("trade") == []

    async def test_subscribed_is_said_only_when_the_venue_has_accepted(self):
        async with gateway_world(source=ScriptedSource(accepts=set())) as world, speaker(world) as one:
            await one.say(action="subscribe", symbol="ETH")
            await one.until("connecting")
            await one.settled()
            await until(lambda: "ETH" in world.source.wanted)
            await one.settled()
            assert one.found("subscribed") == []
            world.source.accepts.add("ETH")
            await one.until("subscribed", symbol="ETH")

    async def test_data_proves_that_the_venue_has_accepted(self):
        async with gateway_world(source=ScriptedSource(accepts=set())) as world, speaker(world) as one:
            await one.say(action="subscribe", symbol="ETH")
            await one.until("connecting")
            world.trade("ETH")
            await one.until("subscribed")
            await one.until("trade")

    async def test_a_refusal_is_told_with_a_code_and_the_symbol_is_given_back(self):
        source = ScriptedSource()
        source.refuses["NOPE"] = "the venue has no such coin"
        async with gateway_world(source=source, gateway_release_after_s=0) as world, speaker(world) as one:
            await one.say(action="subscribe", symbol="NOPE")
            error = await one.until("error")
            assert error == {
                "type": "error",
                "code": "upstream_refused",
                "message": "the venue has no such coin",
                "symbol": "NOPE",
            }
            await until(lambda: "NOPE" not in world.source.wanted)
            assert world.gateway.stats()["subscriptions"] == {}

    async def test_several_symbols_and_topics_in_one_message(self):
        async with gateway_world() as world, speaker(world) as one:
            await one.say(action="subscribe", symbols=["BTC", "ETH"], topics=["trades", "book"])
            for symbol in ("BTC", "ETH"):
                await one.until("subscribed", symbol=symbol, message=f"Subscribed to {symbol} trades")
                await one.until("subscribed", symbol=symbol, topic="book")
            world.book("ETH")
            assert (await one.until("orderbook_update"))["symbol"] == "ETH"
            await one.say(action="unsubscribe", symbols=["ETH"], topics=["book"])
            assert (await one.until("unsubscribed"))["message"] == "Unsubscribed from ETH order book"

    async def test_ping_and_health(self):
        async with gateway_world() as world, speaker(world) as one:
            await one.say(action="ping")
            assert await one.until("pong") == {
                "type": "pong",
                "alpaca_connected": False,
                "connected": {"hyperliquid": True},
            }
            await one.say(action="subscribe", symbols=["BTC", "ETH"])
            await one.until("subscribed", count=2)
            await one.say(action="health")
            assert await one.until("health") == {
                "type": "health",
                "alpaca_connected": False,
                "connected": {"hyperliquid": True},
                "active_symbols": ["BTC", "ETH"],
                "total_clients": 1,
            }

    async def test_a_star_means_everything_collected(self):
        async with gateway_world() as world, speaker(world) as one:
            await one.say(action="subscribe", symbols=["*"], venue="hyperliquid")
            await one.until("subscribed", symbol="*")
            world.trade("SOL")
            world.trade("BTC")
            assert (await one.until("trade", symbol="SOL"))["data"]["price"] == 100.5
            await one.until("trade", symbol="BTC")
            await one.say(action="unsubscribe", symbol="*")
            await one.until("unsubscribed")
            world.trade("SOL")
            await one.settled()
            assert len(one.found("trade")) == 2

    async def test_the_last_trades_and_the_book_come_with_the_subscription(self):
        async with gateway_world(gateway_recent_trades=3) as world, speaker(world) as one:
            for number in range(1, 6):
                world.trade("BTC", number=number)
            world.book("BTC", "99.5")
            await until(lambda: world.gateway.board.snapshot(Topic("book", "hyperliquid", "BTC")))
            await one.say(action="subscribe", symbol="BTC", topics=["trade", "book"])
            await one.until("trade", 3)
            assert [trade["data"]["id"] for trade in one.found("trade")] == ["3", "4", "5"]
            assert all(trade["history"] for trade in one.found("trade"))
            assert (await one.until("orderbook_update"))["data"]["bids"][0]["price"] == 99.5

    async def test_a_frame_may_hold_several_messages_where_the_client_asks_for_it(self):
        async with gateway_world() as world, speaker(world, "/ws?batch=1") as one:
            await one.say(action="subscribe", symbols=["BTC", "ETH"], topic="book")
            await one.until("subscribed", count=2)
            world.book("BTC")
            world.book("ETH")
            await one.until("orderbook_update", 2)
            assert any(isinstance(json.loads(frame), list) for frame in one.frames)


class TestMiddleware:
    async def test_a_book_reaches_subscribers_in_the_documented_shape(self):
        async with gateway_world() as world, speaker(world, "/ws/chart-1") as one:
            await one.say(action="subscribe", symbol="BTC")
            assert await one.until() == {"type": "subscription_confirmed", "symbol": "BTC"}
            world.book("BTC", "100.5", time_ms=1_704_110_400_000)
            update = await one.until("orderbook_update")
            assert update == {
                "type": "orderbook_update",
                "symbol": "BTC",
                "venue": "hyperliquid",
                "data": {
                    "bids": [{"price": 100.5, "volume": 1.0, "orders": 1}],
                    "asks": [{"price": 200.0, "volume": 2.5, "orders": 3}],
                    "timestamp": "2024-01-01T12:00:00.000Z",
                },
            }
            await one.say(action="unsubscribe", symbol="BTC")
            assert await one.until("unsubscription_confirmed") == {
                "type": "unsubscription_confirmed",
                "symbol": "BTC",
            }

    async def test_both_spellings_mean_the_same_and_come_back_as_written(self):
        async with gateway_world() as world, speaker(world, "/ws/one") as one, speaker(world, "/ws/two") as two:
            world.source.refuses["AAPL"] = "no such coin"
            await one.say(action="subscribe", symbol="AAPL")
            await two.say(action="subscribe", symbol="US.AAPL")
            await one.until("subscription_confirmed", symbol="AAPL")
            await two.until("subscription_confirmed", symbol="US.AAPL")
            world.book("AAPL", venue="outside")
            assert (await one.until("orderbook_update"))["symbol"] == "AAPL"
            assert (await two.until("orderbook_update"))["symbol"] == "US.AAPL"
            assert world.side.book_subscribers("outside", "AAPL") == 2

    async def test_a_feed_that_dies_is_told(self):
        async with gateway_world() as world, speaker(world, "/ws/one") as one:
            await one.say(action="subscribe", symbol="BTC")
            await one.until("subscription_confirmed")
            world.book("BTC")
            await one.until("orderbook_update")
            world.gap("BTC", GapReason.DISCONNECT)
            status = await one.until("status", state="reconnecting")
            assert (status["symbol"], status["topic"], status["reason"]) == ("BTC", "book", "disconnect")
            world.book("BTC", "101.5")
            await one.until("status", state="live")
            world.gap("BTC", GapReason.STALE)
            await one.until("status", state="stale")

    async def test_a_newcomer_is_told_that_the_feed_is_dead(self):
        async with gateway_world() as world, speaker(world, "/ws/one") as one, speaker(world, "/ws/two") as two:
            await one.say(action="subscribe", symbol="BTC")
            await one.until("subscription_confirmed")
            world.book("BTC")
            world.gap("BTC", GapReason.SILENCE)
            await one.until("status")
            await two.say(action="subscribe", symbol="BTC")
            assert (await two.until("status"))["state"] == "stale"

    async def test_who_comes_back_with_its_id_finds_its_subscriptions(self):
        async with gateway_world() as world:
            async with speaker(world, "/ws/desk-7") as one:
                await one.say(action="subscribe", symbols=["BTC", "ETH"])
                await one.until("subscription_confirmed", count=2)
                await one.say(action="unsubscribe", symbol="ETH")
                await one.until("unsubscription_confirmed")
            await until(lambda: world.gateway.stats()["connections"] == 0)
            async with speaker(world, "/ws/desk-7") as again:
                await again.until("subscription_confirmed", symbol="BTC")
                world.book("BTC")
                await again.until("orderbook_update")
                assert again.found("subscription_confirmed", symbol="ETH") == []
            await until(lambda: world.gateway.stats()["connections"] == 0)
            async with speaker(world, "/ws/desk-7?resume=0") as afresh:
                await afresh.settled()
                assert afresh.found("subscription_confirmed") == []


class TestDemand:
    async def test_the_first_subscriber_makes_the_venue_subscribe_and_the_last_one_releases(self):
        async with gateway_world(gateway_release_after_s=0.2) as world:
            async with speaker(world) as one:
                async with speaker(world) as two:
                    for client in (one, two):
                        await client.say(action="subscribe", symbol="DOGE")
                        await client.until("subscribed")
                    assert world.source.wanted == {"DOGE": {"trade"}}
                await until(lambda: world.gateway.stats()["connections"] == 1)
                await one.settled()
                assert world.source.wanted == {"DOGE": {"trade"}}
            await until(lambda: world.source.wanted == {})

    async def test_a_reload_within_the_grace_period_does_not_reach_the_venue(self):
        async with gateway_world(gateway_release_after_s=30) as world:
            for _ in range(3):
                async with speaker(world) as one:
                    await one.say(action="subscribe", symbol="DOGE")
                    await one.until("subscribed")
                await until(lambda: world.gateway.stats()["connections"] == 0)
            assert world.source.history == [{"DOGE": {"trade"}}]

    async def test_all_clients_together_may_want_only_so_much(self):
        async with gateway_world(gateway_max_symbols=2) as world, speaker(world) as one:
            await one.say(action="subscribe", symbols=["BTC", "ETH", "SOL"])
            error = await one.until("error")
            assert (error["code"], error["symbol"]) == ("limit", "SOL")
            await one.until("subscribed", count=2)


class TestLimits:
    async def test_connections_of_one_client_id(self):
        async with (
            gateway_world(gateway_max_connections_per_client=2) as world,
            speaker(world, "/ws/a") as one,
            speaker(world, "/ws/a"),
            speaker(world, "/ws/b") as other,
            speaker(world, "/ws/a") as third,
        ):
            assert await third.until_closed() == (1008, "Connection limit exceeded")
            await one.settled()
            await other.settled()

    async def test_connections_of_all(self):
        async with (
            gateway_world(gateway_max_connections=2) as world,
            speaker(world) as one,
            speaker(world),
            speaker(world) as third,
        ):
            code, reason = await third.until_closed()
            assert (code, "of the server" in reason) == (1008, True)
            await one.settled()

    async def test_subscriptions_of_one_client_id_count_over_its_connections(self):
        async with (
            gateway_world(gateway_max_subscriptions_per_client=2) as world,
            speaker(world, "/ws/a") as one,
            speaker(world, "/ws/a?resume=0") as two,
        ):
            await one.say(action="subscribe", symbols=["BTC"])
            await one.until("subscription_confirmed")
            await two.say(action="subscribe", symbols=["ETH", "BTC", "SOL"])
            error = await two.until("error")
            assert (error["code"], error["symbol"]) == ("limit", "SOL")
            assert error["message"].startswith("Subscription limit exceeded")
            await two.until("subscription_confirmed", count=2)
            await two.settled()  # the connection is kept

    async def test_too_many_messages(self):
        limits = {"gateway_commands_per_second": 0.1, "gateway_max_subscriptions_per_client": 3}
        async with gateway_world(**limits) as world, speaker(world) as one:
            for _ in range(300):
                await one.say(action="ping")
            assert await one.until_closed() == (1008, "Rate limit exceeded")
            assert len(one.found("pong")) == 6
            assert one.found("error", code="rate_limited")

    async def test_a_message_that_is_too_large(self):
        async with gateway_world(gateway_max_message_kb=1) as world, speaker(world) as one:
            await one.say(action="subscribe", symbols=["A" * 60] * 100)
            assert (await one.until_closed())[0] == 1009

    @pytest.mark.parametrize(
        ("said", "code"),
        [
            ("no json", "bad_json"),
            ("[1]", "bad_request"),
            ('{"action": 3}', "bad_request"),
            ('{"action": "dance"}', "unknown_action"),
            ('{"action": "subscribe"}', "bad_symbol"),
            ('{"action": "subscribe", "symbol": "a b"}', "bad_symbol"),
            ('{"action": "subscribe", "symbol": "BTC", "topic": "weather"}', "bad_request"),
            ('{"action": "subscribe", "symbol": "BTC", "venue": "nasdaq"}', "unknown_venue"),
            ('{"action": "subscribe", "symbol": "BTC", "topic": "order"}', "bad_symbol"),
            (b"\xff\xfe", "bad_json"),
            ("[" * 30_000, "bad_json"),
        ],
    )
    async def test_what_cannot_be_carried_out_is_answered_and_the_connection_kept(self, said, code):
        async with gateway_world() as world, speaker(world) as one:
            await one.socket.send(said)
            assert (await one.until("error"))["code"] == code
            await one.settled()


class TestWhoIsLetIn:
    async def test_a_foreign_origin(self):
        async with gateway_world(allowed_origins="https://desk.example") as world:
            async with speaker(world, origin="http://evil.example") as one:
                code, reason = await one.until_closed()
                assert (code, "ALLOWED_ORIGINS" in reason) == (1008, True)
            async with speaker(world, origin="https://desk.example") as one:
                await one.settled()
            async with speaker(world, origin=world.url) as one:
                await one.settled()

    async def test_a_host_that_is_not_this_machine(self):
        async with gateway_world() as world:
            port = int(world.url.rpartition(":")[2])
            async with connect(f"ws://rebound.example:{port}/ws", proxy=None, host="127.0.0.1", port=port) as socket:
                await socket.wait_closed()
                assert socket.close_code == 1008

    async def test_a_token(self):
        async with gateway_world(gateway_token="s3cret-token") as world:
            async with speaker(world) as one:
                code, reason = await one.until_closed()
                assert (code, reason[:14]) == (1008, "Token required")
            async with speaker(world, "/ws?token=wrong") as one:
                assert await one.until_closed() == (1008, "Token wrong")
            async with speaker(world, "/ws?token=s3cret-token") as one:
                await one.settled()
            async with speaker(world, additional_headers={"Authorization": "Bearer s3cret-token"}) as one:
                await one.settled()
            async with speaker(world, subprotocols=["market-collector.v1", "bearer.s3cret-token"]) as one:
                await one.settled()
                assert one.socket.subprotocol == "market-collector.v1"

    async def test_other_paths_and_a_gateway_that_is_switched_off(self):
        async with gateway_world() as world:
            for path in ("/", "/stats", "/ws/a/b", "/wsx"):
                with pytest.raises(InvalidStatus) as refused:
                    async with speaker(world, path):
                        pass
                assert refused.value.response.status_code == 404, path
        async with gateway_world(gateway_enabled=False) as world:
            with pytest.raises(InvalidStatus):
                async with speaker(world):
                    pass

    async def test_a_client_id_that_is_none(self):
        async with gateway_world() as world, speaker(world, "/ws/%00%01") as one:
            assert (await one.until_closed())[0] == 1008


class TestTheRest:
    async def test_compression_shares_frames_and_reads_the_same(self):
        async with (
            gateway_world(gateway_compression=True) as world,
            speaker(world, compression="deflate") as one,
            speaker(world) as two,
        ):
            for client in (one, two):
                await client.say(action="subscribe", symbol="BTC", topic="book")
                await client.until("subscribed")
            world.book("BTC", levels=50)
            assert (await one.until("orderbook_update")) == (await two.until("orderbook_update"))

    async def test_numbers_are_told(self):
        async with gateway_world() as world, speaker(world, "/ws/a") as one, httpx.AsyncClient() as http:
            await one.say(action="subscribe", symbol="BTC")
            await one.until("subscription_confirmed")
            world.book("BTC")
            await one.until("orderbook_update")
            told = (await http.get(f"{world.url}/stats")).json()["gateway"]
            assert (told["connections"], told["clients"], told["subscriptions"]) == (1, 1, {"BTC": 1})
            assert told["messages_sent"] >= 2
            assert told["latency_ms"]["p99"] is not None
            text = (await http.get(f"{world.url}/metrics")).text
            assert "collector_gateway_connections 1.0" in text

    async def test_clients_are_sent_away_when_the_server_stops(self):
        async with AsyncExitStack() as stack:
            async with gateway_world() as world:
                one = await stack.enter_async_context(speaker(world))
            assert (await one.until_closed())[0] == 1001
