"""Changes that wait for MongoDB, in memory alone: segments, order, limit."""

from __future__ import annotations

from src.models.changes import Change, OrderLink
from src.models.clock import ManualClock
from src.models.metrics import Metrics
from src.pipeline.pending import SEGMENT_SIZE, Pending, Segment


def a_pending(limit: int, *, segment_size: int = SEGMENT_SIZE) -> Pending:
    return Pending(limit, clock=ManualClock(), metrics=Metrics(), segment_size=segment_size)


def changes(*oids: int) -> list[Change]:
    return [OrderLink("hyperliquid", "0x", oid) for oid in oids]


def oids(segment: Segment | None) -> list[int]:
    assert segment is not None
    return [change.oid for change in segment.changes if isinstance(change, OrderLink)]


def take(pending: Pending) -> Segment:
    segment = pending.take()
    assert segment is not None
    return segment


def test_nothing_waits_at_first():
    pending = a_pending(10)
    assert (len(pending), pending.segments, pending.is_full, pending.take()) == (0, 0, False, None)
    assert (pending.on_disk, pending.suspended, pending.journal_error) == (0, 0, "")
    pending.add([])
    assert pending.segments == 0


def test_changes_leave_in_the_order_in_which_they_came():
    pending = a_pending(10)
    pending.add(changes(1, 2))
    pending.add(changes(3))
    assert oids(pending.take()) == [1, 2, 3]


def test_what_is_taken_still_counts_until_it_is_done():
    pending = a_pending(3)
    pending.add(changes(1, 2, 3))
    segment = take(pending)
    assert (len(pending), pending.is_full, pending.segments) == (3, True, 0)
    pending.done(segment)
    assert (len(pending), pending.is_full) == (0, False)


def test_what_comes_while_a_segment_is_under_way_goes_into_another():
    pending = a_pending(10)
    pending.add(changes(1))
    taken = take(pending)
    pending.add(changes(2))
    assert oids(taken) == [1]
    pending.put_back(taken)
    assert [oids(pending.take()), oids(pending.take())] == [[1], [2]]


def test_a_segment_put_back_is_the_next_one_taken_and_may_grow():
    pending = a_pending(10)
    pending.add(changes(1))
    pending.put_back(take(pending))
    pending.add(changes(2))
    assert pending.segments == 1
    assert oids(pending.take()) == [1, 2]
    assert len(pending) == 2


def test_segments_are_cut_at_their_size():
    pending = a_pending(100, segment_size=3)
    for oid in range(7):
        pending.add(changes(oid))
    assert [oids(pending.take()) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_one_call_is_never_torn_apart():
    pending = a_pending(100, segment_size=3)
    pending.add(changes(*range(8)))
    pending.add(changes(8))
    assert [oids(pending.take()) for _ in range(2)] == [list(range(8)), [8]]


def test_it_is_full_at_its_limit():
    pending = a_pending(2)
    pending.add(changes(1))
    assert not pending.is_full
    pending.add(changes(2, 3))
    assert pending.is_full


def test_what_the_caller_does_with_its_list_afterwards_is_the_callers_affair():
    pending = a_pending(10)
    mine = changes(1)
    pending.add(mine)
    mine.clear()
    assert oids(pending.take()) == [1]


def test_a_restart_looks_back_far_enough_for_one_segment_with_one_large_call():
    from src.pipeline.restore import LOOK_BACK

    most_open_orders = 5_000  # the venue's limit per trader
    assert SEGMENT_SIZE - 1 + most_open_orders <= LOOK_BACK
