"""Subscriptions by client id, for clients that come back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from src.api.gateway.session import SubKey
from src.models.clock import Clock

KEPT_S = 900.0
MOST_CLIENTS = 10_000

Recalled = Callable[[Sequence[SubKey]], None]


class Memory(Protocol):
    """Where subscriptions of client ids are remembered. Every method returns at once."""

    def remember(self, client_id: str, keys: Collection[SubKey]) -> None:
        """These are all of this client's subscriptions now."""

    def recall(self, client_id: str, recalled: Recalled) -> None:
        """Call ``recalled`` with what is remembered, now or soon; not at all when nothing is."""


class LocalMemory:
    """Remembers in this process, for `KEPT_S` after the last change, of at most `MOST_CLIENTS` clients."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, tuple[SubKey, ...]]] = OrderedDict()

    def remember(self, client_id: str, keys: Collection[SubKey]) -> None:
        """See `Memory`."""
        self._kept.pop(client_id, None)
        if keys:
            self._kept[client_id] = (self._clock.monotonic(), tuple(keys))
            while len(self._kept) > MOST_CLIENTS:
                self._kept.popitem(last=False)

    def recall(self, client_id: str, recalled: Recalled) -> None:
        """See `Memory`."""
        since, keys = self._kept.get(client_id, (0.0, ()))
        if keys and self._clock.monotonic() - since <= KEPT_S:
            recalled(keys)
