"""When a list is not believed at once: more than half of ten or more gone, or closed orders back."""

from __future__ import annotations

import pytest

from src.models.metrics import MESSAGES_HELD
from src.models.orders import pack_order
from src.pipeline.orders import CLOSED_MEMORY
from tests.support.trader_states import STEP_MS, Watcher, an_order, some_orders, told

TEN = tuple(range(1, 11))
TWELVE = tuple(range(1, 13))


def closed(changes) -> set[int]:
    return {oid for action, oid, _ in told(changes) if action == "closed"}


def test_more_than_half_of_ten_gone_is_confirmed_by_the_next_list():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    assert watcher.shows(some_orders(1, 2, 3, 4)) == []
    assert watcher.metrics.value(MESSAGES_HELD, "vanishing") == 1
    assert watcher.diff.open_orders == 10
    changes = watcher.shows(some_orders(1, 2, 3, 4))
    assert closed(changes) == {5, 6, 7, 8, 9, 10}
    assert {change.observed for change in changes} == {"live"}


def test_more_than_half_gone_is_confirmed_by_the_very_same_mapping():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    rows = {1: pack_order(an_order(1))}
    assert watcher.shows([], rows=rows) == []
    assert closed(watcher.shows([], rows=rows)) == set(range(2, 11))
    assert watcher.shows([], rows=rows) == []


def test_more_than_half_gone_is_refuted_by_the_next_list():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    watcher.shows([])
    assert watcher.shows(some_orders(*TEN)) == []
    assert watcher.diff.open_orders == 10
    assert closed(watcher.shows(some_orders(*TEN[1:]))) == {1}


def test_a_refuted_doubt_does_not_confirm_a_later_one():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    watcher.shows([])
    watcher.shows(some_orders(*TEN))
    assert watcher.shows([]) == []
    assert closed(watcher.shows([])) == set(TEN)


def test_the_second_list_confirms_only_what_it_misses_too():
    watcher = Watcher()
    watcher.shows(some_orders(*TWELVE))
    watcher.shows(some_orders(1, 2, 3, 4, 5))
    changes = watcher.shows(some_orders(1, 2, 3, 4, 5, 6, 7, 8))
    assert closed(changes) == {9, 10, 11, 12}
    assert watcher.diff.open_orders == 8


def test_a_second_list_that_loses_other_orders_puts_those_in_doubt():
    watcher = Watcher()
    thirty = tuple(range(1, 31))
    watcher.shows(some_orders(*thirty))
    assert watcher.shows(some_orders(*range(17, 31))) == []  # 1-16 gone
    changes = watcher.shows(some_orders(*range(1, 14)))  # 1-13 back, 14-16 still gone, 17-30 (14 of 30) newly gone
    assert closed(changes) == {14, 15, 16} | set(range(17, 31))  # fourteen of thirty are not more than half


def test_a_second_list_that_loses_more_than_half_again_confirms_the_first_and_waits_for_the_rest():
    watcher = Watcher()
    watcher.shows(some_orders(*range(1, 42)))
    assert watcher.shows(some_orders(*range(22, 42))) == []  # 1-21 gone, of 41
    changes = watcher.shows(some_orders(*range(2, 22)))  # 1 still gone, 2-21 back, 22-41 (20 of 41) newly gone
    assert closed(changes) == {1, *range(22, 42)}
    watcher = Watcher()
    watcher.shows(some_orders(*range(1, 21)))
    assert watcher.shows(some_orders(*range(12, 21))) == []  # 1-11 gone, of 20
    changes = watcher.shows(some_orders(*range(2, 10)))  # 2-9 back; 1, 10, 11 confirmed; 12-20 (9 of 20) newly gone
    assert closed(changes) == {1, 10, 11, *range(12, 21)}


def test_two_sudden_losses_in_a_row_confirm_only_what_both_miss():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    watcher.shows(some_orders(1, 2, 3, 4, *range(11, 21)))  # 5-10 gone, ten new ones
    changes = watcher.shows(some_orders(5, 6, 7, 8, 9))  # 10 still gone; all fourteen others newly gone
    assert closed(changes) == {10}
    assert watcher.metrics.value(MESSAGES_HELD, "vanishing") == 2
    assert closed(watcher.shows(some_orders(5, 6, 7, 8, 9))) == {1, 2, 3, 4, *range(11, 21)}


def test_orders_that_appear_beside_a_sudden_loss_are_believed():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    assert told(watcher.shows(some_orders(1, 99))) == [("new", 99, 1)]
    changes = watcher.shows(some_orders(1, 99))
    assert closed(changes) == set(range(2, 11))


def test_changes_beside_a_sudden_loss_are_believed():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    assert told(watcher.shows([an_order(1, sz="0.1")])) == [("updated", 1, 2)]


def test_exactly_half_is_believed_at_once():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    assert closed(watcher.shows(some_orders(1, 2, 3, 4, 5))) == {6, 7, 8, 9, 10}


def test_nine_known_orders_are_too_few_to_doubt():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN[:9]))
    assert closed(watcher.shows([])) == set(TEN[:9])


def test_a_sudden_loss_after_a_gap_is_late_when_confirmed():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    watcher.loses_sight()
    assert watcher.shows([]) == []
    changes = watcher.shows([])
    assert closed(changes) == set(TEN)
    assert {change.observed for change in changes} == {"late"}


def test_a_sudden_loss_confirmed_only_after_a_gap_is_late():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    watcher.shows([])
    watcher.loses_sight()
    assert {change.observed for change in watcher.shows([])} == {"late"}


def test_what_vanishes_after_a_doubt_was_settled_is_live_again():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    watcher.loses_sight()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(1, 2))
    [change] = watcher.shows(some_orders(1))
    assert change.observed == "live"


@pytest.mark.parametrize("believed", ["first", "second"])
def test_a_late_old_list_that_brings_back_closed_orders_is_not_believed(believed):
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(2, 3))
    assert watcher.shows(some_orders(1, 2)) == []  # the old list again: says that 1 is back and 3 gone
    assert watcher.metrics.value(MESSAGES_HELD, "reopening") == 1
    if believed == "first":
        assert watcher.shows(some_orders(2, 3)) == []
        assert watcher.diff.open_orders == 2
    else:
        changes = watcher.shows(some_orders(1, 2))
        assert told(changes) == [("closed", 3, 2), ("reopened", 1, 3)]


def test_a_late_old_list_that_comes_twice_apart_is_not_believed():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(2))
    assert watcher.shows(some_orders(1, 2)) == []
    assert watcher.shows(some_orders(2)) == []
    assert watcher.shows(some_orders(1, 2)) == []
    assert watcher.shows(some_orders(2)) == []


def test_another_late_list_does_not_confirm_the_first():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2, 9))
    watcher.shows(some_orders(2, 9))
    watcher.shows(some_orders(9))
    assert watcher.shows(some_orders(1, 9)) == []
    assert watcher.shows(some_orders(2, 9)) == []
    assert watcher.diff.open_orders == 1


def test_a_reopened_order_goes_on_counting():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.shows([])
    watcher.shows(some_orders(1))
    [change] = watcher.shows(some_orders(1))
    assert (change.action, change.reopened, change.revision) == ("updated", True, 3)
    assert change.changes == {"status": {"from": "closed", "to": "open"}}
    [change] = watcher.shows([])
    assert told([change]) == [("closed", 1, 4)]


def test_a_doubted_list_does_not_count_as_having_looked():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(2))
    watcher.loses_sight()
    assert watcher.shows(some_orders(1)) == []  # not believed: 1 is back
    [change] = watcher.shows([])
    assert (change.order.oid, change.observed) == (2, "late")


def test_a_doubted_list_leaves_a_waiting_loss_waiting():
    watcher = Watcher()
    watcher.shows(some_orders(0, *TEN))
    watcher.shows(some_orders(*TEN))
    watcher.shows([])  # ten gone, waiting
    assert watcher.shows(some_orders(0)) == []  # 0 is back: not believed
    assert closed(watcher.shows([])) == set(TEN)


def test_closed_orders_are_remembered_up_to_a_bound():
    watcher = Watcher()
    watcher.shows(some_orders(*range(CLOSED_MEMORY + 1)))
    watcher.shows([])
    watcher.shows([])
    assert watcher.diff.open_orders == 0
    state = watcher.diff._orders["0x00000000000000000000000000000000000000aa", ""]
    assert len(state.closed) == CLOSED_MEMORY
    assert 0 not in state.closed


# -- duplicates of a doubtful list -----------------------------------------------------------------------------------


def at_once(watcher, rows):
    """The same list again, one millisecond after the last one."""
    watcher.now_ms += 1 - STEP_MS
    return watcher.shows([], rows=rows)


def test_a_cut_list_delivered_twice_does_not_confirm_itself():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    cut = {1: pack_order(an_order(1))}
    assert watcher.shows([], rows=cut) == []
    assert at_once(watcher, cut) == []
    assert watcher.metrics.value(MESSAGES_HELD, "repeated") == 1
    assert watcher.shows(some_orders(*TEN)) == []
    assert watcher.diff.open_orders == 10


def test_a_late_list_delivered_twice_does_not_reopen_what_it_brings_back():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(1))
    late = {oid: pack_order(an_order(oid)) for oid in (1, 2)}
    assert watcher.shows([], rows=late) == []
    assert at_once(watcher, late) == []
    assert watcher.shows(some_orders(1)) == []
    assert watcher.diff.open_orders == 1


def test_the_same_list_a_moment_later_is_a_second_opinion():
    watcher = Watcher()
    watcher.shows(some_orders(*TEN))
    cut = {1: pack_order(an_order(1))}
    watcher.shows([], rows=cut)
    assert closed(watcher.shows([], rows=cut)) == set(TEN) - {1}
