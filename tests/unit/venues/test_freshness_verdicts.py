from __future__ import annotations

import pytest

from src.models.clock import ManualClock
from src.models.messages import GapReason
from src.models.streams import StreamKey
from src.venues.freshness import ClockSkew, Freshness, Muted, Reconnect, Resubscribe, Verdict
from tests.support.toy_venue import key, market


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock(wall_ms=1_000_000_000)
        self.venue = ManualClock(wall_ms=1_000_000_000)
        self.fresh = Freshness()

    def watch(
        self, name: str, *, silent: float | None = None, stale: float | None = None, home: int = 0
    ) -> StreamKey:
        subscription = market(name, silent=silent, stale=stale)
        self.fresh.watch(subscription, home)
        self.fresh.confirmed(subscription.key, self.clock.monotonic())
        return subscription.key

    def data(self, *names: str, venue_age_s: float = 0.1) -> None:
        for name in names:
            self.fresh.seen(key(name), self.clock.monotonic(), self.venue.wall_ms() - round(venue_age_s * 1000))

    def wait(self, seconds: float) -> list[Verdict]:
        self.clock.advance(seconds)
        self.venue.advance(seconds)
        return self.fresh.check(self.clock.monotonic(), self.clock.wall_ms())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_silence_is_told_once_with_the_last_arrival_then_resubscribe_then_reconnect(bench: Bench) -> None:
    bench.watch("A", silent=30)
    bench.wait(5)
    bench.data("A")
    last_ms = bench.clock.wall_ms()
    assert bench.wait(30) == []
    assert bench.fresh.state(key("A")) == "fresh"
    muted, again = bench.wait(1)
    assert isinstance(muted, Muted)
    assert (muted.reason, muted.at_ms, muted.age_s) == (GapReason.SILENCE, last_ms, 31.0)
    assert again == Resubscribe(key("A"))
    assert bench.fresh.state(key("A")) == "silent"
    assert bench.wait(30) == []
    assert bench.wait(1) == [Reconnect(0, key("A"))]
    assert bench.wait(60) == []


def test_data_ends_the_episode_and_the_next_one_is_told_again(bench: Bench) -> None:
    bench.watch("A", silent=10)
    bench.data("A")
    assert len(bench.wait(11)) == 2
    bench.data("A")
    assert bench.wait(1) == []
    assert bench.fresh.state(key("A")) == "fresh"
    assert [type(v) for v in bench.wait(11)] == [Muted, Resubscribe]


def test_a_confirmation_without_data_does_not_end_a_silence(bench: Bench) -> None:
    bench.watch("A", silent=10)
    bench.wait(11)
    bench.fresh.lost([key("A")])
    bench.fresh.confirmed(key("A"), bench.clock.monotonic())
    assert bench.wait(1) == []
    assert bench.fresh.state(key("A")) == "silent"
    assert bench.wait(10) == [Reconnect(0, key("A"))]


def test_a_stream_that_never_spoke_is_silent_since_its_confirmation(bench: Bench) -> None:
    bench.watch("A", silent=10)
    assert bench.fresh.state(key("A")) == "pending"
    confirmed_ms = bench.clock.wall_ms()
    muted = bench.wait(11)[0]
    assert isinstance(muted, Muted)
    assert muted.at_ms == confirmed_ms


def test_streams_that_may_be_quiet_are_left_in_peace(bench: Bench) -> None:
    bench.watch("A")
    assert bench.wait(1e6) == []
    assert bench.fresh.state(key("A")) == "fresh"


def test_what_is_not_confirmed_is_not_expected_to_speak(bench: Bench) -> None:
    bench.fresh.watch(market("A", silent=1), 0)
    assert bench.wait(100) == []
    assert bench.fresh.state(key("A")) == "pending"


def test_one_reconnect_for_a_connection_full_of_silence(bench: Bench) -> None:
    for name in "ABC":
        bench.watch(name, silent=10, home=1)
    assert sum(isinstance(v, Resubscribe) for v in bench.wait(11)) == 3
    assert [v.home for v in bench.wait(11) if isinstance(v, Reconnect)] == [1]


def test_one_that_stays_mute_is_resubscribed_rarely_while_its_neighbours_speak(bench: Bench) -> None:
    bench.watch("DEAD", silent=10)
    bench.watch("OK", silent=10)
    verdicts: list[Verdict] = []
    for _ in range(600):
        bench.data("OK")
        verdicts += bench.wait(1)
    assert sum(isinstance(v, Reconnect) for v in verdicts) == 1
    assert 8 <= sum(isinstance(v, Resubscribe) for v in verdicts) <= 11
    assert sum(isinstance(v, Muted) for v in verdicts) == 1


def test_a_connection_on_which_everything_stays_mute_is_replaced_again(bench: Bench) -> None:
    bench.watch("A", silent=10)
    verdicts = [v for _ in range(600) for v in bench.wait(1)]
    assert sum(isinstance(v, Reconnect) for v in verdicts) > 5


def test_stale_is_the_venues_own_time_not_arrival(bench: Bench) -> None:
    bench.watch("A", silent=30, stale=60)
    bench.watch("B", silent=30, stale=60)
    frozen_ms = bench.venue.wall_ms()
    verdicts: list[Verdict] = []
    for _ in range(70):
        bench.data("B")
        bench.fresh.seen(key("A"), bench.clock.monotonic(), frozen_ms)
        verdicts += bench.wait(1)
    muted = [v for v in verdicts if isinstance(v, Muted)]
    assert [(v.key, v.reason, v.at_ms) for v in muted] == [(key("A"), GapReason.STALE, frozen_ms)]
    assert bench.fresh.state(key("A")) == "stale"
    assert bench.fresh.state(key("B")) == "fresh"
    assert Resubscribe(key("A")) in verdicts


def test_a_frozen_venue_is_stale_not_a_clock(bench: Bench) -> None:
    frozen_ms = bench.venue.wall_ms()
    for name in "AB":
        bench.watch(name, stale=60)
    verdicts: list[Verdict] = []
    for _ in range(90):
        for name in "AB":
            bench.fresh.seen(key(name), bench.clock.monotonic(), frozen_ms)
        verdicts += bench.wait(1)
    assert sum(isinstance(v, Muted) for v in verdicts) == 2
    assert not [v for v in verdicts if isinstance(v, ClockSkew)]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 90.0])
def test_a_jump_of_our_wall_clock_is_told_once_and_makes_no_storm(bench: Bench, jump_s: float) -> None:
    for name in "ABCD":
        bench.watch(name, silent=30, stale=60)
    verdicts: list[Verdict] = []
    for second in range(300):
        bench.data("A", "B")
        if second % 5 == 0:
            bench.data("C", "D")
        if second == 100:
            bench.clock.jump(jump_s)
        if second == 200:
            bench.clock.jump(-jump_s)
        verdicts += bench.wait(1)
    skews = [v for v in verdicts if isinstance(v, ClockSkew)]
    assert verdicts == skews
    assert len(skews) == 2
    assert skews[0].offset_ms == pytest.approx(jump_s * 1000, abs=10_000)
    assert skews[1].offset_ms == 0


def test_a_stale_stream_is_found_even_while_our_clock_is_wrong(bench: Bench) -> None:
    bench.clock.jump(600)
    for name in "ABC":
        bench.watch(name, stale=60)
    frozen_ms = bench.venue.wall_ms()
    verdicts: list[Verdict] = []
    for _ in range(100):
        bench.data("A", "B")
        bench.fresh.seen(key("C"), bench.clock.monotonic(), frozen_ms)
        verdicts += bench.wait(1)
    assert [v.key for v in verdicts if isinstance(v, Muted)] == [key("C")]
    assert [type(v) for v in verdicts].count(ClockSkew) == 1


def test_one_late_stream_alone_is_stale_not_a_clock(bench: Bench) -> None:
    bench.watch("A", stale=60)
    bench.data("A", venue_age_s=120)
    assert [type(v) for v in bench.wait(1)] == [Muted, Resubscribe]


def test_a_gap_is_told_once_until_data_comes(bench: Bench) -> None:
    for name in "AB":
        bench.watch(name)
    assert bench.fresh.lost([key("A"), key("B")]) == [key("A"), key("B")]
    assert bench.fresh.lost([key("A"), key("B"), key("nobody")]) == []
    bench.data("A")
    assert bench.fresh.lost([key("A"), key("B")]) == [key("A")]


def test_a_disconnect_during_a_silence_is_the_same_gap(bench: Bench) -> None:
    bench.watch("A", silent=10)
    bench.data("A")
    bench.wait(11)
    assert bench.fresh.lost([key("A")]) == []


def test_forgetting_tells_whether_the_gap_is_still_to_be_told(bench: Bench) -> None:
    for name in "AB":
        bench.watch(name)
    bench.fresh.lost([key("A")])
    assert bench.fresh.forget(key("A")) is False
    assert bench.fresh.forget(key("B")) is True
    bench.data("A")
    assert bench.fresh.track(key("A")) is None


def test_an_older_venue_time_does_not_make_a_stream_older(bench: Bench) -> None:
    bench.watch("A", stale=60)
    bench.data("A")
    bench.data("A", venue_age_s=300)
    assert bench.wait(1) == []
