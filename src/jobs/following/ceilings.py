"""What a venue really allows, as learned from its refusals: shrinks when it insists, grows back slowly. Pure."""

from __future__ import annotations

SAME_BURST_S = 1.0
"""Refusals this soon after each other answer what was sent together."""

INSISTS_WITHIN_S = 180.0
"""A refusal counts when another one follows within this time and nobody was accepted in between."""

QUIET_S = 10.0
"""Refusals this soon after a step answer what was sent before it."""

GROW_AFTER_S = 600.0
GROW_AFTER_MOST_S = 6 * 3600.0


class Ceiling:
    """A limit that is believed until the venue insists on less.

    After each step down the next try to grow waits twice as long; a limit that is really lower is thus hit a few
    times a day. Times are monotonic seconds.
    """

    def __init__(self, full: int, *, least: int = 1) -> None:
        self.full = full
        self._least = min(least, full)
        self._now = full
        self._grow_after_s = GROW_AFTER_S
        self._changed_at = float("-inf")
        self._shrunk_at = float("-inf")
        self._suspected: tuple[float, int] | None = None

    @property
    def suspected(self) -> bool:
        """Whether less was granted once, and it is not known yet what that means."""
        return self._suspected is not None

    def allowed(self, now: float) -> int:
        """What may be used now."""
        if self._now < self.full and now - self._changed_at >= self._grow_after_s:
            self._now += 1
            self._changed_at = now
        return self._now

    def accepted(self, used: int) -> None:
        """The venue grants ``used`` at this moment."""
        if self._suspected is not None and used > self._suspected[1]:
            self._suspected = None

    def refused(self, granted: int, now: float) -> bool:
        """The venue refused more than ``granted``; returns whether the limit was lowered because of it."""
        if now - self._shrunk_at < QUIET_S or granted >= self._now:
            return False
        if self._suspected is None or now - self._suspected[0] > INSISTS_WITHIN_S:
            self._suspected = (now, granted)
            return False
        since, least = self._suspected
        if now - since < SAME_BURST_S:
            self._suspected = (since, min(least, granted))
            return False
        soon = now - self._changed_at < 2 * self._grow_after_s
        self._grow_after_s = min(2 * self._grow_after_s, GROW_AFTER_MOST_S) if soon else GROW_AFTER_S
        self._now = max(self._least, granted)
        self._changed_at = self._shrunk_at = now
        self._suspected = None
        return True
