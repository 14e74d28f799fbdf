"""The judge: what a collector must have recorded, given the states that really reached it.

Kept simple on purpose; it knows nothing of the collector. Per trader and dex, deliveries are taken in the order of
sending and each is compared with the one before it:

* a section that is not in the frame says nothing;
* a state with a venue time older than the newest one applied is ignored (states without a time always count);
* of a list of orders from which more than half of at least ten known orders vanished suddenly, what it shows counts;
  the missing ones are closed when the next list misses them too;
* of a list that shows an order already closed only orders never shown before count; when the next list shows such an
  order too, it is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct, field

from src.venues.hyperliquid.simulator.truth import Delivery, Row

ORDER_FIELDS = (
    "coin",
    "side",
    "limitPx",
    "sz",
    "origSz",
    "timestamp",
    "orderType",
    "tif",
    "cloid",
    "reduceOnly",
    "isTrigger",
    "triggerPx",
    "triggerCondition",
    "isPositionTpsl",
    "parentOid",
)
"""Fields whose change makes an update; leave some out to judge a collector that does not compare them."""

SUSPICIOUS_KNOWN = 10
OrderKey = tuple[str, int]
PositionKey = tuple[str, str, str]
_Key = TypeVar("_Key", OrderKey, PositionKey)


class Expected(Struct):
    """The verdict.

    Attributes:
        orders: (trader, oid) -> actions in order: ``new``, ``updated``, ``closed``; ``reopened`` when an order that
            was closed is listed again.
        order_states: (trader, oid) -> (``open`` or ``closed``, last known row).
        positions: (trader, dex, coin) -> kinds in order: ``open``, ``increase``, ``decrease``, ``flip``, ``close``,
            ``leverage``, ``entry`` (same size, other entry price: reduced and increased
            again between two looks).
        position_states: (trader, dex, coin) -> (``open`` or ``closed``, last known row).
        uncertain: keys whose verdict depends on deliveries of which it is not known whether they arrived.
    """

    orders: dict[OrderKey, list[str]] = field(default_factory=dict)
    order_states: dict[OrderKey, tuple[str, Row]] = field(default_factory=dict)
    positions: dict[PositionKey, list[str]] = field(default_factory=dict)
    position_states: dict[PositionKey, tuple[str, Row]] = field(default_factory=dict)
    uncertain: set[OrderKey | PositionKey] = field(default_factory=set)


def expected_events(deliveries: Iterable[Delivery], *, order_fields: tuple[str, ...] = ORDER_FIELDS) -> Expected:
    """Judge a run by its deliveries; those of unknown fate count as delivered, and what hangs on them is listed."""
    items = list(deliveries)
    generous = _judge([d for d in items if d.delivered is not False], order_fields)
    strict = _judge([d for d in items if d.delivered], order_fields)
    generous.uncertain |= _differences(generous.orders, strict.orders)
    generous.uncertain |= _differences(generous.order_states, strict.order_states)
    generous.uncertain |= _differences(generous.positions, strict.positions)
    generous.uncertain |= _differences(generous.position_states, strict.position_states)
    return generous


def _differences(ours: Mapping[_Key, object], other: Mapping[_Key, object]) -> set[_Key]:
    return {key for key in ours.keys() | other.keys() if ours.get(key) != other.get(key)}


def _judge(deliveries: list[Delivery], order_fields: tuple[str, ...]) -> Expected:
    expected = Expected()
    groups: dict[tuple[str, str], list[Delivery]] = {}
    for delivery in deliveries:
        groups.setdefault((delivery.trader, delivery.dex), []).append(delivery)
    for (trader, dex), group in groups.items():
        _judge_orders(trader, _in_time([d for d in group if d.orders is not None]), order_fields, expected)
        _judge_positions(trader, dex, _in_time([d for d in group if d.positions is not None]), expected)
    return expected


def _in_time(deliveries: list[Delivery]) -> list[Delivery]:
    newest = -1
    kept = []
    for delivery in deliveries:
        if delivery.time_ms is not None:
            if delivery.time_ms < newest:
                continue
            newest = delivery.time_ms
        kept.append(delivery)
    return kept


def _judge_orders(trader: str, deliveries: list[Delivery], fields: tuple[str, ...], expected: Expected) -> None:
    known: dict[int, Row] = {}
    closed: set[int] = set()
    missing: set[int] = set()
    doubted: set[int] = set()
    for delivery in deliveries:
        shown = delivery.orders or {}
        returned = closed & shown.keys()
        believed = not returned or bool(returned & doubted)
        doubted = set() if believed else returned
        for oid, row in shown.items():
            actions = expected.orders.setdefault((trader, oid), [])
            if oid not in known and (believed or oid not in closed):
                actions.append("reopened" if actions else "new")
            elif believed and any(row[name] != known[oid][name] for name in fields):
                actions.append("updated")
            elif not believed:
                continue
            known[oid] = row
            expected.order_states[trader, oid] = ("open", row)
        if not believed:
            continue
        closed -= shown.keys()
        vanished = known.keys() - shown.keys()
        sudden = vanished - missing
        if len(known) >= SUSPICIOUS_KNOWN and 2 * len(sudden) > len(known):
            vanished, missing = vanished & missing, sudden
        else:
            missing = set()
        for oid in vanished:
            expected.orders[trader, oid].append("closed")
            expected.order_states[trader, oid] = ("closed", known.pop(oid))
        closed |= vanished


def _judge_positions(trader: str, dex: str, deliveries: list[Delivery], expected: Expected) -> None:
    known: Mapping[str, Row] = {}
    for delivery in deliveries:
        shown = delivery.positions or {}
        for coin, row in shown.items():
            kind = _position_kind(known.get(coin), row)
            if kind is not None:
                expected.positions.setdefault((trader, dex, coin), []).append(kind)
            expected.position_states[trader, dex, coin] = ("open", row)
        for coin in known.keys() - shown.keys():
            expected.positions[trader, dex, coin].append("close")
            expected.position_states[trader, dex, coin] = ("closed", known[coin])
        known = shown


def _position_kind(before: Row | None, after: Row) -> str | None:
    if before is None:
        return "open"
    old, new = float(before["szi"]), float(after["szi"])
    if (old > 0) != (new > 0):
        return "flip"
    if abs(new) != abs(old):
        return "increase" if abs(new) > abs(old) else "decrease"
    if before["entryPx"] != after["entryPx"]:
        return "entry"
    changed = any(before[name] != after[name] for name in ("leverageType", "leverageValue"))
    return "leverage" if changed else None
