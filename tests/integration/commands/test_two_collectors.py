"""Two real programs on one MongoDB: one writes, the other waits and takes over."""

import signal
import time
from contextlib import ExitStack

import pytest
from pymongo import MongoClient

from tests.support.plain_mongod import free_port, plain_mongod
from tests.support.program import finished, running, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TAKEOVER_S = 15.0


@pytest.fixture
def settings(venue):
    return {
        **venue.urls,
        "HYPERLIQUID_TRADERS": ",".join(venue.traders[:2]),
        "HYPERLIQUID_COINS": "BTC",
        "TRADER_WS_CLIENTS": "1",
    }


@pytest.fixture
def pair(tmp_path, settings, new_database):
    """Starts the writer and a standby; gives both and the database."""
    chosen, database = new_database()
    with ExitStack() as stack:

        def start(**more):
            writer = stack.enter_context(running(tmp_path / "one", **settings, **chosen, **more))
            writer.banner()
            writer.until_stats(lambda stats: stats["orders_inserted"] > 5)
            return writer, standby_of(stack, tmp_path / "two", {**settings, **chosen, **more}), database

        yield start


def standby_of(stack, folder, settings):
    port = free_port()
    standby = stack.enter_context(running(folder, **{**settings, "HTTP_PORT": str(port)}))
    standby.url = f"http://127.0.0.1:{port}"
    standby.event("another_writer")
    return standby


def lease(database):
    return database.schema.find_one({"_id": "writer"})


def seconds_until_it_writes(program, database, pid):
    began = time.monotonic()
    wait_until(lambda: lease(database)["pid"] == pid, 40, "the takeover")
    took = time.monotonic() - began
    program.until_stats(lambda stats: stats["orders_inserted"] > 0)
    assert program.until_status("/health/ready", 200)["ready"]
    return took


def assert_whole(database):
    """Revisions without holes and every state at its last event."""
    for events, states in (
        ("trader_order_events", "trader_orders"),
        ("trader_position_events", "trader_positions"),
    ):
        revisions = {}
        for event in database[events].find({}, {"revision": 1}).sort("revision", 1):
            revisions.setdefault(event["_id"].rpartition(":")[0], []).append(event["revision"])
        assert revisions
        for identity, found in revisions.items():
            assert found == list(range(1, len(found) + 1)), identity
        for state in database[states].find({}, {"revision": 1}):
            assert state["revision"] == revisions[state["_id"]][-1], state["_id"]


def test_the_second_waits_and_says_so_and_takes_over_within_15_seconds_of_a_kill(pair):
    writer, standby, database = pair()
    health = standby.until_status("/health/ready", 503)
    assert standby.http.get("/health").status_code == 200
    assert standby.http.get("/health/live").status_code == 200
    texts = {check["name"]: (check["ok"], check["text"]) for check in health["checks"]}
    assert texts["program"] == (False, "standby")
    assert not texts["writer"][0]
    assert f"pid {writer.pid}" in texts["writer"][1]
    assert "taking over when it stops renewing" in texts["writer"][1]
    stats = standby.stats()
    assert (stats["phase"], stats["messages_received"], stats["writer"]["may_write"]) == ("standby", 0, False)
    assert writer.stats()["writer"] == {"may_write": True, "why": ""}

    # a standby takes orders of people all the same: the writer carries them out
    added = "0x00000000000000000000000000000000000000aa"
    assert standby.http.post("/api/traders", json={"addresses": [added]}).json() == {"added": 1}
    writer.until_stats(lambda stats: stats["tracked_traders"] == 3)

    writer.send(signal.SIGKILL)
    assert seconds_until_it_writes(standby, database, standby.pid) < TAKEOVER_S
    assert standby.stats()["tracked_traders"] == 3
    assert len(standby.logged("another_writer")) == 1
    code, _ = standby.stop()
    assert code == 0, standby.text()
    assert lease(database)["released"]
    assert_whole(database)


def test_after_an_orderly_stop_the_standby_takes_over_at_once_and_the_first_becomes_the_standby(
    pair, tmp_path, settings
):
    writer, standby, database = pair()
    assert writer.stop(signal.SIGTERM)[0] == 0, writer.text()
    assert seconds_until_it_writes(standby, database, standby.pid) < 3
    with ExitStack() as stack:
        chosen = {"MONGODB_URI": database_uri(database), "MONGODB_DATABASE": database.name}
        again = standby_of(stack, tmp_path / "one", {**settings, **chosen})
        assert standby.stop()[0] == 0, standby.text()
        assert seconds_until_it_writes(again, database, again.pid) < 3
        assert again.stop()[0] == 0, again.text()
    assert_whole(database)


def database_uri(database):
    host, port = database.client.address
    return f"mongodb://{host}:{port}/?directConnection=true"


def test_a_writer_frozen_for_20_seconds_finds_itself_replaced_and_stops(pair):
    writer, standby, database = pair()
    writer.send(signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert seconds_until_it_writes(standby, database, standby.pid) < TAKEOVER_S
        wait_until(lambda: time.monotonic() - began > 20)
    finally:
        writer.send(signal.SIGCONT)
    assert writer.wait(25) == 75, writer.text()
    assert writer.logged("another_collector_took_over", exit_code=75)
    assert "Traceback" not in writer.text()
    assert not list(
        database.coverage.find({"reason": "process_down", "to": None, "from": {"$gt": lease(database)["since"]}})
    )
    standby.until_stats(lambda stats: stats["orders_inserted"] > 30)
    assert standby.stop()[0] == 0, standby.text()
    assert_whole(database)


def test_the_same_program_started_again_after_a_kill_does_not_wait(tmp_path, settings, new_database):
    chosen, database = new_database()
    with running(tmp_path, **settings, **chosen) as program:
        program.banner()
        program.until_stats(lambda stats: stats["orders_inserted"] > 5)
        program.send(signal.SIGKILL)
        program.wait()
    with running(tmp_path, **settings, **chosen) as again:
        again.banner()
        assert not again.logged("another_writer")
        assert lease(database)["term"] == 2
        again.until_stats(lambda stats: stats["orders_inserted"] > 0)
        assert again.stop()[0] == 0, again.text()
    assert_whole(database)


def test_an_outage_longer_than_the_lease_leaves_it_with_its_holder_on_a_standalone_server(
    tmp_path, settings, mongod_binary
):
    with plain_mongod(mongod_binary, tmp_path / "mongo") as server, ExitStack() as stack:
        server.start()
        chosen = {**settings, "MONGODB_URI": server.uri, "MONGODB_TIMEOUT_S": "2"}
        writer = stack.enter_context(running(tmp_path / "one", **chosen))
        writer.banner()
        writer.until_stats(lambda stats: stats["orders_inserted"] > 5)
        standby = standby_of(stack, tmp_path / "two", chosen)
        server.freeze()
        writer.event("writing_paused", timeout_s=25)
        body = writer.until_status("/health/ready", 503)
        assert "not confirmed by MongoDB" in str(body)
        assert writer.stats()["pending"] > 0
        frozen = time.monotonic()
        wait_until(lambda: time.monotonic() - frozen > 8)
        server.thaw()
        writer.event("writing_resumed")
        writer.until_status("/health/ready", 200)
        with MongoClient(server.uri) as client:
            database = client["market_collector"]
            assert (lease(database)["term"], lease(database)["pid"]) == (1, writer.pid)
            assert standby.stop()[0] == 0, standby.text()
            assert writer.stop()[0] == 0, writer.text()
            assert_whole(database)


def test_replay_is_refused_beside_a_collector_and_works_into_another_database(
    tmp_path, settings, new_database, recording_file
):
    chosen, database = new_database()
    with running(tmp_path / "one", **settings, **chosen) as writer:
        writer.banner()
        refused = finished(tmp_path / "two", "replay", recording_file, **settings, **chosen)
        assert refused.code == 2, refused.text()
        assert f"pid {writer.pid}" in refused.text()
        assert "--database" in refused.text()
        assert "Traceback" not in refused.text()
        other = f"{database.name}_b"
        try:
            done = finished(tmp_path / "two", "replay", recording_file, "--database", other, **settings, **chosen)
            assert done.code == 0, done.text()
            assert database.client[other].orderbooks.count_documents({}) == 1
        finally:
            database.client.drop_database(other)
        assert lease(database)["pid"] == writer.pid
        listed = finished(tmp_path / "two", "traders", "list", **settings, **chosen)
        assert listed.code == 0, listed.text()


@pytest.fixture
def recording_file(tmp_path):
    path = tmp_path / "book.jsonl"
    path.write_text(
        '{"channel":"l2Book","data":{"coin":"DOGE","time":1700000000000,'
        '"levels":[[{"px":"1","sz":"1","n":1}],[{"px":"2","sz":"1","n":1}]]}}\n'
    )
    return path


def test_an_impossible_database_for_a_replay_is_told(tmp_path, recording_file):
    run = finished(tmp_path, "replay", recording_file, "--database", "a b")
    assert run.code == 2
    assert "--database 'a b'" in run.text()
