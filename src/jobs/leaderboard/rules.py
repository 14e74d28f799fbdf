"""Who of a ranking is followed, and when somebody is let go. Pure.

Nobody flaps at the boundary: who is followed keeps the place down to a rank well below the last one that is taken,
and loses it only after having been below that several readings in a row.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from src.jobs.tracking import Candidate
from src.models.writes import Collection as Stored
from src.models.writes import Upsert
from src.venues.hyperliquid.ranking import LeaderboardRow, Ranked, figure, tags

SLACK_SHARE, SLACK_LEAST = 0.25, 3
"""Who is followed stays down to this many ranks below the last one taken."""

MISSES_TO_LEAVE = 2
"""Readings in a row in which somebody was below that, or did not fulfil the conditions."""

FEW_ROWS_SHARE = 0.5
"""A file with fewer rows than this part of the last one proves nothing about who is not in it."""

HISTORY_LEAST = 200
HISTORY_MOST = 2_000
TIERS = (10, 100)
"""Last ranks of tiers 1 and 2; everybody else is tier 3."""


class Choice(Struct, frozen=True):
    """What one reading changes: ``misses`` are those of everybody who stays."""

    added: tuple[Ranked, ...]
    removed: tuple[str, ...]
    misses: Mapping[str, int]


def keep_rank(count: int) -> int:
    """The last rank down to which somebody who is followed stays without a question."""
    return count + max(SLACK_LEAST, math.ceil(count * SLACK_SHARE))


def history_size(count: int) -> int:
    """How many ranks are written down each day."""
    return min(HISTORY_MOST, max(HISTORY_LEAST, 2 * count, keep_rank(count)))


def choose(
    best: Sequence[Ranked],
    followed: Mapping[str, int],
    *,
    count: int,
    taken: Collection[str] = (),
    may_remove: bool = True,
) -> Choice:
    """Decide about one reading.

    Args:
        best: who fulfils the conditions, the best first, at least `keep_rank` of them if there are so many.
        followed: who is followed because of the leaderboard, with the misses so far.
        count: how many to follow.
        taken: who is not the leaderboard's to decide: followed by hand, or removed by hand.
        may_remove: False when the reading is too thin to let anybody go.
    """
    candidates = [ranked for ranked in best if ranked.row.address not in taken]
    places = {ranked.row.address: place for place, ranked in enumerate(candidates, start=1)}
    limit = keep_rank(count)
    misses = {
        address: 0 if places.get(address, limit + 1) <= limit else before + 1 for address, before in followed.items()
    }
    if not may_remove:
        misses = dict(followed)
    leaving = {address for address, missed in misses.items() if may_remove and missed >= MISSES_TO_LEAVE}
    staying = sorted(
        (address for address in followed if address not in leaving),
        key=lambda address: (places.get(address, math.inf), address),
    )
    if may_remove:
        leaving |= set(staying[count:])
        staying = staying[:count]
    free = max(0, count - len(staying))
    added = [ranked for ranked in candidates if ranked.row.address not in followed][:free]
    return Choice(
        added=tuple(added),
        removed=tuple(sorted(leaving)),
        misses={address: misses[address] for address in staying},
    )


def candidate_of(ranked: Ranked, *, misses: int, at: datetime) -> Candidate:
    """A row as a trader to follow."""
    row = ranked.row
    return Candidate(
        row.address,
        score=round(ranked.score, 2),
        tier=next((tier for tier, last in enumerate(TIERS, start=1) if ranked.rank <= last), len(TIERS) + 1),
        tags=tuple(tags(ranked)),
        standing={"rank": ranked.rank, **_figures(row), "misses": misses, "at": at},
    )


def write_of_rank(ranked: Ranked, at: datetime) -> Upsert:
    """A place of one day; a later reading of the same day wins."""
    row = ranked.row
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    values = {
        "ethAddress": row.address,
        "day": day,
        "rank": ranked.rank,
        "score": round(ranked.score, 2),
        "displayName": row.display_name,
        **_figures(row),
    }
    return Upsert(Stored.LEADERBOARD_HISTORY, f"{day:%Y-%m-%d}:{row.address}", "readAt", at, values)


def _figures(row: LeaderboardRow) -> dict[str, Any]:
    windows = {
        name: {"pnl": window.pnl, "roi": window.roi, "vlm": window.vlm}
        for name, window in row.windows().items()
        if window is not None
    }
    return {"accountValue": figure(row, "accountValue"), "windows": windows}
