"""Who of the leaderboard is worth following: conditions, a score, and the best few of many thousand rows. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence

from msgspec import Struct

from src.models.filters import Filter

SHARES = {"month_pnl": 0.45, "month_roi": 0.20, "all_time_pnl": 0.15, "week_volume": 0.10, "steadiness": 0.10}
PNL_UNIT_USD, PNL_FULL_USD = 1_000.0, 10_000_000.0
VOLUME_UNIT_USD, VOLUME_FULL_USD = 100_000.0, 1_000_000_000.0
ROI_HALF = 0.5

TAG = "lb:"
"""Begins every tag that comes from the leaderboard, so that tags of people are told apart."""
WHALE_USD = 10_000_000.0
HEAVY_WEEK_USD = 100_000_000.0
TOPS = (10, 50, 100, 500)


class WindowPerformance(Struct, frozen=True, gc=False):
    """Profit and loss in USD, return as a fraction (0.0939 = 9.39 %), volume in USD, over one window."""

    pnl: float
    roi: float
    vlm: float


class LeaderboardRow(Struct, frozen=True):
    """One account; ``address`` is lower case. A window the file does not give is None."""

    address: str
    account_value: float
    day: WindowPerformance | None = None
    week: WindowPerformance | None = None
    month: WindowPerformance | None = None
    all_time: WindowPerformance | None = None
    display_name: str | None = None

    def windows(self) -> dict[str, WindowPerformance | None]:
        """By the venue's name of the window."""
        return {"day": self.day, "week": self.week, "month": self.month, "allTime": self.all_time}


class Ranked(Struct, frozen=True):
    """A row and its place, 1 = the best. ``admitted``: it fulfils the conditions."""

    rank: int
    score: float
    row: LeaderboardRow
    admitted: bool = True


def figure(row: LeaderboardRow, field: str) -> float | None:
    """The value of a field of `src.models.filters`, None when the file does not give it."""
    window, _, name = field.partition(".")
    if not name:
        return row.account_value
    performance = row.windows()[window]
    return None if performance is None else float(getattr(performance, name))


def admits(filters: Sequence[Filter], row: LeaderboardRow) -> bool:
    """Whether the row fulfils every condition."""
    return all(one.admits(figure(row, one.field)) for one in filters)


def score(row: LeaderboardRow) -> float:
    """How worth following an account is: about 0 to 100, below 0 for those who lose.

    ``100 * (0.45 g(month PnL) + 0.20 r(month ROI) + 0.15 g(all-time PnL) + 0.10 v(week volume) + 0.10 s)`` with
    ``g(x) = asinh(x / 1e3) / asinh(1e4)`` (1 at 10 million USD), ``v(x) = asinh(x / 1e5) / asinh(1e4)`` (1 at 1000
    million), ``r(x) = x / (0.5 + |x|)`` (0.5 at 50 %) and ``s`` = share of the four windows that ended in profit.
    Logarithms, so that one lucky month of a giant does not drown everybody else; a missing window counts as 0.
    """
    month, all_time, week = row.month, row.all_time, row.week
    parts = {
        "month_pnl": 0.0 if month is None else _log(month.pnl, PNL_UNIT_USD, PNL_FULL_USD),
        "month_roi": 0.0 if month is None else month.roi / (ROI_HALF + abs(month.roi)),
        "all_time_pnl": 0.0 if all_time is None else _log(all_time.pnl, PNL_UNIT_USD, PNL_FULL_USD),
        "week_volume": 0.0 if week is None else _log(week.vlm, VOLUME_UNIT_USD, VOLUME_FULL_USD),
        "steadiness": sum(window is not None and window.pnl > 0 for window in row.windows().values()) / 4,
    }
    return 100.0 * sum(SHARES[name] * part for name, part in parts.items())


def tags(ranked: Ranked) -> list[str]:
    """What the leaderboard says of an account in words, sorted: ``lb:top10``, ``lb:whale``, ``lb:steady``, ..."""
    row = ranked.row
    found = [f"top{top}" for top in TOPS if ranked.rank <= top][:1]
    if row.account_value >= WHALE_USD:
        found.append("whale")
    if row.week is not None and row.week.vlm >= HEAVY_WEEK_USD:
        found.append("heavy")
    windows = [window for window in row.windows().values() if window is not None]
    if windows and all(window.pnl > 0 for window in windows):
        found.append("steady")
    if row.month is not None and row.month.pnl < 0:
        found.append("losing")
    return sorted(TAG + tag for tag in found)


class Ranking:
    """Keeps the best ``size`` of all rows that pass by, and certain accounts wherever they stand.

    Memory is bounded by ``size`` and ``watched``.

    Attributes:
        rows: accounts seen.
        admitted: those of them that fulfil the conditions.
    """

    def __init__(
        self,
        size: int,
        *,
        filters: Sequence[Filter] = (),
        watched: Collection[str] = (),
        admitted_only: bool = True,
    ) -> None:
        """Begin empty.

        Args:
            size: how many to keep.
            filters: conditions on a row.
            watched: addresses whose rows are kept in any case.
            admitted_only: leave out who does not fulfil the conditions; else they come after all others.
        """
        self._size = size
        self._filters = filters
        self._watched = frozenset(watched)
        self._admitted_only = admitted_only
        self._heap: list[tuple[bool, float, str]] = []
        self._kept: dict[str, LeaderboardRow] = {}
        self._watched_rows: dict[str, LeaderboardRow] = {}
        self.rows = self.admitted = 0

    def take(self, row: LeaderboardRow) -> None:
        """The next row of the file; of several of one account the first counts."""
        self.rows += 1
        is_admitted = admits(self._filters, row)
        self.admitted += is_admitted
        if row.address in self._watched:
            self._watched_rows.setdefault(row.address, row)
        if row.address in self._kept or self._size <= 0 or (self._admitted_only and not is_admitted):
            return
        entry = (is_admitted, score(row), row.address)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            dropped = heapq.heappushpop(self._heap, entry)
            if dropped is entry:
                return
            del self._kept[dropped[2]]
        self._kept[row.address] = row

    def best(self) -> list[Ranked]:
        """The best first; of equals in a fixed order."""
        ordered = sorted(self._heap, reverse=True)
        return [
            Ranked(rank, points, self._kept[address], is_admitted)
            for rank, (is_admitted, points, address) in enumerate(ordered, start=1)
        ]

    def watched(self) -> dict[str, LeaderboardRow]:
        """Rows of the watched accounts that the file has."""
        return dict(self._watched_rows)


def _log(value: float, unit: float, full: float) -> float:
    return math.asinh(value / unit) / math.asinh(full / unit)
