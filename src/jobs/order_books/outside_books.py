"""Order books handed in from outside: into the same pipeline as everything the program collects itself."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from msgspec import Struct, structs

from src.models.clock import Clock
from src.models.errors import BookRefusedError
from src.models.messages import Book, Data
from src.models.metrics import OUTSIDE_BOOKS, Metrics
from src.models.streams import StreamKey
from src.venues.feed import Sink

CHANNEL = "book"

MOST_SYMBOLS = 5_000
"""Symbols kept at once; a producer that invents names must not fill the memory of the diff."""


class Subscribers(Protocol):
    """The clients that listen; see ``src.api.live.Audience``."""

    def book_subscribers(self, venue: str, symbol: str) -> int:
        """How many clients are subscribed to the order book of this symbol."""


class _Last(Struct):
    given_ms: int
    placed_ms: int


class OutsideBooks:
    """Takes books one after the other; ``src.api.live.BookIntake`` is its contract.

    Args:
        sink: the pipeline.
        audience: counts the subscribers.
        collected: venues this program collects itself; nobody else may write under their names.
        is_collecting: False while the program waits for its turn (a standby).
        clock, metrics: as everywhere.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        audience: Subscribers,
        clock: Clock,
        metrics: Metrics,
        collected: Collection[str] = (),
        is_collecting: Callable[[], bool] = lambda: True,
    ) -> None:
        self._sink = sink
        self._audience = audience
        self._clock = clock
        self._metrics = metrics
        self._collected = frozenset(collected)
        self._is_collecting = is_collecting
        self._last: dict[tuple[str, str], _Last] = {}

    def publish_book(self, book: Book) -> int | None:
        """See ``src.api.live.BookIntake``.

        Raises:
            BookRefusedError: of a venue that is collected here, or one symbol too many.
        """
        if not self._is_collecting():
            self._metrics.add(OUTSIDE_BOOKS, "not_collecting")
            return None
        if book.venue in self._collected:
            self._metrics.add(OUTSIDE_BOOKS, "refused")
            raise BookRefusedError(f"books of {book.venue} are collected by this program itself; use another venue")
        placed = structs.replace(book, time_ms=self._place(book))
        stream = StreamKey(book.venue, CHANNEL, book.symbol)
        self._sink.data(Data(stream, placed.time_ms, (placed,), received_ms=book.received_ms))
        self._metrics.add(OUTSIDE_BOOKS, "taken")
        return self._audience.book_subscribers(book.venue, book.symbol)

    def _place(self, book: Book) -> int:
        """A time later than that of the book before: the order of arrival is what counts.

        Its own time where that is later; else, when it went back, that of its arrival.
        """
        key = (book.venue, book.symbol)
        last = self._last.get(key)
        if last is None:
            if len(self._last) >= MOST_SYMBOLS:
                self._metrics.add(OUTSIDE_BOOKS, "refused")
                raise BookRefusedError(f"{MOST_SYMBOLS} symbols from outside are kept already, one more is not taken")
            self._last[key] = _Last(book.time_ms, book.time_ms)
            return book.time_ms
        time_ms = book.time_ms
        if time_ms <= last.placed_ms:
            went_back = time_ms < last.given_ms
            time_ms = max(last.placed_ms + 1, book.received_ms if went_back else 0)
        self._last[key] = _Last(book.time_ms, time_ms)
        return time_ms
