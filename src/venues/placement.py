"""Which connection carries which subscription, within the limits of the address: pure.

All feeds of one user share a connection. What has a place keeps it; what has none waits in the order in which it was
wanted, until a place becomes free.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from src.models.streams import StreamKey, Subscription
from src.venues.budget import Budget


class Place(Struct, frozen=True):
    """A subscription and the number of the connection that carries it."""

    home: int
    subscription: Subscription


class Waiting(Struct, frozen=True):
    """A subscription beyond the limits, with the limit in words."""

    subscription: Subscription
    why: str


class Placement:
    """The places of one pool of ``homes`` connections; slots are taken from the (shared) budget."""

    def __init__(self, homes: int, budget: Budget) -> None:
        self._budget = budget
        self._loads = [0] * homes
        self._placed: dict[StreamKey, Place] = {}
        self._waiting: dict[StreamKey, Waiting] = {}
        self._users: dict[str, list[int]] = {}  # user -> [home, subscriptions the venue may count]
        self._releases_seen = -1

    @property
    def waiting(self) -> list[Waiting]:
        """What is wanted beyond the limits, first come first."""
        return list(self._waiting.values())

    def waits(self, key: StreamKey) -> bool:
        """Whether ``key`` is wanted beyond the limits."""
        return key in self._waiting

    @property
    def users_held(self) -> int:
        """Users with a slot, those under way out included."""
        return len(self._users)

    def place(self, key: StreamKey) -> Place | None:
        """Where ``key`` is carried, None when it is not."""
        return self._placed.get(key)

    def wanted(self) -> dict[StreamKey, Subscription]:
        """Everything wanted, placed or waiting."""
        placed = {key: place.subscription for key, place in self._placed.items()}
        return placed | {key: waiting.subscription for key, waiting in self._waiting.items()}

    def want(self, subscriptions: Iterable[Subscription]) -> list[Place]:
        """Place new subscriptions; those beyond the limits wait. Keys that are wanted already are left alone."""
        placed: list[Place] = []
        for subscription in subscriptions:
            if subscription.key not in self._placed and subscription.key not in self._waiting:
                self._try(subscription, placed)
        return placed

    def drop(self, keys: Iterable[StreamKey]) -> list[Place]:
        """Want these no longer; returns those that were placed. Their slots stay taken until `left`."""
        dropped = []
        for key in keys:
            self._waiting.pop(key, None)
            place = self._placed.pop(key, None)
            if place is not None:
                dropped.append(place)
        return dropped

    def left(self, place: Place) -> bool:
        """The venue no longer counts a dropped subscription: its slots are free. Returns whether a user's slot is."""
        self._loads[place.home] -= 1
        self._budget.free_subscription()
        user = place.subscription.user
        if user is None:
            return False
        self._budget.free_user(user)
        self._users[user][1] -= 1
        if self._users[user][1]:
            return False
        del self._users[user]
        return True

    def fill(self) -> list[Place]:
        """Place what waits, as far as slots became free since the last look."""
        placed: list[Place] = []
        if not self._waiting or self._releases_seen == self._budget.releases:
            return placed
        waiting, self._waiting = self._waiting, {}
        for entry in waiting.values():
            self._try(entry.subscription, placed)
        self._releases_seen = self._budget.releases
        return placed

    def sort_waiting(self, order: Iterable[StreamKey]) -> None:
        """Let what waits wait in this order; keys not named go last."""
        waiting = self._waiting
        self._waiting = {key: waiting[key] for key in order if key in waiting}
        self._waiting |= waiting

    def _try(self, subscription: Subscription, placed: list[Place]) -> None:
        why = self._take(subscription)
        if why:
            self._waiting[subscription.key] = Waiting(subscription, why)
            return
        place = Place(self._choose(subscription), subscription)
        self._placed[subscription.key] = place
        self._loads[place.home] += 1
        placed.append(place)

    def _take(self, subscription: Subscription) -> str:
        """Take the slots; returns the limit in words when there is no room."""
        budget, user = self._budget, subscription.user
        if user is not None and not budget.hold_user(user):
            return f"user limit of {budget.limits.users} per address"
        if budget.hold_subscription():
            return ""
        if user is not None:
            budget.free_user(user)
        return f"subscription limit of {budget.limits.subscriptions} per address"

    def _choose(self, subscription: Subscription) -> int:
        least = min(range(len(self._loads)), key=self._loads.__getitem__)
        if subscription.user is None:
            return least
        home_and_count = self._users.setdefault(subscription.user, [least, 0])
        home_and_count[1] += 1
        return home_and_count[0]
