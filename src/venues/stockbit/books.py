"""Order books put together from sides that arrive apart. Pure: no clock, no counters of its own.

A message is a complete snapshot of one side. Both sides together are a book; the older side is then milliseconds old,
so for a moment the best bid may be at or above the best offer, which is no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from src.models.errors import WireError
from src.models.messages import Book, Level, Told
from src.venues.stockbit.body import Body, Side

VENUE = "stockbit"
REGULAR = "RG"

HALF_WAIT_MS = 1_000
"""So long the first side of a book waits for the other; a share without any offers never gets one."""

OUTDATED_MOST_MS = 60_000
"""A side older than the one before by more than this was not overtaken: the venue's clock or source changed."""

MOST_BOOKS = 5_000
"""IDX lists about a thousand shares on three boards."""

TOO_MANY_BOOKS = "too_many_books"

Odd = Callable[[str, int], None]
"""Told of what was passed over: (reason, how often)."""


def symbol_of(ticker: str, board: str) -> str:
    """``BBCA`` on the regular board, ``TN.BBCA`` and ``NG.BBCA`` on the others, as the venue writes indices."""
    return ticker if board == REGULAR else f"{board}.{ticker}"


class SideState(Struct):
    """What is known of one side; ``told`` None = nothing since the last connect or reset."""

    levels: dict[str, Level] = {}
    row: tuple[Level, ...] = ()
    told: Told | None = None


class BookState(Struct):
    """One ticker on one board."""

    ticker: str
    board: str
    bid: SideState
    offer: SideState
    last: Book | None = None  # as handed on last, whatever happened to the sides since
    held_since_ms: int | None = None  # half a book waits for its other half
    is_one_sided: bool = False  # it waited in vain
    begins: bool = True  # no book since the last connect or reset
    crossed_since_ms: int | None = None


class Books:
    """The books of one connection."""

    def __init__(self, odd: Odd) -> None:
        self._odd = odd
        self._states: dict[tuple[str, str], BookState] = {}
        self._held: dict[tuple[str, str], BookState] = {}

    def __iter__(self) -> Iterator[BookState]:
        return iter(self._states.values())

    def state(self, ticker: str, board: str) -> BookState:
        """The state of one ticker on one board, made when it is new.

        Raises:
            WireError: there are more than any exchange lists.
        """
        state = self._states.get((ticker, board))
        if state is None:
            if len(self._states) >= MOST_BOOKS:
                raise WireError(TOO_MANY_BOOKS, f"{ticker} on {board}")
            state = self._states[ticker, board] = BookState(ticker, board, SideState(), SideState())
        return state

    def forget_sides(self) -> None:
        """A new connection: what was known of any side is from before a gap."""
        for state in self._states.values():
            _forget(state)
        self._held.clear()

    def reset(self, state: BookState) -> None:
        """The venue changed its source: the book begins anew."""
        _forget(state)
        self._held.pop((state.ticker, state.board), None)

    def drop(self, tickers: frozenset[str]) -> None:
        """Nobody wants these any more."""
        for key in [key for key in self._states if key[0] in tickers]:
            del self._states[key]
            self._held.pop(key, None)

    def take(self, state: BookState, body: Body, told: Told) -> Book | None:
        """Apply one message; returns the book it makes, None when nothing changed or its other half is missing."""
        changed = False
        for name, levels in body.sides.items():
            changed |= self._take_side(state, name, levels, told)
        if not changed:
            return None
        if state.begins and _is_repeated(state):
            self._odd("repeated_book", 1)
            state.begins = False
            state.held_since_ms = None
            self._held.pop((state.ticker, state.board), None)
            return None
        if (state.bid.told is None or state.offer.told is None) and not state.is_one_sided:
            if state.held_since_ms is None:
                state.held_since_ms = told.received_ms
            self._held[state.ticker, state.board] = state
            return None  # `overdue` hands it on
        return self._make(state, told.received_ms)

    def overdue(self, received_ms: int) -> list[tuple[str, Book]]:
        """Half books that have waited long enough, with their tickers: their other side is probably empty."""
        if not self._held:
            return []
        due = [
            state
            for state in self._held.values()
            if state.held_since_ms is not None and received_ms - state.held_since_ms >= HALF_WAIT_MS
        ]
        return [(state.ticker, self._make(state, received_ms)) for state in due]

    def _take_side(self, state: BookState, name: Side, levels: dict[str, Level], told: Told) -> bool:
        """Replace one side; returns whether it is anything new."""
        side = state.bid if name == "BID" else state.offer
        before = side.told
        if before is not None:
            if (told.text, told.seq) == (before.text, before.seq) and levels.keys() == side.levels.keys():
                self._odd("repeated_side", 1)
                return False
            if 0 < before.time_ms - told.time_ms <= OUTDATED_MOST_MS:
                self._odd("outdated_side", 1)
                return False
        side.levels = levels
        side.row = tuple(levels.values())
        side.told = told
        return True

    def _make(self, state: BookState, received_ms: int) -> Book:
        bid, offer = state.bid, state.offer
        told = [side.told for side in (bid, offer) if side.told is not None]
        time_ms = max(side.time_ms for side in told)
        last = state.last
        if last is not None and 0 <= last.time_ms - time_ms <= OUTDATED_MOST_MS:
            # Both sides may be told within one millisecond, and each book needs a place of its own in the history.
            time_ms = last.time_ms + 1
        book = Book(
            venue=VENUE,
            symbol=symbol_of(state.ticker, state.board),
            time_ms=time_ms,
            received_ms=received_ms,
            bids=bid.row,
            asks=offer.row,
            board=state.board,
            bids_told=bid.told,
            asks_told=offer.told,
        )
        state.last = book
        state.is_one_sided = len(told) == 1
        state.begins = False
        state.held_since_ms = None
        self._held.pop((state.ticker, state.board), None)
        if not is_crossed(book):
            state.crossed_since_ms = None
        elif state.crossed_since_ms is None:
            state.crossed_since_ms = received_ms
        return book


def _is_repeated(state: BookState) -> bool:
    """Whether both sides are those handed on last, as they come again after a new connection."""
    last, bid, offer = state.last, state.bid, state.offer
    if last is None or (last.bids, last.asks) != (bid.row, offer.row):
        return False
    return _text(last.bids_told) == _text(bid.told) and _text(last.asks_told) == _text(offer.told)


def _text(told: Told | None) -> str | None:
    return None if told is None else told.text


def is_crossed(book: Book) -> bool:
    """Whether somebody bids as much as somebody asks, or more."""
    return bool(book.bids and book.asks) and float(book.bids[0].px) >= float(book.asks[0].px)


def _forget(state: BookState) -> None:
    state.bid = SideState()
    state.offer = SideState()
    state.is_one_sided = False
    state.begins = True
    state.held_since_ms = None
    state.crossed_since_ms = None
