"""A day at the exchange, as long or as short as a test has time for."""

from __future__ import annotations

import time
from typing import Literal

_WIB_S = 7 * 3600
_DAY_S = 86_400
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
_FRIDAY, _SATURDAY = 4, 5

Phase = Literal["closed", "pre-opening", "continuous", "lunch", "pre-closing", "post-closing"]


def _at(hours: int, minutes: int, seconds: int = 0) -> int:
    return hours * 3600 + minutes * 60 + seconds


_USUAL: tuple[tuple[int, Phase], ...] = (
    (_at(8, 45), "pre-opening"),
    (_at(9, 0), "continuous"),
    (_at(12, 0), "lunch"),
    (_at(13, 30), "continuous"),
    (_at(15, 50), "pre-closing"),
    (_at(16, 1), "post-closing"),
    (_at(16, 15), "closed"),
)
_ON_FRIDAYS: tuple[tuple[int, Phase], ...] = (
    *_USUAL[:2],
    (_at(11, 30), "lunch"),
    (_at(14, 0), "continuous"),
    *_USUAL[4:],
)


class DayClock:
    """A clock whose day passes ``speed`` times as fast; monotonic time stays what it is. See `Clock`.

    Attributes:
        speed: may be changed at any time; 0 stops the clock.
    """

    def __init__(self, start_ms: int, speed: float = 1.0) -> None:
        self._at_ms = float(start_ms)
        self._since = time.monotonic()
        self._speed = speed

    @property
    def speed(self) -> float:
        """Seconds of the day in a second."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._at_ms, self._since = self._now_ms(), time.monotonic()
        self._speed = value

    def monotonic(self) -> float:
        """Seconds; see `Clock`."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC; see `Clock`."""
        return int(self._now_ms())

    def jump_to(self, wall_ms: int) -> None:
        """Go to another time of the day at once."""
        self._at_ms, self._since = float(wall_ms), time.monotonic()

    def _now_ms(self) -> float:
        return self._at_ms + (time.monotonic() - self._since) * 1000.0 * self._speed


class Hours:
    """When the regular board trades, without holidays; also usable as the program's calendar."""

    def __init__(self, *, always_open: bool = False) -> None:
        self._always_open = always_open

    def phase_at(self, wall_ms: int) -> Phase:
        """What the exchange does then."""
        if self._always_open:
            return "continuous"
        local_s = wall_ms // 1000 + _WIB_S
        weekday = (local_s // _DAY_S + _EPOCH_WEEKDAY) % 7
        if weekday >= _SATURDAY:
            return "closed"
        found: Phase = "closed"
        for begins_s, phase in _ON_FRIDAYS if weekday == _FRIDAY else _USUAL:
            if local_s % _DAY_S < begins_s:
                break
            found = phase
        return found

    def is_continuous(self, when: int) -> bool:
        """Whether shares trade continuously then (ms since 1970)."""
        return self.phase_at(when) == "continuous"
