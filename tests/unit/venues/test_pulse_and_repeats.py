from __future__ import annotations

from src.venues.feed import Heartbeat
from src.venues.pulse import Pulse
from src.venues.repeats import KEYS_MOST, Repeats


def test_pings_on_schedule() -> None:
    pulse = Pulse(Heartbeat(20, 10), 100.0)
    assert not pulse.ping_due(119.9)
    assert pulse.ping_due(120.0)
    pulse.pinged(120.0)
    assert not pulse.ping_due(139.9)


def test_quiet_without_a_ping_is_no_death() -> None:
    assert not Pulse(Heartbeat(20, 10), 0.0).dead(1e6)


def test_dead_when_nothing_is_heard_after_a_ping() -> None:
    pulse = Pulse(Heartbeat(20, 10), 0.0)
    pulse.pinged(20.0)
    assert not pulse.dead(30.0)
    assert pulse.dead(30.1)


def test_any_frame_after_the_ping_is_life() -> None:
    pulse = Pulse(Heartbeat(20, 10), 0.0)
    pulse.pinged(20.0)
    pulse.heard(25.0)
    assert not pulse.dead(1000.0)
    assert pulse.heard_at == 25.0


def test_pings_more_frequent_than_the_deadline_do_not_push_it_away() -> None:
    pulse = Pulse(Heartbeat(5, 12), 0.0)
    for now in (5.0, 10.0, 15.0):
        pulse.pinged(now)
    assert not pulse.dead(17.0)
    assert pulse.dead(17.1)


def test_a_repeat_passes_once_per_window() -> None:
    repeats = Repeats(window_s=60)
    assert [repeats.due("a", now) for now in (0.0, 1.0, 59.9, 60.0, 61.0)] == [True, False, False, True, False]
    assert repeats.due("b", 1.0)


def test_several_may_pass_and_a_forgotten_key_is_news() -> None:
    repeats = Repeats(window_s=60, most=2)
    assert [repeats.due("a", 0.0) for _ in range(3)] == [True, True, False]
    repeats.forget("a")
    assert repeats.due("a", 0.0)


def test_memory_is_bounded() -> None:
    repeats = Repeats(window_s=60)
    for n in range(3 * KEYS_MOST):
        repeats.due(n, 0.0)
    assert len(repeats._seen) == KEYS_MOST
    assert not repeats.due(3 * KEYS_MOST - 1, 0.0)
