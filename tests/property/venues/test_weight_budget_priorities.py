"""Whoever asks, whatever the venue says: no minute above the limit, the best first, nobody for ever last."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from src.venues.hyperliquid.weight_budget import FLOORS, PATIENCE_S, WINDOW_S, Priority, WeightBudget
from tests.support.virtual_time import run_virtually

PRIORITIES = st.sampled_from(Priority)
REQUESTS = st.lists(
    st.tuples(
        PRIORITIES,
        st.integers(2, 120),  # what it may cost
        st.floats(0, 1),  # share of that it does cost
        st.floats(0, 8),  # seconds after the one before
        st.floats(0.01, 30),  # seconds until the answer
        st.sampled_from(("ok", "ok", "ok", "ok", "429", "500")),
    ),
    min_size=1,
    max_size=80,
)


class LoopClock:
    """The virtual loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return int(self.monotonic() * 1000)


class Watched(WeightBudget):
    """Notes, at each grant, who waited for better reasons."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.overtaken: list[tuple[Priority, list[Priority], int, float]] = []

    def _hold(self, weight, priority):
        better = [other for other in Priority if other < priority and self.waiting(other)]
        waited = self._clock.monotonic() - self._waiting[priority][0].since_s
        self.overtaken.append((priority, better, self._used(priority), waited))
        return super()._hold(weight, priority)


async def play(requests, limit: int) -> tuple[Watched, list[tuple[float, float, int]]]:
    budget = Watched(clock=LoopClock(), per_minute=limit, usable_share=1.0)
    billed: list[tuple[float, float, int]] = []

    async def request(priority, weight, share, answer_s, says) -> None:
        hold = await budget.acquire(weight, priority)
        sent = budget._clock.monotonic()
        spent = int(hold.weight * share)
        await asyncio.sleep(answer_s)
        if says == "429":
            budget.refused(hold)
        elif says == "500":
            budget.failed(hold)
        else:
            budget.accepted()
        budget.settle(hold, spent)
        billed.append((sent, budget._clock.monotonic(), spent))

    async with asyncio.TaskGroup() as group:
        for priority, weight, share, pause_s, answer_s, says in requests:
            await asyncio.sleep(pause_s)
            group.create_task(request(priority, weight, share, answer_s, says))
    return budget, billed


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, limit=st.integers(130, 600))
def test_no_minute_exceeds_the_limit_and_every_request_gets_through(requests, limit) -> None:
    budget, billed = run_virtually(play(requests, limit))
    assert len(billed) == len(requests)
    for end in (0, 1):  # the venue may bill at any moment between arrival and answer: try both ends
        moments = sorted((row[end], row[2]) for row in billed)
        for start, _ in moments:
            window = sum(weight for at, weight in moments if start <= at < start + WINDOW_S - 1e-6)
            assert window <= limit
    assert all(budget.waiting(priority) == 0 for priority in Priority)
    assert budget._in_flight == 0


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, limit=st.integers(130, 600))
def test_a_better_priority_is_overtaken_only_by_one_that_is_owed_its_floor(requests, limit) -> None:
    budget, _ = run_virtually(play(requests, limit))
    for priority, better, used, _ in budget.overtaken:
        if better:
            assert priority is not Priority.REPAIR
            assert used < FLOORS[priority] * limit


@settings(max_examples=25, deadline=None)
@given(
    greedy=st.lists(st.tuples(PRIORITIES, st.integers(2, 120)), min_size=1, max_size=8),
    patient=st.sampled_from([Priority.REASON, Priority.POLL, Priority.BACKFILL]),
    weight=st.integers(2, 120),
)
def test_nobody_waits_more_than_two_minutes_whatever_the_others_want(greedy, patient, weight) -> None:
    async def starve() -> list[float]:
        budget = WeightBudget(clock=LoopClock(), per_minute=1200, usable_share=1.0)
        waits: list[float] = []
        loop = asyncio.get_running_loop()

        async def ask(priority, weight, times=None) -> None:
            while times is None or len(waits) < times:
                begun = loop.time()
                hold = await budget.acquire(weight, priority)
                await asyncio.sleep(0.2)
                budget.settle(hold, weight)
                if times is not None:
                    waits.append(loop.time() - begun)

        crowd = [asyncio.ensure_future(ask(priority, size)) for priority, size in greedy * 3]
        await ask(patient, weight, times=5)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        return waits

    waits = run_virtually(starve())
    same = sum(priority is patient for priority, _ in greedy) * 3  # they take turns among themselves
    assert max(waits) <= (2 * WINDOW_S + PATIENCE_S) * (1 + same)
