"""What a measure hands back: one row of the table, with its goal and whether it was reached."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from statistics import median

from msgspec import Struct


class Effort(Enum):
    """How much work a measure does: `TINY` shows that it runs, `QUICK` gives an idea, `FULL` is what is quoted."""

    TINY = "tiny"
    QUICK = "quick"
    FULL = "full"


class MeasureError(Exception):
    """The measured code did not do the work that was timed, so the figure would say nothing."""


class Spread(Struct, frozen=True):
    """The median of several rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float


class Goal(Struct, frozen=True):
    """The bound a row is held against; `at_most` tells on which side of it the row has to be."""

    limit: float
    at_most: bool = True

    def reached(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g}"


class Row(Struct, frozen=True):
    """One line of the table.

    Attributes:
        name: what was measured.
        value: the measured figure in `unit`.
        peer: what it is compared with, empty when there is only an absolute bound.
        peer_value: the same figure of the peer, measured in the same rounds.
        ratio: value / peer_value of each round, never of the medians.
        goal: bound of the ratio, or of the value when there is no ratio; None = for orientation.
        holds: further conditions (name -> was it so); all must hold for the row to be ok.
        note: what a reader must know to read the row.
    """

    name: str
    value: Spread
    unit: str
    peer: str = ""
    peer_value: Spread | None = None
    ratio: Spread | None = None
    goal: Goal | None = None
    holds: dict[str, bool] = {}
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the goal is reached by the median; None without a goal."""
        if self.goal is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return self.goal.reached(judged.median) and all(self.holds.values())


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def ratio(values: Sequence[float], peers: Sequence[float]) -> Spread:
    """Spread of value / peer, round by round: what disturbs a round disturbs both sides of it."""
    return spread([value / peer for value, peer in zip(values, peers, strict=True)])
