"""Hyperliquid's five answers, and what is subscribed for a trader or a coin."""

from __future__ import annotations

import json

import pytest

from src.models.errors import WireError
from src.models.messages import Ack, Pong
from src.models.streams import StreamKey
from src.venues.feed import Feed, Heartbeat, VenueLimits
from src.venues.hyperliquid.feed import (
    BOOK_SILENT_S,
    FAST_BOOK_SILENT_S,
    MAX_FRAME_BYTES,
    STATE_SILENT_S,
    STATE_STALE_S,
    WEB_DATA2_SILENT_S,
    FeedChoice,
    HyperliquidFeed,
    TraderStreams,
    market_subscriptions,
)

TRADER = "0x00000000000000000000000000000000000000aa"
URL = "wss://api.hyperliquid.xyz/ws"


@pytest.fixture
def feed() -> Feed:
    return HyperliquidFeed(URL, max_users=10)


def streams(**fields) -> TraderStreams:
    return TraderStreams(**{"feed": "split", "orders": True, "positions": True, "fills": False, **fields})


def test_where_to_connect(feed):
    endpoint = feed.endpoint()
    assert (endpoint.url, endpoint.proxy, endpoint.binary) == (URL, None, False)
    assert endpoint.max_size_bytes == MAX_FRAME_BYTES
    assert (
        HyperliquidFeed(URL, max_users=10, proxy="http://127.0.0.1:3128").endpoint().proxy == "http://127.0.0.1:3128"
    )


def test_the_published_limits(feed):
    assert feed.venue == "hyperliquid"
    assert feed.limits == VenueLimits(
        connections=10, connects_per_minute=30, subscriptions=1_000, users=10, messages_per_minute=2_000
    )
    assert HyperliquidFeed(URL, max_users=15).limits.users == 15


def test_the_ping_comes_well_before_the_server_loses_patience(feed):
    assert json.loads(feed.ping_frame()) == {"method": "ping"}
    assert feed.heartbeat.ping_every_s + feed.heartbeat.deadline_s < 50
    assert HyperliquidFeed(URL, max_users=1, heartbeat=Heartbeat(1.0, 2.0)).heartbeat == Heartbeat(1.0, 2.0)


def test_unsubscribing_names_the_same_subscription(feed):
    subscriptions = [
        *streams(fills=True, history=True, dexes=("xyz",)).subscriptions(TRADER),
        *market_subscriptions(["BTC", "@107"], books=True, trades=True, fast_books=True),
    ]
    for subscription in subscriptions:
        asked, taken_back = (
            json.loads(make(subscription)) for make in (feed.subscribe_frame, feed.unsubscribe_frame)
        )
        assert asked == {"method": "subscribe", "subscription": dict(subscription.args)}
        assert taken_back == {"method": "unsubscribe", "subscription": dict(subscription.args)}


def test_the_acknowledgement_of_every_subscription_names_its_stream(feed):
    subscriptions = [
        *streams(fills=True, history=True, dexes=("xyz",)).subscriptions(TRADER),
        *streams(feed="webData2").subscriptions(TRADER),
        *market_subscriptions(["BTC", "PURR/USDC"], books=True, trades=True, fast_books=True),
    ]
    assert len({subscription.key for subscription in subscriptions}) == len(subscriptions)
    for subscription in subscriptions:
        echo = {"channel": "subscriptionResponse", "data": json.loads(feed.subscribe_frame(subscription))}
        assert feed.decode(json.dumps(echo).encode(), 1) == Ack(subscription.key, subscribed=True)


def test_a_trader_is_followed_by_positions_and_orders():
    found = streams().subscriptions(TRADER)
    assert [dict(subscription.args) for subscription in found] == [
        {"type": "clearinghouseState", "user": TRADER},
        {"type": "openOrders", "user": TRADER},
    ]
    assert {subscription.user for subscription in found} == {TRADER}
    assert {subscription.silent_after_s for subscription in found} == {STATE_SILENT_S}
    assert [subscription.stale_after_s for subscription in found] == [STATE_STALE_S, None]  # orders carry no time


@pytest.mark.parametrize(
    ("kinds", "types"),
    [
        ({"positions": False}, ["openOrders"]),
        ({"orders": False}, ["clearinghouseState"]),
        ({"orders": False, "positions": False}, []),
        ({"orders": False, "positions": False, "fills": True}, ["userFills"]),
        ({"fills": True}, ["clearinghouseState", "openOrders", "userFills"]),
        ({"positions": False, "history": True}, ["openOrders", "userHistoricalOrders"]),
        ({"feed": "webData2"}, ["webData2"]),
        ({"feed": "webData2", "orders": False}, ["webData2"]),
        ({"feed": "webData2", "positions": False, "fills": True}, ["webData2", "userFills"]),
        ({"feed": "webData2", "orders": False, "positions": False}, []),
    ],
)
def test_only_what_is_wanted_is_subscribed(kinds, types):
    assert [subscription.args["type"] for subscription in streams(**kinds).subscriptions(TRADER)] == types


def test_builder_dexes_are_subscribed_beside_the_main_one():
    found = streams(dexes=("xyz", "abc")).subscriptions(TRADER)
    assert [(s.args["type"], s.args.get("dex"), s.key.dex) for s in found] == [
        ("clearinghouseState", None, ""),
        ("openOrders", None, ""),
        ("clearinghouseState", "xyz", "xyz"),
        ("openOrders", "xyz", "xyz"),
        ("clearinghouseState", "abc", "abc"),
        ("openOrders", "abc", "abc"),
    ]


def test_fills_may_be_quiet_for_ever():
    [fills] = streams(orders=False, positions=False, fills=True).subscriptions(TRADER)
    assert (fills.silent_after_s, fills.stale_after_s) == (None, None)


def test_web_data2_is_given_more_time():
    [legacy] = streams(feed="webData2").subscriptions(TRADER)
    assert legacy.silent_after_s == WEB_DATA2_SILENT_S
    assert legacy.stale_after_s == STATE_STALE_S


def test_books_and_trades_of_coins():
    found = market_subscriptions(["BTC", "ETH"], books=True, trades=True, fast_books=False)
    assert [dict(subscription.args) for subscription in found] == [
        {"type": "l2Book", "coin": "BTC"},
        {"type": "trades", "coin": "BTC"},
        {"type": "l2Book", "coin": "ETH"},
        {"type": "trades", "coin": "ETH"},
    ]
    assert [subscription.silent_after_s for subscription in found] == [BOOK_SILENT_S, None] * 2
    assert {subscription.user for subscription in found} == {None}
    assert found[0].key == StreamKey("hyperliquid", "l2Book", "BTC")


def test_fast_books_are_asked_for_and_watched_closer():
    [book] = market_subscriptions(["BTC"], books=True, trades=False, fast_books=True)
    assert dict(book.args) == {"type": "l2Book", "coin": "BTC", "fast": True}
    assert book.silent_after_s == FAST_BOOK_SILENT_S


def test_neither_books_nor_trades():
    assert market_subscriptions(["BTC"], books=False, trades=False, fast_books=True) == []
    assert market_subscriptions([], books=True, trades=True, fast_books=True) == []


def test_frames_are_decoded(feed):
    assert feed.decode(b'{"channel":"pong"}', 1) == Pong()
    with pytest.raises(WireError):
        feed.decode(b"[]", 1)


@pytest.mark.parametrize("channel", ["clearinghouseState", "openOrders"])
def test_automatic_choice_falls_back_once(channel):
    choice = FeedChoice("auto")
    assert choice.current == "split"
    assert choice.refused(channel) is True
    assert choice.current == "webData2"
    assert choice.refused(channel) is False
    assert choice.refused("webData2") is False
    assert choice.current == "webData2"


@pytest.mark.parametrize("channel", ["userFills", "l2Book", "trades", "webData2"])
def test_the_refusal_of_another_channel_changes_nothing(channel):
    choice = FeedChoice("auto")
    assert choice.refused(channel) is False
    assert choice.current == "split"


@pytest.mark.parametrize("setting", ["split", "webData2"])
def test_a_choice_made_by_hand_stays(setting):
    choice = FeedChoice(setting)
    assert choice.current == setting
    assert choice.refused("openOrders") is False
    assert choice.current == setting
