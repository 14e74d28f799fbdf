"""Positions of one trader on one dex: what opened, changed and closed between two complete lists.

Size, entry, leverage and margin mode make a change; the marks (value, PnL, ROE, liquidation price) only move along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct, structs

from src.models.changes import AccountSample, PositionChange, PositionMarks
from src.models.messages import PositionsSnapshot
from src.models.orders import Action
from src.models.positions import CumFunding, Leverage, Position, PositionKind
from src.models.streams import StreamKey

MINUTE_MS = 60_000

_pack = msgspec.msgpack.Encoder().encode

PositionsChanges = list[PositionChange | PositionMarks | AccountSample]


class PositionsState(Struct):
    """Everything known of one trader's positions on one dex.

    The positions themselves are kept packed: many objects that live from one list to the next cost several times the
    memory, and letting go of them each time costs more than the comparison.

    Attributes:
        stream: the stream that feeds this state, None before the first list of this run.
        seen_ms: when the last list was received, 0 before the first one.
        known: revision last given out of every open position.
        latest: the open positions as the last list described them, packed.
        restored: open positions as stored, not seen in a list yet.
        marker: packed, what of the last list makes changes; an equal one means that nothing changed.
        closed: revision of positions that are closed now; a reopened one goes on counting.
        watched: False before the first list and after a gap.
        sampled_minute / marked_minute: when account values and marks were last given out.
        untracked: open positions whose trader was let go, and which no list has shown since.
    """

    trader: str
    dex: str
    known: dict[str, int] = {}
    latest: bytes = b"\x90"
    restored: dict[str, Position] = {}
    marker: bytes = b""
    closed: dict[str, int] = {}
    time_ms: int | None = None
    watched: bool = False
    stream: StreamKey | None = None
    seen_ms: int = 0
    sampled_minute: int = -1
    marked_minute: int = -1
    untracked: frozenset[str] = frozenset()


class _Row(Struct, array_like=True, gc=False):
    """A packed `Position`: the same fields in the same order, without their names."""

    coin: str
    szi: str
    leverage: Leverage | None
    entryPx: str | None  # noqa: N815 - the stored field's name
    positionValue: str | None  # noqa: N815
    unrealizedPnl: str | None  # noqa: N815
    returnOnEquity: str | None  # noqa: N815
    liquidationPx: str | None  # noqa: N815
    marginUsed: str | None  # noqa: N815
    maxLeverage: int | None  # noqa: N815
    cumFunding: CumFunding | None  # noqa: N815


assert _Row.__struct_fields__ == Position.__struct_fields__
_unpack = msgspec.msgpack.Decoder(list[_Row]).decode


def apply_positions(state: PositionsState, snapshot: PositionsSnapshot) -> PositionsChanges | None:
    """Compare a complete list with what is known and move ``state`` forward; None = the list is outdated."""
    if snapshot.time_ms is not None and state.time_ms is not None and snapshot.time_ms < state.time_ms:
        return None
    changes: PositionsChanges = []
    listed = snapshot.positions
    marker = _pack([(p.coin, p.szi, p.entryPx, p.leverage) for p in listed.values()])
    if marker != state.marker:
        _compare(state, snapshot, changes)
        state.marker = marker
    state.latest = _pack([structs.astuple(position) for position in listed.values()])
    _sample(state, snapshot, changes)
    state.time_ms = snapshot.time_ms
    state.watched = True
    return changes


def positions_before(state: PositionsState) -> dict[str, Position]:
    """Every open position as it was last known."""
    return {row.coin: Position(*structs.astuple(row)) for row in _unpack(state.latest)} | state.restored


def restore_position(state: PositionsState, position: Position, revision: int, *, untracked: bool = False) -> None:
    """Put an open (or untracked) position as stored into the state."""
    state.known[position.coin] = revision
    if untracked:
        state.untracked |= {position.coin}
    state.restored[position.coin] = position
    state.marker = b""


def restore_closed_position(state: PositionsState, coin: str, revision: int) -> None:
    """Remember how far a closed position has counted."""
    state.closed[coin] = revision


def _compare(state: PositionsState, snapshot: PositionsSnapshot, changes: PositionsChanges) -> None:
    """Find what opened, changed and closed since the last list."""
    before = positions_before(state)
    state.restored = {}
    listed = snapshot.positions
    changes.extend(_close(state, snapshot, old) for coin, old in before.items() if coin not in listed)
    for coin, position in listed.items():
        old = before.get(coin)
        if old is None:
            changes.append(_open(state, snapshot, position))
        elif coin in state.untracked or not _is_same(old, position):
            change = _update(state, snapshot, old, position)
            if change is not None:
                changes.append(change)


def _is_same(old: Position, new: Position) -> bool:
    """Equal texts in all that matters; False only says: look closer."""
    return old.szi == new.szi and old.entryPx == new.entryPx and old.leverage == new.leverage


def _open(state: PositionsState, snapshot: PositionsSnapshot, position: Position) -> PositionChange:
    revision = state.closed.pop(position.coin, 0) + 1
    state.known[position.coin] = revision
    return _change(state, snapshot, "new", "open", position, revision, {})


def _close(state: PositionsState, snapshot: PositionsSnapshot, last: Position) -> PositionChange:
    revision = state.known.pop(last.coin) + 1
    state.closed[last.coin] = revision
    was = "untracked" if last.coin in state.untracked else "open"
    state.untracked -= {last.coin}
    changes = {"status": {"from": was, "to": "closed"}, "szi": {"from": float(last.szi), "to": 0.0}}
    return _change(state, snapshot, "closed", "close", last, revision, changes)


def _update(
    state: PositionsState, snapshot: PositionsSnapshot, old: Position, position: Position
) -> PositionChange | None:
    changes = _changed_fields(old, position)
    resumed = position.coin in state.untracked
    if not changes and not resumed:
        return None
    revision = state.known[position.coin] = state.known[position.coin] + 1
    kind: PositionKind = _kind(float(old.szi), float(position.szi), changes) if changes else "resumed"
    if resumed:
        state.untracked -= {position.coin}
        changes = {"status": {"from": "untracked", "to": "open"}, **changes}
    return _change(state, snapshot, "updated", kind, position, revision, changes)


def _changed_fields(old: Position, new: Position) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {}
    for field in ("szi", "entryPx"):
        before, after = getattr(old, field), getattr(new, field)
        before = None if before is None else float(before)
        after = None if after is None else float(after)
        if before != after:
            changes[field] = {"from": before, "to": after}
    before_leverage, after_leverage = old.leverage, new.leverage
    for field, attribute in (("leverage.type", "type"), ("leverage.value", "value")):
        before, after = getattr(before_leverage, attribute, None), getattr(after_leverage, attribute, None)
        if before != after:
            changes[field] = {"from": before, "to": after}
    return changes


def _kind(before: float, after: float, changes: Mapping[str, Any]) -> PositionKind:
    if before != after:
        if (before > 0) != (after > 0):
            return "flip"
        return "increase" if abs(after) > abs(before) else "decrease"
    # Same size, other entry: reduced and increased again between two looks.
    return "entry" if "entryPx" in changes else "leverage"


def _change(
    state: PositionsState,
    snapshot: PositionsSnapshot,
    action: Action,
    kind: PositionKind,
    position: Position,
    revision: int,
    changes: Mapping[str, Any],
) -> PositionChange:
    observed = None if action != "closed" else ("live" if state.watched else "late")
    return PositionChange(
        venue=snapshot.venue,
        trader=state.trader,
        dex=state.dex,
        action=action,
        kind=kind,
        position=position,
        revision=revision,
        changes=changes,
        venue_ms=snapshot.time_ms,
        received_ms=snapshot.received_ms,
        observed=observed,  # type: ignore[arg-type]  # the two literals above
    )


def _sample(state: PositionsState, snapshot: PositionsSnapshot, changes: PositionsChanges) -> None:
    """Once a minute: the account values, and (at another moment for each trader) the marks of unchanged positions."""
    now_ms = snapshot.time_ms if snapshot.time_ms is not None else snapshot.received_ms
    minute = now_ms // MINUTE_MS
    if snapshot.account is not None and minute > state.sampled_minute:
        state.sampled_minute = minute
        changes.append(
            AccountSample(
                snapshot.venue, state.trader, state.dex, snapshot.account, snapshot.time_ms, snapshot.received_ms
            )
        )
    marked = (now_ms + crc32(state.trader.encode()) % MINUTE_MS) // MINUTE_MS
    if marked <= state.marked_minute:
        return
    state.marked_minute = marked
    touched = {change.position.coin for change in changes if isinstance(change, PositionChange)}
    for coin, position in snapshot.positions.items():
        if coin not in touched:
            changes.append(
                PositionMarks(
                    snapshot.venue,
                    state.trader,
                    state.dex,
                    position,
                    state.known[coin],
                    snapshot.time_ms,
                    snapshot.received_ms,
                )
            )
