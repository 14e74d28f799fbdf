"""A day at the exchange in seconds: lunch and night are no staleness, midnight is no trouble, nothing is lost."""

import pytest

from src.models.messages import GapReason
from src.models.streams import StreamKey
from src.venues.stockbit.simulator import DayClock, Hours, StockbitSimulatorConfig
from tests.support.stockbit_world import QUICK, stockbit_world, until

pytestmark = pytest.mark.integration

MIDNIGHT_MS = 1_770_138_000_000  # Wednesday, 2026-02-04 in Jakarta
HOUR_MS = 3_600_000


def at(hours, minutes=0, *, day=0):
    return MIDNIGHT_MS + day * 24 * HOUR_MS + hours * HOUR_MS + minutes * 60_000


class TestHours:
    @pytest.mark.parametrize(
        ("when", "phase"),
        [
            (at(8, 44), "closed"),
            (at(8, 45), "pre-opening"),
            (at(9), "continuous"),
            (at(11, 59), "continuous"),
            (at(12), "lunch"),
            (at(13, 30), "continuous"),
            (at(15, 50), "pre-closing"),
            (at(16, 1), "post-closing"),
            (at(16, 15), "closed"),
            (at(11, 29, day=2), "continuous"),
            (at(11, 30, day=2), "lunch"),
            (at(13, 59, day=2), "lunch"),
            (at(14, day=2), "continuous"),
            (at(10, day=3), "closed"),
            (at(10, day=4), "closed"),
            (at(10, day=5), "continuous"),
        ],
    )
    def test_phases(self, when, phase):
        assert Hours().phase_at(when) == phase
        assert Hours().is_continuous(when) is (phase == "continuous")

    def test_they_agree_with_the_calendar_of_the_program(self):
        from src.venues.idx.calendar import IdxCalendar

        calendar = IdxCalendar()
        for minutes in range(0, 7 * 24 * 60, 10):
            when = at(0, minutes) + 1
            assert Hours().is_continuous(when) == calendar.is_continuous(when), when

    def test_a_clock_runs_faster_and_can_be_moved(self):
        clock = DayClock(at(9), speed=1_000_000.0)
        first = clock.wall_ms()
        assert first >= at(9)
        clock.speed = 0.0
        stopped = clock.wall_ms()
        assert stopped == clock.wall_ms() >= first
        clock.jump_to(at(12))
        assert clock.wall_ms() == at(12)


async def test_lunch_and_night_are_silent_and_nobody_minds(tmp_path, monkeypatch):
    monkeypatch.setattr("src.venues.stockbit.feed.SILENT_S", 0.3)
    clock = DayClock(at(11, 50), speed=0.0)
    config = StockbitSimulatorConfig(updates_per_s=40.0, trades_per_s=4.0, token_life_s=30 * 86_400.0)
    async with stockbit_world(tmp_path, clock=clock, hours=Hours(), config=config) as world:
        await world.fresh()
        for begins in (at(12, 1), at(16, 30), at(23, 59), at(0, 1, day=1), at(3, day=3)):
            clock.jump_to(begins)
            await until(lambda: not world.source.status()["continuous"])
            frames = world.source.status()["connections"][0]["frames"]
            # Four pongs are more than twice the time after which silence would count in trading.
            await until(lambda frames=frames: world.source.status()["connections"][0]["frames"] >= frames + 4)
            assert set(world.source.status()["states"]) == {"fresh"}
        assert world.sim.connects == 1
        assert world.gaps() == {}
        clock.jump_to(at(9, 30, day=5))
        before = len(world.books())
        await until(lambda: len(world.books()) > before + 20, "trading goes on")
        assert world.sim.connects == 1


async def test_trade_numbers_of_two_days_do_not_mix(tmp_path):
    clock = DayClock(at(10), speed=0.0)
    config = StockbitSimulatorConfig(updates_per_s=10.0, trades_per_s=20.0)
    async with stockbit_world(tmp_path, clock=clock, hours=Hours(), config=config) as world:
        await until(lambda: len(world.trades()) > 10)
        clock.jump_to(at(10, day=1))
        await until(lambda: any(trade.trade_id.startswith("20260205-") for trade in world.trades()))
        ids = [(trade.symbol, trade.trade_id) for trade in world.trades()]
        numbers = {}
        for _, name in ids:
            day, number = name.split("-")
            numbers.setdefault(day, set()).add(int(number))
        assert numbers["20260205"] & numbers["20260204"], "both days begin to count at one"


async def test_a_whole_day_with_drops_and_tokens_that_expire(tmp_path):
    """From before the opening past midnight; connections recover, tokens are renewed, what is told is what was sent."""
    clock = DayClock(at(8, 40), speed=4_000.0)
    config = StockbitSimulatorConfig(updates_per_s=40.0, trades_per_s=8.0, token_life_s=6 * 3600.0)
    async with stockbit_world(tmp_path, clock=clock, hours=Hours(), config=config, timing=QUICK) as world:
        for hour in (10, 14, 20):
            await until(lambda hour=hour: clock.wall_ms() >= at(hour), f"{hour} o'clock", 60)
            before = world.sim.connects
            world.sim.drop_all()
            await until(lambda before=before: world.sim.connects > before, "connected again")
        await until(lambda: clock.wall_ms() >= at(9, 5, day=1), "the next morning", 60)
        clock.speed = 1.0
        world.sim.is_paused = True
        await world.fresh()
        # What was under way when a socket broke is lost on both sides of the log; after the last drop nothing is.
        last = max(world.sim.sessions)
        sent = world.sent(last)
        await until(lambda: world.told().keys() >= sent.keys(), "everything sent arrives")
        told = world.told()
        assert sent
        assert {key: told[key] for key in sent} == sent
        everything = world.sent()
        assert all(everything[key] == levels for key, levels in told.items())
        assert world.sim.accounts.refreshes >= 3
        assert world.gaps()["disconnect"] >= 3
        assert "silence" not in world.gaps()
        assert world.sink.letters == []
        book = StreamKey("stockbit", "order_book", "BBCA")
        assert any(book in gap.streams for gap in world.sink.gaps if gap.reason is GapReason.DISCONNECT)
