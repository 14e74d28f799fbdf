"""``traders discover`` and ``import`` as processes, and what becomes of the open orders of those who are let go."""

import pytest

from src.venues.hyperliquid.simulator import Limits
from tests.support.program import finished, running, wait_until
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FREE = Limits(connects_per_minute=None, messages_per_minute=None, rest_weight_per_minute=None)


@pytest.fixture
def world(venue, new_database):
    settings, database = new_database()
    return {**venue.urls, **settings}, database


def rows(run):
    return [line.split() for line in run.out if line.split()[0].isdigit()]


# -- discover ----------------------------------------------------------------------------------------------------------


def test_discover_shows_the_best_and_changes_nothing(tmp_path, venue, world):
    settings, database = world
    run = finished(tmp_path, "traders", "discover", "--count", "4", **settings)
    assert run.code == 0, run.text()
    assert [row[1] for row in rows(run)] == venue.traders[:4]
    assert [float(row[2]) for row in rows(run)] == sorted((float(row[2]) for row in rows(run)), reverse=True)
    assert "nobody was added" in run.out[-1]
    assert database.list_collection_names() == []


def test_discover_adds_when_told_to(tmp_path, venue, world):
    settings, database = world
    run = finished(tmp_path, "traders", "discover", "--count", "3", "--add", **settings)
    assert run.code == 0, run.text()
    assert run.out[-1] == "3 added, 0 followed already"
    documents = list(database.traders.find({"enabled": True}))
    assert {d["ethAddress"] for d in documents} == set(venue.traders[:3])
    assert {d["source"] for d in documents} == {"discovered"}
    assert all(d["score"] > 0 and d["tier"] == 1 and "lb:top10" in d["tags"] for d in documents)


def test_discover_takes_conditions_and_tells_when_nobody_fulfils_them(tmp_path, world):
    settings, _ = world
    some = finished(tmp_path, "traders", "discover", "--filter", "month.roi>=0.15", **settings)
    assert some.code == 0, some.text()
    assert 0 < len(rows(some)) < 20
    nobody = finished(tmp_path, "traders", "discover", "--filter", "accountValue>1e15", **settings)
    assert nobody.code == 1
    assert "nobody of" in nobody.text()
    wrong = finished(tmp_path, "traders", "discover", "--filter", "luck>1", **settings)
    assert wrong.code == 2
    assert "use one of accountValue" in wrong.text()


# -- import ------------------------------------------------------------------------------------------------------------


def test_import_follows_everybody_in_a_file(tmp_path, venue, world):
    settings, database = world
    file = tmp_path / "whales.csv"
    file.write_text(
        f"name,ethAddress,tags\nx,{venue.traders[0].upper().replace('0X', '0x')},big\ny,{venue.traders[1]},\n"
    )
    run = finished(tmp_path, "traders", "import", file, "--tag", "list", **settings)
    assert run.code == 0, run.text()
    assert run.out[-1] == "2 added, 0 followed already"
    tags = {d["ethAddress"]: d["tags"] for d in database.traders.find({"enabled": True})}
    assert tags == {venue.traders[0]: ["big", "list"], venue.traders[1]: ["list"]}


def test_import_of_a_file_with_mistakes_adds_nobody(tmp_path, venue, world):
    settings, database = world
    file = tmp_path / "list.txt"
    file.write_text(f"{venue.traders[0]}\n0x12\n")
    run = finished(tmp_path, "traders", "import", file, **settings)
    assert run.code == 2
    assert "line 2: '0x12'" in run.text()
    assert database.list_collection_names() == []
    missing = finished(tmp_path, "traders", "import", tmp_path / "none.txt", **settings)
    assert missing.code == 2
    assert "cannot be read" in missing.text()


# -- let go ------------------------------------------------------------------------------------------------------------


def statuses(database, trader):
    return set(database.trader_orders.distinct("status", {"ethAddress": trader}))


def open_somewhere(database, trader):
    return database.trader_orders.find_one(
        {"ethAddress": trader, "status": "open"}
    ) and database.trader_positions.find_one({"ethAddress": trader, "status": "open"})


def nothing_open(database, trader):
    """Orders are stored before the positions of the same moment."""
    open_positions = database.trader_positions.count_documents({"ethAddress": trader, "status": "open"})
    return "open" not in statuses(database, trader) and not open_positions


def test_who_is_let_go_leaves_untracked_orders_and_comes_back_without_a_gap(tmp_path, new_database):
    with simulated_venue(seed=91, traders=2, actions_per_s=2.0, limits=FREE) as venue:
        settings, database = new_database()
        settings = {**venue.urls, **settings, "HYPERLIQUID_LEADERBOARD": "never"}
        gone, stays = venue.traders
        assert finished(tmp_path, "traders", "add", gone, stays, **settings).code == 0
        with running(tmp_path / "collector", **settings) as program:
            program.banner()
            wait_until(lambda: open_somewhere(database, gone) and open_somewhere(database, stays), what="open orders")
            assert finished(tmp_path, "traders", "remove", gone, **settings).code == 0
            wait_until(lambda: nothing_open(database, gone), what="nothing open of who is gone")
            left = database.trader_orders.find_one({"ethAddress": gone, "status": "untracked"})
            assert left["untrackedAt"] is not None
            assert left.get("closedAt") is None
            assert database.trader_positions.count_documents({"ethAddress": gone, "status": "open"}) == 0
            assert database.trader_positions.count_documents({"ethAddress": gone, "status": "untracked"}) > 0
            assert "open" in statuses(database, stays)
            answer = program.http.get("/api/orders", params={"ethAddress": gone, "status": "untracked"})
            assert answer.status_code == 200
            assert answer.json()["items"]
            assert finished(tmp_path, "traders", "add", gone, **settings).code == 0
            wait_until(lambda: "untracked" not in statuses(database, gone), what="everything seen again")
            assert program.stop()[0] == 0
        for order in database.trader_orders.find({"ethAddress": gone}):
            events = database.trader_order_events.find({"ethAddress": gone, "oid": order["oid"]})
            revisions = sorted(event["revision"] for event in events)
            assert revisions == list(range(1, order["revision"] + 1))


def test_who_is_let_go_while_nobody_collects_is_untracked_at_the_next_start(tmp_path, new_database):
    with simulated_venue(seed=92, traders=2, actions_per_s=2.0, limits=FREE) as venue:
        settings, database = new_database()
        settings = {**venue.urls, **settings, "HYPERLIQUID_LEADERBOARD": "never"}
        gone, stays = venue.traders
        assert finished(tmp_path, "traders", "add", gone, stays, **settings).code == 0
        with running(tmp_path / "collector", **settings) as program:
            wait_until(lambda: open_somewhere(database, gone), what="open orders")
            assert program.stop()[0] == 0
        assert finished(tmp_path, "traders", "remove", gone, **settings).code == 0
        assert "open" in statuses(database, gone)
        with running(tmp_path / "collector", **settings) as program:
            program.banner()
            wait_until(lambda: nothing_open(database, gone), what="nothing open of who is gone")
            assert "untracked" in statuses(database, gone)


def test_with_nobody_named_the_best_of_the_leaderboard_are_followed(tmp_path, new_database):
    with simulated_venue(seed=93, traders=4, limits=FREE) as venue:
        settings, database = new_database()
        settings = {**venue.urls, **settings, "HYPERLIQUID_LEADERBOARD_COUNT": "2"}
        with running(tmp_path, **settings) as program:
            assert "the top 2 of the leaderboard" in program.banner()
            program.event("leaderboard_read", added=2)
            program.until_stats(lambda stats: stats["tracked_traders"] == 2, what="two followed traders")
            followed = {d["ethAddress"] for d in database.traders.find({"enabled": True, "source": "leaderboard"})}
            assert followed == set(venue.traders[:2])
            assert database.leaderboard_history.count_documents({}) == 200
            assert database["schema"].find_one({"_id": "leaderboard"})["rows"] == 200
