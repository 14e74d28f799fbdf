"""Which dead letters are kept."""

from __future__ import annotations

from src.models.clock import ManualClock
from src.pipeline.samples import Samples


def test_a_few_of_each_kind_and_minute():
    clock = ManualClock()
    samples = Samples(clock, per_minute=2)
    assert [samples.take("a") for _ in range(4)] == [True, True, False, False]
    assert samples.take("b")
    clock.advance(60)
    assert [samples.take("a") for _ in range(3)] == [True, True, False]


def test_setting_the_wall_clock_back_does_not_give_more():
    clock = ManualClock()
    samples = Samples(clock, per_minute=1)
    assert samples.take("a")
    clock.jump(-3_600)
    assert not samples.take("a")
