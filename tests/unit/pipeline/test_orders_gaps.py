"""Not having looked: gaps, restarts, and what the first list afterwards is compared with."""

from __future__ import annotations

import pytest

from src.models.changes import HoleClosed, HoleOpened
from src.models.messages import Data, Gap, GapReason
from src.models.streams import StreamKey
from src.models.writes import Collection
from src.pipeline.diff import Hole
from tests.support.trader_states import (
    START_MS,
    STEP_MS,
    TRADER,
    Watcher,
    an_order,
    orders_data,
    some_orders,
    store_changes,
    told,
    watcher_over,
)


async def test_the_first_list_after_a_restart_is_compared_with_what_was_stored():
    before = Watcher()
    before.shows([an_order(1), an_order(2), an_order(3, sz="0.15")])
    after = await before.restarted()
    assert after.diff.open_orders == 3
    changes = after.shows([an_order(2), an_order(3, sz="0.05"), an_order(4)])
    assert told(changes) == [("closed", 1, 2), ("new", 4, 1), ("updated", 3, 2)]
    assert changes[0].observed == "late"
    assert changes[2].changes == {"sz": {"from": 0.15, "to": 0.05}}


async def test_after_a_restart_with_nothing_changed_nothing_is_written():
    before = Watcher()
    orders = [
        an_order(1, limitPx="0.00001", sz="123456789012345", origSz="0.000010"),
        an_order(2, sz="0.0", origSz="0.0", isPositionTpsl=True, isTrigger=True, triggerPx="71.0", tif=None),
        an_order(3, cloid="0x01", parentOid=1, reduceOnly=True),
        an_order(4, origSz=None, timestamp=None, orderType=None, tif=None, reduceOnly=None, triggerPx=None),
        an_order(5, limitPx="3155203.7660619998", timestamp=253_402_300_799_999),
    ]
    before.shows(orders)
    after = await before.restarted()
    assert after.shows(orders) == []


async def test_an_activated_child_is_not_activated_again_by_a_restart():
    before = Watcher()
    before.shows([an_order(1), an_order(2, parentOid=1)])
    before.shows([an_order(2)])
    after = await before.restarted()
    assert after.shows([an_order(2)]) == []
    assert after.shows([an_order(2)]) == []


async def test_an_activated_child_keeps_the_name_of_its_parent_in_its_document():
    watcher = Watcher()
    watcher.shows([an_order(1), an_order(2, parentOid=1)])
    watcher.shows([an_order(2)])
    watcher.shows([an_order(2, sz="0.1")])
    stored = {document["oid"]: document for document in (await watcher.stored()).documents(Collection.TRADER_ORDERS)}
    assert (stored[2]["parentOid"], stored[2]["activated"]) == (1, True)
    assert "activated" not in stored[1]


async def test_after_a_restart_a_sudden_loss_still_waits_for_the_next_list():
    before = Watcher()
    before.shows(some_orders(*range(12)))
    after = await before.restarted()
    assert after.shows(some_orders(0)) == []
    changes = after.shows(some_orders(0))
    assert {change.observed for change in changes} == {"late"}
    assert len(changes) == 11


async def test_orders_closed_shortly_before_a_restart_go_on_counting_when_they_come_back():
    before = Watcher()
    before.shows(some_orders(1))
    before.shows([])
    after = await before.restarted()
    assert after.shows(some_orders(1)) == []
    assert told(after.shows(some_orders(1))) == [("reopened", 1, 3)]


async def test_an_order_closed_twice_before_a_restart_goes_on_from_its_last_revision():
    before = Watcher()
    for visible in ([1], [], [1], [1], []):
        before.shows(some_orders(*visible))
    assert [change.revision for change in before.changes] == [1, 2, 3, 4]
    after = await before.restarted()
    after.shows(some_orders(1))
    assert told(after.shows(some_orders(1))) == [("reopened", 1, 5)]


async def test_the_order_of_closed_events_in_the_database_does_not_matter():
    before = Watcher()
    for visible in ([1], [], [1], [1], []):
        before.shows(some_orders(*visible))
    from src.store.memory import MemoryStore

    store = MemoryStore()
    await store_changes(store, list(reversed(before.changes)))
    after = await watcher_over(store, now_ms=before.now_ms)
    after.shows(some_orders(1))
    assert told(after.shows(some_orders(1))) == [("reopened", 1, 5)]


def test_what_vanishes_in_a_gap_is_found_late():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.loses_sight()
    [change] = watcher.shows(some_orders(2))
    assert (change.action, change.observed) == ("closed", "late")
    [change] = watcher.shows([])
    assert (change.action, change.observed) == ("closed", "live")


def test_an_unchanged_list_after_a_gap_ends_the_blindness():
    watcher = Watcher()
    rows = orders_data(some_orders(1), received_ms=1).messages[0].rows
    watcher.shows([], rows=rows)
    watcher.loses_sight()
    watcher.shows([], rows=rows)  # the very same mapping
    [change] = watcher.shows([])
    assert change.observed == "live"


def test_a_gap_in_another_stream_blinds_nothing():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.loses_sight("clearinghouseState", "userFills")
    [change] = watcher.shows([])
    assert change.observed == "live"


def test_only_the_stream_that_feeds_a_list_now_can_blind_it():
    watcher = Watcher()
    watcher.shows(some_orders(1), channel="webData2", at_ms=START_MS)
    watcher.shows(some_orders(1), channel="openOrders")
    watcher.loses_sight("webData2")
    [change] = watcher.shows([])
    assert change.observed == "live"


def test_a_gap_is_a_hole_until_the_next_data_of_its_stream():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    gap_ms = watcher.now_ms
    stream = StreamKey("hyperliquid", "openOrders", TRADER)
    assert watcher.loses_sight("openOrders") == [
        HoleOpened(f"hyperliquid/openOrders/{TRADER}", "hyperliquid", gap_ms, "disconnect", "")
    ]
    assert watcher.loses_sight("openOrders") == []  # still the same hole
    assert watcher.diff.holes == {stream: Hole(gap_ms, "disconnect")}
    watcher.shows(some_orders(1))
    assert watcher.last == [
        HoleClosed(f"hyperliquid/openOrders/{TRADER}", "hyperliquid", gap_ms, gap_ms + STEP_MS, "disconnect")
    ]
    assert watcher.diff.holes == {}


def test_a_frame_that_arrived_before_a_gap_does_not_end_it():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2, 3))
    stream = StreamKey("hyperliquid", "openOrders", TRADER)
    watcher.diff.apply_gap(Gap((stream,), GapReason.DISCONNECT, watcher.now_ms + 100))
    # It had been waiting in the buffer while the connection broke.
    [change] = watcher.diff.apply(orders_data(some_orders(2, 3), received_ms=watcher.now_ms + 50))
    assert told([change]) == [("closed", 1, 2)]
    assert stream in watcher.diff.holes
    watcher.shows(some_orders(3))
    hole, change = watcher.last
    assert hole == HoleClosed(
        str(stream), "hyperliquid", watcher.now_ms - STEP_MS + 100, watcher.now_ms, "disconnect"
    )
    assert change.observed == "late"


def test_a_frame_without_messages_ends_a_hole_at_its_arrival():
    watcher = Watcher()
    stream = StreamKey("hyperliquid", "userFills", TRADER)
    watcher.diff.apply_gap(Gap((stream,), GapReason.DISCONNECT, START_MS))
    [hole] = watcher.diff.apply(Data(stream, None, (), received_ms=START_MS + 7_000))
    assert (hole.from_ms, hole.to_ms) == (START_MS, START_MS + 7_000)


def test_a_frame_of_unknown_arrival_ends_no_hole():
    watcher = Watcher()
    stream = StreamKey("hyperliquid", "userFills", TRADER)
    watcher.diff.apply_gap(Gap((stream,), GapReason.DISCONNECT, START_MS))
    assert watcher.diff.apply(Data(stream, None, ())) == []
    assert stream in watcher.diff.holes


async def test_a_hole_that_was_open_at_the_end_of_a_run_ends_in_the_next():
    before = Watcher()
    before.shows(some_orders(1))
    gap_ms = before.now_ms
    before.loses_sight("openOrders", reason=GapReason.PROCESS_DOWN)
    after = await before.restarted()
    after.shows(some_orders(1))
    [hole] = after.last
    assert (hole.from_ms, hole.to_ms, hole.reason) == (gap_ms, after.now_ms, "process_down")


@pytest.mark.parametrize(
    "stream",
    [
        StreamKey("hyperliquid", "openOrders", TRADER),
        StreamKey("hyperliquid", "openOrders", TRADER, "xyz"),
        StreamKey("hyperliquid", "l2Book", "BTC"),
        StreamKey("hyperliquid", "l2Book", "PURR/USDC"),
        StreamKey("hyperliquid", "trades", "xyz:XYZ100"),
        StreamKey("hyperliquid", "trades", ""),
    ],
)
async def test_every_kind_of_stream_name_is_read_back_from_its_hole(stream):
    before = Watcher()
    before.changes += before.diff.apply_gap(Gap((stream,), GapReason.DISCONNECT, START_MS))
    after = await before.restarted()
    assert list(after.diff.holes) == [stream]


def test_a_clock_set_back_an_hour_does_not_keep_a_hole_open():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.loses_sight("openOrders")
    began_ms = watcher.now_ms
    watcher.now_ms -= 3_600_000
    watcher.shows(some_orders(1))
    [ended] = [change for change in watcher.last if isinstance(change, HoleClosed)]
    assert ended.to_ms >= ended.from_ms >= began_ms
    assert not watcher.diff.holes
