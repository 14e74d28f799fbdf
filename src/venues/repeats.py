"""Limits repeated log lines and samples, so that a fault that lasts a night does not fill a disk."""

from __future__ import annotations

from collections.abc import Hashable

KEYS_MOST = 1_000


class Repeats:
    """Lets each key pass ``most`` times per window; the windows of different keys are independent.

    Bounded: when more keys than `KEYS_MOST` are known, the oldest is forgotten (and may pass again).
    """

    def __init__(self, *, window_s: float, most: int = 1) -> None:
        self._window_s = window_s
        self._most = most
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def due(self, key: Hashable, now: float) -> bool:
        """Whether this occurrence may pass; ``now`` in monotonic seconds."""
        began, count = self._seen.get(key, (now, 0))
        if now - began >= self._window_s:
            began, count = now, 0
        if count == 0:
            self._seen.pop(key, None)
            if len(self._seen) >= KEYS_MOST:
                del self._seen[next(iter(self._seen))]
        self._seen[key] = (began, count + 1)
        return count < self._most

    def forget(self, key: Hashable) -> None:
        """The cause is gone: its next occurrence is news again."""
        self._seen.pop(key, None)
