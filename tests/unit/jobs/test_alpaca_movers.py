"""Movers: what is measured, who becomes one, who stops being one, and that they are subscribed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from src.config import Settings
from src.jobs.alpaca.movers import Measures, MoverRules, MoversJob, measure, minutes_traded
from src.models.clock import ManualClock
from src.models.errors import VenueError
from src.models.metrics import MOVERS, Metrics
from src.venues.alpaca.simulator import AlpacaSimulator, SimulatorConfig
from src.venues.alpaca.wire import Gainer, HistoricalTrade, Snapshot, SnapshotBar
from tests.support.alpaca_case import ACCOUNT, MarketClock, running_source, settings_for
from tests.support.toy_venue import until

ELEVEN_MS = 1_765_555_200_000  # Friday 2025-12-12, 11:00 in New York: 90 minutes after the opening
DAY, EVE = "2025-12-12T05:00:00Z", "2025-12-11T05:00:00Z"
RULES = MoverRules(
    gain_percent=30.0, surge=5.0, surge_of="day", candidates=("A", "B", "C"), most=2, interval_s=1.0, feed="iex"
)


def bar(time: str, close: float, volume: float) -> SnapshotBar:
    return SnapshotBar(time, close, close, close, close, volume)


def snapshot(gain: float = 0.4, surge: float = 6.0, **more: Any) -> Snapshot:
    """A stock with this gain and this surge of the day at 11:00."""
    usual = 390_000.0  # 1,000 a minute
    parts: dict[str, Any] = {
        "dailyBar": bar(DAY, 10 * (1 + gain), surge * 1_000 * 90),
        "prevDailyBar": bar(EVE, 10.0, usual),
        "minuteBar": bar("2025-12-12T15:59:00Z", 10 * (1 + gain), 2_000.0),
    }
    return Snapshot(**{**parts, **more})


def latest(
    price: float, conditions: tuple[str, ...] = ("@",), time: str = "2025-12-12T15:59:59.5Z"
) -> HistoricalTrade:
    return HistoricalTrade(1, price, 10, time, "V", conditions, "C")


# -- measures ----------------------------------------------------------------------------------------------------------


def test_gain_and_surge_of_the_day() -> None:
    assert measure(snapshot(0.4, 6.0), "day", ELEVEN_MS) == Measures(40.0, 6.0)


def test_the_latest_trade_counts_when_it_may_set_the_last_price() -> None:
    assert measure(snapshot(latestTrade=latest(15.0)), "day", ELEVEN_MS).gain_percent == 50.0
    assert measure(snapshot(latestTrade=latest(15.0, ("@", "I"))), "day", ELEVEN_MS).gain_percent == 40.0
    assert (
        measure(snapshot(latestTrade=latest(15.0, time="2025-12-11T20:00:00Z")), "day", ELEVEN_MS).gain_percent
        == 40.0
    )


def test_surge_of_the_minute_is_against_todays_average() -> None:
    quick = snapshot(minuteBar=bar("2025-12-12T15:59:00Z", 14.0, 36_000.0))
    assert measure(quick, "minute", ELEVEN_MS).surge == 6.0
    old = snapshot(minuteBar=bar("2025-12-12T15:00:00Z", 14.0, 36_000.0))
    assert measure(old, "minute", ELEVEN_MS).surge == 0.0
    assert measure(snapshot(minuteBar=None), "minute", ELEVEN_MS).surge == 0.0


@pytest.mark.parametrize(
    "parts",
    [
        {"dailyBar": None},
        {"prevDailyBar": None},
        {"dailyBar": bar(EVE, 14.0, 1e9)},
        {"dailyBar": bar("no time", 14.0, 1e9)},
        {"prevDailyBar": bar(EVE, 0.0, 1.0)},
    ],
)
def test_what_is_not_known_is_no_measure(parts: dict[str, Any]) -> None:
    assert measure(snapshot(**parts), "day", ELEVEN_MS) == Measures(None, None)


def test_a_stock_without_volume_yesterday_has_no_surge() -> None:
    assert measure(snapshot(prevDailyBar=bar(EVE, 10.0, 0.0)), "day", ELEVEN_MS) == Measures(40.0, None)


@pytest.mark.parametrize(
    ("moment", "minutes"),
    [("8:00", 240.0), ("9:30", 1.0), ("9:31", 1.0), ("11:00", 90.0), ("16:00", 390.0), ("19:00", 390.0)],
)
def test_minutes_traded(moment: str, minutes: float) -> None:
    hours, _, rest = moment.partition(":")
    at_ms = ELEVEN_MS + ((int(hours) - 11) * 60 + int(rest)) * 60_000
    assert minutes_traded(at_ms) == minutes


def test_minutes_of_a_day_without_trading_are_those_of_a_whole_day() -> None:
    assert minutes_traded(ELEVEN_MS + 86_400_000) == 390.0


# -- who is one --------------------------------------------------------------------------------------------------------


class FakeRest:
    """Hands out what a test wrote down."""

    def __init__(self) -> None:
        self.found: dict[str, Snapshot] = {}
        self.gains: list[Gainer] = []
        self.asked: list[list[str]] = []
        self.error: VenueError | None = None

    async def snapshots(self, symbols: Any, *, feed: str) -> dict[str, Snapshot]:
        if self.error:
            raise self.error
        self.asked.append(list(symbols))
        return {name: self.found[name] for name in symbols if name in self.found}

    async def gainers(self, most: int) -> list[Gainer]:
        return self.gains[:most]


class Bench:
    def __init__(self, rules: MoverRules = RULES) -> None:
        self.clock = ManualClock(wall_ms=ELEVEN_MS)
        self.metrics = Metrics()
        self.rest = FakeRest()
        self.told: list[tuple[str, ...]] = []
        self.job = MoversJob(
            self.rest,
            rules,
            on_movers=lambda symbols: self.told.append(tuple(symbols)),
            clock=self.clock,
            metrics=self.metrics,
        )

    async def look(self, **found: Snapshot) -> tuple[str, ...]:
        self.rest.found = found
        await self.job.look()
        return self.told[-1] if self.told else ()


@pytest.mark.parametrize(
    ("gain", "surge", "moves"),
    [(0.4, 6.0, True), (0.3, 6.0, False), (0.4, 5.0, False), (0.301, 5.01, True), (-0.4, 6.0, False)],
)
async def test_both_thresholds_have_to_be_passed(gain: float, surge: float, moves: bool) -> None:
    bench = Bench()
    assert await bench.look(A=snapshot(gain, surge)) == (("A",) if moves else ())
    assert bench.metrics.value(MOVERS, "alpaca") == (1 if moves else 0)


async def test_the_strongest_come_first_and_there_is_a_bound() -> None:
    bench = Bench()
    with capture_logs() as logs:
        assert await bench.look(A=snapshot(0.5), B=snapshot(0.9), C=snapshot(0.7)) == ("B", "C")
        await bench.look(A=snapshot(0.5), B=snapshot(0.9), C=snapshot(0.7))
    assert [line["left_out"] for line in logs if line["event"] == "movers_beyond_limit"] == [["A"]]
    assert len(bench.told) == 1, "told only when something changed"


async def test_a_mover_stays_until_half_of_the_gain_is_gone_or_the_day_ends() -> None:
    bench = Bench()
    await bench.look(A=snapshot(0.4))
    assert await bench.look(A=snapshot(0.2, 0.5)) == ("A",)
    assert await bench.look() == ("A",), "no news is no reason"
    assert await bench.look(A=snapshot(0.14)) == ()
    await bench.look(A=snapshot(0.4))
    bench.clock.advance(13 * 3600)
    assert await bench.look(A=snapshot(0.4)) == ()


async def test_nothing_is_asked_while_the_market_is_closed() -> None:
    bench = Bench()
    bench.clock.advance(24 * 3600)
    await bench.look(A=snapshot())
    assert bench.rest.asked == []


async def test_without_candidates_the_venues_gainers_are_looked_at() -> None:
    bench = Bench(MoverRules(**{name: getattr(RULES, name) for name in RULES.__struct_fields__} | {"candidates": ()}))
    bench.rest.gains = [Gainer("UP", 45.0, 14.5), Gainer("FLAT", 3.0, 10.3)]
    assert await bench.look(UP=snapshot()) == ("UP",)
    bench.rest.gains = []
    await bench.look(UP=snapshot())
    assert bench.rest.asked == [["UP"], ["UP"]], "present movers are looked at even when the list forgot them"


async def test_a_venue_that_does_not_answer_changes_nothing_and_is_told_once() -> None:
    bench = Bench()
    await bench.look(A=snapshot())
    bench.rest.error = VenueError("away")
    with capture_logs() as logs:
        await bench.job.look()
        await bench.job.look()
    assert [line["event"] for line in logs] == ["movers_not_looked_for"]
    assert bench.job.status() == {"present": {"A": {"gain_percent": 40.0, "surge": 6.0}}, "error": "away"}
    bench.rest.error = None
    await bench.job.look()
    assert bench.job.status()["error"] == ""


async def test_the_job_ends_when_it_is_told_to() -> None:
    bench = Bench()
    stopping = asyncio.Event()
    task = asyncio.create_task(bench.job.run(stopping))
    await until(lambda: bench.rest.asked)
    stopping.set()
    await asyncio.wait_for(task, 5)


def test_the_thresholds_are_settings() -> None:
    settings = Settings(
        alpaca_movers_gain=12.5, alpaca_movers_surge=2, alpaca_movers_symbols="AAPL,*", alpaca_movers_most=3
    )
    rules = MoverRules.of(settings)
    assert (rules.gain_percent, rules.surge, rules.candidates, rules.most) == (12.5, 2.0, ("AAPL",), 3)


async def test_a_mover_is_subscribed_by_itself_and_let_go_again() -> None:
    """End to end: the simulator's gainer appears on the stream."""
    config = SimulatorConfig(start_ms=ELEVEN_MS, trades_per_s=0.0, accounts=(ACCOUNT,))
    async with AlpacaSimulator(config) as venue:
        settings = settings_for(venue, alpaca_movers=True)
        async with running_source(settings, clock=MarketClock(venue)) as running:
            await until(lambda: venue.subscribed() == ["AAPL", "TSLA"])
            venue.market.set_day("AMD", gain=0.4, volume=900_000.0, previous_volume=390_000.0, now_ns=venue.now_ns())
            await running.source.movers.look()
            await until(lambda: venue.subscribed() == ["AAPL", "AMD", "TSLA"])
            assert list(running.source.status()["movers"]["present"]) == ["AMD"]
            venue.market.set_day("AMD", gain=0.01, volume=900_000.0, previous_volume=390_000.0, now_ns=venue.now_ns())
            await running.source.movers.look()
            await until(lambda: venue.subscribed() == ["AAPL", "TSLA"])
