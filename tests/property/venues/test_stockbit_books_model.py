"""Whatever order sides, repetitions, resets and new connections come in: books mix nothing, and each side is written once.

Frames go through the mapper, its books through what makes rows of them for the files; a model of a few lines says which
sides were accepted.
"""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.jobs.order_books.csv_rows import updates_of
from src.jobs.order_books.exchange_days import WIB
from src.models.messages import Book, Data, Several
from src.venues.stockbit.books import HALF_WAIT_MS
from src.venues.stockbit.mapper import StockbitMapper
from src.venues.stockbit.simulator.frames import reset_frame
from tests.support.stockbit_frames import START_MS, book

TICKERS = ("BBCA", "TLKM")
SIDES = ("BID", "OFFER")

tickers = st.sampled_from(("BBCA", "BBCA", "BBCA", "TLKM"))
sides = st.tuples(st.just("side"), tickers, st.sampled_from(SIDES), st.integers(0, 3))
repeats = st.tuples(st.just("repeat"), tickers, st.sampled_from(SIDES), st.just(0))
resets = st.tuples(st.just("reset"), tickers, st.just(""), st.just(0))
BREAK = ("break", "", "", 0)
breaks = st.just(BREAK)
pauses = st.tuples(st.just("pause"), st.just(""), st.just(""), st.just(0))
events = st.lists(st.one_of(sides, sides, repeats, repeats, resets, breaks, pauses), max_size=60)


class World:
    """The mapper, the last book of each share as the writer of files remembers it, and the model."""

    def __init__(self):
        self.mapper = StockbitMapper()
        self.now_ms = START_MS
        self.seq = 0
        self.sent = {}
        self.known = {}
        self.written = []
        self.accepted = {}
        self.held = {}
        self.forgiven = set()
        self.books = []

    def step(self, kind, ticker, side, prices):
        self.now_ms += 7
        if kind == "side":
            self.seq += 1
            told = (
                self.seq,
                tuple(range(100, 100 - prices, -1)) if side == "BID" else tuple(range(101, 101 + prices)),
            )
            self.sent[ticker, side] = (*told, self.now_ms)
            self._say(ticker, side, *self.sent[ticker, side], is_new=True)
        elif kind == "repeat" and (ticker, side) in self.sent:
            self._say(ticker, side, *self.sent[ticker, side], is_new=False)
        elif kind == "reset":
            self._forget(ticker)
            self._hear(reset_frame(ticker, self.now_ms))
        elif kind == "break":
            for name in TICKERS:
                self._forget(name)
            self.mapper.opened()
        elif kind == "pause":
            self.now_ms += HALF_WAIT_MS

    def _say(self, ticker, side, seq, prices, at_ms, *, is_new):
        key = (ticker, side)
        if is_new:
            before = self.held.get(ticker, {}).get(side)
            if before is not None:
                self.forgiven.add((ticker, side, before))  # overtaken while it waited for the other half
            self.held.setdefault(ticker, {})[side] = seq
            self.accepted[ticker, side, seq] = prices
        self._hear(book(*key, *prices, at_ms=at_ms, seq=seq))

    def _forget(self, ticker):
        self.forgiven |= {(ticker, side, seq) for side, seq in self.held.pop(ticker, {}).items()}

    def _hear(self, frame):
        decoded = self.mapper.decode(frame, self.now_ms)
        parts = decoded.parts if isinstance(decoded, Several) else (decoded,)
        for part in parts:
            for message in part.messages if isinstance(part, Data) else ():
                if isinstance(message, Book):
                    self._take(message)

    def _take(self, message):
        self.books.append(message)
        self.held.pop(message.symbol, None)
        for update in updates_of(message, self.known.get(message.symbol), WIB):
            prices = tuple(int(level.px) for level in update.levels)
            self.written.append((message.symbol, update.side, update.seq, prices))
        self.known[message.symbol] = message


@settings(max_examples=300)
@example(
    [
        ("side", "BBCA", "BID", 2),
        ("side", "BBCA", "OFFER", 2),
        BREAK,
        ("repeat", "BBCA", "BID", 0),
        ("side", "BBCA", "OFFER", 3),
    ]
)
@given(events)
def test_each_side_is_written_once_and_nothing_else(steps):
    world = World()
    for step in steps:
        world.step(*step)
    names = [row[:3] for row in world.written]
    assert len(names) == len(set(names)), "nothing twice"
    assert all(world.accepted[row[:3]] == row[3] for row in world.written), "as it was sent"
    waiting = {(ticker, side, seq) for ticker, sides in world.held.items() for side, seq in sides.items()}
    assert set(world.accepted) - set(names) <= world.forgiven | waiting, "nothing is lost"


@given(events)
def test_a_book_has_no_side_of_before_a_break_and_time_goes_on(steps):
    world, begins, seen = World(), dict.fromkeys(TICKERS, START_MS), {}
    for step in steps:
        world.step(*step)
        if step[0] in ("break", "reset"):
            begins |= {name: world.now_ms for name in TICKERS if step[1] in ("", name)}
        for message in world.books:
            assert message.time_ms > seen.get(message.symbol, 0)
            seen[message.symbol] = message.time_ms
            for told, levels in ((message.bids_told, message.bids), (message.asks_told, message.asks)):
                assert told is not None or levels == ()
                assert told is None or told.received_ms >= begins[message.symbol]
        world.books.clear()


@given(events)
def test_what_is_remembered_at_the_end_is_what_was_sent_last(steps):
    """A share whose both sides were told since the last break is known exactly."""
    world = World()
    for step in [*steps, ("side", "BBCA", "BID", 2), ("side", "BBCA", "OFFER", 3)]:
        world.step(*step)
    last = world.known["BBCA"]
    assert [level.px for level in last.bids] == ["100", "99"]
    assert [level.px for level in last.asks] == ["101", "102", "103"]
