from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from src.models.clock import ManualClock
from src.venues.budget import Budget
from src.venues.feed import VenueLimits

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["connect", "release", "message", "ping", "wait", "pause"]),
        st.floats(0, 70, allow_nan=False),
    ),
    max_size=200,
)


def most_in_any_minute(times: list[float]) -> int:
    return max((sum(start <= at <= start + 60.0 for at in times) for start in times), default=0)


@settings(max_examples=200, deadline=None)
@given(
    steps=STEPS,
    connections=st.integers(1, 5),
    connects=st.integers(1, 6),
    messages=st.integers(1, 12),
    margin=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_no_minute_and_no_moment_exceeds_a_limit(
    steps: list[tuple[str, float]], connections: int, connects: int, messages: int, margin: float
) -> None:
    clock = ManualClock()
    limits = VenueLimits(connections=connections, connects_per_minute=connects, messages_per_minute=messages)
    budget = Budget(limits, clock=clock, margin=margin, spacing_s=0.1)
    opened: list[float] = []
    sent: list[float] = []
    now_open = 0
    for step, seconds in steps:
        if step == "connect" and budget.acquire_connection() == 0.0:
            opened.append(clock.monotonic())
            now_open += 1
        elif step == "release" and now_open:
            budget.release_connection()
            now_open -= 1
        elif step in ("message", "ping") and budget.acquire_message(urgent=step == "ping") == 0.0:
            sent.append(clock.monotonic())
        elif step == "wait":
            clock.advance(seconds)
        elif step == "pause":
            budget.pause_messages(seconds)
        assert now_open <= connections
    assert most_in_any_minute(opened) <= connects
    assert most_in_any_minute(sent) <= messages


@settings(max_examples=100, deadline=None)
@given(connects=st.integers(1, 40), ask_every=st.floats(0.01, 5.0))
def test_the_wait_it_names_is_enough_and_finite(connects: int, ask_every: float) -> None:
    clock = ManualClock()
    budget = Budget(VenueLimits(connects_per_minute=connects), clock=clock, spacing_s=0.0)
    for _ in range(3 * connects):
        wait = budget.acquire_connection()
        assert wait <= 61.0
        if wait:
            clock.advance(wait + 1e-6)
            assert budget.acquire_connection() == 0.0
        clock.advance(ask_every / 100)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=80), st.integers(1, 4))
def test_distinct_users_never_exceed_the_limit(steps: list[tuple[bool, int]], limit: int) -> None:
    budget = Budget(VenueLimits(users=limit), clock=ManualClock())
    held: list[str] = []
    for take, number in steps:
        user = str(number)
        if take and budget.hold_user(user):
            held.append(user)
        elif not take and user in held:
            held.remove(user)
            budget.free_user(user)
        assert len(set(held)) <= limit
        assert budget.usage()["users"]["used"] == len(set(held))
