"""A MongoDB that hangs, crawls, answers badly or hangs up, under a running program. Collection goes on, all is stored."""

import asyncio
import time

import pytest
from pymongo import MongoClient

from src.store.mongo import MongoStore
from tests.support.faults import fault_proxy, sized, watching
from tests.support.plain_mongod import plain_mongod
from tests.support.program import running, wait_until
from tests.support.simulated_venue import simulated_venue
from tests.support.truth import compare

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATABASE = "faults"
FAIL_POINTS = ("--setParameter", "enableTestCommands=1")
DIRECT = "directConnection=true"


@pytest.fixture(scope="module")
def venue():
    with simulated_venue(traders=5, actions_per_s=30.0) as running_venue:
        yield running_venue


@pytest.fixture(scope="module")
def server(mongod_binary, tmp_path_factory):
    """A replica set of one with fail points."""
    with plain_mongod(mongod_binary, tmp_path_factory.mktemp("mongod"), "--replSet", "rs", *FAIL_POINTS) as started:
        started.start()
        with MongoClient(f"{started.uri}?{DIRECT}") as client:
            member = {"_id": 0, "host": f"127.0.0.1:{started.port}"}
            client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
            wait_until(lambda: client.admin.command("hello")["isWritablePrimary"])
        yield started


@pytest.fixture(scope="module")
def admin(server):
    with MongoClient(f"{server.uri}?{DIRECT}", serverSelectionTimeoutMS=5000) as client:
        yield client.admin


@pytest.fixture(scope="module")
def proxy(server):
    with fault_proxy(server.port) as between:
        yield between


@pytest.fixture(scope="module")
def program(proxy, venue, tmp_path_factory):
    settings = {
        **venue.urls,
        "MONGODB_URI": f"mongodb://127.0.0.1:{proxy.port}/?{DIRECT}",
        "MONGODB_DATABASE": DATABASE,
        "MONGODB_TIMEOUT_S": "3",
        "HYPERLIQUID_TRADERS": ",".join(venue.traders),
        "HYPERLIQUID_COINS": "BTC,ETH",
        "TRADER_WS_CLIENTS": "2",
    }
    with running(tmp_path_factory.mktemp("program"), **settings) as started:
        started.banner()
        started.until_stats(lambda stats: stats["orders_inserted"] > 10)
        yield started


@pytest.fixture
def suffering(program, server, venue):
    """The program while it is watched; afterwards all has to be stored once, and the market goes on."""
    received = program.stats()["messages_received"]
    with watching(program.url) as seen:
        yield program
        program.until_stats(lambda stats: stats["messages_received"] > received + 20, what="more messages")
        everything_is_stored(program, server, venue)
    seen.check()


def everything_is_stored(program, server, venue):
    program.until_stats(lambda stats: not stats["database"]["away"], timeout_s=40)
    venue.run(venue.simulator.settle())
    program.until_stats(lambda stats: stats["buffer"]["length"] == 0)
    flushes = program.stats()["flushes"]
    stats = program.until_stats(lambda stats: stats["flushes"] > flushes and stats["pending"] == 0, timeout_s=40)
    assert stats["journal"]["changes"] == 0
    assert stats["dead_letters"] == 0
    assert stats["task_failures"] == {}
    verdict = asyncio.run(_compare(server.uri, venue.simulator))
    venue.do(lambda: setattr(venue.simulator.market, "frozen", False))
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.order_events > 50


async def _compare(uri, simulator):
    store = MongoStore(f"{uri}?{DIRECT}", DATABASE)
    try:
        return await compare(store, simulator)
    finally:
        await store.close()


def test_a_frozen_server_costs_nothing(suffering, server):
    server.freeze()
    try:
        suffering.event("database_away")
        began = time.monotonic()
        suffering.until_stats(lambda stats: stats["journal"]["changes"] > 50 and stats["database"]["away"])
        assert suffering.until_status("/health", 200)["status"] == "degraded"
        assert suffering.until_status("/health/ready", 503)
        wait_until(lambda: time.monotonic() - began > sized(4.0, 30.0), timeout_s=60)
    finally:
        server.thaw()
    suffering.event("database_back")


def test_slow_writes_of_two_seconds_cost_nothing(suffering, admin):
    slow = {"failCommands": ["insert", "update"], "blockConnection": True, "blockTimeMS": 2000}
    admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": slow})
    flushes = suffering.stats()["flushes"]
    try:
        suffering.until_stats(lambda stats: stats["flushes"] >= flushes + sized(1, 5), timeout_s=100)
    finally:
        admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("where", ["inside", "after"])
def test_a_connection_cut_inside_a_bulk_costs_nothing(suffering, proxy, where, times):
    cut = proxy.cut(b"trader_order_events", where, times)
    wait_until(lambda: cut.struck == times, what="the cuts")
    proxy.behave()


@pytest.mark.parametrize("code", sized([64], [64, 91, 100]))
def test_a_write_concern_error_with_data_stored_costs_nothing(suffering, admin, code):
    error = {"code": code, "errmsg": "waiting for replication timed out"}
    trouble = {"failCommands": ["insert", "update"], "writeConcernError": error}
    away = len(suffering.logged("database_away"))
    admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": trouble})
    try:
        wait_until(lambda: len(suffering.logged("database_away")) > away, what="a write that counts as refused")
        suffering.until_stats(lambda stats: stats["journal"]["changes"] > sized(50, 1000), timeout_s=100)
    finally:
        admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    wait_until(lambda: len(suffering.logged("database_back")) > away, what="the end of it")


def test_a_crawling_connection_costs_nothing(suffering, proxy):
    proxy.behave(down_slice_bytes=1, delay_s=0.2)
    flushes = suffering.stats()["flushes"]
    suffering.until_stats(lambda stats: stats["flushes"] >= flushes + sized(1, 5), timeout_s=60)
    proxy.behave()
