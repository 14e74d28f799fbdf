"""Books, trades and fills: what is new, what repeats, what is too old."""

from __future__ import annotations

from src.models.changes import BookChange, FillSeen, TradeSeen
from src.models.messages import Book, Data, Fill, Level, Trade
from src.models.metrics import MESSAGES_OUTDATED, Metrics
from src.models.streams import StreamKey
from src.pipeline.diff import Diff
from src.pipeline.market_events import RECENT_IDS
from tests.support.trader_states import TRADER


def a_book(
    time_ms: int, *, symbol: str = "BTC", bid: str = "10.0", asks: tuple[Level, ...] = (Level("11.0", "1.0", 2),)
):
    book = Book("hyperliquid", symbol, time_ms, time_ms + 50, (Level(bid, "2.0", 1),), asks)
    return Data(StreamKey("hyperliquid", "l2Book", symbol), time_ms, (book,))


def trades(*identities: str, symbol: str = "BTC"):
    found = tuple(Trade("hyperliquid", symbol, identity, "10.0", "1.0", "B", 1_000, 1_050) for identity in identities)
    return Data(StreamKey("hyperliquid", "trades", symbol), 1_000, found)


def a_fill(**fields) -> Fill:
    known = {
        "venue": "hyperliquid",
        "trader": TRADER,
        "coin": "BTC",
        "px": "10.0",
        "sz": "1.0",
        "side": "B",
        "time_ms": 1_000,
        "received_ms": 1_050,
        "oid": 7,
        "tid": 9,
    }
    return Fill(**{**known, **fields})


def fills(*rows: Fill) -> Data:
    return Data(StreamKey("hyperliquid", "userFills", rows[0].trader), 1_000, rows)


def a_diff() -> tuple[Diff, Metrics]:
    metrics = Metrics()
    return Diff(metrics=metrics), metrics


def test_the_first_book_is_a_change():
    diff, _ = a_diff()
    [change] = diff.apply(a_book(1_000))
    assert isinstance(change, BookChange)
    assert change.changed


def test_a_newer_book_with_the_same_levels_only_moves_the_time():
    diff, _ = a_diff()
    diff.apply(a_book(1_000))
    [change] = diff.apply(a_book(2_000))
    assert not change.changed
    assert change.book.time_ms == 2_000


def test_any_level_that_differs_changes_the_book():
    diff, _ = a_diff()
    diff.apply(a_book(1_000))
    assert diff.apply(a_book(2_000, bid="10.5"))[0].changed
    assert diff.apply(a_book(3_000, bid="10.5", asks=()))[0].changed
    assert diff.apply(a_book(4_000, bid="10.5", asks=(Level("11.0", "1.0", 3),)))[0].changed


def test_an_older_book_never_wins():
    diff, metrics = a_diff()
    diff.apply(a_book(2_000))
    assert diff.apply(a_book(1_000, bid="1.0")) == []
    assert metrics.value(MESSAGES_OUTDATED, "book") == 1
    assert not diff.apply(a_book(3_000))[0].changed


def test_the_same_book_twice_is_told_once():
    diff, metrics = a_diff()
    diff.apply(a_book(1_000))
    assert diff.apply(a_book(1_000)) == []
    assert metrics.value(MESSAGES_OUTDATED, "book") == 0


def test_books_of_different_symbols_do_not_meet():
    diff, _ = a_diff()
    diff.apply(a_book(2_000))
    assert diff.apply(a_book(1_000, symbol="ETH"))[0].changed


def test_a_trade_is_told_once_however_often_it_is_sent():
    diff, _ = a_diff()
    assert len(diff.apply(trades("1", "2", "2"))) == 2
    assert diff.apply(trades("1", "2")) == []
    assert [change.trade.trade_id for change in diff.apply(trades("2", "3"))] == ["3"]


def test_the_same_trade_id_of_another_symbol_is_another_trade():
    diff, _ = a_diff()
    diff.apply(trades("1"))
    [change] = diff.apply(trades("1", symbol="ETH"))
    assert isinstance(change, TradeSeen)


def test_trades_are_remembered_up_to_a_bound():
    diff, _ = a_diff()
    diff.apply(trades(*(str(n) for n in range(RECENT_IDS + 1))))
    assert len(diff.apply(trades("0"))) == 1  # forgotten; the store knows it
    assert diff.apply(trades(str(RECENT_IDS))) == []


def test_a_fill_is_told_once_however_often_it_is_sent():
    diff, _ = a_diff()
    [change] = diff.apply(fills(a_fill()))
    assert isinstance(change, FillSeen)
    assert diff.apply(fills(a_fill(is_snapshot=True), a_fill())) == []


def test_every_part_of_its_identity_makes_another_fill():
    diff, _ = a_diff()
    diff.apply(fills(a_fill()))
    for other in (
        a_fill(coin="ETH"),
        a_fill(time_ms=1_001),
        a_fill(tid=10),
        a_fill(tid=None),
        a_fill(oid=8),
        a_fill(trader="0x" + "0" * 40),
    ):
        assert len(diff.apply(fills(other))) == 1


def test_forgetting_a_trader_forgets_the_fills():
    diff, _ = a_diff()
    diff.apply(fills(a_fill()))
    diff.forget(TRADER)
    assert len(diff.apply(fills(a_fill()))) == 1
