"""What has to be stored of the lives in `trader_lifecycles`, given what of them was seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from src.models.orders import Order
from src.models.positions import Position
from src.models.writes import Collection
from src.pipeline.orders import changed_fields
from src.pipeline.stored_documents import order_of_document
from src.store.memory import MemoryStore
from tests.support.trader_lifecycles import Exchange


def expected_orders(shown: Sequence[Mapping[int, Order]]) -> dict[int, list[str]]:
    """An order never comes back here, so its story is: first seen, each visible change, gone."""
    story: dict[int, list[str]] = {}
    seen: dict[int, Order] = {}
    for orders in shown:
        for oid, order in orders.items():
            if oid not in seen:
                story[oid] = ["new"]
            elif _values(order) != _values(seen[oid]):
                story[oid].append("updated")
            seen[oid] = order
    for oid in seen.keys() - shown[-1].keys():
        story[oid].append("closed")
    return story


def expected_positions(shown: Sequence[Mapping[str, Position]]) -> dict[str, list[str]]:
    story: dict[str, list[str]] = defaultdict(list)
    before: Mapping[str, Position] = {}
    for positions in shown:
        for coin, position in positions.items():
            kind = _kind(before.get(coin), position)
            if kind is not None:
                story[coin].append(kind)
        for coin in before.keys() - positions.keys():
            story[coin].append("close")
        before = positions
    return dict(story)


def _values(order: Order) -> tuple[Any, ...]:
    return order.sz and float(order.sz), float(order.limitPx), order.parentOid


def _kind(before: Position | None, after: Position) -> str | None:
    if before is None:
        return "open"
    old, new = float(before.szi), float(after.szi)
    if old * new < 0:
        return "flip"
    if old != new:
        return "increase" if abs(new) > abs(old) else "decrease"
    if before.entryPx != after.entryPx:
        return "entry"
    return None if before.leverage == after.leverage else "leverage"


def assert_state(store: MemoryStore, exchange: Exchange) -> None:
    orders = {document["oid"]: document for document in store.documents(Collection.TRADER_ORDERS)}
    assert {oid for oid, document in orders.items() if document["status"] == "open"} == exchange.orders.keys()
    for oid, order in exchange.orders.items():
        assert changed_fields(order_of_document(orders[oid]), order) == {}
    held = {d["coin"]: d for d in store.documents(Collection.TRADER_POSITIONS) if d["status"] == "open"}
    assert {coin: document["szi"] for coin, document in held.items()} == {
        coin: float(position.szi) for coin, position in exchange.positions.items()
    }


def assert_links(store: MemoryStore) -> None:
    """Both sides of a modify name each other."""
    orders = {document["oid"]: document for document in store.documents(Collection.TRADER_ORDERS)}
    for document in orders.values():
        successor = document.get("replacedBy")
        if successor is not None:
            assert orders[successor]["replaces"] == document["oid"]
