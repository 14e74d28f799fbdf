"""Reading by ``_id``, more of them than are asked for at a time."""

import pytest

from src.models.writes import Collection, Insert, WriteBatch
from src.store import by_id
from src.store.memory import MemoryStore


class CountedStore(MemoryStore):
    def __init__(self):
        super().__init__()
        self.asked = []

    def find(self, collection, query):
        self.asked.append(len(query.one_of["_id"]))
        return super().find(collection, query)


def trade(number):
    return Insert(Collection.TRADES, {"_id": f"toy:BTC:{number}", "tradeId": f"{number}", "price": float(number)})


@pytest.fixture
async def store():
    store = CountedStore()
    await store.write(WriteBatch(1, [[trade(number) for number in range(0, 1200, 2)]]))
    return store


async def test_all_that_are_stored_are_found_a_few_hundred_at_a_time(store):
    ids = [f"toy:BTC:{number}" for number in range(1200)]
    found = [one async for one in by_id.find_by_id(store, Collection.TRADES, ids, ("_id", "price"))]
    assert sorted(one["price"] for one in found) == list(range(0, 1200, 2))
    assert {frozenset(one) for one in found} == {frozenset({"_id", "price"})}
    assert store.asked == [by_id.AT_ONCE, by_id.AT_ONCE, 200]


async def test_ids_that_are_stored_are_told_from_those_that_are_not(store):
    ids = ["toy:BTC:1", "toy:BTC:2", "toy:BTC:1198", "toy:BTC:1199"]
    assert await by_id.stored_ids(store, Collection.TRADES, ids) == {"toy:BTC:2", "toy:BTC:1198"}
    assert await by_id.stored_ids(store, Collection.QUOTES, ids) == set()


async def test_what_is_missing_keeps_its_order(store):
    inserts = [trade(number) for number in (9, 8, 1199, 1)]
    assert await by_id.missing(store, inserts) == [inserts[0], inserts[2], inserts[3]]


async def test_where_nothing_is_asked_for_the_database_is_not_asked(store):
    assert await by_id.missing(store, []) == []
    assert await by_id.stored_ids(store, Collection.TRADES, []) == set()
    assert store.asked == []
