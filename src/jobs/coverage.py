"""Keeps the record of what was seen, of all venues: heartbeats, and the holes of the time before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from src.jobs.source import Work
from src.jobs.stoppable import unless_stopped
from src.jobs.writer.heartbeat import Heartbeat, LastRun, find_absences
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.messages import GapReason
from src.models.streams import StreamKey
from src.pipeline.diff import Diff
from src.pipeline.pipeline import Pipeline
from src.store.base import Store

log = structlog.get_logger(__name__)

NEW_STREAMS_EVERY_S = 5.0
HEARTBEAT_FILE = "heartbeat"


class CoverageKeeper:
    """Notes at the start what was missed, and every stream before anything of it can arrive.

    Args:
        store: holes and heartbeats.
        streams: what is asked for now, of all venues.
        diff: knows the open holes.
        pipeline: takes new holes.
        data_dir: keeps a second heartbeat, where there is such a directory.
        clock: for everything.
        version: of the program.
    """

    def __init__(
        self,
        *,
        store: Store,
        streams: Callable[[], Sequence[StreamKey]],
        diff: Diff,
        pipeline: Pipeline,
        data_dir: Path,
        clock: Clock,
        version: str,
    ) -> None:
        self._store = store
        self._streams = streams
        self._diff = diff
        self._pipeline = pipeline
        self._clock = clock
        file = data_dir / HEARTBEAT_FILE if data_dir.is_dir() else None
        self.heartbeat = Heartbeat(store, clock, version=version, streams=streams, file=file)
        self._noted: frozenset[StreamKey] = frozenset()

    async def note_start(self) -> None:
        """Open the holes of the time since the last run; after the open ones were restored. Safe to repeat.

        Raises:
            StoreError: MongoDB does not answer.
        """
        last = await self.heartbeat.last()
        await self._note(self._streams(), last)
        if last is not None:
            log.info("last_heartbeat", age_s=round((self._clock.wall_ms() - last.at_ms) / 1000, 1))

    async def note(self, streams: Sequence[StreamKey]) -> None:
        """Open the holes of what is asked for the first time, before it is asked for. Safe to repeat.

        Raises:
            StoreError: MongoDB does not answer.
        """
        await self._note(streams, None)

    def works(self, stopping: asyncio.Event) -> list[Work]:
        """The tasks to supervise until ``stopping``, by name."""
        return [
            ("heartbeat", lambda: self.heartbeat.run(stopping)),
            ("new streams", lambda: self._run_new_streams(stopping)),
        ]

    async def _run_new_streams(self, stopping: asyncio.Event) -> None:
        """Note streams that came without a word, as those of another trader feed do."""
        while await unless_stopped(self._note_new_streams(), stopping):
            await unless_stopped(asyncio.sleep(NEW_STREAMS_EVERY_S), stopping)

    async def _note_new_streams(self) -> None:
        try:
            await self._note(self._streams(), None)
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
