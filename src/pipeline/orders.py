"""Orders of one trader on one dex: what appeared, changed and vanished between two complete lists.

Rules, each with a test of its name: a close is an absence; an older list never wins; a list that loses more than half
of ten or more orders is believed when the next one agrees; a list that brings back a closed order likewise; a modify
is a close plus a new order with the same cloid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, structs

from src.models.changes import OrderChange, OrderLink
from src.models.messages import OrdersSnapshot
from src.models.orders import NUMERIC_ORDER_FIELDS, CloseObserved, Order, pack_order, unpack_order
from src.models.streams import StreamKey

VANISH_FLOOR = 10
"""Lists with fewer known orders than this are believed at once."""

CLOSED_MEMORY = 256
"""Closed orders remembered per trader and dex, to continue their revision should they come back."""

ENDED_MEMORY = 4_096
"""Orders per trader and dex whose end the venue has told, remembered to ignore lists that still show them."""

UNDER_WAY_MS = 10_000
"""A list may be so much older than its receipt; what ended within that time may still be in it."""

CONFIRM_AFTER_MS = 100
"""A doubtful list that arrives again within this time is a duplicate, not a second opinion."""

REPLACE_WINDOW_MS = 30_000
"""A new order with the cloid of one that closed at most this long before its placement replaces it."""

_ORDER_FIELDS = Order.__struct_fields__
_OPEN_TO_CLOSED = {"status": {"from": "open", "to": "closed"}}
_CLOSED_TO_OPEN = {"status": {"from": "closed", "to": "open"}}
_UNTRACKED_TO_OPEN = {"status": {"from": "untracked", "to": "open"}}
_UNTRACKED_TO_CLOSED = {"status": {"from": "untracked", "to": "closed"}}


class TrackedOrder(Struct, gc=False):
    """An open order in memory: its packed `Order` and the revision last given out."""

    row: bytes
    revision: int


class ClosedOrder(Struct, gc=False):
    """What is remembered of a closed order; ``cloid`` only as long as nothing is known to have replaced it."""

    revision: int
    cloid: str | None
    closed_ms: int


class OrdersState(Struct):
    """Everything known of one trader's orders on one dex.

    Attributes:
        stream: the stream that feeds this state, None before the first list of this run.
        seen_ms: when the last list was received, 0 before the first one.
        watched: False before the first list and after a gap: what vanished then was not seen to vanish.
        rows: the mapping applied last; receiving the same object again means nothing changed.
        held: orders missing from the last list, so many at once that their closing waits for the next list.
        doubted: closed orders that the last list brought back; of that list only unknown orders were taken.
        suspect: the last list while it is not wholly believed, received at ``suspect_ms``.
        endings: why and when known orders have ended, told before a list missed them.
        ended: orders whose end was told, closed or never known, and when we were told: a list that shows one of them
            is older than that.
        untracked: known orders whose trader was let go, and which no list has shown since.
    """

    trader: str
    dex: str
    known: dict[int, TrackedOrder] = {}
    closed: dict[int, ClosedOrder] = {}
    time_ms: int | None = None
    rows: Mapping[int, bytes] | None = None
    watched: bool = False
    stream: StreamKey | None = None
    seen_ms: int = 0
    held: frozenset[int] = frozenset()
    doubted: frozenset[int] = frozenset()
    suspect: Mapping[int, bytes] | None = None
    suspect_ms: int = 0
    untracked: frozenset[int] = frozenset()
    endings: dict[int, tuple[str, int]] = {}
    ended: dict[int, int] = {}


class OrdersOutcome(Struct, frozen=True):
    """Changes of one list, and why it was not (wholly) believed.

    ``doubt`` is ``outdated``, ``reopening``, ``vanishing``, or ``repeated`` for a duplicate of a doubtful list.
    """

    changes: list[OrderChange | OrderLink]
    doubt: str | None = None


_NOTHING = OrdersOutcome([])


def apply_orders(state: OrdersState, snapshot: OrdersSnapshot) -> OrdersOutcome:
    """Compare a complete list with what is known and move ``state`` forward.

    Only `unpack_order` work for orders that differ; an unchanged list costs one identity check.
    """
    if _is_older(snapshot.time_ms, state.time_ms):
        return OrdersOutcome([], "outdated")
    if snapshot.rows is state.rows and not state.held:
        state.time_ms, state.watched, state.doubted = snapshot.time_ms, True, frozenset()
        return _NOTHING
    if snapshot.rows is state.suspect and 0 <= snapshot.received_ms - state.suspect_ms < CONFIRM_AFTER_MS:
        return OrdersOutcome([], "repeated")
    returned = _returned(state, snapshot)
    if returned and not (returned & state.doubted):
        state.doubted = returned
        outcome = _doubt(state, snapshot)
    else:
        outcome = _believe(state, snapshot)
    state.suspect = None if outcome.doubt is None else snapshot.rows
    state.suspect_ms = snapshot.received_ms
    return outcome


def restore_order(state: OrdersState, order: Order, revision: int, *, untracked: bool = False) -> None:
    """Put an open (or untracked) order as stored into the state, to compare the first list after a restart with."""
    state.known[order.oid] = TrackedOrder(pack_order(order), revision)
    if untracked:
        state.untracked |= {order.oid}
    state.closed.pop(order.oid, None)
    state.rows = None  # whatever list was seen before, it was not compared with this


def note_ending(state: OrdersState, oid: int, told_ms: int) -> None:
    """Remember that the venue has told the end of an order that is not, or no longer, known as open."""
    state.ended[oid] = told_ms
    while len(state.ended) > ENDED_MEMORY:
        del state.ended[next(iter(state.ended))]


def restore_closed(state: OrdersState, oid: int, revision: int, cloid: str | None, closed_ms: int) -> None:
    """Remember an order that was closed shortly before a restart; of several closes of one order the last counts."""
    earlier = state.closed.pop(oid, None)
    if earlier is not None and earlier.revision > revision:
        revision, cloid, closed_ms = earlier.revision, earlier.cloid, earlier.closed_ms
    _remember_closed(state, oid, ClosedOrder(revision, cloid, closed_ms))


def changed_fields(old: Order, new: Order) -> dict[str, dict[str, Any]]:
    """``{field: {"from", "to"}}`` of fields whose value differs; numbers by value, everything else by text."""
    changes: dict[str, dict[str, Any]] = {}
    for field, before, after in zip(_ORDER_FIELDS, structs.astuple(old), structs.astuple(new), strict=True):
        if before == after:
            continue
        if field in NUMERIC_ORDER_FIELDS:
            before = None if before is None else float(before)  # noqa: PLW2901 - from text to the stored double
            after = None if after is None else float(after)  # noqa: PLW2901
            if before == after:
                continue
        changes[field] = {"from": before, "to": after}
    return changes


def _doubt(state: OrdersState, snapshot: OrdersSnapshot) -> OrdersOutcome:
    """Take from a list that may be old only orders never seen before: they did live, whenever it was."""
    seen = (state.known, state.closed, state.ended)
    fresh = [oid for oid in snapshot.rows if not any(oid in orders for orders in seen)]
    return OrdersOutcome(_close_and_open(state, snapshot, [], fresh), "reopening")


def _believe(state: OrdersState, snapshot: OrdersSnapshot) -> OrdersOutcome:
    known, rows = state.known, snapshot.rows
    before = state.rows or {}
    changes: list[OrderChange | OrderLink] = []
    fresh: list[int] = []
    for oid, row in rows.items():
        if before.get(oid) is row:
            continue  # spares a look at what is known, which for one of a thousand traders is no longer in the cache
        tracked = known.get(oid)
        if tracked is None:
            if oid not in state.ended:
                fresh.append(oid)
        elif tracked.row != row or oid in state.untracked:
            change = _update(state, snapshot, tracked, row)
            if change is not None:
                changes.append(change)
    past = len(rows.keys() & state.ended.keys()) if state.ended else 0
    vanished = [oid for oid in known if oid not in rows] if len(known) + len(fresh) + past > len(rows) else []
    closing = _confirmed(state, vanished)
    doubt = "vanishing" if state.held else None
    # A closing list is told before what it made room for: a modify then reads "closed, new".
    changes = [*_close_and_open(state, snapshot, closing, fresh), *changes]
    state.time_ms, state.rows, state.doubted = snapshot.time_ms, rows, frozenset()
    state.watched = state.watched or not state.held
    return OrdersOutcome(changes, doubt)


def _confirmed(state: OrdersState, vanished: list[int]) -> list[int]:
    """The missing orders that may be closed now; sets ``held`` to those that wait for the next list."""
    held = state.held
    sudden = [oid for oid in vanished if oid not in held] if held else vanished
    if len(state.known) >= VANISH_FLOOR and len(sudden) * 2 > len(state.known):
        state.held = frozenset(oid for oid in sudden if oid not in state.endings)  # of the others the end was told
        return [oid for oid in vanished if oid not in state.held]
    state.held = frozenset()
    return vanished


def _update(state: OrdersState, snapshot: OrdersSnapshot, tracked: TrackedOrder, row: bytes) -> OrderChange | None:
    order = unpack_order(row)
    fields = changed_fields(unpack_order(tracked.row), order)
    if order.oid in state.untracked:
        state.untracked -= {order.oid}
        fields = {**_UNTRACKED_TO_OPEN, **fields}
    tracked.row = row
    if not fields:
        return None
    tracked.revision += 1
    return _change(state, snapshot, "updated", order, tracked.revision, changes=fields)


def _close_and_open(
    state: OrdersState, snapshot: OrdersSnapshot, vanished: list[int], fresh: list[int]
) -> list[OrderChange | OrderLink]:
    if not vanished and not fresh:
        return []
    orders = {oid: unpack_order(snapshot.rows[oid]) for oid in fresh}
    vanishing = [unpack_order(state.known[oid].row) for oid in vanished]
    successors = _successors(vanishing, snapshot.rows)
    observed: CloseObserved = "live" if state.watched else "late"
    changes: list[OrderChange | OrderLink] = []
    replaces: dict[int, int] = {}
    for order in vanishing:
        successor = successors.get(order.oid)
        if successor in orders:
            replaces[successor] = order.oid
        elif successor is not None:
            # A modify can show both legs for a while: its new one was known before.
            changes.append(OrderLink(snapshot.venue, state.trader, successor, replaces=order.oid))
        changes.append(_close(state, snapshot, order, observed, successor))
    for oid, order in orders.items():
        earlier = replaces.get(oid)
        if earlier is None:
            earlier = _predecessor(state, order)
            if earlier is not None:
                changes.append(OrderLink(snapshot.venue, state.trader, earlier, replaced_by=oid))
        changes.append(_open(state, snapshot, order, earlier))
    return changes


def _close(
    state: OrdersState, snapshot: OrdersSnapshot, order: Order, observed: CloseObserved, successor: int | None
) -> OrderChange:
    revision = state.known.pop(order.oid).revision + 1
    closed_ms = snapshot.time_ms or snapshot.received_ms
    cloid = order.cloid if successor is None else None
    unseen = order.oid in state.untracked
    state.untracked -= {order.oid}
    _remember_closed(state, order.oid, ClosedOrder(revision, cloid, closed_ms))
    reason, ended_ms = state.endings.pop(order.oid, (None, None))
    if reason is not None:
        note_ending(state, order.oid, snapshot.received_ms)
    return _change(
        state,
        snapshot,
        "closed",
        order,
        revision,
        changes=_UNTRACKED_TO_CLOSED if unseen else _OPEN_TO_CLOSED,
        observed=observed,
        replaced_by=successor,
        reason=reason,
        ended_ms=ended_ms,
    )


def _open(state: OrdersState, snapshot: OrdersSnapshot, order: Order, replaces: int | None) -> OrderChange:
    earlier = state.closed.pop(order.oid, None)
    revision = 1 if earlier is None else earlier.revision + 1
    state.known[order.oid] = TrackedOrder(snapshot.rows[order.oid], revision)
    if earlier is not None:
        return _change(state, snapshot, "updated", order, revision, changes=_CLOSED_TO_OPEN, reopened=True)
    return _change(state, snapshot, "new", order, revision, changes={}, replaces=replaces)


def _change(
    state: OrdersState, snapshot: OrdersSnapshot, action: Any, order: Order, revision: int, **more: Any
) -> OrderChange:
    return OrderChange(
        venue=snapshot.venue,
        trader=state.trader,
        dex=state.dex,
        action=action,
        order=order,
        revision=revision,
        venue_ms=snapshot.time_ms,
        received_ms=snapshot.received_ms,
        **more,
    )


def _predecessor(state: OrdersState, order: Order) -> int | None:
    """The order with the same cloid that closed just before this one was placed; it has found its successor then."""
    if not order.cloid or order.timestamp is None:
        return None
    for oid in reversed(state.closed):
        closed = state.closed[oid]
        if order.timestamp - closed.closed_ms > REPLACE_WINDOW_MS:
            return None
        if closed.cloid == order.cloid and oid < order.oid:
            closed.cloid = None
            return oid
    return None


def _successors(vanishing: list[Order], rows: Mapping[int, bytes]) -> dict[int, int]:
    """Vanishing order -> the one with the same cloid that was placed next: listed now, or itself vanishing."""
    if not any(order.cloid for order in vanishing):
        return {}
    oids: dict[str, list[int]] = {}
    for order in [*vanishing, *map(unpack_order, rows.values())]:
        if order.cloid:
            oids.setdefault(order.cloid, []).append(order.oid)
    later = {order.oid: [oid for oid in oids.get(order.cloid or "", ()) if oid > order.oid] for order in vanishing}
    return {oid: min(candidates) for oid, candidates in later.items() if candidates}


def _returned(state: OrdersState, snapshot: OrdersSnapshot) -> frozenset[int]:
    """Orders in the list that had ended: either our mistake, or the list is an old one delivered late."""
    rows, ended = snapshot.rows.keys(), state.ended
    returned = {oid for oid in rows & state.closed.keys() if oid not in ended} if state.closed else set()
    if ended:
        late_ms = snapshot.received_ms - UNDER_WAY_MS
        returned.update(oid for oid in rows & ended.keys() if ended[oid] < late_ms)
    return frozenset(returned)


def _remember_closed(state: OrdersState, oid: int, closed: ClosedOrder) -> None:
    state.closed[oid] = closed
    while len(state.closed) > CLOSED_MEMORY:
        del state.closed[next(iter(state.closed))]


def _is_older(time_ms: int | None, applied_ms: int | None) -> bool:
    return time_ms is not None and applied_ms is not None and time_ms < applied_ms
