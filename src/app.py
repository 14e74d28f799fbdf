"""The composition root: from settings to running parts, and the order in which they stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import structlog
from msgspec import Struct

from src import __version__
from src.api.app import create_app
from src.api.server import serve
from src.config import Settings
from src.jobs.candles import CandleJob
from src.jobs.coverage import CoverageKeeper
from src.jobs.hyperliquid import HyperliquidSource, Pace
from src.jobs.instance import this_holder
from src.jobs.lease import WriterLease
from src.jobs.lease_rules import Holder
from src.jobs.status import ProgramStatus, RunState
from src.jobs.tracking import Tracking, TraderRegistry, discover_until_found, seed
from src.jobs.writer_role import EXIT_FENCED, WriterRole
from src.logs import RepeatLimiter
from src.models.changes import Change, TradeSeen
from src.models.clock import Clock
from src.models.errors import ConfigurationError, StoreError, StoreFatalError
from src.models.messages import Gap, GapReason, Refusal
from src.models.metrics import Metrics
from src.models.streams import Subscription
from src.models.writes import Collection
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff, Kinds
from src.pipeline.durability import Durability
from src.pipeline.flush import Flusher
from src.pipeline.hub import Hub
from src.pipeline.journal import Journal
from src.pipeline.pending import Pending
from src.pipeline.pipeline import Pipeline
from src.pipeline.restore import restore_holes, restore_traders, roll_forward
from src.pipeline.superseded import SupersededSieve
from src.pipeline.supervise import TaskDiedTooOftenError, supervise
from src.stopping import Stop
from src.store.base import ServerFacts, Store
from src.store.embedded import EmbeddedServer, open_embedded
from src.store.lockfile import DataDirectoryLock
from src.store.mongo import MongoStore
from src.venues.clock import SystemClock

log = structlog.get_logger(__name__)

TASKS_STOP_S = 5.0
"""How long tasks may take to notice the stop before they are cancelled."""

STORE_RETRY_S = 2.0
STORE_WAIT_TOLD_EVERY_S = 30.0
LAST_CANDLES_S = 2.0
FLUSH_BEFORE_RESTORE_S = 10.0
LAST_TRY_S = 5.0
JOURNAL_DIRECTORY = "journal"
HTTP_STOP_S = 2.0
EMBEDDED_STOP_S = 6.0
"""Set aside for the embedded server's own clean stop."""

LEAVING_S = 1.0
"""What remains to be done when the embedded server has gone."""

EXIT_OK = 0
EXIT_UNSTORED = 1


class Core(Struct, frozen=True):
    """The parts of the pipeline, wired to each other."""

    buffer: Buffer
    diff: Diff
    hub: Hub
    pending: Pending
    flusher: Flusher
    pipeline: Pipeline


def build_core(
    settings: Settings,
    *,
    store: Store,
    metrics: Metrics,
    clock: Clock,
    journal: Journal | None = None,
    gate: Callable[[], bool] | None = None,
) -> Core:
    """Buffer, diff, hub, pending, flush and the pipeline over them; ``gate`` as in `Flusher`."""
    buffer = Buffer(settings.trader_ws_message_buffer_size, metrics=metrics)
    kinds = Kinds(orders=settings.trader_orders_ws_enabled, positions=settings.trader_positions_ws_enabled)
    diff = Diff(metrics=metrics, kinds=kinds)
    hub = Hub(metrics=metrics)
    pending = Pending(settings.pending_writes_limit, clock=clock, metrics=metrics, journal=journal)
    flusher = Flusher(
        store=store,
        pending=pending,
        metrics=metrics,
        clock=clock,
        interval_s=settings.trader_orders_ws_flush_interval,
        gate=gate,
    )
    pipeline = Pipeline(
        buffer=buffer,
        diff=diff,
        hub=hub,
        pending=pending,
        flusher=flusher,
        metrics=metrics,
        clock=clock,
        drain_interval_s=settings.diff_interval,
    )
    return Core(buffer, diff, hub, pending, flusher, pipeline)


@asynccontextmanager
async def open_database(
    settings: Settings, *, shared: bool
) -> AsyncIterator[tuple[MongoStore, EmbeddedServer | None]]:
    """The store the settings ask for, not prepared yet; an embedded server lives as long as the block.

    Args:
        settings: where to write.
        shared: join the embedded server of a running program instead of insisting on the data directory.

    Raises:
        DataDirectoryBusyError: another program runs on this data directory (and ``shared`` is False).
        EmbeddedServerError: there is no mongod for this machine, or it does not start.
    """
    keep_days = {
        Collection.ORDERBOOK_SNAPSHOTS: settings.orderbook_snapshot_days,
        Collection.DEAD_LETTERS: settings.dead_letter_days,
    }
    async with AsyncExitStack() as stack:
        embedded: EmbeddedServer | None = None
        uri = settings.mongodb_uri.get_secret_value()
        if not uri:
            embedded = await stack.enter_async_context(
                open_embedded(settings.data_dir, cache_gib=settings.mongodb_cache_gb, shared=shared)
            )
            uri = embedded.uri
        elif not shared:
            stack.enter_context(DataDirectoryLock(settings.data_dir))
        store = MongoStore(uri, settings.mongodb_database, timeout_s=settings.mongodb_timeout_s, keep_days=keep_days)
        stack.push_async_callback(store.close)
        yield store, embedded


@contextmanager
def open_journal(settings: Settings) -> Iterator[Journal | None]:
    """The journal below ``DATA_DIR``, None when it is switched off. The data directory must be locked already.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    if not settings.journal_enabled:
        yield None
        return
    directory = settings.data_dir / JOURNAL_DIRECTORY
    journal = Journal(
        directory, limit_bytes=settings.journal_limit_mb * 1024 * 1024, sync_always=settings.journal_fsync_s == 0
    )
    try:
        journal.open()
    except OSError as error:
        raise ConfigurationError(
            f"the journal in {directory} cannot be used: {error}; free space there, make it writable, "
            "or set JOURNAL_ENABLED=false"
        ) from error
    try:
        yield journal
    finally:
        try:
            journal.close()
        except OSError as error:
            log.error("journal_not_closed", error=str(error))  # noqa: TRY400 - no trace needed


class Start(Struct, frozen=True):
    """What a person wants to know when the program has started: where to look, where it stores, whom it follows."""

    url: str
    facts: ServerFacts
    followed: int


class Collector:
    """One running program: everything between the venue and MongoDB, and who looks at it."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        stop: Stop,
        clock: Clock,
        metrics: Metrics,
        pace: Pace | None = None,
        journal: Journal | None = None,
        holder: Holder | None = None,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._store = store
        self._stop = stop
        self._clock = clock
        self._metrics = metrics
        self._state = RunState()
        self._role = WriterRole(
            WriterLease(store, clock, holder=holder or this_holder(None), metrics=metrics),
            state=self._state,
            stopping=stop.event,
            on_fault=self._stop_because_of,
            clock=clock,
            metrics=metrics,
        )
        self._core = build_core(
            settings, store=store, metrics=metrics, clock=clock, journal=journal, gate=self._role.may_write
        )
        self._hyperliquid = (
            HyperliquidSource(settings, sink=self._core.pipeline, clock=clock, metrics=metrics, pace=pace)
            if settings.hyperliquid_enabled
            else None
        )
        self._coverage = (
            None
            if self._hyperliquid is None
            else CoverageKeeper(
                settings,
                store=store,
                source=self._hyperliquid,
                diff=self._core.diff,
                pipeline=self._core.pipeline,
                hub=self._core.hub,
                clock=clock,
                metrics=metrics,
                version=__version__,
            )
        )
        self._candles = CandleJob(store, clock, metrics=metrics)
        self._died = False
        self._registry = TraderRegistry(store, clock, metrics)
        self._tracking = Tracking(self._registry, clock=clock, on_change=self._follow, looks=self._core.diff.looks)
        self._tracking.is_active = False  # until nobody else writes: what is restored before would be outdated
        self.status = ProgramStatus(
            state=self._state,
            pipeline=self._core.pipeline,
            flusher=self._core.flusher,
            diff=self._core.diff,
            journal=journal,
            source=self._hyperliquid,
            metrics=metrics,
            clock=clock,
            version=__version__,
        )
        self._core.pipeline.on_refused = self._on_refused
        self._core.hub.listen("candles", self._touch_candles)
        stop.unstored = lambda: len(self._core.pending)

    async def run(self, announce: Callable[[Start], None]) -> int:
        """Collect until the stop; returns the exit code."""
        settings = self._settings
        app = create_app(
            status=self.status,
            store=self._store,
            metrics=self._metrics,
            traders=self._tracking if settings.trader_ws_enabled and self._hyperliquid else None,
            token=settings.api_token,
            allowed_origins=settings.allowed_origins,
            clock=self._clock,
            version=__version__,
        )
        serving = serve(app, settings.http_host, settings.http_port, stop_timeout_s=HTTP_STOP_S)
        async with serving as address, self._role.kept():
            facts = await self._prepare_store(address)
            if facts is None:
                return self._exit_code(0)
            announce(Start(address, facts, len(self._tracking.addresses)))
            self._state.phase = "running"
            async with self._mongod_kept_alive():
                await self._run_tasks()
                left = await self._finish()
                self._role.gives_back = not left
        if self._stop.embedded is not None:
            self._stop.embedded.leave_by = self._stop.ends_at - LEAVING_S
        return self._exit_code(left)

    def _exit_code(self, left: int) -> int:
        if self._role.is_lost:
            return EXIT_FENCED
        return EXIT_UNSTORED if left or self._died else EXIT_OK

    # -- life ------------------------------------------------------------------------------------------------------

    async def _prepare_store(self, address: str) -> ServerFacts | None:
        """Wait for MongoDB, then read back what was known; None when stopped meanwhile."""
        limiter = RepeatLimiter(self._clock, interval_s=STORE_WAIT_TOLD_EVERY_S)
        while not self._stop.event.is_set():
            try:
                facts = await self._store.prepare()
                if not await self._become_writer():
                    return None
                await self._store_journal()
                await roll_forward(self._store)
                await restore_holes(self._store, self._core.diff)
                await self._first_traders()
                if self._coverage is not None:
                    await self._coverage.note_start()
            except StoreFatalError:
                raise
            except StoreError as error:
                self._state.phase, self._state.database_error = "waiting for MongoDB", str(error)
                limiter.log(log, "warning", "waiting_for_mongodb", error=str(error), health=f"{address}/health")
                await _set_within(self._stop.event, STORE_RETRY_S)
            else:
                self._state.database, self._state.topology = facts.uri, f"{facts.version} {facts.topology}"
                self._state.database_error = ""
                return facts
        return None

    async def _become_writer(self) -> bool:
        """Wait until no other collector writes to this database; False when stopped meanwhile."""
        self._tracking.is_active = await self._role.become_writer()
        return self._tracking.is_active

    async def _store_journal(self) -> None:
        """Store what an earlier run left in the journal before anything is read back.

        Raises:
            StoreError: MongoDB went away meanwhile.
        """
        core = self._core
        if len(core.pending):
            log.info("journal_found", changes=len(core.pending), action="storing them first")
        if self._role.others_wrote:
            core.flusher.sieve = SupersededSieve(self._store, self._metrics)
        while len(core.pending) and not self._stop.event.is_set():
            if not await core.flusher.flush_once():
                outage = core.flusher.outage
                raise StoreError(outage.error if outage else core.pending.journal_error or "not stored")
        core.flusher.sieve = None

    async def _first_traders(self) -> None:
        if self._settings.trader_ws_enabled:
            await seed(self._registry, self._settings.hyperliquid_traders)
            await self._tracking.refresh()

    async def _run_tasks(self) -> None:
        """Run every supervised task until the stop, or until one of them has died too often."""
        if self._hyperliquid is not None:
            self._hyperliquid.follow(self._hyperliquid.followed)
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in self._works():
                    supervised = supervise(name, work, metrics=self._metrics, clock=self._clock)
                    tasks.append(group.create_task(supervised, name=name))
                await self._stop.event.wait()
                self._begin_stop()
                await self._stop_collecting(tasks)
        except* TaskDiedTooOftenError as errors:
            self._stop_because_of(errors.exceptions[0])
            self._begin_stop()

    def _begin_stop(self) -> None:
        self._state.phase = "stopping"
        self._stop.begin(self._settings.shutdown_timeout)

    def _stop_because_of(self, error: BaseException) -> None:
        self._died = True
        self._stop.event.set()
        log.error("stopping_because_of_a_fault", error=str(error))

    @asynccontextmanager
    async def _mongod_kept_alive(self) -> AsyncIterator[None]:
        """Start the embedded server again whenever it dies, also during the stop: there is something to store."""
        embedded = self._stop.embedded
        if embedded is None:
            yield
            return
        work = supervise("mongod", lambda: _keep_alive(embedded), metrics=self._metrics, clock=self._clock)
        task = asyncio.create_task(work, name="mongod")
        task.add_done_callback(self._on_mongod_given_up)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _on_mongod_given_up(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stop_because_of(error)

    def _works(self) -> Sequence[tuple[str, Callable[[], Awaitable[None]]]]:
        stopping, core, settings = self._stop.event, self._core, self._settings
        works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("flush", lambda: core.flusher.run(stopping)),
            ("drain", lambda: core.pipeline.run_drain(stopping)),
            ("candles", lambda: self._candles.run(stopping)),
        ]
        if self._journal is not None:
            durability = Durability(self._journal, metrics=self._metrics, interval_s=settings.journal_fsync_s)
            works.append(("journal", lambda: durability.run(stopping)))
        if self._hyperliquid is not None:
            works.append(("hyperliquid", self._hyperliquid.pool.run))
        if self._coverage is not None:
            works.extend(self._coverage.works(stopping))
        if self._hyperliquid is not None and settings.trader_ws_enabled:
            works.append(("traders", lambda: self._tracking.run(stopping)))
            works.append(("leaderboard", lambda: self._discover(stopping)))
        if settings.status_line_interval > 0 and sys.stdout.isatty():
            works.append(("status line", lambda: self._print_status(stopping)))
        return works

    async def _stop_collecting(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Close the connections, let tasks end, cancel what does not."""
        if self._hyperliquid is not None:
            streams = self._hyperliquid.streams()
            await self._hyperliquid.pool.close()
            if not self._role.is_lost:  # else another collector sees them
                self._core.pipeline.gap(Gap(streams, GapReason.PROCESS_DOWN, self._clock.wall_ms()))
        _, late = await asyncio.wait(tasks, timeout=TASKS_STOP_S)
        for task in late:
            task.cancel()

    async def _finish(self) -> int:
        """Store what is pending within what is left of the stop's time; returns what could not be stored."""
        reserve_s = HTTP_STOP_S + (EMBEDDED_STOP_S if self._stop.embedded is not None else 0.0)
        timeout_s = max(1.0, self._stop.time_left_s() - reserve_s)
        if self._journal is not None and self._core.flusher.outage is not None:
            timeout_s = min(timeout_s, LAST_TRY_S)  # nothing is lost by leaving
        fenced = self._role.is_lost
        left = await self._core.pipeline.finish(0.0 if fenced else timeout_s)
        if self._coverage is not None:
            await self._coverage.close()
        if not left and not fenced:
            await self._last_candles()
        self._say_goodbye(left)
        return left

    def _say_goodbye(self, left: int) -> None:
        """The last line: what could not be stored, and where it is."""
        pending, journal = self._core.pending, self._journal
        if not left:
            log.info("stopped", changes_not_stored=0)
        elif journal is not None and not pending.journal_error:
            log.warning(
                "stopped",
                changes_left_in_journal=left,
                journal=str(self._settings.data_dir / JOURNAL_DIRECTORY),
                journal_bytes=journal.size_bytes,
                hint="the next start stores them first",
            )
        else:
            log.error("stopped", changes_not_stored=left)

    async def _last_candles(self) -> None:
        """Complete the candles of the last minute, which the last flush may have given trades."""
        try:
            await asyncio.wait_for(self._candles.compute(last=True), LAST_CANDLES_S)
        except (StoreError, TimeoutError) as error:
            log.info("last_candles_left_to_next_start", error=str(error))

    # -- traders ---------------------------------------------------------------------------------------------------

    async def _follow(self, wanted: Sequence[str]) -> None:
        """Follow exactly these traders: what is stored of new ones is loaded before their first message."""
        if self._hyperliquid is None:
            return
        before = set(self._hyperliquid.followed)
        added, removed = [address for address in wanted if address not in before], before - set(wanted)
        if added:
            await self._flush_before_restore()
        await restore_traders(self._store, self._core.diff, added, self._clock.wall_ms())
        if self._coverage is not None:
            await self._coverage.note_followed(wanted)
        self._hyperliquid.follow(wanted)
        self._core.pipeline.drain()
        for address in removed:
            self._core.diff.forget(address)
        log.info("traders_followed", count=len(wanted), added=len(added), removed=len(removed))

    async def _flush_before_restore(self) -> None:
        """What is pending of a trader who comes back has to be stored before it is read.

        Raises:
            StoreError: MongoDB does not take it now; the next look at the traders tries again.
        """
        self._core.pipeline.drain()
        try:
            await asyncio.wait_for(self._core.flusher.drain(), FLUSH_BEFORE_RESTORE_S)
        except TimeoutError as error:
            raise StoreError("changes of before could not be stored in time") from error

    def _on_refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        if self._hyperliquid is not None and self._hyperliquid.on_refused(refusal, failed):
            self._core.pipeline.replaced(self._hyperliquid.replaced_streams())

    async def _discover(self, stopping: asyncio.Event) -> None:
        assert self._hyperliquid is not None
        count = self._settings.hyperliquid_max_users
        await discover_until_found(self._registry, self._hyperliquid.discover, count, stopping)
        await self._tracking.refresh()

    # -- listeners -------------------------------------------------------------------------------------------------

    def _touch_candles(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, TradeSeen):
                self._candles.touched(change.trade)

    async def _print_status(self, stopping: asyncio.Event) -> None:
        while not await _set_within(stopping, self._settings.status_line_interval):
            sys.stdout.write(self.status.line() + "\n")
            sys.stdout.flush()


async def run_collector(settings: Settings, *, announce: Callable[[Start], None]) -> int:
    """Run the program until SIGINT or SIGTERM; returns the exit code.

    Raises:
        CollectorError: it could not start; the text says what to do.
    """
    stop = Stop()
    stop.install()
    for notice in settings.notices:
        log.warning("setting_notice", text=notice)
    stop.opening = asyncio.current_task()
    try:
        async with open_database(settings, shared=False) as (store, embedded):
            stop.opening, stop.embedded = None, embedded
            with open_journal(settings) as journal:
                collector = Collector(
                    settings,
                    store=store,
                    stop=stop,
                    clock=SystemClock(),
                    metrics=Metrics(),
                    journal=journal,
                    holder=this_holder(settings.data_dir),
                )
                return await collector.run(announce)
    except asyncio.CancelledError:
        if not stop.event.is_set():
            raise
        log.info("stopped", changes_not_stored=0)  # before there was anything to store
        return EXIT_OK


async def _keep_alive(embedded: EmbeddedServer) -> None:
    """Start the embedded server again whenever it dies, until cancelled."""
    while True:
        await embedded.died.wait()
        await embedded.restart()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
