"""The gateway of the running program, against the simulated venue."""

import json
import time

import pytest
from websockets.sync.client import connect

from tests.support.program import running
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(mongod, tmp_path_factory):
    with simulated_venue(traders=2) as venue:
        settings = {
            **venue.urls,
            "MONGODB_URI": mongod.uri,
            "MONGODB_DATABASE": "gateway_of_the_program",
            "HYPERLIQUID_TRADERS": venue.traders[0],
            "HYPERLIQUID_MAX_USERS": "1",
            "HYPERLIQUID_COINS": "BTC",
            "GATEWAY_RELEASE_AFTER_S": "0.5",
        }
        with running(tmp_path_factory.mktemp("program"), **settings) as program:
            program.banner()
            program.until_stats(lambda stats: stats["states"].get("fresh", 0) >= 3)
            yield program, venue


def until(socket, kind, timeout_s=60.0, **fields):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        message = json.loads(socket.recv(timeout=timeout_s))
        if message["type"] == kind and fields.items() <= message.items():
            return message
    raise AssertionError(f"no {kind} with {fields}")


def opened(program, path):
    return connect(program.url.replace("http", "ws", 1) + path, proxy=None)


def test_a_configured_coin_and_one_that_only_a_client_wants(world):
    program, _ = world
    with opened(program, "/ws/desk") as socket:
        socket.send(json.dumps({"action": "subscribe", "symbols": ["BTC", "ETH"]}))
        until(socket, "subscription_confirmed", symbol="BTC")
        until(socket, "subscription_confirmed", symbol="ETH")
        book = until(socket, "orderbook_update", symbol="ETH")
        assert len(book["data"]["bids"]) > 1
        assert book["data"]["bids"][0]["price"] < book["data"]["asks"][0]["price"]
        assert "hyperliquid/l2Book/ETH" in program.stats()["streams"]
    program.until_stats(lambda stats: "hyperliquid/l2Book/ETH" not in stats["streams"])
    assert "hyperliquid/l2Book/BTC" in program.stats()["streams"]


def test_trades_and_orders_of_a_followed_trader(world):
    program, venue = world
    with opened(program, "/ws") as socket:
        socket.send(json.dumps({"action": "subscribe", "symbol": "BTC"}))
        until(socket, "subscribed", symbol="BTC")
        trade = until(socket, "trade", symbol="BTC")
        assert trade["data"]["price"] > 0
        socket.send(json.dumps({"action": "subscribe", "symbol": venue.traders[0], "topic": "orders"}))
        until(socket, "subscribed", symbol=venue.traders[0])
        order = until(socket, "order", symbol=venue.traders[0])
        assert order["data"]["action"] in ("new", "updated", "closed")
        socket.send(json.dumps({"action": "subscribe", "symbol": "0x" + "de" * 20, "topic": "orders"}))
        assert until(socket, "error")["code"] == "not_followed"
        socket.send(json.dumps({"action": "health"}))
        assert until(socket, "health")["connected"]["hyperliquid"] is True


def test_a_coin_the_venue_does_not_have(world):
    program, _ = world
    with opened(program, "/ws") as socket:
        socket.send(json.dumps({"action": "subscribe", "symbol": "NOSUCHCOIN"}))
        until(socket, "connecting")
        assert until(socket, "error", symbol="NOSUCHCOIN")["code"] == "upstream_refused"


def test_clients_are_sent_away_when_the_program_stops(world):
    program, _ = world
    with opened(program, "/ws") as socket:
        socket.send('{"action": "ping"}')
        assert until(socket, "pong")["connected"]["hyperliquid"] is True
        code, _ = program.stop()
        assert code == 0
        with pytest.raises(Exception) as ended:
            until(socket, "never")
        assert "1001" in str(ended.value)
