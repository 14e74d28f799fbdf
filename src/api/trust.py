"""Whether what is stored of a subject between two moments is everything there was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

Interval = tuple[datetime, datetime]


class StreamTrust(Struct, frozen=True):
    """One stream in the time asked for.

    Attributes:
        known_since: from when on holes of this stream are recorded.
        seen: share of the time in which it was seen.
        covered: the same, with holes that history filled.
        holes, unrepaired: how many holes touch the time, and how many of them are not repaired.
        longest_s: the longest stretch that is not covered, seconds.
    """

    stream: str
    known_since: datetime
    seen: float
    covered: float
    holes: int
    unrepaired: int
    longest_s: float


def judge_streams(
    holes: Iterable[Mapping[str, Any]], begin: datetime, end: datetime, now: datetime
) -> list[StreamTrust]:
    """Judge every stream that has ever had a hole, by name.

    Args:
        holes: all documents of the subject that began before ``end``, and the first ever of each stream.
        begin: beginning of the time asked for, inclusive.
        end: its end, exclusive.
        now: what is later than that is not covered: it has not happened.
    """
    by_stream: dict[str, list[Mapping[str, Any]]] = {}
    for hole in holes:
        by_stream.setdefault(str(hole["stream"]), []).append(hole)
    return [_judge(stream, of_stream, begin, end, now) for stream, of_stream in sorted(by_stream.items())]


def _judge(
    stream: str, holes: Sequence[Mapping[str, Any]], begin: datetime, end: datetime, now: datetime
) -> StreamTrust:
    known_since = min(hole["from"] for hole in holes)
    touching = [hole for hole in holes if hole["from"] < end and (hole["to"] is None or hole["to"] > begin)]
    unrepaired = [hole for hole in touching if not hole.get("repaired")]
    outside: list[Interval] = [(begin, known_since), (now, end)]
    unseen = _merged([*outside, *map(_interval(end), touching)], begin, end)
    uncovered = _merged([*outside, *map(_interval(end), unrepaired)], begin, end)
    return StreamTrust(
        stream=stream,
        known_since=known_since,
        seen=_share_outside(unseen, begin, end),
        covered=_share_outside(uncovered, begin, end),
        holes=len(touching),
        unrepaired=len(unrepaired),
        longest_s=max(((last - first).total_seconds() for first, last in uncovered), default=0.0),
    )


def _interval(end: datetime) -> Any:
    return lambda hole: (hole["from"], end if hole["to"] is None else hole["to"])


def _merged(intervals: Iterable[Interval], begin: datetime, end: datetime) -> list[Interval]:
    """The same stretches within ``begin`` and ``end``, sorted, without overlaps."""
    merged: list[Interval] = []
    for first, last in sorted((max(first, begin), min(last, end)) for first, last in intervals):
        if first >= last:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _share_outside(intervals: Sequence[Interval], begin: datetime, end: datetime) -> float:
    """Share of the time outside the intervals; never rounded up to 1."""
    inside = sum((last - first for first, last in intervals), timedelta())
    return 1.0 - inside / (end - begin)
