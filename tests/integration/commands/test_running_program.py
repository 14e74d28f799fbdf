"""One running program with its embedded MongoDB, looked at from all sides.

The tests share it and run in order; `test_doctor_and_settings.py` has looked at it before.
"""

import re
import signal
import socket

import pytest
from pymongo import MongoClient

from src.venues.hyperliquid.simulator import FaultKind
from tests.support.program import finished, is_mongod, mongod_pid, running, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FOLLOWED = 3
STATS_KEYS = {
    "tracked_orders",
    "orders_inserted",
    "tracked_positions",
    "positions_inserted",
    "messages_received",
    "flushes",
    "buffer",
    "journal",
    "connections",
    "streams",
}
FILLED_AT_ONCE = (
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
    "schema",
)


@pytest.fixture(scope="module")
def venue(collected_venue):
    return collected_venue


@pytest.fixture(scope="module")
def settings(collector_settings):
    return collector_settings


@pytest.fixture(scope="module")
def program(collector):
    return collector


@pytest.fixture(scope="module")
def database(program):
    uri = re.search(r"into\s+(\S+)", program.banner())[1]
    with MongoClient(uri, tz_aware=True, serverSelectionTimeoutMS=1000) as client:
        yield client["market_collector"]


def command(program, settings, *arguments):
    """Another command beside the running program, sharing its data directory."""
    return finished(program.data_dir.parent, *arguments, DATA_DIR=str(program.data_dir), **settings)


def streams_of(stats, trader):
    return {name: row for name, row in stats["streams"].items() if trader in name}


def states_of(stats, trader):
    return {row["state"] for row in streams_of(stats, trader).values()}


# -- what it says and stores -------------------------------------------------------------------------------------------


def test_the_banner_says_what_is_collected_where_and_where_to_look(program, venue):
    banner = program.banner()
    assert f"orders, positions, fills of {FOLLOWED} traders" in banner
    assert "books, trades of BTC, ETH" in banner
    assert venue.simulator.ws_url in banner
    assert re.search(r"into +mongodb://127\.0\.0\.1:\d+/\S* +database market_collector", banner)
    assert re.search(r"MongoDB \d+\.\d+\.\d+, replica set", banner)
    for path in ("/ ", "/health ", "/stats ", "/docs"):
        assert f"{program.url}{path}" in banner + " "
    assert str(program.data_dir) in banner
    assert "Ctrl-C" in banner


def test_health_is_ok_live_and_ready_once_streams_are_fresh(program):
    program.until_stats(lambda stats: stats["states"].get("fresh") == len(stats["streams"]))
    health = program.until_status("/health", 200)
    assert health["status"] == "ok", health
    assert health["ready"]
    assert all(check["ok"] for check in health["checks"])
    assert program.until_status("/health/live", 200) == {"status": "ok"}
    assert program.until_status("/health/ready", 200)["ready"]


def test_stats_have_the_documented_keys_and_count(program):
    stats = program.until_stats(lambda stats: stats["orders_inserted"] > 20 and stats["positions_inserted"] > 5)
    assert stats.keys() >= STATS_KEYS
    assert stats["tracked_orders"] > 0
    assert stats["tracked_positions"] > 0
    assert stats["messages_received"] > 20
    assert stats["flushes"] > 0
    assert stats["tracked_traders"] == FOLLOWED
    states = {connection["state"] for connection in stats["connections"]}
    assert "open" in states
    assert states <= {"open", "idle"}, "idle are those for looks, as long as nobody has to wait for one"
    assert len(stats["connections"]) == 2
    assert stats["buffer"].keys() >= {"length", "dropped"}


def test_what_stats_count_is_what_is_in_mongodb(program, database):
    before = program.stats()
    stored = database.trader_order_events.count_documents({})
    assert before["orders_inserted"] <= stored
    wait_until(lambda: program.stats()["orders_inserted"] >= stored)
    kinds = {"trades", "orderbooks", "trader_accounts"}
    wait_until(lambda: program.stats()["documents_inserted"].keys() >= kinds)


@pytest.mark.parametrize("collection", FILLED_AT_ONCE)
def test_every_collection_gets_documents(database, collection):
    wait_until(lambda: database[collection].count_documents({}, limit=1), what=f"a document in {collection}")


def test_metrics_page_and_api_answer_while_it_runs(program):
    assert "collector_frames_received_total" in program.http.get("/metrics").text
    orders = program.http.get("/api/orders", params={"status": "open", "limit": 5}).raise_for_status().json()
    assert len(orders["items"]) == 5
    book = program.http.get("/api/orderbook/hyperliquid/BTC").raise_for_status().json()
    assert book["bids"][0][0] < book["asks"][0][0]


def test_a_disconnect_becomes_a_hole_that_closes(program, venue, database):
    begun = database.coverage.count_documents({"reason": "disconnect"})
    venue.run(venue.simulator.faults.drop())
    wait_until(lambda: database.coverage.count_documents({"reason": "disconnect", "to": {"$ne": None}}) > begun)
    hole = database.coverage.find_one({"reason": "disconnect", "to": {"$ne": None}})
    assert hole["venue"] == "hyperliquid"
    assert hole["from"] <= hole["to"]
    assert hole["stream"].startswith("hyperliquid/")


def test_garbage_becomes_a_dead_letter_and_is_counted(program, venue, database):
    venue.do(venue.simulator.faults.arm, FaultKind.MALFORMED)
    program.until_stats(lambda stats: sum(stats["messages_rejected"].values()) >= 1)
    letter = wait_until(lambda: database.dead_letters.find_one({}))
    assert letter["reason"] in program.stats()["messages_rejected"]
    assert letter["venue"] == "hyperliquid"
    assert program.until_status("/health/live", 200)


# -- starting a second one ---------------------------------------------------------------------------------------------


def test_starting_twice_says_who_runs_and_harms_nobody(program, settings):
    flushes = program.stats()["flushes"]
    second = command(program, settings, "run")
    assert second.code == 2
    assert second.out == second.out.__class__()
    message = "\n".join(second.err)
    assert f"pid {program.pid}" in message
    assert "DATA_DIR" in message
    assert "Traceback" not in message
    assert len(second.err) == 1
    program.until_stats(lambda stats: stats["flushes"] > flushes)


def test_a_taken_port_is_named_with_its_setting(program, settings, tmp_path):
    port = program.url.rsplit(":", 1)[1]
    second = finished(tmp_path, "run", **{**settings, "HTTP_PORT": port, "MONGODB_URI": "mongodb://127.0.0.1:1"})
    assert second.code == 2
    assert f"HTTP_PORT={port}" in second.text()
    assert "in use" in second.text()
    assert "Traceback" not in second.text()


# -- traders while it runs ---------------------------------------------------------------------------------------------


def test_added_by_command_a_trader_is_followed_without_a_restart(program, settings, venue, database):
    newcomer = venue.traders[3]
    shouted = newcomer.upper().replace("0X", "0x")
    added = command(program, settings, "traders", "add", shouted, venue.traders[0], newcomer, "--tag", "whale")
    assert added.code == 0, added.text()
    assert list(added.out) == ["1 added, 1 followed already"]
    program.until_stats(lambda stats: states_of(stats, newcomer) == {"fresh"}, what="fresh streams of the new trader")
    wait_until(lambda: database.trader_orders.count_documents({"ethAddress": newcomer}, limit=1))
    document = database.traders.find_one({"ethAddress": newcomer})
    assert (document["source"], document["tags"], document["enabled"]) == ("manual", ["whale"], True)


def test_list_shows_everybody_as_a_plain_table(program, settings, venue):
    listed = command(program, settings, "traders", "list")
    assert listed.code == 0
    rows = [line.split() for line in listed.out]
    assert rows[0][:3] == ["address", "followed", "source"]
    assert {row[0] for row in rows[1:]} == set(venue.traders[:4])
    assert {row[1] for row in rows[1:]} == {"yes"}


def test_beyond_the_cap_traders_take_turns_and_everybody_is_told_how_he_is_followed(program, venue):
    beyond = venue.traders[4]
    answer = program.http.post("/api/traders", json={"addresses": [beyond]})
    assert (answer.status_code, answer.json()) == (200, {"added": 1})
    stats = program.until_stats(
        lambda stats: (
            stats["following"]["modes"] == {"live": 3, "rotation": 2, "poll": 0}
            and stats["following"]["never_looked_at"] == 0
        ),
        what="a look at everybody",
    )
    assert stats["over_limit"] == stats["following"]["late"] == 0
    assert 0 < stats["following"]["bound_s"] <= 120
    shown = program.http.get("/api/traders").json()["items"]
    modes = sorted(item["now"]["mode"] for item in shown if item["now"])
    assert modes == ["live"] * 3 + ["rotation"] * 2
    assert all(item["now"]["lastLookAgeS"] < 60 for item in shown if item["now"])
    assert not program.logged("venue_limit_reached")


def test_removed_over_http_a_trader_makes_room_at_once(program, venue, database):
    gone, waiting = venue.traders[3], venue.traders[4]
    answer = program.http.delete(f"/api/traders/{gone}")
    assert (answer.status_code, answer.json()) == (200, {"removed": 1})
    assert streams_of(program.stats(), gone) == {}
    program.until_stats(lambda stats: states_of(stats, waiting) == {"fresh"}, what="the waiting trader's turn")
    assert database.trader_orders.count_documents({"ethAddress": gone}, limit=1) == 1
    assert program.http.delete(f"/api/traders/{gone}").status_code == 404


def test_wrong_addresses_are_refused_by_command_and_by_http(program, settings, venue):
    wrong = ["0x12", "BTC", "0x" + "g" * 40]
    refused = command(program, settings, "traders", "add", venue.traders[5], *wrong)
    assert refused.code == 2
    assert all(address in refused.text() for address in wrong)
    assert "40 hexadecimal digits" in refused.text()
    assert "Traceback" not in refused.text()
    for address in wrong:
        answer = program.http.post("/api/traders", json={"addresses": [venue.traders[5], address]})
        assert answer.status_code == 422
        assert "detail" in answer.json()
    assert streams_of(program.stats(), venue.traders[5]) == {}


def test_added_back_a_trader_continues_its_revisions(program, settings, venue, database):
    back, away = venue.traders[3], venue.traders[4]
    before = {d["oid"]: d for d in database.trader_orders.find({"ethAddress": back})}
    assert before
    removed = command(program, settings, "traders", "remove", away, "0x" + "ab" * 20)
    assert (removed.code, list(removed.out)) == (1, ["1 removed, 1 not followed"])
    assert program.http.post("/api/traders", json={"addresses": [back]}).status_code == 200
    program.until_stats(lambda stats: states_of(stats, back) == {"fresh"})
    grown = wait_until(
        lambda: [
            d
            for d in database.trader_orders.find({"ethAddress": back, "oid": {"$in": list(before)}})
            if d["revision"] > before[d["oid"]]["revision"]
        ],
        what="a known order that changed",
    )
    for document in grown:
        assert document["createdAt"] == before[document["oid"]]["createdAt"]
        assert_events_agree(database, document)
    closed = [d for d in grown if d["status"] == "closed"]
    assert {d["closeObserved"] for d in closed if d["revision"] == before[d["oid"]]["revision"] + 1} <= {
        "late",
        "live",
    }


def assert_events_agree(database, order):
    """An order's events are numbered without a hole, and the last one says what its state says."""
    query = {"ethAddress": order["ethAddress"], "oid": order["oid"]}
    events = list(database.trader_order_events.find(query).sort("revision", 1))
    revisions = [event["revision"] for event in events]
    assert revisions == list(range(1, len(revisions) + 1))
    assert len(revisions) >= order["revision"]
    assert [event["action"] for event in events].count("new") >= 1
    assert events[0]["_id"] == f"{order['ethAddress']}:{order['oid']}:1"


# -- the end, and the next start ---------------------------------------------------------------------------------------


def test_the_sentence_about_flushed_orders_is_in_the_log(program):
    def told():
        return [
            e["event"] for e in program.events if re.fullmatch(r"Flushed \d+ order updates to database", e["event"])
        ]

    assert wait_until(told, timeout_s=45, what="the line about flushed orders")
    assert len(told()) <= 1 + program.stats()["uptime_s"] // 30


def test_nothing_went_wrong_unnoticed_so_far(program):
    assert program.stats()["task_failures"] == {}
    assert program.logged("task_died") == []
    assert not [event for event in program.events if event["level"] == "error"], program.text()
    assert "Traceback" not in program.text()


def without_explanations(orders):
    """What is known of closes besides the closing itself is looked up afterwards, also in the next run."""
    explained = {"closeReason", "closedAt", "closeResolvedAt", "filledSz", "avgPx", "closedBy"}
    return {key: {name: value for name, value in d.items() if name not in explained} for key, d in orders.items()}


def test_after_sigterm_it_is_gone_quickly_and_the_next_start_goes_on(program, settings, venue, database):
    venue.do(venue.simulator.market.freeze)
    program.until_stats(lambda stats: settled(stats, venue, venue.traders[:4]), what="the frozen state")
    venue.run(venue.simulator.settle(timeout_s=60))
    program.until_stats(lambda stats: stats["buffer"]["length"] == 0)
    flushes = program.stats()["flushes"]
    program.until_stats(lambda stats: stats["flushes"] > flushes and stats["pending"] == 0)
    still_open = {"status": "open", "ethAddress": {"$in": venue.traders[:4]}}
    wait_until(lambda: database.trader_orders.count_documents(still_open) == program.stats()["tracked_orders"])
    orders = {(d["ethAddress"], d["oid"]): d for d in database.trader_orders.find({})}
    positions = {d["_id"]: d for d in database.trader_positions.find({})}
    events = database.trader_order_events.count_documents({})
    pid = mongod_pid(program.data_dir)

    code, seconds = program.stop(signal.SIGTERM)
    assert code == 0, program.text()
    assert seconds < 10
    assert program.logged("stopped", changes_not_stored=0)
    assert not is_mongod(pid)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", _port(program))):
        pass

    victims = venue.do(cancel_some, venue.simulator, venue.traders[0], 2)
    assert victims
    with running(program.data_dir.parent, DATA_DIR=str(program.data_dir), **settings) as again:
        again.banner()
        uri = re.search(r"into\s+(\S+)", again.banner())[1]
        with MongoClient(uri, tz_aware=True, serverSelectionTimeoutMS=1000) as client:
            fresh = client["market_collector"]
            wait_until(
                lambda: (
                    fresh.trader_orders.count_documents({"oid": {"$in": victims}, "status": "closed"}) == len(victims)
                )
            )
            again.until_stats(lambda stats: settled(stats, venue, venue.traders[:4]))
            for number in victims:
                late = fresh.trader_orders.find_one({"oid": number})
                assert late["closeObserved"] == "late"
                assert late["revision"] == orders[late["ethAddress"], number]["revision"] + 1
            found = {(d["ethAddress"], d["oid"]): d for d in fresh.trader_orders.find({"oid": {"$nin": victims}})}
            before = {key: d for key, d in orders.items() if key[1] not in victims}
            now, then = without_explanations(found), without_explanations(before)
            assert now.keys() == then.keys()
            assert [moved for key in then for moved in then[key].items() ^ now[key].items()] == []
            assert fresh.trader_order_events.count_documents({}) == events + len(victims)
            assert {
                key: value["revision"] for key, value in ((d["_id"], d) for d in fresh.trader_positions.find({}))
            } == {key: d["revision"] for key, d in positions.items()}
            down = list(fresh.coverage.find({"reason": "process_down", "to": {"$ne": None}}))
            assert {hole["stream"] for hole in down} >= {f"hyperliquid/openOrders/{venue.traders[0]}"}
        code, seconds = again.stop(signal.SIGINT)
        assert (code, seconds < 10) == (0, True), again.text()


def test_list_with_nothing_running_brings_its_own_server_and_takes_it_away(program, settings, venue):
    assert program.process.poll() is not None
    listed = command(program, settings, "traders", "list")
    assert listed.code == 0, listed.text()
    assert any(line.startswith(venue.traders[0]) for line in listed.out)
    assert not is_mongod(mongod_pid(program.data_dir))
    assert not listed.err


def settled(stats, venue, traders):
    """The program holds what the frozen market shows of these traders on the main dex."""
    held = [venue.simulator.market.traders[trader] for trader in traders]
    orders = sum(sum(1 for _ in order.family()) for trader in held for order in trader.orders_on(""))
    positions = sum(len(trader.account("").positions) for trader in held)
    return (stats["tracked_orders"], stats["tracked_positions"]) == (orders, positions)


def cancel_some(simulator, trader, count):
    """Cancel orders that stand alone; returns their ids."""
    market = simulator.market
    alone = [order for order in market.traders[trader].orders_on("") if not order.children and order.sibling is None]
    chosen = alone[:count]
    for order in chosen:
        market.exchange.cancel(order)
    return [order.oid for order in chosen]


def _port(program):
    return int(program.url.rsplit(":", 1)[1])
