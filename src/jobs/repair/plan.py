"""What repair concludes from a venue's history: which rows are new, what is proved, what is to be stored. Pure.

A hole counts as repaired only when it is proved that nothing it hid is missing. Times are ms since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from src.jobs.repair.history import PastOrder, Shown
from src.models.messages import Fill, OrderStatus, Trade
from src.models.streams import StreamKey
from src.models.writes import Collection as Stored
from src.models.writes import Patch
from src.pipeline.documents import to_date
from src.pipeline.identities import event_id, fill_id, hole_id, order_id
from src.pipeline.short_lived import dex_of_coin, endings

SKEW_MS = 1_000
"""How far the venue's clock and ours, and the way between, may be apart."""

SHORT_PAGE = 500
"""An answer with fewer rows is the last one. A documented limit of some venues; a fuller one is asked on."""

MOST_PAGES = 40
OIDS_SHOWN = 50


class Close(Struct, frozen=True):
    """An order that was found closed, as of ``revision``, without a reason."""

    trader: str
    oid: int
    revision: int

    @property
    def state_id(self) -> str:
        """``_id`` of the order."""
        return order_id(self.trader, self.oid)

    @property
    def event_id(self) -> str:
        """``_id`` of the event that closed it."""
        return event_id(self.state_id, self.revision)


class ClosedHole(Struct, frozen=True):
    """A hole that has ended."""

    stream: StreamKey
    from_ms: int
    to_ms: int

    @property
    def id(self) -> str:
        """``_id`` of its document."""
        return hole_id(self.stream, self.from_ms)


class Verdict(Struct, frozen=True):
    """What could be proved about one hole.

    Attributes:
        complete: nothing that the hole hid is missing.
        from_ms, to_ms: what of the history was looked at; None where there is none.
        missing: ids of orders known to be missing.
    """

    what: str
    complete: bool
    note: str
    from_ms: int | None = None
    to_ms: int | None = None
    missing: tuple[int, ...] = ()


# -- closes ----------------------------------------------------------------------------------------------------------


def latest_by_oid(history: Iterable[PastOrder]) -> dict[int, PastOrder]:
    """The newest status of each order; of two at the same time the one that ends it."""
    latest: dict[int, PastOrder] = {}
    for row in history:
        known = latest.get(row.oid)
        if known is None or (row.status_ms, row.ended) > (known.status_ms, known.ended):
            latest[row.oid] = row
    return latest


def patches_of_close(close: Close, past: PastOrder, now_ms: int) -> tuple[Patch, Patch]:
    """The order and its event with the venue's reason and time; without effect on an order that is open again."""
    values = {
        "closeReason": past.status,
        "closedAt": to_date(past.status_ms),
        "closeResolvedAt": to_date(now_ms),
    }
    guard = {"revision": close.revision, "status": "closed"}
    return (
        Patch(Stored.TRADER_ORDERS, close.state_id, values, guard),
        Patch(Stored.TRADER_ORDER_EVENTS, close.event_id, values, {"action": "closed"}),
    )


def patch_of_unknown(close: Close) -> Patch:
    """The event of a close whose reason the venue does not tell: marked, so that nobody asks again."""
    return Patch(
        Stored.TRADER_ORDER_EVENTS,
        close.event_id,
        {"closeReason": "unknown"},
        {"action": "closed", "closeReason": None},
    )


# -- fills -----------------------------------------------------------------------------------------------------------


class FillWalk:
    """Reads a trader's fills page by page, oldest first, from the newest one known before a hole (its anchor).

    The place survives a request that fails: `start_ms` moves only with rows that were handed to `take`.
    """

    def __init__(self, *, begin_ms: int, anchor: str | None, page_rows: int, reach: int) -> None:
        self.begin_ms = begin_ms
        self.start_ms = begin_ms
        self.done = False
        self._anchor = anchor
        self._anchor_seen = False
        self._page_rows = page_rows
        self._reach = reach
        self._pages = self._rows = 0
        self._at_start: frozenset[str] = frozenset()
        self._stepped = False
        self._cut_short = False
        self._executed: list[tuple[int, str]] = []

    def take(self, fills: Sequence[Fill]) -> list[Fill]:
        """Note a page that began at `start_ms`; returns the fills not seen on the pages before."""
        rows = {fill_id(fill): fill for fill in fills}
        fresh = [fill for identity, fill in rows.items() if identity not in self._at_start]
        self._pages += 1
        self._rows += len(fresh)
        self._anchor_seen = self._anchor_seen or self._anchor in rows
        self._executed.extend((fill.time_ms, fill.coin) for fill in fresh)
        if fresh:
            self.start_ms = max(self.start_ms, *(fill.time_ms for fill in fresh))
            self._at_start = frozenset(i for i, fill in rows.items() if fill.time_ms == self.start_ms)
            self.done = len(fills) < min(SHORT_PAGE, self._page_rows)
        elif len(fills) >= min(SHORT_PAGE, self._page_rows):
            # A whole page within one millisecond: more of that time may exist and cannot be asked for.
            self.start_ms, self._at_start, self._stepped = self.start_ms + 1, frozenset(), True
        else:
            self.done = True
        if not self.done and self._pages >= MOST_PAGES:
            self.done = self._cut_short = True
        return fresh

    def verdict(self) -> Verdict:
        """Whether every fill since the anchor is known now."""
        note = self._doubt()
        return Verdict("fills", not note, note or "read without a break", self.begin_ms, self.start_ms)

    def executed(self, from_ms: int, to_ms: int, dex: str | None) -> int:
        """Fills of perpetuals of one dex (None = of any) that the walk has seen in this time."""
        return sum(
            from_ms <= time_ms <= to_ms and _is_perpetual(coin) and dex in (None, dex_of_coin(coin))
            for time_ms, coin in self._executed
        )

    def _doubt(self) -> str:
        if self._cut_short:
            return f"more than {MOST_PAGES} pages: reading stopped"
        if self._stepped:
            return "a whole page of fills within one millisecond: some of that time may be missing"
        if self._anchor is not None and not self._anchor_seen:
            return "the newest fill known before is no longer in the venue's history: what came next may be missing"
        if self._anchor is None and self._rows >= self._reach:
            return f"the venue keeps {self._reach} fills and more were made since: the oldest are lost"
        return ""


# -- verdicts --------------------------------------------------------------------------------------------------------


def judge_trades(window: Sequence[Trade], anchor: tuple[str, int] | None) -> Verdict:
    """Whether the venue's newest trades reach back to ``anchor``: id and time of the newest one before the hole."""
    if not window:
        return Verdict("trades", complete=False, note="the venue returned no trades")
    oldest = min(trade.time_ms for trade in window)
    newest = max(trade.time_ms for trade in window)
    if anchor is None:
        note = "no trade of before is stored to connect with"
    elif any(trade.trade_id == anchor[0] for trade in window) or oldest < anchor[1]:
        return Verdict("trades", complete=True, note="connected with what was stored", from_ms=oldest, to_ms=newest)
    else:
        note = "the venue keeps only the newest trades and they begin after the hole did: the rest is lost"
    return Verdict("trades", complete=False, note=note, from_ms=oldest, to_ms=newest)


def ended_inside(hole: ClosedHole, history: Sequence[PastOrder]) -> set[int]:
    """Orders that could be seen in lists and ended in the hole."""
    begin, end = hole.from_ms - SKEW_MS, hole.to_ms + SKEW_MS
    return {
        row.oid
        for row in latest_by_oid(history).values()
        if row.ended and row.rested and begin <= row.status_ms <= end
    }


def unseen_inside(hole: ClosedHole, history: Sequence[PastOrder]) -> dict[int, OrderStatus]:
    """How orders ended that lived and ended in the hole, where the history tells what they were."""
    begin, end = hole.from_ms - SKEW_MS, hole.to_ms + SKEW_MS
    ended = endings(row.row for row in history if row.row is not None)
    return {oid: row for oid, row in ended.items() if row.lived and begin <= row.status_ms <= end}


def judge_orders(
    hole: ClosedHole, history: Sequence[PastOrder], stored: Collection[int], *, most_rows: int
) -> Verdict:
    """Whether every order that ended in the hole is stored; what began in it and lives was in the next list.

    Args:
        hole: when no list was seen.
        history: newest statuses of the trader's orders.
        stored: those of `ended_inside` that are stored.
        most_rows: length of a history that may go on further back.
    """
    oldest = min((row.status_ms for row in history), default=None)
    newest = max((row.status_ms for row in history), default=None)
    missing = tuple(sorted(ended_inside(hole, history) - set(stored)))
    if len(history) >= most_rows and oldest is not None and oldest > hole.from_ms - SKEW_MS:
        note = "the venue's order history does not reach back to the beginning of the hole"
    elif missing:
        note = f"{len(missing)} orders began and ended unseen"
    else:
        note = "the venue's history has no order that began and ended unseen; partial fills are in trader_fills"
        return Verdict("orders", complete=True, note=note, from_ms=oldest, to_ms=newest)
    return Verdict("orders", complete=False, note=note, from_ms=oldest, to_ms=newest, missing=missing)


def judge_positions(hole: ClosedHole, fills: Verdict, walk: FillWalk) -> Verdict:
    """Without a fill a position keeps its size and entry; with one, the states in between are lost."""
    dex = None if hole.stream.channel.startswith("allDexs") else hole.stream.dex
    inside = walk.executed(hole.from_ms - SKEW_MS, hole.to_ms + SKEW_MS, dex)
    if not fills.complete:
        note = f"states in between are lost, fills too: {fills.note}"
    elif inside:
        note = f"states in between are lost; the {inside} fills that led to the next one are in trader_fills"
    else:
        note = "no fill in the hole: size and entry did not change"
    return Verdict("positions", fills.complete and not inside, note, fills.from_ms, fills.to_ms)


def no_history(shown: Shown) -> Verdict:
    """For what a venue keeps no history of."""
    return Verdict(shown.value, complete=False, note="the venue has no history of this")


def patch_of_hole(hole: ClosedHole, verdicts: Sequence[Verdict], now_ms: int) -> Patch:
    """The hole's document with what could be proved; repaired only when everything it hid is known."""
    complete = all(verdict.complete for verdict in verdicts)
    starts = [verdict.from_ms for verdict in verdicts if verdict.from_ms is not None]
    ends = [verdict.to_ms for verdict in verdicts if verdict.to_ms is not None]
    missing = [oid for verdict in verdicts for oid in verdict.missing]
    repair: dict[str, Any] = {
        "what": " and ".join(verdict.what for verdict in verdicts),
        "from": to_date(min(starts, default=None)),
        "to": to_date(max(ends, default=None)),
        "complete": complete,
        "note": "; ".join(verdict.note for verdict in verdicts),
        "at": to_date(now_ms),
    }
    if missing:
        repair.update(missing=len(missing), oids=missing[:OIDS_SHOWN])
    return Patch(Stored.COVERAGE, hole.id, {"repaired": complete, "repair": repair}, {"repaired": False})


def by_trader(closes: Iterable[Close]) -> Mapping[str, list[Close]]:
    """Grouped, in order."""
    groups: dict[str, list[Close]] = {}
    for close in closes:
        groups.setdefault(close.trader, []).append(close)
    return groups


def _is_perpetual(coin: str) -> bool:
    return not coin.startswith("@") and "/" not in coin
