"""The simulated gateway keeps the real one's rules: quota over all connections, minimum hold, expiry."""

import pytest

from src.venues.futu.simulator.__main__ import parse_arguments
from src.venues.futu.simulator.config import GatewayConfig
from src.venues.futu.simulator.market import GatewayMarket
from src.venues.futu.simulator.subscriptions import HELD_TOO_SHORT, QUOTA_EXCEEDED, UNKNOWN, SubscriptionBook

SYMBOLS = ("US.A", "US.B", "US.C")


@pytest.fixture
def book():
    return SubscriptionBook(GatewayConfig(symbols=SYMBOLS, quota=2, minimum_hold_s=60, expiry_s=60))


def subscribe(book, connection, *symbols, now=0.0):
    return book.subscribe(connection, symbols, now, pushes=True)


def test_the_quota_counts_over_all_connections_and_a_list_is_taken_whole_or_not(book):
    assert subscribe(book, 1, "US.A") == ""
    assert subscribe(book, 2, "US.A", "US.B") == QUOTA_EXCEEDED
    assert book.of(2) == []
    assert subscribe(book, 2, "US.A") == ""
    assert (book.used(0.0), book.left(0.0)) == (2, 0)
    assert subscribe(book, 1, "US.A") == ""  # what is subscribed costs nothing again


def test_unknown_symbols_are_refused(book):
    assert subscribe(book, 1, "US.A", "US.NOSUCH") == UNKNOWN


def test_nothing_is_cancelled_within_its_minute(book):
    subscribe(book, 1, "US.A")
    assert book.unsubscribe(1, ["US.A"], 59.9) == HELD_TOO_SHORT
    assert book.unsubscribe(1, ["US.A", "US.B"], 60.0) == ""
    assert book.used(60.0) == 0


def test_a_connection_that_ended_keeps_its_quota_for_a_minute_and_gets_no_pushes(book):
    subscribe(book, 1, "US.A", "US.B")
    book.disconnected(1, 100.0)
    assert book.receivers("US.A") == []
    assert subscribe(book, 2, "US.C", now=159.0) == QUOTA_EXCEEDED
    assert subscribe(book, 2, "US.C", now=160.0) == ""
    assert book.receivers("US.C") == [2]


def test_without_registration_there_are_no_pushes(book):
    assert book.subscribe(1, ["US.A"], 0.0, pushes=False) == ""
    assert book.receivers("US.A") == []


def test_the_same_seed_makes_the_same_books():
    one, two = (GatewayMarket(SYMBOLS, seed=3, depth=5) for _ in range(2))
    assert [one.step("US.B", n) for n in range(50)] == [two.step("US.B", n) for n in range(50)]
    for book in (one.step("US.A", n) for n in range(200)):
        assert book.bids[0].price < book.asks[0].price
        assert [x.price for x in book.bids] == sorted((x.price for x in book.bids), reverse=True)


def test_the_command_line():
    config = parse_arguments(["--symbols", "US.A,HK.00001", "--quota", "7", "--push-every", "0.2", "--port", "1234"])
    assert (config.symbols, config.quota, config.push_every_s, config.port) == (("US.A", "HK.00001"), 7, 0.2, 1234)
