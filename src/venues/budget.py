"""What may be asked of a venue from one egress address, shared by every connection that leaves from it.

Pure apart from the injected clock. Nothing here waits: methods answer how long to wait.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from src.models.clock import Clock
from src.venues.feed import VenueLimits

WINDOW_S = 60.5
"""A minute and some slack: the venue counts when our frames arrive, and they do not all travel equally fast."""

_RECHECK_S = 1.0
_LEAST_WAIT_S = 0.001


class Budget:
    """Connections, connects, subscriptions, users and messages of one egress address.

    ``margin`` is the share of the per-minute limits that is left alone (for a second program behind the same address,
    and for pings). ``spacing_s`` is the least time between two connects, so that a pool starts staggered.
    """

    def __init__(self, limits: VenueLimits, *, clock: Clock, margin: float = 0.05, spacing_s: float = 0.25) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"margin must be at least 0 and below 1, not {margin}")
        self.limits = limits
        self._clock = clock
        self._spacing_s = spacing_s
        self._connects = _Window(limits.connects_per_minute, margin)
        self._messages = _Window(limits.messages_per_minute, margin)
        self._last_connect = float("-inf")
        self._open = 0
        self._subscriptions = 0
        self._users: dict[str, int] = {}
        self.releases = 0

    def acquire_connection(self) -> float:
        """Take a connection and a connect: 0.0 = taken, else seconds after which to ask again."""
        now = self._clock.monotonic()
        if self.limits.connections is not None and self._open >= self.limits.connections:
            return _RECHECK_S
        wait = max(self._connects.wait(now), self._last_connect + self._spacing_s - now)
        if wait > 0:
            return max(wait, _LEAST_WAIT_S)
        self._connects.take(now)
        self._last_connect = now
        self._open += 1
        return 0.0

    def release_connection(self) -> None:
        """Give a connection back; the connect it took stays counted for its minute."""
        self._open -= 1

    def acquire_message(self, *, urgent: bool = False) -> float:
        """Take one message to the venue: 0.0 = taken, else seconds to wait.

        ``urgent`` (pings) may use the margin and does not wait for a pause, but never exceeds the limit.
        """
        now = self._clock.monotonic()
        wait = self._messages.wait(now, urgent=urgent)
        if wait > 0:
            return max(wait, _LEAST_WAIT_S)
        self._messages.take(now)
        return 0.0

    def has_room_for(self, user: str) -> bool:
        """Whether `hold_user` would say True."""
        return user in self._users or self.limits.users is None or len(self._users) < self.limits.users

    def hold_user(self, user: str) -> bool:
        """Count a user; True when there is room or it is counted already. Each True needs a `free_user`."""
        if not self.has_room_for(user):
            return False
        self._users[user] = self._users.get(user, 0) + 1
        return True

    def free_user(self, user: str) -> None:
        """Undo one `hold_user`."""
        held = self._users[user] - 1
        if held:
            self._users[user] = held
        else:
            del self._users[user]
        self.releases += 1

    def hold_subscription(self) -> bool:
        """Count a subscription; False when there is no room."""
        if self.limits.subscriptions is not None and self._subscriptions >= self.limits.subscriptions:
            return False
        self._subscriptions += 1
        return True

    def free_subscription(self) -> None:
        """Undo one `hold_subscription`."""
        self._subscriptions -= 1
        self.releases += 1

    def pause_connects(self, seconds: float) -> None:
        """No connect from this address for so long: the venue said that we come too often."""
        self._connects.pause(self._clock.monotonic() + seconds)

    def pause_messages(self, seconds: float) -> None:
        """No message but pings from this address for so long."""
        self._messages.pause(self._clock.monotonic() + seconds)

    def usage(self) -> dict[str, Any]:
        """Used and allowed of each limit (``limit`` None = unlimited); JSON-ready."""
        now = self._clock.monotonic()
        limits = self.limits
        return {
            "connections": {"used": self._open, "limit": limits.connections},
            "connects_per_minute": {"used": self._connects.used(now), "limit": limits.connects_per_minute},
            "subscriptions": {"used": self._subscriptions, "limit": limits.subscriptions},
            "users": {"used": len(self._users), "limit": limits.users},
            "messages_per_minute": {"used": self._messages.used(now), "limit": limits.messages_per_minute},
            "connects_paused_s": round(self._connects.paused(now), 1),
            "messages_paused_s": round(self._messages.paused(now), 1),
        }


class _Window:
    """At most so many in any window; a limit of None counts nothing, only pauses."""

    def __init__(self, limit: int | None, margin: float) -> None:
        self._hard = limit
        self._soft = None if limit is None else min(limit, max(1, int(limit * (1.0 - margin))))
        self._times: deque[float] = deque()
        self._paused_until = float("-inf")

    def wait(self, now: float, *, urgent: bool = False) -> float:
        pause = 0.0 if urgent else self._paused_until - now
        limit = self._hard if urgent else self._soft
        if limit is None:
            return pause
        self._prune(now)
        if len(self._times) < limit:
            return pause
        if limit == 0:
            return WINDOW_S
        # The slot that has to fall out of the window is the one `limit` places from the newest end.
        return max(pause, self._times[len(self._times) - limit] + WINDOW_S - now)

    def take(self, now: float) -> None:
        if self._hard is not None:
            self._times.append(now)

    def pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)

    def paused(self, now: float) -> float:
        return max(0.0, self._paused_until - now)

    def used(self, now: float) -> int:
        self._prune(now)
        return len(self._times)

    def _prune(self, now: float) -> None:
        times = self._times
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
