"""Keeps the record of what was seen of Hyperliquid: heartbeats, holes of the time before, repair of holes.

The part that the composition root holds; it wires `Heartbeat`, `Repair` and the venue's REST history to each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from src.config import Settings
from src.jobs.heartbeat import Heartbeat, LastRun, find_absences
from src.jobs.hyperliquid import HyperliquidSource
from src.jobs.hyperliquid_history import HyperliquidHistory
from src.jobs.repair import Repair
from src.jobs.stoppable import unless_stopped
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.messages import GapReason
from src.models.metrics import Metrics
from src.models.streams import StreamKey
from src.pipeline.diff import Diff
from src.pipeline.hub import Hub
from src.pipeline.pipeline import Pipeline
from src.store.base import Store
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weights import WeightBudget

log = structlog.get_logger(__name__)

NEW_STREAMS_EVERY_S = 5.0
HEARTBEAT_FILE = "heartbeat"


class CoverageKeeper:
    """Notes at the start what was missed, and looks it up while the program runs.

    Args:
        settings: where the venue's REST is.
        store: holes, heartbeats and what was looked up.
        source: what is collected.
        diff: knows the open holes.
        pipeline: takes new holes.
        hub: tells of late closes and of holes that ended.
        clock: for everything.
        metrics: for everything.
        version: of the program.
        budget: the weight budget shared by all REST requests from this address; None = one of its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        source: HyperliquidSource,
        diff: Diff,
        pipeline: Pipeline,
        hub: Hub,
        clock: Clock,
        metrics: Metrics,
        version: str,
        budget: WeightBudget | None = None,
    ) -> None:
        self._store = store
        self._source = source
        self._diff = diff
        self._pipeline = pipeline
        self._clock = clock
        proxy = settings.hyperliquid_proxy
        self.rest = HyperliquidRest(
            settings.hyperliquid_api_url,
            clock=clock,
            metrics=metrics,
            budget=budget or WeightBudget(clock=clock),
            proxy=None if proxy is None else proxy.get_secret_value(),
        )
        file = settings.data_dir / HEARTBEAT_FILE if settings.data_dir.is_dir() else None
        self.heartbeat = Heartbeat(store, clock, version=version, streams=source.streams, file=file)
        self.repair = Repair(
            store,
            HyperliquidHistory(self.rest, clock),
            clock,
            metrics,
            fills=settings.hyperliquid_fills,
            publish=hub.publish,
        )
        self._noted: frozenset[StreamKey] = frozenset()
        hub.listen("repair", self.repair.heard)

    async def note_start(self) -> None:
        """Open the holes of the time since the last run; after the open ones were restored. Safe to repeat.

        Raises:
            StoreError: MongoDB does not answer.
        """
        last = await self.heartbeat.last()
        await self._note(self._source.streams(), last)
        if last is not None:
            log.info("last_heartbeat", age_s=round((self._clock.wall_ms() - last.at_ms) / 1000, 1))

    async def note_followed(self, followed: Sequence[str]) -> None:
        """Open the holes of what is asked for the first time, before these traders are followed. Safe to repeat.

        Raises:
            StoreError: MongoDB does not answer.
        """
        await self._note(self._source.streams_with(followed), None)

    def works(self, stopping: asyncio.Event) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """The tasks to supervise until ``stopping``, by name."""
        return [
            ("heartbeat", lambda: self.heartbeat.run(stopping)),
            ("repair", lambda: self.repair.run(stopping)),
            ("new streams", lambda: self._run_new_streams(stopping)),
        ]

    async def close(self) -> None:
        """Let go of the REST connections."""
        await self.rest.close()

    async def _run_new_streams(self, stopping: asyncio.Event) -> None:
        """Note streams that came without a word, as those of another trader feed do."""
        while await unless_stopped(self._note_new_streams(), stopping):
            await unless_stopped(asyncio.sleep(NEW_STREAMS_EVERY_S), stopping)

    async def _note_new_streams(self) -> None:
        try:
            await self._note(self._source.streams(), None)
        except StoreError as error:
            log.debug("new_streams_not_noted", error=str(error))

    async def _note(self, streams: Sequence[StreamKey], last: LastRun | None) -> None:
        fresh = streams if last is not None else [stream for stream in streams if stream not in self._noted]
        if fresh:
            gaps = await find_absences(
                self._store, fresh, last=last, open_holes=self._diff.holes, now_ms=self._clock.wall_ms()
            )
            for gap in gaps:
                self._pipeline.gap(gap)
                if gap.reason is GapReason.PROCESS_DOWN:
                    log.info("unseen_while_down", streams=len(gap.streams), since_ms=gap.at_ms)
        self._noted |= frozenset(fresh)
