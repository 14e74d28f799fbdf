"""``backfill`` as a process: alone, beside a collector, interrupted, and asked for nonsense."""

import signal

import pytest

from src.venues.hyperliquid.simulator import Limits
from tests.support.program import finished, running, wait_until
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FREE = Limits(connects_per_minute=None, messages_per_minute=None, rest_weight_per_minute=None)


@pytest.fixture(scope="module")
def lively():
    with simulated_venue(seed=81, traders=3, actions_per_s=25.0, limits=FREE) as venue:
        yield venue


@pytest.fixture
def world(lively, new_database):
    settings, database = new_database()
    return {**lively.urls, **settings, "HYPERLIQUID_LEADERBOARD": "never"}, database


def follow(folder, settings, *traders):
    added = finished(folder, "traders", "add", *traders, **settings)
    assert added.code == 0, added.text()


def whole(database):
    """Every stored order has all its events, once and in order."""
    for order in database.trader_orders.find({}):
        found = database.trader_order_events.find({"ethAddress": order["ethAddress"], "oid": order["oid"]})
        revisions = sorted(event["revision"] for event in found)
        assert revisions == list(range(1, order["revision"] + 1)), order["_id"]
    return True


def test_nobody_to_read_is_told(tmp_path, world):
    run = finished(tmp_path, "backfill", "orders", **world[0])
    assert run.code == 2
    assert "nobody is followed" in run.text()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["orders", "--trader", "0x12"], "not an address"),
        (["fills", "--from", "yesterday"], "not a time"),
        (["fills", "--from", "2026-02-01", "--to", "2026-01-01"], "is not after"),
        (["fills", "--from", "1950-01-01"], "before 1970"),
        (["trades", "--venue", "nowhere"], "no history of trades"),
        (["trades", "--symbol", "b?c"], "is not a coin"),
    ],
)
def test_nonsense_is_refused_with_a_remedy_before_anything_is_started(tmp_path, world, arguments, hint):
    run = finished(tmp_path, "backfill", *arguments, **world[0])
    assert run.code == 2, run.text()
    assert hint in run.text()
    assert "Traceback" not in run.text()


def test_without_a_collector_it_reads_by_itself_and_a_second_time_only_what_is_new(tmp_path, world, lively):
    settings, database = world
    follow(tmp_path, settings, *lively.traders)
    first = finished(tmp_path, "backfill", "orders", **settings)
    assert first.code == 0, first.text()
    assert "3 of 3 traders read" in first.out[-1]
    stored = database.trader_orders.count_documents({"source": "history"})
    assert stored > 0
    assert first.out[-1].startswith(f"{stored} orders stored that were missing")
    assert whole(database)
    assert {d["kind"] for d in database.backfills.find({})} == {"orders"}
    fills = finished(tmp_path, "backfill", "fills", "--trader", lively.traders[0], **settings)
    assert fills.code == 0, fills.text()
    assert database.trader_fills.count_documents({"ethAddress": lively.traders[0]}) > 0
    lively.do(lively.simulator.market.freeze)
    for kind in ("orders", "fills"):
        finished(tmp_path, "backfill", kind, **settings)
        again = finished(tmp_path, "backfill", kind, **settings)
        assert again.out[-1].startswith(f"0 {kind} stored"), again.text()


def test_trades_are_what_the_venue_offers_and_it_says_so(tmp_path, world):
    settings, database = world
    run = finished(tmp_path, "backfill", "trades", "--symbol", "BTC", "--symbol", "ETH", **settings)
    assert run.code == 0, run.text()
    assert "no history of public trades" in run.out[0]
    assert "2 of 2 symbols read" in run.out[-1]
    assert set(database.trades.distinct("symbol")) <= {"BTC", "ETH"}
    assert database.trades.count_documents({}) > 0
    assert database.candles.count_documents({"interval": "1m"}) > 0


def test_a_venue_that_does_not_answer_is_told_with_exit_code_1_and_the_cursor_stays(tmp_path, world, lively):
    settings, database = world
    follow(tmp_path, settings, lively.traders[0])
    nowhere = {**settings, "HYPERLIQUID_API_URL": lively.urls["HYPERLIQUID_STATS_URL"] + "/nothing"}
    run = finished(tmp_path, "backfill", "orders", timeout_s=110, **nowhere)
    assert run.code == 1, run.text()
    assert f"not read: {lively.traders[0]}" in run.text()
    assert database.backfills.count_documents({}) == 0


def test_interrupted_it_says_that_nothing_is_lost_and_gives_the_lease_back(tmp_path, new_database):
    with simulated_venue(seed=82, traders=2, limits=Limits(rest_weight_per_minute=1)) as venue:
        settings, database = new_database()
        settings = {**venue.urls, **settings}
        follow(tmp_path, settings, *venue.traders)
        with running(tmp_path, "backfill", "fills", **settings) as program:
            wait_until(lambda: database["schema"].find_one({"_id": "writer", "released": False}), what="the lease")
            code, _ = program.stop(signal.SIGINT)
        assert code == 130, program.text()
        assert "the next run goes on from there" in program.text()
        assert "Traceback" not in program.text()
        assert database["schema"].find_one({"_id": "writer"})["released"] is True


def test_beside_a_collector_that_one_reads_and_the_command_shows_it(tmp_path, new_database):
    with simulated_venue(seed=83, traders=3, actions_per_s=25.0, limits=FREE) as venue:
        settings, database = new_database()
        followed, other = venue.traders[:2], venue.traders[2]
        settings = {**venue.urls, **settings, "HYPERLIQUID_TRADERS": ",".join(followed), "HYPERLIQUID_COINS": "BTC"}
        with running(tmp_path / "collector", **settings) as program:
            program.banner()
            wait_until(
                lambda: database.backfills.count_documents({"readAt": {"$ne": None}}) == 4, what="all read once"
            )
            run = finished(tmp_path, "backfill", "orders", "--trader", other, "--trader", followed[0], **settings)
            assert run.code == 0, run.text()
            assert "2 of 2 traders read" in run.out[-1]
            assert database.trader_orders.count_documents({"ethAddress": other, "source": "history"}) > 0
            ranged = finished(tmp_path, "backfill", "fills", "--from", "2020-01-01", **settings)
            assert ranged.code == 0, ranged.text()
            assert database["schema"].find_one({"_id": "writer"})["pid"] == program.pid
            code, _ = program.stop()
            assert code == 0, program.text()
        assert whole(database)
        assert database.dead_letters.count_documents({}) == 0


def test_a_collector_that_does_not_read_histories_is_not_waited_for_for_ever(tmp_path, new_database):
    with simulated_venue(seed=84, traders=1, limits=FREE) as venue:
        settings, database = new_database()
        settings = {**venue.urls, **settings, "HYPERLIQUID_TRADERS": venue.traders[0]}
        with running(tmp_path / "collector", HYPERLIQUID_BACKFILL="false", **settings) as program:
            program.banner()
            with running(tmp_path, "backfill", "orders", **settings) as command:
                wait_until(lambda: database.backfills.find_one({"asked": True}), what="the request")
                code, _ = command.stop(signal.SIGINT)
            assert code == 130, command.text()
            assert database.backfills.count_documents({"asked": True}) == 0
            program.stop()
