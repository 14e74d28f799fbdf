"""What repair reads from the database and writes into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from msgspec import Struct

from src.jobs.repair.history import History
from src.jobs.repair.plan import SKEW_MS, Close, ClosedHole, FillWalk
from src.models.changes import Change
from src.models.messages import GapReason
from src.models.metrics import REPAIRS_DROPPED, Metrics
from src.models.streams import StreamKey
from src.models.writes import Collection as Stored
from src.models.writes import Insert, Write, WriteBatch
from src.pipeline.batches import BatchBuilder
from src.pipeline.documents import to_date, to_ms
from src.pipeline.identities import order_id
from src.store.base import Query, Store
from src.store.by_id import missing, stored_ids
from src.store.counting import count_written

HOLES_LOOK_BACK = timedelta(days=7)
CLOSES_LOOK_BACK_HOURS = 24
MOST_HOLES = 5_000
MOST_CLOSES = 5_000
_CHUNK = 500
_STATE_FIELDS = (
    "_id", "ethAddress", "oid", "coin", "status", "revision", "closeReason", "closedAt", "parentOid", "activated",
    "isTrigger", "filledSz", "avgPx", "closedBy",
)  # fmt: skip
_NOT_ASKED_FOR = frozenset({GapReason.UNSUBSCRIBED.value, GapReason.NOT_COLLECTED.value, GapReason.SAMPLED.value})


class Stage(Enum):
    """How far the database is with a close."""

    NOT_YET_STORED = "not_yet_stored"
    UNRESOLVED = "unresolved"
    RESOLVED = "resolved"
    REOPENED = "reopened"


class StoredFill(Struct, frozen=True):
    """What counts of a fill."""

    id: str
    oid: int
    px: float
    sz: float


class RepairStore:
    """Reads and idempotent writes of repair. Every method raises `StoreError` when MongoDB is away."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def write(self, writes: Sequence[Write], what: str) -> None:
        """Store these in any order."""
        for start in range(0, len(writes), _CHUNK):
            result = await self._store.write(WriteBatch(0, [writes[start : start + _CHUNK]]))
            count_written(self._metrics, result)
            for rejected in result.rejected:
                self._metrics.add(REPAIRS_DROPPED, what, rejected.reason)

    async def write_changes(self, changes: Sequence[Change], what: str) -> None:
        """Store these as the flush would: events before the states they lead to."""
        for start in range(0, len(changes), _CHUNK):
            builder = BatchBuilder(0)
            for change in changes[start : start + _CHUNK]:
                builder.add(change)
            result = await self._store.write(builder.build())
            count_written(self._metrics, result)
            for rejected in result.rejected:
                self._metrics.add(REPAIRS_DROPPED, what, rejected.reason)

    # -- what is to be done ----------------------------------------------------------------------------------------

    async def unlooked_holes(self, venue: str, now_ms: int) -> list[ClosedHole]:
        """Ended holes of the last days that nobody has looked into, the newest first."""
        query = Query(
            equals={"venue": venue, "repaired": False, "repair": None},
            at_least={"to": _date(now_ms) - HOLES_LOOK_BACK},
            sort=(("to", True),),
            limit=MOST_HOLES,
            fields=("stream", "from", "to", "reason"),
        )
        found = [document async for document in self._store.find(Stored.COVERAGE, query)]
        return [
            ClosedHole(StreamKey.parse(document["stream"]), _ms(document["from"]), _ms(document["to"]))
            for document in found
            if not is_nobodys_trouble(document["reason"])
        ]

    async def unlooked_closes(self, now_ms: int) -> list[Close]:
        """Closes of the last day without a reason, the newest first; read hour by hour."""
        return [
            Close(event["ethAddress"], int(event["oid"]), int(event["revision"]))
            async for event in self._closes(now_ms, {"closeReason": None})
        ]

    async def stored_holes(self, ids: Collection[str]) -> set[str]:
        """Those of these holes whose end is stored; what came before an end is stored before it."""
        query = Query(one_of={"_id": list(ids)}, fields=("_id", "to"))
        return {d["_id"] async for d in self._store.find(Stored.COVERAGE, query) if d.get("to") is not None}

    async def stages(self, closes: Collection[Close]) -> dict[str, Stage]:
        """By ``event_id``, how far the database is with these closes."""
        query = Query(one_of={"_id": [close.event_id for close in closes]}, fields=("_id", "closeReason"))
        events = {d["_id"]: d.get("closeReason") async for d in self._store.find(Stored.TRADER_ORDER_EVENTS, query)}
        query = Query(one_of={"_id": [close.state_id for close in closes]}, fields=("_id", "revision", "status"))
        states = {d["_id"]: d async for d in self._store.find(Stored.TRADER_ORDERS, query)}
        stages: dict[str, Stage] = {}
        for close in closes:
            state = states.get(close.state_id)
            if close.event_id not in events or state is None or state["revision"] < close.revision:
                stages[close.event_id] = Stage.NOT_YET_STORED
            elif events[close.event_id] is not None:
                stages[close.event_id] = Stage.RESOLVED
            elif state["revision"] > close.revision or state["status"] != "closed":
                stages[close.event_id] = Stage.REOPENED
            else:
                stages[close.event_id] = Stage.UNRESOLVED
        return stages

    async def closes_without_details(self, now_ms: int) -> list[tuple[str, int]]:
        """(trader, oid) of closes of the last day that nobody has summed up, the newest first."""
        events = self._closes(now_ms, {"filledSz": None})
        return [(event["ethAddress"], int(event["oid"])) async for event in events]

    async def _closes(self, now_ms: int, lacking: Mapping[str, None]) -> AsyncIterator[Mapping[str, Any]]:
        """Closing events of the last day that lack something, read hour by hour, the newest first."""
        left, end = MOST_CLOSES, _date(now_ms) + timedelta(hours=1)  # a clock may have been set back
        for _ in range(CLOSES_LOOK_BACK_HOURS + 1):
            begin = end - timedelta(hours=1)
            query = Query(
                equals={"action": "closed", **lacking},
                at_least={"receivedAt": begin},
                below={"receivedAt": end},
                limit=left,
                fields=("ethAddress", "oid", "revision"),
            )
            async for event in self._store.find(Stored.TRADER_ORDER_EVENTS, query):
                left -= 1
                yield event
            end = begin
            if left <= 0:
                break

    # -- what is known ---------------------------------------------------------------------------------------------

    async def begin_walk(self, history: History, trader: str, from_ms: int) -> FillWalk:
        """A walk from the newest fill that was received before ``from_ms``, or from then where there is none."""
        query = Query(
            equals={"ethAddress": trader},
            below={"receivedAt": _date(from_ms + 1)},
            sort=(("timestamp", True),),
            limit=1,
            fields=("_id", "timestamp"),
        )
        anchor, begin_ms = None, from_ms - 60 * SKEW_MS
        async for document in self._store.find(Stored.TRADER_FILLS, query):
            anchor, begin_ms = str(document["_id"]), _ms(document["timestamp"])
        return FillWalk(
            begin_ms=max(0, begin_ms), anchor=anchor, page_rows=history.fills_page, reach=history.fills_reach
        )

    async def newest_trade(self, venue: str, symbol: str, from_ms: int) -> tuple[str, int] | None:
        """Id and time of the newest trade that was received before ``from_ms``."""
        query = Query(
            equals={"venue": venue, "symbol": symbol},
            below={"receivedAt": _date(from_ms + 1)},
            sort=(("timestamp", True),),
            limit=1,
            fields=("tradeId", "timestamp"),
        )
        async for document in self._store.find(Stored.TRADES, query):
            return str(document["tradeId"]), _ms(document["timestamp"])
        return None

    async def stored_oids(self, trader: str, oids: Collection[int]) -> set[int]:
        """Those of these orders that are stored."""
        found = await stored_ids(self._store, Stored.TRADER_ORDERS, [order_id(trader, oid) for oid in oids])
        return {int(identity.rpartition(":")[2]) for identity in found}

    async def order_states(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Stored orders by ``_id``, with what tells how they ended."""
        query = Query(one_of={"_id": list(ids)}, fields=_STATE_FIELDS)
        return {str(d["_id"]): d async for d in self._store.find(Stored.TRADER_ORDERS, query)}

    async def fills_of(self, trader: str, oids: Collection[int]) -> list[StoredFill]:
        """All stored fills of these orders."""
        query = Query(equals={"ethAddress": trader}, one_of={"oid": list(oids)}, fields=("_id", "oid", "px", "sz"))
        return [
            StoredFill(str(d["_id"]), int(d["oid"]), float(d["px"]), float(d["sz"]))
            async for d in self._store.find(Stored.TRADER_FILLS, query)
        ]

    async def filled_at(self, trader: str, coin: str, at_ms: int) -> set[int]:
        """Orders of a coin that were (partly) filled in this very millisecond."""
        begin = f"{trader}:{coin}:{at_ms}:"
        query = Query(at_least={"_id": begin}, below={"_id": begin[:-1] + ";"}, fields=("oid",))
        return {int(d["oid"]) async for d in self._store.find(Stored.TRADER_FILLS, query)}

    async def missing(self, inserts: Sequence[Insert]) -> list[Insert]:
        """Those of these documents (of one collection) that are not stored."""
        return await missing(self._store, inserts)


def is_nobodys_trouble(reason: str) -> bool:
    """Whether a hole of this reason is one in which nothing was asked for; its history is not fetched."""
    return reason in _NOT_ASKED_FOR


def _date(time_ms: int) -> datetime:
    return to_date(time_ms) or datetime.fromtimestamp(0, UTC)


def _ms(date: datetime) -> int:
    return to_ms(date) or 0
