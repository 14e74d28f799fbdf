"""After a cut or a kill: reasons, fills and trades are looked up, and agree with what the simulated venue knows."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo import MongoClient

from src.api.trust import judge_streams
from src.models.writes import Collection
from src.pipeline.documents import to_date, to_ms
from src.store.base import Query
from src.store.mongo import MongoStore
from src.venues.hyperliquid.simulator import Cadences, HyperliquidSimulator, Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.simulator.exchange import REPLAYED_TRADES
from tests.support.repair_world import collecting, documents, endings, fill_ids, late_closes

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def store(mongo_uri, database_name):
    store = MongoStore(mongo_uri, database_name)
    await store.prepare()
    yield store
    await store.close()


def lively(seed, *, traders=4, **market):
    options = {"actions_per_s": 40.0, "trades_per_s": 8.0} | market
    return SimulatorConfig(
        market=MarketConfig(seed=seed, traders=traders, **options),
        cadences=Cadences.quick(0.1),
        limits=Limits(connects_per_minute=None, messages_per_minute=None, rest_weight_per_minute=None),
    )


async def some_life(run, simulator, *, orders=30):
    async def enough():
        return await run.store.count(Collection.TRADER_ORDERS, Query()) >= orders and not run.waiting()

    await run.until(enough, what=f"{orders} stored orders")
    await run.until_all_seen(trades=True)


async def cut(run, seconds, meanwhile=lambda simulator: None):
    """Cut all connections and refuse new ones (and REST) for a while; returns when everything is seen again."""
    await run.simulator.faults.upgrade(seconds)

    async def noticed():
        return all(stream in run.diff.holes for stream in run.source.streams())

    await run.until(noticed, what="a hole in every stream")
    meanwhile(run.simulator)
    await run.until_all_seen(trades=True)


async def assert_closes_agree(store, simulator, *, at_least):
    truth = endings(simulator)
    events = await late_closes(store)
    states = {d["_id"]: d for d in await documents(store, Collection.TRADER_ORDERS)}
    checked = 0
    for event in events:
        reason, time_ms = truth[event["ethAddress"], event["oid"]]
        state = states[f"{event['ethAddress']}:{event['oid']}"]
        for document in (event, state):
            assert document["closeReason"] == reason, document
            assert document["closedAt"] == to_date(time_ms)
            assert document["closeResolvedAt"] is not None
        assert state["revision"] == event["revision"]
        checked += 1
    assert checked >= at_least


async def assert_fills_agree(run):
    for trader in run.simulator.traders:

        async def agree(trader=trader):
            return await run.store.count(Collection.TRADER_FILLS, Query(equals={"ethAddress": trader})) >= len(
                fill_ids(run.simulator, trader)
            )

        await run.until(agree, what=f"all fills of {trader}")
        stored = [d["_id"] for d in await documents(run.store, Collection.TRADER_FILLS, ethAddress=trader)]
        wanted = fill_ids(run.simulator, trader)
        assert sorted(stored) == sorted(wanted)
        assert len(stored) == len(set(stored))


async def holes_of(store, channel):
    found = await documents(store, Collection.COVERAGE)
    return [d for d in found if d["stream"].split("/")[1] == channel and d["reason"] != "not_collected"]


async def test_what_ended_while_the_venue_was_away_has_its_reason_and_its_time(store):
    async with HyperliquidSimulator(lively(31)) as simulator, collecting(store, simulator) as run:
        await some_life(run, simulator)
        await cut(run, 2.0)
        simulator.market.freeze()
        await run.until_all_seen()
        await assert_closes_agree(store, simulator, at_least=5)
        await assert_fills_agree(run)
        for channel in ("openOrders", "clearinghouseState", "userFills", "trades", "l2Book"):
            holes = await holes_of(store, channel)
            assert holes, channel
            assert all(hole["repair"] is not None for hole in holes if hole["to"] is not None)
        assert all(hole["repaired"] for hole in await holes_of(store, "userFills"))
        assert not any(hole["repaired"] for hole in await holes_of(store, "l2Book"))


async def test_what_ended_while_the_program_was_dead_has_its_reason_and_its_time(store):
    async with HyperliquidSimulator(lively(32)) as simulator:
        async with collecting(store, simulator) as run:
            await some_life(run, simulator)
            last_beat_ms = await beat_of(store)
        await asyncio.sleep(2.0)  # the market goes on without us
        async with collecting(store, simulator) as run:
            await run.until_all_seen()
            simulator.market.freeze()
            await run.until_all_seen()
            await assert_closes_agree(store, simulator, at_least=5)
            await assert_fills_agree(run)
            down = [d for d in await holes_of(store, "openOrders") if d["reason"] == "process_down"]
            assert len(down) == 2 * len(simulator.traders)
            for hole in down:
                assert to_ms(hole["from"]) >= last_beat_ms
                assert hole["to"] - hole["from"] >= to_date(2_000) - to_date(0)


async def some_beats(run):
    """Wait until a heartbeat is newer than everything stored so far."""
    now_ms = run.clock.wall_ms()

    async def beaten():
        return await beat_of(run.store) > now_ms

    await run.until(beaten, what="a heartbeat")


async def beat_of(store):
    [beat] = await documents(store, Collection.SCHEMA, _id="heartbeat")
    return to_ms(beat["at"])


async def test_trades_of_a_short_gap_are_all_there_and_those_of_a_long_one_are_known_to_be_lost(store):
    watched = {"BTC", "ETH"}

    async def all_traded():
        return {trade["symbol"] for trade in await documents(store, Collection.TRADES)} >= watched

    # Few fills: the venue's window must outlast the short gap on a busy machine, too.
    config = lively(33, coins=("BTC", "ETH", "xyz:XYZ100"), trades_per_s=6.0, actions_per_s=15.0)
    async with HyperliquidSimulator(config) as simulator, collecting(store, simulator) as run:
        await some_life(run, simulator)
        await run.until(all_traded, what="a trade of each coin to connect with")
        await cut(run, 0.5)
        first = await holes_of(store, "trades")
        await cut(run, 1.0, meanwhile=many_trades)
        simulator.market.freeze()
        await run.until_all_seen()
        second = [
            hole for hole in await holes_of(store, "trades") if hole["_id"] not in {one["_id"] for one in first}
        ]
        assert {hole["repaired"] for hole in first} == {True}
        assert {hole["repaired"] for hole in second} == {False}
        lost_from = min(hole["from"] for hole in second)
        for coin in ("BTC", "ETH"):
            stored = await documents(store, Collection.TRADES, symbol=coin)
            begun = min(trade["timestamp"] for trade in stored)
            truth = [
                e for e in simulator.truth.of("trade") if e.coin == coin and begun <= to_date(e.time_ms) < lost_from
            ]
            assert len(truth) > 5
            assert {f"{e.time_ms}-{e.detail['tid']}" for e in truth} <= {trade["tradeId"] for trade in stored}


async def test_the_documented_query_and_the_answer_agree_about_what_is_missing(store, mongo_uri, database_name):
    async with HyperliquidSimulator(lively(36, traders=2)) as simulator, collecting(store, simulator) as run:
        await some_life(run, simulator, orders=10)
        begin = to_date(run.clock.wall_ms())
        await cut(run, 0.5)
        end = to_date(run.clock.wall_ms())
        trader = simulator.traders[0]
        holes = await documents(store, Collection.COVERAGE, subject=trader)
        verdicts = judge_streams(holes, begin, end, end)
        with MongoClient(mongo_uri, tz_aware=True) as client:
            rows = list(client[database_name].coverage.aggregate(documented_query(trader, begin, end)))
        assert {row["_id"]: row["missingMs"] for row in rows} == {
            one.stream: pytest.approx((1 - one.covered) * ((end - begin) / timedelta(milliseconds=1)), abs=0.01)
            for one in verdicts
        }
        assert any(row["missingMs"] for row in rows)


def documented_query(x, t1, t2):
    """The pipeline of `docs/queries.md`, read from the page."""
    page = (Path(__file__).parents[3] / "docs" / "queries.md").read_text(encoding="utf-8")
    text = page.partition("## Can I trust trader X")[2].partition("db.coverage.aggregate(")[2].partition(")\n```")[0]
    text = re.sub(r"([{,]\s*)(\$?[A-Za-z_0-9]+):", r'\1"\2":', text).replace("null", "None")
    return eval(text.replace("new Date(0)", "EPOCH"), {"x": x, "t1": t1, "t2": t2, "EPOCH": to_date(0)})


async def test_more_fills_than_a_page_while_the_program_was_dead(store):
    async with HyperliquidSimulator(lively(34, traders=2)) as simulator:
        async with collecting(store, simulator) as run:
            await some_life(run, simulator, orders=10)

            async def filled():
                return await run.store.count(Collection.TRADER_FILLS, Query(equals={"ethAddress": trader}))

            trader = simulator.traders[0]
            await run.until(filled, what="a fill")
        many_fills(simulator, trader, 4_500)
        async with collecting(store, simulator) as run:
            simulator.faults.rate_limit(1.0)
            simulator.market.freeze()
            await run.until_all_seen()
            await assert_fills_agree(run)
            holes = [h for h in await holes_of(store, "userFills") if h["subject"] == trader]
            assert [hole["repaired"] for hole in holes] == [True]


async def test_fills_beyond_the_reach_of_the_history_are_told_to_be_lost(store):
    async with HyperliquidSimulator(lively(35, traders=2)) as simulator:
        trader = simulator.traders[0]
        async with collecting(store, simulator) as run:

            async def filled():
                return await run.store.count(Collection.TRADER_FILLS, Query(equals={"ethAddress": trader}))

            await run.until(filled, what="a fill")
            await some_beats(run)
        many_fills(simulator, trader, 10_001)
        simulator.market.freeze()
        async with collecting(store, simulator) as run:
            await run.until_all_seen()
            [hole] = [h for h in await holes_of(store, "userFills") if h["subject"] == trader]
            assert hole["repaired"] is False
            assert "no longer in the venue's history" in hole["repair"]["note"]


def many_trades(simulator):
    """More trades of each coin than the venue's window of recent ones holds."""
    for book in simulator.market.exchange.books.values():
        for _ in range(3 * REPLAYED_TRADES):
            simulator.market.exchange.public_trade(book.coin, is_buy=True, lots=1)


def many_fills(simulator, trader, count):
    """So many executions at once, three in each millisecond of the market's time."""
    from msgspec import structs

    fills = simulator.market.traders[trader].fills
    last = fills[-1]
    for number in range(1, count + 1):
        fills.append(structs.replace(last, tid=last.tid + number, time=last.time + number // 3))
