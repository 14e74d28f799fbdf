"""Pages of results that stay right while documents come and go: key-set cursors.

A cursor says after which document the next page begins. It is opaque to clients, belongs to one endpoint with one set
of filters, and can only ever become a bound in a query.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from src.api.reading import Document, Reader
from src.models.writes import Collection
from src.store.base import Query, Scalar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_US = 253_402_300_799_999_999
LONGEST_CURSOR = 1024


class CursorError(ValueError):
    """A cursor that this endpoint did not hand out for these filters."""

    def __init__(self) -> None:
        super().__init__("cursor: not one of this query; use nextCursor of the page before, with the same filters")


class Place(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last document of a page: its time in microseconds since 1970 (None if it has none) and its key."""

    scope: str
    time_us: int | None
    key: str


class Page(Struct, frozen=True):
    """Documents, and the cursor of the page after them (None on the last page)."""

    items: Sequence[Document]
    next_cursor: str | None


def scope_of(endpoint: str, filters: Mapping[str, Any]) -> str:
    """A short fingerprint of what a cursor is good for."""
    text = "\n".join([endpoint, *(f"{name}={filters[name]!s}" for name in sorted(filters))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def encode_cursor(place: Place) -> str:
    """The text of a cursor; safe in a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode_cursor(text: str, scope: str) -> Place:
    """The place a cursor means.

    Raises:
        CursorError: it was changed, or belongs to another query.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        place = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=Place)
    except (UnicodeEncodeError, binascii.Error, msgspec.MsgspecError):
        raise CursorError from None
    if place.scope != scope or not 0 <= (place.time_us or 0) <= LATEST_US:
        raise CursorError
    return place


async def newest_first(
    reader: Reader,
    collection: Collection,
    queries: Iterable[Query],
    *,
    field: str,
    limit: int,
    scope: str,
    cursor: str | None,
) -> Page:
    """One page of the documents that match any of ``queries`` (which must not overlap), newest ``field`` first.

    Documents of the same time are ordered by ``_id``, those without a time come last.
    """
    after = None if cursor is None else decode_cursor(cursor, scope)
    wanted = limit + 1  # one more than asked for tells whether there is a next page
    rows = [row for query in queries for row in await _after(reader, collection, query, field, after, wanted)]
    rows.sort(key=lambda row: _order(row, field), reverse=True)
    items = rows[:limit]
    if len(rows) <= limit:
        return Page(items, None)
    time = items[-1].get(field)
    place = Place(scope, None if time is None else _microseconds(time), str(items[-1]["_id"]))
    return Page(items, encode_cursor(place))


async def by_key(
    reader: Reader, collection: Collection, query: Query, *, key: str, limit: int, scope: str, cursor: str | None
) -> Page:
    """One page of the matching documents in the order of the unique text field ``key``."""
    at_least = dict(query.at_least)
    if cursor is not None:
        at_least[key] = decode_cursor(cursor, scope).key + "\0"  # the smallest text after it
    rows = await reader.find(collection, replace(query, at_least=at_least, sort=((key, False),), limit=limit + 1))
    items = rows[:limit]
    last = encode_cursor(Place(scope, None, str(items[-1][key]))) if len(rows) > limit else None
    return Page(items, last)


async def _after(
    reader: Reader, collection: Collection, query: Query, field: str, after: Place | None, wanted: int
) -> list[Document]:
    """Up to ``wanted`` documents behind ``after``, in order.

    Sorts by ``field`` alone where there may be many documents, so that an index on it serves, and by ``_id`` only
    among documents of one time.
    """
    rows: list[Document] = []
    if after is not None and after.time_us is not None:
        rows = await _ties(reader, collection, query, (field, _time(after.time_us)), after.key, wanted)
    if after is None or after.time_us is not None:
        below = dict(query.below)
        if after is not None:
            below[field] = _time(after.time_us or 0)
        rows += await _dated(reader, collection, replace(query, below=below), field, wanted - len(rows))
    if len(rows) < wanted and field not in query.below and field not in query.at_least:
        last_key = after.key if after is not None and after.time_us is None else None
        rows += await _ties(reader, collection, query, (field, None), last_key, wanted - len(rows))
    return rows


async def _dated(reader: Reader, collection: Collection, query: Query, field: str, wanted: int) -> list[Document]:
    """Up to ``wanted`` documents that have a time, newest first."""
    if wanted <= 0:
        return []
    found = await reader.find(collection, replace(query, sort=((field, True),), limit=wanted))
    rows = [row for row in found if row.get(field) is not None]
    if len(rows) == wanted:
        # Of the oldest time there may be more documents than were read, and not those that come first by _id.
        oldest = rows[-1][field]
        rows = [row for row in rows if row[field] != oldest]
        rows += await _ties(reader, collection, query, (field, oldest), None, wanted - len(rows))
    return sorted(rows, key=lambda row: _order(row, field), reverse=True)


async def _ties(
    reader: Reader,
    collection: Collection,
    query: Query,
    same: tuple[str, Scalar],
    below_key: str | None,
    wanted: int,
) -> list[Document]:
    """Up to ``wanted`` documents of exactly one time, highest ``_id`` first, below ``below_key``."""
    if wanted <= 0:
        return []
    field, value = same
    below = {name: bound for name, bound in query.below.items() if name != field}
    if below_key is not None:
        below["_id"] = below_key
    return await reader.find(
        collection,
        replace(
            query,
            equals={**query.equals, field: value},
            at_least={name: bound for name, bound in query.at_least.items() if name != field},
            below=below,
            sort=(("_id", True),),
            limit=wanted,
        ),
    )


def _order(row: Document, field: str) -> tuple[bool, datetime, str]:
    time = row.get(field)
    return time is not None, time or EPOCH, str(row["_id"])


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
