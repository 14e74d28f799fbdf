"""The composition root: from settings to running parts, and the order in which they stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from msgspec import Struct

from src import __version__
from src.api.app import create_app
from src.api.server import serve
from src.config import Settings
from src.core import build_core
from src.jobs.alpaca.source import AlpacaSource
from src.jobs.candles.candles import CandleJob
from src.jobs.coverage import CoverageKeeper
from src.jobs.futu import FutuSource
from src.jobs.hyperliquid.source import Pace
from src.jobs.order_books.orderbooks import OrderBookJobs
from src.jobs.order_books.outside_books import OutsideBooks
from src.jobs.repair.trade_gaps import TradeGaps
from src.jobs.source import Source, Work
from src.jobs.sources import Sources
from src.jobs.status import ProgramStatus, RunState
from src.jobs.stockbit.source import StockbitSource, TradingHours
from src.jobs.stoppable import is_set_within
from src.jobs.writer.instance import this_holder
from src.jobs.writer.lease import WriterLease
from src.jobs.writer.role import EXIT_FENCED, WriterRole
from src.jobs.writer.rules import Holder
from src.live import LiveSide
from src.logs import RepeatLimiter
from src.models.changes import Change, TradeSeen
from src.models.clock import Clock
from src.models.errors import StoreError, StoreFatalError
from src.models.messages import Gap, GapReason
from src.models.metrics import Metrics
from src.models.streams import StreamKey
from src.opening import JOURNAL_DIRECTORY, open_database, open_journal
from src.pipeline.durability import Durability
from src.pipeline.journal import Journal
from src.pipeline.restore import restore_holes, roll_forward
from src.pipeline.superseded import SupersededSieve
from src.pipeline.supervise import TaskDiedTooOftenError, supervise
from src.stopping import Stop
from src.store.base import ServerFacts, Store
from src.store.embedded import EmbeddedServer
from src.traders import TraderSide
from src.venues.clock import SystemClock
from src.venues.idx.calendar import IdxCalendar
from src.venues.idx.holidays import load_holidays

log = structlog.get_logger(__name__)

TASKS_STOP_S = 5.0
"""How long tasks may take to notice the stop before they are cancelled."""

STORE_RETRY_S = 2.0
STORE_WAIT_TOLD_EVERY_S = 30.0
LAST_CANDLES_S = 2.0
LAST_STATES_S = 3.0
LAST_STATES_MS = 300_000
LAST_TRY_S = 5.0
HTTP_STOP_S = 2.0
EMBEDDED_STOP_S = 6.0
"""Set aside for the embedded server's own clean stop."""

LEAVING_S = 1.0
"""What remains to be done when the embedded server has gone."""

EXIT_OK = 0
EXIT_UNSTORED = 1


class Start(Struct, frozen=True):
    """What a person wants to know when the program has started: where to look, where it stores, what it collects."""

    url: str
    facts: ServerFacts
    followed: int
    collecting: tuple[str, ...] = ()


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
        hours: TradingHours | None = None,
    ) -> None:
        """Wire the parts; nothing is opened yet.

        Args:
            settings: what to do.
            store: where to, not prepared yet.
            stop: ends the run.
            clock: for everything.
            metrics: for everything.
            pace: waiting times of Hyperliquid other than the usual ones.
            journal: open; None = changes wait in memory.
            holder: who we are to other collectors on the database.
            hours: of a simulated exchange; None = those of IDX.

        Raises:
            ConfigurationError: the holidays file is not understood.
        """
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
        self._calendar = IdxCalendar(load_holidays(settings.idx_holidays_file))
        self._traders = (
            TraderSide(
                settings,
                store=store,
                core=self._core,
                note=self._note_streams,
                may_write=self._role.may_write,
                clock=clock,
                metrics=metrics,
                pace=pace,
            )
            if settings.hyperliquid_enabled
            else None
        )
        self._stockbit = StockbitSource(
            settings, sink=self._core.pipeline, hours=hours or self._calendar, clock=clock, metrics=metrics
        )
        self._alpaca = AlpacaSource(settings, sink=self._core.pipeline, clock=clock, metrics=metrics)
        self.sources = Sources(self._make_sources())
        self._stock_gaps = TradeGaps(
            store,
            self._alpaca.past,
            clock,
            metrics,
            publish=self._core.hub.publish,
            delay_ms=self._alpaca.delay_ms,
        )
        self._coverage = CoverageKeeper(
            store=store,
            streams=self.sources.streams,
            diff=self._core.diff,
            pipeline=self._core.pipeline,
            data_dir=settings.data_dir,
            clock=clock,
            version=__version__,
        )
        self._candles = CandleJob(store, clock, metrics=metrics)
        self._died = False
        self._live = LiveSide(
            settings,
            sources=tuple(self.sources),
            hub=self._core.hub,
            pipeline=self._core.pipeline,
            clock=clock,
            metrics=metrics,
            is_collecting=self._is_collecting,
        )
        self._orderbooks = OrderBookJobs(
            settings,
            store=store,
            hub=self._core.hub,
            upstream=self._live.live,
            sources=self.sources,
            calendar=self._calendar,
            clock=clock,
            metrics=metrics,
        )
        self.status = self._make_status()
        if self._traders is not None:
            self._core.pipeline.on_refused = self._traders.on_refused
        self._core.hub.listen("candles", self._touch_candles)
        if not self._alpaca.off:
            self._core.hub.listen("stock gaps", self._stock_gaps.heard)
        stop.unstored = lambda: len(self._core.pending)

    async def run(self, announce: Callable[[Start], None]) -> int:
        """Collect until the stop; returns the exit code."""
        settings = self._settings
        serving = serve(
            self._make_http(),
            settings.http_host,
            settings.http_port,
            stop_timeout_s=HTTP_STOP_S,
            socket_of=self._live.socket_of,
        )
        async with serving as address, self._live.kept(self._stop_because_of), self._role.kept():
            facts = await self._prepare_store(address)
            if facts is None:
                return self._exit_code(0)
            announce(Start(address, facts, self._followed(), tuple(one.venue for one in self.sources.collecting)))
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
                if self._traders is not None:
                    await self._traders.restore()
                await self._coverage.note_start()
            except StoreFatalError:
                raise
            except StoreError as error:
                self._state.phase, self._state.database_error = "waiting for MongoDB", str(error)
                limiter.log(log, "warning", "waiting_for_mongodb", error=str(error), health=f"{address}/health")
                await is_set_within(self._stop.event, STORE_RETRY_S)
            else:
                self._state.database, self._state.topology = facts.uri, f"{facts.version} {facts.topology}"
                self._state.database_error = ""
                return facts
        return None

    async def _become_writer(self) -> bool:
        """Wait until no other collector writes to this database; False when stopped meanwhile."""
        may_write = await self._role.become_writer()
        if self._traders is not None:
            self._traders.tracking.is_active = may_write
        return may_write

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

    async def _run_tasks(self) -> None:
        """Run every supervised task until the stop, or until one of them has died too often."""
        if self._traders is not None:
            self._traders.begin()
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
            await self.sources.close()  # their tasks were cancelled, which does not let go of everything

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

    def _works(self) -> Sequence[Work]:
        stopping, core, settings = self._stop.event, self._core, self._settings
        works: list[Work] = [
            ("flush", lambda: core.flusher.run(stopping)),
            ("drain", lambda: core.pipeline.run_drain(stopping)),
            ("candles", lambda: self._candles.run(stopping)),
        ]
        if self._journal is not None:
            durability = Durability(self._journal, metrics=self._metrics, interval_s=settings.journal_fsync_s)
            works.append(("journal", lambda: durability.run(stopping)))
        works.extend(self.sources.works(stopping))
        works.extend(self._coverage.works(stopping))
        works.extend(self._orderbooks.works(stopping))
        if not self._alpaca.off:
            works.append(("stock gaps", lambda: self._stock_gaps.run(stopping)))
        if self._traders is not None:
            works.extend(self._traders.works(stopping))
        if settings.status_line_interval > 0 and sys.stdout.isatty():
            works.append(("status line", lambda: self._print_status(stopping)))
        return works

    async def _stop_collecting(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Close the connections, let tasks end, cancel what does not."""
        streams = self.sources.streams()
        await self.sources.close()
        if streams and not self._role.is_lost:  # else another collector sees them
            self._core.pipeline.gap(Gap(streams, GapReason.PROCESS_DOWN, self._clock.wall_ms()))
        _, late = await asyncio.wait(tasks, timeout=TASKS_STOP_S)
        for task in late:
            task.cancel()

    async def _finish(self) -> int:
        """Store what is pending within what is left of the stop's time; returns what could not be stored."""
        self._core.pipeline.drain()
        await self._orderbooks.finish(stored=not self._role.is_lost)
        reserve_s = HTTP_STOP_S + (EMBEDDED_STOP_S if self._stop.embedded is not None else 0.0)
        timeout_s = max(1.0, self._stop.time_left_s() - reserve_s)
        if self._journal is not None and self._core.flusher.outage is not None:
            timeout_s = min(timeout_s, LAST_TRY_S)  # nothing is lost by leaving
        fenced = self._role.is_lost
        left = await self._core.pipeline.finish(0.0 if fenced else timeout_s)
        if not left and not fenced:
            await self._last_states()
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

    async def _last_states(self) -> None:
        """Give their states to events from the history whose writing was given up, or cut by an outage."""
        since_ms = self._clock.wall_ms() - LAST_STATES_MS
        try:
            await asyncio.wait_for(roll_forward(self._store, since_ms), LAST_STATES_S)
        except (StoreError, TimeoutError) as error:
            log.info("last_states_left_to_next_start", error=str(error))

    async def _last_candles(self) -> None:
        """Complete the candles of the last minute, which the last flush may have given trades."""
        try:
            await asyncio.wait_for(self._candles.compute(last=True), LAST_CANDLES_S)
        except (StoreError, TimeoutError) as error:
            log.info("last_candles_left_to_next_start", error=str(error))

    # -- parts -----------------------------------------------------------------------------------------------------

    def _make_sources(self) -> list[Source]:
        """All venues; those without credentials are off, and say so."""
        settings, sink, clock, metrics = self._settings, self._core.pipeline, self._clock, self._metrics
        return [
            *([] if self._traders is None else [self._traders.source]),
            self._alpaca,
            FutuSource(settings, sink=sink, clock=clock, metrics=metrics),
            self._stockbit,
        ]

    def _make_status(self) -> ProgramStatus:
        traders, orderbooks, live = self._traders, self._orderbooks, self._live
        sections: dict[str, Callable[[], Any]] = {"gateway": live.stats, "csv": orderbooks.csv_stats}
        if traders is not None:
            sections |= {"rest": traders.rest_status, "backfill": traders.backfill_status}
        return ProgramStatus(
            state=self._state,
            pipeline=self._core.pipeline,
            flusher=self._core.flusher,
            diff=self._core.diff,
            journal=self._journal,
            sources=self.sources,
            followed=self._followed,
            sections=sections,
            checks=orderbooks.checks,
            redis=live.redis_state,
            metrics=self._metrics,
            clock=self._clock,
            version=__version__,
        )

    def _make_http(self) -> FastAPI:
        settings, stockbit = self._settings, self._stockbit
        follows = self._traders is not None and settings.trader_ws_enabled
        books = OutsideBooks(
            sink=self._core.pipeline,
            audience=self._live,
            collected={source.venue for source in self.sources.collecting},
            is_collecting=self._is_collecting,
            clock=self._clock,
            metrics=self._metrics,
        )
        return create_app(
            status=self.status,
            store=self._store,
            metrics=self._metrics,
            traders=self._traders.tracking if self._traders is not None and follows else None,
            streams=self._orderbooks.sessions,
            books=books,
            stockbit=stockbit if stockbit.enabled else None,
            token=settings.api_token,
            allowed_origins=settings.allowed_origins,
            clock=self._clock,
            version=__version__,
        )

    def _followed(self) -> int:
        return 0 if self._traders is None else len(self._traders.tracking.addresses)

    def _is_collecting(self) -> bool:
        return self._state.phase == "running"

    async def _note_streams(self, streams: Sequence[StreamKey]) -> None:
        await self._coverage.note(streams)

    # -- listeners -------------------------------------------------------------------------------------------------

    def _touch_candles(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, TradeSeen):
                self._candles.touched(change.trade)

    async def _print_status(self, stopping: asyncio.Event) -> None:
        while not await is_set_within(stopping, self._settings.status_line_interval):
            sys.stdout.write(self.status.line() + "\n")
            sys.stdout.flush()


async def run_collector(
    settings: Settings, *, announce: Callable[[Start], None], hours: TradingHours | None = None
) -> int:
    """Run the program until SIGINT or SIGTERM; returns the exit code.

    Args:
        settings: what to do.
        announce: told when it collects.
        hours: of a simulated exchange, see `Collector`.

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
                    hours=hours,
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
