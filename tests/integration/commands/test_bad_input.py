"""What a venue must never send, between frames that are good: the good ones are stored, the bad ones are counted."""

import time

import pytest

from tests.support.program import running, wait_until
from tests.support.scripted_venue import scripted_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TRADER = "0x" + "ab" * 20
START_MS = int(time.time() * 1000)
LARGEST_SAMPLE_BYTES = 4096
FLOOD = 300
DIGITS = "9" * 400


def book(number, best=100.0):
    level = {"px": str(best), "sz": "1", "n": 1}
    other = {"px": str(best + 1), "sz": "2", "n": 1}
    return {"channel": "l2Book", "data": {"coin": "BTC", "time": START_MS + number, "levels": [[level], [other]]}}


def orders(*oids, **changes):
    listed = [
        {
            "oid": oid,
            "coin": "BTC",
            "side": "B",
            "limitPx": "99.5",
            "sz": "1.5",
            "origSz": "2.0",
            "timestamp": START_MS,
            "orderType": "Limit",
            "tif": "Gtc",
            **changes,
        }
        for oid in oids
    ]
    return {"channel": "openOrders", "data": {"user": TRADER, "dex": "", "orders": listed}}


UNUSABLE_TEXTS = {
    "cut off": '{"channel":"l2Book","data":{"coin":"BTC","ti',
    "empty list": "[]",
    "null": "null",
    "a word": '"hello"',
    "empty": "",
    "not JSON": "<html><title>502 Bad Gateway</title></html>",
    "NaN": '{"channel":"l2Book","data":{"coin":"BTC","time":NaN,"levels":[[],[]]}}',
    "a time of 400 digits": f'{{"channel":"l2Book","data":{{"coin":"BTC","time":{DIGITS},"levels":[[],[]]}}}}',
    "nested too deeply": "[" * 200_000,
    "no such shape": '{"channel":"openOrders","data":{"user":5,"orders":{}}}',
    "broken surrogate": '{"channel":"l2Book","data":{"coin":"\\ud800","time":1,"levels":[[],[]]}}',
}
UNUSABLE_NUMBERS = {
    "NaN as text": orders(900, limitPx="NaN"),
    "infinite": orders(901, sz="Infinity"),
    "a price of 400 digits": orders(902, limitPx=DIGITS),
    "too large for a double": orders(903, limitPx="1e999"),
    "an id beyond 64 bits": orders(10**30),
    "a word as a price": orders(904, limitPx="cheap"),
}
UNKNOWN = {"channel": "somethingNew", "data": {"x": 1}}


@pytest.fixture(scope="module")
def scripted():
    with scripted_venue() as running_venue:
        yield running_venue


@pytest.fixture(scope="module")
def stored(new_database):
    return new_database()


@pytest.fixture(scope="module")
def program(folder, scripted, stored):
    settings = {
        **stored[0],
        "HYPERLIQUID_WS_URL": scripted.ws_url,
        "HYPERLIQUID_TRADERS": TRADER,
        "HYPERLIQUID_COINS": "BTC",
        "HYPERLIQUID_TRADER_FEED": "split",
        "TRADER_WS_CLIENTS": "1",
    }
    with running(folder, **settings) as started:
        started.banner()
        wait_until(lambda: len(scripted.subscribed) == 6, what="all subscriptions")
        yield started


@pytest.fixture(scope="module")
def database(stored):
    return stored[1]


def rejected(program):
    return sum(program.stats()["messages_rejected"].values())


def test_good_frames_before(program, scripted, database):
    scripted.send(book(1), orders(1, 2))
    wait_until(lambda: database.orderbooks.find_one({"timestamp": {"$exists": True}}))
    wait_until(lambda: database.trader_orders.count_documents({"status": "open"}) == 2)


@pytest.mark.parametrize("name", UNUSABLE_TEXTS)
def test_unusable_text_is_counted_and_kept(program, scripted, database, name):
    before, connects, letters = rejected(program), scripted.connects, database.dead_letters.count_documents({})
    scripted.send(UNUSABLE_TEXTS[name])
    program.until_stats(lambda stats: sum(stats["messages_rejected"].values()) == before + 1, what=f"{name} counted")
    wait_until(lambda: database.dead_letters.count_documents({}) == letters + 1, what=f"{name} kept")
    assert scripted.connects == connects


@pytest.mark.parametrize("name", UNUSABLE_NUMBERS)
def test_unusable_numbers_are_counted_and_never_stored(program, scripted, database, name):
    before, connects = program.stats()["dead_letters"], scripted.connects
    scripted.send(UNUSABLE_NUMBERS[name])
    program.until_stats(lambda stats: stats["dead_letters"] > before, what=f"{name} counted")
    assert scripted.connects == connects
    assert database.trader_orders.count_documents({"oid": {"$gt": 800}}) == 0


def test_a_binary_frame_is_counted_by_its_own_reason(program, scripted):
    scripted.send(b"\x00\xff\x10")
    program.until_stats(lambda stats: stats["messages_rejected"].get("binary_frame") == 1)


def test_an_unknown_channel_is_counted_by_its_own_reason(program, scripted):
    scripted.send(UNKNOWN)
    program.until_stats(lambda stats: stats["messages_rejected"].get("unknown_channel") == 1)


def test_a_flood_of_garbage_is_counted_in_full_and_kept_as_a_sample(program, scripted, database):
    before = rejected(program)
    scripted.send(*["[]"] * FLOOD)
    program.until_stats(lambda stats: sum(stats["messages_rejected"].values()) == before + FLOOD)
    wait_until(lambda: program.stats()["pending"] == 0)
    assert database.dead_letters.count_documents({}) < FLOOD / 2
    assert len([event for event in program.events if event["event"] == "frame_rejected"]) < 12


def test_a_frame_of_20_mib_costs_one_reconnect(program, scripted, database):
    connects = scripted.connects
    scripted.send(book(8), orders(1, 2), '{"channel":"l2Book","data":"' + "x" * 20 * 1024 * 1024 + '"}')
    wait_until(lambda: scripted.connects == connects + 1, what="the reconnect")
    program.until_stats(lambda stats: sum(n for r, n in stats["messages_rejected"].items() if "big" in r) == 1)
    # At least: a venue that stays silent for long enough is asked anew as well.
    wait_until(lambda: len(scripted.subscribed) >= 12, what="all subscriptions again")
    wait_until(lambda: database.coverage.count_documents({"reason": "disconnect"}) >= 2)


def test_dead_letters_are_small_and_say_why(program, database):
    wait_until(lambda: program.stats()["pending"] == 0)
    letters = list(database.dead_letters.find({}))
    assert len({letter["reason"] for letter in letters}) >= 3
    for letter in letters:
        assert letter["venue"] == "hyperliquid" or letter["stage"] == "store"
        assert letter["reason"]
        assert letter["receivedAt"]
        assert len(letter["sample"]) <= LARGEST_SAMPLE_BYTES
    assert max(letter["sizeBytes"] for letter in letters) > 20 * 1024 * 1024


def test_good_frames_after(program, scripted, database):
    scripted.send(book(1000, best=123.0), orders(2, 3))
    wait_until(lambda: (database.orderbooks.find_one({}) or {}).get("bids", [[0]])[0][0] == 123.0)
    wait_until(lambda: {d["oid"] for d in database.trader_orders.find({"status": "open"})} == {2, 3})
    assert database.trader_orders.find_one({"oid": 1})["status"] == "closed"
    assert program.stats()["task_failures"] == {}
    assert program.stop()[0] == 0
    assert "Traceback" not in program.text()
