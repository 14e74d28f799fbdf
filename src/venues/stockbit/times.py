"""The venue's times: ISO 8601 text with an offset and up to nine digits of fraction, or protobuf instants.

Text without an offset, and a bare ``HH:MM:SS``, is to be read as Western Indonesian time (UTC+7, no daylight saving).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

WIB = timezone(timedelta(hours=7), "WIB")
NS_PER_MS = 1_000_000
_WIB_MS = 7 * 3_600_000
_DAY_MS = 86_400_000
_HALF_DAY_MS = _DAY_MS // 2

_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def parse_time_ns(text: str, near_ms: int) -> int | None:
    """Nanoseconds since 1970 of a time as the venue writes it, None for what is no time.

    Args:
        text: ``2026-08-18T11:42:38.178723+07:00``, the same without offset, or ``11:42:38``.
        near_ms: about when it was written; gives the day to a time without one.
    """
    found = _ISO.fullmatch(text)
    if found is not None:
        seconds = _seconds(found[1], found[3] or "+07:00")
        return None if seconds is None else seconds * 1_000_000_000 + _fraction_ns(found[2])
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return None
    hours, minutes, seconds = int(clock[1]), int(clock[2]), int(clock[3])
    if hours > 23 or minutes > 59 or seconds > 60:  # noqa: PLR2004 - a clock face
        return None
    local_ms = near_ms + _WIB_MS
    at_ms = local_ms - local_ms % _DAY_MS + (hours * 3600 + minutes * 60 + seconds) * 1000
    if at_ms - local_ms > _HALF_DAY_MS:  # read shortly after midnight, written before it
        at_ms -= _DAY_MS
    elif local_ms - at_ms > _HALF_DAY_MS:
        at_ms += _DAY_MS
    return (at_ms - _WIB_MS) * NS_PER_MS + _fraction_ns(clock[4])


def to_text(time_ns: int, *, digits: int = 6) -> str:
    """The reverse for times of this venue, in its own zone: ``2026-02-04T11:05:42.178723+07:00``."""
    seconds, ns = divmod(time_ns, 1_000_000_000)
    date = (_EPOCH + seconds * _SECOND).astimezone(WIB)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{ns // 10 ** (9 - digits):0{digits}d}+07:00"


def day_start_ms(time_ms: int) -> int:
    """Midnight at the exchange, at the beginning of the day of ``time_ms``."""
    return time_ms - (time_ms + _WIB_MS) % _DAY_MS


def exchange_day(time_ms: int) -> str:
    """The day at the exchange as ``YYYYMMDD``."""
    return f"{_EPOCH + timedelta(milliseconds=time_ms + _WIB_MS):%Y%m%d}"


@lru_cache(maxsize=256)
def _seconds(text: str, offset: str) -> int | None:
    """Seconds since 1970 of the part without fraction; many messages share one second."""
    zone = "+00:00" if offset == "Z" else offset
    try:
        date = datetime.fromisoformat(f"{text.replace(' ', 'T')}{zone}")
    except ValueError:
        return None
    return (date - _EPOCH) // _SECOND


def _fraction_ns(digits: str | None) -> int:
    return int(digits.ljust(9, "0")) if digits else 0
