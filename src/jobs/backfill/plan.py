"""What a reading of a venue's history proves, and when the next one is due. Pure; times are ms since 1970."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from src.jobs.backfill.past import PastOrders
from src.models.changes import HoleClosed, HoleOpened
from src.models.messages import Fill, OrderStatus
from src.models.streams import StreamKey
from src.models.writes import Collection, Insert, Patch
from src.pipeline.documents import to_date, to_ms, write_of_hole, write_of_hole_end
from src.pipeline.identities import fill_id

OVERLAP_MS = 10_000
"""Statuses this much older than the place of the last reading are looked at again: a history may lag behind."""

AGAIN_SHARE = 0.5
"""A history is read again when so much of what the venue keeps has been filled anew, at the rate seen."""

LEAST_AGAIN_S = 60.0
FEW_ROWS = 20
"""Fewer rows say nothing about a rate."""

LOST, BEFORE = "history_reach", "not_collected"
"""Reasons of holes: the venue had forgotten it when we came; it had forgotten it before we began."""


class Kind(StrEnum):
    """What is read."""

    ORDERS = "orders"
    FILLS = "fills"
    TRADES = "trades"


class Lost(Struct, frozen=True):
    """An interval that the venue's history does not tell of any more."""

    from_ms: int
    to_ms: int
    reason: str
    note: str


class Cursor(Struct, frozen=True):
    """How far the history of one trader is read; stored in ``backfills``.

    Attributes:
        until_ms: everything up to here has been read, None before the first reading.
        since_ms: and back to here (0 = from the beginning).
        anchor: id of a fill at ``until_ms``.
        read_ms: when the last whole reading ended.
        rate: rows per second that reading has shown, None when it had too few.
        place_ms: where a reading of a range has got to, and ``range_ms`` which.
        walked, walk_from_ms: rows of a reading of fills that began without an anchor so far, without those at
            ``until_ms``, and time of the first; while it lasts.
        walk_after_ms: up to where all was read before it.
    """

    kind: Kind
    venue: str
    subject: str
    until_ms: int | None = None
    since_ms: int | None = None
    anchor: str | None = None
    read_ms: int | None = None
    rate: float | None = None
    place_ms: int | None = None
    range_ms: tuple[int, int | None] | None = None
    walked: int = 0
    walk_from_ms: int | None = None
    walk_after_ms: int = 0

    @property
    def id(self) -> str:
        """``_id`` of its document."""
        return cursor_id(self.venue, self.kind, self.subject)

    @property
    def stream(self) -> StreamKey:
        """The stream of its holes in ``coverage``."""
        return StreamKey(self.venue, f"history:{self.kind}", self.subject)


class Range(Struct, frozen=True):
    """A stretch to read again, ``to_ms`` exclusive, None = up to now."""

    from_ms: int = 0
    to_ms: int | None = None

    def holds(self, time_ms: int) -> bool:
        """Whether this moment lies in it."""
        return time_ms >= self.from_ms and (self.to_ms is None or time_ms < self.to_ms)


def cursor_id(venue: str, kind: str, subject: str) -> str:
    """``_id`` in ``backfills``."""
    return f"{venue}:{kind}:{subject}"


def cursor_of(kind: Kind, venue: str, subject: str, document: Mapping[str, Any] | None) -> Cursor:
    """The stored place, a fresh one where there is none."""
    if document is None:
        return Cursor(kind, venue, subject)
    place = document.get("place") or {}
    begin = to_ms(place.get("from"))
    walk = document.get("walk") or {}
    return Cursor(
        kind,
        venue,
        subject,
        until_ms=to_ms(document.get("until")),
        since_ms=to_ms(document.get("since")),
        anchor=document.get("anchor"),
        read_ms=to_ms(document.get("readAt")),
        rate=document.get("rate"),
        place_ms=to_ms(place.get("at")),
        range_ms=None if begin is None else (begin, to_ms(place.get("to"))),
        walked=int(walk.get("rows", 0)),
        walk_from_ms=to_ms(walk.get("from")),
        walk_after_ms=to_ms(walk.get("after")) or 0,
    )


def writes_of_cursor(cursor: Cursor, *, found: int | None = None) -> tuple[Insert, Patch]:
    """The document where it is missing, then its values; in this order."""
    identity = {"venue": cursor.venue, "kind": cursor.kind.value, "subject": cursor.subject}
    place = None
    if cursor.range_ms is not None:
        begin_ms, end_ms = cursor.range_ms
        place = {"from": to_date(begin_ms), "to": to_date(end_ms), "at": to_date(cursor.place_ms)}
    values: dict[str, Any] = {
        "until": to_date(cursor.until_ms),
        "since": to_date(cursor.since_ms),
        "anchor": cursor.anchor,
        "readAt": to_date(cursor.read_ms),
        "rate": cursor.rate,
        "place": place,
        "walk": None
        if cursor.walk_from_ms is None
        else {
            "rows": cursor.walked,
            "from": to_date(cursor.walk_from_ms),
            "after": to_date(cursor.walk_after_ms),
        },
    }
    if found is not None:
        values["found"] = found
    return Insert(Collection.BACKFILLS, {"_id": cursor.id, **identity}), Patch(
        Collection.BACKFILLS, cursor.id, values
    )


def writes_of_lost(cursor: Cursor, lost: Lost) -> tuple[Insert, Patch]:
    """A hole in ``coverage`` of the stream ``<venue>/history:<kind>/<subject>``."""
    name, venue = str(cursor.stream), cursor.venue
    opened = HoleOpened(name, venue, lost.from_ms, lost.reason, lost.note)
    ended = HoleClosed(name, venue, lost.from_ms, max(lost.from_ms, lost.to_ms), lost.reason)
    return write_of_hole(opened), write_of_hole_end(ended)


# -- orders ----------------------------------------------------------------------------------------------------------


def lost_orders(cursor: Cursor, rows: Sequence[OrderStatus], most_rows: int) -> Lost | None:
    """What lies between the last reading and the oldest status of a full answer; fewer rows tell everything."""
    if len(rows) < most_rows:
        return None
    oldest_ms = min(row.status_ms for row in rows)
    begin_ms = 0 if cursor.until_ms is None else cursor.until_ms
    if oldest_ms <= begin_ms:
        return None
    return _lost(cursor, oldest_ms, f"the venue tells the newest {most_rows} statuses of orders only")


def after_orders(cursor: Cursor, told: PastOrders, most_rows: int, now_ms: int) -> Cursor:
    """The place after everything in this answer is stored."""
    times = [row.status_ms for row in told.history.rows]
    since_ms = cursor.since_ms
    if told.is_all and len(times) < most_rows:
        since_ms = 0
    elif told.is_all and since_ms is None:
        since_ms = min(times)
    return Cursor(
        cursor.kind,
        cursor.venue,
        cursor.subject,
        until_ms=max([*times, *([] if cursor.until_ms is None else [cursor.until_ms])], default=None),
        since_ms=since_ms,
        read_ms=now_ms,
        rate=_rate(times, now_ms),
    )


def again_from_ms(cursor: Cursor, wanted: Range | None) -> int:
    """From which status on rows are looked at."""
    known_ms = 0 if cursor.until_ms is None else cursor.until_ms - OVERLAP_MS
    return known_ms if wanted is None else wanted.from_ms


# -- fills -----------------------------------------------------------------------------------------------------------


class FillPages:
    """Reads fills page by page, oldest first, from a known one (the anchor) or from the beginning of a range.

    Attributes:
        start_ms: where the next page begins.
        done: nothing more is to be asked for.
        lost: what is known to be missing, as far as read.
    """

    def __init__(self, cursor: Cursor, *, page_rows: int, reach: int, wanted: Range | None = None) -> None:
        """Begin at the cursor, or where the reading of this range was left."""
        self._cursor = cursor
        self._wanted = wanted
        self._page_rows = page_rows
        self._reach = reach
        self._anchor = cursor.anchor if wanted is None else None
        self._at_start: frozenset[str] = frozenset()
        self._place_anchor = cursor.anchor
        self._is_first = wanted is None and cursor.since_ms is None
        resumed = wanted is None and cursor.walk_from_ms is not None
        self._is_walk = wanted is None and (resumed or cursor.anchor is None)
        self._after_ms = cursor.walk_after_ms if resumed else cursor.until_ms or 0
        self._rows = cursor.walked if resumed else 0
        self._first_ms: int | None = cursor.walk_from_ms if resumed else None
        self._is_checked = False
        self._times: list[int] = []
        self.start_ms = cursor.until_ms or 0
        if wanted is not None:
            resumes = cursor.range_ms == (wanted.from_ms, wanted.to_ms) and cursor.place_ms is not None
            self.start_ms = cursor.place_ms if resumes and cursor.place_ms is not None else wanted.from_ms
        self.done = False
        self.lost: list[Lost] = []

    def take(self, page: Sequence[Fill]) -> list[Fill]:
        """Note a page that began at `start_ms`; returns its fills inside the range that were not on the last page."""
        rows = {fill_id(fill): fill for fill in page}
        fresh = [fill for identity, fill in rows.items() if identity not in self._at_start]
        if rows and not self._is_checked:
            self._is_checked = True
            first_ms = min(fill.time_ms for fill in page)
            self._first_ms = first_ms if self._first_ms is None else self._first_ms
            self._check_anchor(rows, first_ms)
        self._rows += len(fresh)
        self._times += [fill.time_ms for fill in fresh]
        is_full = len(page) >= self._page_rows
        end_ms = None if self._wanted is None else self._wanted.to_ms
        if fresh:
            self.start_ms = max(self.start_ms, *(fill.time_ms for fill in fresh))
            self._at_start = frozenset(i for i, fill in rows.items() if fill.time_ms == self.start_ms)
            self._place_anchor = min(self._at_start)
            self.done = not is_full or (end_ms is not None and self.start_ms >= end_ms)
        elif is_full:
            # A whole page within one millisecond: more of that time may exist and cannot be asked for.
            note = "a whole page of fills within one millisecond: more of that time cannot be asked for"
            self.lost.append(Lost(self.start_ms, self.start_ms + 1, LOST, note))
            self.start_ms, self._at_start, self._place_anchor = self.start_ms + 1, frozenset(), None
        else:
            self.done = True
        return [fill for fill in fresh if self._wanted is None or self._wanted.holds(fill.time_ms)]

    def cursor(self, now_ms: int) -> Cursor:
        """The place after everything so far is stored."""
        before, wanted = self._cursor, self._wanted
        until_ms, anchor, since_ms = before.until_ms, before.anchor, before.since_ms
        if wanted is None:
            anchor = self._place_anchor
            until_ms = self.start_ms if self._rows else until_ms
            if self._is_first and self.done:
                since_ms = self._first_ms if self._is_cut else 0
        unfinished = wanted is not None and not self.done
        walking = self._is_walk and not self.done
        return Cursor(
            before.kind,
            before.venue,
            before.subject,
            until_ms=until_ms,
            since_ms=since_ms,
            anchor=anchor,
            read_ms=now_ms if self.done else before.read_ms,
            rate=_rate(self._times, now_ms) if self.done and wanted is None else before.rate,
            place_ms=self.start_ms if unfinished else None,
            range_ms=(wanted.from_ms, wanted.to_ms) if unfinished and wanted is not None else None,
            walked=self._rows - len(self._at_start) if walking else 0,
            walk_from_ms=self._first_ms if walking else None,
            walk_after_ms=self._after_ms if walking else 0,
        )

    def finish(self) -> None:
        """Judge the whole reading, once it is done: whether the venue still had the oldest fills."""
        if not self._is_cut or self._first_ms is None or self._wanted is not None:
            return
        note = f"the venue keeps the newest {self._reach} fills and there were more"
        if self._is_first:
            self.lost.append(Lost(0, self._first_ms, BEFORE, note))
        elif self._is_walk:
            self.lost.append(Lost(self._after_ms, self._first_ms, LOST, note))

    @property
    def _is_cut(self) -> bool:
        return self._rows >= self._reach

    def _check_anchor(self, rows: Mapping[str, Fill], first_ms: int) -> None:
        if self._anchor is None or self._anchor in rows:
            return
        note = f"the venue keeps the newest {self._reach} fills and more were made since the last reading"
        self.lost.append(_lost(self._cursor, first_ms, note))


# -- when ------------------------------------------------------------------------------------------------------------


def wait_s(cursor: Cursor, reach: int, longest_s: float) -> float:
    """Seconds from one reading to the next: before the venue forgets, and at the latest after ``longest_s``."""
    if not cursor.rate:
        return longest_s
    return max(min(LEAST_AGAIN_S, longest_s), min(longest_s, AGAIN_SHARE * reach / cursor.rate))


def as_date(time_ms: int) -> datetime:
    """`to_date` for what is never None."""
    date = to_date(time_ms)
    assert date is not None
    return date


def _lost(cursor: Cursor, to_ms: int, note: str) -> Lost:
    return Lost(cursor.until_ms or 0, to_ms, BEFORE if cursor.read_ms is None else LOST, note)


def _rate(times: Sequence[int], now_ms: int) -> float | None:
    """Rows per second: the quicker of the whole answer and its newer half, for those who have just become busy."""
    if len(times) < FEW_ROWS:
        return None
    ordered = sorted(times)
    half = ordered[len(ordered) // 2]
    whole_s = max(1.0, (max(now_ms, ordered[-1]) - ordered[0]) / 1000)
    half_s = max(1.0, (max(now_ms, ordered[-1]) - half) / 1000)
    return round(max(len(ordered) / whole_s, (len(ordered) - len(ordered) // 2) / half_s), 6)
