"""What requests cost."""

from __future__ import annotations

import pytest

from src.venues.hyperliquid.weights import (
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
