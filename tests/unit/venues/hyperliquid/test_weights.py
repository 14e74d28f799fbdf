"""What requests cost and how the budget lets them through."""

from __future__ import annotations

import pytest

from src.models.clock import ManualClock
from src.venues.hyperliquid.weights import (
    HELD_POLL_S,
    WeightBudget,
    base_weight,
    is_billed_by_row,
    most_weight,
    rows_weight,
)


@pytest.mark.parametrize(
    ("request_type", "weight"),
    [
        ("l2Book", 2),
        ("allMids", 2),
        ("clearinghouseState", 2),
        ("orderStatus", 2),
        ("spotClearinghouseState", 2),
        ("exchangeStatus", 2),
        ("userRole", 60),
        ("frontendOpenOrders", 20),
        ("meta", 20),
        ("userFills", 20),
        ("somethingNewOfNextYear", 20),
    ],
)
def test_base_weight_is_the_published_one(request_type: str, weight: int) -> None:
    assert base_weight(request_type) == weight


@pytest.mark.parametrize(("rows", "weight"), [(0, 0), (1, 1), (20, 1), (21, 2), (2000, 100)])
def test_rows_cost_one_per_started_group_of_twenty(rows: int, weight: int) -> None:
    assert rows_weight("userFills", rows) == weight


def test_candles_cost_one_per_sixty_rows_and_plain_requests_nothing() -> None:
    assert rows_weight("candleSnapshot", 61) == 2
    assert rows_weight("meta", 500) == 0
    assert not is_billed_by_row("frontendOpenOrders")
    assert is_billed_by_row("historicalOrders")


def test_a_request_sets_aside_what_its_fullest_answer_costs() -> None:
    assert most_weight("userFillsByTime") == 120
    assert most_weight("clearinghouseState") == 2


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
