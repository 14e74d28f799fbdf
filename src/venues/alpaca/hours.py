"""New York time and the hours of the US stock market, by rule: no tables to keep up, no time zone data needed. Pure.

The rules are those in force since 2007 (daylight saving) and 2022 (holidays). Closures by decree (days of mourning,
storms) are not known; they look like a quiet market.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_MS = 3_600_000
_MINUTE_MS = 60_000
_MONDAY, _THURSDAY, _FRIDAY, _SATURDAY, _SUNDAY = 0, 3, 4, 5, 6

PRE_MARKET_MIN = 4 * 60
OPEN_MIN = 9 * 60 + 30
CLOSE_MIN = 16 * 60
EARLY_CLOSE_MIN = 13 * 60
AFTER_HOURS_END_MIN = 20 * 60
"""Minutes after midnight in New York."""

REGULAR_MINUTES = CLOSE_MIN - OPEN_MIN


class Session(NamedTuple):
    """Regular trading of one day, in ms since 1970."""

    open_ms: int
    close_ms: int


def offset_hours(time_ms: int) -> int:
    """Hours from New York's time to UTC at a moment, -5 or -4."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    # Clocks change at 2 o'clock New York time: 7:00 UTC in spring, 6:00 UTC in autumn.
    begin = datetime(moment.year, 3, 1, 7, tzinfo=UTC) + timedelta(days=_to_weekday(date(moment.year, 3, 1), 6) + 7)
    end = datetime(moment.year, 11, 1, 6, tzinfo=UTC) + timedelta(days=_to_weekday(date(moment.year, 11, 1), 6))
    return -4 if begin <= moment < end else -5


@lru_cache(maxsize=4096)
def _date_of_hour(hour: int) -> date:
    return (_EPOCH + timedelta(hours=hour + offset_hours(hour * _HOUR_MS))).date()


def new_york_date(time_ms: int) -> date:
    """The date in New York; trading after 19:00 there is on the next day in UTC.

    Raises:
        OverflowError: the time is outside of the calendar.
    """
    return _date_of_hour(time_ms // _HOUR_MS)


def midnight_ms(day: date) -> int:
    """When a date begins in New York, in ms since 1970."""
    utc_ms = (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
    # Clocks change after midnight.
    return utc_ms - offset_hours(utc_ms + 5 * _HOUR_MS) * _HOUR_MS


@lru_cache(maxsize=1024)
def session_of(day: date) -> Session | None:
    """Regular trading of a date in New York, None on weekends and holidays."""
    if day.weekday() >= _SATURDAY or is_holiday(day):
        return None
    # Clocks change on Sundays: on a trading day all hours have the same length.
    begin_ms = midnight_ms(day)
    close_min = EARLY_CLOSE_MIN if closes_early(day) else CLOSE_MIN
    return Session(begin_ms + OPEN_MIN * _MINUTE_MS, begin_ms + close_min * _MINUTE_MS)


def is_regular(time_ms: int) -> bool:
    """Whether regular trading is on."""
    session = session_of(new_york_date(time_ms))
    return session is not None and session.open_ms <= time_ms < session.close_ms


def is_extended(time_ms: int) -> bool:
    """Whether anything is traded on the exchanges: from 4:00 to 20:00 (17:00 on short days) of a trading day."""
    day = new_york_date(time_ms)
    session = session_of(day)
    if session is None:
        return False
    begin_ms = session.open_ms - (OPEN_MIN - PRE_MARKET_MIN) * _MINUTE_MS
    end_ms = session.close_ms + (AFTER_HOURS_END_MIN - CLOSE_MIN) * _MINUTE_MS
    return begin_ms <= time_ms < end_ms


@lru_cache(maxsize=1024)
def is_holiday(day: date) -> bool:
    """Whether the exchanges stay closed on this weekday."""
    year = day.year
    moving = (
        _nth_weekday(year, 1, _MONDAY, 3),  # Martin Luther King
        _nth_weekday(year, 2, _MONDAY, 3),  # Presidents
        easter(year) - timedelta(days=2),
        date(year, 5, 31) - timedelta(days=date(year, 5, 31).weekday()),  # Memorial: last Monday of May
        _nth_weekday(year, 9, _MONDAY, 1),  # Labor
        _nth_weekday(year, 11, _THURSDAY, 4),  # Thanksgiving
    )
    fixed = (_observed(date(year, 6, 19)), _observed(date(year, 7, 4)), _observed(date(year, 12, 25)))
    new_year = date(year, 1, 1)
    if new_year.weekday() == _SUNDAY:
        new_year += timedelta(days=1)  # on a Saturday it is not made up for: the year's last trading day is held
    return day in moving or day in fixed or day == new_year


def closes_early(day: date) -> bool:
    """Whether trading ends at 13:00: the days around Independence Day, Thanksgiving and Christmas."""
    if day == _nth_weekday(day.year, 11, _THURSDAY, 4) + timedelta(days=1):
        return True
    return (day.month, day.day) in ((7, 3), (12, 24)) and day.weekday() < _FRIDAY


def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (the anonymous algorithm of 1876)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return date(year, month, day + 1)


def _observed(day: date) -> date:
    if day.weekday() == _SATURDAY:
        return day - timedelta(days=1)
    return day + timedelta(days=1) if day.weekday() == _SUNDAY else day


def _nth_weekday(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=_to_weekday(first, weekday) + 7 * (n - 1))


def _to_weekday(day: date, weekday: int) -> int:
    """Days from ``day`` to the next ``weekday``, 0 when it is one."""
    return (weekday - day.weekday()) % 7
