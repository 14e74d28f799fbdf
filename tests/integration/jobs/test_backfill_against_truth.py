"""Looks now and then, history afterwards: everything the simulated venue did is stored with its reason, or in a hole."""

import asyncio
import contextlib

import pytest

from src.jobs.backfill.backfill import Backfill
from src.jobs.backfill.live_orders import LiveOrders
from src.jobs.backfill.plan import Kind
from src.jobs.hyperliquid.past import HyperliquidPast
from src.models.errors import StoreError, VenueError
from src.models.messages import Data
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.pipeline.diff import Diff
from src.pipeline.documents import to_date, to_ms
from src.pipeline.restore import restore_traders
from src.store.base import Query
from src.store.mongo import MongoStore
from src.venues.clock import SystemClock
from src.venues.hyperliquid.mapper import HyperliquidMapper
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.simulator import Cadences, HyperliquidSimulator, Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.weight_budget import WeightBudget

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STEP_MS = 20_000
"""Venue time between two looks; the market is moved by hand, its own pump sees a clock that stands still."""


class StandingClock(SystemClock):
    """Durations go on, the wall stands still until it is moved: the market moves when the test says so."""

    def __init__(self):
        self.now_ms = super().wall_ms()

    def wall_ms(self):
        return self.now_ms


@pytest.fixture
async def store(mongo_uri, database_name):
    store = MongoStore(mongo_uri, database_name)
    await store.prepare()
    yield store
    await store.close()


@contextlib.asynccontextmanager
async def venue(store, seed, *, traders=6, actions_per_s=6.0):
    """A simulator whose market moves when told to, and who makes collectors of it."""
    clock = StandingClock()
    config = SimulatorConfig(
        market=MarketConfig(seed=seed, traders=traders, actions_per_s=actions_per_s, trades_per_s=4.0),
        cadences=Cadences.quick(0.2),
        limits=Limits(rest_weight_per_minute=None),
    )
    async with HyperliquidSimulator(config, clock=clock) as simulator, contextlib.AsyncExitStack() as stack:

        def start():
            run = Lookers(store, simulator, clock)
            stack.push_async_callback(run.rest.close)
            return run

        yield simulator, start


class Lookers:
    """Looks at every trader now and then, as polls do, and reads histories in between."""

    def __init__(self, store, simulator, clock):
        self.store, self.simulator, self.clock, self.metrics = store, simulator, clock, Metrics()
        self.diff = Diff(metrics=self.metrics)
        self.mapper = HyperliquidMapper()
        self.pending = []
        self.rest = HyperliquidRest(
            simulator.api_url,
            clock=SystemClock(),
            metrics=self.metrics,
            budget=WeightBudget(clock=SystemClock(), per_minute=1_000_000),
        )
        past = HyperliquidPast([self.rest], clock, self.metrics)
        self.backfill = Backfill(store, past, clock, self.metrics, live=LiveOrders(self.diff, self, self.flush))

    # -- what `LiveOrders` asks of a pipeline --------------------------------------------------------------------------

    def explain(self, history):
        self.pending += self.diff.explain(history)

    async def flush(self):
        builder = BatchBuilder(0)
        for change in self.pending:
            builder.add(change)
        if self.pending:
            assert not (await self.store.write(builder.build())).rejected
        self.pending.clear()

    # -- looks ---------------------------------------------------------------------------------------------------------

    async def look(self, trader):
        for dex in ("", "xyz"):
            body = await self.rest.frontend_open_orders(trader, dex)
            head = f'{{"channel":"openOrders","data":{{"dex":"{dex}","user":"{trader}","orders":'
            decoded = self.mapper.decode(head.encode() + body + b"}}", self.clock.wall_ms())
            assert isinstance(decoded, Data)
            self.pending += self.diff.apply(decoded)

    async def move(self, ms=STEP_MS):
        self.clock.now_ms += ms
        market, until = self.simulator.market, self.clock.now_ms - self.simulator._offset_ms
        market.step(until)
        await asyncio.sleep(0)


def lived(simulator):
    """(trader, oid) -> (reason, end) of everything that ended, None of what lives, by the truth log."""
    found = {}
    for event in simulator.truth.events:
        if event.oid is None or not event.trader:
            continue
        if event.kind in ("filled", "canceled"):
            found[event.trader, event.oid] = (event.reason or "filled", event.time_ms)
        else:
            found.setdefault((event.trader, event.oid), None)
    return found


async def documents(store, collection, **equals):
    return [document async for document in store.find(collection, Query(equals=equals))]


async def assert_whole(store, simulator, *, share=0.999):
    truth = lived(simulator)
    orders = {(d["ethAddress"], d["oid"]): d for d in await documents(store, Collection.TRADER_ORDERS)}
    holes = [
        (d["subject"], to_ms(d["from"]), to_ms(d["to"]))
        for d in await documents(store, Collection.COVERAGE)
        if d["stream"].split("/")[1] == "history:orders"
    ]
    right = 0
    for (trader, oid), end in truth.items():
        document = orders.get((trader, oid))
        if end is None:
            right += document is None or document["status"] == "open"
            continue
        reason, ended_ms = end
        if document is not None and document["closeReason"] == reason:
            assert document["closedAt"] == to_date(ended_ms)
            right += 1
            continue
        assert document is None, document
        assert any(subject == trader and begin <= ended_ms <= to for subject, begin, to in holes), (trader, oid, end)
    assert orders.keys() <= truth.keys()
    return right, len(truth), share


async def assert_events_count_up(store):
    revisions = {}
    for event in await documents(store, Collection.TRADER_ORDER_EVENTS):
        revisions.setdefault((event["ethAddress"], event["oid"]), []).append((event["revision"], event["action"]))
    for key, found in revisions.items():
        found.sort()
        assert [revision for revision, _ in found] == list(range(1, len(found) + 1)), (key, found)
        assert found[0][1] == "new"
        assert [action for _, action in found].count("closed") <= 1, (key, found)


async def test_all_that_lived_between_looks_is_stored_with_its_reason(store):
    async with venue(store, 71) as (simulator, start):
        run = start()
        for round_number in range(12):
            for trader in simulator.traders:
                await run.look(trader)
            await run.flush()
            await run.move()
            if round_number % 4 == 3:
                for trader in simulator.traders:
                    await run.backfill.read(Kind.ORDERS, trader)
        for trader in simulator.traders:
            await run.look(trader)
            await run.backfill.read(Kind.ORDERS, trader)
            await run.backfill.read(Kind.FILLS, trader)
        right, total, share = await assert_whole(store, simulator)
        assert total > 300
        assert right / total >= share
        await assert_events_count_up(store)
        from_history = await documents(store, Collection.TRADER_ORDERS, source="history")
        assert len(from_history) > 50
        for trader in simulator.traders:
            executed = simulator.market.traders[trader].fills
            stored = await documents(store, Collection.TRADER_FILLS, ethAddress=trader)
            assert len(stored) == len(executed)


async def test_a_second_pass_over_a_frozen_market_changes_nothing(store):
    async with venue(store, 72, traders=3) as (simulator, start):
        run = start()
        await run.move(60_000)
        for trader in simulator.traders:
            for kind in (Kind.ORDERS, Kind.FILLS):
                await run.backfill.read(kind, trader)
        collections = (Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS, Collection.TRADER_FILLS)
        before = [await documents(store, collection) for collection in collections]
        for trader in simulator.traders:
            for kind in (Kind.ORDERS, Kind.FILLS):
                assert (await run.backfill.read(kind, trader)).found == 0
        assert [await documents(store, collection) for collection in collections] == before


async def test_what_the_venue_forgot_lies_in_holes(store):
    async with venue(store, 73, traders=2, actions_per_s=40.0) as (simulator, start):
        run = start()
        for _ in range(3):
            await run.move(120_000)  # thousands of statuses, of which the venue keeps the newest
            for trader in simulator.traders:
                await run.backfill.read(Kind.ORDERS, trader)
        right, total, _ = await assert_whole(store, simulator)
        assert right < total


async def test_429_500_and_bans_lose_no_cursor(store):
    async with venue(store, 74, traders=3) as (simulator, start):
        run = start()
        failures = 0
        for round_number in range(4):
            await run.move(60_000)
            for trader in simulator.traders:
                run.rest._url = "http://127.0.0.1:9/info" if round_number == 1 else simulator.api_url + "/info"
                simulator.limits.limits = Limits(rest_weight_per_minute=1 if round_number == 2 else None)
                try:
                    async with asyncio.timeout(1.0):
                        await run.backfill.read(Kind.ORDERS, trader)
                except (VenueError, StoreError, TimeoutError):
                    failures += 1
        assert failures >= 6
        simulator.limits.limits = Limits(rest_weight_per_minute=None)
        fresh = start()
        for trader in simulator.traders:
            await fresh.backfill.read(Kind.ORDERS, trader)
            await fresh.look(trader)
        await fresh.flush()
        right, total, share = await assert_whole(store, simulator)
        assert right / total >= share


async def test_after_a_restart_lists_and_history_agree(store):
    async with venue(store, 75, traders=3) as (simulator, start):
        run = start()
        for _ in range(3):
            for trader in simulator.traders:
                await run.look(trader)
            await run.flush()
            await run.move()
            for trader in simulator.traders:
                await run.backfill.read(Kind.ORDERS, trader)
        await run.move(40_000)
        again = start()
        await restore_traders(store, again.diff, simulator.traders, again.clock.wall_ms())
        for _ in range(3):
            for trader in simulator.traders:
                await again.look(trader)
            await again.flush()
            await again.move()
            for trader in simulator.traders:
                await again.backfill.read(Kind.ORDERS, trader)
        for trader in simulator.traders:
            await again.look(trader)
            await again.backfill.read(Kind.ORDERS, trader)
        right, total, share = await assert_whole(store, simulator)
        assert right / total >= share
        await assert_events_count_up(store)
