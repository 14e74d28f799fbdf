"""Everything that follows traders - source, pipeline, looks, reasons, backfill - over a venue in virtual time."""

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from src.config import Settings
from src.core import build_core
from src.jobs.backfill.plan import Kind, as_date
from src.jobs.backfill.store import BackfillStore, Request
from src.jobs.coverage import CoverageKeeper
from src.jobs.following.egress import Way
from src.models.metrics import BACKFILL_READS, REASONS_WAITING, TASK_FAILURES, Metrics
from src.models.writes import Collection
from src.store.memory import MemoryStore
from src.store.selection import project, select
from src.traders import TraderSide
from src.venues.hyperliquid.mapper import VENUE
from src.venues.hyperliquid.simulator import Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.simulator.behaviour import decide
from src.venues.hyperliquid.simulator.inprocess import InProcessOpener, InProcessRest, InProcessVenue
from tests.support.virtual_venue import LoopClock

LATENCY_S = 0.1
ANSWER_WITHIN_S = 4 * 3600
ORDERS_PER_TRADER = 4
POSITIONS_PER_TRADER = 2


class QuickStore(MemoryStore):
    """Finds by id and by trader without looking at everything; keeps no batches."""

    def __init__(self):
        super().__init__()
        self._ids = {name: {} for name in Collection}

    async def write(self, batch):
        result = await super().write(batch)
        self.batches.clear()
        return result

    def _put(self, collection, document):
        super()._put(collection, document)
        if "ethAddress" in document:
            self._ids[collection].setdefault(document["ethAddress"], {})[document["_id"]] = None

    async def find(self, collection, query):
        self._check()
        for document in select(self._candidates(collection, query), query):
            yield _copy(project(document, query))

    def all(self, collection):
        """The documents themselves."""
        return self._documents[collection].values()

    def _candidates(self, collection, query):
        documents = self._documents[collection]
        for name, keys in (("_id", lambda v: [v]), ("ethAddress", lambda v: self._ids[collection].get(v, ()))):
            values = [query.equals[name]] if name in query.equals else query.one_of.get(name)
            if values is not None:
                return [documents[key] for value in dict.fromkeys(values) for key in keys(value) if key in documents]
        return documents.values()


def _copy(value):
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


class Weather:
    """What stands between us and the venue."""

    def __init__(self):
        self.rest_status = None
        self.handshake_status = None
        self.refused = 0

    def clear(self):
        self.rest_status = self.handshake_status = None


class _StormyRest(httpx.AsyncBaseTransport):
    def __init__(self, inner, weather):
        self._inner = inner
        self._weather = weather

    async def handle_async_request(self, request):
        if self._weather.rest_status is None:
            return await self._inner.handle_async_request(request)
        self._weather.refused += 1
        await asyncio.sleep(2 * LATENCY_S)
        return httpx.Response(self._weather.rest_status, content=b"null")


class World:
    """A venue, and the program over it. Attributes are the parts."""

    def __init__(
        self, *, traders, actions_per_trader_and_hour=60.0, seed=1, limits=None, first_frame_rows=2_000, **settings
    ):
        self.clock = LoopClock()
        self.metrics = Metrics()
        self.store = QuickStore()
        self.weather = Weather()
        market = MarketConfig(
            seed=seed,
            traders=traders,
            orders_per_trader=ORDERS_PER_TRADER,
            positions_per_trader=POSITIONS_PER_TRADER,
            actions_per_s=traders * actions_per_trader_and_hour / 3600,
            trades_per_s=0.5,
            tick_ms=500,
        )
        self.venue = InProcessVenue(
            SimulatorConfig(market=market, limits=limits or Limits(), first_frame_rows=first_frame_rows),
            clock=self.clock,
            latency_s=LATENCY_S,
        )
        self.settings = Settings(
            **{
                "hyperliquid_coins": (),
                "hyperliquid_dexes": ("xyz",),
                "hyperliquid_traders": tuple(self.venue.traders),
                "hyperliquid_leaderboard": "never",
                **settings,
            }
        )
        self.core = build_core(self.settings, store=self.store, metrics=self.metrics, clock=self.clock)
        self.side = TraderSide(
            self.settings,
            store=self.store,
            core=self.core,
            note=self._note,
            may_write=lambda: True,
            clock=self.clock,
            metrics=self.metrics,
            ways=[Way(self._open, _StormyRest(InProcessRest(self.venue, "address"), self.weather))],
        )
        self.coverage = CoverageKeeper(
            store=self.store,
            streams=self.side.source.streams,
            diff=self.core.diff,
            pipeline=self.core.pipeline,
            data_dir=Path("/nowhere"),
            clock=self.clock,
            version="test",
        )
        self.core.pipeline.on_refused = self.side.on_refused
        self._opener = InProcessOpener(self.venue, "address")
        self._desk = BackfillStore(self.store, self.metrics)
        self._stopping = asyncio.Event()

    # -- life ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self):
        """As the program runs it; a task that dies ends the run."""
        self.side.tracking.is_active = True
        await self.store.prepare()
        await self.side.restore()
        await self.coverage.note_start()
        self.side.begin()
        core, stopping = self.core, self._stopping
        works = [
            ("flush", lambda: core.flusher.run(stopping)),
            ("drain", lambda: core.pipeline.run_drain(stopping)),
            *self.coverage.works(stopping),
            *self.side.works(stopping),
            *self.side.source.works(stopping),
        ]
        venue = asyncio.create_task(self.venue.run())
        tasks = [asyncio.create_task(work(), name=name) for name, work in works]
        owner = asyncio.current_task()
        for task in (venue, *tasks):
            task.add_done_callback(lambda _: None if stopping.is_set() else owner.cancel())
        try:
            yield self
        except asyncio.CancelledError:
            for task in (venue, *tasks):
                if task.done() and not task.cancelled():
                    raise AssertionError(f"{task.get_name()} has ended") from task.exception()
            raise
        finally:
            stopping.set()
            await self.side.source.close()
            await asyncio.wait(tasks, timeout=60)
            for task in (venue, *tasks):
                task.cancel()
            await asyncio.gather(venue, *tasks, return_exceptions=True)

    async def wait_for(self, is_true, *, within_s, what):
        """Look every few seconds."""
        end = self.clock.monotonic() + within_s
        while not is_true():
            assert self.clock.monotonic() < end, f"not within {within_s:.0f} s: {what}"
            await asyncio.sleep(5)

    def is_live(self, trader):
        """Whether a pinned slot tells everything about him just now."""
        assignment = self.side.source.looks[trader].assignment
        return assignment is not None and assignment.mode == "live"

    # -- the venue's bad days ------------------------------------------------------------------------------------------

    async def storm(self, status, seconds):
        """Every REST request is answered with this status."""
        self.weather.rest_status = status
        await asyncio.sleep(seconds)
        self.weather.clear()

    async def ban(self, seconds):
        """All connections are cut; handshakes and requests get 429."""
        self.weather.rest_status = self.weather.handshake_status = HTTPStatus.TOO_MANY_REQUESTS
        for session in list(self.venue.sessions.values()):
            session.abort()
        await asyncio.sleep(seconds)
        self.weather.clear()

    def burst(self, trader, decisions):
        """A trader decides so often at once that the venue's history loses sight of the beginning."""
        market = self.venue.market
        for _ in range(decisions):
            decide(
                market.exchange,
                market.traders[trader],
                wanted_orders=ORDERS_PER_TRADER,
                wanted_positions=POSITIONS_PER_TRADER,
                mass_cancel_share=0.002,
            )

    async def _note(self, streams):
        await self.coverage.note(streams)

    async def _open(self, endpoint, timing):
        if self.weather.handshake_status is not None:
            self.weather.refused += 1
            await asyncio.sleep(2 * LATENCY_S)
            status = self.weather.handshake_status
            raise InvalidStatus(Response(status, status.phrase, Headers(), b"null"))
        return await self._opener(endpoint, timing)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def settle(self):
        """Freeze the market, let everybody be looked at, read every history as the command does, wait for reasons."""
        self.venue.market.freeze()
        await asyncio.sleep(self.side.source.status()["following"]["bound_s"] + 60)
        if self.settings.hyperliquid_backfill:
            await self._read_all_histories()
        await self.wait_for(
            lambda: not self.reasons_waiting() and not len(self.core.pending),
            within_s=ANSWER_WITHIN_S,
            what="reasons",
        )

    async def ask_for_histories(self):
        """Ask for every history, as the command does beside a collector."""
        now = as_date(self.clock.wall_ms())
        for kind in (Kind.ORDERS, Kind.FILLS):
            for trader in self.venue.traders:
                await self._desk.ask(Request("all", kind, trader, None), VENUE, now)

    async def _read_all_histories(self):
        await self.ask_for_histories()
        backfills = self.store.all(Collection.BACKFILLS)
        await self.wait_for(
            lambda: not any(document.get("asked") for document in backfills),
            within_s=ANSWER_WITHIN_S,
            what="all histories are read",
        )

    def reasons_waiting(self):
        """Closes whose reason is being looked up."""
        return self.metrics.total(REASONS_WAITING)

    def refusals(self):
        """What the venue itself refused because of a limit, by limit."""
        return dict(self.venue.limits.of("address").refused)

    def failed_reads(self):
        """Readings of histories that the venue did not answer."""
        return self.metrics.value(BACKFILL_READS, "any", "failed")

    def task_failures(self):
        """Works that have died and were started again."""
        return self.metrics.total(TASK_FAILURES)

    def cursors(self):
        """Place and time of the last reading of every history."""
        return {
            document["_id"]: (document.get("until"), document.get("readAt"))
            for document in self.store.all(Collection.BACKFILLS)
        }
