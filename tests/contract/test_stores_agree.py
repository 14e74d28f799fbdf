"""The in-memory store against the real one: the same random writes leave the same documents and the same counts."""

import random
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from src.models.writes import Collection, Insert, Patch, Upsert, Write, WriteBatch, WriteResult
from src.store.base import Query
from src.store.embedded import EmbeddedServer
from src.store.memory import MemoryStore
from src.store.mongo import MongoStore

ORDERS, TRADES = Collection.TRADER_ORDERS, Collection.TRADES
START = datetime(2026, 3, 1, tzinfo=UTC)
VALUES: list[Any] = [None, True, 0, 1, 1.0, -2.5, "a", "b", 2**63, "\ud800", [1, 2], {"x": 1}, START, b"raw"]
NAMES = ["a", "b", "nested.x", "nested.y", "$bad", ""]


def values(chance: random.Random) -> dict[str, Any]:
    return {chance.choice(NAMES): chance.choice(VALUES) for _ in range(chance.randint(0, 3))}


def write(chance: random.Random) -> Write:
    """One of few documents, so that writes meet each other; the unique values sometimes clash."""
    number = chance.randint(1, 6)
    kind = chance.random()
    if kind < 0.5:
        unique = {"ethAddress": "0xabc", "oid": number if chance.random() < 0.9 else chance.randint(1, 6)}
        return Upsert(
            ORDERS, f"0xabc:{number}", "revision", chance.randint(1, 5), unique | values(chance), {"born": 1}
        )
    if kind < 0.75:
        return Patch(
            ORDERS, f"0xabc:{number}", values(chance) or {"a": 1}, chance.choice([{}, {"a": 1}, {"b": None}])
        )
    document = {"_id": number if chance.random() < 0.95 else None, "at": START + timedelta(seconds=number)}
    return Insert(TRADES, document | {name.replace(".", ""): value for name, value in values(chance).items()})


def batch(chance: random.Random) -> WriteBatch:
    """One write per group: within a group the order is free, and with it what a clash leaves behind."""
    return WriteBatch(1, [[write(chance)] for _ in range(chance.randint(1, 12))])


def outcome(result: WriteResult) -> tuple[Any, ...]:
    return dict(result.inserted), dict(result.modified), result.repeated, [item.reason for item in result.rejected]


@pytest.fixture(scope="module")
def database(mongod: EmbeddedServer) -> Any:
    name = f"test_agree_{secrets.token_hex(6)}"
    with MongoClient(mongod.uri) as client:
        yield client[name]
        client.drop_database(name)


@pytest.fixture
async def real(mongod: EmbeddedServer, database: Any) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongod.uri, database.name)
    await store.prepare()
    for collection in (ORDERS, TRADES):
        database[collection.value].delete_many({})
    yield store
    await store.close()


@pytest.mark.parametrize("seed", range(25))
async def test_the_same_writes_have_the_same_outcome(real: MongoStore, seed: int) -> None:
    chance = random.Random(seed)
    memory = MemoryStore()
    for _ in range(12):
        offered = batch(chance)
        assert outcome(await real.write(offered)) == outcome(await memory.write(offered)), offered
        if chance.random() < 0.3:
            again = WriteBatch(2, offered.groups)
            assert outcome(await real.write(again)) == outcome(await memory.write(again)), offered
    for collection in (ORDERS, TRADES):
        query = Query(sort=[("_id", False)])
        stored = [document async for document in real.find(collection, query)]
        assert stored == [document async for document in memory.find(collection, query)]
        for name in ("a", "b", "nested.x", "revision"):
            query = Query(equals={name: 1}, sort=[("_id", True)], fields=["_id", name])
            found = [document async for document in real.find(collection, query)]
            assert found == [document async for document in memory.find(collection, query)]
            assert await real.count(collection, query) == await memory.count(collection, query) == len(found)
