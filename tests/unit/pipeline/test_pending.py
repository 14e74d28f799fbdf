"""Changes that wait for MongoDB: segments, order, limit."""

from __future__ import annotations

from src.models.changes import Change, OrderLink
from src.pipeline import pending as pending_module
from src.pipeline.pending import SEGMENT_SIZE, Pending


def changes(*oids: int) -> list[Change]:
    return [OrderLink("hyperliquid", "0x", oid) for oid in oids]


def oids(segment: list[Change]) -> list[int]:
    return [change.oid for change in segment if isinstance(change, OrderLink)]


def test_nothing_waits_at_first():
    pending = Pending(10)
    assert (len(pending), pending.segments, pending.is_full, pending.take()) == (0, 0, False, [])
    pending.add([])
    assert pending.segments == 0


def test_changes_leave_in_the_order_in_which_they_came():
    pending = Pending(10)
    pending.add(changes(1, 2))
    pending.add(changes(3))
    assert oids(pending.take()) == [1, 2, 3]


def test_what_is_taken_still_counts_until_it_is_done():
    pending = Pending(3)
    pending.add(changes(1, 2, 3))
    segment = pending.take()
    assert (len(pending), pending.is_full, pending.segments) == (3, True, 0)
    pending.done(len(segment))
    assert (len(pending), pending.is_full) == (0, False)


def test_what_comes_while_a_segment_is_under_way_goes_into_another():
    pending = Pending(10)
    pending.add(changes(1))
    taken = pending.take()
    pending.add(changes(2))
    assert oids(taken) == [1]
    pending.put_back(taken)
    assert [oids(pending.take()), oids(pending.take())] == [[1], [2]]


def test_a_segment_put_back_is_the_next_one_taken_and_may_grow():
    pending = Pending(10)
    pending.add(changes(1))
    pending.put_back(pending.take())
    pending.add(changes(2))
    assert pending.segments == 1
    assert oids(pending.take()) == [1, 2]
    assert len(pending) == 2


def test_nothing_put_back_is_nothing():
    pending = Pending(10)
    pending.put_back([])
    assert pending.segments == 0


def test_segments_are_cut_at_their_size(monkeypatch):
    monkeypatch.setattr(pending_module, "SEGMENT_SIZE", 3)
    pending = Pending(100)
    for oid in range(7):
        pending.add(changes(oid))
    assert [oids(pending.take()) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_one_call_is_never_torn_apart(monkeypatch):
    monkeypatch.setattr(pending_module, "SEGMENT_SIZE", 3)
    pending = Pending(100)
    pending.add(changes(*range(8)))
    pending.add(changes(8))
    assert [oids(pending.take()) for _ in range(2)] == [list(range(8)), [8]]


def test_it_is_full_at_its_limit():
    pending = Pending(2)
    pending.add(changes(1))
    assert not pending.is_full
    pending.add(changes(2, 3))
    assert pending.is_full


def test_a_restart_looks_back_far_enough_for_one_segment_with_one_large_call():
    from src.pipeline.restore import LOOK_BACK

    most_open_orders = 5_000  # the venue's limit per trader
    assert SEGMENT_SIZE - 1 + most_open_orders <= LOOK_BACK
