"""Reads of the store for HTTP clients: bounded in time and in number, so that they never starve collecting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from src.models.errors import StoreError
from src.models.writes import Collection
from src.store.base import Query, Store

MOST_READS_AT_ONCE = 8

Document = Mapping[str, Any]


class Reader:
    """Finds documents within a deadline.

    At most `MOST_READS_AT_ONCE` requests read at the same time; the others wait, and their waiting counts against
    their deadline.
    """

    def __init__(self, store: Store, *, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(MOST_READS_AT_ONCE)

    async def find(self, collection: Collection, query: Query) -> list[Document]:
        """Documents that match; ``query`` has to carry a limit.

        Raises:
            StoreError: MongoDB is away or slower than the deadline.
        """
        assert query.limit is not None, "a request must not read without a bound"
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                return [document async for document in self._store.find(collection, query)]
        except TimeoutError:
            raise StoreError(f"MongoDB did not answer within {self._timeout_s:g} s") from None

    async def first(self, collection: Collection, equals: Mapping[str, str | int]) -> Document | None:
        """The document with these field values, None when there is none."""
        found = await self.find(collection, Query(equals=equals, limit=1))
        return found[0] if found else None
