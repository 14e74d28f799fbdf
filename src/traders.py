"""Everything about followed traders put together: who is followed, what is looked up, what is filled in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from src.config import Settings
from src.core import Core
from src.jobs.backfill.job import BackfillJob
from src.jobs.following.egress import Way
from src.jobs.hyperliquid.backfill import make_backfill
from src.jobs.hyperliquid.repair import HyperliquidRepair
from src.jobs.hyperliquid.source import HyperliquidSource, Pace
from src.jobs.leaderboard.job import LeaderboardJob
from src.jobs.source import Work
from src.jobs.tracking import Tracking, TraderRegistry, seed
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.filters import Filter
from src.models.messages import Refusal
from src.models.metrics import Metrics
from src.models.streams import StreamKey, Subscription
from src.pipeline.restore import let_go, restore_traders
from src.store.base import Store
from src.venues.hyperliquid.mapper import VENUE

log = structlog.get_logger(__name__)

FLUSH_BEFORE_RESTORE_S = 10.0


class TraderSide:
    """What the composition root holds of it.

    Args:
        settings: ``HYPERLIQUID_…`` and ``TRADER_…``.
        store: where traders are kept.
        core: the pipeline.
        note: notes streams before they are asked for, see `CoverageKeeper.note`.
        may_write: False while another program may be writing.
        clock: for everything.
        metrics: for everything.
        pace: waiting times other than the usual ones.
        ways: out to the venue other than over sockets, see `HyperliquidSource`.

    Attributes:
        source: the venue.
        tracking: who is followed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        core: Core,
        note: Callable[[Sequence[StreamKey]], Awaitable[None]],
        may_write: Callable[[], bool],
        clock: Clock,
        metrics: Metrics,
        pace: Pace | None = None,
        ways: Sequence[Way] = (),
    ) -> None:
        self._settings = settings
        self._store = store
        self._core = core
        self._note = note
        self._clock = clock
        self.source = HyperliquidSource(
            settings, sink=core.pipeline, clock=clock, metrics=metrics, pace=pace, ways=ways
        )
        self._repair = HyperliquidRepair(
            settings, store=store, source=self.source, hub=core.hub, clock=clock, metrics=metrics
        )
        self._registry = TraderRegistry(store, clock, metrics)
        self.tracking = Tracking(
            self._registry,
            clock=clock,
            on_change=self._follow,
            looks=self.source.look_times,
            view=self.source.view,
        )
        self.source.following.profiles = lambda: self.tracking.profiles
        self.tracking.is_active = False  # until nobody else writes: what is restored before would be outdated
        self._leaderboard = self._make_leaderboard(metrics)
        self._backfill = self._make_backfill(may_write, metrics) if settings.hyperliquid_backfill else None

    async def restore(self) -> None:
        """Read back who is followed and what is known of them; close what was let go of while nobody collected.

        Raises:
            StoreError: MongoDB does not answer.
        """
        if not self._settings.trader_ws_enabled:
            return
        await seed(self._registry, self._settings.hyperliquid_traders)
        await self.tracking.refresh()
        for address in await let_go(self._store):
            await restore_traders(self._store, self._core.diff, [address], self._clock.wall_ms())
            self._core.pipeline.untrack(address, VENUE)

    def begin(self) -> None:
        """Ask the venue for what is wanted; before its works run."""
        self.source.follow(self.source.followed)

    def works(self, stopping: asyncio.Event) -> list[Work]:
        """The tasks to supervise until ``stopping``, by name; those of the source are its own."""
        works = self._repair.works(stopping)
        if not self._settings.trader_ws_enabled:
            return works
        works.append(("traders", lambda: self.tracking.run(stopping)))
        works.append(("leaderboard", lambda: self._leaderboard.run(stopping)))
        if (backfill := self._backfill) is not None:
            works.append(("backfill", lambda: backfill.run(stopping)))
        return works

    def on_refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """See `HyperliquidSource.on_refused`; streams that others replace end their holes."""
        if self.source.on_refused(refusal, failed):
            self._core.pipeline.replaced(self.source.replaced_streams())

    def rest_status(self) -> Mapping[str, Any]:
        """The ``rest`` section of ``/stats``."""
        return self._repair.rest_status()

    def backfill_status(self) -> Mapping[str, Any]:
        """The ``backfill`` section of ``/stats``."""
        return {"enabled": False} if self._backfill is None else {"enabled": True, **self._backfill.status()}

    # -- following -------------------------------------------------------------------------------------------------

    async def _follow(self, wanted: Sequence[str]) -> None:
        """Follow exactly these traders: what is stored of new ones is loaded before their first message."""
        before = set(self.source.followed)
        added, removed = [address for address in wanted if address not in before], before - set(wanted)
        if added:
            await self._flush()
        await restore_traders(self._store, self._core.diff, added, self._clock.wall_ms())
        await self._note(self.source.streams_with(wanted))
        self.source.follow(wanted)
        for address in removed:
            self._core.pipeline.untrack(address, VENUE)
        log.info("traders_followed", count=len(wanted), added=len(added), removed=len(removed))

    async def _flush(self) -> None:
        """What is pending of a trader who comes back has to be stored before it is read.

        Raises:
            StoreError: MongoDB does not take it now; the next look at the traders tries again.
        """
        self._core.pipeline.drain()
        try:
            await asyncio.wait_for(self._core.flusher.drain(), FLUSH_BEFORE_RESTORE_S)
        except TimeoutError as error:
            raise StoreError("changes of before could not be stored in time") from error

    # -- parts -----------------------------------------------------------------------------------------------------

    def _make_leaderboard(self, metrics: Metrics) -> LeaderboardJob:
        settings = self._settings
        return LeaderboardJob(
            self._store,
            self._registry,
            read=self.source.read_leaderboard,
            clock=self._clock,
            metrics=metrics,
            count=settings.hyperliquid_leaderboard_count,
            filters=[Filter.parse(text) for text in settings.hyperliquid_leaderboard_filters],
            interval_s=settings.hyperliquid_leaderboard_interval,
            mode=settings.hyperliquid_leaderboard,
            configured=bool(settings.hyperliquid_traders),
            changed=self.tracking.refresh,
        )

    def _make_backfill(self, may_write: Callable[[], bool], metrics: Metrics) -> BackfillJob:
        return make_backfill(
            self._settings,
            store=self._store,
            source=self.source,
            diff=self._core.diff,
            pipeline=self._core.pipeline,
            flush=self._flush,
            followed=lambda: self.tracking.addresses,
            may_write=may_write,
            clock=self._clock,
            metrics=metrics,
        )
