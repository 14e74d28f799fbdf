"""What a complete list of orders says, compared with the one before it: each rule under its own name."""

from __future__ import annotations

import pytest
from msgspec import structs

from src.models.changes import OrderChange
from src.models.messages import Data
from src.models.metrics import MESSAGES_OUTDATED, ORDER_CHANGES, TRACKED_ORDERS, Metrics
from src.models.orders import pack_order
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff
from tests.support.trader_states import (
    OTHER_TRADER,
    START_MS,
    TRADER,
    Watcher,
    an_order,
    orders_data,
    some_orders,
    told,
)


def test_an_order_that_appears_is_new():
    watcher = Watcher()
    [change] = watcher.shows(some_orders(1))
    assert (change.action, change.revision, change.observed, change.changes) == ("new", 1, None, {})
    assert change.order == an_order(1)
    assert change.received_ms == watcher.now_ms


def test_an_unchanged_list_changes_nothing():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    assert watcher.shows(some_orders(1, 2)) == []
    assert watcher.shows(some_orders(2, 1)) == []


def test_the_same_mapping_again_changes_nothing():
    watcher = Watcher()
    rows = {order.oid: pack_order(order) for order in some_orders(1, 2)}
    watcher.shows([], rows=rows)
    assert watcher.shows([], rows=rows) == []
    assert watcher.diff.open_orders == 2


def test_a_close_is_an_absence():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    [change] = watcher.shows(some_orders(2))
    assert told([change]) == [("closed", 1, 2)]
    assert change.observed == "live"
    assert change.order == an_order(1)  # its last known state
    assert change.changes == {"status": {"from": "open", "to": "closed"}}


def test_an_empty_list_closes_what_is_left():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    assert told(watcher.shows([])) == [("closed", 1, 2), ("closed", 2, 2)]
    assert watcher.diff.open_orders == 0


def test_an_absent_section_is_unknown():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    stream = orders_data([], received_ms=1).stream
    assert watcher.diff.apply(Data(stream, None, (), received_ms=watcher.now_ms)) == []
    assert watcher.diff.open_orders == 1


def test_an_older_message_never_wins():
    watcher = Watcher()
    watcher.shows(some_orders(1), at_ms=1_000, channel="webData2")
    assert watcher.shows([], at_ms=999, channel="webData2") == []
    assert watcher.shows(some_orders(1, 2), at_ms=999, channel="webData2") == []
    assert watcher.metrics.value(MESSAGES_OUTDATED, "orders") == 2
    assert told(watcher.shows([], at_ms=1_001, channel="webData2")) == [("closed", 1, 2)]


def test_of_two_messages_with_equal_times_the_later_to_arrive_counts():
    watcher = Watcher()
    watcher.shows(some_orders(1), at_ms=1_000, channel="webData2")
    assert told(watcher.shows(some_orders(1, 2), at_ms=1_000, channel="webData2")) == [("new", 2, 1)]
    assert watcher.shows(some_orders(1, 2), at_ms=1_000, channel="webData2") == []


def test_an_older_message_does_not_count_as_having_looked():
    watcher = Watcher()
    watcher.shows(some_orders(1), at_ms=1_000, channel="webData2")
    watcher.loses_sight("webData2")
    watcher.shows(some_orders(1), at_ms=999, channel="webData2")
    [change] = watcher.shows([], at_ms=1_001, channel="webData2")
    assert change.observed == "late"


def test_size_zero_of_a_live_position_tpsl_is_not_a_close():
    tpsl = an_order(1, sz="0.0", origSz="0.0", isPositionTpsl=True, isTrigger=True, orderType="Take Profit Market")
    watcher = Watcher()
    assert told(watcher.shows([tpsl])) == [("new", 1, 1)]
    assert watcher.shows([tpsl]) == []
    assert watcher.diff.open_orders == 1


def test_size_falling_to_zero_is_an_update_as_long_as_the_order_is_listed():
    watcher = Watcher()
    watcher.shows([an_order(1, isPositionTpsl=True)])
    [change] = watcher.shows([an_order(1, isPositionTpsl=True, sz="0.0")])
    assert change.action == "updated"
    assert change.changes == {"sz": {"from": 0.2, "to": 0.0}}


def test_a_partial_fill_keeps_the_oid():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    [change] = watcher.shows([an_order(1, sz="0.15")])
    assert told([change]) == [("updated", 1, 2)]
    assert change.changes == {"sz": {"from": 0.2, "to": 0.15}}
    assert change.order.origSz == "0.2"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.20", "0.2"),
        ("84000", "84000.0"),
        ("0.00001", "1e-05"),
        ("-0.0", "0.0"),
        ("0.30000000000000004", "0.30000000000000004"),
    ],
)
def test_another_text_of_the_same_number_is_no_change(before, after):
    watcher = Watcher()
    watcher.shows([an_order(1, sz=before)])
    assert watcher.shows([an_order(1, sz=after)]) == []
    # and the new text is what later lists are compared with
    assert watcher.shows([an_order(1, sz=after)]) == []


def test_a_change_tells_every_field_that_changed_with_stored_values():
    watcher = Watcher()
    watcher.shows([an_order(1, tif=None, triggerPx=None)])
    [change] = watcher.shows(
        [an_order(1, tif="Alo", triggerPx="71.5", triggerCondition="Triggered", reduceOnly=True)]
    )
    assert change.changes == {
        "tif": {"from": None, "to": "Alo"},
        "triggerPx": {"from": None, "to": 71.5},
        "triggerCondition": {"from": "N/A", "to": "Triggered"},
        "reduceOnly": {"from": False, "to": True},
    }


def test_a_child_that_becomes_an_order_of_its_own_is_an_update():
    watcher = Watcher()
    watcher.shows([an_order(1), an_order(2, parentOid=1)])
    changes = watcher.shows([an_order(2)])
    assert told(changes) == [("closed", 1, 2), ("updated", 2, 2)]
    assert changes[1].changes == {"parentOid": {"from": 1, "to": None}}


def test_revisions_count_up_by_one_per_change():
    watcher = Watcher()
    for size in ("0.2", "0.15", "0.15", "0.1"):
        watcher.shows([an_order(1, sz=size)])
    watcher.shows([])
    assert [c.revision for c in watcher.changes] == [1, 2, 3, 4]


def test_an_order_that_opens_and_closes_between_two_drains_yields_both_events():
    buffer, diff = Buffer(10, metrics=Metrics()), Diff(metrics=Metrics())
    buffer.put(orders_data([], received_ms=START_MS))
    buffer.put(orders_data(some_orders(1), received_ms=START_MS + 10))
    buffer.put(orders_data([], received_ms=START_MS + 20))
    changes = [change for data in buffer.drain() for change in diff.apply(data)]
    assert told(changes) == [("new", 1, 1), ("closed", 1, 2)]
    assert changes[1].observed == "live"


def test_snapshots_of_one_dex_never_close_orders_of_another():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.shows(some_orders(2), dex="xyz")
    assert watcher.shows([], dex="abc") == []
    assert told(watcher.shows([], dex="xyz")) == [("closed", 2, 2)]
    assert watcher.diff.open_orders == 1


def test_snapshots_of_one_trader_never_close_orders_of_another():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    assert watcher.shows([], trader=OTHER_TRADER) == []
    assert watcher.diff.open_orders == 1


def test_orders_are_not_followed_when_switched_off():
    from src.pipeline.diff import Kinds

    diff = Diff(metrics=Metrics(), kinds=Kinds(orders=False))
    assert diff.apply(orders_data(some_orders(1), received_ms=START_MS)) == []
    assert diff.open_orders == 0


def test_everything_found_is_counted():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows([an_order(2, sz="0.1")])
    counted = {labels[0]: value for labels, value in watcher.metrics.by_label(ORDER_CHANGES).items()}
    assert counted == {"new": 2, "updated": 1, "closed": 1}
    assert watcher.metrics.value(TRACKED_ORDERS) == watcher.diff.open_orders == 1


def test_forgetting_a_trader_forgets_the_orders_and_nobody_elses():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(3), dex="xyz")
    watcher.shows(some_orders(4), trader=OTHER_TRADER)
    watcher.diff.forget(TRADER)
    assert watcher.diff.open_orders == 1
    assert told(watcher.shows(some_orders(4), trader=OTHER_TRADER)) == []


def test_restored_orders_are_compared_even_with_a_list_that_was_seen_before():
    watcher = Watcher()
    rows = {1: pack_order(an_order(1))}
    watcher.shows([], rows=rows)
    watcher.diff.restore_order(TRADER, "", an_order(7), 3)  # followed anew: what is stored is loaded again
    assert told(watcher.shows([], rows=rows)) == [("closed", 7, 4)]


def test_the_message_is_left_as_it_was():
    watcher = Watcher()
    data = orders_data(some_orders(1, 2), received_ms=START_MS)
    copy = structs.replace(data)
    watcher.diff.apply(data)
    watcher.shows([])
    assert data == copy
    assert list(data.messages[0].rows) == [1, 2]


def test_the_same_input_gives_the_same_changes():
    lists = [some_orders(1, 2, cloid="0xc"), some_orders(2, 3, cloid="0xc"), [an_order(3, sz="0.1")], []]
    runs = []
    for _ in range(2):
        watcher = Watcher()
        for orders in lists:
            watcher.shows(orders)
        runs.append(watcher.changes)
    assert runs[0] == runs[1]
    assert all(isinstance(change, OrderChange) or change.replaced_by or change.replaces for change in runs[0])


def test_a_stream_that_takes_turns_with_another_leaves_no_trace_behind():
    watcher = Watcher()
    for _ in range(50):
        watcher.shows(some_orders(1), channel="openOrders")
        watcher.shows(some_orders(1), channel="webData2", at_ms=watcher.now_ms)
    assert max(len(states) for states in watcher.diff._fed.values()) == 1
