"""Candles in a real database: the same trades give the same candles, however they come and whoever computes."""

from __future__ import annotations

import asyncio
import random

import pytest

from src.jobs.candles.candles import CandleJob
from src.models.changes import TradeSeen
from src.models.clock import ManualClock
from src.models.messages import Trade
from src.models.metrics import Metrics
from src.models.writes import Collection, WriteBatch
from src.pipeline.documents import write_of_trade
from src.store.base import Query
from src.store.mongo import MongoStore

pytestmark = pytest.mark.integration

T0 = 1_795_132_800_000
SYMBOLS = ("BTC", "ETH", "xyz:XYZ100")


@pytest.fixture
async def store(mongo_uri, database_name):
    store = MongoStore(mongo_uri, database_name)
    await store.prepare()
    yield store
    await store.close()


def some_trades(count: int, seed: int) -> list[Trade]:
    rng = random.Random(seed)
    return [
        Trade(
            venue="hyperliquid",
            symbol=rng.choice(SYMBOLS),
            trade_id=f"{number}",
            price=f"{rng.randrange(1, 10_000) / 10}",
            size=f"{rng.randrange(1, 100) / 4}",
            side=rng.choice("AB"),
            time_ms=(at := T0 + rng.randrange(3 * 3_600_000)),
            received_ms=at + 40,
        )
        for number in range(count)
    ]


async def put(store: MongoStore, seq: int, trades: list[Trade]) -> None:
    await store.write(WriteBatch(seq, [[write_of_trade(TradeSeen(one)) for one in trades]]))


async def candles_in(store: MongoStore) -> dict[str, tuple]:
    fields = ("open", "high", "low", "close", "volume", "count", "timestamp", "symbol", "interval")
    found = {}
    async for one in store.find(Collection.CANDLES, Query()):
        found[one["_id"]] = tuple(one[field] for field in fields)
    return found


def expected_candles(trades: list[Trade], length_ms: int, interval: str) -> dict[str, tuple]:
    groups: dict[tuple[str, int], list[Trade]] = {}
    for one in sorted(trades, key=lambda one: (one.time_ms, f"hyperliquid:{one.symbol}:{one.trade_id}")):
        groups.setdefault((one.symbol, one.time_ms - one.time_ms % length_ms), []).append(one)
    return {
        f"hyperliquid:{symbol}:{interval}:{opened}": (
            float(group[0].price),
            max(float(one.price) for one in group),
            min(float(one.price) for one in group),
            float(group[-1].price),
            sum(float(one.size) for one in group),
            len(group),
        )
        for (symbol, opened), group in groups.items()
    }


async def test_trades_arriving_in_pieces_out_of_order_and_twice_give_exact_candles(store) -> None:
    trades = some_trades(1500, seed=1)
    clock = ManualClock(wall_ms=T0 + 4 * 3_600_000)
    job = CandleJob(store, clock, metrics=Metrics(), sums_interval_s=0)
    for seq in range(5):
        piece = trades[seq * 300 : seq * 300 + 330]  # the last 30 come again
        for one in piece:
            job.touched(one)
        if seq % 2:
            await job.compute()
        await put(store, seq + 1, piece)
        await job.compute()
    for _ in range(3):
        await job.compute()
    assert job.waiting() == 0

    expected = {}
    for interval, length_ms in {"1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000}.items():
        expected |= expected_candles(trades, length_ms, interval)
    found = await candles_in(store)
    assert {key: value[:6] for key, value in found.items()} == expected  # sizes are quarters: sums are exact


async def test_a_second_program_comes_to_the_same_candles_and_changes_nothing(store) -> None:
    trades = some_trades(300, seed=2)
    clock = ManualClock(wall_ms=T0 + 4 * 3_600_000)
    await put(store, 1, trades)

    async def run_once() -> None:
        job = CandleJob(store, clock, metrics=Metrics(), interval_s=1000)
        for one in trades:
            job.touched(one)
        stop = asyncio.Event()
        stop.set()
        await job.run(stop)

    await run_once()
    before = [one async for one in store.find(Collection.CANDLES, Query(sort=[("timestamp", False)]))]
    assert len(before) > 200
    clock.advance(1000)
    await run_once()
    after = [one async for one in store.find(Collection.CANDLES, Query(sort=[("timestamp", False)]))]
    assert {str(one["_id"]): one for one in after} == {str(one["_id"]): one for one in before}  # updatedAt too
