"""New York's time and the hours of the US stock market."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from src.venues.alpaca.hours import (
    closes_early,
    easter,
    is_extended,
    is_holiday,
    is_regular,
    midnight_ms,
    new_york_date,
    offset_hours,
    session_of,
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("moment", "hours"),
    [
        ("2025-01-15T12:00:00", -5),
        ("2025-07-01T12:00:00", -4),
        ("2025-03-09T06:59:59", -5),
        ("2025-03-09T07:00:00", -4),
        ("2025-11-02T05:59:59", -4),
        ("2025-11-02T06:00:00", -5),
        ("2026-03-08T07:00:00", -4),
        ("2026-11-01T06:00:00", -5),
    ],
)
def test_clocks_change_when_new_yorks_do(moment: str, hours: int) -> None:
    assert offset_hours(ms(moment)) == hours


def test_the_rule_agrees_with_the_time_zone_database() -> None:
    zoneinfo = pytest.importorskip("zoneinfo")
    try:
        zone = zoneinfo.ZoneInfo("America/New_York")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("this system has no time zone data")
    for day in range(0, 366 * 12, 1):
        for hour in (0, 5, 6, 7, 23):
            time_ms = ms("2020-01-01T00:00:00") + day * 86_400_000 + hour * 3_600_000
            there = datetime.fromtimestamp(time_ms / 1000, zone)
            assert offset_hours(time_ms) * 3600 == there.utcoffset().total_seconds()
            assert new_york_date(time_ms) == there.date()


# Published calendars of the exchanges.
HOLIDAYS = [
    "2022-01-17", "2022-02-21", "2022-04-15", "2022-05-30", "2022-06-20", "2022-07-04", "2022-09-05", "2022-11-24", "2022-12-26",
    "2023-01-02", "2023-01-16", "2023-02-20", "2023-04-07", "2023-05-29", "2023-06-19", "2023-07-04", "2023-09-04", "2023-11-23", "2023-12-25",
    "2024-01-01", "2024-01-15", "2024-02-19", "2024-03-29", "2024-05-27", "2024-06-19", "2024-07-04", "2024-09-02", "2024-11-28", "2024-12-25",
    "2025-01-01", "2025-01-20", "2025-02-17", "2025-04-18", "2025-05-26", "2025-06-19", "2025-07-04", "2025-09-01", "2025-11-27", "2025-12-25",
    "2026-01-01", "2026-01-19", "2026-02-16", "2026-04-03", "2026-05-25", "2026-06-19", "2026-07-03", "2026-09-07", "2026-11-26", "2026-12-25",
]  # fmt: skip


def test_holidays_are_those_of_the_published_calendars() -> None:
    found = []
    for ordinal in range(date(2022, 1, 1).toordinal(), date(2026, 12, 31).toordinal() + 1):
        day = date.fromordinal(ordinal)
        if day.weekday() < 5 and is_holiday(day):
            found.append(day.isoformat())
    assert found == HOLIDAYS


@pytest.mark.parametrize(
    "day",
    [
        "2023-07-03",
        "2023-11-24",
        "2024-07-03",
        "2024-11-29",
        "2024-12-24",
        "2025-07-03",
        "2025-11-28",
        "2025-12-24",
        "2026-11-27",
        "2026-12-24",
    ],
)
def test_short_days(day: str) -> None:
    assert closes_early(date.fromisoformat(day))
    session = session_of(date.fromisoformat(day))
    assert session is not None
    assert session.close_ms - session.open_ms == 3.5 * 3_600_000


@pytest.mark.parametrize("day", ["2026-07-02", "2022-07-01", "2022-12-23", "2021-12-24", "2025-11-26"])
def test_days_before_holidays_that_are_not_short(day: str) -> None:
    assert not closes_early(date.fromisoformat(day)) or session_of(date.fromisoformat(day)) is None


@pytest.mark.parametrize(
    ("moment", "regular", "extended"),
    [
        ("2025-12-12T14:29:59", False, True),
        ("2025-12-12T14:30:00", True, True),
        ("2025-12-12T20:59:59", True, True),
        ("2025-12-12T21:00:00", False, True),
        ("2025-12-12T08:59:59", False, False),
        ("2025-12-12T09:00:00", False, True),
        ("2025-12-13T00:59:59", False, True),
        ("2025-12-13T01:00:00", False, False),
        ("2025-12-13T15:00:00", False, False),
        ("2025-12-25T15:00:00", False, False),
        ("2025-11-28T17:59:59", True, True),
        ("2025-11-28T18:00:00", False, True),
        ("2025-11-28T22:00:00", False, False),
        ("2025-07-01T13:30:00", True, True),
        ("2025-07-01T13:29:59", False, True),
    ],
)
def test_when_the_market_is_open(moment: str, regular: bool, extended: bool) -> None:
    assert (is_regular(ms(moment)), is_extended(ms(moment))) == (regular, extended)


def test_easter() -> None:
    assert [easter(year).isoformat() for year in (2000, 2008, 2011, 2024, 2038)] == [
        "2000-04-23",
        "2008-03-23",
        "2011-04-24",
        "2024-03-31",
        "2038-04-25",
    ]


def test_midnight_agrees_with_the_time_zone_database() -> None:
    zoneinfo = pytest.importorskip("zoneinfo")
    try:
        zone = zoneinfo.ZoneInfo("America/New_York")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("this system has no time zone data")
    for ordinal in range(date(2020, 1, 1).toordinal(), date(2030, 1, 1).toordinal()):
        day = date.fromordinal(ordinal)
        assert midnight_ms(day) == datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000
