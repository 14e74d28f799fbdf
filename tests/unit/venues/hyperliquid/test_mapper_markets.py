"""What frames of Hyperliquid about markets, and its answers to requests, mean."""

from __future__ import annotations

import json

import pytest

from src.models.errors import WireError
from src.models.messages import (
    Ack,
    Book,
    Ignored,
    Level,
    Pong,
    Refusal,
    RefusalKind,
    Trade,
)
from src.models.streams import StreamKey
from src.venues.hyperliquid.wire import KNOWN_BUT_NOT_KEPT
from tests.support.hyperliquid_messages import (
    RECEIVED_MS,
    USER,
    book,
    decode,
    frame,
    reason_of,
    trade,
)

# -- markets -------------------------------------------------------------------------------------------------------


def test_a_book_has_bids_and_asks_best_first():
    data = decode(book())
    assert data.stream == StreamKey("hyperliquid", "l2Book", "BTC", "")
    assert data.messages == (
        Book(
            "hyperliquid",
            "BTC",
            1791278882097,
            RECEIVED_MS,
            (Level("85821.0", "0.96592", 4),),
            (Level("85822.0", "26.98831", None),),
        ),
    )


@pytest.mark.parametrize("extra", [{"fast": True}, {"spread": "1.0"}, {"levels": [[], []]}])
def test_fast_aggregated_and_empty_books_are_books(extra):
    assert isinstance(decode(book(**extra)).messages[0], Book)


def test_trades_are_named_by_time_and_trade_id():
    raw = frame("trades", [trade(), trade(tid=0, time=1791278878127, side=None, users=None, hash=None)])
    data = decode(raw)
    assert data.stream == StreamKey("hyperliquid", "trades", "BTC", "")
    assert data.venue_ms == 1791278878127
    assert data.messages[0] == Trade(
        venue="hyperliquid",
        symbol="BTC",
        trade_id="1791278878126-188095306343783",
        price="85827.0",
        size="0.02721",
        side="B",
        time_ms=1791278878126,
        received_ms=RECEIVED_MS,
        users=("0x04", "0x05"),
        hash="0x" + "0" * 64,
    )
    assert data.messages[1].trade_id == "1791278878127-0"


def test_no_trades_say_nothing():
    assert decode(frame("trades", [])) == Ignored("empty_trades")


# -- control -------------------------------------------------------------------------------------------------------


def test_a_pong_is_a_pong():
    assert decode(b'{"channel":"pong"}') == Pong()


@pytest.mark.parametrize(
    "raw",
    [
        b"Websocket connection established.",
        "Websocket connection established.",
        b" Websocket connection established.\n",
    ],
)
def test_the_greeting_of_older_servers_is_ignored(raw):
    assert decode(raw) == Ignored("greeting")


def test_other_plain_text_is_refused():
    assert reason_of(b"Websocket connection established") == "malformed_json"


@pytest.mark.parametrize(
    ("subscription", "stream"),
    [
        ({"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": False}, ("l2Book", "BTC", "")),
        ({"type": "trades", "coin": "xyz:XYZ100"}, ("trades", "xyz:XYZ100", "")),
        ({"type": "userFills", "user": USER, "aggregateByTime": False}, ("userFills", USER, "")),
        ({"type": "openOrders", "user": USER.upper().replace("X", "x"), "dex": "xyz"}, ("openOrders", USER, "xyz")),
        ({"type": "clearinghouseState", "user": USER, "dex": None}, ("clearinghouseState", USER, "")),
        ({"type": "allMids"}, ("allMids", "", "")),
    ],
)
def test_an_acknowledgement_names_its_stream(subscription, stream):
    for method, subscribed in (("subscribe", True), ("unsubscribe", False)):
        raw = frame("subscriptionResponse", {"method": method, "subscription": subscription})
        assert decode(raw) == Ack(StreamKey("hyperliquid", *stream), subscribed)


_ECHO = json.dumps({"subscription": {"type": "openOrders", "user": "0x" + USER[2:].upper(), "dex": "xyz"}})
_ECHO_STREAM = ("openOrders", USER, "xyz")


@pytest.mark.parametrize(
    ("text", "kind", "stream"),
    [
        ('Already subscribed: {"type":"trades","coin":"ETH"}', RefusalKind.ALREADY_SUBSCRIBED, ("trades", "ETH")),
        ('Already unsubscribed: {"type":"trades","coin":"ETH"}', RefusalKind.ALREADY_UNSUBSCRIBED, ("trades", "ETH")),
        ('Invalid subscription {"type":"l2Book","coin":"NOPE"}', RefusalKind.INVALID, ("l2Book", "NOPE")),
        (f"Already subscribed: {_ECHO}", RefusalKind.ALREADY_SUBSCRIBED, _ECHO_STREAM),
        (f"Error parsing JSON into valid websocket request: {_ECHO}", RefusalKind.UNKNOWN_TYPE, _ECHO_STREAM),
        ("Cannot track more than 10 total users.", RefusalKind.USER_CAP, None),
        ("Cannot track more than 15 total users.", RefusalKind.USER_CAP, None),
        ("Cannot subscribe to more than 1000 channels.", RefusalKind.SUBSCRIPTION_CAP, None),
        ("Cannot send more than 2000 messages per minute.", RefusalKind.MESSAGE_RATE, None),
        ("too many pending post requests id=1234", RefusalKind.POST_CAP, None),
        ("Something entirely new", RefusalKind.OTHER, None),
        ("", RefusalKind.OTHER, None),
    ],
)
def test_a_refusal_is_told_by_its_text(text, kind, stream):
    expected = None if stream is None else StreamKey("hyperliquid", *stream)
    assert decode(frame("error", text)) == Refusal(kind, text, expected)


@pytest.mark.parametrize(
    "echo",
    [
        "{",
        "{}",
        '{"method":"foo"}',
        '{"subscription":null}',
        '{"subscription":[1]}',
        '{"type":5}',
        '{"type":"openOrders","user":"nobody"}',
        '{"type":"\\ud800"}',
        '{"type":"a\\u0000b"}',
        '{"type":"' + "x" * 65 + '"}',
        '{"type":"trades","coin":"' + "x" * 65 + '"}',
        '{"a":' * 3_000 + "1" + "}" * 3_000,
        '{"type":' + "9" * 5_000 + "}",
        '{"type":"trades","coin":"ETH"} and more',
    ],
)
def test_an_echo_that_cannot_be_read_names_no_stream(echo):
    refusal = decode(frame("error", f"Error parsing JSON into valid websocket request: {echo}"))
    assert refusal.kind is RefusalKind.UNKNOWN_TYPE
    assert refusal.stream is None
    assert len(refusal.text) <= 300


@pytest.mark.parametrize("channel", sorted(KNOWN_BUT_NOT_KEPT))
def test_channels_that_are_not_kept_are_ignored_by_name(channel):
    assert decode(frame(channel, {"anything": [1]})) == Ignored(channel)
    assert decode(frame(channel, None)) == Ignored(channel)


def test_an_unknown_channel_is_refused_by_name():
    with pytest.raises(WireError) as caught:
        decode(frame("brandNew", {}))
    assert (caught.value.reason, caught.value.detail) == ("unknown_channel", "brandNew")
