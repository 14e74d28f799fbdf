"""MongoDB away at the start, frozen in between, dead at the end: one program on a standalone server of the user's own."""

import asyncio
import re
import signal

import pytest
from pymongo import MongoClient

from src.store.mongo import MongoStore
from tests.support.plain_mongod import free_port, plain_mongod
from tests.support.program import running
from tests.support.truth import compare

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATABASE = "outages"
STOP_S = 6.0


@pytest.fixture(scope="module")
def server(mongod_binary, tmp_path_factory):
    with plain_mongod(mongod_binary, tmp_path_factory.mktemp("mongod")) as started:
        yield started


@pytest.fixture(scope="module")
def program(server, venue, folder):
    port = free_port()
    settings = {
        **venue.urls,
        "MONGODB_URI": server.uri,
        "MONGODB_DATABASE": DATABASE,
        "MONGODB_TIMEOUT_S": "1",
        "HTTP_PORT": str(port),
        "HYPERLIQUID_TRADERS": ",".join(venue.traders),
        "HYPERLIQUID_COINS": "BTC",
        "TRADER_WS_CLIENTS": "2",
        "SHUTDOWN_TIMEOUT": str(STOP_S),
    }
    with running(folder, **settings) as started:
        started.url = f"http://127.0.0.1:{port}"
        yield started


@pytest.fixture(scope="module")
def database(server):
    with MongoClient(server.uri, tz_aware=True, serverSelectionTimeoutMS=1000) as client:
        yield client[DATABASE]


def test_away_at_the_start_it_waits_says_so_and_answers_probes(program, server):
    told = program.event("waiting_for_mongodb")
    assert f"127.0.0.1:{server.port}" in told["error"]
    assert told["health"] == f"{program.url}/health"
    assert program.until_status("/health/live", 200) == {"status": "ok"}
    ready = program.until_status("/health/ready", 503)
    assert not ready["ready"]
    mongodb = _check(program, "mongodb")
    assert not mongodb["ok"]
    assert str(server.port) in mongodb["text"]
    assert program.stats()["phase"] == "waiting for MongoDB"
    assert program.http.get("/api/orders").status_code == 503
    assert not program.out


def test_when_mongodb_appears_it_goes_on_and_warns_about_a_standalone(program, server, database):
    server.start()
    assert "standalone" in program.banner()
    assert program.event("standalone_mongodb")["remedy"]
    assert len(program.logged("waiting_for_mongodb")) == 1
    program.until_status("/health/ready", 200)
    program.until_stats(lambda stats: stats["orders_inserted"] > 10)
    assert database.trader_orders.count_documents({}) > 0


def test_frozen_later_collection_goes_on_and_health_is_degraded(program, server):
    received = program.stats()["messages_received"]
    server.freeze()
    try:
        stats = program.until_stats(
            lambda stats: (
                stats["database"]["away"]
                and stats["pending"] > 50
                and stats["messages_received"] > received + 30
                and re.search(r"away for [1-9]", _check(program, "mongodb")["text"])
            ),
            what="a backlog, and an outage that lasts",
        )
        assert program.logged("database_away")
        assert program.until_status("/health", 200)["status"] == "degraded"
        assert program.until_status("/health/live", 200)
        assert program.until_status("/health/ready", 503)
        states = {connection["state"] for connection in stats["connections"]}
        assert "open" in states
        assert states <= {"open", "idle"}, "idle are those for looks, as long as nobody has to wait for one"
    finally:
        server.thaw()


def test_after_the_thaw_nothing_is_lost_and_nothing_is_double(program, server, venue):
    program.until_status("/health/ready", 200)
    assert program.logged("database_back")[-1]["away_s"] >= 0.5, "the last one: a busy start may have had others"
    venue.run(venue.simulator.settle())
    program.until_stats(lambda stats: stats["pending"] == 0 and stats["buffer"]["length"] == 0)
    flushes = program.stats()["flushes"]
    program.until_stats(lambda stats: stats["flushes"] > flushes and stats["pending"] == 0)
    verdict = asyncio.run(_compare(server.uri, venue.simulator))
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.order_events > 50
    assert verdict.position_events > 10


def test_dead_at_the_stop_it_ends_in_time_and_says_how_much_is_not_stored(program, server, venue):
    venue.do(lambda: setattr(venue.simulator.market, "frozen", False))
    program.until_stats(lambda stats: stats["pending"] == 0)
    server.kill()
    pending = program.until_stats(lambda stats: stats["pending"] > 10)["pending"]
    code, seconds = program.stop(signal.SIGTERM)
    assert code == 1, program.text()
    assert seconds < STOP_S + 2
    last = program.logged("stopped")[-1]
    assert last["changes_left_in_journal"] >= pending
    assert last["level"] == "warning"
    assert "journal" in last["journal"]
    assert "Traceback" not in program.text()


def _check(program, name):
    return next(check for check in program.http.get("/health").json()["checks"] if check["name"] == name)


async def _compare(uri, simulator):
    store = MongoStore(uri, DATABASE)
    try:
        return await compare(store, simulator)
    finally:
        await store.close()
