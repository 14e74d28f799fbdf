"""The rules of the writer's lease. Pure: documents in, decisions out.

One document says who may write to a database: ``term`` (counts holders) and ``beat`` (counts renewals of one of
them). It changes by compare-and-set alone. Nobody compares wall clocks: a watcher lets ``patience`` pass on its own
monotonic clock while it sees the same (term, beat), and takes the lease on the condition that they are still the
same. A holder believes in its lease for ``ttl`` after the *beginning* of its last successful renewal, which is
shorter. Therefore the old holder has stopped offering batches when the new one begins; only the batch that was
already under way may still arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from src.models.writes import Collection, Insert, Patch, Write

LEASE_ID = "writer"

TTL_S = 10.0
RENEW_S = 3.0
GRACE_S = 1.5
"""Watchers wait so much longer than the holder believes: for clocks that tick differently and a batch under way."""


class Holder(Struct, frozen=True):
    """A program that wants to write.

    Attributes:
        id: of its data directory, the same after a restart; a data directory is locked by one program at a time, so
            the lease of the same ``id`` on the same ``host`` belongs to nobody any more.
        host, pid: for people.
        run: different for each start.
    """

    id: str
    host: str
    pid: int
    run: str


class LeaseDocument(Struct, frozen=True):
    """What stands in the database. ``guard`` are the exact values that must still stand there to take it."""

    term: int
    beat: int
    id: str
    run: str
    host: str
    pid: int
    since: datetime | None
    released: bool
    guard: Mapping[str, Any] = {}

    @property
    def owner(self) -> str:
        """Who holds it, for people."""
        since = "" if self.since is None else f", since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"host {self.host}, pid {self.pid}{since}"


def read_lease(document: Mapping[str, Any]) -> LeaseDocument:
    """The document in the program's terms; fields that are missing or spoilt make it a lease of nobody known."""
    return LeaseDocument(
        term=_integer(document.get("term")),
        beat=_integer(document.get("beat")),
        id=str(document.get("holder", "")),
        run=str(document.get("run", "")),
        host=str(document.get("host", "unknown")),
        pid=_integer(document.get("pid")),
        since=since if isinstance(since := document.get("since"), datetime) else None,
        released=bool(document.get("released")),
        guard={field: document.get(field) for field in ("term", "beat", "run")},
    )


def write_to_take(seen: LeaseDocument | None, holder: Holder, now: datetime) -> Write:
    """Take the lease if nothing happened to it since it was ``seen``."""
    term = 1 if seen is None else seen.term + 1
    values = {
        "term": term,
        "beat": 0,
        "holder": holder.id,
        "run": holder.run,
        "host": holder.host,
        "pid": holder.pid,
        "since": now,
        "renewedAt": now,
        "released": False,
    }
    if seen is None:
        return Insert(Collection.SCHEMA, {"_id": LEASE_ID, **values})
    return Patch(Collection.SCHEMA, LEASE_ID, values, seen.guard)


def write_to_renew(term: int, beat: int, holder: Holder, now: datetime, *, released: bool = False) -> Patch:
    """Count a renewal, or give the lease back, if it is still the holder's."""
    values = {"beat": beat, "renewedAt": now, "released": released}
    return Patch(Collection.SCHEMA, LEASE_ID, values, {"term": term, "run": holder.run})


class Watch:
    """Judges by the own clock whether somebody else still renews.

    Attributes:
        is_alive: it renewed while we watched.
    """

    def __init__(self, holder: Holder, *, patience_s: float, longest_gap_s: float) -> None:
        """Begin with nothing seen.

        Args:
            holder: who watches.
            patience_s: how long a lease has to stay unchanged before it may be taken.
            longest_gap_s: between two looks; what happened in a longer one, nobody knows (a database that was away
                kept the holder from renewing, too).
        """
        self._holder = holder
        self._patience_s = patience_s
        self._longest_gap_s = longest_gap_s
        self._key: tuple[int, int, str] | None = None
        self._since_s: float | None = None
        self._looked_s = 0.0
        self.is_alive = False

    def may_take(self, seen: LeaseDocument | None, now_s: float) -> bool:
        """Judge one look; ``now_s`` is read after the look has ended."""
        key = None if seen is None else (seen.term, seen.beat, seen.run)
        first = self._since_s is None
        if not first and key != self._key:
            self.is_alive = True
        if first or key != self._key or now_s - self._looked_s > self._longest_gap_s:
            self._key, self._since_s = key, now_s
        self._looked_s = now_s
        assert self._since_s is not None
        if seen is None:
            return first or now_s - self._since_s >= self._patience_s  # somebody removed it under a living holder
        return seen.released or self._is_ours(seen) or now_s - self._since_s >= self._patience_s

    def not_seen(self) -> None:
        """A look failed: an unreachable database is not an unchanged lease."""
        self._looked_s = float("-inf")

    def _is_ours(self, seen: LeaseDocument) -> bool:
        return (seen.id, seen.host) == (self._holder.id, self._holder.host)


def _integer(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
