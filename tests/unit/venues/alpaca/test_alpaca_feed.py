"""Where Alpaca's feeds are, what we say to them, and when they have to speak."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from src.venues.alpaca.feed import AlpacaFeed, most_symbols, subscriptions_of
from src.venues.feed import BatchFeed, HoursFeed, LoginFeed


def feed(name: str = "iex", encoding: str = "json", **more) -> AlpacaFeed:
    return AlpacaFeed("wss://stream.example/", feed=name, key="K", secret="S", encoding=encoding, **more)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("iex", "/v2/iex"),
        ("sip", "/v2/sip"),
        ("delayed_sip", "/v2/delayed_sip"),
        ("test", "/v2/test"),
        ("boats", "/v1beta1/boats"),
    ],
)
def test_each_feed_has_its_path_and_says_which_encoding_it_wants(name: str, path: str) -> None:
    endpoint = feed(name, "msgpack").endpoint()
    assert endpoint.url == f"wss://stream.example{path}"
    assert endpoint.headers == {"Content-Type": "application/msgpack"}
    assert endpoint.binary
    assert feed(name).endpoint().headers == {"Content-Type": "application/json"}
    assert not feed(name).endpoint().binary


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_what_we_say_is_in_the_chosen_encoding(encoding: str) -> None:
    one = feed(encoding=encoding)
    decode = json.loads if encoding == "json" else msgspec.msgpack.decode
    wanted = subscriptions_of(["AAPL", "TSLA"], ["trades", "statuses"])
    lists = {"trades": ["AAPL", "TSLA"], "statuses": ["AAPL", "TSLA"]}
    assert [decode(frame) for frame in one.login_frames()] == [{"action": "auth", "key": "K", "secret": "S"}]
    assert [decode(frame) for frame in one.subscribe_frames(wanted)] == [{"action": "subscribe", **lists}]
    assert [decode(frame) for frame in one.unsubscribe_frames(wanted)] == [{"action": "unsubscribe", **lists}]
    assert decode(one.subscribe_frame(wanted[0])) == {"action": "subscribe", "trades": ["AAPL"]}
    assert isinstance(one.subscribe_frame(wanted[0]), str if encoding == "json" else bytes)


def test_it_has_every_capability_that_the_machinery_asks_for() -> None:
    assert all(isinstance(feed(), kind) for kind in (LoginFeed, BatchFeed, HoursFeed))
    assert feed(max_subscriptions=30).limits.connections == 1
    assert feed(max_subscriptions=30).limits.subscriptions == 30


def test_stocks_come_whole_so_that_a_limit_cuts_between_them() -> None:
    keys = [
        f"{one.key.subject}/{one.key.channel}"
        for one in subscriptions_of(["A", "B"], ["trades", "quotes"], silent_after_s=9)
    ]
    assert keys == ["A/trades", "A/quotes", "B/trades", "B/quotes"]
    silent = [one.silent_after_s for one in subscriptions_of(["A"], ["trades", "quotes"], silent_after_s=9)]
    assert silent == [9, None]


@pytest.mark.parametrize(
    ("name", "setting", "most"),
    [("iex", 0, 30), ("delayed_sip", 0, 30), ("sip", 0, None), ("sip", 7, 7), ("iex", 500, 500)],
)
def test_how_many_stocks(name: str, setting: int, most: int | None) -> None:
    assert most_symbols(name, setting) == most


@pytest.mark.parametrize(
    ("name", "moment", "expected"),
    [
        ("sip", "2025-12-12T14:31:00", True),
        ("sip", "2025-12-12T21:05:00", False),
        ("delayed_sip", "2025-12-12T14:31:00", False),
        ("delayed_sip", "2025-12-12T21:05:00", True),
        ("sip", "2025-12-13T15:00:00", False),
        ("test", "2025-12-13T15:00:00", True),
        ("boats", "2025-12-12T15:00:00", False),
    ],
)
def test_when_silence_means_something(name: str, moment: str, expected: bool) -> None:
    assert feed(name).expects_data(ms(moment)) is expected
