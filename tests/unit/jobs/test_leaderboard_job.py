"""Whom the leaderboard adds and lets go, what it leaves to people, and what it writes down."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.jobs.leaderboard.job import LeaderboardJob
from src.jobs.leaderboard.rules import MISSES_TO_LEAVE, choose, keep_rank
from src.jobs.tracking import Candidate, TraderRegistry
from src.models.clock import ManualClock
from src.models.errors import StoreError, VenueError
from src.models.filters import Filter
from src.models.metrics import LEADERBOARD_READS, Metrics
from src.models.writes import Collection
from src.pipeline.documents import to_date
from src.store.memory import MemoryStore
from src.venues.hyperliquid.ranking import LeaderboardRow, Ranked, WindowPerformance

DAY_MS = 86_400_000


def address(number):
    return f"0x{number:040x}"


def a_row(number, month, *, value=1e6):
    windows = WindowPerformance(month, 0.1, 1e6)
    return LeaderboardRow(address(number), value, day=windows, week=windows, month=windows, all_time=windows)


class World:
    def __init__(self, *, count=3, mode="auto", configured=False, filters=("accountValue>=1000",), interval_s=600.0):
        self.store, self.clock, self.metrics = MemoryStore(), ManualClock(), Metrics()
        self.registry = TraderRegistry(self.store, self.clock, self.metrics)
        self.rows = [a_row(number, 1e6 / number) for number in range(1, 21)]
        self.failures = []
        self.has_read = asyncio.Event()
        self.reads = self.changes = 0
        self.job = LeaderboardJob(
            self.store,
            self.registry,
            read=self._read,
            clock=self.clock,
            metrics=self.metrics,
            count=count,
            filters=[Filter.parse(text) for text in filters],
            interval_s=interval_s,
            mode=mode,
            configured=configured,
            changed=self._changed,
        )

    async def _read(self, begin):
        self.reads += 1
        self.has_read.set()
        if self.failures:
            raise self.failures.pop(0)
        ranking = begin()
        for row in self.rows:
            ranking.take(row)
        return ranking

    async def _changed(self):
        self.changes += 1

    async def passes(self, seconds=600.0):
        self.clock.advance(seconds)
        await self.job._work()

    def order(self, *numbers):
        """The leaderboard shows these accounts in this order, then all others."""
        rest = [number for number in range(1, 21) if number not in numbers]
        self.rows = [a_row(number, 1e7 / place) for place, number in enumerate((*numbers, *rest), start=1)]

    def traders(self):
        return {int(d["ethAddress"], 16): d for d in self.store.documents(Collection.TRADERS)}

    def followed(self):
        return {number for number, document in self.traders().items() if document["enabled"]}


async def test_with_nobody_to_follow_the_best_are_taken_at_once():
    world = World()
    await world.job._work()
    assert world.followed() == {1, 2, 3}
    first = world.traders()[1]
    assert (first["source"], first["tier"]) == ("leaderboard", 1)
    assert first["score"] > world.traders()[2]["score"]
    assert "lb:top10" in first["tags"]
    assert (first["leaderboard"]["rank"], first["leaderboard"]["misses"]) == (1, 0)
    assert world.changes == 1


async def test_it_is_read_again_when_the_interval_is_over_also_after_a_restart():
    world = World()
    await world.job._work()
    await world.passes(300)
    assert world.reads == 1
    await world.passes(301)
    assert world.reads == 2


async def test_who_slips_a_little_below_stays():
    world = World()
    await world.job._work()
    world.order(4, 5, 6, 1, 2, 3)
    for _ in range(5):
        await world.passes()
    assert world.followed() == {1, 2, 3}


async def test_who_falls_far_leaves_after_some_readings_and_the_best_follows():
    world = World()
    await world.job._work()
    world.order(2, 3, 4, 5, 6, 7, 8, 9, 1)
    await world.passes()
    assert world.followed() == {1, 2, 3}
    assert world.traders()[1]["leaderboard"]["misses"] == 1
    await world.passes()
    assert world.followed() == {2, 3, 4}
    assert world.traders()[1]["removedBy"] == "leaderboard"
    world.order(1)
    await world.passes()
    assert world.followed() == {2, 3, 4}  # there is no free place


async def test_one_bad_reading_in_between_is_forgiven():
    world = World()
    await world.job._work()
    for _ in range(3):
        world.order(2, 3, 4, 5, 6, 7, 8, 9, 1)
        await world.passes()
        world.order(1, 2, 3)
        await world.passes()
    assert world.followed() == {1, 2, 3}


async def test_who_does_not_fulfil_the_conditions_any_more_leaves():
    world = World()
    await world.job._work()
    world.rows[0] = a_row(1, 1e6, value=10.0)
    await world.passes()
    await world.passes()
    assert world.followed() == {2, 3, 4}


async def test_who_was_added_by_hand_is_never_let_go_and_takes_no_place():
    world = World()
    await world.job._work()
    await world.registry.enable([Candidate(address(20)), Candidate(address(1))], source="manual")
    assert world.traders()[1]["source"] == "manual"
    world.order(5, 6, 7, 8, 9, 10, 11, 12, 13)
    for _ in range(MISSES_TO_LEAVE + 1):
        await world.passes()
    assert world.followed() == {20, 1, 5, 6, 7}


async def test_who_was_removed_by_hand_does_not_come_back():
    world = World()
    await world.job._work()
    await world.registry.disable([address(1)])
    await world.passes()
    assert world.followed() == {2, 3, 4}
    await world.registry.enable([Candidate(address(1))], source="manual")
    await world.passes()
    assert 1 in world.followed()


async def test_tags_of_people_stay_and_those_of_the_leaderboard_follow_it():
    world = World()
    await world.registry.enable([Candidate(address(1))], source="leaderboard", tags=["friend"])
    await world.passes()
    assert {"friend", "lb:top10"} <= set(world.traders()[1]["tags"])
    world.rows = [a_row(number, 1e6 / number) for number in range(2, 21)] + [a_row(1, -1e9)]
    await world.passes()
    assert set(world.traders()[1]["tags"]) & {"friend", "lb:top10"} == {"friend"}


async def test_a_thin_file_lets_nobody_go():
    world = World()
    await world.job._work()
    world.rows = [a_row(9, 5e9)]
    for _ in range(4):
        await world.passes()
    assert {1, 2, 3} <= world.followed()


async def test_a_smaller_count_lets_the_last_go_at_once():
    world = World(count=5)
    await world.job._work()
    world.job._count = 2
    await world.passes()
    assert world.followed() == {1, 2}


@pytest.mark.parametrize(
    ("mode", "configured", "reads"), [("auto", True, 0), ("never", False, 0), ("always", True, 1)]
)
async def test_it_is_read_only_where_it_is_wanted(mode, configured, reads):
    world = World(mode=mode, configured=configured)
    await world.job._work()
    assert world.reads == reads


async def test_beside_those_added_by_hand_it_is_read_only_when_always_wanted():
    for mode, wanted in (("auto", {20}), ("always", {20, 1, 2, 3})):
        world = World(mode=mode)
        await world.registry.enable([Candidate(address(20))], source="manual")
        await world.job._work()
        assert world.followed() == wanted


async def test_a_failure_is_counted_and_tried_again_after_a_while():
    world = World()
    world.failures = [VenueError("away"), StoreError("away")]
    await world.job._work()
    await world.passes(30)
    assert world.reads == 1
    await world.passes(31)
    await world.passes(61)
    assert world.followed() == {1, 2, 3}
    assert world.metrics.value(LEADERBOARD_READS, "failed") == 2
    assert world.metrics.value(LEADERBOARD_READS, "ok") == 1


async def test_when_nobody_fulfils_the_conditions_nobody_is_let_go():
    world = World()
    await world.job._work()
    world.rows = [a_row(number, 1.0, value=1.0) for number in range(1, 21)]
    for _ in range(4):
        await world.passes()
    assert world.followed() == {1, 2, 3}
    assert world.metrics.value(LEADERBOARD_READS, "failed") == 4


async def test_every_day_is_written_down_once_with_its_last_reading():
    world = World()
    await world.job._work()
    first_day = {d["_id"] for d in world.store.documents(Collection.LEADERBOARD_HISTORY)}
    assert len(first_day) == 20
    world.order(2, 1)
    await world.passes(3600)
    history = {d["_id"]: d for d in world.store.documents(Collection.LEADERBOARD_HISTORY)}
    day = to_date(world.clock.wall_ms()).strftime("%Y-%m-%d")
    assert set(history) == first_day
    assert history[f"{day}:{address(2)}"]["rank"] == 1
    await world.passes(DAY_MS / 1000)
    assert len(world.store.documents(Collection.LEADERBOARD_HISTORY)) == 40


async def test_it_ends_with_the_stop():
    world, stopping = World(), asyncio.Event()
    running = asyncio.create_task(world.job.run(stopping))
    async with asyncio.timeout(5):
        await world.has_read.wait()
    stopping.set()
    await asyncio.wait_for(running, 5)


@given(
    orders=st.lists(st.permutations(range(1, 16)), min_size=1, max_size=8),
    count=st.integers(0, 12),
    taken=st.sets(st.integers(1, 15), max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_never_more_than_the_count_never_a_taken_one_and_nobody_leaves_from_the_safe_ranks(orders, count, taken):
    followed = {}
    taken_addresses = {address(number) for number in taken}
    for order in orders:
        best = [Ranked(rank, 100.0 - rank, a_row(number, 1.0)) for rank, number in enumerate(order, start=1)]
        places = [one.row.address for one in best if one.row.address not in taken_addresses]
        choice = choose(best, followed, count=count, taken=taken_addresses)
        for gone in choice.removed:
            assert gone in followed
            assert places.index(gone) >= keep_rank(count)
        added = [one.row.address for one in choice.added]
        followed = {**choice.misses, **dict.fromkeys(added, 0)}
        assert len(followed) == min(count, len(places))
        assert not followed.keys() & taken_addresses
        assert all(missed < MISSES_TO_LEAVE for missed in followed.values())
