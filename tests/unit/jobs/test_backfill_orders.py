"""Orders that nobody saw get their documents from the venue's history, and known ones are left alone."""

import pytest

from src.jobs.backfill.backfill import Backfill
from src.jobs.backfill.plan import Kind, Range
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.metrics import BACKFILL_FOUND, Metrics
from src.models.writes import Collection, Insert, Patch, WriteBatch
from src.pipeline.documents import to_date
from src.store.memory import MemoryStore
from tests.support.past_world import AWAY, ScriptedPast, a_status, told
from tests.support.trader_states import START_MS, TRADER, Watcher, an_order, store_changes, watcher_over


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def past():
    return ScriptedPast()


def reader(store, past, **options):
    clock = ManualClock(wall_ms=START_MS + 20_000_000)
    return Backfill(store, past, clock, options.pop("metrics", Metrics()), **options)


def orders(store):
    return {document["oid"]: document for document in store.documents(Collection.TRADER_ORDERS)}


def events(store, oid):
    found = [d for d in store.documents(Collection.TRADER_ORDER_EVENTS) if d["oid"] == oid]
    return sorted(found, key=lambda document: document["revision"])


def cursor(store, kind="orders"):
    return {d["_id"]: d for d in store.documents(Collection.BACKFILLS)}[f"hyperliquid:{kind}:{TRADER}"]


async def test_an_order_that_lived_between_two_looks_gets_its_document_and_both_events(store, past):
    past.adds(a_status(7, "open", START_MS), a_status(7, "filled", START_MS + 900, cloid="0xc"))
    metrics = Metrics()
    reading = await reader(store, past, metrics=metrics).read(Kind.ORDERS, TRADER)
    assert (reading.found, reading.explained, reading.lost) == (1, 0, ())
    document = orders(store)[7]
    assert document["source"] == "history"
    assert (document["status"], document["closeReason"], document["revision"]) == ("closed", "filled", 2)
    assert document["closedAt"] == to_date(START_MS + 900)
    assert (document["timestamp"], document["sz"], document["origSz"]) == (to_date(START_MS), 0.0, 0.2)
    new, closed = events(store, 7)
    assert (new["action"], new["venueTime"], new["sz"]) == ("new", to_date(START_MS), 0.2)
    assert (closed["action"], closed["venueTime"], closed["closeReason"]) == (
        "closed",
        to_date(START_MS + 900),
        "filled",
    )
    assert metrics.value(BACKFILL_FOUND, "orders") == 1


async def test_reading_twice_changes_nothing(store, past):
    past.adds(*(a_status(oid, "canceled", START_MS + oid) for oid in range(50)))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    before = told(store)
    reading = await reader(store, past).read(Kind.ORDERS, TRADER)
    assert (reading.found, reading.explained) == (0, 0)
    assert told(store) == before


async def test_what_is_open_or_was_refused_gets_no_document(store, past):
    past.adds(a_status(1, "open"), a_status(2, "triggered"), a_status(3, "badAloPxRejected"))
    reading = await reader(store, past).read(Kind.ORDERS, TRADER)
    assert reading.found == 0
    assert orders(store) == {}


async def test_a_close_without_a_reason_learns_it_and_keeps_its_revision(store, past):
    watcher = Watcher()
    watcher.shows([an_order(1), an_order(2)])
    watcher.shows([an_order(2)])
    await store_changes(store, watcher.changes)
    past.adds(a_status(1, "siblingFilledCanceled", START_MS + 300))
    reading = await reader(store, past).read(Kind.ORDERS, TRADER)
    assert (reading.found, reading.explained) == (0, 1)
    for document in (orders(store)[1], events(store, 1)[-1]):
        assert document["closeReason"] == "siblingFilledCanceled"
        assert document["closedAt"] == to_date(START_MS + 300)
        assert document["revision"] == 2
    assert "source" not in orders(store)[1]


async def test_an_order_that_is_open_in_the_database_is_left_to_the_collector(store, past):
    watcher = Watcher()
    watcher.shows([an_order(1)])
    await store_changes(store, watcher.changes)
    before = told(store, Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS)
    past.adds(a_status(1, "filled"))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    assert told(store, Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS) == before


async def test_a_reason_that_is_known_is_not_told_again(store, past):
    past.adds(a_status(1, "filled", START_MS + 5))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    state = Patch(Collection.TRADER_ORDERS, f"{TRADER}:1", {"closeReason": "liquidatedCanceled"})
    await store.write(WriteBatch(0, [[state]]))
    reading = await reader(store, past).read(Kind.ORDERS, TRADER, Range())
    assert reading.explained == 0
    assert orders(store)[1]["closeReason"] == "liquidatedCanceled"


async def test_a_modify_and_a_child_are_linked(store, past):
    past.adds(
        a_status(1, "canceled", START_MS + 5000, cloid="0xc"),
        a_status(4, "filled", START_MS + 9000, cloid="0xc", timestamp=START_MS + 5000),
    )
    await reader(store, past).read(Kind.ORDERS, TRADER)
    assert orders(store)[1]["replacedBy"] == 4
    assert orders(store)[4]["replaces"] == 1


async def test_an_order_of_a_builder_dex_belongs_to_it(store, past):
    past.adds(a_status(1, coin="xyz:TSLA"), a_status(2, coin="@107"))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    assert {oid: document["dex"] for oid, document in orders(store).items()} == {1: "xyz", 2: ""}


# -- cursor and reach --------------------------------------------------------------------------------------------------


async def test_a_short_history_reaches_back_to_the_beginning(store, past):
    past.adds(a_status(1, at_ms=START_MS + 50))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    place = cursor(store)
    assert (place["since"], place["until"]) == (to_date(0), to_date(START_MS + 50))
    assert store.documents(Collection.COVERAGE) == []


async def test_a_full_first_answer_leaves_the_time_before_it_as_not_collected(store):
    past = ScriptedPast(most_orders=10)
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 1000) for oid in range(30)))
    reading = await reader(store, past).read(Kind.ORDERS, TRADER)
    assert reading.found == 10
    (hole,) = store.documents(Collection.COVERAGE)
    assert hole["stream"] == f"hyperliquid/history:orders/{TRADER}"
    assert (hole["from"], hole["to"], hole["reason"]) == (to_date(0), to_date(START_MS + 20_000), "not_collected")
    assert hole["subject"] == TRADER


async def test_what_the_venue_forgot_between_two_readings_is_a_hole(store):
    past = ScriptedPast(most_orders=10)
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 1000) for oid in range(5)))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 1000) for oid in range(5, 40)))
    reading = await reader(store, past).read(Kind.ORDERS, TRADER)
    (hole,) = store.documents(Collection.COVERAGE)
    assert (hole["from"], hole["to"], hole["reason"]) == (
        to_date(START_MS + 4_000),
        to_date(START_MS + 30_000),
        "history_reach",
    )
    assert len(reading.lost) == 1
    missing = set(range(40)) - set(orders(store))
    assert missing == set(range(5, 30))
    assert all(hole["from"] <= to_date(START_MS + oid * 1000) <= hole["to"] for oid in missing)


async def test_a_full_answer_that_overlaps_the_last_one_lost_nothing(store):
    past = ScriptedPast(most_orders=10)
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 1000) for oid in range(10)))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 1000) for oid in range(10, 19)))
    reading = await reader(store, past).read(Kind.ORDERS, TRADER)
    assert reading.lost == ()
    assert set(orders(store)) == set(range(19))


async def test_an_account_without_a_history_has_none_to_lose(store):
    past = ScriptedPast(most_orders=5)
    first = await reader(store, past).read(Kind.ORDERS, TRADER)
    assert first.lost == ()
    assert cursor(store)["since"] == to_date(0)


async def test_a_failure_of_the_venue_leaves_the_cursor_where_it_was(store, past):
    past.adds(a_status(1))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    before = cursor(store)
    past.adds(a_status(2, at_ms=START_MS + 9000))
    past.failures = [AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read(Kind.ORDERS, TRADER)
    assert cursor(store) == before
    await reader(store, past).read(Kind.ORDERS, TRADER)
    assert set(orders(store)) == {1, 2}


async def test_a_failure_of_mongodb_leaves_the_cursor_where_it_was(store, past):
    past.adds(a_status(1))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    before = cursor(store)
    past.adds(a_status(2, at_ms=START_MS + 9000))
    for calls in range(3):
        store.fail_next(*[StoreError("away")])
        with pytest.raises(StoreError):
            await reader(store, past).read(Kind.ORDERS, TRADER)
        assert cursor(store) == before, calls


async def test_a_range_reads_again_what_is_in_it_and_moves_no_cursor(store, past):
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 1000) for oid in range(10)))
    wanted = Range(START_MS + 2000, START_MS + 5000)
    reading = await reader(store, past).read(Kind.ORDERS, TRADER, wanted)
    assert set(orders(store)) == {2, 3, 4}
    assert reading.cursor.read_ms is None
    assert store.documents(Collection.BACKFILLS) == []


async def test_a_range_without_an_end_goes_on_from_there(store, past):
    past.adds(*(a_status(oid, at_ms=START_MS + oid * 60_000) for oid in range(10)))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    assert len(orders(store)) == 10
    reading = await reader(store, past).read(Kind.ORDERS, TRADER, Range(START_MS + 120_000))
    assert reading.found == 0
    assert cursor(store)["until"] == to_date(START_MS + 540_000)


# -- beside the live diff ----------------------------------------------------------------------------------------------


class SomeLive:
    """A diff, of which everything found is stored at once."""

    def __init__(self, store, watcher):
        self.store, self.watcher, self.settled = store, watcher, 0
        self.stored = 0

    async def settle(self, history):
        self.settled += 1
        self.watcher.changes += self.watcher.diff.explain(history)
        await store_changes(self.store, self.watcher.changes[self.stored :])
        self.stored = len(self.watcher.changes)

    def knows(self, trader, oid, coin):
        return self.watcher.diff.is_open(trader, "", oid)

    def note_ended(self, trader, oid, coin, told_ms):
        self.watcher.diff.note_ended(trader, "", oid, told_ms)


async def test_an_order_the_diff_still_holds_is_left_to_it_and_its_close_knows_why(store, past):
    watcher = Watcher()
    live = SomeLive(store, watcher)
    watcher.shows([an_order(1), an_order(2)])
    past.adds(a_status(1, "marginCanceled", START_MS + 700))
    await reader(store, past, live=live).read(Kind.ORDERS, TRADER)
    assert orders(store)[1]["status"] == "open"
    watcher.shows([an_order(2)])
    await live.settle((await past.orders(TRADER, 0)).history)
    document = orders(store)[1]
    assert (document["revision"], document["closeReason"]) == (2, "marginCanceled")
    assert [event["action"] for event in events(store, 1)] == ["new", "closed"]


async def test_a_late_list_does_not_bring_back_what_history_ended(store, past):
    watcher = Watcher()
    live = SomeLive(store, watcher)
    watcher.shows([an_order(2)])
    past.adds(a_status(1, "filled", START_MS + 700))
    await reader(store, past, live=live).read(Kind.ORDERS, TRADER)
    before = told(store)
    watcher.shows([an_order(1), an_order(2)])
    watcher.shows([an_order(2)])
    await live.settle((await past.orders(TRADER, 0)).history)
    assert told(store) == before


async def test_the_next_run_knows_what_history_ended(store, past):
    past.adds(a_status(1, "filled", START_MS + 700))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    again = await watcher_over(store, now_ms=START_MS + 10_000_000)
    changes = again.shows([an_order(1), an_order(2)])
    assert [change.order.oid for change in changes] == [2]


async def test_a_state_that_a_crash_cut_from_its_events_keeps_its_reason(store, past):
    past.adds(a_status(1, "filled", START_MS + 700))
    await reader(store, past).read(Kind.ORDERS, TRADER)
    whole = orders(store)[1]
    cut = MemoryStore()
    for event in store.documents(Collection.TRADER_ORDER_EVENTS):
        await cut.write(WriteBatch(0, [[Insert(Collection.TRADER_ORDER_EVENTS, event)]]))
    await watcher_over(cut, now_ms=START_MS + 10_000_000)
    mended = orders(cut)[1]
    for field in ("status", "revision", "closeReason", "closedAt", "source", "sz"):
        assert mended[field] == whole[field], field
