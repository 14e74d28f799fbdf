"""One client: what it may say, what waits for it, what is dropped."""

import json

import pytest

from src.api.gateway.dialects import Middleware, TimeAndSales
from src.api.gateway.frames import Frame
from src.api.gateway.session import Asked, Began, Client, Ended, Limits, Session, SubKey
from src.models.live import Topic

BTC = Topic("trade", "hyperliquid", "BTC")


def session(dialect=None, *, client=None, **limits):
    client = Client("c") if client is None else client
    return Session("client:1", dialect or TimeAndSales(), client, Limits(**limits), 0.0)


def say(one, now=0.0, **command):
    return one.receive(json.dumps(command), now)


def heard(one):
    return [json.loads(frame.payload) for frame in one.take()]


def subscribed(one, symbol="BTC", topic=BTC):
    (began,) = say(one, action="subscribe", symbol=symbol)
    one.aim(began.key, [topic])
    one.add_routes(began.key)
    one.confirm(began.key)
    one.take()
    return began.key


def test_a_symbol_alone_means_what_the_dialect_is_for():
    assert say(session(), action="subscribe", symbol="BTC") == [Began(SubKey("trade", "BTC"))]
    assert say(session(Middleware()), action="subscribe", symbol="BTC") == [Began(SubKey("book", "BTC"))]
    address = "0x" + "ab" * 20
    assert say(session(), action="subscribe", symbol=address) == [
        Began(SubKey("order", address)),
        Began(SubKey("position", address)),
    ]


def test_a_repeated_subscribe_is_confirmed_again_and_asks_for_nothing():
    one = session()
    key = subscribed(one)
    assert say(one, action="subscribe", symbol="BTC") == []
    assert [message["type"] for message in heard(one)] == ["subscribed"]
    assert one.client.keys == {key: 1}.keys()


def test_an_unsubscribe_of_the_unknown_is_confirmed():
    one = session()
    assert say(one, action="unsubscribe", symbol="XYZ") == []
    assert heard(one) == [{"type": "unsubscribed", "symbol": "XYZ", "message": "Unsubscribed from XYZ trades"}]


def test_an_unsubscribe_without_a_venue_means_all_of_that_symbol():
    one = session()
    say(one, action="subscribe", symbol="BTC", venue="hyperliquid")
    say(one, action="subscribe", symbol="BTC")
    assert say(one, action="unsubscribe", symbol="BTC") == [
        Ended(SubKey("trade", "BTC", "hyperliquid")),
        Ended(SubKey("trade", "BTC")),
    ]
    assert len(one.client) == 0


def test_what_waits_of_an_unsubscribed_symbol_is_not_sent():
    one = session()
    key = subscribed(one)
    route = (BTC, "BTC")
    one.latest[route] = Frame(b"{}")
    one.offer_event(route, Frame(b"{}"))
    one.offer_state(route, Frame(b"{}"))
    say(one, action="unsubscribe", symbol="BTC")
    assert one.drop_routes(key) == [route]
    assert [message["type"] for message in heard(one)] == ["unsubscribed"]


def test_dropping_a_star_discards_what_came_in_by_it_and_nothing_else():
    one = session()
    star = Topic("trade", "hyperliquid", "*")
    key, star_key = subscribed(one), subscribed(one, "*", star)
    eth = (Topic("trade", "hyperliquid", "ETH"), "ETH")
    one.offer_event(eth, Frame(b'"eth"'))
    one.offer_event((BTC, "BTC"), Frame(b'"btc"'))
    one.drop_routes(star_key)
    assert [frame.payload for frame in one.take()] == [b'"btc"']
    assert one.is_confirmed(key)


def test_of_a_book_only_the_latest_waits_and_of_trades_the_newest_with_a_notice():
    one = session(events=3)
    subscribed(one)
    route = (BTC, "BTC")
    for number in range(5):
        one.latest[route] = Frame(json.dumps({"type": "book", "n": number}).encode())
        one.offer_event(route, Frame(json.dumps({"type": "trade", "n": number}).encode()))
    assert heard(one) == [
        {"type": "dropped", "symbol": "BTC", "count": 2},
        *[{"type": "trade", "n": number} for number in (2, 3, 4)],
        {"type": "book", "n": 4},
    ]
    assert one.dropped_total == 2
    one.offer_event(route, Frame(b'{"type":"trade"}'))
    assert heard(one) == [{"type": "trade"}]


def test_a_connection_that_takes_nothing_is_hopeless_after_a_while():
    one = session(slow_s=10.0)
    one.block(0.0)
    one.block(5.0)
    assert one.verdict(10.0) is None
    one.unblock()
    assert one.verdict(100.0) is None
    one.block(100.0)
    assert one.verdict(110.1).cause == "slow"


def test_replies_that_are_never_read_are_bounded():
    one = session(subscriptions=10_000)
    for _ in range(600):
        one.reply(b"{}")
    assert one.waiting() == 512
    assert one.doom.cause == "slow"


def test_the_rate_of_messages_allows_a_burst_and_forgives():
    one = session(subscriptions=3, commands_per_s=2.0)
    answers = [say(one, action="ping") for _ in range(8)]
    assert answers == [[Asked("ping")]] * 6 + [[]] * 2
    assert [message["code"] for message in heard(one)] == ["rate_limited"] * 2
    assert say(one, now=0.5, action="ping") == [Asked("ping")]
    assert say(one, now=0.5, action="ping") == []


def test_who_never_stops_is_cut_off():
    one = session(commands_per_s=0.001)
    for _ in range(400):
        say(one, action="ping")
    assert one.doom.cause == "rate"


def test_subscriptions_are_counted_over_all_connections_of_a_client():
    client = Client("c")
    one, two = session(client=client, subscriptions=2), session(client=client, subscriptions=2)
    assert len(say(one, action="subscribe", symbols=["A", "B"])) == 2
    assert len(say(two, action="subscribe", symbols=["B", "C"])) == 1
    assert heard(two)[0]["code"] == "limit"
    one.leave()
    assert len(say(two, action="subscribe", symbols=["C"])) == 1
    two.leave()
    assert len(client) == 0


@pytest.mark.parametrize("dialect", [TimeAndSales(), Middleware()])
def test_a_refusal_ends_the_subscription(dialect):
    one = session(dialect)
    (began,) = say(one, action="subscribe", symbol="BTC")
    one.refuse(began.key, "upstream_refused", "no")
    assert heard(one) == [{"type": "error", "code": "upstream_refused", "message": "no", "symbol": "BTC"}]
    assert one.keys == []
    assert len(one.client) == 0


def test_what_is_restored_respects_the_limit():
    one = session(subscriptions=1)
    assert one.restore(SubKey("trade", "A")) == [Began(SubKey("trade", "A"))]
    assert one.restore(SubKey("trade", "B")) == []
    assert heard(one) == []
