"""Streams that are looked at now and then: one interval instead of a hole per pause, closes found late."""

from msgspec import structs

from src.models.changes import HoleClosed, HoleOpened, OrderChange
from src.models.messages import Gap, GapReason
from src.models.metrics import Metrics
from src.models.streams import StreamKey
from src.models.writes import Collection
from src.pipeline.diff import Diff, Hole
from src.pipeline.documents import write_of_hole
from tests.support.trader_states import START_MS, TRADER, orders_data, some_orders

STREAM = StreamKey("hyperliquid", "openOrders", TRADER)
MINUTE = 60_000


class World:
    def __init__(self):
        self.diff = Diff(metrics=Metrics())
        self.now = START_MS

    def look(self, *oids, within_s=90.0, after_ms=MINUTE):
        self.now += after_ms
        data = orders_data(some_orders(*oids), received_ms=self.now)
        return self.diff.apply(structs.replace(data, within_s=within_s))

    def live(self, *oids, after_ms=5_000):
        self.now += after_ms
        return self.diff.apply(orders_data(some_orders(*oids), received_ms=self.now))

    def gap(self, reason, at_ms=None):
        return self.diff.apply_gap(Gap((STREAM,), reason, self.now if at_ms is None else at_ms))


def intervals(changes):
    """(reason, from, to or None) of what opened and ended, ms since the start."""
    found = []
    for change in changes:
        if isinstance(change, HoleOpened):
            found.append((change.reason, change.from_ms - START_MS, None))
        elif isinstance(change, HoleClosed):
            found.append((change.reason, change.from_ms - START_MS, change.to_ms - START_MS))
    return found


def closes(changes):
    return {c.order.oid: c.observed for c in changes if isinstance(c, OrderChange) and c.action == "closed"}


def test_the_first_look_opens_one_interval_and_further_looks_none():
    world = World()
    opened = world.look(1)
    assert intervals(opened) == [("sampled", MINUTE, None)]
    hole = next(change for change in opened if isinstance(change, HoleOpened))
    document = write_of_hole(hole).document
    assert document["withinS"] == 90.0
    assert document["detail"] == "looked at within 90 s"
    for _ in range(50):
        assert intervals(world.look(1)) == []
    assert not world.diff.holes


def test_what_vanished_between_two_looks_was_not_seen_to_vanish():
    world = World()
    world.look(1, 2)
    assert closes(world.look(2)) == {1: "late"}
    assert closes(world.look()) == {2: "late"}


def test_a_live_trader_who_is_looked_at_from_now_on_counts_as_sampled_since_the_last_live_frame():
    world = World()
    world.live(1)
    seen = world.now - START_MS
    changes = world.look(after_ms=30_000)
    assert intervals(changes) == [("sampled", seen, None)]
    assert closes(changes) == {1: "late"}


def test_live_data_ends_the_interval_and_closes_are_live_again():
    world = World()
    world.look(1, 2)
    changes = world.live(1)
    assert intervals(changes) == [("sampled", MINUTE, MINUTE + 5_000)]
    assert closes(changes) == {2: "late"}  # it vanished since the last look
    assert closes(world.live()) == {1: "live"}


def test_a_late_look_is_a_hole_of_its_own_and_sampling_goes_on_after_it():
    world = World()
    world.look(1)
    late_from = world.now + 90_000
    told = world.gap(GapReason.LOOK_LATE, at_ms=late_from)
    assert intervals(told) == [("sampled", MINUTE, MINUTE + 90_000), ("look_late", MINUTE + 90_000, None)]
    back = world.look(1, after_ms=200_000)
    assert intervals(back) == [("look_late", MINUTE + 90_000, MINUTE + 200_000), ("sampled", MINUTE + 200_000, None)]


def test_a_hole_that_was_open_ends_with_the_first_look():
    world = World()
    world.gap(GapReason.NOT_COLLECTED, at_ms=0)
    changes = world.look(1)
    assert [reason for reason, *_ in intervals(changes)] == ["not_collected", "sampled"]
    assert intervals(changes)[1] == ("sampled", MINUTE, None)


def test_a_longer_promise_begins_a_new_interval_a_shorter_one_does_not():
    world = World()
    world.look(1, within_s=90.0)
    assert intervals(world.look(1, within_s=60.0)) == []
    changes = world.look(1, within_s=300.0)
    assert intervals(changes) == [("sampled", MINUTE, 3 * MINUTE), ("sampled", 3 * MINUTE, None)]
    assert len({(c.stream, c.from_ms) for c in changes if isinstance(c, HoleOpened)}) == 1


def test_two_promises_in_one_millisecond_have_two_identities():
    world = World()
    world.look(1, within_s=60.0)
    changes = world.look(1, within_s=90.0, after_ms=0)
    opened = [change for change in changes if isinstance(change, HoleOpened)]
    assert [change.from_ms - START_MS for change in opened] == [MINUTE + 1]


def test_a_restored_interval_ends_with_the_hole_of_the_time_in_between():
    world = World()
    world.diff.restore_hole(STREAM, Hole(START_MS, "sampled"))
    assert not world.diff.holes  # so that the time without a program gets its own hole
    world.now += 5 * MINUTE
    told = world.gap(GapReason.PROCESS_DOWN, at_ms=START_MS + MINUTE)
    assert intervals(told) == [("sampled", 0, MINUTE), ("process_down", MINUTE, None)]
    assert intervals(world.look(1))[0] == ("process_down", MINUTE, 6 * MINUTE)


def test_streams_that_are_replaced_end_their_interval():
    world = World()
    world.look(1)
    assert intervals(world.diff.end_holes([STREAM], world.now + 1)) == [("sampled", MINUTE, MINUTE + 1)]
    assert world.diff.end_holes([STREAM], world.now + 2) == []


def test_a_sampled_interval_is_stored_as_coverage():
    hole = HoleOpened(str(STREAM), "hyperliquid", START_MS, "sampled", "looked at within 60 s", 60.0)
    assert write_of_hole(hole).collection is Collection.COVERAGE
    assert "withinS" not in write_of_hole(HoleOpened(str(STREAM), "hyperliquid", START_MS, "disconnect")).document
