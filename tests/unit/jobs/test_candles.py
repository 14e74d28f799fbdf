"""Candles from stored trades: right, repeatable, whole after a restart, and late trades win."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from src.jobs.candles.candles import LOOK_BACK_MS, MISSES_ALLOWED, SPAN_REST_S, CandleJob
from src.models.clock import ManualClock
from src.models.errors import StoreError, StoreFatalError
from src.models.messages import Trade
from src.models.metrics import CANDLE_FAILURES, CANDLES_COMPUTED, CANDLES_GIVEN_UP, Metrics
from src.models.writes import Collection, Insert, WriteBatch
from src.store.memory import MemoryStore

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 1_795_132_800_000  # 2026-11-20 00:00:00 UTC


def date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def trade(number: int, at: int, price: float, size: float = 1.0, *, symbol: str = "BTC") -> Trade:
    return Trade("hyperliquid", symbol, f"{at}:{number}", str(price), str(size), "B", at, at + 50)


class Bench:
    def __init__(self, store: MemoryStore | None = None, **options) -> None:
        self.clock = ManualClock(wall_ms=T0 + 10 * MINUTE)
        self.store = store or MemoryStore()
        self.metrics = Metrics()
        self.job = CandleJob(self.store, self.clock, metrics=self.metrics, **options)
        self._seq = 0

    async def put(self, *trades: Trade) -> None:
        """Store trades as the pipeline does."""
        self._seq += 1
        documents = [
            {
                "_id": f"{one.venue}:{one.symbol}:{one.trade_id}",
                "venue": one.venue,
                "symbol": one.symbol,
                "price": float(one.price),
                "size": float(one.size),
                "timestamp": date(one.time_ms),
                "receivedAt": date(one.received_ms),
            }
            for one in trades
        ]
        await self.store.write(
            WriteBatch(self._seq, [[Insert(Collection.TRADES, document) for document in documents]])
        )

    async def see(self, *trades: Trade) -> None:
        for one in trades:
            self.job.touched(one)
        await self.put(*trades)

    async def passes(self, count: int = 3) -> None:
        for _ in range(count):
            self.clock.advance(5)
            await self.job.compute()

    def candles(self, interval: str = "1m", symbol: str = "BTC") -> list[dict]:
        found = [
            one
            for one in self.store.documents(Collection.CANDLES)
            if one["interval"] == interval and one["symbol"] == symbol
        ]
        return sorted(found, key=lambda one: one["timestamp"])


async def until(condition: Callable[[], object]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


def bars(candles: Sequence[dict]) -> list[tuple]:
    return [(c["open"], c["high"], c["low"], c["close"], c["volume"], c["count"]) for c in candles]


async def test_a_minute_of_trades_becomes_one_candle() -> None:
    bench = Bench()
    await bench.see(
        trade(1, T0 + 100, 10), trade(2, T0 + 59_999, 11, 2.5), trade(3, T0 + 200, 14), trade(4, T0 + 300, 7)
    )
    await bench.passes()
    (candle,) = bench.candles()
    assert candle == {
        "_id": f"hyperliquid:BTC:1m:{T0}",
        "venue": "hyperliquid",
        "symbol": "BTC",
        "interval": "1m",
        "timestamp": date(T0),
        "open": 10.0,
        "high": 14.0,
        "low": 7.0,
        "close": 11.0,
        "volume": 5.5,
        "count": 4,
        "receivedAt": date(T0 + 60_049),
        "updatedAt": candle["updatedAt"],
    }


async def test_minutes_and_symbols_are_kept_apart() -> None:
    bench = Bench()
    await bench.see(trade(1, T0 + 59_999, 1), trade(2, T0 + MINUTE, 2), trade(3, T0, 3, symbol="ETH"))
    await bench.passes()
    assert bars(bench.candles()) == [(1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 1, 1)]
    assert bars(bench.candles(symbol="ETH")) == [(3, 3, 3, 3, 1, 1)]
    assert [c["timestamp"] for c in bench.candles()] == [date(T0), date(T0 + MINUTE)]


async def test_trades_of_one_millisecond_always_give_the_same_candle() -> None:
    trades = [trade(number, T0, price) for number, price in enumerate([5, 3, 9, 4])]
    results = set()
    for seed in range(5):
        shuffled = trades.copy()
        random.Random(seed).shuffle(shuffled)
        bench = Bench()
        await bench.see(*shuffled)
        await bench.passes()
        results.add(bars(bench.candles())[0])
    assert results == {(5, 9, 3, 4, 4, 4)}


async def test_a_trade_reported_before_it_is_stored_is_waited_for() -> None:
    bench = Bench()
    one, two = trade(1, T0, 10), trade(2, T0 + 1, 20)
    bench.job.touched(one)
    bench.job.touched(two)
    await bench.passes(5)
    assert bench.candles() == []
    await bench.put(one)
    await bench.passes(2)
    assert bars(bench.candles()) == [(10, 10, 10, 10, 1, 1)]
    assert bench.job.waiting() == 1
    await bench.put(two)
    await bench.passes(3)
    assert bars(bench.candles()) == [(10, 20, 10, 20, 2, 2)]
    assert bench.job.waiting() == 0


async def test_a_minute_whose_last_trade_came_before_others_of_its_batch_is_looked_at_again() -> None:
    bench = Bench()
    first, last = trade(1, T0, 10), trade(2, T0 + 1, 20)
    bench.job.touched(first)
    bench.job.touched(last)
    await bench.put(last)  # writes of one batch become visible in any order
    await bench.passes(1)
    await bench.put(first)
    await bench.passes(3)
    assert bars(bench.candles()) == [(10, 20, 10, 20, 2, 2)]


async def test_a_trade_that_is_never_stored_is_given_up_and_counted() -> None:
    bench = Bench()
    bench.job.touched(trade(1, T0, 10))
    await bench.passes(MISSES_ALLOWED - 1)
    assert bench.job.waiting() == 1
    await bench.passes(1)
    assert bench.job.waiting() == 0
    assert bench.metrics.value(CANDLES_GIVEN_UP) == 1


async def test_a_late_trade_makes_the_candle_anew() -> None:
    bench = Bench()
    await bench.see(trade(1, T0 + 5000, 10))
    await bench.passes()
    await bench.see(trade(2, T0 + 10, 99))
    await bench.passes()
    assert bars(bench.candles()) == [(99, 99, 10, 10, 2, 2)]


async def test_trades_that_come_again_change_nothing() -> None:
    bench = Bench()
    one = trade(1, T0, 10)
    await bench.see(one)
    await bench.passes()
    bench.clock.advance(60)
    await bench.passes()
    before = bench.store.documents(Collection.CANDLES)
    batches = len(bench.store.batches)
    bench.clock.advance(100)
    await bench.see(one)
    await bench.passes()
    assert bench.store.documents(Collection.CANDLES) == before
    assert len(bench.store.batches) <= batches + 5  # the trade, and one look at each of the four candles


async def test_an_unchanged_minute_is_not_written_in_every_pass() -> None:
    bench = Bench()
    await bench.see(trade(1, T0, 10))
    waiting = trade(2, T0 + 1, 11)
    bench.job.touched(waiting)
    await bench.passes(3)
    computed = bench.metrics.value(CANDLES_COMPUTED, "1m")
    await bench.passes(5)
    assert bench.metrics.value(CANDLES_COMPUTED, "1m") == computed


async def test_fewer_trades_never_win_over_more() -> None:
    bench = Bench()
    await bench.see(trade(1, T0, 10), trade(2, T0 + 1, 20))
    await bench.passes()
    emptied = Bench()
    emptied.store._documents[Collection.CANDLES] = bench.store._documents[Collection.CANDLES]
    await emptied.see(trade(2, T0 + 1, 20))  # the first has expired meanwhile
    await emptied.passes()
    assert bars(emptied.candles()) == [(10, 20, 10, 20, 2, 2)]


async def test_a_minute_cut_by_a_restart_is_whole_again_without_its_trades_being_reported() -> None:
    before = Bench()
    await before.see(trade(1, T0, 10))
    await before.passes()
    await before.put(
        trade(2, T0 + 1000, 20), trade(3, T0 + MINUTE, 30)
    )  # stored, but the program ended before a pass
    after = Bench(before.store)
    after.clock.advance(20 * 60)
    await after.see(trade(4, T0 + 30 * MINUTE, 40))
    await after.passes()
    assert bars(after.candles()) == [(10, 20, 10, 20, 2, 2), (30, 30, 30, 30, 1, 1), (40, 40, 40, 40, 1, 1)]


async def test_a_database_without_candles_gets_them_from_its_oldest_trade_on() -> None:
    bench = Bench()
    bench.clock.advance(2 * DAY / 1000)
    await bench.put(trade(1, T0, 10), trade(2, T0 + DAY, 20), trade(3, T0 + DAY, 5, symbol="ETH"))
    await bench.see(trade(4, T0 + 2 * DAY, 30))
    await bench.passes()
    assert bars(bench.candles()) == [(10, 10, 10, 10, 1, 1), (20, 20, 20, 20, 1, 1), (30, 30, 30, 30, 1, 1)]
    assert bench.candles(symbol="ETH") == []  # nobody reported a trade of it yet


async def test_the_look_back_does_not_read_the_whole_history() -> None:
    bench = Bench()
    await bench.see(trade(1, T0, 10), trade(2, T0 + 3 * HOUR, 20))
    bench.clock.advance(4 * HOUR / 1000)
    await bench.passes()
    again = Bench(bench.store)
    again.clock.advance(4 * HOUR / 1000)
    await again.put(trade(3, T0 + 3 * HOUR - LOOK_BACK_MS - MINUTE, 1), trade(4, T0 + 3 * HOUR - LOOK_BACK_MS, 2))
    await again.see(trade(5, T0 + 4 * HOUR, 30))
    await again.passes()
    assert [c["open"] for c in again.candles()] == [10, 2, 20, 30]


async def test_more_minutes_than_are_kept_one_by_one_are_computed_as_a_span() -> None:
    bench = Bench(max_minutes=5)
    trades = [trade(number, T0 + number * MINUTE, number + 1) for number in range(400)]
    bench.clock.advance(400 * 60)
    for one in trades:
        bench.job.touched(one)
    assert bench.job.waiting() < 10
    await bench.passes(1)
    await bench.put(*trades)
    bench.clock.advance(SPAN_REST_S)
    await bench.passes(3)
    assert [c["open"] for c in bench.candles()] == [number + 1 for number in range(400)]
    assert bench.job.waiting() == 0


async def test_a_span_goes_on_where_the_database_went_away() -> None:
    bench = Bench()
    bench.clock.advance(2 * DAY / 1000)
    await bench.put(trade(1, T0, 10), trade(2, T0 + DAY, 20))
    await bench.see(trade(3, T0 + 2 * DAY, 30))
    original = bench.store.find
    calls = 0

    def find(collection, query):
        nonlocal calls
        calls += 1
        if calls == 5:
            bench.store.fail_next(StoreError("away"))
        return original(collection, query)

    bench.store.find = find
    with pytest.raises(StoreError):
        await bench.job.compute()
    assert bench.job.waiting() == 2
    await bench.passes(3)
    assert len(bench.candles()) == 3
    assert bench.job.waiting() == 0


async def test_longer_candles_are_put_together_from_shorter_ones() -> None:
    bench = Bench(sums_interval_s=0)
    rng = random.Random(3)
    trades = [
        trade(number, T0 + rng.randrange(DAY + 2 * HOUR), rng.randrange(1, 1000), rng.randrange(1, 9))
        for number in range(600)
    ]
    bench.clock.advance((DAY + 3 * HOUR) / 1000)
    await bench.see(*trades)
    await bench.passes(3)
    for interval, length in {"1m": MINUTE, "5m": 5 * MINUTE, "1h": HOUR, "1d": DAY}.items():
        expected = {}
        for one in sorted(trades, key=lambda one: (one.time_ms, f"hyperliquid:BTC:{one.trade_id}")):
            expected.setdefault(one.time_ms - one.time_ms % length, []).append(one)
        assert [c["timestamp"] for c in bench.candles(interval)] == [date(at) for at in sorted(expected)]
        for candle, at in zip(bench.candles(interval), sorted(expected), strict=True):
            prices = [float(one.price) for one in expected[at]]
            assert (candle["open"], candle["high"], candle["low"], candle["close"]) == (
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
            )
            assert candle["volume"] == pytest.approx(sum(float(one.size) for one in expected[at]))
            assert candle["count"] == len(prices)
            assert candle["_id"] == f"hyperliquid:BTC:{interval}:{at}"


async def test_longer_candles_wait_for_their_interval() -> None:
    bench = Bench(sums_interval_s=60)
    await bench.see(trade(1, T0, 10))
    await bench.passes(3)
    assert bench.candles("1d") == []
    bench.clock.advance(60)
    await bench.passes(1)
    assert len(bench.candles("5m")) == len(bench.candles("1h")) == len(bench.candles("1d")) == 1


async def test_trades_without_usable_figures_and_impossible_times_do_no_harm() -> None:
    bench = Bench()
    for at in (-1, 10**18):
        bench.job.touched(trade(1, at, 1))
    assert bench.job.waiting() == 0
    await bench.see(trade(2, T0, float("nan")), trade(3, T0 + 1, 5))
    await bench.passes()
    assert bars(bench.candles()) == [(5, 5, 5, 5, 1, 1)]


async def test_while_the_database_is_away_nothing_is_forgotten_and_it_is_said_once() -> None:
    bench = Bench(interval_s=0.001)
    bench.store.fail_next(*[StoreError("away")] * 5)
    bench.job.touched(trade(1, T0, 10))
    stop = asyncio.Event()
    with capture_logs() as logs:
        task = asyncio.create_task(bench.job.run(stop))
        async with asyncio.timeout(5):
            await until(lambda: bench.metrics.value(CANDLE_FAILURES) >= 5)
            await bench.put(trade(1, T0, 10))
            await until(bench.candles)
        stop.set()
        await task
    assert [entry["event"] for entry in logs] == ["candles_delayed", "candles_resumed"]


async def test_a_stop_computes_what_came_last() -> None:
    bench = Bench(interval_s=1000)
    stop = asyncio.Event()
    task = asyncio.create_task(bench.job.run(stop))
    await asyncio.sleep(0)
    await bench.see(trade(1, T0, 10))
    stop.set()
    await task
    assert [len(bench.candles(interval)) for interval in ("1m", "5m", "1h", "1d")] == [1, 1, 1, 1]


async def test_a_database_that_refuses_for_good_ends_the_job_loudly() -> None:
    bench = Bench(interval_s=0.001)
    bench.job.touched(trade(1, T0, 10))
    bench.store.fail_next(StoreFatalError("no rights"))
    with pytest.raises(StoreFatalError):
        await bench.job.run(asyncio.Event())
