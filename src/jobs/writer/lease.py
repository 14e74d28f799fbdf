"""One writer per database: who comes second waits, and takes over when the first stops renewing.

The rules and why they are safe stand in `src.jobs.writer.rules`. A fenced writer may have one batch under way when
another takes over; its writes have deterministic keys and versions, so they become either what the new writer stores
anyway or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from src.jobs.stoppable import is_set_within
from src.jobs.writer.rules import (
    GRACE_S,
    LEASE_ID,
    RENEW_S,
    TTL_S,
    Holder,
    LeaseDocument,
    Watch,
    read_lease,
    write_to_renew,
    write_to_take,
)
from src.models.clock import Clock
from src.models.errors import StoreError, StoreFatalError, WriterBusyError, WriterLostError
from src.models.metrics import WRITER_LEASE_HELD, WRITER_LEASE_RENEWAL_FAILURES, Metrics
from src.models.writes import Collection, Write, WriteBatch
from src.store.base import Query, Store

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5
RETRY_S = 1.0
RELEASE_TIMEOUT_S = 2.0

Waiting = Callable[[str], None]


class WriterLease:
    """The right of this process to write to a database.

    Attributes:
        term: number of our tenure, None before the first and after `release`.
        others_wrote: when we got it, the last holder had been another data directory: what a journal of ours still
            holds is older than what that one stored.
        lost: set when another program took over; for good.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        holder: Holder,
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
        metrics: Metrics | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            store: prepared or not; only the ``schema`` collection is used.
            clock: its monotonic reading decides, its wall reading is only noted for people.
            holder: who we are.
            ttl_s: how long a renewal lasts; the same for all programs on one database.
            renew_s: time between renewals.
            metrics: where to count.
        """
        self._store = store
        self._clock = clock
        self._holder = holder
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._metrics = metrics or Metrics()
        self._watch = Watch(holder, patience_s=ttl_s + GRACE_S, longest_gap_s=ttl_s / 2)
        self._beat = 0
        self._renewed_s = float("-inf")
        self._asking = asyncio.Lock()
        self._owner = ""
        self._error = ""
        self._paused = False
        self.term: int | None = None
        self.others_wrote = False
        self.lost = asyncio.Event()

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether a batch may be offered now: the last renewal that succeeded began less than ``ttl_s`` ago."""
        if self.term is None or self.lost.is_set():
            return False
        return self._clock.monotonic() - self._renewed_s < self._ttl_s

    @property
    def trouble(self) -> str:
        """Why nothing is written although we hold a term, for people; empty when all is well."""
        if self.lost.is_set():
            return "another collector has taken over the writing; this one stops"
        if self.term is None or self.is_held:
            return ""
        away_s = self._clock.monotonic() - self._renewed_s
        return f"not confirmed by MongoDB for {away_s:.0f} s, collecting goes on, nothing is written: {self._error}"

    # -- getting it ------------------------------------------------------------------------------------------------

    async def acquire(self, stopping: asyncio.Event, waiting: Waiting) -> bool:
        """Wait until we may write.

        Args:
            stopping: ends the wait.
            waiting: told a text for people whenever it changes; empty when the wait is over.

        Returns:
            False when stopped before, or when the lease had been held and is lost.

        Raises:
            StoreFatalError: MongoDB refuses for good.
        """
        while not stopping.is_set() and not self.lost.is_set():
            if await self._attempt(waiting):
                waiting("")
                return True
            await is_set_within(stopping, LOOK_EVERY_S)
        return False

    async def acquire_unless_alive(self) -> None:
        """Take the lease when it is free or abandoned; for commands.

        Raises:
            WriterBusyError: somebody writes to this database.
            StoreError: MongoDB is away.
        """
        while not await self._look():
            if self._watch.is_alive:
                raise WriterBusyError(f"another program writes to this database ({self._owner})")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _attempt(self, waiting: Waiting) -> bool:
        try:
            if self.term is not None:  # had it already when the start had to be repeated
                return await self.renew()
            if await self._look():
                return True
        except StoreFatalError:
            raise
        except StoreError as error:
            self._watch.not_seen()
            waiting(f"waiting for MongoDB: {error}")
        else:
            waiting(f"waiting: another collector writes ({self._owner}); taking over when it stops renewing")
        return False

    async def _look(self) -> bool:
        """One look at the lease, and one attempt to take it where that is allowed."""
        seen = await self._read()
        if self._watch.may_take(seen, self._clock.monotonic()):
            return await self._take(seen)
        if seen is not None and seen.owner != self._owner:
            self._owner = seen.owner
            log.warning("another_writer", host=seen.host, pid=seen.pid, since=str(seen.since), action="waiting")
        return False

    async def _take(self, seen: LeaseDocument | None) -> bool:
        began_s = self._clock.monotonic()
        if seen is None or seen.run != self._holder.run:  # else: an attempt of ours whose answer was lost
            self.others_wrote = seen is not None and (seen.id, seen.host) != (self._holder.id, self._holder.host)
        if not await self._changed(write_to_take(seen, self._holder, self._now())):
            return False
        self.term, self._beat = (1 if seen is None else seen.term + 1), 0
        self._note_renewed(began_s)
        log.info("writing_allowed", term=self.term, taken_over=bool(seen and not seen.released))
        return True

    # -- keeping it ------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Renew what we hold until ``stopping`` or until it is `lost`; does nothing before it was acquired."""
        while not stopping.is_set() and not self.lost.is_set():
            pause_s = self._renew_s if self.is_held and not self._error else RETRY_S
            if await is_set_within(stopping, pause_s) or self.term is None:
                continue
            try:
                await self.renew()
            except StoreError as error:
                self._note_failure(error)

    async def renew(self) -> bool:
        """Prove once that the lease is still ours; returns whether it is held now.

        Raises:
            StoreError: MongoDB did not answer: nothing is known.
        """
        async with self._asking:
            if self.term is None or self.lost.is_set():
                return False
            began_s = self._clock.monotonic()
            self._beat += 1  # also after a failure: the attempt may have arrived
            renewal = write_to_renew(self.term, self._beat, self._holder, self._now())
            if await self._changed(renewal) or await self._put_back():
                self._note_renewed(began_s)
            return self.is_held

    async def release(self) -> None:
        """Give it back after the last write, so that who waits takes over at once; never raises for MongoDB."""
        async with self._asking:
            held, term, self.term = self.is_held, self.term, None
            self._metrics.put(WRITER_LEASE_HELD, value=0)
            if term is None or self.lost.is_set():
                return
            error = self._error or "MongoDB has not confirmed it"
            if held:
                returned = write_to_renew(term, self._beat + 1, self._holder, self._now(), released=True)
                try:
                    await asyncio.wait_for(self._changed(returned), RELEASE_TIMEOUT_S)
                except (StoreError, TimeoutError) as failure:
                    error = str(failure) or "no answer in time"
                else:
                    return
            log.warning("lease_not_released", error=error, effect="it ends by itself")

    async def _put_back(self) -> bool:
        """After a renewal without effect: put a removed document back, or find that the lease is `lost`.

        A read that shows it as ours proves nothing (a replica set may answer from the past); the next renewal does.
        """
        seen = await self._read()
        if seen is None:
            if await self._changed(write_to_take(None, self._holder, self._now())):
                log.warning("lease_document_was_removed", action="put back")
                self.term, self._beat = 1, 0
                return True
        elif (seen.term, seen.run) != (self.term, self._holder.run):
            self._metrics.put(WRITER_LEASE_HELD, value=0)
            self.lost.set()
        return False

    # -- what is said ----------------------------------------------------------------------------------------------

    def _note_renewed(self, began_s: float) -> None:
        self._renewed_s = began_s
        self._error = ""
        self._metrics.put(WRITER_LEASE_HELD, value=1)
        if self._paused:
            self._paused = False
            log.info("writing_resumed", term=self.term)

    def _note_failure(self, error: StoreError) -> None:
        self._metrics.add(WRITER_LEASE_RENEWAL_FAILURES)
        self._error = str(error)
        if not self.is_held and not self._paused:
            self._paused = True
            self._metrics.put(WRITER_LEASE_HELD, value=0)
            log.warning("writing_paused", error=str(error), effect="changes wait until MongoDB confirms the lease")

    # -- the database ----------------------------------------------------------------------------------------------

    async def _read(self) -> LeaseDocument | None:
        query = Query(equals={"_id": LEASE_ID}, limit=1)
        async for document in self._store.find(Collection.SCHEMA, query):
            return read_lease(document)
        return None

    async def _changed(self, write: Write) -> bool:
        result = await self._store.write(WriteBatch(0, [[write]]))
        return bool(sum(result.inserted.values()) + sum(result.modified.values()))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ms() / 1000, tz=UTC)


@asynccontextmanager
async def writing(lease: WriterLease) -> AsyncIterator[None]:
    """For commands that write: take the lease unless somebody writes, keep it for the block, give it back.

    Raises:
        WriterBusyError: somebody writes to this database.
        WriterLostError: another program took over meanwhile; the block was ended.
        StoreError: MongoDB is away.
    """
    await _acquire_or_leave_nothing(lease)
    block, over = asyncio.current_task(), asyncio.Event()
    keeping = asyncio.create_task(lease.run(over), name="lease")
    assert block is not None
    keeping.add_done_callback(lambda _: None if over.is_set() else block.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if not lease.lost.is_set():
            raise
        block.uncancel()
        raise WriterLostError("another program has taken over the writing to this database") from None
    finally:
        over.set()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await lease.release()


async def _acquire_or_leave_nothing(lease: WriterLease) -> None:
    """Acquire; whoever is interrupted meanwhile gives back what MongoDB granted at that very moment."""
    acquiring = asyncio.create_task(lease.acquire_unless_alive(), name="lease acquisition")
    try:
        await asyncio.shield(acquiring)
    except asyncio.CancelledError:
        await asyncio.wait([acquiring], timeout=RELEASE_TIMEOUT_S)
        acquiring.cancel()
        with contextlib.suppress(asyncio.CancelledError, StoreError, WriterBusyError):
            await acquiring
        await lease.release()
        raise
