"""Who hears what, and when it goes out."""

import json

import pytest

from src.api.gateway.board import Board, Stale
from src.api.gateway.dialects import TimeAndSales
from src.api.gateway.session import Client, Limits, Session
from src.models.changes import BookChange, TradeSeen
from src.models.live import Topic
from src.models.messages import Book, Level, Trade

BTC = Topic("book", "toy", "BTC")
TRADES = Topic("trade", "toy", "BTC")


def listener(board, *routes):
    session = Session(f"client:{id(routes)}", TimeAndSales(), Client("c"), Limits(), 0.0)
    for route in routes:
        board.join(session, route)
    return session


def book(price="1", symbol="BTC"):
    return BookChange(Book("toy", symbol, 0, 0, (Level(price, "1"),), ()), changed=True)


def trade(number, symbol="BTC"):
    return TradeSeen(Trade("toy", symbol, str(number), str(number), "1", None, 0, 0))


def heard(session):
    return [json.loads(frame.payload) for frame in session.take()]


@pytest.fixture
def board():
    return Board(interval_s=0.1, recent=2)


def test_the_first_update_of_a_quiet_topic_goes_out_at_once(board):
    listener(board, (BTC, "BTC"))
    assert board.due() is None
    board.publish(BTC, [book()], 10.05)
    assert board.due() == 10.05


def test_a_busy_topic_goes_out_once_in_a_window_with_the_latest_book(board):
    session = listener(board, (BTC, "BTC"))
    sent = []
    for step in range(100):  # 100 updates within one second
        now = 10.0 + step * 0.01
        board.publish(BTC, [book(str(step))], now)
        due = board.due()
        if due is not None and due <= now:
            board.flush(now)
            sent += [(round(now, 2), message["data"]["bids"][0]["price"]) for message in heard(session)]
    assert len(sent) <= 11
    assert all(price >= 100 * (now - 10.0) - 1.5 for now, price in sent), "what is sent is the latest"


def test_a_steady_feed_as_fast_as_the_window_is_never_held_for_long(board):
    session = listener(board, (BTC, "BTC"))
    waits, jitter = [], [0.0, 0.04, 0.01, 0.06, 0.0, 0.03, 0.0, 0.0, 0.05, 0.0] * 5
    for step, late in enumerate(jitter):
        now = 10.02 + step * 0.1 + late * 0.5
        board.publish(BTC, [book(str(step))], now)
        due = board.due()
        waits.append(max(0.0, due - now))
        board.flush(due)
    assert max(waits) < 0.06
    assert sum(waits) / len(waits) < 0.01
    assert heard(session)


def test_all_trades_of_a_window_go_out_in_their_order(board):
    session = listener(board, (TRADES, "BTC"))
    board.publish(TRADES, [trade(1)], 10.0)
    board.flush(10.0)
    board.publish(TRADES, [trade(2), trade(3)], 10.01)
    board.publish(TRADES, [trade(4)], 10.02)
    assert board.due() == pytest.approx(10.1)
    board.flush(10.02)
    assert [message["data"]["price"] for message in heard(session)] == [1]
    board.flush(board.due())
    assert [message["data"]["price"] for message in heard(session)] == [2, 3, 4]
    assert board.due() is None


def test_what_nobody_hears_costs_nothing_but_is_known_to_newcomers(board):
    for number in range(5):
        board.publish(TRADES, [trade(number)], 10.0)
    board.publish(BTC, [book("7")], 10.0)
    assert board.due() is None
    session = listener(board)
    board.current(session, (TRADES, "BTC"))
    board.current(session, (BTC, "XBT"))
    trades, update = heard(session)[:2], heard(session)
    assert update == []
    assert [(message["data"]["price"], message["history"]) for message in trades] == [(3, True), (4, True)]


def test_frames_are_shared_by_all_who_spell_the_symbol_alike(board):
    one, two, other = (listener(board, (BTC, spelling)) for spelling in ("BTC", "BTC", "XBT"))
    board.publish(BTC, [book()], 10.0)
    assert set(board.flush(10.0)) == {one, two, other}
    (first,), (second,), (third,) = one.take(), two.take(), other.take()
    assert first is second
    assert json.loads(third.payload)["symbol"] == "XBT"


def test_a_star_hears_everything_of_its_venue_once(board):
    star = (Topic("trade", "toy", "*"), "*")
    session = listener(board, star, (TRADES, "BTC"))
    eth = Topic("trade", "toy", "ETH")
    board.publish(TRADES, [trade(1)], 10.0)
    board.publish(eth, [trade(2, "ETH")], 10.0)
    board.publish(Topic("trade", "elsewhere", "BTC"), [trade(3)], 10.0)
    board.flush(10.0)
    assert [(message["symbol"], message["data"]["price"]) for message in heard(session)] == [("BTC", 1), ("ETH", 2)]
    board.leave(session, star)
    board.publish(eth, [trade(4, "ETH")], 11.0)
    assert board.due() is None


def test_freshness_is_told_to_listeners_and_watchers_when_it_changes(board):
    session = listener(board, (BTC, "BTC"))
    watcher = listener(board, (Topic("status", "toy", "BTC"), "BTC"))
    everything = listener(board, (Topic("status", "toy", "*"), "*"))
    stale = Stale("stale", "silence", 1_700_000_000_000)
    assert set(board.mark(BTC, stale)) == {session, watcher, everything}
    assert board.mark(BTC, Stale("stale", "silence", 1_700_000_001_000)) == []
    (told,) = heard(session)
    assert told == {
        "type": "status",
        "symbol": "BTC",
        "venue": "toy",
        "topic": "book",
        "state": "stale",
        "reason": "silence",
        "since": "2023-11-14T22:13:20.000Z",
    }
    assert [message["state"] for message in heard(watcher) + heard(everything)] == ["stale", "stale"]
    board.mark(BTC, None)
    assert heard(session)[0]["state"] == "live"
    assert board.mark(BTC, None) == []


def test_what_is_collected_no_longer_is_forgotten(board):
    session = listener(board, (BTC, "BTC"))
    board.publish(BTC, [book()], 10.0)
    board.flush(10.0)
    session.take()
    board.forget(BTC)
    assert not board.knows(BTC)
    board.current(session, (BTC, "BTC"))
    assert heard(session) == []
    board.publish(BTC, [book("2")], 11.0)
    board.flush(11.0)
    assert heard(session)[0]["data"]["bids"][0]["price"] == 2


def test_topics_kept_for_nobody_are_bounded(board, monkeypatch):
    monkeypatch.setattr("src.api.gateway.board.MOST_LINES", 3)
    session = listener(board, (BTC, "BTC"))
    for number in range(10):
        board.publish(Topic("book", "toy", f"S{number}"), [book()], 10.0)
    assert board.listeners(BTC) == [session]
    assert len(board._lines) <= 3
