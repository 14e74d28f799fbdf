"""What one connection has asked the gateway and still has to look at: requests, subscriptions, quota, audits. Pure.

The gateway acknowledges, and then nothing more is said of a subscription: whether it still exists, and whether its
pushes still come, has to be asked. Every few pings the list of subscriptions is asked for, and with every ping the
books of the quietest symbols.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

from src.models.streams import StreamKey

MINIMUM_HOLD_S = 60.0
"""A subscription must live so long before it may be cancelled."""

STRAY_AGAIN_S = 60.0
OPEN_REQUESTS_MOST = 1_000

AUDIT_QUIET_S = 30.0
"""A symbol without a push for so long is audited."""

AUDITS_AT_ONCE = 8
"""Per ping; at a ping every eight seconds half of the 60 calls in 30 s that the gateway allows."""

Verb = Literal["subscribe", "unsubscribe", "cancel_stray", "audit"]


class Asked(Struct, frozen=True):
    """A request that waits for its answer."""

    verb: Verb
    keys: tuple[StreamKey, ...]


class Quota(Struct, frozen=True):
    """Units (one per security and data type) of all connections of the gateway."""

    used: int
    left: int


class _Held(Struct):
    since: float
    looked_at: float  # the last push or audit
    doubts: int = 0


class Session:
    """The state of one connection, begun anew for each."""

    def __init__(self) -> None:
        self.quota: Quota | None = None
        self._serial = 0
        self._asked: dict[int, Asked] = {}
        self._current: int | None = None  # the one subscribe or unsubscribe under way
        self._held: dict[StreamKey, _Held] = {}
        self._strays: dict[StreamKey, float | None] = {}
        self._info_serial: int | None = None
        self._changed_since_info = False

    def next_serial(self) -> int:
        """A number for the next request."""
        self._serial += 1
        return self._serial

    def ask(self, verb: Verb, keys: Sequence[StreamKey]) -> int:
        """Note a request; returns its serial number."""
        serial = self.next_serial()
        self._asked[serial] = Asked(verb, tuple(keys))
        if verb in ("subscribe", "unsubscribe"):
            self._current = serial
        if len(self._asked) > OPEN_REQUESTS_MOST:
            del self._asked[next(iter(self._asked))]
        return serial

    def answered(self, serial: int) -> Asked | None:
        """What the request with this number was; each is told once, None for one that was never made."""
        if serial == self._current:
            self._current = None
        return self._asked.pop(serial, None)

    # -- subscriptions -----------------------------------------------------------------------------------------------

    @property
    def held(self) -> frozenset[StreamKey]:
        """What the gateway has acknowledged and not taken back."""
        return frozenset(self._held)

    def held_since(self, key: StreamKey, now: float) -> float | None:
        """Since when (monotonic seconds) ``key`` is subscribed on this connection, None when it is not.

        What is being asked for counts as subscribed now.
        """
        held = self._held.get(key)
        if held is not None:
            return held.since
        return now if key in self._unanswered() else None

    def took(self, keys: Iterable[StreamKey], now: float) -> None:
        """The gateway subscribed these."""
        for key in keys:
            self._held[key] = _Held(now, now)
            self._strays.pop(key, None)
        self._changed_since_info = True

    def let_go(self, keys: Iterable[StreamKey]) -> None:
        """These are no longer wanted; the gateway may or may not have cancelled them already."""
        for key in keys:
            self._held.pop(key, None)
        self._changed_since_info = True

    # -- the gateway's own list --------------------------------------------------------------------------------------

    @property
    def wants_info(self) -> bool:
        """Something changed since the gateway's list was asked for."""
        return self._changed_since_info and self._current is None

    def ask_info(self) -> int:
        """Note that the list is asked for; returns the serial number."""
        serial = self.next_serial()
        self._info_serial = serial if self._current is None else None
        self._changed_since_info = False
        return serial

    def on_info(self, serial: int, listed: Collection[StreamKey], quota: Quota) -> frozenset[StreamKey] | None:
        """The gateway told what this connection has subscribed; None = nothing can be concluded.

        A list that was asked for, or answered, while a subscription was under way may be older than its
        acknowledgement.
        """
        self.quota = quota
        if serial != self._info_serial or self._changed_since_info or self._current is not None:
            return None
        for key in list(self._held):
            if key not in listed:
                del self._held[key]
        wanted = {*self._held, *self._unanswered()}
        self._strays = {key: self._strays.get(key) for key in listed if key not in wanted}
        return self.held

    def take_strays(self, now: float, most: int) -> list[StreamKey]:
        """Subscribed without being wanted (a cancellation was refused or got lost): to be cancelled once a minute."""
        due = [key for key, at in self._strays.items() if at is None or now - at >= STRAY_AGAIN_S][:most]
        for key in due:
            self._strays[key] = now
        return due

    # -- audits ------------------------------------------------------------------------------------------------------

    def pushed(self, key: StreamKey, now: float) -> None:
        """A push came; it also proves a subscription whose acknowledgement is late."""
        held = self._held.get(key)
        if held is not None:
            held.looked_at = now
            held.doubts = 0
        elif key in self._unanswered():
            self._held[key] = _Held(now, now)

    def to_audit(self, now: float) -> list[StreamKey]:
        """The quietest subscriptions."""
        quiet = [key for key, held in self._held.items() if now - held.looked_at >= AUDIT_QUIET_S]
        return sorted(quiet, key=lambda key: self._held[key].looked_at)[:AUDITS_AT_ONCE]

    def audited(self, key: StreamKey, now: float, *, agrees: bool) -> bool:
        """The gateway's book was compared with the last push; True when pushes must have been missed.

        A push may be under way, so it takes two looks that differ with no push in between.
        """
        held = self._held.get(key)
        if held is None:
            return False
        held.looked_at = now  # the next look is AUDIT_QUIET_S away, so that others get their turn
        held.doubts = 0 if agrees else held.doubts + 1
        if held.doubts <= 1:
            return False
        del self._held[key]
        return True

    def status(self) -> dict[str, Any]:
        """JSON-ready."""
        quota = self.quota
        return {
            "subscribed": len(self._held),
            "strays": len(self._strays),
            "quota_used": None if quota is None else quota.used,
            "quota_left": None if quota is None else quota.left,
        }

    def _unanswered(self) -> set[StreamKey]:
        return {key for asked in self._asked.values() if asked.verb == "subscribe" for key in asked.keys}
