"""What people mean by a symbol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.models.live import Topic
from src.models.symbols import ALL_VENUES, FUTU, HYPERLIQUID, OUTSIDE, Directory, native_symbol

ADDRESS = "0x" + "Ab" * 20


def directory(*known, on=("alpaca", "futu", "stockbit", "hyperliquid")):
    return Directory(ALL_VENUES, lambda topic: topic in known, lambda venue: venue in on)


@pytest.mark.parametrize(
    ("kind", "symbol", "venue", "means"),
    [
        ("book", "BTC", "hyperliquid", Topic("book", "hyperliquid", "BTC")),
        ("book", "PURR/USDC", "hyperliquid", Topic("book", "hyperliquid", "PURR/USDC")),
        ("trade", "US.AAPL", "alpaca", Topic("trade", "alpaca", "AAPL")),
        ("trade", "brk.b", "alpaca", Topic("trade", "alpaca", "BRK.B")),
        ("book", "AAPL", "futu", Topic("book", "futu", "US.AAPL")),
        ("book", "HK.00700", "futu", Topic("book", "futu", "HK.00700")),
        ("book", "00700", "futu", Topic("book", "futu", "HK.00700")),
        ("book", "bbca", "stockbit", Topic("book", "stockbit", "BBCA")),
        ("book", "TN.BBCA", "stockbit", Topic("book", "stockbit", "TN.BBCA")),
        ("order", ADDRESS, "hyperliquid", Topic("order", "hyperliquid", ADDRESS.lower())),
        ("book", "*", "hyperliquid", Topic("book", "hyperliquid", "*")),
    ],
)
def test_with_a_venue(kind, symbol, venue, means):
    assert directory().resolve(kind, symbol, venue) == (means,)


@pytest.mark.parametrize(
    ("kind", "symbol", "venue"),
    [
        ("trade", "AAPL", "futu"),
        ("order", "BTC", "hyperliquid"),
        ("order", ADDRESS, "alpaca"),
        ("book", "a b", "hyperliquid"),
        ("book", "", "hyperliquid"),
        ("book", "BTC", "nowhere"),
        ("trade", "$$$", None),
    ],
)
def test_what_cannot_be_had_means_nothing(kind, symbol, venue):
    assert directory().resolve(kind, symbol, venue) == ()


def venues(found):
    return [topic.venue for topic in found]


def test_without_a_venue_a_known_symbol_is_meant():
    known = Topic("trade", "hyperliquid", "ETH")
    assert directory(known).resolve("trade", "ETH") == (known,)
    assert venues(directory().resolve("trade", "ETH")) == ["alpaca"]
    known = Topic("book", "stockbit", "BBCA")
    assert venues(directory(known).resolve("book", "BBCA")) == ["stockbit", "outside"]


def test_a_venue_that_is_off_comes_last():
    assert venues(directory(on=["hyperliquid"]).resolve("trade", "ETH")) == ["hyperliquid"]
    assert venues(directory(on=["stockbit", "hyperliquid"]).resolve("trade", "BBCA")) == ["stockbit"]
    assert venues(directory(on=[]).resolve("trade", "ETH")) == ["alpaca"]


def test_books_from_outside_are_heard_too_unless_the_venue_itself_is_collected():
    assert venues(directory(on=["hyperliquid"]).resolve("book", "AAPL")) == ["hyperliquid", "futu", "outside"]
    assert venues(directory(on=["hyperliquid", "futu"]).resolve("book", "AAPL")) == ["futu", "outside"]
    known = Topic("book", "hyperliquid", "BTC")
    assert venues(directory(known, on=["hyperliquid", "futu"]).resolve("book", "BTC")) == ["hyperliquid", "outside"]


def test_the_topics_a_stream_feeds():
    assert directory().topics_fed_by("hyperliquid/l2Book/BTC") == (Topic("book", "hyperliquid", "BTC"),)
    assert {topic.kind for topic in directory().topics_fed_by(f"hyperliquid/webData2/{ADDRESS.lower()}")} == {
        "order",
        "position",
    }
    assert directory().topics_fed_by("hyperliquid/userFills/0xab") == ()
    assert directory().topics_fed_by("nonsense") == ()


@given(st.text(max_size=70), st.sampled_from(["book", "trade", "order", "position", "status"]))
def test_whatever_is_written_resolves_to_topics_or_to_nothing(symbol, kind):
    for topic in directory().resolve(kind, symbol):
        assert topic.kind == kind
        assert Topic.parse(str(topic)) == topic


@given(st.sampled_from([HYPERLIQUID, FUTU, OUTSIDE]), st.text("ABCUS.0123456789", min_size=1, max_size=10))
def test_a_native_spelling_is_its_own_native_spelling(venue, symbol):
    native = native_symbol(venue.venue, symbol)
    assert native_symbol(venue.venue, native) == native
