"""What the rest of the program asks of a store; implemented by `mongo` for real and by `memory` for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from src.models.writes import Collection, WriteBatch, WriteResult

Scalar = str | int | float | bool | datetime | None


class Query(Struct, frozen=True):
    """A read in typed parts; nothing in it can become a MongoDB operator.

    Attributes:
        equals: field = value.
        one_of: field is one of the values.
        at_least / below: inclusive lower and exclusive upper bounds per field.
        sort: (field, descending) pairs.
        limit: most documents to return, None = all (streamed).
        fields: fields to return, None = all.
    """

    equals: Mapping[str, Scalar] = {}
    one_of: Mapping[str, Sequence[Scalar]] = {}
    at_least: Mapping[str, Scalar] = {}
    below: Mapping[str, Scalar] = {}
    sort: Sequence[tuple[str, bool]] = ()
    limit: int | None = None
    fields: Sequence[str] | None = None


class ServerFacts(Struct, frozen=True):
    """What kind of MongoDB this is: for the banner, ``doctor`` and warnings. ``uri`` has its password masked."""

    uri: str
    version: str
    topology: str  # "standalone", "replica set" or "sharded"
    database: str


class Store(Protocol):
    """Reads and idempotent writes."""

    async def prepare(self) -> ServerFacts:
        """Create collections and indexes where missing and check the schema version; safe to repeat.

        Raises:
            StoreError: MongoDB is away.
            StoreFatalError: rights are missing, or the database was written by a newer program.
        """

    async def write(self, batch: WriteBatch) -> WriteResult:
        """Store a batch, group by group, each in unordered bulks; repeating a batch changes nothing.

        Raises:
            StoreError: MongoDB is away or slow; the whole batch may be offered again.
            StoreFatalError: trying again will not help.
        """

    def find(self, collection: Collection, query: Query) -> AsyncIterator[Mapping[str, Any]]:
        """Documents that match, as plain mappings with UTC-aware datetimes."""

    async def count(self, collection: Collection, query: Query) -> int:
        """How many documents match."""

    async def ping(self) -> float:
        """Round trip in milliseconds.

        Raises:
            StoreError: MongoDB does not answer.
        """

    async def close(self) -> None:
        """Let go of all connections; safe to repeat."""
