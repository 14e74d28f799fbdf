"""Sides arrive apart and become whole books; boards stay apart; resets and repeats do no harm."""

from collections import Counter

import msgspec
import pytest

from src.models.changes import BookChange
from src.models.errors import WireError
from src.models.messages import Book, Data, Several
from src.models.metrics import MESSAGES_OUTDATED, Metrics
from src.pipeline.diff import Diff
from src.pipeline.documents import to_date, writes_of_book
from src.venues.stockbit.books import HALF_WAIT_MS, MOST_BOOKS, symbol_of
from src.venues.stockbit.crossed import CROSSED_MOST_MS, Crossed
from src.venues.stockbit.mapper import StockbitMapper
from src.venues.stockbit.simulator.frames import reset_frame
from tests.support.stockbit_frames import START_MS, bids, book, offers


class World:
    """A mapper, its counters, and the books it handed on."""

    def __init__(self):
        self.odd = Counter()
        self.mapper = StockbitMapper(odd=lambda reason, count: self.odd.update({reason: count}))
        self.books = []
        self.streams = []

    def take(self, frame, at_ms=START_MS):
        decoded = self.mapper.decode(frame, at_ms)
        for part in decoded.parts if isinstance(decoded, Several) else (decoded,):
            if isinstance(part, Data):
                self.streams.append(str(part.stream))
                self.books += [message for message in part.messages if isinstance(message, Book)]
        return decoded

    @property
    def last(self):
        return self.books[-1]


@pytest.fixture
def world():
    return World()


def prices(side):
    return [level.px for level in side]


class TestMerging:
    def test_the_second_side_completes_the_book(self, world):
        held = world.take(bids(100, 99))
        assert isinstance(held, Data)
        assert held.messages == ()
        assert held.venue_ms == START_MS
        world.take(offers(101, 102, at_ms=START_MS + 3), START_MS + 7)
        (made,) = world.books
        assert (prices(made.bids), prices(made.asks)) == (["100", "99"], ["101", "102"])
        assert (made.symbol, made.board) == ("BBCA", "RG")
        assert (made.time_ms, made.received_ms) == (START_MS + 3, START_MS + 7)
        assert (made.bids_told.time_ms, made.asks_told.time_ms) == (START_MS, START_MS + 3)
        assert (made.bids_told.received_ms, made.asks_told.received_ms) == (START_MS, START_MS + 7)

    def test_each_later_side_is_a_book_with_the_other_side_as_it_was(self, world):
        world.take(bids())
        world.take(offers())
        world.take(bids(100, 98, at_ms=START_MS + 50, seq=9))
        assert (prices(world.last.bids), prices(world.last.asks)) == (["100", "98"], ["101", "102"])
        assert world.last.bids_told.seq == 9
        assert world.last.asks_told.time_ms == START_MS

    def test_both_sides_in_one_body(self, world):
        world.take(book("BBCA", "BID", body="#O|BBCA|BID|100;1;100|OFFER|101;1;100"))
        assert (prices(world.last.bids), prices(world.last.asks)) == (["100"], ["101"])

    def test_two_sides_within_one_millisecond_are_two_books_in_time(self, world):
        world.take(bids())
        for price in (99, 98, 97):
            world.take(offers(101, 101 + price, at_ms=START_MS))
        times = [made.time_ms for made in world.books]
        assert times == [START_MS, START_MS + 1, START_MS + 2]
        assert [made.asks_told.time_ms for made in world.books] == [START_MS] * 3

    def test_the_diff_takes_each_of_them(self, world):
        diff, metrics = Diff(metrics=Metrics()), Metrics()
        world.take(bids())
        for price in (1, 2, 3):
            decoded = world.take(offers(101, 101 + price, at_ms=START_MS - price))
            changes = diff.apply(decoded)
            assert len(changes) == (1 if price == 1 else 0)  # an older side is passed over
        decoded = world.take(bids(100, 97, at_ms=START_MS - 1 + 1, seq=2))
        assert len(diff.apply(decoded)) == 1
        assert not metrics.total(MESSAGES_OUTDATED)

    def test_a_side_of_the_other_clock_does_not_go_back_in_time(self, world):
        world.take(bids(at_ms=START_MS + 100))
        world.take(offers(at_ms=START_MS + 90))
        world.take(offers(101, 103, at_ms=START_MS + 95))
        assert [made.time_ms for made in world.books] == [START_MS + 100, START_MS + 101]


class TestHalfBooks:
    def test_a_lonely_side_is_handed_on_with_whatever_comes_a_second_later(self, world):
        world.take(bids(ticker="ARAA"))
        world.take(b"\x12\x06\x0a\x04pong", START_MS + HALF_WAIT_MS - 1)
        assert world.books == []
        decoded = world.take(b"\x12\x06\x0a\x04pong", START_MS + HALF_WAIT_MS)
        assert isinstance(decoded, Several)
        (half,) = world.books
        assert (prices(half.bids), half.asks) == (["100", "99"], ())
        assert half.bids_told is not None
        assert half.asks_told is None
        assert world.streams[-1] == "stockbit/order_book/ARAA"

    def test_and_is_not_held_again(self, world):
        world.take(bids(ticker="ARAA"))
        world.take(bids(101, ticker="ARAA", at_ms=START_MS + 10), START_MS + HALF_WAIT_MS)
        world.take(bids(102, ticker="ARAA", at_ms=START_MS + 20), START_MS + HALF_WAIT_MS + 5)
        world.take(bids(103, ticker="ARAA", at_ms=START_MS + 30), START_MS + 2 * HALF_WAIT_MS + 5)
        assert [prices(made.bids) for made in world.books] == [["101"], ["102"], ["103"]]
        world.take(offers(104, ticker="ARAA", at_ms=START_MS + 40), START_MS + 2 * HALF_WAIT_MS + 6)
        assert (prices(world.last.bids), prices(world.last.asks)) == (["103"], ["104"])

    def test_an_empty_side_is_a_side(self, world):
        world.take(bids())
        world.take(book("BBCA", "OFFER"))
        assert world.last.asks == ()
        assert world.last.asks_told is not None


class TestBoards:
    def test_boards_are_books_of_their_own(self, world):
        for board in (1, 2, 3, 0, 7):
            world.take(bids(100 + board, board=board))
            world.take(offers(200 + board, board=board))
        made = {(b.symbol, b.board): prices(b.bids) for b in world.books}
        assert made == {
            ("BBCA", "RG"): ["100"],
            ("TN.BBCA", "TN"): ["102"],
            ("NG.BBCA", "NG"): ["103"],
            ("B7.BBCA", "B7"): ["107"],
        }
        assert set(world.streams) == {"stockbit/order_book/BBCA"}

    def test_a_symbol_names_its_board(self):
        assert [symbol_of("BBCA", board) for board in ("RG", "TN")] == ["BBCA", "TN.BBCA"]


class TestRepeatsAndResets:
    def test_the_same_side_again_is_nothing_new(self, world):
        world.take(bids())
        world.take(offers())
        again = world.take(bids())
        assert isinstance(again, Data)
        assert again.messages == ()
        assert world.odd == {"repeated_side": 1}

    def test_the_same_side_under_another_number_is_an_update(self, world):
        world.take(bids())
        world.take(offers())
        world.take(bids(seq=2))
        assert [made.bids_told.seq for made in world.books] == [1, 2]

    def test_the_same_levels_at_a_later_time_are_an_update(self, world):
        world.take(bids())
        world.take(offers())
        world.take(bids(at_ms=START_MS + 10))
        assert len(world.books) == 2
        assert world.last.bids_told.time_ms == START_MS + 10

    def test_a_side_that_was_overtaken_is_passed_over(self, world):
        world.take(bids(100, at_ms=START_MS + 10))
        world.take(offers())
        world.take(bids(99, at_ms=START_MS + 9))
        assert prices(world.last.bids) == ["100"]
        assert world.odd == {"outdated_side": 1}

    def test_a_clock_that_was_set_back_is_believed(self, world):
        world.take(bids(100, at_ms=START_MS + 120_000))
        world.take(offers())
        world.take(bids(99))
        assert prices(world.last.bids) == ["99"]

    def test_after_a_reconnect_nothing_is_left_of_the_sides_before(self, world):
        world.take(bids(100))
        world.take(offers(101))
        world.mapper.opened()
        world.take(offers(102, at_ms=START_MS + 50))
        assert len(world.books) == 1
        world.take(bids(99, at_ms=START_MS + 51))
        assert (prices(world.last.bids), prices(world.last.asks)) == (["99"], ["102"])

    def test_the_same_book_after_a_reconnect_is_told_but_not_handed_on(self, world):
        world.take(bids())
        world.take(offers())
        world.mapper.opened()
        world.take(bids())
        world.take(offers())
        assert len(world.books) == 1
        assert world.odd == {"repeated_book": 1}
        world.take(b"\x12\x06\x0a\x04pong", START_MS + 5 * HALF_WAIT_MS)
        assert len(world.books) == 1

    def test_a_switch_of_the_source_begins_the_book_anew(self, world):
        world.take(bids(100))
        world.take(offers(101))
        world.take(reset_frame("BBCA", START_MS + 5))
        world.take(bids(99, at_ms=START_MS + 6))
        assert len(world.books) == 1
        world.take(offers(103, at_ms=START_MS + 7))
        assert (prices(world.last.bids), prices(world.last.asks)) == (["99"], ["103"])
        assert world.odd == {"switch_reset": 1}


class TestBadMessages:
    @pytest.mark.parametrize("ticker", ["", "bbca", "BB CA", "../X", "=SUM(1)", "B" * 25, "BBCA\n"])
    def test_tickers_that_are_none(self, world, ticker):
        with pytest.raises(WireError):
            world.take(book(ticker, "BID", body=f"#O|{ticker}|BID|1;1;100"))

    def test_a_body_of_another_ticker(self, world):
        with pytest.raises(WireError):
            world.take(book("BBCA", "BID", body="#O|TLKM|BID|1;1;100"))

    def test_the_body_names_the_ticker_where_the_message_does_not(self, world):
        world.take(book("", "BID", body="#O|TLKM|BID|1;1;100"))
        assert world.streams == ["stockbit/order_book/TLKM"]

    def test_a_bad_body_changes_nothing(self, world):
        world.take(bids())
        world.take(offers())
        with pytest.raises(WireError):
            world.take(book("BBCA", "BID", body="#O|BBCA|BID|1;1;100|2;1;100", at_ms=START_MS + 9))
        world.take(offers(101, 105, at_ms=START_MS + 10))
        assert prices(world.last.bids) == ["100", "99"]

    def test_odd_levels_are_counted(self, world):
        world.take(book("BBCA", "BID", body="#O|BBCA|BID|0;1;100|junk|2;1;100"))
        assert world.odd == {"level_skipped": 2}

    def test_a_flood_of_tickers_is_bounded(self, world):
        for number in range(MOST_BOOKS):
            world.mapper.books.state(f"T{number}", "RG")
        with pytest.raises(WireError, match="too_many_books"):
            world.take(bids())


class TestTimes:
    def test_the_event_time_counts_then_the_feeds_then_ours(self, world):
        world.take(bids(datetime="nonsense", itch_incoming_time="2026-02-04T11:05:42.200000001+07:00"))
        (state,) = world.mapper.books
        assert state.bid.told.time_ms == START_MS + 22
        assert state.bid.told.text == "2026-02-04T11:05:42.200000001+07:00"
        world.take(offers(datetime=""), START_MS + 33)
        assert state.offer.told.time_ms == START_MS + 33
        assert state.offer.told.text == "2026-02-04T11:05:42.211000+07:00"

    def test_times_without_offset_or_date_are_those_of_the_exchange(self, world):
        for text in ("2026-02-04T11:05:42.178723", "2026-02-04 11:05:42.178723", "11:05:42.178"):
            world.mapper.opened()
            world.take(bids(datetime=text))
            (state,) = world.mapper.books
            assert state.bid.told.time_ms == START_MS, text


class TestCrossed:
    def look(self, world, crossed, at_ms, *, is_continuous=True):
        return crossed.look(world.mapper.books, at_ms, is_continuous=is_continuous)

    def cross(self, world, at_ms=START_MS):
        world.take(offers(101, 102, at_ms=at_ms - 2), at_ms - 2)
        world.take(bids(101, 99, at_ms=at_ms), at_ms)

    def test_for_a_moment_it_is_normal(self, world):
        crossed = Crossed()
        self.cross(world)
        assert self.look(world, crossed, START_MS) == []
        world.take(offers(102, 103, at_ms=START_MS + 5), START_MS + 5)
        assert self.look(world, crossed, START_MS + CROSSED_MOST_MS + 1) == []
        assert crossed.overdue == ()

    def test_when_it_lasts_it_is_told_once(self, world):
        crossed = Crossed()
        self.cross(world)
        self.look(world, crossed, START_MS)
        assert self.look(world, crossed, START_MS + CROSSED_MOST_MS - 1) == []
        assert self.look(world, crossed, START_MS + CROSSED_MOST_MS) == ["BBCA/RG"]
        assert self.look(world, crossed, START_MS + CROSSED_MOST_MS + 500) == []
        assert crossed.overdue == ("BBCA/RG",)
        world.take(offers(102, at_ms=START_MS + 9_000), START_MS + 9_000)
        self.look(world, crossed, START_MS + 9_000)
        assert crossed.overdue == ()

    def test_outside_of_continuous_trading_it_is_normal(self, world):
        crossed = Crossed()
        self.cross(world)
        assert self.look(world, crossed, START_MS + 60_000, is_continuous=False) == []
        # The auction left it crossed; only the time in trading counts.
        assert self.look(world, crossed, START_MS + 61_000) == []
        assert self.look(world, crossed, START_MS + 61_000 + CROSSED_MOST_MS) == ["BBCA/RG"]


class TestStored:
    def test_documents_say_board_and_the_time_of_each_side(self, world):
        world.take(bids(100, board=2))
        world.take(offers(101, 102, board=2, at_ms=START_MS + 3))
        history, latest = writes_of_book(BookChange(world.last, changed=True))
        assert history.document["_id"] == f"stockbit:TN.BBCA:{START_MS + 3}"
        assert latest.id == "stockbit:TN.BBCA"
        document = history.document
        assert (document["symbol"], document["board"]) == ("TN.BBCA", "TN")
        assert document["bids"] == [[100.0, 500.0, 3]]
        assert (document["bidsAt"], document["asksAt"]) == (to_date(START_MS), to_date(START_MS + 3))
        assert document["mid"] == 100.5

    def test_a_side_that_is_not_known_has_no_time(self, world):
        world.take(bids(ticker="ARAA"))
        world.take(b"\x12\x06\x0a\x04pong", START_MS + HALF_WAIT_MS)
        history, _ = writes_of_book(BookChange(world.last, changed=True))
        assert "asksAt" not in history.document
        assert history.document["asks"] == []
        assert history.document["mid"] is None

    def test_the_journal_gives_back_what_it_was_given(self, world):
        world.take(bids())
        world.take(offers())
        change = BookChange(world.last, changed=True)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(change), type=BookChange) == change
