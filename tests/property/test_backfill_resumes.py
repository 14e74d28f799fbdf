"""Whatever kills the backfill, and whenever: afterwards the same is stored as in a calm run, or lies in a hole."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.jobs.backfill.backfill import Backfill
from src.jobs.backfill.plan import Kind
from src.models.clock import ManualClock
from src.models.errors import StoreError, VenueError, VenueRateLimitedError
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.pipeline.documents import to_ms
from src.store.memory import MemoryStore
from tests.support.past_world import DyingStore, Killed, ScriptedPast, a_fill, a_status, told
from tests.support.trader_states import START_MS, TRADER

TROUBLE = (None, None, VenueError("500"), VenueRateLimitedError("429"))
KINDS = (Kind.ORDERS, Kind.FILLS)


def reader(store, past):
    return Backfill(store, past, ManualClock(wall_ms=START_MS + 50_000_000), Metrics())


async def read_through(store, past, *, deaths, failures):
    """Read both kinds; killed at the given writes, refused as given, and begun again each time."""
    past.failures = list(failures)
    for kind in KINDS:
        for death in (*deaths, None):
            try:
                await reader(DyingStore(store, at=death), past).read(kind, TRADER)
            except (Killed, VenueError, StoreError):
                continue
        past.failures = []
        await reader(store, past).read(kind, TRADER)


@given(
    ends=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["filled", "canceled", "open"])), max_size=60),
    fills=st.lists(st.integers(0, 30), max_size=60),
    deaths=st.lists(st.integers(1, 12), max_size=4),
    failures=st.lists(st.sampled_from(TROUBLE), max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_killed_anywhere_and_begun_again_the_same_is_stored(ends, fills, deaths, failures):
    def a_past():
        past = ScriptedPast(most_orders=25, fills_page=7, fills_reach=20)
        past.adds(*(a_status(oid, status, START_MS + at) for oid, (at, status) in enumerate(ends)))
        past.fills_of(*(a_fill(number, time_ms=START_MS + at) for number, at in enumerate(fills)))
        return past

    async def both():
        calm, rough = MemoryStore(), MemoryStore()
        for kind in KINDS:
            await reader(calm, a_past()).read(kind, TRADER)
        await read_through(rough, a_past(), deaths=deaths, failures=failures)
        assert told(rough) == told(calm)

    asyncio.run(both())


@given(
    rounds=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 25), st.integers(1, 8)), min_size=1, max_size=6),
)
@example(rounds=[(0, 0, 1), (0, 16, 6)])  # killed while reading what outgrew the reach since an empty reading
@settings(max_examples=60, deadline=None)
def test_while_the_market_goes_on_all_is_stored_or_lies_in_a_hole(rounds):
    async def life():
        store, past = MemoryStore(), ScriptedPast(most_orders=12, fills_page=6, fills_reach=15)
        ended, executed, now = {}, {}, 0
        for orders, fills, death in rounds:
            for _ in range(orders):
                now += 1000
                oid = len(ended) + 1
                ended[oid] = START_MS + now
                past.adds(a_status(oid, "filled", START_MS + now))
            for _ in range(fills):
                now += 1000
                number = len(executed) + 1
                executed[number] = START_MS + now
                past.fills_of(a_fill(number, time_ms=START_MS + now))
            for kind in KINDS:
                try:
                    await reader(DyingStore(store, at=death), past).read(kind, TRADER)
                except Killed:
                    await reader(store, past).read(kind, TRADER)
        assert_whole(store, "orders", Collection.TRADER_ORDERS, ended)
        assert_whole(store, "fills", Collection.TRADER_FILLS, executed)

    asyncio.run(life())


def assert_whole(store, kind, collection, lived):
    stored = {document["oid"] for document in store.documents(collection)}
    holes = [
        (to_ms(hole["from"]), to_ms(hole["to"]))
        for hole in store.documents(Collection.COVERAGE)
        if hole["stream"].startswith(f"hyperliquid/history:{kind}/")
    ]
    for oid, at_ms in lived.items():
        assert oid in stored or any(begin <= at_ms <= end for begin, end in holes), (kind, oid)


@pytest.mark.parametrize("death", range(1, 9))
async def test_a_second_whole_reading_changes_nothing(death):
    store, past = MemoryStore(), ScriptedPast(most_orders=8, fills_page=4, fills_reach=9)
    past.adds(*(a_status(oid, "canceled", START_MS + oid) for oid in range(12)))
    past.fills_of(*map(a_fill, range(14)))
    for _ in range(2):
        await read_through(store, past, deaths=[death], failures=[])
        before = told(store)
    assert told(store) == before
    assert len(store.documents(Collection.COVERAGE)) == 2
