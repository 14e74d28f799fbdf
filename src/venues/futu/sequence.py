"""Books in an order of our own: the gateway numbers nothing, and its times repeat, lag or are missing. Pure."""

from __future__ import annotations

from msgspec import Struct

from src.models.messages import Book
from src.venues.futu.mapper import VENUE, BookReading

BACKWARDS_MOST_MS = 60_000
"""A server time behind the last one by more than this is another clock, not a late side of the book."""


class _Last(Struct, frozen=True):
    server_ms: int | None
    time_ms: int
    reading: BookReading


class BookSequence:
    """Gives every book of a symbol a time later than the one before; the order of arrival is the only truth."""

    def __init__(self) -> None:
        self._last: dict[str, _Last] = {}

    def place(self, reading: BookReading, received_ms: int) -> Book | None:
        """``reading`` as a book; None when it only repeats the last one (the cached first push after a reconnect)."""
        last = self._last.get(reading.symbol)
        if last is not None and _repeats(last, reading):
            return None
        server_ms = reading.server_ms
        time_ms = received_ms if server_ms is None else server_ms
        if last is not None and time_ms <= last.time_ms:
            far_back = last.time_ms - time_ms > BACKWARDS_MOST_MS
            time_ms = max(last.time_ms + 1, received_ms if far_back else 0)
        self._last[reading.symbol] = _Last(server_ms, time_ms, reading)
        return Book(VENUE, reading.symbol, time_ms, received_ms, reading.bids, reading.asks)

    def last(self, symbol: str) -> BookReading | None:
        """What was pushed last of ``symbol``."""
        last = self._last.get(symbol)
        return None if last is None else last.reading

    def forget(self, symbol: str) -> None:
        """``symbol`` is no longer collected."""
        self._last.pop(symbol, None)


def _repeats(last: _Last, reading: BookReading) -> bool:
    if reading.server_ms is not None and reading.server_ms != last.server_ms:
        return False
    return reading.bids == last.reading.bids and reading.asks == last.reading.asks
