"""Stored documents back in the program's terms: the reverse of `documents`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from src.models.orders import Order
from src.models.positions import CumFunding, Leverage, Position
from src.models.writes import Collection, Upsert
from src.pipeline.documents import keep_parent, note_sight, to_ms
from src.pipeline.identities import state_id_of


def order_of_document(document: Mapping[str, Any]) -> Order:
    """An order as stored (in ``trader_orders`` or an event), back in the program's terms."""
    timestamp = document.get("timestamp")
    return Order(
        oid=int(document["oid"]),  # as `_integer`
        coin=document["coin"],
        side=document["side"],
        limitPx=_text(document["limitPx"]) or "0",
        sz=_text(document["sz"]) or "0",
        origSz=_text(document.get("origSz")),
        timestamp=to_ms(timestamp),
        orderType=document.get("orderType"),
        tif=document.get("tif"),
        cloid=document.get("cloid"),
        reduceOnly=document.get("reduceOnly"),
        isTrigger=document.get("isTrigger"),
        triggerPx=_text(document.get("triggerPx")),
        triggerCondition=document.get("triggerCondition"),
        isPositionTpsl=document.get("isPositionTpsl"),
        parentOid=None if document.get("activated") else _integer(document.get("parentOid")),
    )


def position_of_document(document: Mapping[str, Any]) -> Position:
    """A position as stored, back in the program's terms."""
    leverage = document.get("leverage")
    funding = document.get("cumFunding")
    return Position(
        coin=document["coin"],
        szi=_text(document["szi"]) or "0",
        leverage=None if leverage is None else Leverage(leverage["type"], leverage["value"]),
        entryPx=_text(document.get("entryPx")),
        positionValue=_text(document.get("positionValue")),
        unrealizedPnl=_text(document.get("unrealizedPnl")),
        returnOnEquity=_text(document.get("returnOnEquity")),
        liquidationPx=_text(document.get("liquidationPx")),
        marginUsed=_text(document.get("marginUsed")),
        maxLeverage=document.get("maxLeverage"),
        cumFunding=None if funding is None else CumFunding(**{name: _text(value) for name, value in funding.items()}),
    )


def upsert_of_events(collection: Collection, events: Sequence[Mapping[str, Any]]) -> Upsert:
    """The state to which events of one order or position lead; for states that a crash left behind their events."""
    steps = [_upsert_of_event(collection, event) for event in sorted(events, key=lambda event: event["revision"])]
    values = {name: value for step in steps for name, value in step.values.items()}
    return structs.replace(steps[-1], values=values, on_insert=steps[0].on_insert)


def _upsert_of_event(collection: Collection, event: Mapping[str, Any]) -> Upsert:
    values = {key: value for key, value in event.items() if key not in {"_id", "changes", "venueTime"}}
    received = event["receivedAt"]
    at = event.get("venueTime") or (event["timestamp"] if "kind" in event else received)
    values["updatedAt"] = received
    if event["action"] == "closed":
        values.setdefault("closedAt", at)
        if collection is Collection.TRADER_ORDERS:
            values.setdefault("closeReason", "unknown")
    elif event.get("kind") == "open":
        values.update(openedAt=at, closedAt=None, closeObserved=None)
    elif event["changes"].get("status", {}).get("to") == "open":
        values.update(closedAt=None, closeReason=None, closeObserved=None)
    note_sight(values, event["action"], event["changes"], received)
    if collection is Collection.TRADER_ORDERS:
        keep_parent(values, event["changes"])
    return Upsert(
        collection, state_id_of(event["_id"]), "revision", event["revision"], values, {"createdAt": received}
    )


def _text(value: float | None) -> str | None:
    return None if value is None else repr(float(value))


def _integer(value: int | None) -> int | None:
    """A plain int: MongoDB hands out a subclass that message packing does not take."""
    return None if value is None else int(value)
