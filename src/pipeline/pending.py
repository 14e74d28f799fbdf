"""Changes that wait for MongoDB, bounded, in segments that are stored one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from src.models.changes import Change

SEGMENT_SIZE = 5_000
"""Changes per segment; a restart looks back two segments to mend what a crash cut in half."""


class Pending:
    """A queue of changes with a limit; the newest segment is still growing."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._segments: deque[list[Change]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def segments(self) -> int:
        """Segments that can be taken now."""
        return len(self._segments)

    @property
    def is_full(self) -> bool:
        """True when the diff has to wait; the buffer then coalesces."""
        return self._count >= self._limit

    def add(self, changes: Sequence[Change]) -> None:
        """Append changes. May overshoot the limit by one call; callers look at `is_full` first."""
        if not changes:
            return
        self._count += len(changes)
        if not self._segments or len(self._segments[-1]) >= SEGMENT_SIZE:
            self._segments.append([])
        self._segments[-1].extend(changes)

    def take(self) -> list[Change]:
        """The oldest segment, now the caller's; empty when nothing waits. Count it off with `done` when stored."""
        return self._segments.popleft() if self._segments else []

    def put_back(self, changes: list[Change]) -> None:
        """Return a segment that could not be stored, to be the next one taken."""
        if changes:
            self._segments.appendleft(changes)

    def done(self, count: int) -> None:
        """A taken segment of ``count`` changes is stored."""
        self._count -= count
