"""What the connections of one pool share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from src.models.clock import Clock
from src.models.messages import Gap, GapReason
from src.models.metrics import Metrics
from src.models.streams import StreamKey
from src.venues.budget import Budget
from src.venues.feed import Feed, RawTap, Sink
from src.venues.freshness import Freshness
from src.venues.repeats import Repeats
from src.venues.timing import Timing
from src.venues.transport import Opener

LETTERS_WINDOW_S = 60.0
LETTERS_MOST = 20
"""Frames of one reason kept as samples per `LETTERS_WINDOW_S`; all are counted."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Parts:
    """Neighbours and shared state of the connections of one pool."""

    feed: Feed
    sink: Sink
    clock: Clock
    metrics: Metrics
    budget: Budget
    freshness: Freshness
    timing: Timing
    random: Callable[[], float]
    opener: Opener
    tap: RawTap | None
    log_gate: Repeats
    letter_gate: Repeats
    label: str = ""
    """Between the venue and the number in names of connections, where a venue has several pools."""

    def tell_gap(self, keys: Iterable[StreamKey], reason: GapReason, at_ms: int, detail: str = "") -> None:
        """Hand on that these streams are no longer seen; those for which that was told already are left out."""
        fresh = self.freshness.lost(list(keys))
        if fresh:
            self.sink.gap(Gap(tuple(fresh), reason, at_ms, detail))
