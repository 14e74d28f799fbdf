from __future__ import annotations

import random

import pytest

from src.venues.backoff import Backoff
from src.venues.failures import Failure
from src.venues.timing import Timing

LOST = Failure("closed_1006", closed_by_venue=True)
EXPIRED = Failure("closed_1000", rotation=True, closed_by_venue=True)


def highest() -> float:
    return 1.0


def test_doubles_to_the_cap() -> None:
    backoff = Backoff(Timing(attempts_most=100), random=highest)
    delays = []
    for n in range(8):
        backoff.attempt(n * 1000.0)
        delays.append(backoff.delay(LOST, n * 1000.0))
    assert delays == [1, 2, 4, 8, 16, 32, 32, 32]


def test_jitter_is_full() -> None:
    backoff = Backoff(Timing(attempts_most=100), random=lambda: 0.0)
    backoff.attempt(0.0)
    assert backoff.delay(LOST, 0.0) == 0.0


@pytest.mark.parametrize("failure", [LOST, EXPIRED, Failure("frame_too_big")])
@pytest.mark.parametrize("seed", range(20))
def test_accept_then_close_makes_at_most_eight_attempts_a_minute(failure: Failure, seed: int) -> None:
    backoff = Backoff(Timing(), random=random.Random(seed).random)
    now, attempts = 0.0, []
    while now < 600.0:
        attempts.append(now)
        backoff.attempt(now)
        now += 0.001
        backoff.heard(now)
        now += backoff.delay(failure, now)
    for start in attempts:
        assert sum(start <= at <= start + 60.0 for at in attempts) <= 8


@pytest.mark.parametrize("unlucky", [0.0, 1e-9])
def test_bound_of_attempts_holds_without_any_luck(unlucky: float) -> None:
    backoff = Backoff(Timing(), random=lambda: unlucky)
    now, attempts = 0.0, 0
    while now < 60.0:
        attempts += 1
        backoff.attempt(now)
        now += backoff.delay(EXPIRED, now)
    assert attempts == 8


def live(backoff: Backoff, now: float, *, data_after: float | None, heard_until: float) -> None:
    backoff.attempt(now)
    if data_after is not None:
        backoff.data(now + data_after)
    backoff.heard(now + heard_until)


@pytest.mark.parametrize(
    ("data_after", "heard_until", "forgiven"),
    [
        (0.5, 31.0, True),
        (0.5, 30.0, False),  # 29.5 s since the first data
        (None, 500.0, False),  # a long life without data is no health
        (0.5, 3.0, False),  # however long it hung afterwards
    ],
)
def test_forgives_only_after_data_and_thirty_healthy_seconds(
    data_after: float | None, heard_until: float, *, forgiven: bool
) -> None:
    backoff = Backoff(Timing(), random=highest)
    for n in range(4):
        backoff.attempt(n * 100.0)
        backoff.delay(LOST, n * 100.0)
    live(backoff, 1000.0, data_after=data_after, heard_until=heard_until)
    assert backoff.healthy is forgiven
    assert backoff.delay(LOST, 2000.0) == (1.0 if forgiven else 16.0)
    assert backoff.failures == (1 if forgiven else 5)


def test_an_expired_connection_comes_back_at_once_only_if_it_had_been_healthy() -> None:
    backoff = Backoff(Timing(), random=highest)
    live(backoff, 0.0, data_after=0.1, heard_until=3600.0)
    assert backoff.delay(EXPIRED, 3600.0) == 0.0
    live(backoff, 3600.0, data_after=0.1, heard_until=5.0)
    assert backoff.delay(EXPIRED, 3605.0) == 2.0


def test_rate_limit_waits_what_the_venue_asks_never_less() -> None:
    low, high = (Backoff(Timing(), random=lambda value=value: value) for value in (0.0, 1.0))
    asked = Failure("http_429", rate_limited=True, retry_after_s=120.0)
    assert low.delay(asked, 0.0) == 120.0
    assert high.delay(asked, 0.0) == 150.0


def test_rate_limit_without_a_word_waits_a_minute_and_an_absurd_one_is_capped() -> None:
    backoff = Backoff(Timing(), random=lambda: 0.0)
    assert backoff.delay(Failure("http_429", rate_limited=True), 0.0) == 60.0
    assert backoff.delay(Failure("http_429", rate_limited=True, retry_after_s=1e9), 0.0) == 900.0


def test_what_a_person_must_mend_is_tried_at_the_cap() -> None:
    backoff = Backoff(Timing(), random=lambda: 0.0)
    backoff.attempt(0.0)
    assert backoff.delay(Failure("http_403", remedy="check the proxy"), 0.0) == 32.0
