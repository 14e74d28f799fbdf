"""The routes over the store that ships with the program, so that both agree on what a query means."""

import random
from datetime import timedelta

import pytest

from src.models.errors import StoreError
from src.models.writes import Collection, Insert, WriteBatch
from src.store.memory import MemoryStore


@pytest.fixture
async def store(world):
    """120 orders of three traders, many placed in the same millisecond, some without a time."""
    store = MemoryStore()
    randomness = random.Random(5)
    orders = [
        world.order(oid, trader=f"0x{randomness.randrange(3):040x}", minutes=randomness.randrange(8), coin=coin)
        | ({"timestamp": None} if randomness.random() < 0.1 else {})
        for oid, coin in enumerate(["BTC", "ETH", "PURR/USDC"] * 40)
    ]
    await store.write(WriteBatch(1, [[Insert(Collection.TRADER_ORDERS, order) for order in orders]]))
    return store


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
@pytest.mark.parametrize("filters", [{}, {"coin": "PURR/USDC"}, {"ethAddress": f"0x{1:040x}", "status": "open"}])
async def test_pages_give_every_match_once_in_order(world, store, limit, filters):
    seen, cursor = [], None
    async with world.client(store=store) as client:
        while True:
            params = filters | {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/api/orders", params=params)).json()
            seen += [(row["timestamp"] or "", row["_id"]) for row in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
    matching = [
        document["_id"]
        for document in store.documents(Collection.TRADER_ORDERS)
        if all(document[name] == value for name, value in filters.items())
    ]
    assert seen == sorted(seen, reverse=True)
    assert sorted(key for _, key in seen) == sorted(matching)


async def test_a_lasting_hole_has_null_as_its_end(world):
    store = MemoryStore()
    hole = {"_id": "s:1", "venue": "v", "stream": "s", "from": world.start, "to": None, "reason": "silence"}
    ended = hole | {"_id": "s:2", "to": world.start + timedelta(hours=1)}
    await store.write(WriteBatch(1, [[Insert(Collection.COVERAGE, hole), Insert(Collection.COVERAGE, ended)]]))
    async with world.client(store=store) as client:
        for params, found in (({}, ["s:2", "s:1"]), ({"open": "true"}, ["s:1"]), ({"open": "false"}, ["s:2"])):
            items = (await client.get("/api/coverage", params=params)).json()["items"]
            assert [row["_id"] for row in items] == found


async def test_failures_of_the_store_are_503(world, store):
    store.fail_next(StoreError("away"))
    async with world.client(store=store) as client:
        assert (await client.get("/api/orders")).status_code == 503
        assert (await client.get("/api/orders")).status_code == 200
