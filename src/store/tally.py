"""What became of the writes of a batch, added up."""

from __future__ import annotations

from src.models.writes import Collection, Rejected, WriteResult


class Tally:
    """Adds up what became of the writes of one batch."""

    def __init__(self) -> None:
        self._inserted: dict[str, int] = {}
        self._modified: dict[str, int] = {}
        self._repeated = 0
        self._rejected: list[Rejected] = []

    def add(self, collection: Collection, *, inserted: int = 0, modified: int = 0, repeated: int = 0) -> None:
        """Count documents of one collection."""
        if inserted:
            self._inserted[collection.value] = self._inserted.get(collection.value, 0) + inserted
        if modified:
            self._modified[collection.value] = self._modified.get(collection.value, 0) + modified
        self._repeated += repeated

    def reject(self, rejected: Rejected) -> None:
        """Note one refused write."""
        self._rejected.append(rejected)

    def result(self) -> WriteResult:
        """The sums so far."""
        return WriteResult(dict(self._inserted), dict(self._modified), self._repeated, tuple(self._rejected))
