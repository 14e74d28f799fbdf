"""What HTTP routes may ask of the live side: who would get a book that is handed in now."""

from __future__ import annotations

from typing import Protocol

from src.models.messages import Book


class Audience(Protocol):
    """The clients of the gateway, here and in processes that share topics. Answers from memory, at once."""

    def book_subscribers(self, venue: str, symbol: str) -> int:
        """How many clients are subscribed to the order book of this symbol.

        Args:
            venue: where the book is filed under.
            symbol: in the venue's own spelling (``US.AAPL``); clients may have used another one (``AAPL``).
        """


class NoAudience:
    """Where no gateway runs, nobody listens."""

    def book_subscribers(self, venue: str, symbol: str) -> int:
        """Always 0."""
        del venue, symbol
        return 0


class BookIntake(Protocol):
    """Takes order books from producers outside this program."""

    def publish_book(self, book: Book) -> int | None:
        """Send a book the way of all others: diff, subscribers, store. Returns at once, whatever the store does.

        Args:
            book: in the spelling of its venue; books of one symbol count in the order of these calls.

        Returns:
            How many clients are subscribed to it; None when this process does not collect now (a standby).

        Raises:
            BookRefusedError: a book of this venue or symbol is not taken.
        """
