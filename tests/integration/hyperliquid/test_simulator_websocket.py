"""Subscribing, acknowledgements, error texts, pings, posts and cadences over a real socket."""

import json

import msgspec
import pytest

from src.models.clock import ManualClock
from src.venues.hyperliquid.simulator import Cadences, SimulatorConfig

pytestmark = pytest.mark.integration
LIVE = {"open", "triggered"}


async def test_every_feed_is_acknowledged_and_pushes(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    user = sim.traders[0]
    for kind in ("clearinghouseState", "openOrders", "allDexsClearinghouseState", "spotState", "webData3"):
        await client.subscribe(kind, user=user)
    for kind in ("userFills", "userHistoricalOrders", "orderUpdates", "userEvents"):
        await client.subscribe(kind, user=user)
    for kind in ("l2Book", "trades", "bbo", "activeAssetCtx"):
        await client.subscribe(kind, coin="BTC")
    await client.subscribe("allMids")
    await client.subscribe("candle", coin="BTC", interval="1m")
    for channel in (
        "clearinghouseState", "openOrders", "allDexsClearinghouseState", "spotState", "webData3", "userFills",
        "userHistoricalOrders", "orderUpdates", "user", "l2Book", "trades", "bbo", "activeAssetCtx", "allMids", "candle",
    ):  # fmt: skip
        await client.wait(channel, 2 if channel not in ("candle", "userFills") else 1)
    assert len(await client.wait("subscriptionResponse", 15)) == 15
    assert client.data("error") == []


async def test_the_history_of_orders_begins_with_a_snapshot_and_goes_on_without_a_flag(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    user = sim.traders[0]
    await client.subscribe("userHistoricalOrders", user=user)
    first, *later = await client.wait("userHistoricalOrders", 6)
    assert (first["user"], first["isSnapshot"]) == (user, True)
    assert all("isSnapshot" not in data and data["user"] == user for data in later)
    told = [row for data in (first, *later) for row in data["orderHistory"]]
    assert {"order", "status", "statusTimestamp"} == set(told[0])
    assert {"orderType", "tif", "children"} <= set(told[0]["order"])
    truth = {(e.oid, e.reason or "filled", e.time_ms) for e in sim.truth.of("filled", "canceled") if e.trader == user}
    ends = {(r["order"]["oid"], r["status"], r["statusTimestamp"]) for r in told if r["status"] not in LIVE}
    assert ends <= truth


async def test_states_move_on_and_carry_growing_times(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    await client.subscribe("clearinghouseState", user=sim.traders[0])
    states = await client.wait("clearinghouseState", 6)
    times = [state["clearinghouseState"]["time"] for state in states]
    assert times == sorted(times)
    assert len(set(times)) > 3


async def test_unsubscribing_stops_the_feed(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    await client.subscribe("l2Book", coin="BTC")
    await client.subscribe("l2Book", coin="ETH")
    await client.wait("l2Book", 2)
    await client.unsubscribe("l2Book", coin="BTC")
    await client.wait("subscriptionResponse", 3)
    client.frames.clear()
    books = await client.wait("l2Book", 5)
    assert {book["coin"] for book in books} == {"ETH"}


async def test_texts_of_errors(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    await client.subscribe("trades", coin="BTC")
    await client.subscribe("trades", coin="BTC")
    await client.unsubscribe("trades", coin="ETH")
    await client.subscribe("trades", coin="NOPE")
    unknown = '{"method": "subscribe", "subscription": {"type": "noSuchType", "coin": "BTC"}}'
    await client.send(unknown)
    await client.send("{broken")
    await client.send('{"method":"dance"}')
    await client.send("[]")
    errors = await client.wait("error", 7)
    assert errors == [
        'Already subscribed: {"type":"trades","coin":"BTC"}',
        'Already unsubscribed: {"type":"trades","coin":"ETH"}',
        'Invalid subscription {"type":"trades","coin":"NOPE"}',
        f"Error parsing JSON into valid websocket request: {unknown}",
        "Error parsing JSON into valid websocket request: {broken",
        'Error parsing JSON into valid websocket request: {"method":"dance"}',
        "Error parsing JSON into valid websocket request: []",
    ]
    await client.send({"method": "ping"})
    await client.wait("pong")


async def test_the_recorded_texts_are_the_same(venue, quick_config):
    """As in the recordings of 2026-07-28 and 2026-09-03."""
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    await client.send({"method": "ping"})
    await client.wait("pong")
    assert client.frames[0] == {"channel": "pong"}
    await client.subscribe("bbo", coin="BTC")
    acknowledged = await client.wait("subscriptionResponse")
    assert acknowledged[0] == {"method": "subscribe", "subscription": {"type": "bbo", "coin": "BTC"}}
    await client.unsubscribe("bbo", coin="BTC")
    acknowledged = await client.wait("subscriptionResponse", 2)
    assert acknowledged[1] == {"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}}


async def test_web_data2_is_refused_today_and_all_there_was_before(venue, quick_config):
    modern = await venue.start(quick_config)
    client = await venue.connect(modern)
    await client.subscribe("webData2", user=modern.traders[0])
    (error,) = await client.wait("error")
    assert error.startswith("Error parsing JSON into valid websocket request: ")
    legacy = await venue.start(msgspec.structs.replace(quick_config, legacy=True))
    old = await venue.connect(legacy)
    await old.subscribe("openOrders", user=legacy.traders[0])
    await old.subscribe("webData2", user=legacy.traders[0])
    (error,) = await old.wait("error")
    assert "openOrders" in error
    frames = await old.wait("webData2", 3)
    assert {row["coin"].partition(":")[1] for frame in frames for row in frame["openOrders"]} == {""}
    assert frames[-1]["serverTime"] >= frames[0]["serverTime"]


async def test_trades_are_replayed_at_each_subscribe(venue, quick_config, wait_until):
    sim = await venue.start(quick_config)
    await wait_until(lambda: len(sim.market.exchange.recent_trades["BTC"]) >= 5)
    sim.market.freeze()
    client = await venue.connect(sim)
    await client.subscribe("trades", coin="BTC")
    (first,) = await client.wait("trades")
    await client.unsubscribe("trades", coin="BTC")
    await client.subscribe("trades", coin="BTC")
    again = await client.wait("trades", 2)
    assert again[1] == first
    assert {trade["tid"] for trade in first} == {t.tid for t in sim.market.exchange.recent_trades["BTC"]}


async def test_fills_begin_with_a_snapshot_and_go_on_without_the_flag(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    await client.subscribe("userFills", user=sim.traders[0])
    fills = await client.wait("userFills", 3)
    assert fills[0]["isSnapshot"] is True
    assert all("isSnapshot" not in frame for frame in fills[1:])
    told = [fill["tid"] for frame in fills for fill in frame["fills"]]
    assert len(told) == len(set(told))


async def test_posts_are_answered_with_their_id(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    request = {"type": "info", "payload": {"type": "l2Book", "coin": "ETH", "nSigFigs": 5, "mantissa": None}}
    await client.send({"method": "post", "id": 7, "request": request})
    (answer,) = await client.wait("post")
    assert answer["id"] == 7
    assert answer["response"]["type"] == "info"
    assert answer["response"]["payload"]["type"] == "l2Book"
    assert answer["response"]["payload"]["data"]["coin"] == "ETH"
    await client.send({"method": "post", "id": 8, "request": {"type": "info", "payload": {"type": "nope"}}})
    answers = await client.wait("post", 2)
    assert answers[1]["response"]["type"] == "error"
    await client.send({"method": "post", "id": 9})
    assert "Error parsing JSON" in (await client.wait("error"))[0]


async def test_a_connection_to_which_nothing_is_sent_is_closed(venue, wait_until):
    clock = ManualClock()
    sim = await venue.start(SimulatorConfig(), clock=clock)
    idle, pinging = await venue.connect(sim), await venue.connect(sim)
    await wait_until(lambda: len(sim.sessions) == 2)
    clock.advance(59.0)
    await pinging.send({"method": "ping"})
    await pinging.wait("pong")
    clock.advance(2.0)
    assert await idle.ended() == 1000
    await pinging.send({"method": "ping"})
    await pinging.wait("pong", 2)


async def test_cadences_follow_the_clock(venue, wait_until):
    clock = ManualClock()
    sim = await venue.start(SimulatorConfig(cadences=Cadences()), clock=clock)
    client = await venue.connect(sim)
    await client.subscribe("l2Book", coin="BTC")
    await client.subscribe("l2Book", coin="ETH", fast=True)
    await client.wait("l2Book", 2)
    for _ in range(20):
        count = len(client.data("l2Book"))
        clock.advance(0.5)
        await client.wait("l2Book", count + 1)
    await client.send({"method": "ping"})
    await client.wait("pong")
    coins = [book["coin"] for book in client.data("l2Book")]
    assert coins.count("ETH") == 21
    assert coins.count("BTC") == 3


async def test_only_the_right_path_is_a_websocket(venue, quick_config):
    sim = await venue.start(quick_config)
    sim.ws_url = sim.ws_url.replace("/ws", "/other")
    with pytest.raises(Exception, match="404"):
        await venue.connect(sim)


async def test_compression_is_offered_when_configured(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, compression=True))
    client = await venue.connect(sim)
    assert "permessage-deflate" in client.ws.response.headers["Sec-WebSocket-Extensions"]
    await client.subscribe("l2Book", coin="BTC")
    await client.wait("l2Book", 2)


async def test_frames_are_compact_json(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    client.task.cancel()
    await client.subscribe("l2Book", coin="BTC")
    await client.ws.recv()
    text = await client.ws.recv()
    assert json.dumps(json.loads(text), separators=(",", ":")) == text
