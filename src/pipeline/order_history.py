"""What the venue tells of orders besides the lists: why they ended, and which ones no list has shown.

The lists alone open, change and close orders; a history explains. It may come before the list that misses the order
(then the close knows its reason at once) or after it (then the close is explained as it was found, without a new
revision). An order that the lists never showed and that has ended gets its two events here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from src.models.changes import OrderChange, OrderEnded
from src.models.messages import OrderHistory, OrderStatus
from src.pipeline.orders import OrdersState, note_ending
from src.pipeline.short_lived import changes_of_short_lived, dex_of_coin, endings, parents, successors

OVERLAP_MS = 2_000
"""A history is taken up this much before the newest status told so far: statuses of one time may come apart."""

PARENTS_KEPT = 2_000


class HistoryState(Struct):
    """What is remembered of one trader's history.

    Attributes:
        newest_ms: time of the newest status told, None before the first frame.
        parents: child -> parent, of the newest parents.
    """

    newest_ms: int | None = None
    parents: dict[int, int] = {}


def apply_history(
    history: HistoryState, message: OrderHistory, state_of: Callable[[str], OrdersState | None]
) -> list[OrderChange | OrderEnded]:
    """Explain what is closed, note what will be, and write down what nobody has seen.

    Args:
        history: of this trader; moved forward.
        message: what was told.
        state_of: orders of the trader on a dex, None where no list is followed.
    """
    _remember_parents(history, parents(message.rows))
    begin_ms = _begin_ms(history, message)
    changes: list[OrderChange | OrderEnded] = []
    links: Mapping[int, int] | None = None
    for oid, row in endings(message.rows).items():
        state = state_of(dex_of_coin(row.order.coin))
        if state is None or oid in state.ended:
            continue
        if oid in state.known:
            state.endings[oid] = (row.status, row.status_ms)
        elif oid in state.closed:
            changes.append(_explain(state, row, message))
        elif begin_ms is not None and row.status_ms >= begin_ms and row.lived and state.stream is not None:
            if links is None:
                links = successors(message.rows)
            note_ending(state, oid, message.received_ms)
            changes += changes_of_short_lived(
                row,
                venue=message.venue,
                trader=message.trader,
                received_ms=message.received_ms,
                source=message.source,
                observed="late" if message.is_snapshot else "live",
                parent=row.order.parentOid or history.parents.get(oid),
                links=links,
            )
    newest_ms = max((row.status_ms for row in message.rows), default=message.received_ms)
    history.newest_ms = max(newest_ms, history.newest_ms or 0)
    return changes


def _explain(state: OrdersState, row: OrderStatus, message: OrderHistory) -> OrderEnded:
    oid = row.order.oid
    note_ending(state, oid, message.received_ms)
    return OrderEnded(
        venue=message.venue,
        trader=message.trader,
        oid=oid,
        revision=state.closed[oid].revision,
        reason=row.status,
        ended_ms=row.status_ms,
        received_ms=message.received_ms,
    )


def _begin_ms(history: HistoryState, message: OrderHistory) -> int | None:
    """From when on an unknown order is news; None when nothing is, because what was before is the backfill's."""
    if not message.is_snapshot:
        return 0
    return None if history.newest_ms is None else history.newest_ms - OVERLAP_MS


def _remember_parents(history: HistoryState, found: Mapping[int, int]) -> None:
    history.parents.update(found)
    while len(history.parents) > PARENTS_KEPT:
        del history.parents[next(iter(history.parents))]
