"""Signs of life in the database, so that the next start knows since when nobody was looking.

A process that is killed cannot say so. The last heartbeat it stored is when the holes of its streams begin.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from src.jobs.stoppable import unless_stopped
from src.models import writes
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.messages import Gap, GapReason
from src.models.streams import StreamKey
from src.models.writes import Insert, Patch, WriteBatch
from src.pipeline.documents import to_date, to_ms
from src.pipeline.identities import hole_id
from src.store.base import Query, Store

log = structlog.get_logger(__name__)

HEARTBEAT_ID = "heartbeat"
INTERVAL_S = 5.0
_FROM_THE_BEGINNING_MS = 0


class LastRun(Struct, frozen=True):
    """What an earlier run left behind: the time (ms) of its last heartbeat, and what it was collecting then."""

    at_ms: int
    streams: frozenset[StreamKey]


class Heartbeat:
    """Stores every few seconds that this process lives and what it collects.

    Args:
        store: where to; only the process that may write to it beats.
        clock: wall time of the heartbeats.
        version: of the program.
        streams: what is collected now.
        file: kept beside the document, for the time in which MongoDB does not answer while the journal does. It
            only counts together with a document of the same run.
        interval_s: between heartbeats; holes after a kill begin at most this much too early.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        version: str,
        streams: Callable[[], Iterable[StreamKey]] = tuple,
        file: Path | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._streams = streams
        self._file = file
        self._interval_s = interval_s
        started_ms = clock.wall_ms()
        self._run = f"{socket.gethostname()}:{os.getpid()}:{started_ms}"
        self._facts = {
            "startedAt": to_date(started_ms),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": version,
            "run": self._run,
        }
        self._told: tuple[StreamKey, ...] | None = None
        self._earlier: LastRun | None = None
        self._looked = False
        self._away = False

    async def last(self) -> LastRun | None:
        """What the run before this one left behind; None where there was none (or none with heartbeats).

        Raises:
            StoreError: MongoDB does not answer.
        """
        query = Query(equals={"_id": HEARTBEAT_ID}, limit=1)
        found = [document async for document in self._store.find(writes.Collection.SCHEMA, query)]
        if not found or found[0].get("run") != self._run:
            self._earlier = await self._read(found[0]) if found else None
        self._looked = True
        return self._earlier

    async def run(self, stopping: asyncio.Event) -> None:
        """Beat until ``stopping``; a MongoDB that is away is waited for in silence."""
        while await unless_stopped(self._beat_if_possible(), stopping):
            await unless_stopped(asyncio.sleep(self._interval_s), stopping)

    async def beat(self) -> None:
        """One heartbeat.

        Raises:
            StoreError: MongoDB does not take it.
        """
        if not self._looked:
            await self.last()
        at_ms = self._clock.wall_ms()
        await self._write_file(at_ms)
        streams = tuple(self._streams())
        values: dict[str, Any] = {"at": to_date(at_ms)}
        first = self._told is None
        if first:
            values.update(self._facts)
        if streams != self._told:
            values["streams"] = [list(stream) for stream in streams]
        groups: list[list[writes.Write]] = [[Patch(writes.Collection.SCHEMA, HEARTBEAT_ID, values)]]
        if first:
            groups.insert(0, [Insert(writes.Collection.SCHEMA, {"_id": HEARTBEAT_ID})])
        result = await self._store.write(WriteBatch(0, groups))
        # A document that somebody removed is not patched; then the next heartbeat is whole again.
        self._told = streams if result.modified or result.inserted else None

    async def _beat_if_possible(self) -> None:
        try:
            await self.beat()
        except StoreError as error:  # the flush tells people; a heartbeat has nothing to add
            if not self._away:
                log.debug("heartbeat_not_stored", error=str(error))
            self._away = True
        else:
            self._away = False

    async def _read(self, document: Mapping[str, Any]) -> LastRun | None:
        at = document.get("at")
        if not isinstance(at, datetime):
            return None
        at_ms = to_ms(at)
        assert at_ms is not None
        streams = frozenset(StreamKey(*names) for names in document.get("streams", ()))
        return LastRun(max(at_ms, await self._read_file(document.get("run"))), streams)

    async def _write_file(self, at_ms: int) -> None:
        if self._file is None:
            return
        body = msgspec.json.encode(_FileBeat(self._run, at_ms))
        try:
            await asyncio.to_thread(_replace, self._file, body)
        except OSError as error:  # a full disk is told by the journal
            log.debug("heartbeat_file_not_written", error=str(error))

    async def _read_file(self, run: object) -> int:
        """The newest heartbeat of ``run`` by the file, 0 where the file knows nothing of it."""
        if self._file is None:
            return 0
        try:
            beat = msgspec.json.decode(await asyncio.to_thread(self._file.read_bytes), type=_FileBeat)
        except (OSError, msgspec.MsgspecError):
            return 0
        return beat.at_ms if beat.run == run else 0


async def find_absences(
    store: Store,
    streams: Iterable[StreamKey],
    *,
    last: LastRun | None,
    open_holes: Collection[StreamKey],
    now_ms: int,
) -> list[Gap]:
    """The holes that have to be opened before these streams are asked for; see `absences`.

    Raises:
        StoreError: MongoDB does not answer.
    """
    wanted = [stream for stream in streams if stream not in open_holes]
    known = await _known_streams(store, wanted)
    return absences(wanted, known=known, last=last, open_holes=open_holes, now_ms=now_ms)


def absences(
    streams: Iterable[StreamKey],
    *,
    known: Collection[StreamKey],
    last: LastRun | None,
    open_holes: Collection[StreamKey],
    now_ms: int,
) -> list[Gap]:
    """Which streams were not seen until now without a hole that says so, and since when.

    Args:
        streams: what is about to be asked for.
        known: those among them that have ever had a hole, thus have been asked for before.
        last: the earlier run; None at a first start, and for streams added while the program runs.
        open_holes: streams whose hole is open already; it stays as it is.
        now_ms: a heartbeat from the future (the clock was set back) counts as from now.

    Returns:
        ``process_down`` from the last heartbeat for what was collected before, ``unsubscribed`` for what was then
        and is not wanted any more, ``not_collected`` from 1970 for what was never asked for.
    """
    wanted = [stream for stream in dict.fromkeys(streams) if stream not in open_holes]
    before = frozenset() if last is None else last.streams
    fresh = tuple(stream for stream in wanted if stream not in known and stream not in before)
    gaps = [Gap(fresh, GapReason.NOT_COLLECTED, _FROM_THE_BEGINNING_MS)] if fresh else []
    if last is None:
        return gaps
    since_ms = min(last.at_ms, now_ms)
    down = tuple(stream for stream in wanted if stream in known or stream in before)
    gone = tuple(sorted(stream for stream in before if stream not in open_holes and stream not in wanted))
    if down:
        gaps.append(Gap(down, GapReason.PROCESS_DOWN, since_ms))
    if gone:
        gaps.append(Gap(gone, GapReason.UNSUBSCRIBED, since_ms))
    return gaps


class _FileBeat(Struct):
    run: str
    at_ms: int


async def _known_streams(store: Store, streams: Iterable[StreamKey]) -> set[StreamKey]:
    """Streams that have a hole, open or not; mostly answered by the one that every stream begins with."""
    by_first = {hole_id(stream, _FROM_THE_BEGINNING_MS): stream for stream in streams}
    query = Query(one_of={"_id": list(by_first)}, fields=("_id",))
    known = {by_first[document["_id"]] async for document in store.find(writes.Collection.COVERAGE, query)}
    for stream in by_first.values():
        if stream not in known:
            one = Query(equals={"stream": str(stream)}, limit=1, fields=("_id",))
            async for _ in store.find(writes.Collection.COVERAGE, one):
                known.add(stream)
    return known


def _replace(file: Path, body: bytes) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(body)
    fresh.replace(file)
