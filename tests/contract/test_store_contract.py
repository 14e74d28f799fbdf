"""Every store keeps the same promises: the real one on a real MongoDB and the one in memory."""

import math
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pymongo import MongoClient

from src.models.errors import StoreError, StoreFatalError
from src.models.writes import Collection, Insert, Patch, Upsert, WriteBatch, WriteResult
from src.store import rejections
from src.store.base import Query, Store
from src.store.embedded import EmbeddedServer
from src.store.memory import MemoryStore
from src.store.mongo import MongoStore

ORDERS = Collection.TRADER_ORDERS
EVENTS = Collection.TRADER_ORDER_EVENTS
TRADERS = Collection.TRADERS
TRADES = Collection.TRADES
USED = (ORDERS, EVENTS, TRADERS, TRADES, Collection.ORDERBOOKS)
ALICE, BOB = "0x" + "a" * 40, "0x" + "b" * 40
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = Query()


@pytest.fixture(scope="module")
def mongo(mongod: EmbeddedServer) -> Iterator[tuple[MongoClient[dict[str, Any]], str]]:
    """One database for the whole suite: creating all its indexes for each test would take most of the time."""
    name = f"test_contract_{secrets.token_hex(6)}"
    with MongoClient(mongod.uri) as client:
        yield client, name
        client.drop_database(name)


@pytest.fixture(params=["memory", "mongo"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        made: Store = MemoryStore()
    else:
        client, name = request.getfixturevalue("mongo")
        made = MongoStore(request.getfixturevalue("mongo_uri"), name)
        for collection in USED:
            client[name][collection.value].delete_many({})
    await made.prepare()
    yield made
    await made.close()


def order(oid: int, revision: int, *, trader: str = ALICE, at: datetime = NOON, **values: Any) -> Upsert:
    fields = {"ethAddress": trader, "oid": oid, "coin": "BTC", "limitPx": 100.5, "status": "open", "receivedAt": at}
    return Upsert(ORDERS, f"{trader}:{oid}", "revision", revision, fields | values, {"createdAt": at})


def event(oid: int, revision: int, **values: Any) -> Insert:
    document = {"_id": f"{ALICE}:{oid}:{revision}", "ethAddress": ALICE, "oid": oid, "receivedAt": NOON}
    return Insert(EVENTS, document | values)


def trade(number: int, **values: Any) -> Insert:
    return Insert(TRADES, {"_id": f"v:BTC:{number}", "number": number, **values})


def batch(*groups: list[Any]) -> WriteBatch:
    return WriteBatch(1, groups)


async def documents(store: Store, collection: Collection, query: Query = EVERYTHING) -> list[dict[str, Any]]:
    return [dict(document) async for document in store.find(collection, query)]


async def one(store: Store, collection: Collection, id_: object) -> dict[str, Any]:
    [found] = await documents(store, collection, Query(equals={"_id": id_}))
    return found


def sum_of(result: WriteResult) -> int:
    return sum(result.inserted.values()) + sum(result.modified.values()) + result.repeated + len(result.rejected)


class TestRepeating:
    async def test_a_repeated_batch_changes_nothing(self, store: Store) -> None:
        first = batch([event(1, 1), event(2, 1)], [order(1, 1), order(2, 1)])
        result = await store.write(first)
        assert (dict(result.inserted), result.repeated) == ({EVENTS.value: 2, ORDERS.value: 2}, 0)
        before = await documents(store, ORDERS), await documents(store, EVENTS)

        again = await store.write(WriteBatch(2, first.groups))

        assert (dict(again.inserted), dict(again.modified), again.repeated) == ({}, {}, 4)
        assert not again.rejected
        assert (await documents(store, ORDERS), await documents(store, EVENTS)) == before

    async def test_a_repetition_with_later_clock_keeps_the_first_creation_time(self, store: Store) -> None:
        await store.write(batch([order(1, 1)]))
        await store.write(batch([order(1, 1, at=NOON + timedelta(hours=1))]))
        await store.write(batch([order(1, 2, at=NOON + timedelta(hours=2))]))
        found = await one(store, ORDERS, f"{ALICE}:1")
        assert found["createdAt"] == NOON
        assert found["receivedAt"] == NOON + timedelta(hours=2)
        assert found["revision"] == 2

    async def test_an_inserted_document_is_never_overwritten(self, store: Store) -> None:
        await store.write(batch([event(1, 1, action="new")]))
        result = await store.write(batch([event(1, 1, action="closed")]))
        assert (dict(result.inserted), result.repeated, list(result.rejected)) == ({}, 1, [])
        assert (await one(store, EVENTS, f"{ALICE}:1:1"))["action"] == "new"

    async def test_the_same_insert_twice_in_one_batch(self, store: Store) -> None:
        result = await store.write(batch([event(1, 1), event(1, 1)]))
        assert (dict(result.inserted), result.repeated) == ({EVENTS.value: 1}, 1)


class TestUpserts:
    async def test_a_newer_version_wins_and_is_counted_as_modified(self, store: Store) -> None:
        await store.write(batch([order(1, 1, limitPx=1.0)]))
        result = await store.write(batch([order(1, 2, limitPx=2.0)]))
        assert (dict(result.inserted), dict(result.modified), result.repeated) == ({}, {ORDERS.value: 1}, 0)
        assert (await one(store, ORDERS, f"{ALICE}:1"))["limitPx"] == 2.0

    @pytest.mark.parametrize("stale", [1, 2, 3])
    async def test_a_stale_version_changes_nothing(self, store: Store, stale: int) -> None:
        await store.write(batch([order(1, 3, limitPx=3.0)]))
        result = await store.write(batch([order(1, stale, limitPx=-1.0)]))
        assert (dict(result.modified), result.repeated) == ({}, 1)
        found = await one(store, ORDERS, f"{ALICE}:1")
        assert (found["limitPx"], found["revision"]) == (3.0, 3)

    async def test_the_newest_of_several_versions_in_one_group_remains(self, store: Store) -> None:
        result = await store.write(batch([order(1, 1), order(1, 3, limitPx=3.0), order(1, 2, limitPx=2.0)]))
        found = await one(store, ORDERS, f"{ALICE}:1")
        assert (found["limitPx"], found["revision"]) == (3.0, 3)
        assert sum_of(result) == 3
        assert result.inserted[ORDERS.value] == 1

    async def test_versions_may_be_times(self, store: Store) -> None:
        def book(at: datetime, mid: float) -> Upsert:
            values = {"venue": "v", "symbol": "BTC", "mid": mid}
            return Upsert(Collection.ORDERBOOKS, "v:BTC", "timestamp", at, values)  # type: ignore[arg-type]

        await store.write(batch([book(NOON, 1.0)]))
        await store.write(batch([book(NOON + timedelta(seconds=1), 2.0)]))
        stale = await store.write(batch([book(NOON, 3.0)]))
        found = await one(store, Collection.ORDERBOOKS, "v:BTC")
        assert (found["mid"], found["timestamp"], stale.repeated) == (2.0, NOON + timedelta(seconds=1), 1)

    async def test_a_document_without_a_version_is_older_than_every_version(self, store: Store) -> None:
        await store.write(batch([Insert(TRADERS, {"_id": ALICE, "ethAddress": ALICE, "note": "by hand"})]))
        result = await store.write(batch([Upsert(TRADERS, ALICE, "version", 0, {"ethAddress": ALICE, "tier": 1})]))
        assert result.modified == {TRADERS.value: 1}
        assert await one(store, TRADERS, ALICE) == {
            "_id": ALICE,
            "ethAddress": ALICE,
            "note": "by hand",
            "tier": 1,
            "version": 0,
        }

    async def test_a_value_set_now_wins_over_the_same_field_on_insert(self, store: Store) -> None:
        write = Upsert(
            TRADERS, ALICE, "version", 1, {"ethAddress": ALICE, "tier": 2}, {"tier": 1, "source": "manual"}
        )
        assert (await store.write(batch([write]))).inserted == {TRADERS.value: 1}
        found = await one(store, TRADERS, ALICE)
        assert (found["tier"], found["source"]) == (2, "manual")

    async def test_dotted_names_reach_into_nested_documents(self, store: Store) -> None:
        await store.write(batch([order(1, 1, leverage={"type": "cross", "value": 5})]))
        await store.write(batch([order(1, 2, **{"leverage.value": 10})]))
        assert (await one(store, ORDERS, f"{ALICE}:1"))["leverage"] == {"type": "cross", "value": 10}


class TestPatches:
    async def test_a_patch_sets_values_where_the_guard_holds(self, store: Store) -> None:
        await store.write(batch([order(1, 4)]))
        result = await store.write(batch([Patch(ORDERS, f"{ALICE}:1", {"replacedBy": 9}, {"revision": 4})]))
        assert result.modified == {ORDERS.value: 1}
        assert (await one(store, ORDERS, f"{ALICE}:1"))["replacedBy"] == 9

    async def test_a_patch_does_nothing_where_the_guard_fails(self, store: Store) -> None:
        await store.write(batch([order(1, 4)]))
        result = await store.write(batch([Patch(ORDERS, f"{ALICE}:1", {"replacedBy": 9}, {"revision": 3})]))
        assert (dict(result.modified), result.repeated) == ({}, 1)
        assert "replacedBy" not in await one(store, ORDERS, f"{ALICE}:1")

    async def test_a_patch_never_creates_a_document(self, store: Store) -> None:
        result = await store.write(batch([Patch(ORDERS, "nobody:1", {"replacedBy": 9})]))
        assert (dict(result.inserted), result.repeated) == ({}, 1)
        assert await store.count(ORDERS, EVERYTHING) == 0

    async def test_a_repeated_patch_changes_nothing(self, store: Store) -> None:
        patch = Patch(ORDERS, f"{ALICE}:1", {"replacedBy": 9})
        await store.write(batch([order(1, 1)], [patch]))
        assert (await store.write(batch([patch]))).repeated == 1

    async def test_a_guard_on_null_holds_for_a_missing_field(self, store: Store) -> None:
        await store.write(batch([order(1, 1)]))
        result = await store.write(batch([Patch(ORDERS, f"{ALICE}:1", {"closeReason": "x"}, {"closeReason": None})]))
        assert result.modified == {ORDERS.value: 1}

    async def test_a_guard_value_is_never_an_operator(self, store: Store) -> None:
        await store.write(batch([order(1, 1)]))
        result = await store.write(batch([Patch(ORDERS, f"{ALICE}:1", {"x": 1}, {"revision": {"$gt": 0}})]))
        assert not result.modified


def nested(levels: int) -> dict[str, Any]:
    innermost: dict[str, Any] = {}
    for _ in range(levels):
        innermost = {"a": innermost}
    return innermost


POISON = {
    "an integer beyond 64 bits": (2**63, rejections.NOT_ENCODABLE),
    "a lone surrogate": ("\ud800", rejections.NOT_ENCODABLE),
    "a surrogate in a nested name": ({"\udfff": 1}, rejections.NOT_ENCODABLE),
    "an unknown type": (Decimal(1), rejections.NOT_ENCODABLE),
    "a name that is no text": ({1: 2}, rejections.NOT_ENCODABLE),
    "a name with NUL": ({"a\0b": 1}, rejections.NOT_ENCODABLE),
    "17 MB of text": ("x" * 17_000_000, rejections.TOO_LARGE),
    "just above the limit": ("x" * (16 * 1024 * 1024 - 10), rejections.TOO_LARGE),
    "50 MB of text": ("x" * 50_000_000, rejections.TOO_LARGE),
    "endless nesting": (nested(3000), rejections.NOT_ENCODABLE),
}


class TestPoison:
    @pytest.mark.parametrize(
        ("kind", "position"),
        [(kind, "middle") for kind in POISON]
        + [("17 MB of text", "first"), ("17 MB of text", "last"), ("a lone surrogate", "last")],
    )
    async def test_one_bad_document_harms_no_other(self, store: Store, kind: str, position: str) -> None:
        value, reason = POISON[kind]
        good = [order(oid, 1) for oid in range(20)]
        bad = order(99, 1, note=value)
        good.insert({"first": 0, "middle": 10, "last": 20}[position], bad)

        result = await store.write(batch([event(1, 1, note=value), event(2, 1)], good))

        assert dict(result.inserted) == {ORDERS.value: 20, EVENTS.value: 1}
        assert [rejected.reason for rejected in result.rejected] == [reason, reason]
        assert result.rejected[1].write is bad
        assert result.rejected[1].detail
        assert sum_of(result) == 23
        assert await store.count(ORDERS, EVERYTHING) == 20

    async def test_nesting_that_only_the_server_refuses(self, store: Store) -> None:
        result = await store.write(batch([order(1, 1), order(2, 1, note=nested(250)), order(3, 1)]))
        assert dict(result.inserted) == {ORDERS.value: 2}
        assert len(result.rejected) == 1

    async def test_many_bad_documents(self, store: Store) -> None:
        writes = [order(oid, 1, note=nested(250) if oid % 3 else 2**70) for oid in range(30)] + [order(30, 1)]
        result = await store.write(batch(writes))
        assert (dict(result.inserted), len(result.rejected)) == ({ORDERS.value: 1}, 30)

    async def test_a_surrogate_in_an_id_or_a_guard(self, store: Store) -> None:
        writes = [
            order(1, 1),
            Upsert(ORDERS, "\ud800", "revision", 1, {"ethAddress": "x", "oid": 5}),
            Patch(ORDERS, "\ud800", {"x": 1}),
            Patch(ORDERS, f"{ALICE}:1", {"x": 1}, {"note": "\ud800"}),
        ]
        result = await store.write(batch(writes))
        assert (dict(result.inserted), len(result.rejected)) == ({ORDERS.value: 1}, 3)

    async def test_an_insert_without_identity_is_refused(self, store: Store) -> None:
        result = await store.write(batch([Insert(EVENTS, {"a": 1}), event(1, 1)]))
        assert [rejected.reason for rejected in result.rejected] == [rejections.MISSING_ID]
        assert result.inserted == {EVENTS.value: 1}

    @pytest.mark.parametrize("name", ["", "$set"])
    async def test_a_field_name_like_an_operator_is_refused(self, store: Store, name: str) -> None:
        result = await store.write(batch([order(1, 1, **{name: 1}), event(1, 1, **{name: 1}), order(2, 1)]))
        assert [rejected.reason for rejected in result.rejected] == [rejections.BAD_FIELD_NAME] * 2
        assert result.inserted == {ORDERS.value: 1}

    async def test_a_second_document_with_the_same_unique_values_is_refused(self, store: Store) -> None:
        await store.write(batch([order(1, 1)]))
        other = Upsert(ORDERS, "another id", "revision", 1, {"ethAddress": ALICE, "oid": 1})
        result = await store.write(batch([other, order(2, 1)]))
        assert [(rejected.reason, rejected.write) for rejected in result.rejected] == [
            (rejections.DUPLICATE_KEY, other)
        ]
        assert result.inserted == {ORDERS.value: 1}

    async def test_an_update_into_the_unique_values_of_another_is_refused(self, store: Store) -> None:
        await store.write(batch([order(1, 1), order(2, 1)]))
        result = await store.write(batch([Upsert(ORDERS, f"{ALICE}:2", "revision", 2, {"oid": 1})]))
        assert [rejected.reason for rejected in result.rejected] == [rejections.DUPLICATE_KEY]
        assert (await one(store, ORDERS, f"{ALICE}:2"))["oid"] == 2

    async def test_a_path_through_a_number_is_refused(self, store: Store) -> None:
        await store.write(batch([order(1, 1)]))
        result = await store.write(batch([order(1, 2, **{"coin.name": 1})]))
        assert [rejected.reason for rejected in result.rejected] == [rejections.REFUSED]


class TestValues:
    async def test_times_come_back_in_utc_with_millisecond_precision(self, store: Store) -> None:
        tokyo = timezone(timedelta(hours=9))
        moment = datetime(2026, 3, 1, 21, 0, 0, 123_999, tzinfo=tokyo)
        await store.write(batch([event(1, 1, timestamp=moment)]))
        found = (await one(store, EVENTS, f"{ALICE}:1:1"))["timestamp"]
        assert found == datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
        assert found.utcoffset() == timedelta(0)

    async def test_plain_values_come_back_as_they_were(self, store: Store) -> None:
        values = {
            "large": 2**63 - 1,
            "small": -(2**63),
            "double": 0.1,
            "none": None,
            "yes": True,
            "text": "Grüße \u0000 \U0001f600",
            "bytes": b"\x00\xff",
            "levels": [[1.5, 2.0, 3], []],
            "nested": {"from": None, "to": {"a.b": 1, "$c": 2}},
        }
        await store.write(batch([event(1, 1, **values)]))
        found = await one(store, EVENTS, f"{ALICE}:1:1")
        assert {name: found[name] for name in values} == values
        assert found["yes"] is True

    async def test_nan_and_infinity_survive(self, store: Store) -> None:
        await store.write(batch([event(1, 1, a=math.nan, b=math.inf, c=-math.inf)]))
        found = await one(store, EVENTS, f"{ALICE}:1:1")
        assert math.isnan(found["a"])
        assert (found["b"], found["c"]) == (math.inf, -math.inf)

    async def test_tuples_become_lists(self, store: Store) -> None:
        await store.write(batch([event(1, 1, bids=((1.0, 2.0),))]))
        assert (await one(store, EVENTS, f"{ALICE}:1:1"))["bids"] == [[1.0, 2.0]]

    async def test_what_was_stored_cannot_be_changed_from_outside(self, store: Store) -> None:
        document = {"_id": "v:BTC:1", "nested": {"a": 1}}
        await store.write(batch([Insert(TRADES, document)]))
        document["nested"]["a"] = 2  # type: ignore[index]
        (await one(store, TRADES, "v:BTC:1"))["nested"]["a"] = 3
        assert (await one(store, TRADES, "v:BTC:1"))["nested"] == {"a": 1}


class TestQueries:
    @pytest.fixture
    async def filled(self, store: Store) -> Store:
        writes = [
            trade(number, side="B" if number % 2 else "A", price=float(number), at=NOON + timedelta(seconds=number))
            for number in range(10)
        ]
        writes.append(trade(10, side=None, price=True, tags=["whale", "fast"]))
        writes.append(trade(11, leverage={"type": "cross", "value": 5}))
        await store.write(batch(writes))
        return store

    async def numbers(self, store: Store, query: Query) -> list[int]:
        return [document["number"] for document in await documents(store, TRADES, query)]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (Query(equals={"number": 3}), [3]),
            (Query(equals={"number": 3.0}), [3]),
            (Query(equals={"side": "A"}), [0, 2, 4, 6, 8]),
            (Query(equals={"side": None}), [10, 11]),
            (Query(equals={"side": "A", "number": 3}), []),
            (Query(equals={"price": True}), [10]),
            (Query(equals={"price": 1}), [1]),
            (Query(equals={"tags": "whale"}), [10]),
            (Query(equals={"leverage.type": "cross"}), [11]),
            (Query(equals={"leverage.type.deeper": "cross"}), []),
            (Query(one_of={"number": [1, 5, 99]}), [1, 5]),
            (Query(one_of={"number": []}), []),
            (Query(one_of={"side": ["A", None]}), [0, 2, 4, 6, 8, 10, 11]),
            (Query(at_least={"number": 9}), [9, 10, 11]),
            (Query(below={"number": 2}), [0, 1]),
            (Query(at_least={"number": 2}, below={"number": 4}), [2, 3]),
            (Query(at_least={"price": 8}), [8, 9]),
            (Query(at_least={"at": NOON + timedelta(seconds=8)}), [8, 9]),
            (Query(below={"at": NOON + timedelta(seconds=1)}), [0]),
            (Query(at_least={"at": "2020"}), []),
            (Query(equals={"side": "B"}, one_of={"number": [1, 2, 3]}, at_least={"number": 2}), [3]),
            (Query(), list(range(12))),
        ],
    )
    async def test_matching(self, filled: Store, query: Query, expected: list[int]) -> None:
        assert sorted(await self.numbers(filled, query)) == expected
        assert await filled.count(TRADES, query) == len(expected)

    async def test_sorting_and_limits(self, filled: Store) -> None:
        newest = Query(equals={"side": "A"}, sort=[("number", True)], limit=2)
        assert await self.numbers(filled, newest) == [8, 6]
        assert await self.numbers(filled, Query(sort=[("number", False)], limit=3)) == [0, 1, 2]
        assert await self.numbers(filled, Query(limit=0)) == []

    async def test_sorting_by_two_fields_with_missing_values_first(self, filled: Store) -> None:
        query = Query(sort=[("side", False), ("number", True)])
        assert await self.numbers(filled, query) == [11, 10, 8, 6, 4, 2, 0, 9, 7, 5, 3, 1]

    async def test_sorting_across_types(self, filled: Store) -> None:
        query = Query(at_least={"number": 8}, sort=[("price", False)])
        assert await self.numbers(filled, query) == [11, 8, 9, 10]

    async def test_only_the_fields_asked_for(self, filled: Store) -> None:
        query = Query(equals={"number": 11}, fields=["number", "leverage.type", "missing"])
        assert await documents(filled, TRADES, query) == [{"number": 11, "leverage": {"type": "cross"}}]
        with_id = Query(equals={"number": 11}, fields=["_id"])
        assert await documents(filled, TRADES, with_id) == [{"_id": "v:BTC:11"}]

    async def test_values_are_never_operators(self, filled: Store) -> None:
        hostile = Query(equals={"number": {"$gt": 0}})  # type: ignore[dict-item]
        assert await documents(filled, TRADES, hostile) == []

    @pytest.mark.parametrize("name", ["", "$where", "a\0b"])
    async def test_names_are_never_operators(self, filled: Store, name: str) -> None:
        for query in (Query(equals={name: 1}), Query(sort=[(name, True)])):
            with pytest.raises(ValueError, match="field name"):
                await documents(filled, TRADES, query)

    async def test_an_abandoned_search_is_harmless(self, filled: Store) -> None:
        search = filled.find(TRADES, Query())
        assert await anext(search)
        await search.aclose()  # type: ignore[attr-defined]
        assert await filled.ping() >= 0


class TestGroupsAndSizes:
    async def test_more_writes_than_one_bulk_holds(self, store: Store) -> None:
        writes = [order(oid, 1) for oid in range(1203)]
        result = await store.write(batch(writes))
        assert result.inserted == {ORDERS.value: 1203}
        assert (await store.write(batch(writes))).repeated == 1203

    async def test_large_documents_in_one_group(self, store: Store) -> None:
        writes = [event(oid, 1, note="x" * 1_000_000) for oid in range(60)]
        result = await store.write(batch(writes))
        assert result.inserted == {EVENTS.value: 60}

    async def test_several_collections_in_one_group(self, store: Store) -> None:
        result = await store.write(batch([order(1, 1), trade(1), event(1, 1), order(2, 1)]))
        assert result.inserted == {ORDERS.value: 2, TRADES.value: 1, EVENTS.value: 1}

    async def test_empty_batches_and_groups(self, store: Store) -> None:
        for empty in (batch(), batch([]), batch([], [order(1, 1)], [])):
            assert not (await store.write(empty)).rejected
        assert await store.count(ORDERS, EVERYTHING) == 1

    async def test_a_later_group_sees_the_earlier_one(self, store: Store) -> None:
        result = await store.write(batch([order(1, 1)], [Patch(ORDERS, f"{ALICE}:1", {"x": 1})]))
        assert result.modified == {ORDERS.value: 1}


class TestLife:
    async def test_preparing_again_keeps_everything(self, store: Store) -> None:
        await store.write(batch([order(1, 1)]))
        facts = await store.prepare()
        assert facts.version
        assert await store.count(ORDERS, EVERYTHING) == 1

    async def test_a_closed_store_refuses_and_closes_again(self, store: Store) -> None:
        await store.close()
        await store.close()
        for attempt in (store.ping(), store.count(ORDERS, EVERYTHING), store.write(batch([order(1, 1)]))):
            with pytest.raises(StoreFatalError):
                await attempt

    async def test_fatal_errors_are_not_retryable(self) -> None:
        assert StoreError("x").retryable
        assert not StoreFatalError("x").retryable
