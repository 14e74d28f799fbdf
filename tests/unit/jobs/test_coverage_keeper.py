"""The record of what was seen, as the program keeps it: which holes are opened, and when."""

import asyncio

import pytest

from src.config import Settings
from src.jobs import coverage as module
from src.jobs.coverage import CoverageKeeper
from src.jobs.following.past_looks import PastLooks
from src.jobs.hyperliquid.repair import HyperliquidRepair
from src.models.changes import HoleClosed
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.messages import GapReason
from src.models.metrics import Metrics
from src.models.streams import StreamKey
from src.models.writes import Collection, WriteBatch
from src.pipeline.diff import Diff
from src.pipeline.documents import write_of_hole
from src.pipeline.hub import Hub
from src.store.memory import MemoryStore
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import WeightBudget

ALICE, BOB = "0x" + "a" * 40, "0x" + "b" * 40
NOW_MS = 1_700_000_000_000


def orders_of(trader):
    return StreamKey("hyperliquid", "openOrders", trader)


BOOK = StreamKey("hyperliquid", "l2Book", "BTC")


class FakeSource:
    def __init__(self, *followed):
        self.followed, self.more = followed, ()
        clock, metrics = ManualClock(), Metrics()
        self.weight_budgets = [WeightBudget(clock=clock)]
        self.past_looks = PastLooks(clock=clock, metrics=metrics)
        self.rests = [
            HyperliquidRest("http://127.0.0.1:9", clock=clock, metrics=metrics, budget=self.weight_budgets[0])
        ]

    def streams(self):
        return (*self.streams_with(self.followed), *self.more)

    def streams_with(self, followed):
        return (BOOK, *map(orders_of, followed))


class FakePipeline:
    """Applies gaps to the diff and keeps what is to be stored."""

    def __init__(self, diff):
        self.diff, self.opened, self.gaps = diff, [], []

    def gap(self, gap):
        self.gaps.append(gap)
        self.opened += self.diff.apply_gap(gap)


class Rig:
    def __init__(self, tmp_path, store, clock, *followed):
        self.store, self.clock, self.source = store, clock, FakeSource(*followed)
        metrics = Metrics()
        self.diff, self.hub = Diff(metrics=metrics), Hub(metrics=metrics)
        self.metrics = metrics
        self.pipeline = FakePipeline(self.diff)
        self.keeper = CoverageKeeper(
            store=store,
            streams=self.source.streams,
            diff=self.diff,
            pipeline=self.pipeline,
            data_dir=tmp_path,
            clock=clock,
            version="1",
        )

    async def store_holes(self):
        await self.store.write(WriteBatch(1, [[write_of_hole(hole) for hole in self.pipeline.opened]]))

    def holes(self):
        return [(gap.reason, set(gap.streams), gap.at_ms) for gap in self.pipeline.gaps]


@pytest.fixture
async def start(tmp_path):
    """``start(*followed)`` begins a run on the same database, data directory and clock."""
    store, clock, rigs = MemoryStore(), ManualClock(wall_ms=NOW_MS), []

    def new(*followed):
        rigs.append(Rig(tmp_path, store, clock, *followed))
        return rigs[-1]

    yield new
    for rig in rigs:
        await rig.source.rests[0].close()


async def test_a_first_start_begins_every_stream_with_the_time_before_it(start):
    rig = start(ALICE)
    await rig.keeper.note_start()
    await rig.keeper.note_start()
    assert rig.holes() == [(GapReason.NOT_COLLECTED, {BOOK, orders_of(ALICE)}, 0)]


async def test_a_run_after_a_kill_was_blind_since_the_last_heartbeat(start):
    killed = start(ALICE)
    await killed.keeper.note_start()
    await killed.store_holes()
    await killed.keeper.heartbeat.beat()
    killed.clock.advance(3600)
    rig = start(ALICE, BOB)
    await rig.keeper.note_start()
    assert rig.holes() == [
        (GapReason.NOT_COLLECTED, {orders_of(BOB)}, 0),
        (GapReason.PROCESS_DOWN, {BOOK, orders_of(ALICE)}, NOW_MS),
    ]


async def test_a_trader_added_later_begins_before_anything_of_it_can_arrive(start):
    rig = start(ALICE)
    await rig.keeper.note_start()
    await rig.keeper.note(rig.source.streams_with([ALICE, BOB]))
    await rig.keeper.note(rig.source.streams_with([ALICE, BOB]))
    assert rig.holes()[1:] == [(GapReason.NOT_COLLECTED, {orders_of(BOB)}, 0)]


async def test_streams_that_came_without_a_word_are_noted_soon(start, monkeypatch):
    monkeypatch.setattr(module, "NEW_STREAMS_EVERY_S", 0.001)
    rig = start(ALICE)
    await rig.keeper.note_start()
    stopping = asyncio.Event()
    works = dict(rig.keeper.works(stopping))
    task = asyncio.create_task(works["new streams"]())
    legacy = StreamKey("hyperliquid", "webData2", ALICE)
    rig.store.fail_next(StoreError("away"))
    rig.source.more = (legacy,)
    async with asyncio.timeout(5):
        while len(rig.pipeline.gaps) < 2:  # noqa: ASYNC110 - gaps tell nobody
            await asyncio.sleep(0.001)
        stopping.set()
        await task
    assert rig.holes()[1:] == [(GapReason.NOT_COLLECTED, {legacy}, 0)]


async def test_a_database_that_is_away_at_the_start_is_told(start):
    rig = start(ALICE)
    rig.store.fail_next(StoreError("away"))
    with pytest.raises(StoreError):
        await rig.keeper.note_start()
    await rig.keeper.note_start()
    assert len(rig.pipeline.gaps) == 1


async def test_repair_hears_of_holes_through_the_hub(start):
    rig = start(ALICE)
    lookups = HyperliquidRepair(
        Settings(), store=rig.store, source=rig.source, hub=rig.hub, clock=rig.clock, metrics=rig.metrics
    )
    rig.hub.publish([HoleClosed(str(BOOK), "hyperliquid", NOW_MS, NOW_MS + 5, "disconnect")])
    assert lookups.repair.waiting() == 1


async def test_all_works_end_with_the_stop(start):
    rig = start(ALICE)
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(work()) for _, work in rig.keeper.works(stopping)]
    async with asyncio.timeout(5):
        while not rig.store.documents(Collection.SCHEMA):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.001)
        stopping.set()
        await asyncio.gather(*tasks)
