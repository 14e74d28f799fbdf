"""A journal that fills up: history of books gives way first, then trades and the like, orders and positions never."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.models.changes import (
    AccountSample,
    BarSeen,
    BookChange,
    Change,
    DeadLetter,
    FillSeen,
    HoleClosed,
    HoleOpened,
    OrderChange,
    PositionChange,
    PositionMarks,
    QuoteSeen,
    TradeSeen,
)
from src.models.clock import ManualClock
from src.models.messages import Book, Trade
from src.models.metrics import JOURNAL_ERRORS, MESSAGES_DROPPED, Metrics
from src.models.streams import StreamKey
from src.pipeline import journal as journal_module
from src.pipeline.journal import Journal
from src.pipeline.pending import BOOKS_STOP_AT, HISTORY_STOPS_AT, RESUME_BELOW, RETRY_EVERY_S, Pending
from tests.support.every_change import every_change, numbered, numbers

LIMIT_BYTES = 100_000
BOOKS = StreamKey("v", "l2Book", "BTC")
OTHER_BOOKS = StreamKey("v", "l2Book", "ETH")
TRADES = StreamKey("v", "trades", "BTC")


class Rig:
    """A queue whose journal can be brought to any fill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock(wall_ms=1_000_000)
        self.metrics = Metrics()
        self.journal = Journal(directory, limit_bytes=LIMIT_BYTES, segment_bytes=2_000)
        self.journal.open()
        self.pending = Pending(
            1_000_000, clock=self.clock, metrics=self.metrics, journal=self.journal, segment_size=1
        )
        self.stored: list[Change] = []

    def fill_to(self, usage: float) -> None:
        """With letters, which are never dropped."""
        while self.journal.usage < usage:
            self.pending.add([DeadLetter("v", "decode", "r", "", b"x" * 300, 1, 1)])

    def empty_to(self, usage: float) -> None:
        """MongoDB takes the oldest until the journal is below that."""
        while self.journal.usage >= usage:
            self.store_one()

    def store_one(self) -> bool:
        segment = self.pending.take()
        if segment is None:
            return False
        self.stored += segment.changes
        self.pending.done(segment)
        return True

    def store_all(self) -> list[Change]:
        while self.store_one():
            pass
        return self.stored

    def dropped(self) -> dict[str, float]:
        return {kind: count for (kind, _), count in self.metrics.by_label(MESSAGES_DROPPED).items()}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(journal_module, "SMALLEST_SEGMENT_BYTES", 2_000)
    rig = Rig(tmp_path / "journal")
    yield rig
    rig.journal.close()


def a_book(number: int, *, symbol: str = "BTC", changed: bool = True) -> BookChange:
    return BookChange(Book("v", symbol, number, number, (), ()), changed=changed)


def a_trade(number: int) -> TradeSeen:
    return TradeSeen(Trade("v", "BTC", str(number), "1", "1", None, number, number))


def of_kind(changes: list[Change], *kinds: type) -> list[Change]:
    return [change for change in changes if isinstance(change, kinds)]


def book_times(changes: list[Change]) -> list[tuple[int, bool]]:
    return [(change.book.time_ms, change.changed) for change in changes if isinstance(change, BookChange)]


def test_below_the_first_mark_everything_is_kept(rig):
    rig.fill_to(BOOKS_STOP_AT - 0.02)
    rig.pending.add([a_book(1), a_trade(1)], BOOKS)
    assert rig.dropped() == {}
    assert len(of_kind(rig.store_all(), BookChange, TradeSeen)) == 2


def test_above_it_the_history_of_books_gives_way_and_the_latest_of_each_is_still_stored(rig):
    rig.fill_to(BOOKS_STOP_AT)
    for number in range(1, 6):
        rig.pending.add([a_book(number)], BOOKS)
        rig.pending.add([a_book(number, symbol="ETH")], OTHER_BOOKS)
        rig.pending.add([a_trade(number)], TRADES)
    assert rig.dropped() == {"book": 10}
    assert rig.pending.suspended == 2
    stored = rig.store_all()
    assert book_times(stored) == [(5, False), (5, False)]
    assert len(of_kind(stored, TradeSeen)) == 5
    assert len(rig.pending) == 0


def test_the_latest_book_comes_after_all_that_was_before_it(rig):
    rig.pending.add([a_book(1)], BOOKS)
    rig.fill_to(BOOKS_STOP_AT)
    rig.pending.add([a_book(2)], BOOKS)
    assert book_times(rig.store_all()) == [(1, True), (2, False)]


def test_a_book_of_which_only_the_time_moved_is_no_loss(rig):
    rig.fill_to(BOOKS_STOP_AT)
    rig.pending.add([a_book(1, changed=False)], BOOKS)
    assert (rig.dropped(), rig.pending.suspended) == ({}, 0)
    assert book_times(rig.store_all()) == [(1, False)]


def test_above_the_second_mark_trades_fills_marks_and_samples_give_way_too(rig):
    rig.fill_to(HISTORY_STOPS_AT)
    everything = every_change()
    rig.pending.add(everything, TRADES)
    trades = len(of_kind(everything, TradeSeen))
    assert rig.dropped() == {"book": 1, "trade": trades, "fill": 1, "marks": 1, "account": 1, "quote": 1, "bar": 1}
    stored = rig.store_all()
    kinds = (OrderChange, PositionChange)
    assert of_kind(stored, *kinds) == of_kind(everything, *kinds)
    assert of_kind(stored, TradeSeen, FillSeen, PositionMarks, AccountSample, QuoteSeen, BarSeen) == []


def test_orders_and_positions_are_never_dropped_for_them_the_diff_waits(rig):
    number = 0
    while not rig.pending.is_full:
        rig.pending.add(numbered(number), TRADES)
        number += 1
    assert rig.journal.usage > 0.99
    assert rig.metrics.value(JOURNAL_ERRORS, "full") == 1
    assert rig.dropped() == {}
    assert numbers(rig.store_all()) == list(range(number))


def test_the_diff_goes_on_when_there_is_room_again_and_what_did_not_fit_is_then_written(rig):
    number = 0
    while not rig.pending.is_full:
        rig.pending.add(numbered(number))
        number += 1
    assert rig.journal.last == number - 1
    rig.empty_to(HISTORY_STOPS_AT - 0.03)
    assert not rig.pending.is_full
    rig.clock.advance(RETRY_EVERY_S)
    rig.pending.add(numbered(number))
    assert rig.journal.changes == len(rig.pending)
    assert numbers(rig.store_all()) == list(range(number + 1))


def test_a_large_batch_that_does_not_fit_stops_the_diff_although_small_ones_would(rig):
    rig.fill_to(HISTORY_STOPS_AT - 0.1)
    large = [DeadLetter("v", "decode", "r", "", b"x" * 30_000, 1, 1)]
    rig.pending.add(large)
    assert rig.pending.is_full
    assert rig.pending.is_full  # looking does not change it
    rig.empty_to(0.5)
    assert not rig.pending.is_full
    rig.clock.advance(RETRY_EVERY_S)
    assert rig.store_all()[-1:] == large


def test_a_batch_larger_than_the_whole_journal_is_stored_all_the_same(rig):
    giant = [DeadLetter("v", "decode", "r", "", b"x" * (LIMIT_BYTES + 1), 1, 1)]
    rig.pending.add(giant)
    assert rig.pending.is_full
    assert rig.store_all() == giant
    assert not rig.pending.is_full


def test_a_hole_begins_with_the_first_drop_of_a_stream_and_ends_when_its_changes_are_kept_again(rig):
    rig.fill_to(BOOKS_STOP_AT)
    rig.pending.add([a_book(1)], BOOKS)
    rig.clock.advance(5)
    rig.pending.add([a_book(2)], BOOKS)
    rig.clock.advance(5)
    rig.empty_to(RESUME_BELOW)
    rig.pending.add([a_book(3)], BOOKS)
    assert rig.pending.suspended == 0
    stored = rig.store_all()
    assert of_kind(stored, HoleOpened, HoleClosed) == [
        HoleOpened(str(BOOKS), "v", 1_000_000, "journal_full", "the journal is nearly full"),
        HoleClosed(str(BOOKS), "v", 1_000_000, 1_010_000, "journal_full"),
    ]
    assert (3, True) in book_times(stored)


def test_between_the_marks_what_was_dropped_stays_dropped_and_what_was_not_is_kept(rig):
    """Without that, a journal around a mark would open and close holes all the time."""
    rig.fill_to(BOOKS_STOP_AT)
    rig.pending.add([a_book(1)], BOOKS)
    rig.empty_to(BOOKS_STOP_AT - 0.05)
    assert rig.journal.usage > RESUME_BELOW
    rig.pending.add([a_book(2)], BOOKS)
    assert rig.dropped() == {"book": 2}
    rig.empty_to(RESUME_BELOW)
    rig.pending.add([a_book(3)], BOOKS)
    assert rig.dropped() == {"book": 2}


def test_a_clock_set_back_makes_no_hole_of_negative_length(rig):
    rig.fill_to(BOOKS_STOP_AT)
    rig.pending.add([a_book(1)], BOOKS)
    rig.clock.jump(-3_600)
    rig.empty_to(RESUME_BELOW)
    rig.pending.add(numbered(1))
    [closed] = of_kind(rig.store_all(), HoleClosed)
    assert closed.to_ms >= closed.from_ms


def test_the_hole_survives_a_crash_while_changes_are_being_dropped(rig):
    rig.fill_to(BOOKS_STOP_AT)
    rig.pending.add([a_book(1)], BOOKS)
    journal = Journal(rig.directory, limit_bytes=LIMIT_BYTES)
    journal.open()
    found = [change for record in journal.read(0, max_changes=10**9) for change in record.changes]
    assert len(of_kind(found, HoleOpened)) == 1
    journal.close()
