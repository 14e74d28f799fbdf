"""What becomes of the open orders and positions of a trader who is let go: nobody knows how they go on. Pure.

They are not closed, they are out of sight: status ``untracked``, one revision further. Should the trader come back,
they are taken up again where they were left (see `src.pipeline.restore`).
"""

from __future__ import annotations

from src.models.changes import OrderChange, PositionChange
from src.models.orders import unpack_order
from src.models.positions import Position
from src.pipeline.orders import OrdersState
from src.pipeline.positions import PositionsState, positions_before

_OPEN_TO_UNTRACKED = {"status": {"from": "open", "to": "untracked"}}


def untrack_orders(state: OrdersState, venue: str, at_ms: int) -> list[OrderChange]:
    """Every open order, out of sight since ``at_ms``; those that are so already are left alone."""
    return [
        OrderChange(
            venue=venue,
            trader=state.trader,
            dex=state.dex,
            action="untracked",
            order=unpack_order(tracked.row),
            revision=tracked.revision + 1,
            changes=_OPEN_TO_UNTRACKED,
            venue_ms=None,
            received_ms=at_ms,
        )
        for oid, tracked in state.known.items()
        if oid not in state.untracked
    ]


def untrack_positions(state: PositionsState, venue: str, at_ms: int) -> list[PositionChange]:
    """Every open position, out of sight since ``at_ms``, with its last known size."""
    listed = positions_before(state)
    return [
        _untracked(state, listed[coin], revision, venue, at_ms)
        for coin, revision in state.known.items()
        if coin in listed and coin not in state.untracked
    ]


def _untracked(state: PositionsState, position: Position, revision: int, venue: str, at_ms: int) -> PositionChange:
    return PositionChange(
        venue=venue,
        trader=state.trader,
        dex=state.dex,
        action="untracked",
        kind="untracked",
        position=position,
        revision=revision + 1,
        changes=_OPEN_TO_UNTRACKED,
        venue_ms=None,
        received_ms=at_ms,
    )
