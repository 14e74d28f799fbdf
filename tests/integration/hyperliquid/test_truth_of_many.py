"""Everything that ever lived has its document with the right reason; the long form is `tests.faults.five_hundred`."""

from src.models.metrics import PAST_LOOKS
from tests.support.five_hundred import Verdict, events_out_of_order, run
from tests.support.virtual_time import run_virtually

ALL_RIGHT = 0.999


def test_after_a_storm_and_the_backfill_all_orders_that_lived_have_the_right_reason():
    life = run_virtually(
        run(
            traders=24,
            seconds=900,
            storm_s=120,
            bursts=1,
            burst_decisions=2_400,
            hyperliquid_backfill_interval=120,
        )
    )
    world = life.world
    usual = Verdict(world, only=set(world.venue.traders) - set(life.bursters))
    assert usual.lived > 300
    assert usual.share() >= ALL_RIGHT
    assert not usual.outside
    assert not usual.invented
    assert usual.sources["history"] > 50  # nobody has seen them live
    assert not events_out_of_order(world.store)

    burst = Verdict(world, only=set(life.bursters))
    assert burst.missing  # the venue had forgotten them
    assert not burst.wrong
    assert not burst.outside

    assert world.refusals() == life.first_minute
    assert life.late == 0
    assert not world.task_failures()
    assert life.turned_away > 5
    assert not life.back
    assert life.cursors_lost == 0


def test_first_frames_shorter_than_histories_prove_only_what_they_reach():
    life = run_virtually(
        run(traders=12, seconds=1200, storm_s=0, bursts=0, hyperliquid_backfill_interval=120, first_frame_rows=12)
    )
    verdict, metrics = Verdict(life.world), life.world.metrics
    assert verdict.share() == 1
    assert not verdict.invented
    for channel in ("userHistoricalOrders", "userFills"):
        assert metrics.value(PAST_LOOKS, "hyperliquid", channel, "told") > 50
        assert metrics.value(PAST_LOOKS, "hyperliquid", channel, "short") > 0
    assert not events_out_of_order(life.world.store)


def test_without_the_backfill_the_judge_misses_orders():
    life = run_virtually(run(traders=12, seconds=400, storm_s=0, bursts=0, hyperliquid_backfill=False))
    verdict = Verdict(life.world)
    assert verdict.share() < 0.9
    assert verdict.outside
