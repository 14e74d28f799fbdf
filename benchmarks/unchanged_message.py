"""A legacy message in which nothing but the venue's times changed, against parsing its JSON."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.decoding import judged_row, time_messages
from benchmarks.rows import Effort, Goal, Row

NAME = "unchanged-message"
GOAL = Goal(0.12)


def measure(effort: Effort) -> Sequence[Row]:
    moving, identical = time_messages(effort, "same"), time_messages(effort, "identical")
    return [
        judged_row("webData2, unchanged (times move)", moving, GOAL),
        judged_row("webData2, identical bytes", identical, GOAL),
    ]
