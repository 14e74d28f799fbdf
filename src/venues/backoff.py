"""When to try again: pure, time and chance are handed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from src.venues.failures import Failure
from src.venues.timing import Timing

_RATE_LIMIT_JITTER = 0.25


class Backoff:
    """The memory of one connection's failures.

    Delays double from ``retry_first_s`` to ``retry_cap_s`` with full jitter (uniform between zero and the bound).
    Failures are forgiven only when the connection had delivered valid data and then lived ``healthy_after_s`` more,
    so a server that accepts and closes at once does not start the count afresh. Full jitter can be unlucky, therefore
    no more than ``attempts_most`` attempts are made in any ``attempts_window_s`` whatever it says.
    """

    def __init__(self, timing: Timing, *, random: Callable[[], float]) -> None:
        self._timing = timing
        self._random = random
        self._failures = 0
        self._attempts: deque[float] = deque(maxlen=timing.attempts_most)
        self._first_data: float | None = None
        self._last_heard: float | None = None

    @property
    def failures(self) -> int:
        """Failures since the last forgiveness."""
        return self._failures

    def attempt(self, now: float) -> None:
        """An attempt to connect starts."""
        self._attempts.append(now)
        self._first_data = None
        self._last_heard = None

    def data(self, now: float) -> None:
        """Valid data arrived (the first time in this life is what counts)."""
        if self._first_data is None:
            self._first_data = now

    def heard(self, now: float) -> None:
        """When the peer was last heard; a connection that hangs is not healthy while it hangs."""
        self._last_heard = now

    @property
    def healthy(self) -> bool:
        """Whether this life is long and fruitful enough to forgive what was before."""
        if self._first_data is None or self._last_heard is None:
            return False
        return self._last_heard - self._first_data >= self._timing.healthy_after_s

    def delay(self, failure: Failure, now: float) -> float:
        """Count ``failure`` and say how many seconds to wait before the next attempt."""
        healthy = self.healthy
        if healthy:
            self._failures = 0
        self._failures += 1
        return max(self._wish(failure, healthy=healthy), self._guard(now))

    def _wish(self, failure: Failure, *, healthy: bool) -> float:
        timing = self._timing
        if failure.rate_limited:
            asked = timing.rate_limited_s if failure.retry_after_s is None else failure.retry_after_s
            # Jitter only upwards: coming back before the time the venue named is what leads to a ban.
            return min(asked, timing.rate_limited_cap_s) * (1.0 + _RATE_LIMIT_JITTER * self._random())
        if failure.pace == "never":
            return math.inf
        if failure.pace == "slow":
            return timing.slow_retry_s * (1.0 + _RATE_LIMIT_JITTER * self._random())
        if failure.loud:
            return timing.retry_cap_s
        if failure.rotation and healthy:
            return 0.0
        bound = min(timing.retry_cap_s, timing.retry_first_s * 2.0 ** min(self._failures - 1, 30))
        return bound * self._random()

    def _guard(self, now: float) -> float:
        if len(self._attempts) < self._timing.attempts_most:
            return 0.0
        return self._attempts[0] + self._timing.attempts_window_s - now
