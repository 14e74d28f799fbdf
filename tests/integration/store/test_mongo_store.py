"""What `MongoStore` promises beyond the contract of all stores: the schema, outages, rights, and the event loop."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import ASCENDING, DESCENDING, MongoClient
from structlog.testing import capture_logs

from src.models.errors import StoreError, StoreFatalError
from src.models.writes import Collection, Insert, Upsert, WriteBatch
from src.store import bulk
from src.store.base import Query
from src.store.embedded import open_embedded
from src.store.mongo import MongoStore
from src.store.schema import INDEXES, SECONDS_PER_DAY

pytestmark = pytest.mark.integration


def free_port() -> int:
    """Any port of the system's choice: tests that run at the same time do not meet on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ORDERS, EVENTS, TRADES = Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS, Collection.TRADES
SNAPSHOTS = Collection.ORDERBOOK_SNAPSHOTS
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Raw = Any


@pytest.fixture
def raw(mongo_uri: str, database_name: str) -> Iterator[Raw]:
    """The same database through the plain driver."""
    with MongoClient(mongo_uri, tz_aware=True) as client:
        yield client[database_name]


@asynccontextmanager
async def opened(uri: str, database: str, **options: Any) -> AsyncIterator[MongoStore]:
    store = MongoStore(uri, database, **options)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> AsyncIterator[MongoStore]:
    async with opened(mongo_uri, database_name) as made:
        yield made


def order(oid: int, revision: int = 1, **values: Any) -> Upsert:
    fields = {"ethAddress": "0xabc", "oid": oid, "coin": "BTC", "status": "open", "timestamp": NOW, "receivedAt": NOW}
    return Upsert(ORDERS, f"0xabc:{oid}", "revision", revision, fields | values, {"createdAt": NOW})


def trade(number: int) -> Insert:
    return Insert(TRADES, {"_id": f"v:BTC:{number}", "number": number})


def batch(*groups: list[Any]) -> WriteBatch:
    return WriteBatch(1, groups)


FAIL_POINTS = ("--setParameter", "enableTestCommands=1")


def until(condition: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class running_mongod:  # noqa: N801 - used like a function
    """A plain mongod with options of its own, ended afterwards."""

    def __init__(self, binary: Path, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.arguments = [
            str(binary),
            "--dbpath",
            str(directory),
            "--port",
            str(self.port),
            "--nounixsocket",
            *options,
        ]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        uri = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        with MongoClient(uri, serverSelectionTimeoutMS=20_000) as client:
            client.admin.command("ping")
        return uri

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def own_server(mongod_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica set with the server's own fail points switched on."""
    with running_mongod(mongod_binary, tmp_path_factory.mktemp("fail"), "--replSet", "f", *FAIL_POINTS) as uri:
        with MongoClient(uri) as client:
            member = uri.split("//")[1].split("/")[0]
            client.admin.command("replSetInitiate", {"_id": "f", "members": [{"_id": 0, "host": member}]})
            until(lambda: client.admin.command("hello")["isWritablePrimary"])
        yield uri


def fail_point(client: Raw, command: str, *, times: int = 1, **data: Any) -> None:
    client.client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"times": times},
            "data": {"failCommands": [command], **data},
        }
    )


class TestPrepare:
    async def test_all_collections_and_indexes_are_created_and_stay(self, store: MongoStore, raw: Raw) -> None:
        facts = await store.prepare()
        first = {name: raw[name].index_information() for name in raw.list_collection_names()}
        await store.prepare()
        assert {name: raw[name].index_information() for name in raw.list_collection_names()} == first
        assert set(first) == {collection.value for collection in Collection}
        for collection, indexes in INDEXES.items():
            found = first[collection.value]
            assert set(found) == {"_id_", *(index.name for index in indexes)}
            for index in indexes:
                assert tuple(found[index.name]["key"]) == index.keys
                assert bool(found[index.name].get("unique")) is index.unique
                assert "expireAfterSeconds" not in found[index.name]
        assert facts.topology == "replica set"
        assert facts.database == raw.name
        assert raw.schema.find_one() == {"_id": "market_collector", "version": 1}

    async def test_several_processes_may_prepare_at_once(self, mongo_uri: str, database_name: str) -> None:
        async with opened(mongo_uri, database_name) as one, opened(mongo_uri, database_name) as other:
            await asyncio.gather(one.prepare(), other.prepare(), one.prepare(), other.prepare())

    async def test_history_expires_by_setting_and_follows_it(
        self, mongo_uri: str, database_name: str, raw: Raw
    ) -> None:
        expiries_s = []
        for days in (30, 7, 7, 0, 3):
            async with opened(mongo_uri, database_name, keep_days={SNAPSHOTS: days}) as store:
                await store.prepare()
            expiries_s.append(raw[SNAPSHOTS.value].index_information()["receivedAt_1"].get("expireAfterSeconds"))
        day = SECONDS_PER_DAY
        assert expiries_s == [30 * day, 7 * day, 7 * day, None, 3 * day]
        assert "expireAfterSeconds" not in raw[EVENTS.value].index_information()["receivedAt_1"]

    @pytest.mark.parametrize("keep_days", [{ORDERS: 3}, {SNAPSHOTS: -1}, {SNAPSHOTS: 100_000}])
    async def test_impossible_expiry_is_refused_at_once(
        self, mongo_uri: str, database_name: str, keep_days: dict[Collection, int]
    ) -> None:
        with pytest.raises(ValueError, match=r"expire|days to keep"):
            MongoStore(mongo_uri, database_name, keep_days=keep_days)

    async def test_indexes_of_the_user_are_left_alone(self, store: MongoStore, raw: Raw) -> None:
        raw.trader_orders.create_index([("cloid", ASCENDING)], name="mine")
        raw.trader_orders.create_index([("ethAddress", ASCENDING), ("timestamp", DESCENDING)], name="other name")
        await store.prepare()
        names = set(raw.trader_orders.index_information())
        assert {"mine", "other name", "ethAddress_1_oid_1"} <= names
        assert "ethAddress_1_timestamp_-1" not in names

    @pytest.mark.parametrize(
        ("keys", "options", "expected"),
        [
            ([("ethAddress", 1), ("oid", 1)], {}, "is not unique"),
            ([("oid", 1)], {"unique": True}, "is unique"),
            ([("oid", 1)], {"sparse": True}, "sparse"),
            ([("oid", 1)], {"partialFilterExpression": {"oid": {"$gt": 5}}}, "partialFilterExpression"),
            ([("oid", 1)], {"expireAfterSeconds": 60}, "removes documents after 60 s"),
            ([("status", 1)], {"name": "oid_1"}, "has other fields"),
        ],
    )
    async def test_an_index_in_the_way_is_named_with_the_remedy(
        self, store: MongoStore, raw: Raw, keys: list[tuple[str, int]], options: dict[str, Any], expected: str
    ) -> None:
        name = raw.trader_orders.create_index(keys, **options)
        with pytest.raises(StoreFatalError) as refused:
            await store.prepare()
        text = str(refused.value)
        assert expected in text
        assert f"db.trader_orders.dropIndex({name!r})" in text
        raw.trader_orders.drop_index(name)
        await store.prepare()

    async def test_duplicates_in_the_way_of_a_unique_index_are_explained(self, store: MongoStore, raw: Raw) -> None:
        raw.trader_orders.insert_many([{"ethAddress": "x", "oid": 1}, {"ethAddress": "x", "oid": 1}])
        with pytest.raises(StoreFatalError, match=r"\(ethAddress, oid\).*remove the duplicates"):
            await store.prepare()

    @pytest.mark.parametrize("version", [2, 99, "1", None])
    async def test_data_of_a_newer_program_is_not_touched(self, store: MongoStore, raw: Raw, version: object) -> None:
        raw.schema.insert_one({"_id": "market_collector", "version": version})
        with pytest.raises(StoreFatalError, match="newer program"):
            await store.prepare()
        assert raw.list_collection_names() == ["schema"]


class TestOutages:
    async def test_nobody_there_is_retryable_and_quick(self, database_name: str) -> None:
        with socket.socket() as deaf:  # bound and not listening: nobody else can take the port meanwhile
            deaf.bind(("127.0.0.1", 0))
            await self.nobody_there(f"mongodb://127.0.0.1:{deaf.getsockname()[1]}", database_name)

    async def nobody_there(self, uri: str, database_name: str) -> None:
        async with opened(uri, database_name, timeout_s=0.3) as store:
            for attempt in (
                store.prepare(),
                store.ping(),
                store.write(batch([trade(1)])),
                store.count(TRADES, Query()),
                anext(store.find(TRADES, Query())),  # type: ignore[call-overload]
            ):
                started = time.monotonic()
                with pytest.raises(StoreError) as failed:
                    await attempt
                assert failed.value.retryable
                assert time.monotonic() - started < 5

    async def test_a_frozen_server_is_given_up_after_the_timeout(self, tmp_path: Path, mongod_binary: Path) -> None:
        async with (
            open_embedded(tmp_path / "data", cache_gib=0.25, binary=mongod_binary) as server,
            opened(server.uri, "frozen", timeout_s=0.5) as store,
        ):
            await store.ping()
            os.kill(server.pid, signal.SIGSTOP)
            started = time.monotonic()
            with pytest.raises(StoreError) as failed:
                await store.write(batch([trade(1)]))
            took_s = time.monotonic() - started
            os.kill(server.pid, signal.SIGCONT)
            assert failed.value.retryable
            assert took_s < 5
            result = await store.write(batch([trade(1)]))
            assert result.inserted.get(TRADES.value, 0) + result.repeated == 1

    @pytest.mark.parametrize(
        "data",
        [
            {"errorCode": 10107, "errorLabels": []},
            {"errorCode": 189, "errorLabels": []},
            {"errorCode": 14031},
            {"errorCode": 50},
            {"errorCode": 4711},
            {"closeConnection": True},
            {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
            {"writeConcernError": {"code": 100, "errmsg": "not enough data-bearing nodes"}},
        ],
    )
    async def test_trouble_of_the_server_is_retryable_and_rejects_nothing(
        self, own_server: str, data: dict[str, Any]
    ) -> None:
        with MongoClient(own_server) as client:
            client.drop_database("trouble")
            async with opened(own_server, "trouble", timeout_s=2) as store:
                await store.prepare()
                offered = batch([trade(number) for number in range(5)])
                fail_point(client.trouble, "insert", times=100, **data)
                with pytest.raises(StoreError) as failed:
                    await store.write(offered)
                assert failed.value.retryable
                client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
                result = await store.write(offered)
                assert result.inserted.get(TRADES.value, 0) + result.repeated == 5
                assert not result.rejected
                assert client.trouble.trades.count_documents({}) == 5

    async def test_one_lost_connection_is_retried_by_the_driver(self, own_server: str) -> None:
        with MongoClient(own_server) as client:
            client.drop_database("trouble")
            async with opened(own_server, "trouble") as store:
                fail_point(client.trouble, "insert", closeConnection=True)
                assert (await store.write(batch([trade(1)]))).inserted == {TRADES.value: 1}

    @pytest.mark.parametrize("code", [13, 18])
    async def test_missing_rights_are_fatal(self, own_server: str, code: int) -> None:
        with MongoClient(own_server) as client:
            async with opened(own_server, "trouble") as store:
                fail_point(client.trouble, "insert", errorCode=code)
                with pytest.raises(StoreFatalError, match="rights"):
                    await store.write(batch([trade(100 + code)]))

    async def test_a_repeated_batch_goes_on_where_it_failed(self, own_server: str) -> None:
        offered = batch([order(oid) for oid in range(1200)], [trade(number) for number in range(3)])
        with MongoClient(own_server) as client:
            client.drop_database("trouble")
            async with opened(own_server, "trouble") as store:
                await store.prepare()
                fail_point(client.trouble, "insert", errorCode=14031)
                with pytest.raises(StoreError):
                    await store.write(offered)
                assert client.trouble.trader_orders.count_documents({}) == 1200
                result = await store.write(offered)
                assert result.inserted == {ORDERS.value: 1200, TRADES.value: 3}
                assert result.repeated == 0
                assert (await store.write(offered)).repeated == 1203

    async def test_a_later_group_waits_for_the_earlier_one(self, own_server: str) -> None:
        with MongoClient(own_server) as client:
            client.drop_database("trouble")
            async with opened(own_server, "trouble") as store:
                await store.prepare()
                fail_point(client.trouble, "insert", errorCode=14031)
                with pytest.raises(StoreError):
                    await store.write(batch([trade(1)], [order(1)]))
                assert client.trouble.trader_orders.count_documents({}) == 0


class TestOtherServers:
    async def test_a_standalone_works_with_a_warning(self, mongod_binary: Path, tmp_path: Path) -> None:
        with running_mongod(mongod_binary, tmp_path) as uri:
            async with opened(uri, "alone") as store:
                with capture_logs() as logs:
                    facts = await store.prepare()
                assert facts.topology == "standalone"
                assert [entry["event"] for entry in logs] == ["standalone_mongodb"]
                first = await store.write(batch([order(1)], [trade(1)]))
                again = await store.write(batch([order(1)], [trade(1)]))
                assert (first.inserted, again.repeated) == ({ORDERS.value: 1, TRADES.value: 1}, 2)

    async def test_wrong_credentials_and_missing_rights_are_fatal(self, mongod_binary: Path, tmp_path: Path) -> None:
        with running_mongod(mongod_binary, tmp_path, "--auth") as uri:
            with MongoClient(uri) as client:
                client.admin.command("createUser", "root", pwd="r", roles=["root"])
            with MongoClient(uri, username="root", password="r") as client:
                client.admin.command("createUser", "reader", pwd="secret-one", roles=["readAnyDatabase"])
            host = uri.removeprefix("mongodb://")
            for user in ("", "reader:wrong-secret@", "reader:secret-one@"):
                async with opened(f"mongodb://{user}{host}", "x") as store:
                    with pytest.raises(StoreFatalError, match="MONGODB_URI") as refused:
                        await store.prepare()
                    assert "secret" not in str(refused.value)
            async with opened(f"mongodb://root:r@{host}&authSource=admin", "x") as store:
                facts = await store.prepare()
                assert "root:***@" in facts.uri

    @pytest.mark.parametrize(
        "uri",
        ["http://u:secret@h", "mongodb://u:se@cret@h", "mongodb://u:secret@h:99999", "mongodb://u:secret@h/?w=-1"],
    )
    def test_a_wrong_connection_string_is_fatal_and_keeps_its_secret(self, uri: str) -> None:
        with pytest.raises(StoreFatalError, match="MONGODB_URI") as refused:
            MongoStore(uri, "x")
        assert "secret" not in str(refused.value)
        assert "cret" not in str(refused.value).replace("***", "")

    def test_a_wrong_database_name_is_fatal(self) -> None:
        with pytest.raises(StoreFatalError, match="MONGODB_DATABASE"):
            MongoStore("mongodb://127.0.0.1:1", "a.b c")


class TestUpsertsAgainstOthers:
    async def test_an_upsert_that_meets_a_simultaneous_insert_is_not_lost(
        self, store: MongoStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another writer inserts an older version between our read of nothing and our insert."""
        await store.prepare()
        raw.trader_orders.insert_one({"_id": "0xabc:1", "ethAddress": "0xabc", "oid": 1, "revision": 1})
        original = bulk._older_than

        def as_if_the_document_was_not_seen(write: Upsert) -> dict[str, Any]:
            monkeypatch.setattr(bulk, "_older_than", original)
            return {"_id": write.id, "revision": {"$not": {"$gte": 0}}}

        monkeypatch.setattr(bulk, "_older_than", as_if_the_document_was_not_seen)
        result = await store.write(batch([order(1, 2)]))
        assert (result.modified, result.repeated) == ({ORDERS.value: 1}, 0)
        assert raw.trader_orders.find_one()["revision"] == 2

    async def test_many_writers_leave_the_newest_version(self, mongo_uri: str, database_name: str, raw: Raw) -> None:
        async with opened(mongo_uri, database_name) as one, opened(mongo_uri, database_name) as other:
            await one.prepare()
            batches = [batch([order(oid, revision) for oid in range(50)]) for revision in (3, 1, 4, 2, 5, 1)]
            results = await asyncio.gather(
                *((one, other)[turn % 2].write(offered) for turn, offered in enumerate(batches))
            )
        assert {document["revision"] for document in raw.trader_orders.find()} == {5}
        assert sum(result.inserted.get(ORDERS.value, 0) for result in results) == 50
        assert not any(result.rejected for result in results)


class TestReading:
    async def test_a_long_search_is_streamed_and_outlives_the_timeout_of_one_operation(
        self, mongo_uri: str, database_name: str
    ) -> None:
        async with opened(mongo_uri, database_name, timeout_s=1) as store:
            await store.write(batch([trade(number) for number in range(1500)]))
            seen = 0
            started = time.monotonic()
            async for _ in store.find(TRADES, Query(sort=[("number", False)])):
                seen += 1
                if seen in (100, 700):
                    await asyncio.sleep(0.7)  # a slow reader is the point here, not a wait for something
            assert seen == 1500
            assert time.monotonic() - started > 1

    async def test_documents_are_stored_with_majority_and_journal(self, store: MongoStore) -> None:
        concern = store._database.write_concern
        assert concern.document == {"w": "majority", "j": True}
        options = store._client.options
        assert (options.timeout, options.retry_writes) == (5.0, True)


class TestEventLoop:
    async def test_a_large_flush_leaves_the_event_loop_free(self, store: MongoStore) -> None:
        await store.prepare()
        writes = [
            order(oid, limitPx=1.5, sz=2.0, note="x" * 200, updatedAt=NOW + timedelta(milliseconds=oid))
            for oid in range(5000)
        ]
        delays_s: list[float] = []

        async def measure() -> None:
            loop = asyncio.get_running_loop()
            while True:
                before = loop.time()
                await asyncio.sleep(0.001)
                delays_s.append(loop.time() - before - 0.001)

        meter = asyncio.create_task(measure())
        result = await store.write(batch(writes))
        meter.cancel()
        assert result.inserted == {ORDERS.value: 5000}
        # A busy machine delays a few turns; a loop held by the flush would have few turns, all of them late.
        assert len(delays_s) >= 20
        assert sorted(delays_s)[len(delays_s) * 9 // 10] < 0.02
