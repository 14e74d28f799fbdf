"""A legacy message in which one order changed, from bytes to changes, against parsing its JSON."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.decoding import judged_row, other_rows, time_messages
from benchmarks.rows import Effort, Goal, Row

NAME = "changed-message"
GOAL = Goal(0.20)


def measure(effort: Effort) -> Sequence[Row]:
    timing = time_messages(effort, "changed")
    return [judged_row("webData2, one order changed", timing, GOAL), *other_rows(timing)]
