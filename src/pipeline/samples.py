"""How many dead letters are worth keeping: a few of each kind and minute; the counters tell the rest."""

from __future__ import annotations

from src.models.clock import Clock

PER_MINUTE = 20
_MINUTE_S = 60.0


class Samples:
    """Allows `PER_MINUTE` letters per reason and minute."""

    def __init__(self, clock: Clock, per_minute: int = PER_MINUTE) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._taken: dict[str, tuple[int, int]] = {}

    def take(self, reason: str) -> bool:
        """True when one more of this kind may be kept now; reasons are constants of the program, so they are few."""
        minute = int(self._clock.monotonic() // _MINUTE_S)
        counted_minute, count = self._taken.get(reason, (minute, 0))
        if counted_minute != minute:
            count = 0
        self._taken[reason] = (minute, count + 1)
        return count < self._per_minute
