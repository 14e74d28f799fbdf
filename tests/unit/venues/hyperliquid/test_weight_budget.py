"""How the weight budget lets requests through: the sliding minute, priorities, and what refusals do to it."""

from __future__ import annotations

import asyncio
import json

import pytest

from src.models.clock import ManualClock
from src.models.metrics import REST_REFUSALS, REST_WAITING, REST_WEIGHT_SPENT, REST_WEIGHT_USED, Metrics
from src.venues.hyperliquid.weight_budget import (
    FAILURES_BORNE,
    FLOORS,
    HELD_POLL_S,
    PATIENCE_S,
    Hold,
    Priority,
    WeightBudget,
    status_of_budgets,
)


class Queue:
    """A budget whose waiting moves a manual clock, and who got through in which order."""

    def __init__(self, **options) -> None:
        self.clock = ManualClock(monotonic=0.0)
        self.metrics = Metrics()
        self.budget = WeightBudget(
            clock=self.clock, usable_share=1.0, sleep=self._sleep, metrics=self.metrics, **options
        )
        self.order: list[Priority] = []
        self.times: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def request(self, priority: Priority, weight: int = 20, *, spent: int | None = None) -> None:
        hold = await self.budget.acquire(weight, priority)
        self.order.append(priority)
        self.times.append(self.clock.monotonic())
        self.budget.settle(hold, weight if spent is None else spent)

    def spend(self, weight: int, priority: Priority = Priority.POLL) -> Hold:
        hold = self.budget.take(weight, priority)
        assert hold is not None
        self.budget.settle(hold, weight)
        return hold


def test_what_was_spent_is_forgotten_after_a_minute() -> None:
    clock = ManualClock()
    budget = WeightBudget(clock=clock, per_minute=100, usable_share=1.0)
    hold = budget.take(60)
    assert hold is not None
    budget.settle(hold, 60)
    assert budget.take(41) is None
    assert budget.delay(41) == pytest.approx(60.0)
    clock.advance(59.9)
    assert budget.take(41) is None
    clock.advance(0.2)
    assert budget.in_use() == 0
    assert budget.take(41) is not None


def test_a_cheap_answer_gives_back_what_was_held_for_a_dear_one() -> None:
    budget = WeightBudget(clock=ManualClock(), per_minute=130, usable_share=1.0)
    hold = budget.take(120)
    assert hold is not None
    assert budget.delay(20) == HELD_POLL_S  # nobody knows when the answer comes: ask again soon
    budget.settle(hold, 21)
    assert budget.in_use() == 21
    assert budget.take(100) is not None


def test_the_delay_is_that_of_the_oldest_spending_that_makes_room() -> None:
    clock = ManualClock()
    budget = WeightBudget(clock=clock, per_minute=100, usable_share=1.0)
    for weight in (30, 30, 30):
        hold = budget.take(weight)
        assert hold is not None
        budget.settle(hold, weight)
        clock.advance(10)
    assert budget.delay(10) == 0
    assert budget.delay(40) == pytest.approx(30.0)
    assert budget.delay(41) == pytest.approx(40.0)
    assert budget.delay(100) == pytest.approx(50.0)


def test_a_weight_above_the_whole_budget_waits_for_an_empty_minute_instead_of_for_ever() -> None:
    clock = ManualClock()
    budget = WeightBudget(clock=clock, per_minute=50, usable_share=1.0)
    hold = budget.take(10)
    assert hold is not None
    budget.settle(hold, 10)
    assert budget.take(120) is None
    clock.advance(61)
    assert budget.take(120) is not None


def test_a_pause_stops_everything_and_a_shorter_one_does_not_end_it_early() -> None:
    clock = ManualClock()
    budget = WeightBudget(clock=clock)
    budget.pause(30)
    budget.pause(5)
    assert budget.delay(2) == pytest.approx(30.0)
    assert budget.take(2) is None
    clock.advance(30)
    assert budget.take(2) is not None


def test_a_margin_of_the_published_limit_is_left_alone() -> None:
    assert WeightBudget(clock=ManualClock()).usable == 1080


# -- priorities ------------------------------------------------------------------------------------------------------


async def test_a_better_priority_that_waits_goes_first_however_late_it_came() -> None:
    queue = Queue(per_minute=100)
    queue.spend(100, Priority.REPAIR)
    async with asyncio.TaskGroup() as group:
        for priority in (Priority.BACKFILL, Priority.POLL, Priority.REASON, Priority.REPAIR):
            group.create_task(queue.request(priority))
            await asyncio.sleep(0)
    assert queue.order[0] is Priority.REASON  # it has waited for its floor, as all have: the best of those
    assert sorted(queue.order) == list(Priority)


async def test_within_the_patience_nothing_overtakes_a_better_priority() -> None:
    queue = Queue(per_minute=100)
    queue.spend(100, Priority.REPAIR)
    queue.clock.advance(57)
    async with asyncio.TaskGroup() as group:
        for priority in (Priority.BACKFILL, Priority.POLL, Priority.REASON, Priority.REPAIR):
            group.create_task(queue.request(priority))
            await asyncio.sleep(0)
    assert queue.order == list(Priority)


async def test_within_a_priority_the_first_come_goes_first_and_a_cheap_one_does_not_slip_by() -> None:
    queue = Queue(per_minute=100)
    queue.spend(60)
    dear = asyncio.create_task(queue.request(Priority.POLL, 80))
    await asyncio.sleep(0)
    cheap = asyncio.create_task(queue.request(Priority.POLL, 2))
    await asyncio.gather(dear, cheap)
    assert queue.times[0] == pytest.approx(60.0, abs=0.1)
    assert queue.budget.in_use() == 82


async def test_the_lowest_priority_gets_its_floor_while_better_ones_want_everything() -> None:
    queue = Queue(per_minute=1000)

    async def greedy(priority: Priority) -> None:
        while queue.clock.monotonic() < 600:
            await queue.request(priority)

    async with asyncio.TaskGroup() as group:
        for priority in Priority:
            group.create_task(greedy(priority))
            group.create_task(greedy(priority))
    minutes = queue.clock.monotonic() / 60
    for priority, floor in FLOORS.items():
        weight = 20 * queue.order.count(priority)
        assert weight / minutes >= 0.8 * floor * 1000, priority
    assert 20 * queue.order.count(Priority.REPAIR) / minutes >= 450  # what nobody is owed is its own


async def test_whoever_wants_it_alone_gets_everything() -> None:
    queue = Queue(per_minute=100)
    for _ in range(5):
        await queue.request(Priority.BACKFILL)
    assert queue.clock.monotonic() == 0.0
    assert queue.budget.left() == 0


async def test_take_does_not_overtake_those_that_wait() -> None:
    queue = Queue(per_minute=100)
    queue.spend(90)
    waiting = asyncio.create_task(queue.request(Priority.REASON, 20))
    await asyncio.sleep(0)
    assert queue.budget.take(2, Priority.POLL) is None
    assert queue.budget.take(2, Priority.REASON) is None
    assert queue.budget.take(2, Priority.REPAIR) is not None
    await waiting


async def test_who_gives_up_waiting_lets_the_next_one_through() -> None:
    queue = Queue(per_minute=100)
    hold = queue.budget.take(100)
    assert hold is not None
    first = asyncio.create_task(queue.request(Priority.REPAIR, 100))
    second = asyncio.create_task(queue.request(Priority.POLL, 10))
    await asyncio.sleep(0)
    assert queue.budget.waiting(Priority.REPAIR) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    queue.budget.settle(hold, 1)
    await second
    assert queue.order == [Priority.POLL]
    assert queue.budget.waiting(Priority.REPAIR) == 0


async def test_a_cheap_answer_lets_the_next_one_through_before_the_minute_is_over() -> None:
    queue = Queue(per_minute=200)
    queue.spend(80)
    hold = queue.budget.take(120)
    assert hold is not None
    waiting = asyncio.create_task(queue.request(Priority.POLL, 50))
    await asyncio.sleep(0)
    queue.budget.settle(hold, 21)
    await waiting
    assert queue.times[0] < 1.0


# -- what the venue says ---------------------------------------------------------------------------------------------


def refuse(queue: Queue, retry_after_s: float | None = None) -> float:
    hold = queue.budget.take(2)
    assert hold is not None
    pause_s = queue.budget.refused(hold, retry_after_s)
    queue.budget.settle(hold, 2)
    return pause_s


def test_refusals_in_a_row_pause_longer_each_time_up_to_a_minute() -> None:
    queue = Queue()
    pauses = []
    for _ in range(6):
        pauses.append(refuse(queue))
        queue.clock.advance(pauses[-1])
    assert pauses == [5, 10, 20, 40, 60, 60]
    queue.budget.accepted()
    assert refuse(queue) == 5


def test_refusals_of_requests_sent_together_count_once() -> None:
    queue = Queue()
    holds = [queue.budget.take(2) for _ in range(20)]
    queue.clock.advance(0.1)
    for hold in holds:
        assert hold is not None
        assert queue.budget.refused(hold) == pytest.approx(5.0)
        queue.budget.settle(hold, 2)
    assert queue.budget.share() == pytest.approx(0.7)
    assert queue.budget.refusals == 20
    assert queue.metrics.total(REST_REFUSALS) == 20


def test_after_a_refusal_one_request_at_a_time_tries_whether_it_is_over() -> None:
    queue = Queue()
    queue.clock.advance(refuse(queue))
    probe = queue.budget.take(2)
    assert probe is not None
    assert queue.budget.take(2) is None
    queue.budget.accepted()
    queue.budget.settle(probe, 2)
    assert queue.budget.take(2) is not None
    assert queue.budget.take(2) is not None


def test_the_budget_shrinks_with_refusals_and_grows_back() -> None:
    queue = Queue(per_minute=1000)
    assert queue.budget.usable == 1000
    queue.clock.advance(refuse(queue))
    assert 700 <= queue.budget.usable <= 710
    for _ in range(20):
        queue.clock.advance(refuse(queue))
    assert queue.budget.usable >= 100
    queue.budget.accepted()
    smallest = queue.budget.usable
    queue.clock.advance(60)
    assert queue.budget.usable == pytest.approx(smallest + 100, abs=2)
    queue.clock.advance(600)
    assert queue.budget.usable == 1000
    assert queue.budget.promised(Priority.POLL) == 300
    assert sum(queue.budget.promised(priority) for priority in Priority) == pytest.approx(1000, abs=3)


def test_a_time_told_by_the_venue_is_kept_but_not_for_ever() -> None:
    assert refuse(Queue(), 7.0) == 7
    assert refuse(Queue(), 3600.0) == 60
    again = Queue()
    again.clock.advance(refuse(again, 1.0))
    assert refuse(again, 1.0) == 10  # the time told did not suffice


def test_failures_in_a_row_pause_the_address_and_an_answer_ends_that() -> None:
    queue = Queue()
    pauses = []
    for _ in range(FAILURES_BORNE + 8):
        queue.clock.advance(queue.budget.delay(2))
        hold = queue.budget.take(2)
        assert hold is not None
        queue.budget.failed(hold)
        queue.budget.settle(hold, 2)
        pauses.append(queue.budget.delay(2))
    assert pauses[: FAILURES_BORNE - 1] == [0] * (FAILURES_BORNE - 1)
    assert pauses[FAILURES_BORNE - 1 :] == [1, 2, 4, 8, 16, 30, 30, 30, 30]
    queue.budget.accepted()
    queue.clock.advance(30)
    assert queue.budget.delay(2) == 0
    assert queue.budget.share() == 1.0  # failures say nothing about how much is allowed


def test_failures_of_requests_sent_together_do_not_add_up_beyond_one_pause() -> None:
    queue = Queue()
    holds = [queue.budget.take(2) for _ in range(50)]
    queue.clock.advance(0.1)
    for hold in holds:
        assert hold is not None
        queue.budget.failed(hold)
        queue.budget.settle(hold, 2)
    assert queue.budget.delay(2) == pytest.approx(1.0)


# -- what is told ----------------------------------------------------------------------------------------------------


async def test_the_status_tells_usage_and_waiting_by_priority() -> None:
    queue = Queue(per_minute=100, name="proxy-1")
    queue.spend(30, Priority.REPAIR)
    held = queue.budget.take(60, Priority.POLL)
    waiting = asyncio.create_task(queue.request(Priority.BACKFILL, 50))
    await asyncio.sleep(0)
    status = queue.budget.status()
    assert status == {
        "weight_used": 90,
        "weight_limit": 100,
        "weight_usable": 100,
        "weight_left": 10,
        "used": {"repair": 30, "reason": 0, "poll": 60, "backfill": 0},
        "waiting": {"repair": 0, "reason": 0, "poll": 0, "backfill": 1},
        "in_flight": 1,
        "refused": 0,
        "paused_s": 0.0,
    }
    other = WeightBudget(clock=queue.clock, per_minute=100, usable_share=1.0)
    total = status_of_budgets([queue.budget, other])
    assert json.loads(json.dumps(total)) == total
    assert (total["weight_limit"], total["weight_left"], total["waiting"]["backfill"]) == (200, 110, 1)
    assert total["egress"] == {"proxy-1": status, "direct": other.status()}
    assert queue.metrics.value(REST_WEIGHT_USED, "hyperliquid", "proxy-1") == 90
    assert queue.metrics.value(REST_WAITING, "hyperliquid", "proxy-1", "backfill") == 1
    assert queue.metrics.value(REST_WEIGHT_SPENT, "hyperliquid", "proxy-1", "repair") == 30
    assert held is not None
    queue.budget.settle(held, 60)
    await waiting
    queue.budget.pause(5)
    assert queue.budget.left() == 0


def test_patience_is_shorter_than_the_minute_the_floors_are_counted_in() -> None:
    assert PATIENCE_S < 30
    assert sum(FLOORS.values()) < 1
