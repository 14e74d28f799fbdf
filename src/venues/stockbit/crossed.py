"""Books that stay crossed: pure, time is handed in."""

from __future__ import annotations

from collections.abc import Iterable

from src.venues.stockbit.books import BookState

CROSSED_MOST_MS = 2_000
"""In continuous trading a book may be crossed for so long: sides arrive apart, milliseconds after each other."""


class Crossed:
    """Which books are crossed for too long.

    Attributes:
        overdue: their names now, ``BBCA/RG``; empty outside of continuous trading, where crossing is normal.
    """

    def __init__(self) -> None:
        self.overdue: tuple[str, ...] = ()
        self._since_ms: dict[str, int] = {}

    def look(self, states: Iterable[BookState], now_ms: int, *, is_continuous: bool) -> list[str]:
        """Look at all books, a few times a second; returns those that newly count as crossed for too long.

        Only time within continuous trading counts: an auction leaves crossed books behind.
        """
        if not is_continuous:
            self._since_ms.clear()
            self.overdue = ()
            return []
        crossed = {
            f"{state.ticker}/{state.board}": state.crossed_since_ms
            for state in states
            if state.crossed_since_ms is not None
        }
        # A book that was crossed before the last look counts from there: it may have been an auction before.
        self._since_ms = {name: max(self._since_ms.get(name, now_ms), since) for name, since in crossed.items()}
        before, overdue = self.overdue, []
        for name, since_ms in self._since_ms.items():
            if now_ms - since_ms >= CROSSED_MOST_MS:
                overdue.append(name)
        self.overdue = tuple(overdue)
        return [name for name in overdue if name not in before]
