"""Public trades of the past: page by page, resumed at the page, with the candles they make."""

import pytest

from src.jobs.backfill.plan import Range
from src.jobs.backfill.sources import TRADES
from src.jobs.backfill.trades import TradesBackfill
from src.models.clock import ManualClock
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.store.memory import MemoryStore
from tests.support.past_world import AWAY, ScriptedTrades, a_trade
from tests.support.trader_states import START_MS


@pytest.fixture
def store():
    return MemoryStore()


def reader(store, past):
    return TradesBackfill(store, past, ManualClock(wall_ms=START_MS + 3_600_000), Metrics())


def stored(store):
    return {document["tradeId"] for document in store.documents(Collection.TRADES)}


async def test_every_page_is_stored_and_makes_candles(store):
    backfill = reader(store, ScriptedTrades(list(map(a_trade, range(7)))))
    assert await backfill.read("AAPL", Range()) == 7
    await backfill.finish()
    assert stored(store) == set(map(str, range(7)))
    candles = {(d["interval"], d["count"]) for d in store.documents(Collection.CANDLES)}
    assert ("1m", 7) in candles


async def test_a_second_reading_stores_nothing(store):
    past = ScriptedTrades(list(map(a_trade, range(5))))
    assert await reader(store, past).read("AAPL", Range()) == 5
    assert await reader(store, past).read("AAPL", Range()) == 0


async def test_an_interrupted_reading_goes_on_at_its_page(store):
    past = ScriptedTrades(list(map(a_trade, range(7))))
    past.failures = [None, None, AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read("AAPL", Range(START_MS))
    past.asked.clear()
    assert await reader(store, past).read("AAPL", Range(START_MS)) == 3
    assert past.asked[0][2] == "4"
    assert stored(store) == set(map(str, range(7)))


async def test_another_time_begins_at_its_first_page(store):
    past = ScriptedTrades(list(map(a_trade, range(7))))
    past.failures = [None, AWAY]
    with pytest.raises(type(AWAY)):
        await reader(store, past).read("AAPL", Range(START_MS))
    past.asked.clear()
    await reader(store, past).read("AAPL", Range(START_MS + 1000))
    assert past.asked[0][2] is None


async def test_only_the_time_asked_for_is_stored(store):
    past = ScriptedTrades(list(map(a_trade, range(7))))
    await reader(store, past).read("AAPL", Range(START_MS + 2000, START_MS + 4000))
    assert stored(store) == {"2", "3"}


def test_there_is_a_history_of_trades_of_hyperliquid():
    assert "hyperliquid" in TRADES
