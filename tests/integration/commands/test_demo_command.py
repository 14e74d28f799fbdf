"""`demo`: it fills everything, from the seed alone.

What the same seed repeats: traders, order ids, and what each order asks for. What it cannot repeat is which moments of
the market a snapshot shows, because frames leave by the wall clock.
"""

import re

import pytest
from pymongo import MongoClient

from tests.support.program import running, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EVERYTHING = (
    "trader_orders",
    "trader_order_events",
    "trader_positions",
    "trader_position_events",
    "trader_accounts",
    "trader_fills",
    "traders",
    "orderbooks",
    "orderbook_snapshots",
    "trades",
    "candles",
    "coverage",
    "dead_letters",
    "schema",
)
ASKED_FOR = ("ethAddress", "coin", "dex", "side", "limitPx", "origSz", "orderType", "tif", "cloid", "triggerPx")


@pytest.fixture(scope="module")
def calm(folder, mongod_binary):
    with running(folder / "calm", "demo", "--seed", "1") as program:
        yield program


@pytest.fixture(scope="module")
def rough(folder, mongod_binary):
    with running(folder / "rough", "demo", "--seed", "1", "--faults", "many") as program:
        yield program


def database_of(program):
    found = re.search(r"into\s+(\S+)\s+database (\S+)", program.banner())
    return MongoClient(found[1], tz_aware=True, serverSelectionTimeoutMS=5000)[found[2]]


def test_the_demo_fills_every_collection(calm, rough):
    database = database_of(calm)
    assert "simulated venue" in calm.banner()
    assert re.search(r"look at +http://127\.0\.0\.1:\d+/", calm.banner())
    assert calm.data_dir.joinpath("demo", "mongodb").is_dir()
    assert not calm.data_dir.joinpath("mongodb").exists()
    for name in EVERYTHING:
        wait_until(lambda name=name: database[name].count_documents({}, limit=1), what=f"a document in {name}")
    stats = calm.stats()
    assert stats["tracked_orders"] > 20
    assert stats["tracked_positions"] > 5
    assert stats["task_failures"] == {}
    database.client.close()


def test_with_many_faults_it_stays_up_and_goes_on_storing(rough):
    stats = rough.stats()
    assert stats["task_failures"] == {}
    rough.until_stats(lambda now: now["orders_inserted"] > stats["orders_inserted"] + 5)
    assert rough.until_status("/health/live", 200)
    assert "Traceback" not in rough.text()


def test_the_same_seed_is_the_same_market(calm, rough):
    first, second = database_of(calm), database_of(rough)
    assert {d["ethAddress"] for d in first.traders.find({})} == {d["ethAddress"] for d in second.traders.find({})}
    one, other = ({d["oid"]: d for d in database.trader_orders.find({})} for database in (first, second))
    both = one.keys() & other.keys()
    assert len(both) > 50
    for oid in both:
        assert [one[oid].get(name) for name in ASKED_FOR] == [other[oid].get(name) for name in ASKED_FOR]
    first.client.close()
    second.client.close()


def test_both_stop_cleanly(calm, rough):
    for program in (calm, rough):
        code, seconds = program.stop()
        assert (code, seconds < 15) == (0, True), program.text()
