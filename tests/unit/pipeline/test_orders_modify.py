"""A modify is a close plus a new order with the same cloid, linked both ways, in whatever order the legs show."""

from __future__ import annotations

from src.models.changes import OrderLink
from src.models.writes import Collection
from src.pipeline.orders import REPLACE_WINDOW_MS
from tests.support.trader_states import START_MS, STEP_MS, Watcher, an_order, links, told

CLOID = "0x000000000000000000065d291ba7c026"


def leg(oid: int, **fields):
    return an_order(oid, cloid=CLOID, **{"timestamp": START_MS + oid, **fields})


def test_both_legs_in_the_same_list():
    watcher = Watcher()
    watcher.shows([leg(1)])
    changes = watcher.shows([leg(2, limitPx="85000.0")])
    assert told(changes) == [("closed", 1, 2), ("new", 2, 1)]
    assert changes[0].replaced_by == 2
    assert changes[1].replaces == 1


def test_the_new_leg_shows_first():
    watcher = Watcher()
    watcher.shows([leg(1)])
    assert told(watcher.shows([leg(1), leg(2)])) == [("new", 2, 1)]
    changes = watcher.shows([leg(2)])
    assert told(changes) == [("closed", 1, 2)]
    assert links(watcher.changes) == {1: (None, 2), 2: (1, None)}


def test_the_old_leg_is_gone_first():
    watcher = Watcher()
    watcher.shows([leg(1)])
    assert told(watcher.shows([])) == [("closed", 1, 2)]
    changes = watcher.shows([leg(2, timestamp=watcher.now_ms)])
    assert told(changes) == [("new", 2, 1)]
    assert links(watcher.changes) == {1: (None, 2), 2: (1, None)}


def test_both_legs_visible_from_the_start():
    watcher = Watcher()
    watcher.shows([leg(1), leg(2)])
    watcher.shows([leg(2)])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, None)}


def test_three_steps_one_list_each():
    watcher = Watcher()
    for oid in (1, 2, 3):
        watcher.shows([leg(oid)])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, 3), 3: (2, None)}


def test_three_steps_of_which_the_middle_one_was_never_seen():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([leg(3)])
    assert links(watcher.changes) == {1: (None, 3), 3: (1, None)}


def test_three_steps_with_the_new_leg_first_each_time():
    watcher = Watcher()
    for visible in ([1], [1, 2], [2], [2, 3], [3]):
        watcher.shows([leg(oid) for oid in visible])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, 3), 3: (2, None)}


def test_three_steps_with_the_old_leg_gone_first_each_time():
    watcher = Watcher()
    for visible in ([1], [], [2], [], [3]):
        watcher.shows([leg(oid) for oid in visible])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, 3), 3: (2, None)}


def test_three_steps_in_different_ways():
    for script in ([[1], [], [2], [2, 3], [3]], [[1], [1, 2], [2], [], [3]], [[1], [2], [2, 3], [3]]):
        watcher = Watcher()
        for visible in script:
            watcher.shows([leg(oid) for oid in visible])
        assert links(watcher.changes) == {1: (None, 2), 2: (1, 3), 3: (2, None)}


def test_an_order_never_replaces_a_newer_one():
    watcher = Watcher()
    watcher.shows([leg(5)])
    watcher.shows([])
    watcher.shows([leg(3)])  # it was placed before, and shows late
    assert links(watcher.changes) == {}


def test_a_second_modify_while_the_first_one_is_still_visible():
    watcher = Watcher()
    for visible in ([1], [2, 3], [3]):
        watcher.shows([leg(oid) for oid in visible])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, 3), 3: (2, None)}


def test_two_legs_that_vanish_together_are_linked_in_a_row():
    watcher = Watcher()
    for visible in ([1], [1, 2], [3]):
        watcher.shows([leg(oid) for oid in visible])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, 3), 3: (2, None)}


def test_an_order_is_never_replaced_by_an_older_one():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([leg(1), leg(2)])
    changes = watcher.shows([leg(1)])  # the new leg was filled before the old one left the list
    assert told(changes) == [("closed", 2, 2)]
    assert changes[0].replaced_by is None
    assert not any(isinstance(change, OrderLink) for change in changes)
    watcher.shows([])
    assert links(watcher.changes) == {}


def test_orders_without_a_cloid_are_never_linked():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    changes = watcher.shows([an_order(2)])
    assert told(changes) == [("closed", 1, 2), ("new", 2, 1)]
    assert links(changes) == {}


def test_different_cloids_are_not_linked():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([an_order(2, cloid="0xother")])
    assert links(watcher.changes) == {}


def test_a_cloid_used_again_long_after_is_no_modify():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([])
    closed_ms = watcher.now_ms
    watcher.shows([leg(2, timestamp=closed_ms + REPLACE_WINDOW_MS + 1)])
    assert links(watcher.changes) == {}


def test_a_cloid_used_again_at_the_end_of_the_window_counts():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([])
    watcher.shows([leg(2, timestamp=watcher.now_ms + REPLACE_WINDOW_MS)])
    assert links(watcher.changes) == {1: (None, 2), 2: (1, None)}


def test_a_partial_fill_of_the_new_leg_keeps_the_link():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([leg(2)])
    changes = watcher.shows([leg(2, sz="0.1")])
    assert told(changes) == [("updated", 2, 2)]
    assert links(watcher.changes) == {1: (None, 2), 2: (1, None)}


async def test_both_sides_of_every_kind_of_modify_are_stored():
    for script in (([1], [2]), ([1], [1, 2], [2]), ([1], [], [2])):
        watcher = Watcher()
        for visible in script:
            watcher.shows([leg(oid) for oid in visible])
        store = await watcher.stored()
        stored = {document["oid"]: document for document in store.documents(Collection.TRADER_ORDERS)}
        assert stored[1]["replacedBy"] == 2
        assert stored[2]["replaces"] == 1
        assert "replaces" not in stored[1]
        assert "replacedBy" not in stored[2]


async def test_a_modify_across_a_restart_is_linked():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([])
    later = await watcher.restarted()
    changes = later.shows([leg(2, timestamp=watcher.now_ms + STEP_MS)])
    assert links(changes) == {1: (None, 2), 2: (1, None)}


async def test_an_order_replaced_before_a_restart_is_not_replaced_again():
    watcher = Watcher()
    watcher.shows([leg(1)])
    watcher.shows([leg(2)])
    later = await watcher.restarted()
    later.shows([leg(2), leg(3)])
    later.shows([leg(3)])
    assert links(later.changes) == {2: (None, 3), 3: (2, None)}
