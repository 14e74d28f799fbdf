"""Time as a parameter: parts get a `Clock` and never ask the operating system themselves."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two readings of time and nothing else."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; for durations and deadlines."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC; for stored times only."""


class ManualClock:
    """A clock that moves only when told to; for tests and simulations."""

    def __init__(self, *, wall_ms: int = 1_700_000_000_000, monotonic: float = 1_000.0) -> None:
        self._wall_ms = float(wall_ms)
        self._monotonic = monotonic

    def monotonic(self) -> float:
        """Seconds; see `Clock`."""
        return self._monotonic

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC; see `Clock`."""
        return int(self._wall_ms)

    def advance(self, seconds: float) -> None:
        """Move both readings forward by ``seconds`` (>= 0)."""
        self._monotonic += seconds
        self._wall_ms += seconds * 1000.0

    def jump(self, seconds: float) -> None:
        """Move only the wall clock, forwards or backwards, as an NTP step does."""
        self._wall_ms += seconds * 1000.0
