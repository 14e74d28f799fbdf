"""``deadletters list`` and ``retry`` as a user runs them, on a real MongoDB."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from src.models.changes import FillSeen, TradeSeen
from src.models.clock import ManualClock
from src.models.messages import Fill, Trade
from src.models.metrics import Metrics
from src.pipeline.flush import Flusher
from src.pipeline.pending import Pending
from src.store.mongo import MongoStore
from tests.support.program import finished, running

pytestmark = pytest.mark.integration

TRADER = "0x" + "a" * 40
AT_MS = 1_700_000_000_000
GOOD = {"channel": "l2Book", "data": {"coin": "BTC", "time": AT_MS, "levels": [[{"px": "1", "sz": "1", "n": 1}], []]}}


def a_trade(number):
    return TradeSeen(Trade("hyperliquid", "BTC", str(number), f"{number + 1}.0", "1.0", "B", AT_MS, AT_MS))


def a_poisoned_fill():
    return FillSeen(
        Fill(
            venue="hyperliquid",
            trader=TRADER,
            coin="BTC",
            px="1",
            sz="1",
            side="B",
            oid=2**70,
            tid=1,
            crossed=True,
            dir="Open Long",
            start_position="0",
            closed_pnl="0",
            fee="0",
            fee_token="USDC",
            time_ms=AT_MS,
            received_ms=AT_MS,
        )
    )


async def flush(settings, changes):
    store = MongoStore(settings["MONGODB_URI"], settings["MONGODB_DATABASE"])
    try:
        await store.prepare()
        clock, metrics = ManualClock(wall_ms=int(time.time() * 1000)), Metrics()  # an older letter expires
        pending = Pending(10_000, clock=clock, metrics=metrics)
        pending.add(changes)
        flusher = Flusher(store=store, pending=pending, metrics=metrics, clock=clock, interval_s=1.0)
        await asyncio.wait_for(flusher.drain(), 30)
    finally:
        await store.close()


@pytest.fixture
def run(folder):
    return lambda settings, *arguments: finished(folder, "deadletters", *arguments, **settings)


def without_traceback(program, code):
    assert program.code == code, program.text()
    assert "Traceback" not in program.text()
    return "\n".join(program.out)


def test_nothing_to_show(run, new_database):
    settings, _ = new_database()
    assert without_traceback(run(settings, "list"), 0) == "no dead letters"
    assert without_traceback(run(settings, "list", "--reason", "x"), 0) == "no dead letters with reason x"
    assert without_traceback(run(settings, "retry", "--all"), 0) == "0 tried"


def test_a_poisoned_document_costs_itself_alone_and_a_refused_one_is_stored_once_mongodb_takes_it(run, new_database):
    settings, database = new_database()
    database.create_collection("trades", validator={"price": {"$ne": 500.0}})
    asyncio.run(flush(settings, [*(a_trade(number) for number in range(999)), a_poisoned_fill()]))
    assert database.trades.count_documents({}) == 998
    assert database.trader_fills.count_documents({}) == 0
    assert sorted(letter["reason"] for letter in database.dead_letters.find()) == ["not_encodable", "refused"]

    table = without_traceback(run(settings, "list"), 0)
    assert len(table.splitlines()) == 3
    identities = {line.split()[0] for line in table.splitlines()[1:]}
    assert identities == {letter["_id"] for letter in database.dead_letters.find()}
    assert "trader_fills" in table
    (refused,) = (identity for identity in identities if ":refused:" in identity)
    assert len(without_traceback(run(settings, "list", "--limit", "1"), 0).splitlines()) == 2

    told = without_traceback(run(settings, "retry", "--all"), 1)
    assert told.endswith("2 tried, 2 failed")
    assert {letter["attempts"] for letter in database.dead_letters.find()} == {1}
    assert "validation" in database.dead_letters.find_one({"_id": refused})["lastError"]

    database.command("collMod", "trades", validator={})
    assert without_traceback(run(settings, "retry", refused), 0) == "1 tried, 1 stored"
    assert database.trades.count_documents({}) == 999
    trade = database.trades.find_one({"price": 500.0})
    assert (trade["symbol"], trade["tradeId"]) == ("BTC", "499")
    resolved = database.dead_letters.find_one({"_id": refused})
    assert (resolved["resolved"], resolved["attempts"]) == (True, 2)
    remaining = without_traceback(run(settings, "list"), 0)
    assert refused not in remaining
    assert "not_encodable" in remaining
    assert refused in run(settings, "retry", refused).text()
    assert database.dead_letters.count_documents({}) == 2


@pytest.fixture
def letters_of_frames(run, folder, new_database):
    """A database with one broken frame that stays broken, and one that a mended mapper understands."""
    settings, database = new_database()
    path = folder / "broken.jsonl"
    path.write_text('{"channel":"l2Book","data":{"coin":"BTC"\n')
    assert finished(folder, "replay", path, **settings).code == 0
    (letter,) = database.dead_letters.find()
    mended = {"_id": letter["_id"] + "x", "payload": json.dumps(GOOD).encode(), "sample": "\x1b[31m[bold]"}
    database.dead_letters.insert_one({**letter, **mended, "receivedAt": datetime.fromtimestamp(AT_MS / 1000, UTC)})
    return settings, database


def test_frames_go_through_the_mapper_again(run, letters_of_frames):
    settings, database = letters_of_frames
    shown = without_traceback(run(settings, "list", "--reason", "malformed_json"), 0)
    assert "\x1b" not in shown
    assert "[31m[bold]" in shown
    told = without_traceback(run(settings, "retry", "--reason", "malformed_json"), 1)
    assert told.endswith("2 tried, 1 failed, 1 stored")
    assert database.orderbooks.count_documents({"symbol": "BTC"}) == 1
    (left,) = database.dead_letters.find({"resolved": None})
    assert left["attempts"] == 1
    assert "malformed_json" in left["lastError"]
    assert database.dead_letters.count_documents({}) == 2
    assert database.schema.find_one({"_id": "writer"})["released"]


def test_beside_a_collector_frames_wait_and_say_so(run, letters_of_frames, venue, folder):
    settings, database = letters_of_frames
    collector = {**settings, **venue.urls, "HYPERLIQUID_TRADERS": venue.traders[0], "TRADER_WS_CLIENTS": "1"}
    with running(folder / "collector", **collector) as program:
        program.banner()
        told = without_traceback(run(settings, "retry", "--all"), 1)
        assert "only while no collector runs" in told
        assert f"pid {program.pid}" in told
        assert told.endswith("2 tried, 2 cannot be tried")
        assert not list(database.dead_letters.find({"attempts": {"$exists": True}}))
        assert program.stop()[0] == 0, program.text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say which"),
        (("nobody",), "no unresolved dead letter with this id: nobody"),
        (("one", "--all"), "not both"),
    ],
)
def test_a_slip_is_told(run, new_database, arguments, told):
    settings, _ = new_database()
    program = run(settings, "retry", *arguments)
    without_traceback(program, 2)
    assert told in program.text()
