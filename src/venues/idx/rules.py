"""The market rules of IDX as dated tables: what holds from which day on. Pure data, changed by exchange decree.

Sources are named in ``README.md``; what public sources tell differently is marked there as uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

WIB = timezone(timedelta(hours=7), "WIB")
"""Western Indonesian time, UTC+7, without daylight saving."""

LOT_SHARES = 100
FRIDAY = 4


class Phase(StrEnum):
    """What the exchange does at a moment."""

    CLOSED = "closed"
    PRE_OPENING = "pre_opening"
    SESSION_1 = "session_1"
    LUNCH = "lunch"
    SESSION_2 = "session_2"
    PRE_CLOSING = "pre_closing"
    POST_CLOSING = "post_closing"
    UNKNOWN = "unknown"
    """Before the first day these tables know."""


class Board(StrEnum):
    """The markets of one share, each with its own book, named as in the feed; FCA = special monitoring."""

    REGULAR = "RG"
    CASH = "TN"
    NEGOTIATED = "NG"
    AUCTION = "FCA"


CONTINUOUS = frozenset({Phase.SESSION_1, Phase.SESSION_2})


class Span(NamedTuple):
    """A phase of the day, from ``begin`` (inclusive) to ``end`` (exclusive), in WIB."""

    phase: Phase
    begin: time
    end: time


class DayPlan(NamedTuple):
    """The phases of a trading day that begin on ``since``, on Fridays and on other days."""

    since: date
    normal: Sequence[Span]
    friday: Sequence[Span]


_MORNING = Span(Phase.PRE_OPENING, time(8, 45), time(9))
_CLOSING = (
    Span(Phase.PRE_CLOSING, time(15, 50), time(16, 1)),
    Span(Phase.POST_CLOSING, time(16, 1), time(16, 15)),
)
_UNTIL_LUNCH = (Span(Phase.SESSION_1, time(9), time(12)), Span(Phase.LUNCH, time(12), time(13, 30)))
_UNTIL_LUNCH_FRIDAY = (Span(Phase.SESSION_1, time(9), time(11, 30)), Span(Phase.LUNCH, time(11, 30), time(14)))
_BEGAN = date(2023, 4, 3)
_AUCTIONS_BEGAN = date(2024, 3, 25)

DAY_PLANS: dict[Board, Sequence[DayPlan]] = {
    Board.REGULAR: (
        DayPlan(
            _BEGAN,
            (_MORNING, *_UNTIL_LUNCH, Span(Phase.SESSION_2, time(13, 30), time(15, 50)), *_CLOSING),
            (_MORNING, *_UNTIL_LUNCH_FRIDAY, Span(Phase.SESSION_2, time(14), time(15, 50)), *_CLOSING),
        ),
    ),
    Board.CASH: (DayPlan(_BEGAN, _UNTIL_LUNCH[:1], _UNTIL_LUNCH_FRIDAY[:1]),),
    Board.NEGOTIATED: (
        DayPlan(
            _BEGAN,
            (*_UNTIL_LUNCH, Span(Phase.SESSION_2, time(13, 30), time(16, 30))),
            (*_UNTIL_LUNCH_FRIDAY, Span(Phase.SESSION_2, time(14), time(16, 30))),
        ),
    ),
    # Five auctions a day, four on Fridays. Only the first one's times are public, so the phases are those of the
    # regular market, and none of them is continuous (see `IdxCalendar.is_continuous`).
    Board.AUCTION: (
        DayPlan(
            _AUCTIONS_BEGAN,
            (*_UNTIL_LUNCH, Span(Phase.SESSION_2, time(13, 30), time(15, 50)), *_CLOSING),
            (*_UNTIL_LUNCH_FRIDAY, Span(Phase.SESSION_2, time(14), time(15, 50)), *_CLOSING),
        ),
    ),
}
"""Later plans stand behind earlier ones."""


class Tick(NamedTuple):
    """Prices from ``from_price`` on move in steps of ``step`` rupiah."""

    from_price: int
    step: int


class TickTable(NamedTuple):
    """The steps in force since a day, the lowest price first."""

    since: date
    ticks: Sequence[Tick]


TICK_TABLES: Sequence[TickTable] = (
    TickTable(_BEGAN, (Tick(0, 1), Tick(200, 2), Tick(500, 5), Tick(2_000, 10), Tick(5_000, 25))),
)


class Band(NamedTuple):
    """How far a price may move in a day from a reference price of at most ``up_to`` (None = any higher one).

    ``rise`` and ``fall`` are shares of the reference price; ``least_move`` is in rupiah and holds where it is larger.
    """

    up_to: int | None
    rise: Decimal
    fall: Decimal
    least_move: int = 0


class BandTable(NamedTuple):
    """The daily limits in force since a day, and the lowest price there is."""

    since: date
    lowest_price: int
    bands: Sequence[Band]


_LEAST_PRICE = 50
_SMALL, _MIDDLE, _LARGE = Decimal("0.35"), Decimal("0.25"), Decimal("0.20")
_SEVEN, _TEN, _FIFTEEN = Decimal("0.07"), Decimal("0.10"), Decimal("0.15")


def _bands(since: date, falls: tuple[Decimal, Decimal, Decimal]) -> BandTable:
    rows = zip((200, 5_000, None), (_SMALL, _MIDDLE, _LARGE), falls, strict=True)
    return BandTable(since, _LEAST_PRICE, tuple(Band(up_to, rise, fall) for up_to, rise, fall in rows))


BAND_TABLES: dict[Board, Sequence[BandTable]] = {
    Board.REGULAR: (
        _bands(_BEGAN, (_SEVEN, _SEVEN, _SEVEN)),
        _bands(date(2023, 6, 5), (_FIFTEEN, _FIFTEEN, _FIFTEEN)),
        _bands(date(2023, 9, 4), (_SMALL, _MIDDLE, _LARGE)),
        _bands(date(2025, 4, 8), (_FIFTEEN, _FIFTEEN, _FIFTEEN)),
    ),
    Board.AUCTION: (
        BandTable(_AUCTIONS_BEGAN, 1, (Band(10, Decimal(0), Decimal(0), least_move=1), Band(None, _TEN, _TEN))),
    ),
}
"""TN follows the regular market; the negotiated market has no limits."""
