"""When IDX trades, in which steps and within which limits, at any moment. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple, Protocol, TypeVar

from src.venues.idx.holidays import Holidays
from src.venues.idx.rules import (
    BAND_TABLES,
    CONTINUOUS,
    DAY_PLANS,
    FRIDAY,
    TICK_TABLES,
    WIB,
    Board,
    Phase,
    Span,
)

LONGEST_CLOSURE_DAYS = 30
"""A closure that seems longer is a mistake in the holidays file; it is cut there."""

_SATURDAY = 5
_DAY = timedelta(days=1)

Moment = datetime | int
"""A datetime with an offset, or milliseconds since 1970."""


class Session(NamedTuple):
    """A stretch of time in which the exchange does the same.

    Attributes:
        phase: what it does.
        begin, end: from when (inclusive) to when (exclusive), in WIB. A closure reaches to the next phase.
        day: the trading day it belongs to, None while closed.
        board: whose phase this is.
    """

    phase: Phase
    begin: datetime
    end: datetime
    day: date | None
    board: Board

    @property
    def is_continuous(self) -> bool:
        """Whether orders are matched as they come: then silence and crossed books are signs of trouble."""
        return self.phase in CONTINUOUS and self.board is not Board.AUCTION


class Limits(NamedTuple):
    """Lowest and highest price of a day, in rupiah, both allowed."""

    lowest: int
    highest: int


class _Dated(Protocol):
    @property
    def since(self) -> date: ...


_Rule = TypeVar("_Rule", bound=_Dated)


class IdxCalendar:
    """The rules of IDX over time. Moments before the first rule have `Phase.UNKNOWN` and no limits."""

    def __init__(self, holidays: Holidays | None = None) -> None:
        self._holidays = Holidays() if holidays is None else holidays

    def session_at(self, when: Moment, board: Board = Board.REGULAR) -> Session:
        """The phase of a board at a moment, with its bounds.

        Raises:
            ValueError: ``when`` is a datetime without an offset.
        """
        local = local_time(when)
        spans = self._spans(local.date(), board)
        if spans is None:
            first = datetime.combine(DAY_PLANS[board][0].since, time(), WIB)
            return Session(Phase.UNKNOWN, datetime.min.replace(tzinfo=WIB), first, None, board)
        clock = local.timetz().replace(tzinfo=None)
        for span in spans:
            if span.begin <= clock < span.end:
                begin, end = (datetime.combine(local.date(), at, WIB) for at in (span.begin, span.end))
                return Session(span.phase, begin, end, local.date(), board)
        return Session(Phase.CLOSED, self._closed_since(local, board), self._opens_at(local, board), None, board)

    def is_continuous(self, when: Moment, board: Board = Board.REGULAR) -> bool:
        """Whether a board trades continuously at this moment."""
        return self.session_at(when, board).is_continuous

    def trading_day(self, when: Moment) -> date | None:
        """The exchange's date at a moment, None when it does not trade on that date."""
        day = local_time(when).date()
        return day if self.is_trading_day(day) else None

    def is_trading_day(self, day: date) -> bool:
        """Whether the exchange trades on this date; of years without known holidays every weekday counts."""
        return day.weekday() < _SATURDAY and day not in self._holidays

    def notice(self, when: Moment) -> str:
        """A sentence about what the calendar does not know at this moment; empty when there is nothing to tell."""
        year = local_time(when).year
        if self._holidays.is_known(year):
            return ""
        return (
            f"the holidays of IDX in {year} are not known, so every weekday counts as a trading day; "
            "name a file with them in IDX_HOLIDAYS_FILE"
        )

    def tick_size(self, price: Decimal | int, when: Moment) -> int | None:
        """The step of prices around ``price`` in rupiah, None before the first rule."""
        table = _in_force(TICK_TABLES, local_time(when).date())
        if table is None:
            return None
        return max((tick for tick in table.ticks if tick.from_price <= price), default=table.ticks[0]).step

    def is_on_tick(self, price: Decimal | int, when: Moment) -> bool:
        """Whether an order may have this price, as far as steps go; True where no rule is known."""
        step = self.tick_size(price, when)
        return step is None or (price > 0 and price % step == 0)

    def limits(self, reference: int, when: Moment, board: Board = Board.REGULAR) -> Limits | None:
        """The daily limits (auto rejection) around yesterday's close; None where there are none or no rule is known.

        The upper limit is rounded down and the lower one up to the step of the resulting price.
        """
        tables = BAND_TABLES.get(Board.REGULAR if board is Board.CASH else board)
        table = _in_force(tables or (), local_time(when).date())
        if table is None:
            return None
        band = next(band for band in table.bands if band.up_to is None or reference <= band.up_to)
        rise = max(reference * band.rise, Decimal(band.least_move))
        fall = max(reference * band.fall, Decimal(band.least_move))
        highest = self._rounded(reference + rise, when, board, ROUND_FLOOR)
        lowest = self._rounded(reference - fall, when, board, ROUND_CEILING)
        return Limits(max(lowest, table.lowest_price), highest)

    # -- bounds of phases --------------------------------------------------------------------------------------------

    def _spans(self, day: date, board: Board) -> Sequence[Span] | None:
        """The phases of a date, in order; empty when it is no trading day, None before the first rule."""
        plan = _in_force(DAY_PLANS[board], day)
        if plan is None:
            return None
        if not self.is_trading_day(day):
            return ()
        return plan.friday if day.weekday() == FRIDAY else plan.normal

    def _closed_since(self, local: datetime, board: Board) -> datetime:
        """The end of the last phase before."""
        day = local.date()
        for _ in range(LONGEST_CLOSURE_DAYS):
            spans = self._spans(day, board)
            if spans is None:
                break
            ended = [span.end for span in spans if datetime.combine(day, span.end, WIB) <= local]
            if ended:
                return datetime.combine(day, max(ended), WIB)
            day -= _DAY
        return datetime.combine(day + _DAY, time(), WIB)

    def _opens_at(self, local: datetime, board: Board) -> datetime:
        """The beginning of the next phase."""
        day = local.date()
        for _ in range(LONGEST_CLOSURE_DAYS):
            coming = [span.begin for span in self._spans(day, board) or ()]
            coming = [begin for begin in coming if datetime.combine(day, begin, WIB) > local]
            if coming:
                return datetime.combine(day, min(coming), WIB)
            day += _DAY
        return datetime.combine(day, time(), WIB)

    def _rounded(self, price: Decimal, when: Moment, board: Board, rounding: str) -> int:
        step = 1 if board is Board.AUCTION else self.tick_size(price, when)
        steps = (price / Decimal(step or 1)).to_integral_value(rounding)
        return int(steps) * (step or 1)


def local_time(when: Moment) -> datetime:
    """The same moment in WIB.

    Raises:
        ValueError: ``when`` is a datetime without an offset.
    """
    if isinstance(when, int):
        return datetime.fromtimestamp(when / 1000, UTC).astimezone(WIB)
    if when.tzinfo is None:
        raise ValueError(f"{when.isoformat()} has no offset; say in which time zone it is meant")
    return when.astimezone(WIB)


def _in_force(rules: Sequence[_Rule], day: date) -> _Rule | None:
    """The last rule that began on or before a day."""
    return next((rule for rule in reversed(rules) if rule.since <= day), None)
