"""Work that waits for its time: bounded, each piece once, put off with growing pauses."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

Item = TypeVar("Item")


class _Entry(Struct, Generic[Item]):
    item: Item
    due_s: float
    attempts: int = 0


class DueQueue(Generic[Item]):
    """Pieces of work by key, in the order in which they came or were put off. Times are monotonic seconds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[str, _Entry[Item]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, key: str, item: Item, due_s: float) -> bool:
        """Take a piece of work, unless it is there already; False when the queue is full."""
        if key in self._entries:
            return True
        if len(self._entries) >= self._limit:
            return False
        self._entries[key] = _Entry(item, due_s)
        return True

    def ready(self, now_s: float, limit: int) -> dict[str, Item]:
        """Up to ``limit`` pieces that are due; they stay until `done`."""
        found: dict[str, Item] = {}
        for key, entry in self._entries.items():
            if entry.due_s <= now_s:
                found[key] = entry.item
                if len(found) >= limit:
                    break
        return found

    def get(self, key: str) -> Item | None:
        """The piece of this key, None when there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.item

    def is_due(self, key: str, now_s: float) -> bool:
        """Whether this piece waits for nothing but its turn."""
        entry = self._entries.get(key)
        return entry is not None and entry.due_s <= now_s

    def put_off(self, key: str, now_s: float, *, first_s: float, cap_s: float) -> int:
        """Make a piece due again after a pause that doubles each time up to ``cap_s``; returns how often it was.

        It goes to the end, so that a piece that always fails does not stand in the way of the others.
        """
        entry = self._entries[key] = self._entries.pop(key)
        entry.due_s = now_s + min(cap_s, first_s * 2 ** min(entry.attempts, 30))
        entry.attempts += 1
        return entry.attempts

    def restart(self, key: str) -> None:
        """Let the pauses of a piece begin anew with the shortest."""
        self._entries[key].attempts = 0

    def done(self, key: str) -> None:
        """Forget a piece of work."""
        self._entries.pop(key, None)
