"""Stopping in bad moments, with the embedded MongoDB frozen or killed."""

import asyncio
import json
import os
import re
import signal
import threading
import time

import psutil
import pytest
from pymongo import MongoClient

from src.stopping import ECHO_S
from src.store.embedded import open_embedded
from tests.support.plain_mongod import free_port
from tests.support.program import is_mongod, mongod_pid, running, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("mongod_binary")]


@pytest.fixture
def settings(venue):
    return settings_for(venue)


def settings_for(venue):
    return {
        **venue.urls,
        "HYPERLIQUID_TRADERS": ",".join(venue.traders[:2]),
        "HYPERLIQUID_COINS": "BTC",
        "TRADER_WS_CLIENTS": "1",
    }


@pytest.fixture(scope="module")
def hanging(venue, tmp_path_factory):
    """A program that was asked to stop while its embedded server hangs; it goes on ending while other tests run."""
    with running(tmp_path_factory.mktemp("hanging"), **settings_for(venue), SHUTDOWN_TIMEOUT="15") as program:
        program.banner()
        program.until_stats(lambda stats: stats["orders_inserted"] > 5)
        os.kill(mongod_pid(program.data_dir), signal.SIGSTOP)
        program.until_stats(lambda stats: stats["pending"] > 5)
        took = []
        waiting = threading.Thread(target=lambda: took.append(program.stop(signal.SIGTERM)), daemon=True)
        waiting.start()
        yield program, waiting, took


@pytest.fixture(autouse=True)
def _early(hanging):
    """Let it begin with the first test."""


def order_count(program):
    uri = re.search(r"into\s+(\S+)", program.banner())[1]
    with MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
        return client["market_collector"].trader_order_events.count_documents({})


def test_events_without_their_states_get_them_with_the_stop(tmp_path, settings, new_database):
    """As work leaves them whose writing was given up with the stop, or cut by an outage just before."""
    more, database = new_database()
    with running(tmp_path, **{**settings, **more}) as program:
        program.banner()
        program.until_stats(lambda stats: stats["orders_inserted"] > 5)
        event = database.trader_order_events.find_one({"revision": 1, "action": "new"}, sort=[("receivedAt", -1)])
        oid, identity = 7, f"{event['ethAddress']}:7"
        database.trader_order_events.insert_one({**event, "_id": f"{identity}:1", "oid": oid})
        assert program.stop(signal.SIGTERM)[0] == 0
    state = database.trader_orders.find_one({"_id": identity})
    assert (state["oid"], state["revision"], state["sz"]) == (oid, 1, event["sz"])


def test_a_second_signal_ends_at_once_while_mongodb_hangs_and_the_next_start_works(tmp_path, settings):
    with running(tmp_path, **settings) as program:
        program.banner()
        program.until_stats(lambda stats: stats["orders_inserted"] > 5)
        pid = mongod_pid(program.data_dir)
        os.kill(pid, signal.SIGSTOP)
        try:
            program.until_stats(lambda stats: stats["pending"] > 5)
            program.send(signal.SIGINT)
            program.event("stopping")
            assert program.process.poll() is None
            began = time.monotonic()
            while program.process.poll() is None:  # the first moments are taken for an echo
                program.send(signal.SIGINT)
                time.sleep(0.05)
            assert (program.process.returncode, time.monotonic() - began < ECHO_S + 1) == (130, True)
            assert program.logged("stopped_at_once")[0]["changes_not_stored"] > 5
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not is_mongod(pid), what="the end of the embedded server")
    with running(tmp_path, **settings) as again:
        stored = order_count(again)
        assert stored > 5
        again.until_stats(lambda stats: stats["orders_inserted"] > 0)
        assert again.stop()[0] == 0, again.text()
        assert "Traceback" not in again.text()


def test_a_killed_embedded_server_comes_back_while_running_and_also_for_the_stop(tmp_path, settings):
    port = free_port()
    prefer_port(tmp_path / "data", port)  # one that no other test takes between the death and the new start
    with running(tmp_path, **settings) as program:
        assert f":{port}/" in program.banner()
        inserted = program.until_stats(lambda stats: stats["orders_inserted"] > 5)["orders_inserted"]
        os.kill(mongod_pid(program.data_dir), signal.SIGKILL)
        program.event("mongod_died")
        wait_until(lambda: len(program.logged("mongod_started")) == 2)
        program.until_stats(lambda stats: stats["orders_inserted"] > inserted + 5 and not stats["database"]["away"])
        assert program.until_status("/health/ready", 200)

        os.kill(mongod_pid(program.data_dir), signal.SIGKILL)
        code, seconds = program.stop(signal.SIGTERM)
        assert code == 0, program.text()
        assert seconds < 20
        assert program.logged("stopped", changes_not_stored=0)
        assert len(program.logged("mongod_died")) == 2
        assert not is_mongod(mongod_pid(program.data_dir))
    holes = asyncio.run(holes_of_the_stop(program.data_dir))
    assert holes == {"openOrders", "clearinghouseState", "userHistoricalOrders", "userFills", "l2Book", "trades"}


def test_a_signal_before_the_server_is_up_stops_the_start(tmp_path, settings):
    with running(tmp_path, **settings) as program:
        wait_until(lambda: (program.data_dir / "mongodb.mutex").exists() or program.process.poll() is not None)
        children = psutil.Process(program.pid).children
        wait_until(lambda: any("mongod" in child.name() for child in children()))
        code, seconds = program.stop(signal.SIGINT)
        assert (code, seconds < 10) == (0, True), program.text()
        assert "Traceback" not in program.text()
        assert not is_mongod(mongod_pid(program.data_dir) or 0)


def test_with_a_hanging_server_a_stop_ends_in_time_and_leaves_nothing_running(hanging):
    program, waiting, took = hanging
    waiting.join(30)
    ((code, seconds),) = took
    assert code == 1, program.text()
    assert seconds < 20, program.text()
    assert program.logged("stopped")[0]["changes_left_in_journal"] > 5
    assert not is_mongod(mongod_pid(program.data_dir)), program.text()


async def holes_of_the_stop(data_dir):
    """Channels of the streams that are not seen since the stop: the last thing a program stores."""
    async with open_embedded(data_dir, shared=True, cache_gib=0.25) as server:
        with MongoClient(server.uri, serverSelectionTimeoutMS=5000) as client:
            found = client["market_collector"].coverage.find({"reason": "process_down", "to": None})
            return {hole["stream"].split("/")[1] for hole in found}


def prefer_port(data_dir, port):
    """Let the embedded server of a new data directory listen on this port."""
    data_dir.mkdir(parents=True)
    (data_dir / "mongodb.json").write_text(json.dumps({"pid": 0, "port": port, "cache_gib": 0.25, "version": ""}))
