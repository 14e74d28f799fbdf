"""Settings that choose what is collected: several programs side by side, each into a database of its own."""

from contextlib import ExitStack

import pytest

from src.venues.hyperliquid.simulator import Limits
from tests.support.program import finished, running, wait_until
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VARIANTS = {
    "orders only": {"TRADER_POSITIONS_WS_ENABLED": "false"},
    "positions only": {
        "TRADER_ORDERS_WS_ENABLED": "false",
        "HYPERLIQUID_FILLS": "false",
        "HYPERLIQUID_BOOKS": "false",
        "HYPERLIQUID_TRADES": "false",
        "HYPERLIQUID_TRADER_FEED": "split",
    },
    "no traders": {"TRADER_WS_ENABLED": "false"},
    "nothing": {"HYPERLIQUID_ENABLED": "false"},
}
LEGACY = {
    "legacy, auto": {"HYPERLIQUID_TRADER_FEED": "auto"},
    "legacy, webData2": {"HYPERLIQUID_TRADER_FEED": "webData2", "TRADER_POSITIONS_WS_ENABLED": "false"},
}


@pytest.fixture(scope="module")
def modern():
    with simulated_venue(limits=Limits.off(), traders=2) as running_venue:
        yield running_venue


@pytest.fixture(scope="module")
def legacy():
    with simulated_venue(limits=Limits.off(), traders=2, legacy=True) as running_venue:
        yield running_venue


@pytest.fixture(scope="module")
def started(modern, legacy, folder, new_database):
    """All programs at once: name -> (program, its database)."""
    with ExitStack() as stack:
        programs = {}
        for name, chosen in {**VARIANTS, **LEGACY}.items():
            server = legacy if name in LEGACY else modern
            database_settings, database = new_database()
            settings = {
                **server.urls,
                **database_settings,
                "HYPERLIQUID_TRADERS": ",".join(server.traders),
                "HYPERLIQUID_COINS": "BTC",
                "TRADER_WS_CLIENTS": "1",
                **chosen,
            }
            place = folder / name.replace(" ", "_")
            programs[name] = stack.enter_context(running(place, **settings)), database
        yield programs


def filled(database, *collections):
    for name in collections:
        wait_until(lambda name=name: database[name].count_documents({}, limit=1), what=f"a document in {name}")


def empty(database, *collections):
    for collection in collections:
        assert database[collection].count_documents({}, limit=1) == 0, collection


def channels(program):
    return {name.split("/")[1] for name in program.stats()["streams"]}


def test_orders_only(started):
    program, database = started["orders only"]
    assert "orders, fills of 2 traders" in program.banner()
    filled(database, "trader_orders", "trader_order_events", "trader_fills", "orderbooks", "trades")
    empty(database, "trader_positions", "trader_position_events", "trader_accounts")
    assert channels(program) == {"openOrders", "userHistoricalOrders", "userFills", "l2Book", "trades"}


def test_positions_only_without_a_market_on_the_split_feed(started):
    program, database = started["positions only"]
    assert "positions of 2 traders" in program.banner()
    filled(database, "trader_positions", "trader_position_events", "trader_accounts")
    empty(database, "trader_orders", "trader_order_events", "trader_fills", "orderbooks", "trades")
    assert channels(program) == {"clearinghouseState"}
    assert program.stats()["trader_feed"] == "split"


def test_books_and_trades_only(started):
    program, database = started["no traders"]
    assert "collects   books, trades of BTC" in program.banner()
    filled(database, "orderbooks", "trades")
    empty(database, "traders", "trader_orders", "trader_positions")
    assert channels(program) == {"l2Book", "trades"}
    assert program.http.post("/api/traders", json={"addresses": ["0x" + "a" * 40]}).status_code == 409
    program.until_stats(lambda stats: set(stats["states"]) == {"fresh"})
    assert program.until_status("/health/ready", 200)["status"] == "ok"


def test_nothing_to_collect_is_said_and_still_shows_what_is_stored(started):
    program, database = started["nothing"]
    assert "nothing: HYPERLIQUID_ENABLED is false" in program.banner()
    assert "leaderboard" not in program.banner()
    stats = program.stats()
    assert (stats["connections"], stats["streams"]) == ([], {})
    assert program.until_status("/health", 200)["status"] == "ok"
    assert program.http.get("/api/orders").json()["items"] == []
    empty(database, "trades", "trader_orders")


def test_two_programs_never_share_a_data_directory_even_on_a_server_of_the_users_own(started, folder, new_database):
    program, _ = started["nothing"]
    second = finished(folder, DATA_DIR=str(program.data_dir), **new_database()[0])
    assert second.code == 2
    assert f"pid {program.pid}" in second.text()


def test_an_older_node_is_found_out(started):
    program, database = started["legacy, auto"]
    filled(database, "trader_orders", "trader_positions", "trader_accounts", "orderbooks")
    assert program.stats()["trader_feed"] == "webData2"
    assert program.event("trader_feed_changed")["feed"] == "webData2"
    assert channels(program) == {"webData2", "userHistoricalOrders", "userFills", "l2Book", "trades"}
    program.until_stats(lambda stats: set(stats["states"]) == {"fresh"})


def test_web_data2_carries_one_kind_only_when_asked(started):
    program, database = started["legacy, webData2"]
    filled(database, "trader_orders")
    empty(database, "trader_positions", "trader_accounts")
    assert not program.logged("trader_feed_changed")


def test_all_of_them_stop_cleanly(started):
    for program, _ in started.values():
        program.send()
    for name, (program, _) in started.items():
        assert program.wait() == 0, name
        assert "Traceback" not in program.text(), name
