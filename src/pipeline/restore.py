"""What was known before this start, read back from MongoDB, so that the first lists are compared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from src.models.streams import StreamKey
from src.models.writes import Collection, Upsert, WriteBatch
from src.pipeline.diff import Diff, Hole
from src.pipeline.documents import to_date, to_ms
from src.pipeline.identities import state_id_of
from src.pipeline.pending import SEGMENT_SIZE
from src.pipeline.stored_documents import order_of_document, position_of_document, upsert_of_events
from src.store.base import Query, Store
from src.store.by_id import find_by_id

log = structlog.get_logger(__name__)

CLOSED_WINDOW = timedelta(minutes=15)
"""Orders closed this shortly before the start are remembered, in case a late list brings them back."""

LOOK_BACK = 2 * SEGMENT_SIZE
_CHUNK = 500

HISTORY = "history"
"""``source`` of what was not seen but told by the venue's history afterwards."""

_LET_GO = Query(equals={"enabled": False}, sort=(("ethAddress", False),), fields=("ethAddress",))
_STATES_OF = {
    Collection.TRADER_ORDER_EVENTS: Collection.TRADER_ORDERS,
    Collection.TRADER_POSITION_EVENTS: Collection.TRADER_POSITIONS,
}


async def roll_forward(store: Store, since_ms: int = 0) -> int:
    """Bring states up to their last events, where a crash came between the two; returns how many were behind.

    Events are stored before the states of the same segment, so only the newest segments can be cut. Events received
    before ``since_ms`` are not looked at.
    """
    mended = 0
    recent = {"receivedAt": to_date(since_ms)} if since_ms else {}
    query = Query(at_least=recent, sort=(("receivedAt", True),), limit=LOOK_BACK)
    for events, states in _STATES_OF.items():
        newest: dict[str, list[Mapping[str, Any]]] = {}
        async for event in store.find(events, query):
            newest.setdefault(state_id_of(event["_id"]), []).append(event)
        behind = await _behind(store, states, newest)
        for start in range(0, len(behind), _CHUNK):
            await store.write(WriteBatch(0, [behind[start : start + _CHUNK]]))
        mended += len(behind)
    if mended:
        log.info("states_rolled_forward", documents=mended)
    return mended


async def restore_traders(store: Store, diff: Diff, traders: Sequence[str], now_ms: int) -> None:
    """Load open orders, positions and recently closed orders of these traders into the diff."""
    for start in range(0, len(traders), _CHUNK):
        addresses = {"ethAddress": list(traders[start : start + _CHUNK])}
        await _restore_orders(store, diff, addresses)
        await _restore_closed(store, diff, addresses, now_ms)
        await _restore_positions(store, diff, addresses)


async def restore_holes(store: Store, diff: Diff) -> int:
    """Load the holes that are still open; they end with the next data of their stream."""
    count = 0
    async for hole in store.find(Collection.COVERAGE, Query(equals={"to": None})):
        diff.restore_hole(StreamKey.parse(hole["stream"]), Hole(_ms(hole["from"]), hole["reason"]))
        count += 1
    return count


async def let_go(store: Store) -> list[str]:
    """Traders who are no longer followed and have something open: they were let go while nobody was collecting."""
    gone = [d["ethAddress"] async for d in store.find(Collection.TRADERS, _LET_GO)]
    found: set[str] = set()
    for start in range(0, len(gone), _CHUNK):
        query = Query(
            equals={"status": "open"}, one_of={"ethAddress": gone[start : start + _CHUNK]}, fields=("ethAddress",)
        )
        for collection in (Collection.TRADER_ORDERS, Collection.TRADER_POSITIONS):
            found |= {document["ethAddress"] async for document in store.find(collection, query)}
    return [address for address in gone if address in found]


async def _behind(store: Store, states: Collection, newest: Mapping[str, list[Mapping[str, Any]]]) -> list[Upsert]:
    revisions: dict[str, int] = {}
    async for state in find_by_id(store, states, list(newest), ("_id", "revision")):
        revisions[state["_id"]] = state["revision"]
    missing = {
        identity: [event for event in events if event["revision"] > revisions.get(identity, 0)]
        for identity, events in newest.items()
    }
    return [upsert_of_events(states, events) for events in missing.values() if events]


async def _restore_orders(store: Store, diff: Diff, addresses: Mapping[str, Sequence[str]]) -> None:
    query = Query(one_of={**addresses, "status": ["open", "untracked"]})
    async for document in store.find(Collection.TRADER_ORDERS, query):
        diff.restore_order(
            document["ethAddress"],
            document.get("dex", ""),
            order_of_document(document),
            document["revision"],
            untracked=document["status"] == "untracked",
        )


async def _restore_closed(store: Store, diff: Diff, addresses: Mapping[str, Sequence[str]], now_ms: int) -> None:
    since = to_date(now_ms)
    assert since is not None
    query = Query(
        equals={"action": "closed"},
        one_of=addresses,
        at_least={"receivedAt": since - CLOSED_WINDOW},
        sort=(("receivedAt", False),),  # the diff forgets the oldest first
    )
    async for event in store.find(Collection.TRADER_ORDER_EVENTS, query):
        diff.restore_closed_order(
            event["ethAddress"],
            event.get("dex", ""),
            event["oid"],
            revision=event["revision"],
            # What history told ended long before it was stored: no modify can be recognised by that time.
            cloid=None if event.get("replacedBy") or event.get("source") == HISTORY else event.get("cloid"),
            closed_ms=_ms(event["receivedAt"]),
            explained=event.get("closeReason") not in {None, "unknown"},
        )


async def _restore_positions(store: Store, diff: Diff, addresses: Mapping[str, Sequence[str]]) -> None:
    async for document in store.find(Collection.TRADER_POSITIONS, Query(one_of=addresses)):
        trader, dex = document["ethAddress"], document.get("dex", "")
        if document["status"] != "closed":
            untracked = document["status"] == "untracked"
            position, revision = position_of_document(document), document["revision"]
            diff.restore_position(trader, dex, position, revision, untracked=untracked)
        else:
            diff.restore_closed_position(trader, dex, document["coin"], document["revision"])


def _ms(date: datetime) -> int:
    value = to_ms(date)
    assert value is not None
    return value
