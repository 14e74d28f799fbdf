"""The bounded place between connections and the diff.

Policy when full: the pipeline drains at once. Where it cannot (MongoDB is away and what waits for it has reached its
limit), full states coalesce to the newest of their stream and increments (trades, fills) lose the oldest; both are
counted, the loss of increments is also a hole.
"""

from __future__ import annotations

from collections import deque

from msgspec import structs

from src.models.messages import Book, Data, OrdersSnapshot, PositionsSnapshot
from src.models.metrics import MESSAGES_BUFFERED, MESSAGES_COALESCED, MESSAGES_DROPPED, Metrics
from src.models.streams import StreamKey

_FULL_STATES = (OrdersSnapshot, PositionsSnapshot, Book)


class Buffer:
    """Holds at most ``capacity`` frames in order, plus one full state per stream once it is full."""

    def __init__(self, capacity: int, *, metrics: Metrics) -> None:
        self._capacity = capacity
        self._metrics = metrics
        self._queue: deque[Data] = deque()
        self._latest: dict[StreamKey, Data] = {}
        self._increments: deque[Data] = deque()

    def __len__(self) -> int:
        return len(self._queue) + len(self._latest) + len(self._increments)

    @property
    def is_full(self) -> bool:
        """True when the next frame would coalesce or cost another its place."""
        return len(self._queue) >= self._capacity

    def put(self, data: Data) -> Data | None:
        """Take a frame; returns the increment that lost its place to it, None when nothing was lost."""
        if len(self._queue) < self._capacity:
            self._metrics.add(MESSAGES_BUFFERED)
            self._queue.append(data)
            return None
        if all(isinstance(message, _FULL_STATES) for message in data.messages):
            self._coalesce(data)
            return None
        self._increments.append(data)
        if len(self._increments) <= self._capacity:
            self._metrics.add(MESSAGES_BUFFERED)
            return None
        lost = self._increments.popleft()
        self._metrics.add(MESSAGES_DROPPED, lost.stream.channel, "buffer_full", amount=len(lost.messages))
        return lost

    def drain(self) -> list[Data]:
        """Everything, in order per stream, and leave the buffer empty."""
        taken = [*self._queue, *self._latest.values(), *self._increments]
        self._queue.clear()
        self._latest.clear()
        self._increments.clear()
        return taken

    def _coalesce(self, data: Data) -> None:
        earlier = self._latest.pop(data.stream, None)
        if earlier is not None:
            self._metrics.add(MESSAGES_COALESCED, data.stream.channel)
            data = _newest(earlier, data)
        self._latest[data.stream] = data


def _newest(earlier: Data, later: Data) -> Data:
    """The newer full state; of one that misses a section, the earlier section stays."""
    if earlier.venue_ms is not None and later.venue_ms is not None and later.venue_ms < earlier.venue_ms:
        return earlier
    kinds = {_kind(message) for message in later.messages}
    kept = tuple(message for message in earlier.messages if _kind(message) not in kinds)
    if not kept:
        return later
    return structs.replace(later, messages=(*later.messages, *kept))


def _kind(message: object) -> tuple[type, str]:
    return type(message), getattr(message, "dex", "")
