"""Order-book sessions of the running program: over HTTP, into CSV files and MongoDB, over restarts and a kill."""

import csv
import re
import signal
from datetime import datetime

import pytest
from pymongo import MongoClient

from tests.support.program import running, wait_until
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

URL = "/api/orderbook/streams"


@pytest.fixture(scope="module")
def venue():
    with simulated_venue(traders=1) as started:
        yield started


@pytest.fixture
def settings(venue, mongo_uri, database_name):
    return {
        **venue.urls,
        "MONGODB_URI": mongo_uri,
        "MONGODB_DATABASE": database_name,
        "HYPERLIQUID_COINS": "BTC",
        "HYPERLIQUID_BOOK_FAST": "true",
        "TRADER_WS_ENABLED": "false",
    }


@pytest.fixture
def database(mongo_uri, database_name):
    with MongoClient(mongo_uri, serverSelectionTimeoutMS=2000, tz_aware=True) as client:
        yield client[database_name]


def start(program, *tickers, **more):
    answer = program.http.post(URL, json={"tickers": list(tickers), "venue": "hyperliquid", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stats(program, session_id):
    """Statistics of a session; right after the start of the program they take a moment."""
    return program.until_status(f"{URL}/{session_id}", 200)["stats"]


def counted(program, session_id, ticker, count):
    return wait_until(
        lambda: (found := stats(program, session_id))["message_counts"][ticker] >= count and found,
        what=f"{count} books",
    )


def files(folder):
    return sorted(path for path in (folder / "data" / "orderbook").rglob("*.csv"))


def rows_of(folder, ticker):
    """All rows of a ticker over all days, one header per file."""
    found = []
    for path in files(folder):
        if path.stem.partition("_")[2] == ticker:
            header, *rows = list(csv.reader(path.read_text().splitlines()))
            assert header == ["timestamp", "price", "lots", "total_value", "side"]
            found += rows
    return found


def books_in(rows):
    """Rows by their time in ms: ``{time: (bids, offers)}`` with ``(price, size, orders)``."""
    found = {}
    for time, price, orders, size, side in rows:
        at = round(datetime.fromisoformat(time).timestamp() * 1000)
        found.setdefault(at, ([], []))[side == "OFFER"].append([float(price), float(size), int(orders)])
    return found


def test_sessions_count_write_share_and_stop(tmp_path, settings, database):
    with running(tmp_path, **settings) as program:
        first = start(program, "BTC", "ETH")
        assert set(first) == {"success", "session_id", "tickers", "started_at", "venue"}
        assert re.fullmatch(r"stream_\d{8}_\d{6}", first["session_id"])
        second = start(program, "ETH", session_id="mine")
        found = counted(program, first["session_id"], "BTC", 5)
        assert (found["running"], found["status"], found["connection_status"]) == (True, "running", "connected")
        counted(program, "mine", "ETH", 5)
        streams = program.stats()["streams"]
        assert sum("l2Book/ETH" in name for name in streams) == 1, "one subscription for both"
        listed = program.http.get(URL).json()
        assert [session["session_id"] for session in listed["sessions"]] == [first["session_id"], "mine"]

        again = program.http.post(URL, json={"tickers": ["BTC"], "venue": "hyperliquid", "session_id": "mine"})
        assert (again.status_code, again.json()["error"]) == (400, "Session mine already exists")
        login = program.http.post(URL, json={"tickers": ["BBCA"]})
        assert login.status_code == 400
        assert login.json()["success"] is False

        stopped = program.http.post(f"{URL}/{first['session_id']}/stop").json()
        assert set(stopped) == {"success", "session_id", "stopped_at"}
        assert stats(program, first["session_id"])["status"] == "stopped"
        before = stats(program, "mine")["message_counts"]["ETH"]
        counted(program, "mine", "ETH", before + 5)
        btc = rows_of(tmp_path, "BTC")
        counted(program, "mine", "ETH", before + 10)
        assert rows_of(tmp_path, "BTC") == btc, "nobody wants BTC any more"
        assert program.stop()[0] == 0

    count = database.streams.find_one({"_id": "mine"})["messages"][0]["count"]
    books = books_in(rows_of(tmp_path, "ETH"))
    assert len(books) >= count > before, "two sessions, one file: each message is there once"
    assert len(rows_of(tmp_path, "ETH")) == sum(len(bids) + len(offers) for bids, offers in books.values())
    assert second["tickers"] == ["ETH"]


def test_files_and_mongodb_agree_level_by_level(tmp_path, settings, database):
    with running(tmp_path, **settings) as program:
        session = start(program, "BTC")["session_id"]
        began = counted(program, session, "BTC", 1)
        counted(program, session, "BTC", began["message_counts"]["BTC"] + 20)
        assert program.stop()[0] == 0
    books = books_in(rows_of(tmp_path, "BTC"))
    first, last = min(books), max(books)
    stored = {
        round(one["timestamp"].timestamp() * 1000): (one["bids"], one["asks"])
        for one in database.orderbook_snapshots.find({"venue": "hyperliquid", "symbol": "BTC"})
    }
    compared = {at: book for at, book in stored.items() if first <= at <= last}
    assert len(compared) >= 15
    assert max(stored) == last, "the last book before the stop is in both"
    for at, (bids, asks) in compared.items():
        assert books[at] == (bids, asks), at


def test_sessions_go_on_after_a_clean_stop_and_after_a_kill(tmp_path, settings, database):
    with running(tmp_path, **settings) as program:
        session = start(program, "BTC")["session_id"]
        counted(program, session, "BTC", 5)
        assert program.stop()[0] == 0
    stored = database.streams.find_one({"_id": session})
    assert stored["status"] == "interrupted"
    count = stored["messages"][0]["count"]

    with running(tmp_path, **settings) as program:
        program.banner()
        counted(program, session, "BTC", count + 5)
        assert stats(program, session)["started_at"] == stored["startedAt"].replace(tzinfo=None).isoformat()
        program.send(signal.SIGKILL)
        program.wait()
    path = files(tmp_path)[-1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])  # as a power cut in the middle of a write leaves it

    with running(tmp_path, **settings) as program:
        program.banner()
        counted(program, session, "BTC", stored["messages"][0]["count"] + 3)
        program.event("csv_file_repaired")
        assert program.http.post(f"{URL}/{session}/stop").status_code == 200
        assert program.stop()[0] == 0
    assert all(len(row) == 5 for row in rows_of(tmp_path, "BTC"))
    assert database.streams.find_one({"_id": session})["status"] == "stopped"

    with running(tmp_path, **settings) as program:
        program.banner()
        assert stats(program, session)["status"] == "stopped"
