"""Orders that no list of open orders has shown: what the venue's history tells of them becomes their documents. Pure.

Whoever reads a history - the live feed of order statuses as well as the backfill - uses these functions, so that an
order has the same two events (revision 1 ``new``, revision 2 ``closed``) whoever found it, and storing both changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from src.models.changes import OrderChange
from src.models.messages import OrderStatus
from src.models.orders import CloseObserved
from src.pipeline.orders import REPLACE_WINDOW_MS, changed_fields

_OPEN_TO_CLOSED = {"status": {"from": "open", "to": "closed"}}


def dex_of_coin(coin: str) -> str:
    """The perpetual exchange a coin is traded on; spot pairs belong to the main one, which is ``""``."""
    return coin.partition(":")[0] if ":" in coin else ""


def endings(rows: Iterable[OrderStatus]) -> dict[int, OrderStatus]:
    """The final status of each order that has ended, in the order of the endings; of several the newest."""
    found: dict[int, OrderStatus] = {}
    for row in sorted((row for row in rows if row.ended), key=_when):
        found.pop(row.order.oid, None)
        found[row.order.oid] = row
    return found


def parents(rows: Iterable[OrderStatus]) -> dict[int, int]:
    """Child -> the order it waits (or waited) for; a history names this at the parent only."""
    return {child: row.order.oid for row in rows for child in row.children}


def successors(rows: Iterable[OrderStatus]) -> dict[int, int]:
    """Order -> the one that replaced it: cancelled, and placed anew under the same cloid at about that time."""
    by_cloid: dict[str, list[OrderStatus]] = {}
    for row in rows:
        if row.order.cloid:
            by_cloid.setdefault(row.order.cloid, []).append(row)
    found: dict[int, int] = {}
    for group in by_cloid.values():
        oids = sorted({row.order.oid for row in group})
        if len(oids) < 2:  # noqa: PLR2004 - it takes two to replace
            continue
        placed = {row.order.oid: row.order.timestamp for row in group if row.order.timestamp is not None}
        for oid, row in endings(group).items():
            later = next((other for other in oids if other > oid), None)
            if later is None or not _is_modify(row, placed.get(later)):
                continue
            found[oid] = later
    return found


def changes_of_short_lived(
    row: OrderStatus,
    *,
    venue: str,
    trader: str,
    received_ms: int,
    source: str,
    observed: CloseObserved,
    parent: int | None = None,
    links: Mapping[int, int] | None = None,
) -> list[OrderChange]:
    """Both changes of an order that was never in a list: it appeared, and it ended.

    Args:
        row: how it ended.
        venue: whose order it is.
        trader: whose order it is.
        received_ms: when we were told.
        source: what told us.
        observed: ``live`` when we were told at once, ``late`` when we looked it up.
        parent: the order it waited for.
        links: `successors` of what the venue told.
    """
    final = row.order if parent is None else structs.replace(row.order, parentOid=parent)
    placed = structs.replace(final, sz=final.origSz or final.sz)
    links = links or {}
    replaces = next((old for old, new in links.items() if new == final.oid), None)
    appeared = OrderChange(
        venue=venue,
        trader=trader,
        dex=dex_of_coin(final.coin),
        action="new",
        order=placed,
        revision=1,
        changes={},
        venue_ms=final.timestamp,
        received_ms=received_ms,
        replaces=replaces,
        source=source,
    )
    ended = structs.replace(
        appeared,
        action="closed",
        order=final,
        revision=2,
        changes={**_OPEN_TO_CLOSED, **changed_fields(placed, final)},
        venue_ms=row.status_ms,
        observed=observed,
        replaced_by=links.get(final.oid),
        reason=row.status,
        ended_ms=row.status_ms,
    )
    return [appeared, ended]


def _is_modify(ended: OrderStatus, placed_ms: int | None) -> bool:
    return placed_ms is not None and abs(placed_ms - ended.status_ms) <= REPLACE_WINDOW_MS


def _when(row: OrderStatus) -> tuple[int, int]:
    return row.status_ms, row.order.oid
