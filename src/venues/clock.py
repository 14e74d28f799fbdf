"""The operating system's clock; the composition root hands it to the parts."""

from __future__ import annotations

import time


class SystemClock:
    """The real `src.models.clock.Clock`."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000
