"""``doctor`` against real databases: embedded, given, standalone, gone and of a newer program."""

from __future__ import annotations

import pytest
from pymongo import MongoClient

from src.config import Settings
from src.jobs.doctor.doctor import Check, checks_for, exit_code, run_checks
from src.jobs.doctor.lines import CheckLine
from src.jobs.doctor.mongodb import check_embedded_mongodb, check_mongodb
from src.models.clock import ManualClock
from src.models.writes import Collection
from src.store import mongod as mongod_program
from src.store.embedded import open_embedded
from src.store.mongo import MongoStore
from src.store.schema import SCHEMA_ID, SCHEMA_VERSION
from src.venues.clock import SystemClock

pytestmark = pytest.mark.integration


def by_name(lines: list[CheckLine]) -> dict[str, CheckLine]:
    return {line.name: line for line in lines}


async def look(uri: str, database: str, clock=None) -> dict[str, CheckLine]:
    return by_name(await check_mongodb(uri, database, clock=clock or SystemClock(), timeout_s=5))


async def prepare(uri: str, database: str) -> None:
    store = MongoStore(uri, database)
    try:
        await store.prepare()
    finally:
        await store.close()


async def test_a_new_database_is_fine_and_stays_preparable(mongo_uri, database_name) -> None:
    lines = await look(mongo_uri, database_name)
    assert {name: line.state for name, line in lines.items()} == {
        "mongodb": "ok",
        "db write": "ok",
        "indexes": "ok",
        "db clock": "ok",
    }
    assert "replica set" in lines["mongodb"].text
    assert "new database" in lines["indexes"].text
    await prepare(mongo_uri, database_name)
    assert (await look(mongo_uri, database_name))["indexes"].text == "complete"


async def test_a_missing_index_is_named(mongo_uri, database_name) -> None:
    await prepare(mongo_uri, database_name)
    with MongoClient(mongo_uri) as client:
        client[database_name][Collection.TRADES.value].drop_index("venue_1_symbol_1_timestamp_-1")
    line = (await look(mongo_uri, database_name))["indexes"]
    assert line.state == "warn"
    assert "trades.venue_1_symbol_1_timestamp_-1" in line.text


async def test_a_database_of_a_newer_program_is_a_failure(mongo_uri, database_name) -> None:
    await prepare(mongo_uri, database_name)
    with MongoClient(mongo_uri) as client:
        schema = client[database_name][Collection.SCHEMA.value]
        schema.update_one({"_id": SCHEMA_ID}, {"$set": {"version": SCHEMA_VERSION + 1}})
    assert (await look(mongo_uri, database_name))["indexes"].state == "FAIL"


async def test_a_clock_that_differs_from_the_databases_is_a_warning(mongo_uri, database_name) -> None:
    clock = ManualClock(wall_ms=SystemClock().wall_ms() - 3_600_000)
    line = (await look(mongo_uri, database_name, clock))["db clock"]
    assert line.state == "warn"
    assert "3600" in line.text
    assert "ahead" in line.text


async def test_looking_twice_leaves_one_probe_document_only(mongo_uri, database_name) -> None:
    await look(mongo_uri, database_name)
    await look(mongo_uri, database_name)
    with MongoClient(mongo_uri) as client:
        assert client[database_name].list_collection_names() == ["schema"]
        assert client[database_name]["schema"].count_documents({}) == 1


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300", "start MongoDB"),
        ("mongodb://user:hunter2@127.0.0.1:1/", "start MongoDB"),
        ("not a connection string", "MONGODB_URI"),
    ],
)
async def test_a_database_out_of_reach_is_a_failure_that_shows_no_password(uri, remedy) -> None:
    (line,) = await check_mongodb(uri, "test", clock=SystemClock(), timeout_s=0.5)
    assert line.state == "FAIL"
    assert remedy in line.remedy
    assert "hunter2" not in str(line)


async def test_the_embedded_server_is_started_for_the_check_and_stopped_again(tmp_path, mongod_binary) -> None:
    lines = by_name(await check_embedded_mongodb(tmp_path, "test", cache_gib=0.25, clock=SystemClock(), timeout_s=5))
    assert lines["mongodb"].state == "ok"
    assert "started for this check" in lines["mongodb"].text
    uri = lines["mongodb"].text.split(" at ")[1].split(" ")[0]
    (gone,) = await check_mongodb(uri, "test", clock=SystemClock(), timeout_s=0.5)
    assert gone.state == "FAIL"


async def test_a_running_embedded_server_is_used_as_it_is_and_left_running(tmp_path, mongod_binary) -> None:
    async with open_embedded(tmp_path, cache_gib=0.25) as server:
        lines = by_name(
            await check_embedded_mongodb(tmp_path, "test", cache_gib=0.25, clock=SystemClock(), timeout_s=5)
        )
        assert "embedded, running" in lines["mongodb"].text
        assert (await look(server.uri, "test"))["mongodb"].state == "ok"


async def test_without_a_binary_the_remedy_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mongod_program, "_BINARY", mongod_program.Path("no/such/mongod"))
    (line,) = await check_embedded_mongodb(tmp_path, "test", cache_gib=0.25, clock=SystemClock(), timeout_s=5)
    assert line.state == "FAIL"
    assert "MONGODB_URI" in line.remedy


async def test_a_whole_examination_of_a_machine_without_a_venue_passes(tmp_path, mongo_uri, database_name) -> None:
    settings = Settings(
        mongodb_uri=mongo_uri,
        mongodb_database=database_name,
        data_dir=tmp_path,
        hyperliquid_enabled=False,
        http_port=0,
    )
    checks: list[Check] = checks_for(settings, clock=SystemClock())
    lines = await run_checks(checks)
    assert exit_code(lines) == 0
    assert {line.name for line in lines} >= {
        "data",
        "disk",
        "mongodb",
        "indexes",
        "hyperliquid",
        "http",
        "open files",
    }
