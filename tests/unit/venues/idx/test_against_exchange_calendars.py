"""Our table beside the library `exchange_calendars` (code XIDX): where they agree, and why it is not used.

The library is no dependency of the program; where it is absent this is skipped. Decision 0010 quotes what is found.
"""

from __future__ import annotations

from datetime import date, time, timedelta

import pytest

from src.venues.idx.calendar import IdxCalendar

CALENDAR = IdxCalendar()
pytestmark = pytest.mark.filterwarnings("ignore")  # the library and pandas warn of each other


@pytest.fixture(scope="module")
def library():
    module = pytest.importorskip("exchange_calendars", reason="exchange_calendars is not installed here")
    return module.get_calendar("XIDX", start="2023-04-03", end="2026-11-13")


def weekdays(year):
    return [day for n in range(366) if (day := date(year, 1, 1) + timedelta(n)).year == year and day.weekday() < 5]


@pytest.mark.parametrize("year", [2024, 2025])
def test_days_of_past_years_agree_but_for_one_that_the_library_misses(library, year):
    theirs = {session.date() for session in library.sessions}
    different = [day for day in weekdays(year) if (day in theirs) != CALENDAR.is_trading_day(day)]
    assert different == ([date(2025, 8, 18)] if year == 2025 else [])


def test_the_library_knows_only_the_fixed_holidays_of_this_year(library):
    theirs = {session.date() for session in library.sessions}
    missed = [
        day
        for day in weekdays(2026)
        if day < date(2026, 11, 13) and day in theirs and not CALENDAR.is_trading_day(day)
    ]
    assert date(2026, 3, 20) in missed
    assert len(missed) >= 10


def test_the_library_has_neither_lunch_nor_fridays_nor_auctions(library):
    assert not library.has_break
    hours = {(open_.time(), close.time()) for open_, close in zip(library.opens, library.closes, strict=True)}
    assert hours == {(time(2), time(8, 50))}  # UTC: 09:00 to 15:50 on every day
