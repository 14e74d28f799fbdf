"""Streams that are only looked at now and then: since when, and how far apart the looks are at most. Pure.

A hole for each pause between two looks would bury the holes that matter. So such a stream has one interval for as
long as it is looked at within what was promised; its reason is ``sampled`` and it names the promise. Data of a stream
that is seen all the time, or a hole, ends it.
"""

from __future__ import annotations

from msgspec import Struct

from src.models.changes import Change, HoleClosed, HoleOpened
from src.models.messages import GapReason
from src.models.streams import StreamKey

SAMPLED = GapReason.SAMPLED.value


class _Interval(Struct, frozen=True):
    from_ms: int
    within_s: float


class SampledStreams:
    """The intervals that are open."""

    def __init__(self) -> None:
        self._open: dict[StreamKey, _Interval] = {}

    def __contains__(self, stream: StreamKey) -> bool:
        return stream in self._open

    def restore(self, stream: StreamKey, from_ms: int) -> None:
        """Take an interval as stored as still open; what it promised is not asked for, the next look tells anew."""
        self._open[stream] = _Interval(from_ms, 0.0)

    def looked(self, stream: StreamKey, within_s: float, since_ms: int, now_ms: int) -> list[Change]:
        """A look at ``now_ms``; opens an interval from ``since_ms`` on, another one where less is promised now."""
        known = self._open.get(stream)
        if known is not None and within_s <= known.within_s:
            return []
        changes: list[Change] = []
        if known is not None:
            since_ms = max(now_ms, known.from_ms + 1)
            changes.extend(self.ended(stream, since_ms))
        self._open[stream] = _Interval(since_ms, within_s)
        detail = f"looked at within {within_s:g} s"
        changes.append(HoleOpened(str(stream), stream.venue, since_ms, SAMPLED, detail, within_s))
        return changes

    def ended(self, stream: StreamKey, at_ms: int) -> list[Change]:
        """The stream is seen all the time from ``at_ms`` on, or not at all."""
        known = self._open.pop(stream, None)
        if known is None:
            return []
        return [HoleClosed(str(stream), stream.venue, known.from_ms, max(at_ms, known.from_ms), SAMPLED)]
