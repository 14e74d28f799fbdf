"""From a segment of changes to one write batch: events first, then the states they lead to, then patches. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from src.models import changes as c
from src.models.writes import Collection, Insert, Patch, Upsert, Write, WriteBatch
from src.pipeline import documents as d
from src.pipeline import market_documents as m

_BUILDERS: dict[type, Callable[[Any], Iterable[Write]]] = {
    c.OrderChange: d.writes_of_order,
    c.OrderEnded: d.writes_of_ending,
    c.OrderLink: lambda change: (d.write_of_link(change),),
    c.PositionChange: d.writes_of_position,
    c.PositionMarks: lambda change: (d.write_of_marks(change),),
    c.AccountSample: lambda change: (d.write_of_account(change),),
    c.BookChange: d.writes_of_book,
    c.TradeSeen: lambda change: (d.write_of_trade(change),),
    c.TradeCorrectedSeen: m.writes_of_correction,
    c.TradeCancelledSeen: lambda change: (m.write_of_cancel(change),),
    c.QuoteSeen: lambda change: (m.write_of_quote(change),),
    c.BarSeen: lambda change: (m.write_of_bar(change),),
    c.TradingStatusSeen: lambda change: (m.write_of_status(change),),
    c.FillSeen: lambda change: (d.write_of_fill(change),),
    c.HoleOpened: lambda change: (d.write_of_hole(change),),
    c.DeadLetter: lambda change: (d.write_of_dead_letter(change),),
    c.HoleClosed: lambda change: (d.write_of_hole_end(change),),
}


class BatchBuilder:
    """Collects the writes of one segment; several states of one document become one write."""

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._inserts: list[Write] = []
        self._upserts: dict[tuple[Collection, str], Upsert] = {}
        self._patches: dict[tuple[Collection, str], list[Patch]] = {}

    def add(self, change: c.Change) -> None:
        """Translate one change."""
        for write in _BUILDERS[type(change)](change):
            if isinstance(write, Insert):
                self._inserts.append(write)
            elif isinstance(write, Upsert):
                self._add_upsert(write)
            else:
                self._add_patch(write)

    def build(self) -> WriteBatch:
        """The batch: inserts, upserts, patches."""
        patches = [patch for group in self._patches.values() for patch in group]
        groups = [group for group in (self._inserts, list(self._upserts.values()), patches) if group]
        return WriteBatch(self._seq, groups)

    def _add_upsert(self, write: Upsert) -> None:
        key = (write.collection, write.id)
        earlier = self._upserts.get(key)
        if earlier is not None:
            write = Upsert(
                write.collection,
                write.id,
                write.version_field,
                write.version,
                {**earlier.values, **write.values},
                {**write.on_insert, **earlier.on_insert},
            )
        self._upserts[key] = write

    def _add_patch(self, write: Patch) -> None:
        group = self._patches.setdefault((write.collection, write.id), [])
        if group and group[-1].guard == write.guard:
            group[-1] = Patch(write.collection, write.id, {**group[-1].values, **write.values}, write.guard)
        else:
            group.append(write)
