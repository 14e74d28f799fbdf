"""Reads the leaderboard now and then: writes it down, and follows the best of it as long as they are the best.

What people decided stays: who was added by hand is never let go here, who was removed by hand is never brought back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import structlog
from msgspec import Struct, structs

from src.jobs.leaderboard.rules import (
    FEW_ROWS_SHARE,
    Choice,
    candidate_of,
    choose,
    history_size,
    write_of_rank,
)
from src.jobs.stoppable import unless_stopped
from src.jobs.tracking import Candidate, TraderRegistry
from src.models.clock import Clock
from src.models.errors import StoreError, VenueError
from src.models.filters import Filter
from src.models.metrics import LEADERBOARD_READS, Metrics
from src.models.writes import Collection, Upsert, Write, WriteBatch
from src.pipeline.documents import to_date, to_ms
from src.store.base import Query, Store
from src.store.counting import count_written
from src.venues.hyperliquid.ranking import TAG, LeaderboardRow, Ranked, Ranking, score

log = structlog.get_logger(__name__)

SOURCE = "leaderboard"
STATE_ID = "leaderboard"
LOOK_EVERY_S = 5.0
RETRY_S = 60.0
USUAL_FADES = 0.9
_WRITES_PER_BATCH = 500

Mode = Literal["auto", "always", "never"]
"""``auto``: while nobody is followed by hand or by settings, and as long as somebody is because of it."""

ReadRanking = Callable[[Callable[[], Ranking]], Awaitable[Ranking]]
"""Lets every row of the file pass by a ranking; the argument makes one for each attempt."""


class Refreshed(Struct, frozen=True):
    """What one reading did."""

    rows: int
    admitted: int
    added: int
    removed: int


class LeaderboardJob:
    """See the module.

    Args:
        store: history, and when it was read last.
        registry: who is followed.
        read: the file.
        clock: wall for stored times and for the interval, which outlives a restart.
        metrics: readings, by outcome.
        count: how many to follow.
        filters: conditions on who is.
        interval_s: between readings.
        mode: see `Mode`.
        configured: somebody is named in the settings.
        changed: awaited when somebody was added or let go.
    """

    def __init__(
        self,
        store: Store,
        registry: TraderRegistry,
        *,
        read: ReadRanking,
        clock: Clock,
        metrics: Metrics,
        count: int,
        filters: Sequence[Filter],
        interval_s: float,
        mode: Mode = "auto",
        configured: bool = False,
        changed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._read = read
        self._clock = clock
        self._metrics = metrics
        self._count = count
        self._filters = filters
        self._interval_s = interval_s
        self._mode = mode
        self._configured = configured
        self._changed = changed
        self._try_again_s = float("-inf")
        self._is_failing = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Read whenever it is due, until ``stopping``."""
        while await unless_stopped(self._work(), stopping):
            await unless_stopped(asyncio.sleep(LOOK_EVERY_S), stopping)

    async def _work(self) -> None:
        if self._mode == "never" or self._count == 0 or self._clock.monotonic() < self._try_again_s:
            return
        try:
            traders = await self._registry.listed()
            if not self._is_active(traders) or not await self._is_due(traders):
                return
            done = await self.refresh()
        except (VenueError, StoreError) as error:
            self._try_again_s = self._clock.monotonic() + RETRY_S
            self._metrics.add(LEADERBOARD_READS, "failed")
            if not self._is_failing:
                log.warning("leaderboard_not_read", error=str(error), next_attempt_s=RETRY_S)
            self._is_failing = True
            return
        self._is_failing = False
        if (done.added or done.removed) and self._changed is not None:
            await self._note_change()

    async def refresh(self) -> Refreshed:
        """Read once and bring the followed traders up to it.

        Raises:
            VenueError: the file could not be read, or nobody in it fulfils the conditions.
            StoreError: MongoDB is away; the next reading makes up for it.
        """
        followed = [document["ethAddress"] for document in await self._registry.listed() if document["enabled"]]
        size = history_size(self._count)
        ranking = await self._read(lambda: Ranking(size, filters=self._filters, watched=followed))
        best = ranking.best()
        if not best:
            raise VenueError(
                f"nobody of {ranking.rows:,} accounts on the leaderboard fulfils HYPERLIQUID_LEADERBOARD_FILTERS"
            )
        traders = await self._registry.listed()  # a download takes a while, people go on deciding
        usual_rows = int((await self._state()).get("usualRows", 0))
        may_remove = _is_whole(ranking, usual_rows)
        choice = self._choose(best, traders, may_remove=may_remove)
        at = to_date(self._clock.wall_ms())
        assert at is not None
        await self._registry.enable([candidate_of(one, misses=0, at=at) for one in choice.added], source=SOURCE)
        await self._registry.disable(choice.removed, by=SOURCE)
        await self._registry.note_standings(_standings(best, ranking, traders, choice, at), managed_tags=TAG)
        await self._write(
            [
                *(write_of_rank(ranked, at) for ranked in best),
                _note_of(ranking, at, usual_rows=usual_rows if not may_remove else 0),
            ]
        )
        self._metrics.add(LEADERBOARD_READS, "ok")
        done = Refreshed(ranking.rows, ranking.admitted, len(choice.added), len(choice.removed))
        log.info("leaderboard_read", **structs.asdict(done), complete=may_remove)
        return done

    # -- decisions -------------------------------------------------------------------------------------------------

    def _is_active(self, traders: Sequence[Mapping[str, Any]]) -> bool:
        if self._mode == "always":
            return True
        enabled = [document for document in traders if document["enabled"]]
        return not self._configured and (not enabled or any(document.get("source") == SOURCE for document in enabled))

    async def _is_due(self, traders: Sequence[Mapping[str, Any]]) -> bool:
        if not any(document["enabled"] for document in traders):
            return True
        state = await self._state()
        if not state:
            return True
        age_s = (self._clock.wall_ms() - (to_ms(state["at"]) or 0)) / 1000
        return age_s >= self._interval_s or age_s < 0  # a clock may have been set back

    def _choose(self, best: Sequence[Ranked], traders: Sequence[Mapping[str, Any]], *, may_remove: bool) -> Choice:
        followed, taken = {}, set()
        for document in traders:
            address = document["ethAddress"]
            if document["enabled"] and document.get("source") == SOURCE:
                followed[address] = int((document.get("leaderboard") or {}).get("misses", 0))
            elif document["enabled"] or document.get("removedBy") == "manual":
                taken.add(address)
        return choose(best, followed, count=self._count, taken=taken, may_remove=may_remove)

    # -- database --------------------------------------------------------------------------------------------------

    async def _state(self) -> Mapping[str, Any]:
        async for document in self._store.find(Collection.SCHEMA, Query(equals={"_id": STATE_ID}, limit=1)):
            return document
        return {}

    async def _write(self, writes: Sequence[Write]) -> None:
        for start in range(0, len(writes), _WRITES_PER_BATCH):
            batch = WriteBatch(0, [writes[start : start + _WRITES_PER_BATCH]])
            count_written(self._metrics, await self._store.write(batch))

    async def _note_change(self) -> None:
        assert self._changed is not None
        try:
            await self._changed()
        except StoreError as error:  # the next look at the traders follows them
            log.debug("traders_not_read", error=str(error))


def _is_whole(ranking: Ranking, usual_rows: int) -> bool:
    """Whether the reading can prove that somebody is not among the best any more."""
    if ranking.rows >= usual_rows * FEW_ROWS_SHARE:
        return True
    log.warning("leaderboard_thin", rows=ranking.rows, usual=usual_rows, effect="nobody is let go")
    return False


def _standings(
    best: Sequence[Ranked], ranking: Ranking, traders: Sequence[Mapping[str, Any]], choice: Choice, at: datetime
) -> list[Candidate]:
    """Where everybody stands who was followed before and is in the file, followed by whatever way."""
    places = {ranked.row.address: ranked for ranked in best}
    seen = ranking.watched()
    found = []
    for document in traders:
        address = document["ethAddress"]
        row: LeaderboardRow | None = seen.get(address)
        misses = choice.misses.get(address, 0)
        if not document["enabled"] or address in choice.removed:
            continue
        if address in places:
            found.append(candidate_of(places[address], misses=misses, at=at))
        elif row is not None:
            unplaced = candidate_of(Ranked(10**9, score(row), row), misses=misses, at=at)
            found.append(structs.replace(unplaced, standing={**(unplaced.standing or {}), "rank": None}))
        elif address in choice.misses:
            standing = {**(document.get("leaderboard") or {}), "rank": None, "misses": misses, "at": at}
            found.append(Candidate(address, document.get("score"), document.get("tier"), standing=standing))
    return found


def _note_of(ranking: Ranking, at: datetime, *, usual_rows: int) -> Upsert:
    """When it was read last; a thin file that stays so is believed in the end."""
    usual = max(ranking.rows, int(usual_rows * USUAL_FADES))
    values = {"rows": ranking.rows, "admitted": ranking.admitted, "usualRows": usual}
    return Upsert(Collection.SCHEMA, STATE_ID, "at", at, values)
