"""What the backfill reads from the database and writes into it. Every method raises `StoreError` when it is away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from src.jobs.backfill.plan import Cursor, Kind, Range, cursor_id, cursor_of
from src.models.changes import FillSeen, OrderChange, OrderEnded
from src.models.messages import Fill
from src.models.metrics import DEAD_LETTERS, Metrics
from src.models.writes import Collection, Insert, Patch, Write, WriteBatch
from src.pipeline.batches import BatchBuilder
from src.pipeline.documents import to_date, to_ms, write_of_fill
from src.pipeline.identities import order_id
from src.store.base import Query, Store
from src.store.by_id import find_by_id, missing
from src.store.counting import count_written

_CHUNK = 500


class StoredOrder(Struct, frozen=True):
    """What the database knows of an order."""

    status: str
    revision: int
    reason: str | None


class Request(Struct, frozen=True):
    """Somebody asks the running program to read this now."""

    id: str
    kind: Kind
    subject: str
    range: Range | None


class BackfillStore:
    """Reads, and writes that may be repeated."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def write(self, *groups: Sequence[Write]) -> None:
        """Store groups of writes one after the other."""
        for group in groups:
            for start in range(0, len(group), _CHUNK):
                result = await self._store.write(WriteBatch(0, [group[start : start + _CHUNK]]))
                count_written(self._metrics, result)
                for rejected in result.rejected:  # MongoDB will not take it another time either
                    self._metrics.add(DEAD_LETTERS, "store", rejected.reason)

    # -- orders and fills ------------------------------------------------------------------------------------------

    async def orders(self, trader: str, oids: Iterable[int]) -> dict[int, StoredOrder]:
        """Those of these orders that are stored."""
        found: dict[int, StoredOrder] = {}
        ids = [order_id(trader, oid) for oid in oids]
        fields = ("oid", "status", "revision", "closeReason")
        async for document in find_by_id(self._store, Collection.TRADER_ORDERS, ids, fields):
            found[int(document["oid"])] = StoredOrder(
                document["status"], int(document["revision"]), document.get("closeReason")
            )
        return found

    async def store_changes(self, changes: Sequence[OrderChange | OrderEnded]) -> None:
        """Events first, then states, then patches, a few hundred orders at a time."""
        for start in range(0, len(changes), _CHUNK):
            builder = BatchBuilder(0)
            for change in changes[start : start + _CHUNK]:
                builder.add(change)
            await self.write(*builder.build().groups)

    async def store_fills(self, fills: Sequence[Fill]) -> int:
        """Store those that are missing; returns how many were."""
        inserts: dict[str, Insert] = {}
        for fill in fills:
            insert = write_of_fill(FillSeen(fill))
            inserts[str(insert.document["_id"])] = insert
        new = await missing(self._store, list(inserts.values()))
        await self.write(new)
        return len(new)

    # -- cursors ---------------------------------------------------------------------------------------------------

    async def cursor(self, kind: Kind, venue: str, subject: str) -> Cursor:
        """How far this history is read."""
        query = Query(equals={"_id": cursor_id(venue, kind, subject)}, limit=1)
        async for document in self._store.find(Collection.BACKFILLS, query):
            return cursor_of(kind, venue, subject, document)
        return Cursor(kind, venue, subject)

    async def cursors(self, kind: Kind, venue: str, subjects: Sequence[str]) -> list[Cursor]:
        """The same of many at once; fresh ones for those never read."""
        found: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(subjects), _CHUNK):
            query = Query(equals={"kind": kind.value}, one_of={"subject": subjects[start : start + _CHUNK]})
            async for document in self._store.find(Collection.BACKFILLS, query):
                if document["venue"] == venue:
                    found[document["subject"]] = document
        return [cursor_of(kind, venue, subject, found.get(subject)) for subject in subjects]

    # -- requests --------------------------------------------------------------------------------------------------

    async def ask(self, request: Request, venue: str, at: datetime) -> None:
        """Leave a request for the running program; a newer one replaces it."""
        identity = {"venue": venue, "kind": request.kind.value, "subject": request.subject}
        wanted: dict[str, Any] = {"id": request.id, "at": at}
        if request.range is not None:
            wanted |= {"from": to_date(request.range.from_ms), "to": to_date(request.range.to_ms)}
        key = cursor_id(venue, request.kind, request.subject)
        patch = Patch(Collection.BACKFILLS, key, {"asked": True, "wanted": wanted, "answer": None})
        await self.write([Insert(Collection.BACKFILLS, {"_id": key, **identity})], [patch])

    async def withdraw(self, request: Request, venue: str) -> None:
        """Take a request back, unless another one has replaced it."""
        key = cursor_id(venue, request.kind, request.subject)
        await self.write([Patch(Collection.BACKFILLS, key, {"asked": False}, {"wanted.id": request.id})])

    async def requests(self, venue: str) -> list[Request]:
        """What is asked for and not answered yet."""
        query = Query(equals={"asked": True, "venue": venue}, limit=_CHUNK, sort=(("wanted.at", False),))
        return [_request(document) async for document in self._store.find(Collection.BACKFILLS, query)]

    async def answer(self, request: Request, venue: str, answer: Mapping[str, Any]) -> None:
        """Tell who asked what came of it."""
        key = cursor_id(venue, request.kind, request.subject)
        values = {"asked": False, "answer": {"id": request.id, **answer}}
        await self.write([Patch(Collection.BACKFILLS, key, values, {"wanted.id": request.id})])

    async def answers(self, kind: Kind, venue: str, subjects: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The last answer of each subject that has one."""
        found: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(subjects), _CHUNK):
            query = Query(
                equals={"kind": kind.value},
                one_of={"subject": subjects[start : start + _CHUNK]},
                fields=("venue", "subject", "answer"),
            )
            async for document in self._store.find(Collection.BACKFILLS, query):
                if document["venue"] == venue and document.get("answer"):
                    found[document["subject"]] = document["answer"]
        return found

    async def followed(self) -> list[str]:
        """Who is followed."""
        query = Query(equals={"enabled": True}, sort=(("ethAddress", False),), fields=("ethAddress",))
        return [document["ethAddress"] async for document in self._store.find(Collection.TRADERS, query)]


def _request(document: Mapping[str, Any]) -> Request:
    wanted = document["wanted"]
    begin, end = to_ms(wanted.get("from")), to_ms(wanted.get("to"))
    span = None if begin is None and end is None else Range(begin or 0, end)
    return Request(str(wanted["id"]), Kind(document["kind"]), document["subject"], span)
