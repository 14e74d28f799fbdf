"""Whose history the running program reads next, what it answers to those who ask, and how it bears trouble."""

import asyncio

import pytest

from src.jobs.backfill.backfill import Backfill
from src.jobs.backfill.job import FAILED_FIRST_S, REFUSED_AGAIN_S, BackfillJob
from src.jobs.backfill.plan import Cursor, Kind, Range, wait_s
from src.jobs.backfill.store import BackfillStore, Request
from src.models.clock import ManualClock
from src.models.errors import StoreError, VenueError, VenueRateLimitedError, VenueRequestError
from src.models.metrics import BACKFILL_BEHIND, BACKFILL_READS, Metrics
from src.models.writes import Collection
from src.pipeline.documents import to_date
from src.store.memory import MemoryStore
from tests.support.past_world import ScriptedPast, a_fill, a_status
from tests.support.trader_states import START_MS, VENUE

A, B, C = (f"0x{number:040x}" for number in (0xAA, 0xBB, 0xCC))


class World:
    def __init__(self, *, followed=(A, B, C), kinds=(Kind.ORDERS,), longest_s=3600.0, store=None, **past):
        self.store = store or MemoryStore()
        self.past = ScriptedPast(**past)
        self.clock = ManualClock(wall_ms=START_MS + 10_000_000)
        self.metrics = Metrics()
        self.followed = list(followed)
        self.may_write = True
        self.desk = BackfillStore(self.store, self.metrics)
        self.job = BackfillJob(
            Backfill(self.store, self.past, self.clock, self.metrics),
            followed=lambda: self.followed,
            kinds=kinds,
            clock=self.clock,
            metrics=self.metrics,
            longest_s=longest_s,
            may_write=lambda: self.may_write,
        )

    def asked(self):
        asked, self.past.asked[:] = [question[1] for question in self.past.asked], []
        return asked


async def test_everybody_is_read_once_and_then_left_in_peace():
    world = World()
    await world.job.work()
    assert sorted(world.asked()) == [A, B, C]
    await world.job.work()
    assert world.asked() == []
    assert world.metrics.value(BACKFILL_READS, "orders", "ok") == 3
    assert world.metrics.value(BACKFILL_BEHIND, "orders") == 0


async def test_both_kinds_are_read():
    world = World(followed=[A], kinds=(Kind.ORDERS, Kind.FILLS))
    await world.job.work()
    assert {question[0] for question in world.past.asked} == {"orders", "fills"}
    assert world.job.status() == {
        "orders": {"traders": 1, "never_read": 0, "due": 0},
        "fills": {"traders": 1, "never_read": 0, "due": 0},
    }


async def test_after_the_longest_time_all_are_read_again():
    world = World(longest_s=600.0)
    await world.job.work()
    world.asked()
    world.clock.advance(599)
    await world.job.work()
    assert world.asked() == []
    world.clock.advance(2)
    await world.job.work()
    assert sorted(world.asked()) == [A, B, C]


async def test_who_fills_his_history_quickly_is_read_more_often():
    world = World(most_orders=100)
    now_ms = world.clock.wall_ms()
    world.past.adds(*(a_status(oid, at_ms=now_ms - 100_000 + oid * 1000) for oid in range(100)), trader=B)
    await world.job.work()
    world.asked()
    world.clock.advance(70)
    await world.job.work()
    assert world.asked() == [B]


def test_the_wait_is_half_the_time_in_which_the_venue_forgets():
    busy = Cursor(Kind.ORDERS, VENUE, A, rate=2.0)
    assert wait_s(busy, 2000, 3600.0) == 500.0
    assert wait_s(Cursor(Kind.ORDERS, VENUE, A, rate=1000.0), 2000, 3600.0) == 60.0
    assert wait_s(Cursor(Kind.ORDERS, VENUE, A, rate=0.001), 2000, 3600.0) == 3600.0
    assert wait_s(Cursor(Kind.ORDERS, VENUE, A), 2000, 3600.0) == 3600.0


async def test_a_restart_does_not_read_everybody_again():
    world = World()
    await world.job.work()
    again = World(store=world.store)
    await again.job.work()
    assert again.asked() == []


async def test_who_is_new_is_read_and_who_is_gone_is_not():
    world = World(followed=[A])
    await world.job.work()
    world.asked()
    world.followed = [B]
    world.clock.advance(4000)
    await world.job.work()
    assert world.asked() == [B]


async def test_nothing_is_read_while_another_program_writes():
    world = World()
    world.may_write = False
    await world.job.work()
    assert world.asked() == []


# -- trouble -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [VenueError("500"), VenueRateLimitedError("429")])
async def test_a_venue_in_trouble_is_asked_less_and_less_often_and_nobody_is_forgotten(error):
    world = World()
    world.past.failures = [error] * 4
    pause_s = FAILED_FIRST_S
    for _ in range(4):
        await world.job.work()
        assert len(world.asked()) == 1
        world.clock.advance(pause_s - 1)
        await world.job.work()
        assert world.asked() == []
        world.clock.advance(1)
        pause_s *= 2
    await world.job.work()
    assert sorted(world.asked()) == [A, B, C]
    assert len(world.store.documents(Collection.BACKFILLS)) == 3


async def test_a_history_the_venue_refuses_does_not_hold_up_the_others():
    world = World()
    world.past.failures = [VenueRequestError("422")]
    await world.job.work()
    assert sorted(world.asked()) == [A, B, C]
    world.clock.advance(REFUSED_AGAIN_S + 1)
    await world.job.work()
    assert len(world.asked()) == 3
    assert world.metrics.value(BACKFILL_READS, "orders", "refused") == 1


async def test_without_mongodb_it_waits():
    world = World()
    for _ in range(5):
        world.store.fail_next(StoreError("away"))
        await world.job.work()
    await world.job.work()
    assert set(world.asked()) == {A, B, C}


async def test_it_stops_in_the_middle_of_a_request():
    world = World()

    async def for_ever(trader, since_ms):
        await asyncio.Event().wait()

    world.past.orders = for_ever
    stopping = asyncio.Event()
    running = asyncio.create_task(world.job.run(stopping))
    await asyncio.sleep(0.05)
    stopping.set()
    await asyncio.wait_for(running, 5)


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_what_somebody_asks_for_comes_first_and_is_answered():
    world = World()
    world.past.adds(a_status(1), a_status(2), trader=C)
    await world.desk.ask(Request("run1", Kind.ORDERS, C, None), VENUE, to_date(START_MS))
    await world.job.work()
    assert world.asked()[0] == C
    answers = await world.desk.answers(Kind.ORDERS, VENUE, [A, B, C])
    assert answers == {C: {"id": "run1", "found": 2, "explained": 0, "lost": 0}}
    assert await world.desk.requests(VENUE) == []


async def test_a_range_may_be_asked_for_and_of_somebody_who_is_not_followed():
    world = World(followed=[A])
    world.past.fills_of(*(a_fill(number, trader=B) for number in range(10)), trader=B)
    wanted = Range(START_MS + 3, START_MS + 6)
    await world.desk.ask(Request("run1", Kind.FILLS, B, wanted), VENUE, to_date(START_MS))
    await world.job.work()
    assert {d["oid"] for d in world.store.documents(Collection.TRADER_FILLS)} == {3, 4, 5}


async def test_a_request_survives_a_venue_in_trouble_and_tells_what_is_refused():
    world = World(followed=[])
    await world.desk.ask(Request("run1", Kind.ORDERS, A, None), VENUE, to_date(START_MS))
    world.past.failures = [VenueError("500"), VenueRequestError("no such account")]
    await world.job.work()
    assert await world.desk.answers(Kind.ORDERS, VENUE, [A]) == {}
    world.clock.advance(FAILED_FIRST_S)
    await world.job.work()
    assert (await world.desk.answers(Kind.ORDERS, VENUE, [A]))[A]["error"] == "no such account"


async def test_a_withdrawn_request_is_not_read_but_a_newer_one_is():
    world = World(followed=[])
    old, new = Request("old", Kind.ORDERS, A, None), Request("new", Kind.ORDERS, A, None)
    await world.desk.ask(old, VENUE, to_date(START_MS))
    await world.desk.withdraw(old, VENUE)
    await world.job.work()
    assert world.asked() == []
    await world.desk.ask(old, VENUE, to_date(START_MS))
    await world.desk.ask(new, VENUE, to_date(START_MS))
    await world.desk.withdraw(old, VENUE)
    await world.job.work()
    assert world.asked() == [A]


async def test_an_answer_leaves_the_cursor_as_it_is():
    world = World(followed=[A])
    world.past.adds(a_status(1), trader=A)
    await world.job.work()
    await world.desk.ask(Request("run1", Kind.ORDERS, A, None), VENUE, to_date(START_MS))
    await world.job.work()
    (document,) = world.store.documents(Collection.BACKFILLS)
    assert document["until"] == to_date(START_MS + 1000)
    assert document["asked"] is False
