"""Reading by ``_id``, a few hundred at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from src.models.writes import Collection, Insert
from src.store.base import Query, Store

AT_ONCE = 500


async def find_by_id(
    store: Store, collection: Collection, ids: Sequence[str], fields: Sequence[str]
) -> AsyncIterator[Mapping[str, Any]]:
    """Those of these documents that are stored, with ``fields`` alone.

    Raises:
        StoreError: MongoDB is away.
    """
    for start in range(0, len(ids), AT_ONCE):
        query = Query(one_of={"_id": ids[start : start + AT_ONCE]}, fields=fields)
        async for document in store.find(collection, query):
            yield document


async def stored_ids(store: Store, collection: Collection, ids: Sequence[str]) -> set[str]:
    """Those of these ids that are stored.

    Raises:
        StoreError: MongoDB is away.
    """
    return {str(document["_id"]) async for document in find_by_id(store, collection, ids, ("_id",))}


async def missing(store: Store, inserts: Sequence[Insert]) -> list[Insert]:
    """Those of these documents (of one collection) that are not stored.

    Raises:
        StoreError: MongoDB is away.
    """
    if not inserts:
        return []
    known = await stored_ids(store, inserts[0].collection, [insert.document["_id"] for insert in inserts])
    return [insert for insert in inserts if insert.document["_id"] not in known]
