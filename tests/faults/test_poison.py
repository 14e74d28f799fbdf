"""Documents that MongoDB refuses, in the middle of good ones: the good ones are stored, the bad ones put aside."""

import asyncio

import pytest
from pymongo import MongoClient

from src.models.changes import TradeSeen
from src.models.clock import ManualClock
from src.models.messages import Trade
from src.models.metrics import DEAD_LETTERS, Metrics
from src.models.writes import Collection
from src.pipeline.flush import SAMPLE_BYTES, Flusher
from src.pipeline.journal import Journal
from src.pipeline.pending import Pending
from src.store.base import Query
from src.store.mongo import MongoStore

pytestmark = [pytest.mark.integration]

GOOD = [f"good-{number}" for number in range(500)]
REFUSED_BY_THE_SERVER = "refused"
NOT_ENCODABLE = "half a pair: \ud800"
TOO_LARGE = "x" * (17 * 1024 * 1024)


def a_trade(identity, symbol="BTC"):
    return TradeSeen(Trade("hyperliquid", symbol, identity, "1.0", "1.0", "B", 1, 1))


class Parts:
    """Pending, journal and flush over a real MongoDB that refuses trades with a certain name."""

    def __init__(self, uri, database, folder):
        self.metrics, self.clock = Metrics(), ManualClock()
        self.store = MongoStore(uri, database)
        self.journal = Journal(folder / "journal", limit_bytes=1 << 28)
        self.journal.open()
        self.pending = Pending(50_000, clock=self.clock, metrics=self.metrics, journal=self.journal)
        self.flusher = Flusher(
            store=self.store, pending=self.pending, metrics=self.metrics, clock=self.clock, interval_s=1.0
        )


@pytest.fixture
async def parts(mongo_uri, database_name, tmp_path):
    parts = Parts(mongo_uri, database_name, tmp_path)
    await parts.store.prepare()
    with MongoClient(mongo_uri) as client:
        rule = {"tradeId": {"$ne": REFUSED_BY_THE_SERVER}}
        await asyncio.to_thread(client[database_name].command, "collMod", "trades", validator=rule)
    yield parts
    parts.journal.close()
    await parts.store.close()


@pytest.mark.parametrize("poison", [REFUSED_BY_THE_SERVER, NOT_ENCODABLE, TOO_LARGE], ids=["refused", "text", "size"])
@pytest.mark.parametrize("position", [0, 250, 500])
async def test_the_others_are_stored_and_this_one_is_put_aside(parts, poison, position):
    identities = [*GOOD[:position], poison, *GOOD[position:]]
    parts.pending.add([a_trade(identity) for identity in identities])
    await asyncio.wait_for(parts.flusher.drain(), 20)
    stored = [document["tradeId"] async for document in parts.store.find(Collection.TRADES, Query())]
    assert sorted(stored) == sorted(GOOD)
    letters = [document async for document in parts.store.find(Collection.DEAD_LETTERS, Query())]
    assert [letter["stage"] for letter in letters] == ["store"]
    assert letters[0]["sizeBytes"] >= len("refused")
    assert len(letters[0]["sample"]) <= SAMPLE_BYTES
    assert parts.metrics.total(DEAD_LETTERS) == 1
    assert len(parts.pending) == 0
    assert parts.journal.changes == 0


async def test_poison_is_not_tried_again_for_ever_and_does_not_block_what_comes_behind(parts):
    for number in range(3):
        parts.pending.add([a_trade(f"{number}"), a_trade(REFUSED_BY_THE_SERVER)])
        await asyncio.wait_for(parts.flusher.drain(), 20)
    assert await parts.store.count(Collection.TRADES, Query()) == 3
    assert parts.metrics.total(DEAD_LETTERS) == 3
    assert parts.flusher.outage is None


async def test_poison_in_the_journal_does_not_stop_the_next_start(parts, mongo_uri, database_name, tmp_path):
    parts.pending.add([a_trade("1"), a_trade(REFUSED_BY_THE_SERVER), a_trade("2")])
    parts.journal.close()
    again = Parts(mongo_uri, database_name, tmp_path)
    try:
        assert len(again.pending) == 3
        await asyncio.wait_for(again.flusher.drain(), 20)
        assert await again.store.count(Collection.TRADES, Query()) == 2
        assert again.journal.changes == 0
    finally:
        again.journal.close()
        await again.store.close()
