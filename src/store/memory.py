"""The store without a database: the same promises in plain dictionaries, for tests of everything around it."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from typing import Any

from src.models.errors import StoreError, StoreFatalError
from src.models.writes import Collection, Insert, Patch, Rejected, Upsert, Write, WriteBatch, WriteResult
from src.store import rejections
from src.store.base import Query, ServerFacts
from src.store.plain_documents import UnfitDocumentError, stored_form, stored_value
from src.store.schema import INDEXES
from src.store.selection import at, holds, not_before, place, project, select
from src.store.tally import Tally


class MemoryStore:
    """`src.store.base.Store` in memory, unbounded; documents are copied in and out.

    Attributes:
        batches: what was stored, in order.
    """

    def __init__(self, database: str = "memory") -> None:
        self.batches: list[WriteBatch] = []
        self._database = database
        self._documents: dict[Collection, dict[Any, dict[str, Any]]] = {name: {} for name in Collection}
        self._taken: dict[Collection, dict[tuple[str, ...], dict[str, Any]]] = {
            name: {tuple(field for field, _ in index.keys): {} for index in indexes if index.unique}
            for name, indexes in INDEXES.items()
        }
        self._failures: list[StoreError] = []
        self._closed = False

    def fail_next(self, *errors: StoreError) -> None:
        """Let the next calls (of any kind but `close`) raise these, one each; nothing is stored by such a call."""
        self._failures.extend(errors)

    def documents(self, collection: Collection) -> list[dict[str, Any]]:
        """Copies of all documents in order of insertion."""
        return copy.deepcopy(list(self._documents[collection].values()))

    async def prepare(self) -> ServerFacts:
        """Nothing to create; see `Store.prepare`."""
        self._check()
        return ServerFacts("memory:", "0", "standalone", self._database)

    async def write(self, batch: WriteBatch) -> WriteResult:
        """Store a batch; see `Store.write`."""
        self._check()
        tally = Tally()
        for group in batch.groups:
            for write in group:
                self._apply(write, tally)
        self.batches.append(batch)
        return tally.result()

    async def find(self, collection: Collection, query: Query) -> AsyncIterator[Mapping[str, Any]]:
        """Documents that match; see `Store.find`."""
        self._check()
        for document in select(self._documents[collection].values(), query):
            yield copy.deepcopy(project(document, query))

    async def count(self, collection: Collection, query: Query) -> int:
        """How many documents match."""
        self._check()
        return len(select(self._documents[collection].values(), query))

    async def ping(self) -> float:
        """No distance at all."""
        self._check()
        return 0.0

    async def close(self) -> None:
        """Further calls raise `StoreFatalError`; safe to repeat."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise StoreFatalError("the store is closed")
        if self._failures:
            raise self._failures.pop(0)

    def _apply(self, write: Write, tally: Tally) -> None:
        try:
            if isinstance(write, Insert):
                self._insert(write, tally)
            elif isinstance(write, Upsert):
                self._upsert(write, tally)
            else:
                self._patch(write, tally)
        except UnfitDocumentError as error:
            tally.reject(Rejected(write, error.reason, str(error)))

    def _insert(self, write: Insert, tally: Tally) -> None:
        if write.document.get("_id") is None:
            raise UnfitDocumentError(rejections.MISSING_ID, "the document has no _id")
        document = stored_form(write.document)
        if document["_id"] in self._documents[write.collection]:
            tally.add(write.collection, repeated=1)
        else:
            self._put(write.collection, document)
            tally.add(write.collection, inserted=1)

    def _upsert(self, write: Upsert, tally: Tally) -> None:
        stored_value(write.id)
        values = stored_form({**write.values, write.version_field: write.version})
        first = stored_form({k: v for k, v in write.on_insert.items() if k not in write.values})
        found = self._documents[write.collection].get(write.id)
        if found is None:
            self._put(write.collection, _with({"_id": write.id}, {**first, **values}))
            tally.add(write.collection, inserted=1)
        elif not_before(at(found, write.version_field), values[write.version_field]):
            tally.add(write.collection, repeated=1)
        else:
            self._put(write.collection, _with(found, values))
            tally.add(write.collection, modified=1)

    def _patch(self, write: Patch, tally: Tally) -> None:
        stored_value(write.id)
        values, guard = stored_form(write.values), stored_form(write.guard)
        found = self._documents[write.collection].get(write.id)
        if found is None or not all(holds(at(found, field), value) for field, value in guard.items()):
            tally.add(write.collection, repeated=1)
            return
        changed = _with(found, values)
        if repr(changed) == repr(found):  # 1, 1.0 and True are equal in Python, and different documents in MongoDB
            tally.add(write.collection, repeated=1)
            return
        self._put(write.collection, changed)
        tally.add(write.collection, modified=1)

    def _put(self, collection: Collection, document: dict[str, Any]) -> None:
        """Store one document unless another one has its values of a unique index."""
        stored_form(document)
        keys = {fields: repr([at(document, field) for field in fields]) for fields in self._taken[collection]}
        for fields, key in keys.items():
            if self._taken[collection][fields].get(key, document["_id"]) != document["_id"]:
                raise UnfitDocumentError(rejections.DUPLICATE_KEY, f"{', '.join(fields)}: {key}")
        before = self._documents[collection].get(document["_id"])
        for fields, key in keys.items():
            if before is not None:
                self._taken[collection][fields].pop(repr([at(before, field) for field in fields]), None)
            self._taken[collection][fields][key] = document["_id"]
        self._documents[collection][document["_id"]] = document


def _with(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(document))
    for path, value in values.items():
        try:
            place(changed, path, value)
        except ValueError as error:
            raise UnfitDocumentError(rejections.REFUSED, str(error)) from error
    return changed
