"""Whose midnight ends a day: the time zone of each exchange, and the bounds of its days. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

WIB = timezone(timedelta(hours=7))
CHINA = timezone(timedelta(hours=8))
NEW_YORK = "America/New_York"
_FUTU_MARKETS = {"HK": CHINA, "SH": CHINA, "SZ": CHINA, "SG": CHINA, "MY": CHINA}
_MS = 1000


class ExchangeDay(NamedTuple):
    """A date of an exchange and its bounds in ms since 1970: ``begin_ms`` inclusive, ``end_ms`` exclusive."""

    date: date
    begin_ms: int
    end_ms: int


def zone_of(venue: str, symbol: str) -> tzinfo:
    """The time zone of the exchange a symbol is traded at; UTC for venues that never close."""
    if venue == "stockbit":
        return WIB
    if venue == "alpaca":
        return _named(NEW_YORK)
    if venue == "futu":
        market = symbol.partition(".")[0].upper()
        return _FUTU_MARKETS.get(market) or (_named(NEW_YORK) if market == "US" else UTC)
    return UTC


def day_at(wall_ms: int, zone: tzinfo) -> ExchangeDay:
    """The exchange's day at a moment."""
    return day_of(datetime.fromtimestamp(wall_ms / _MS, zone).date(), zone)


def day_of(day: date, zone: tzinfo) -> ExchangeDay:
    """The bounds of a date; a day on which clocks change is 23 or 25 hours long."""
    begin, end = (datetime(on.year, on.month, on.day, tzinfo=zone) for on in (day, day + timedelta(days=1)))
    return ExchangeDay(day, round(begin.timestamp() * _MS), round(end.timestamp() * _MS))


def iso_text(wall_ms: int, zone: tzinfo) -> str:
    """A moment as ISO 8601 with milliseconds and the exchange's offset: ``2026-02-04T11:05:42.178+07:00``."""
    return datetime.fromtimestamp(wall_ms / _MS, zone).isoformat(timespec="milliseconds")


@cache
def _named(name: str) -> tzinfo:
    """A zone with daylight saving; UTC on a system without time zone data."""
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return UTC
