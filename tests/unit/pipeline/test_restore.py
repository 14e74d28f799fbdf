"""Reading back what was known, and mending what a crash cut between events and states."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from src.models.errors import StoreError
from src.models.metrics import Metrics
from src.models.writes import Collection, Upsert, WriteBatch
from src.pipeline import restore as restore_module
from src.pipeline.batches import BatchBuilder
from src.pipeline.diff import Diff
from src.pipeline.orders import CLOSED_MEMORY
from src.pipeline.restore import CLOSED_WINDOW, restore_holes, restore_traders, roll_forward
from src.store.memory import MemoryStore
from tests.support.trader_states import (
    OTHER_TRADER,
    START_MS,
    STEP_MS,
    TRADER,
    Watcher,
    a_position,
    an_order,
    some_orders,
    store_changes,
    told,
    watcher_over,
)

TRADER_COLLECTIONS = (
    Collection.TRADER_ORDERS,
    Collection.TRADER_ORDER_EVENTS,
    Collection.TRADER_POSITIONS,
    Collection.TRADER_POSITION_EVENTS,
)


async def store_events_only(store: MemoryStore, changes) -> None:
    """As a crash right after the first group of a batch leaves it."""
    builder = BatchBuilder(1)
    for change in changes:
        builder.add(change)
    await store.write(WriteBatch(1, builder.build().groups[:1]))


def everything(store: MemoryStore) -> dict[str, dict[str, dict]]:
    return {name: {document["_id"]: document for document in store.documents(name)} for name in TRADER_COLLECTIONS}


def a_life(watcher: Watcher, upto: int = 99) -> None:
    """Orders and positions that see every kind of change."""
    steps = [
        lambda: watcher.shows([an_order(1, cloid="0xc"), an_order(2), an_order(3, parentOid=2)]),
        lambda: watcher.holds([a_position("BTC"), a_position("ETH")]),
        lambda: watcher.shows([an_order(4, cloid="0xc"), an_order(2, sz="0.1"), an_order(3, parentOid=2)]),
        lambda: watcher.holds([a_position("BTC", "-0.7"), a_position("ETH")]),
        lambda: watcher.shows([an_order(4, cloid="0xc"), an_order(3)]),
        lambda: watcher.holds([a_position("ETH")]),
        lambda: watcher.shows([an_order(2), an_order(4, cloid="0xc")]),
        lambda: watcher.shows([an_order(2), an_order(4, cloid="0xc")]),
        lambda: watcher.holds([a_position("BTC", "0.1"), a_position("ETH")]),
    ]
    for step in steps[:upto]:
        step()


# -- rolling forward -------------------------------------------------------------------------------------------------


async def test_after_a_clean_stop_nothing_is_behind():
    watcher = Watcher()
    a_life(watcher)
    store = await watcher.stored()
    before = everything(store)
    assert await roll_forward(store) == 0
    assert everything(store) == before


async def test_an_empty_database_has_nothing_to_mend():
    assert await roll_forward(MemoryStore()) == 0


@pytest.mark.parametrize("stored_steps", range(9))
async def test_states_that_a_crash_left_behind_are_brought_up_to_their_events(stored_steps):
    whole, half = Watcher(), Watcher()
    a_life(whole)
    a_life(half, stored_steps)
    expected, store = await whole.stored(), await half.stored()
    for change in whole.changes[: len(half.changes)]:
        assert change in half.changes
    await store_events_only(store, whole.changes[len(half.changes) :])
    assert await roll_forward(store) > 0
    found, wanted = everything(store), everything(expected)
    for collection in TRADER_COLLECTIONS:
        for identity, document in wanted[collection].items():
            lost_with_the_patches = {"replacedBy", "replaces"} if collection is Collection.TRADER_ORDERS else set()
            for name, value in document.items():
                if name not in lost_with_the_patches and not _is_mark(collection, name):
                    assert found[collection][identity].get(name) == value, (collection, identity, name)
    assert await roll_forward(store) == 0


def _is_mark(collection: Collection, name: str) -> bool:
    return collection is Collection.TRADER_POSITIONS and name in {"timestamp", "receivedAt"}


async def test_all_missing_events_of_a_document_count_and_not_only_the_last():
    watcher = Watcher()
    watcher.shows([an_order(1, cloid="0xc")])
    watcher.holds([a_position()])
    store = await watcher.stored()
    seen = len(watcher.changes)
    watcher.shows([an_order(2, cloid="0xc")])
    watcher.shows([an_order(2, cloid="0xc", sz="0.1")])
    watcher.holds([])
    watcher.holds([a_position("BTC", "2.0")])
    watcher.holds([a_position("BTC", "3.0")])
    await store_events_only(store, watcher.changes[seen:])
    assert await roll_forward(store) == 3
    orders = {document["oid"]: document for document in store.documents(Collection.TRADER_ORDERS)}
    assert (orders[2]["replaces"], orders[2]["sz"], orders[2]["revision"]) == (1, 0.1, 2)
    assert (orders[1]["status"], orders[1]["replacedBy"], orders[1]["closeReason"]) == ("closed", 2, "unknown")
    events = {event["_id"]: event for event in store.documents(Collection.TRADER_ORDER_EVENTS)}
    assert orders[2]["createdAt"] == events[f"{TRADER}:2:1"]["receivedAt"]
    [position] = store.documents(Collection.TRADER_POSITIONS)
    reopened = next(event for event in store.documents(Collection.TRADER_POSITION_EVENTS) if event["revision"] == 3)
    assert (position["szi"], position["revision"], position["status"]) == (3.0, 4, "open")
    assert (position["openedAt"], position["closedAt"], position["closeObserved"]) == (
        reopened["timestamp"],
        None,
        None,
    )


async def test_the_run_after_a_crash_goes_on_counting_from_the_events():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    store = await watcher.stored()
    seen = len(watcher.changes)
    watcher.shows([an_order(1, sz="0.1"), an_order(2)])
    watcher.shows([an_order(1, sz="0.1")])
    await store_events_only(store, watcher.changes[seen:])
    after = await watcher_over(store, now_ms=watcher.now_ms)
    assert after.shows([an_order(1, sz="0.1")]) == []
    assert told(after.shows([])) == [("closed", 1, 3)]


async def test_it_is_told_how_many_were_behind():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    store = MemoryStore()
    await store_events_only(store, watcher.changes)
    with capture_logs() as logs:
        assert await roll_forward(store) == 2
    assert logs == [{"event": "states_rolled_forward", "documents": 2, "log_level": "info"}]


async def test_many_documents_behind_are_written_in_pieces(monkeypatch):
    monkeypatch.setattr(restore_module, "_CHUNK", 3)
    watcher = Watcher()
    watcher.shows(some_orders(*range(8)))
    store = MemoryStore()
    await store_events_only(store, watcher.changes)
    store.batches.clear()
    assert await roll_forward(store) == 8
    assert [len(batch) for batch in store.batches] == [3, 3, 2]
    assert all(isinstance(write, Upsert) for batch in store.batches for group in batch.groups for write in group)


async def test_a_failure_half_way_can_be_repeated(monkeypatch):
    monkeypatch.setattr(restore_module, "_CHUNK", 3)
    watcher = Watcher()
    watcher.shows(some_orders(*range(8)))
    store = MemoryStore()
    await store_events_only(store, watcher.changes)
    store.fail_next(StoreError("away"))
    with pytest.raises(StoreError):
        await roll_forward(store)
    assert await roll_forward(store) == 8


# -- reading back ----------------------------------------------------------------------------------------------------


async def test_only_the_traders_asked_for_are_read_back():
    ours, theirs = Watcher(), Watcher(trader=OTHER_TRADER)
    ours.shows(some_orders(1))
    ours.holds([a_position()])
    theirs.shows(some_orders(2, 3))
    theirs.holds([a_position("ETH")])
    store = await ours.stored()
    await store_changes(store, theirs.changes)
    diff = Diff(metrics=Metrics())
    await restore_traders(store, diff, [TRADER], START_MS)
    assert (diff.open_orders, diff.open_positions) == (1, 1)
    await restore_traders(store, diff, [OTHER_TRADER], START_MS)
    assert (diff.open_orders, diff.open_positions) == (3, 2)


async def test_nobody_to_read_back_reads_nothing():
    diff = Diff(metrics=Metrics())
    await restore_traders(MemoryStore(), diff, [], START_MS)
    assert diff.open_orders == 0


async def test_reading_back_twice_is_the_same_as_once():
    watcher = Watcher()
    a_life(watcher)
    store = await watcher.stored()
    after = await watcher_over(store, now_ms=watcher.now_ms)
    await restore_traders(store, after.diff, [TRADER], watcher.now_ms)
    assert after.diff.open_orders == watcher.diff.open_orders
    assert after.shows([an_order(2), an_order(4, cloid="0xc")]) == []


async def test_many_traders_are_read_back_in_pieces(monkeypatch):
    monkeypatch.setattr(restore_module, "_CHUNK", 2)
    store, traders = MemoryStore(), [f"0x{number:040x}" for number in range(5)]
    for trader in traders:
        watcher = Watcher(trader=trader)
        watcher.shows(some_orders(1))
        await store_changes(store, watcher.changes)
    diff = Diff(metrics=Metrics())
    await restore_traders(store, diff, traders, START_MS)
    assert diff.open_orders == 5


async def test_dexes_are_read_back_apart():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.shows(some_orders(2), dex="xyz")
    watcher.holds([a_position("xyz:TSLA")], dex="xyz")
    after = await watcher.restarted()
    assert told(after.shows([], dex="xyz")) == [("closed", 2, 2)]
    assert after.diff.open_orders == 1
    assert [change.dex for change in after.holds([], dex="xyz")] == ["xyz"]


async def test_orders_closed_long_before_are_not_remembered():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.shows([])
    long_after_ms = watcher.now_ms + int(CLOSED_WINDOW.total_seconds() * 1000) + 1
    after = await watcher_over(await watcher.stored(), now_ms=long_after_ms)
    assert after.diff._orders == {} or not after.diff._orders[TRADER, ""].closed


async def test_of_many_closed_orders_the_last_to_close_are_remembered():
    watcher, many = Watcher(), CLOSED_MEMORY + 40
    for oid in range(1, many + 1):
        watcher.shows(some_orders(oid))
        watcher.now_ms -= STEP_MS - 100
    watcher.shows([])
    store = MemoryStore()
    await store_changes(store, list(reversed(watcher.changes)))
    after = await watcher_over(store, now_ms=watcher.now_ms)
    assert min(after.diff._orders[TRADER, ""].closed) == many - CLOSED_MEMORY + 1


async def test_a_document_without_a_dex_is_of_the_main_one():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    store = await watcher.stored()
    for collection in (Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS):
        for document in store._documents[collection].values():
            del document["dex"]
    after = await watcher_over(store, now_ms=watcher.now_ms)
    assert told(after.shows([])) == [("closed", 1, 2)]


async def test_holes_that_are_still_open_are_read_back_and_closed_ones_are_not():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.loses_sight("openOrders")
    watcher.shows(some_orders(1))
    watcher.loses_sight("openOrders", "userFills")
    store = await watcher.stored()
    diff = Diff(metrics=Metrics())
    assert await restore_holes(store, diff) == 2
    assert {stream.channel: hole.from_ms for stream, hole in diff.holes.items()} == {
        "openOrders": watcher.now_ms,
        "userFills": watcher.now_ms,
    }


async def test_events_from_before_the_time_asked_for_are_left_to_the_next_start():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    store = await watcher.stored()
    seen = len(watcher.changes)
    watcher.shows([an_order(1), an_order(2)])
    await store_events_only(store, watcher.changes[seen:])
    received_ms = watcher.changes[seen].received_ms
    assert await roll_forward(store, received_ms + 1) == 0
    assert await roll_forward(store, received_ms) == 1
