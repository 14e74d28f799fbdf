"""Whether the peer of an open connection is alive: pure, time is handed in."""

from __future__ import annotations

from src.venues.feed import Heartbeat


class Pulse:
    """Pings on schedule and gives up when, after a ping, nothing at all is heard until the deadline.

    Any frame is a sign of life (a busy venue may answer pings late), and quiet alone is no sign of death.
    """

    def __init__(self, heartbeat: Heartbeat, now: float) -> None:
        self._heartbeat = heartbeat
        self._last_ping = now
        self._unanswered_since: float | None = None
        self.heard_at = now
        self.pong_at: float | None = None

    def heard(self, now: float) -> None:
        """A frame of any kind arrived."""
        self.heard_at = now
        self._unanswered_since = None

    def pong(self, now: float) -> None:
        """The venue answered a ping."""
        self.pong_at = now

    def keep(self, heartbeat: Heartbeat) -> None:
        """From now on as ``heartbeat`` says: some venues name their interval when they let us in."""
        self._heartbeat = heartbeat

    def ping_due(self, now: float) -> bool:
        """Whether it is time to ping."""
        return now - self._last_ping >= self._heartbeat.ping_every_s

    def pinged(self, now: float) -> None:
        """A ping is being sent."""
        self._last_ping = now
        if self._unanswered_since is None:  # a later ping must not push the deadline of an unanswered one away
            self._unanswered_since = now

    def dead(self, now: float) -> bool:
        """Whether a ping stayed without any sign of life for too long."""
        return self._unanswered_since is not None and now - self._unanswered_since > self._heartbeat.deadline_s
