"""The program is killed without a word; the next start knows since when it was blind, and looks up what it missed."""

import signal
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient

from tests.support.program import running, wait_until
from tests.support.repair_world import endings, fill_ids
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def venue():
    with simulated_venue(seed=51, traders=3, actions_per_s=20.0) as running_venue:
        yield running_venue


@pytest.fixture
def settings(venue, mongo_uri, database_name):
    return {
        **venue.urls,
        "MONGODB_URI": mongo_uri,
        "MONGODB_DATABASE": database_name,
        "HYPERLIQUID_TRADERS": ",".join(venue.traders),
        "HYPERLIQUID_COINS": "BTC",
        "TRADER_WS_CLIENTS": "1",
        "TRADER_ORDERS_WS_FLUSH_INTERVAL": "0.5",
    }


@pytest.fixture
def database(mongo_uri, database_name):
    with MongoClient(mongo_uri, tz_aware=True, serverSelectionTimeoutMS=2000) as client:
        yield client[database_name]


def answer(program, trader, begin, end):
    params = {"ethAddress": trader, "from": begin.isoformat(), "to": end.isoformat()}
    return program.http.get("/api/coverage/answer", params=params).json()


def test_a_killed_program_looks_up_what_it_missed(tmp_path, settings, venue, database):
    with running(tmp_path, **settings) as program:
        program.until_stats(lambda stats: stats["orders_inserted"] > 20)
        wait_until(lambda: database.schema.find_one({"_id": "heartbeat"}), what="a heartbeat")
        wait_until(lambda: not database.coverage.count_documents({"to": None}), what="all streams seen")
        beaten = database.schema.find_one({"_id": "heartbeat"})["at"]
        program.send(signal.SIGKILL)
        program.wait()
    killed = datetime.now(UTC)
    wait_until(lambda: datetime.now(UTC) > killed + timedelta(seconds=3), what="three seconds of the market alone")
    with running(tmp_path, **settings) as again:
        wait_until(lambda: database.coverage.count_documents({"reason": "process_down", "to": {"$ne": None}}) >= 8)
        venue.do(venue.simulator.market.freeze)
        late = {"action": "closed", "closeObserved": "late"}
        wait_until(lambda: database.trader_order_events.count_documents(late) > 2, what="late closes")
        unresolved = {**late, "closeReason": {"$in": [None, "unknown"]}}
        wait_until(lambda: not database.trader_order_events.count_documents(unresolved), what="all reasons")
        truth = venue.do(endings, venue.simulator)
        for event in database.trader_order_events.find(late):
            reason, time_ms = truth[event["ethAddress"], event["oid"]]
            assert (event["closeReason"], event["closedAt"].timestamp()) == (reason, time_ms / 1000)
        holes = {"reason": "process_down", "to": {"$ne": None}, "repair": None}
        wait_until(lambda: not database.coverage.count_documents(holes), what="a look into every hole")
        for hole in database.coverage.find({"reason": "process_down"}):
            assert beaten <= hole["from"] <= killed
        for trader in venue.traders:
            wanted = sorted(venue.do(fill_ids, venue.simulator, trader))
            wait_until(
                lambda trader=trader, wanted=wanted: (
                    sorted(d["_id"] for d in database.trader_fills.find({"ethAddress": trader})) == wanted
                ),
                what="every fill once",
            )
            during = answer(again, trader, killed, killed + timedelta(seconds=2))
            fills = next(row for row in during["streams"] if "/userFills/" in row["stream"])
            assert (fills["seenShare"], fills["coveredShare"]) == (0, 1)
        nobody = answer(again, "0x" + "0" * 40, killed, killed + timedelta(seconds=2))
        assert (nobody["trusted"], nobody["streams"]) == (False, [])
        assert again.stop(signal.SIGINT)[0] == 0, again.text()
