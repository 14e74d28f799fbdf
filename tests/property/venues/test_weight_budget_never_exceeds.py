"""Whatever is asked for and however long answers take, no minute holds more than the budget."""

from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st

from src.models.clock import ManualClock
from src.venues.hyperliquid.weight_budget import WINDOW_S, WeightBudget

REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 130),  # what the request may cost at most
        st.floats(0, 1),  # share of it that it does cost
        st.floats(0, 20),  # seconds until the next one is asked for
        st.floats(0, 40),  # seconds until it is answered
    ),
    max_size=60,
)


@given(requests=REQUESTS, limit=st.integers(100, 400))
def test_no_sliding_minute_exceeds_the_budget_and_nothing_waits_for_ever(requests, limit) -> None:
    clock = ManualClock(monotonic=0.0)
    budget = WeightBudget(clock=clock, per_minute=limit, usable_share=1.0)
    in_flight: list[tuple[float, int, object, int]] = []
    sent_and_settled: list[tuple[float, float, int]] = []

    def let_time_pass(seconds: float) -> None:
        until = clock.monotonic() + seconds
        while in_flight and in_flight[0][0] <= until:
            answered_at, index, hold, spent = heapq.heappop(in_flight)
            clock.advance(max(0.0, answered_at - clock.monotonic()))
            budget.settle(hold, spent)
            sent, _, _ = sent_and_settled[index]
            sent_and_settled[index] = (sent, clock.monotonic(), spent)
        clock.advance(max(0.0, until - clock.monotonic()))

    for index, (most, share, pause, latency) in enumerate(requests):
        let_time_pass(pause)
        waited = 0.0
        while (hold := budget.take(most)) is None:
            delay = budget.delay(most)
            assert delay > 0
            let_time_pass(delay)
            waited += delay
            assert waited < 3 * WINDOW_S
        spent = int(min(most, limit) * share)
        sent_and_settled.append((clock.monotonic(), clock.monotonic() + latency, spent))
        heapq.heappush(in_flight, (clock.monotonic() + latency, index, hold, spent))
        assert budget.in_use() <= limit
    let_time_pass(200)

    # The venue may bill a request at any moment between its arrival and its answer: try both ends.
    for end in (0, 1):
        moments = sorted((row[end], row[2]) for row in sent_and_settled)
        for start, _ in moments:
            window = sum(weight for at, weight in moments if start <= at < start + WINDOW_S - 1e-6)
            assert window <= limit
    assert budget.in_use() == 0
