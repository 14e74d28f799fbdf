"""Fills are read page by page, from the place where the last reading ended, as far back as the venue keeps them."""

import pytest

from src.jobs.backfill.backfill import Backfill
from src.jobs.backfill.plan import Kind, Range
from src.models.clock import ManualClock
from src.models.metrics import BACKFILL_FOUND, Metrics
from src.models.writes import Collection
from src.pipeline.documents import to_date
from src.store.memory import MemoryStore
from tests.support.past_world import AWAY, ScriptedPast, a_fill, told
from tests.support.trader_states import START_MS, TRADER

STREAM = f"hyperliquid/history:fills/{TRADER}"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def past():
    return ScriptedPast(fills_page=10, fills_reach=50)


def reader(store, past, metrics=None):
    return Backfill(store, past, ManualClock(wall_ms=START_MS + 20_000_000), metrics or Metrics())


def stored(store):
    return {document["oid"] for document in store.documents(Collection.TRADER_FILLS)}


def holes(store):
    return [(h["from"], h["to"], h["reason"]) for h in store.documents(Collection.COVERAGE) if h["stream"] == STREAM]


def cursor(store):
    return {d["_id"]: d for d in store.documents(Collection.BACKFILLS)}[f"hyperliquid:fills:{TRADER}"]


async def test_every_page_is_read(store, past):
    past.fills_of(*map(a_fill, range(34)))
    metrics = Metrics()
    reading = await reader(store, past, metrics).read(Kind.FILLS, TRADER)
    assert stored(store) == set(range(34))
    assert (reading.found, reading.lost) == (34, ())
    assert metrics.value(BACKFILL_FOUND, "fills") == 34
    assert cursor(store)["until"] == to_date(START_MS + 33)
    assert cursor(store)["since"] == to_date(0)


async def test_the_next_reading_goes_on_and_stores_nothing_twice(store, past):
    past.fills_of(*map(a_fill, range(15)))
    await reader(store, past).read(Kind.FILLS, TRADER)
    past.fills_of(*map(a_fill, range(15, 22)))
    past.asked.clear()
    reading = await reader(store, past).read(Kind.FILLS, TRADER)
    assert past.asked == [("fills", TRADER, START_MS + 14)]
    assert (reading.found, stored(store), holes(store)) == (7, set(range(22)), [])


async def test_fills_of_one_millisecond_that_came_later_are_found(store, past):
    past.fills_of(a_fill(1), a_fill(2, time_ms=START_MS + 5))
    await reader(store, past).read(Kind.FILLS, TRADER)
    past.fills_of(a_fill(3, time_ms=START_MS + 5))
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert stored(store) == {1, 2, 3}


async def test_who_has_more_than_the_venue_keeps_has_a_hole_before(store, past):
    past.fills_of(*map(a_fill, range(70)))
    reading = await reader(store, past).read(Kind.FILLS, TRADER)
    assert stored(store) == set(range(20, 70))
    assert holes(store) == [(to_date(0), to_date(START_MS + 20), "not_collected")]
    assert len(reading.lost) == 1


async def test_who_makes_more_than_the_venue_keeps_between_two_readings_has_a_hole(store, past):
    past.fills_of(*map(a_fill, range(10)))
    await reader(store, past).read(Kind.FILLS, TRADER)
    past.fills_of(*map(a_fill, range(10, 90)))
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert stored(store) == {*range(10), *range(40, 90)}
    assert holes(store) == [(to_date(START_MS + 9), to_date(START_MS + 40), "history_reach")]


async def test_a_full_page_within_one_millisecond_is_a_hole_of_that_millisecond(store, past):
    past.fills_of(*(a_fill(number, time_ms=START_MS + 7) for number in range(25)), a_fill(30))
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert len(stored(store)) == 11
    assert holes(store) == [(to_date(START_MS + 7), to_date(START_MS + 8), "history_reach")]


@pytest.mark.parametrize("failing", range(4))
async def test_a_failure_on_any_page_costs_nothing(store, past, failing):
    past.fills_of(*map(a_fill, range(34)))
    past.failures = [None] * failing + [AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read(Kind.FILLS, TRADER)
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert stored(store) == set(range(34))
    assert holes(store) == []
    assert cursor(store)["since"] == to_date(0)
    assert cursor(store)["walk"] is None


async def test_a_first_reading_that_was_interrupted_still_sees_that_the_oldest_are_gone(store, past):
    past.fills_of(*map(a_fill, range(70)))
    past.failures = [None, None, AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read(Kind.FILLS, TRADER)
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert holes(store) == [(to_date(0), to_date(START_MS + 20), "not_collected")]


async def test_without_fills_there_is_nothing_to_lose(store, past):
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert cursor(store)["since"] == to_date(0)
    assert cursor(store)["readAt"] is not None
    before = told(store)
    await reader(store, past).read(Kind.FILLS, TRADER)
    assert told(store) == before


async def test_a_range_holds_what_lies_in_it_and_does_not_move_the_cursor(store, past):
    past.fills_of(*map(a_fill, range(40)))
    reading = await reader(store, past).read(Kind.FILLS, TRADER, Range(START_MS + 5, START_MS + 25))
    assert stored(store) == set(range(5, 25))
    assert reading.found == 20
    assert cursor(store)["until"] is None


async def test_a_range_that_was_interrupted_goes_on_at_its_page(store, past):
    past.fills_of(*map(a_fill, range(40)))
    wanted = Range(START_MS + 5, START_MS + 35)
    past.failures = [None, None, AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read(Kind.FILLS, TRADER, wanted)
    past.asked.clear()
    await reader(store, past).read(Kind.FILLS, TRADER, wanted)
    assert past.asked[0] == ("fills", TRADER, START_MS + 23)
    assert stored(store) == set(range(5, 35))
    assert cursor(store)["place"] is None


async def test_another_range_begins_at_its_own_beginning(store, past):
    past.fills_of(*map(a_fill, range(40)))
    past.failures = [None, AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read(Kind.FILLS, TRADER, Range(START_MS + 5, START_MS + 35))
    past.asked.clear()
    await reader(store, past).read(Kind.FILLS, TRADER, Range(START_MS, START_MS + 8))
    assert past.asked[0] == ("fills", TRADER, START_MS)
    assert stored(store) >= set(range(8))
