"""The venue's limits, counted per client address over all of its connections."""

from __future__ import annotations

from collections import Counter, deque

from src.venues.hyperliquid.simulator.config import Limits

MINUTE_S = 60.0
TOO_MANY_SUBSCRIPTIONS = "Cannot subscribe to more than {} channels."
TOO_MANY_USERS = "Cannot track more than {} total users."
TOO_MANY_MESSAGES = "Cannot send more than {} messages per minute."
TOO_MANY_POSTS = "too many pending post requests id={}"


class _Window:
    """Amounts of the last minute."""

    def __init__(self) -> None:
        self._items: deque[tuple[float, int]] = deque()
        self._sum = 0

    def total(self, now_s: float) -> int:
        while self._items and self._items[0][0] <= now_s - MINUTE_S:
            self._sum -= self._items.popleft()[1]
        return self._sum

    def add(self, now_s: float, amount: int = 1) -> None:
        self._items.append((now_s, amount))
        self._sum += amount


class ClientUsage:
    """What one address uses now and used during the last minute. Times are monotonic seconds.

    Attributes:
        refused: how often each limit was hit, by its name in `Limits`.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections = 0
        self.subscriptions = 0
        self.users: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._connects = _Window()
        self._messages = _Window()
        self._weight = _Window()

    def may_connect(self, now_s: float) -> bool:
        """True when one more handshake is allowed; the attempt counts when it is."""
        limits = self.limits
        if limits.connections is not None and self.connections >= limits.connections:
            self.refused["connections"] += 1
            return False
        if limits.connects_per_minute is not None and self._connects.total(now_s) >= limits.connects_per_minute:
            self.refused["connects_per_minute"] += 1
            return False
        self._connects.add(now_s)
        return True

    def refuse_message(self, now_s: float) -> str | None:
        """Count a message from the client; the refusal text when it is one too many."""
        limit = self.limits.messages_per_minute
        if limit is None:
            return None
        if self._messages.total(now_s) >= limit:
            self.refused["messages_per_minute"] += 1
            return TOO_MANY_MESSAGES.format(limit)
        self._messages.add(now_s)
        return None

    def refuse_subscription(self, user: str | None) -> str | None:
        """The refusal text when one more subscription (of this user) is too many; counts nothing but the refusal."""
        limits = self.limits
        if limits.subscriptions is not None and self.subscriptions >= limits.subscriptions:
            self.refused["subscriptions"] += 1
            return TOO_MANY_SUBSCRIPTIONS.format(limits.subscriptions)
        if user is None or limits.users is None or user in self.users or len(self.users) < limits.users:
            return None
        self.refused["users"] += 1
        return TOO_MANY_USERS.format(limits.users)

    def subscribed(self, user: str | None) -> None:
        """Count a subscription that was accepted."""
        self.subscriptions += 1
        if user is not None:
            self.users[user] += 1

    def unsubscribed(self, user: str | None, *, frees_user: bool = True) -> None:
        """Give back what a subscription used; its user with it, or later with `freed`."""
        self.subscriptions -= 1
        if user is not None and frees_user:
            self.freed(user)

    def freed(self, user: str) -> None:
        """A subscription of this user no longer counts against the limit of users."""
        if user in self.users:
            self.users[user] -= 1
            if not self.users[user]:
                del self.users[user]

    def may_spend(self, now_s: float, weight: int) -> bool:
        """Draw on the REST budget; False (and nothing drawn) when it is used up."""
        limit = self.limits.rest_weight_per_minute
        if limit is not None and self._weight.total(now_s) + weight > limit:
            self.refused["rest_weight_per_minute"] += 1
            return False
        self._weight.add(now_s, weight)
        return True

    def spend(self, now_s: float, weight: int) -> None:
        """Draw what is only known after answering (rows), over the limit if need be."""
        self._weight.add(now_s, weight)


class LimitBook:
    """Usage by client address. Replace ``limits`` to change them for addresses seen from now on and before."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._usage: dict[str, ClientUsage] = {}

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        for usage in self._usage.values():
            usage.limits = limits

    def of(self, address: str) -> ClientUsage:
        """Usage of one address."""
        usage = self._usage.get(address)
        if usage is None:
            usage = self._usage[address] = ClientUsage(self._limits)
        return usage
