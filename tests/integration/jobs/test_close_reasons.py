"""Every close has the venue's reason, whoever told it, and agrees with the simulated venue's truth log."""

import asyncio
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from pymongo import MongoClient

from src.models.metrics import CLOSE_REASONS
from src.models.writes import Collection
from src.pipeline.documents import to_date
from src.store.mongo import MongoStore
from src.venues.hyperliquid.simulator import Cadences, HyperliquidSimulator, Limits, MarketConfig, SimulatorConfig
from tests.support.repair_world import collecting, documents, endings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def store(mongo_uri, database_name):
    store = MongoStore(mongo_uri, database_name)
    await store.prepare()
    yield store
    await store.close()


def lively(seed, *, cadence_s=0.4, **market):
    options = {"traders": 4, "actions_per_s": 60.0, "trades_per_s": 10.0} | market
    return SimulatorConfig(
        market=MarketConfig(seed=seed, **options),
        cadences=Cadences.quick(cadence_s),
        limits=Limits(connects_per_minute=None, messages_per_minute=None, rest_weight_per_minute=None),
    )


async def closes(store, count):
    found = await documents(store, Collection.TRADER_ORDERS, status="closed")
    return len(found) >= count


async def settled(run):
    """Freeze the market and wait until nothing is left to be told or looked up."""
    run.simulator.market.freeze()
    await asyncio.sleep(1.0)  # what the venue still sends: lists come every few tenths of a second
    await run.until_all_seen()

    async def summed_up():
        return not run.waiting() and not run.details.waiting()

    await run.until(summed_up, what="nothing left to sum up")


async def assert_every_close_is_explained(store, simulator):
    truth = endings(simulator)
    states = await documents(store, Collection.TRADER_ORDERS, status="closed")
    events = {d["_id"]: d for d in await documents(store, Collection.TRADER_ORDER_EVENTS, action="closed")}
    for state in states:
        reason, time_ms = truth[state["ethAddress"], state["oid"]]
        event = events[f"{state['_id']}:{state['revision']}"]
        for document in (state, event):
            assert document["closeReason"] == reason, document
            assert document["closedAt"] == to_date(time_ms)
    return Counter(state["closeReason"] for state in states)


async def assert_fills_are_summed_up(store, simulator):
    made = defaultdict(list)
    for trader in simulator.traders:
        for fill in simulator.market.traders[trader].fills:
            made[f"{trader}:{fill.oid}"].append((float(fill.sz), float(fill.px)))
    filled = 0
    for state in await documents(store, Collection.TRADER_ORDERS, status="closed"):
        fills = made[state["_id"]]
        size = sum(sz for sz, _ in fills)
        assert state["filledSz"] == pytest.approx(size), state
        if size:
            filled += 1
            assert state["avgPx"] == pytest.approx(sum(sz * px for sz, px in fills) / size)
        else:
            assert state["avgPx"] is None
    assert filled > 5


async def test_with_the_feed_every_close_has_its_reason_without_a_single_request(store, mongo_uri, database_name):
    async with HyperliquidSimulator(lively(41)) as simulator, collecting(store, simulator) as run:
        await run.until(lambda: closes(store, 120), what="120 closed orders")
        await settled(run)
        told = await assert_every_close_is_explained(store, simulator)
        await assert_fills_are_summed_up(store, simulator)
        assert {"filled", "canceled"} <= set(told)
        assert run.metrics.value(CLOSE_REASONS, "hyperliquid", "status") == 0
        assert run.metrics.value(CLOSE_REASONS, "hyperliquid", "feed") > 50
        with MongoClient(mongo_uri, tz_aware=True) as client:
            trader, begin, end = simulator.traders[0], to_date(0), to_date(run.clock.wall_ms())
            rows = list(client[database_name].trader_orders.aggregate(documented_query(trader, begin, end)))
        counted = Counter({row["_id"]["reason"]: 0 for row in rows})
        for row in rows:
            counted[row["_id"]["reason"]] += row["orders"]
            assert row["livedS"] >= 0
        states = await documents(store, Collection.TRADER_ORDERS, status="closed", ethAddress=trader)
        assert counted == Counter(state["closeReason"] for state in states)


def documented_query(x, yesterday, today):
    """The pipeline of `docs/queries.md`, read from the page."""
    page = (Path(__file__).parents[3] / "docs" / "queries.md").read_text(encoding="utf-8")
    text = page.partition("## Why do X's orders end")[2].partition("db.trader_orders.aggregate(")[2]
    text = re.sub(r"([{,]\s*)(\$?[A-Za-z_0-9]+):", r'\1"\2":', text.partition(")\n```")[0])
    return eval(text, {"x": x, "yesterday": yesterday, "today": today})


async def test_orders_between_two_lists_are_stored_as_the_feed_told_them(store):
    config = lively(42, cadence_s=1.0)  # lists are rare: much lives and ends between two of them
    async with HyperliquidSimulator(config) as simulator, collecting(store, simulator) as run:
        await run.until(lambda: closes(store, 150), what="150 closed orders")
        await settled(run)
        await assert_every_close_is_explained(store, simulator)
        told = await documents(store, Collection.TRADER_ORDERS, source="userHistoricalOrders")
        assert len(told) > 10
        placed = {e.oid: e for e in simulator.truth.of("placed")}
        for state in told:
            row = placed[state["oid"]].order
            assert (state["coin"], state["side"], state["orderType"]) == (row["coin"], row["side"], row["orderType"])
            assert (state["revision"], state["closeObserved"]) == (2, "live")
            assert state["parentOid"] == row["parentOid"] if row["parentOid"] else True
        holes = await documents(store, Collection.COVERAGE, reason="not_collected")
        begun = max(
            hole["to"] for hole in holes if "/openOrders/" in hole["stream"] or "Historical" in hole["stream"]
        )
        stored = {state["oid"] for state in await documents(store, Collection.TRADER_ORDERS)}
        missing = [
            oid for (_, oid), (_, at_ms) in endings(simulator).items()
            if to_date(at_ms) > begun and oid not in stored
        ]  # fmt: skip
        assert missing == []


async def test_without_the_feed_every_close_is_looked_up(store):
    async with HyperliquidSimulator(lively(43)) as simulator, collecting(store, simulator, history=False) as run:
        await run.until(lambda: closes(store, 80), what="80 closed orders")
        await settled(run)
        await assert_every_close_is_explained(store, simulator)
        await assert_fills_are_summed_up(store, simulator)
        assert run.metrics.value(CLOSE_REASONS, "hyperliquid", "feed") == 0
        assert run.metrics.value(CLOSE_REASONS, "hyperliquid", "status") > 0


async def test_who_took_whom_along_is_known(store):
    async with (
        HyperliquidSimulator(lively(44, actions_per_s=120.0)) as simulator,
        collecting(store, simulator) as run,
    ):

        async def families():
            found = await documents(store, Collection.TRADER_ORDERS, status="closed")
            return sum(bool(state.get("closedBy")) for state in found) >= 5

        await run.until(families, 60.0, what="orders that were taken along")
        await settled(run)
        truth = endings(simulator)
        states = {d["_id"]: d for d in await documents(store, Collection.TRADER_ORDERS, status="closed")}
        for state in states.values():
            if state.get("closedBy") is None:
                assert state["closeReason"] != "siblingFilledCanceled"
                continue
            other_reason, other_ms = truth[state["ethAddress"], state["closedBy"]]
            assert to_date(other_ms) == state["closedAt"]
            if state["closeReason"] == "siblingFilledCanceled":
                assert other_reason == "filled"
            else:
                assert state["closedBy"] == state["parentOid"]
