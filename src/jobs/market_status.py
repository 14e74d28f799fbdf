"""What the Indonesian exchange does now, in words for people and their programs."""

from __future__ import annotations

from typing import Any

from src.venues.idx.calendar import IdxCalendar, local_time
from src.venues.idx.rules import Phase

_SHUT = frozenset({Phase.CLOSED, Phase.LUNCH, Phase.UNKNOWN})


def idx_status(calendar: IdxCalendar, now_ms: int) -> dict[str, Any]:
    """The phase of the regular market at a moment; times carry the offset of the exchange."""
    session = calendar.session_at(now_ms)
    day = calendar.trading_day(now_ms)
    return {
        "exchange": "IDX",
        "status": session.phase.value,
        "is_open": session.phase not in _SHUT,
        "is_continuous": session.is_continuous,
        "trading_day": None if day is None else day.isoformat(),
        "now": local_time(now_ms).isoformat(timespec="seconds"),
        "since": session.begin.isoformat(),
        "until": session.end.isoformat(),
        "notice": calendar.notice(now_ms) or None,
    }
