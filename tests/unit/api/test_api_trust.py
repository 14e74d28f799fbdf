"""Can I trust what is stored of somebody between two moments?"""

from datetime import timedelta

import pytest

from src.api import coverage
from src.api.cursors import EPOCH
from src.api.trust import judge_streams
from src.models.writes import Collection

DAY_S = 86_400


@pytest.fixture
def holes(world):
    """``holes(stream, begin, end, …)`` adds a hole in days from START; ``end`` None = it lasts."""
    rows = world.store.documents.setdefault(Collection.COVERAGE, [])
    now = world.start + timedelta(100)
    world.clock.jump(((now - EPOCH) / timedelta(milliseconds=1) - world.clock.wall_ms()) / 1000)

    def add(channel, begin, end, *, subject=world.alice, **fields):
        stream = f"hyperliquid/{channel}/{subject}"
        begins = EPOCH if begin is None else world.start + timedelta(begin)
        rows.append(
            {
                "_id": f"{stream}:{begin}",
                "venue": "hyperliquid",
                "stream": stream,
                "subject": subject,
                "reason": "disconnect",
                "from": begins,
                "to": None if end is None else world.start + timedelta(end),
                "repaired": False,
            }
            | fields
        )

    return add


async def ask(world, client, begin, end, **subject):
    params = {
        "from": (world.start + timedelta(begin)).isoformat().replace("+00:00", "Z"),
        "to": (world.start + timedelta(end)).isoformat().replace("+00:00", "Z"),
    } | (subject or {"ethAddress": world.alice.upper().replace("0X", "0x")})
    answer = await client.get("/api/coverage/answer", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_nobody_was_ever_collected(world, client, holes):
    holes("openOrders", None, 1, subject=world.bob)
    answer = await ask(world, client, 2, 3)
    assert answer["trusted"] is False
    assert answer["streams"] == []
    assert "ever collected" in answer["text"]


async def test_a_time_without_holes_is_trusted(world, client, holes):
    holes("openOrders", None, 1)
    holes("openOrders", 5, 6)
    holes("userFills", None, 1)
    answer = await ask(world, client, 2, 5)
    assert answer["trusted"] is True
    assert answer["unrepaired"] == []
    assert [(row["coveredShare"], row["holes"]) for row in answer["streams"]] == [(1.0, 0), (1.0, 0)]


async def test_a_hole_is_told_with_its_share(world, client, holes):
    holes("openOrders", None, 1)
    holes("openOrders", 3, 4, reason="silence")
    holes("userFills", None, 1)
    holes("userFills", 3, 4, repaired=True)
    answer = await ask(world, client, 2, 6)
    assert answer["trusted"] is False
    orders, fills = answer["streams"]
    assert (orders["seenShare"], orders["coveredShare"], orders["unrepaired"]) == (0.75, 0.75, 1)
    assert orders["longestGapS"] == DAY_S
    assert (fills["seenShare"], fills["coveredShare"], fills["unrepaired"]) == (0.75, 1.0, 0)
    assert [hole["reason"] for hole in answer["unrepaired"]] == ["silence"]
    assert "openOrders" in answer["text"]
    assert "userFills" not in answer["text"]


async def test_repaired_holes_alone_can_be_trusted(world, client, holes):
    holes("userFills", None, 1)
    holes("userFills", 3, 4, repaired=True)
    assert (await ask(world, client, 2, 6))["trusted"] is True


async def test_before_it_was_followed_nothing_can_be_trusted(world, client, holes):
    holes("openOrders", None, 4)
    answer = await ask(world, client, 2, 6)
    assert answer["trusted"] is False
    assert answer["streams"][0]["coveredShare"] == 0.5


async def test_before_the_first_known_hole_of_an_older_database_nothing_can_be_trusted(world, client, holes):
    holes("openOrders", 4, 5, repaired=True)
    answer = await ask(world, client, 2, 6)
    assert answer["trusted"] is False
    assert answer["streams"][0]["coveredShare"] == 0.5
    later = await ask(world, client, 6, 8)
    assert later["trusted"] is True


async def test_a_hole_that_lasts_reaches_to_the_end(world, client, holes):
    holes("openOrders", None, 1)
    holes("openOrders", 5, None)
    assert (await ask(world, client, 2, 6))["streams"][0]["coveredShare"] == 0.75
    assert (await ask(world, client, 2, 5))["trusted"] is True


async def test_the_future_has_not_been_seen(world, client, holes):
    holes("openOrders", None, 1)
    answer = await ask(world, client, 99, 101)
    assert answer["trusted"] is False
    assert answer["streams"][0]["coveredShare"] == 0.5


async def test_a_symbol_is_asked_for_in_the_same_way(world, client, holes):
    holes("l2Book", None, 1, subject="BTC")
    holes("openOrders", None, 1)
    answer = await ask(world, client, 2, 3, symbol="BTC")
    assert [row["stream"] for row in answer["streams"]] == ["hyperliquid/l2Book/BTC"]
    assert (await ask(world, client, 2, 3, symbol="BTC", venue="alpaca"))["streams"] == []


async def test_a_single_millisecond_is_enough_to_doubt(world, client, holes):
    holes("openOrders", None, 1)
    holes("openOrders", 2, 2 + 1 / DAY_S / 1000)
    answer = await ask(world, client, 1, 90)
    assert answer["trusted"] is False
    assert answer["streams"][0]["coveredShare"] < 1


@pytest.mark.parametrize(
    ("params", "hint"),
    [
        ({}, "from"),
        ({"from": "2026-01-01", "to": "2026-01-02"}, "either"),
        ({"from": "2026-01-01", "to": "2026-01-02", "symbol": "BTC", "ethAddress": "0x" + "a" * 40}, "either"),
        ({"from": "2026-01-02", "to": "2026-01-01", "symbol": "BTC"}, "before"),
        ({"from": "2026-01-01", "to": "2026-01-02", "ethAddress": "0x12"}, "ethAddress"),
        ({"from": "2026-01-01", "to": "2026-01-02", "symbol": "BTC", "limit": "5"}, "limit"),
    ],
)
async def test_wrong_questions_are_refused(client, params, hint):
    answer = await client.get("/api/coverage/answer", params=params)
    assert answer.status_code == 422
    assert hint in answer.json()["detail"]


async def test_too_many_holes_ask_for_a_shorter_time(world, client, holes, monkeypatch):
    monkeypatch.setattr(coverage, "MOST_HOLES", 3)
    for day in range(4):
        holes("openOrders", day, day + 0.5)
    params = {"ethAddress": world.alice, "from": "2026-01-01", "to": "2026-01-31"}
    answer = await client.get("/api/coverage/answer", params=params)
    assert answer.status_code == 422
    assert "shorter" in answer.json()["detail"]


def test_overlapping_holes_count_once(world):
    start, day = world.start, timedelta(1)
    rows = [
        {"stream": "s", "from": EPOCH, "to": start, "repaired": False},
        {"stream": "s", "from": start + day, "to": start + 3 * day, "repaired": False},
        {"stream": "s", "from": start + 2 * day, "to": start + 4 * day, "repaired": False},
        {"stream": "s", "from": start + 2 * day, "to": start + 3 * day, "repaired": True},
    ]
    [verdict] = judge_streams(rows, start, start + 10 * day, start + 100 * day)
    assert verdict.covered == pytest.approx(0.7)
    assert verdict.longest_s == 3 * DAY_S
    assert (verdict.holes, verdict.unrepaired) == (3, 2)
