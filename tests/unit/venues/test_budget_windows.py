from __future__ import annotations

import pytest

from src.models.clock import ManualClock
from src.venues.budget import Budget
from src.venues.feed import VenueLimits


def make(clock: ManualClock, *, margin: float = 0.0, spacing_s: float = 0.0, **limits: int) -> Budget:
    return Budget(VenueLimits(**limits), clock=clock, margin=margin, spacing_s=spacing_s)


def test_connects_wait_for_the_oldest_to_leave_the_minute() -> None:
    clock = ManualClock()
    budget = make(clock, connects_per_minute=2)
    assert budget.acquire_connection() == 0.0
    clock.advance(10)
    assert budget.acquire_connection() == 0.0
    wait = budget.acquire_connection()
    assert 50.0 < wait < 51.0
    clock.advance(wait)
    assert budget.acquire_connection() == 0.0


def test_a_connection_given_back_does_not_give_its_connect_back() -> None:
    clock = ManualClock()
    budget = make(clock, connects_per_minute=1)
    assert budget.acquire_connection() == 0.0
    budget.release_connection()
    assert budget.acquire_connection() > 59.0


def test_open_connections_are_bounded_until_one_is_given_back() -> None:
    budget = make(ManualClock(), connections=1)
    assert budget.acquire_connection() == 0.0
    assert budget.acquire_connection() > 0.0
    budget.release_connection()
    assert budget.acquire_connection() == 0.0


def test_connects_are_spaced() -> None:
    clock = ManualClock()
    budget = make(clock, spacing_s=0.25)
    assert budget.acquire_connection() == 0.0
    assert budget.acquire_connection() == pytest.approx(0.25)
    clock.advance(0.25)
    assert budget.acquire_connection() == 0.0


def test_a_full_window_refuses_and_pings_may_use_the_margin_but_not_more() -> None:
    budget = make(ManualClock(), margin=0.5, messages_per_minute=4)
    assert [budget.acquire_message() == 0.0 for _ in range(3)] == [True, True, False]
    assert [budget.acquire_message(urgent=True) == 0.0 for _ in range(3)] == [True, True, False]


def test_a_pause_stops_subscribing_but_not_pings() -> None:
    clock = ManualClock()
    budget = make(clock, messages_per_minute=100)
    budget.pause_messages(30)
    budget.pause_messages(5)
    assert budget.acquire_message() == pytest.approx(30)
    assert budget.acquire_message(urgent=True) == 0.0
    clock.advance(30.01)
    assert budget.acquire_message() == 0.0


def test_a_pause_of_connects_holds_even_without_any_limit() -> None:
    clock = ManualClock()
    budget = make(clock)
    budget.pause_connects(60)
    assert budget.acquire_connection() == pytest.approx(60)
    assert budget.usage()["connects_paused_s"] == 60.0


def test_users_are_counted_once_and_freed_with_their_last_subscription() -> None:
    budget = make(ManualClock(), users=1)
    assert budget.hold_user("a")
    assert budget.hold_user("a")
    assert not budget.hold_user("b")
    budget.free_user("a")
    assert not budget.hold_user("b")
    budget.free_user("a")
    assert budget.hold_user("b")


def test_subscriptions_are_bounded_and_releases_are_noticeable() -> None:
    budget = make(ManualClock(), subscriptions=1)
    assert budget.hold_subscription()
    assert not budget.hold_subscription()
    before = budget.releases
    budget.free_subscription()
    assert budget.releases > before
    assert budget.hold_subscription()


def test_without_limits_everything_goes() -> None:
    budget = make(ManualClock())
    assert all(budget.acquire_message() == 0.0 for _ in range(5000))
    assert all(budget.hold_user(str(n)) for n in range(100))


def test_usage_names_every_limit() -> None:
    budget = make(ManualClock(), connections=10, connects_per_minute=30, users=10)
    budget.acquire_connection()
    usage = budget.usage()
    assert usage["connections"] == {"used": 1, "limit": 10}
    assert usage["connects_per_minute"] == {"used": 1, "limit": 30}
    assert usage["messages_per_minute"] == {"used": 0, "limit": None}


@pytest.mark.parametrize("margin", [-0.1, 1.0])
def test_a_senseless_margin_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        make(ManualClock(), margin=margin)


def test_a_limit_of_nothing_allows_nothing() -> None:
    assert make(ManualClock(), messages_per_minute=0).acquire_message() > 0
