"""From one noon to the next morning in seconds: the whole program, real sockets, a real MongoDB, and misfortunes.

The long form is ``uv run python -m tests.faults.stockbit_soak --hours 100``.
"""

import pytest
from pymongo import MongoClient

from tests.support.stockbit_judge import Shown, judge
from tests.support.stockbit_soak import HOUR_MS, Misfortune, Plan, misfortunes_of, soak

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIDNIGHT_MS = 1_770_138_000_000  # Wednesday, 2026-02-04 in Jakarta


def at(hours):
    return MIDNIGHT_MS + round(hours * HOUR_MS)


PLAN = Plan(
    start_ms=at(11.8),
    hours=21.5,
    speed=1_800.0,
    misfortunes=(
        Misfortune(at(12.5), "drop"),
        Misfortune(at(14.3), "login"),
        Misfortune(at(15.0), "down"),
        Misfortune(at(23.99), "drop"),
    ),
)


async def test_noon_to_morning_with_lunch_midnight_drops_and_tokens_that_die(tmp_path, mongo_uri, database_name):
    shown = Shown()
    verdict = await soak(tmp_path / "data", mongo_uri, database_name, PLAN, shown=shown)
    assert verdict.problems == [], verdict.figures
    figures = verdict.figures
    assert figures["breaks"] == {"drop": 2, "login": 1, "down": 1, "expiry": figures["breaks"]["expiry"]}
    assert figures["breaks"]["expiry"] >= 1
    assert figures["tokens_renewed"] >= 2
    assert figures["holes_of_books"] == 3 * (figures["connections"] - 1)
    assert figures["files"] == 6, "three shares on two days"
    assert figures["sides_written"] > 200
    assert figures["snapshot_levels_compared"] > 200 * 60
    assert figures["trades_stored"] > 20
    assert figures["sides_lost"] == figures["trades_lost"] == 0
    assert figures["health"] == "ok"
    with MongoClient(mongo_uri, serverSelectionTimeoutMS=5000, tz_aware=True) as client:
        _the_judge_can_see(tmp_path / "data" / "orderbook", client[database_name], shown)


def _the_judge_can_see(folder, database, shown):
    """Spoil one thing after the other; each adds a problem of its own kind."""
    path = min(folder.glob("*_BBCA.csv"))
    lines = path.read_text().splitlines(keepends=True)
    first = lines[1].split(",")
    other = ",".join([*first[:7], str(int(first[7]) + 1), *first[8:]])
    inside = {f"{seq}\n" for seq in _amid_others(shown, "BBCA")}
    third = next(seq for line in lines[121:] if (seq := line.split(",")[-1]) in inside)
    book = database.orderbook_snapshots.find_one({"symbol": "BBRI", "bidsAt": {"$ne": None}}, sort=[("_id", -1)])
    book["bids"][3][2] += 1
    hole = database.coverage.find_one({"stream": "stockbit/order_book/TLKM", "reason": "disconnect"})["_id"]
    spoils = {
        "there twice": lambda: path.write_text("".join([*lines, *lines[1:61]])),
        "never sent so": lambda: path.write_text("".join([lines[0], other, *lines[2:]])),
        "heard, and in no file": lambda: path.write_text(
            "".join(line for line in lines if not line.endswith(f",{third}"))
        ),
        "differ": lambda: database.orderbook_snapshots.replace_one({"_id": book["_id"]}, book),
        "has another": lambda: database.orderbooks.update_one({"symbol": "TLKM"}, {"$set": {"asks": []}}),
        "not stored": lambda: database.trades.delete_many({"symbol": "TLKM"}),
        "holes": lambda: database.coverage.delete_one({"_id": hole}),
    }
    for words, spoil in spoils.items():
        spoil()
        assert any(words in problem for problem in judge(folder, database, shown).problems), words
        path.write_text("".join(lines))
    assert not any("there twice" in problem for problem in judge(folder, database, shown).problems)


def test_misfortunes_come_in_every_lunch_break_and_before_every_midnight():
    found = misfortunes_of(at(10), 48, seed=3)
    assert found == misfortunes_of(at(10), 48, seed=3)
    assert {at(12.6), at(23.99), at(36.6), at(47.99)} <= {one.at_ms for one in found}
    assert {one.kind for one in found} == {"drop", "down", "login"}
    assert all(at(10) < one.at_ms < at(58) for one in found)


def _amid_others(shown, ticker):
    """Numbers of sides that are neither the first nor the last of their connection."""
    numbers = sorted((seq, told[0]) for (name, _, seq), told in shown.sides.items() if name == ticker)
    trios = zip(numbers, numbers[1:], numbers[2:], strict=False)
    return [middle[0] for before, middle, after in trios if before[1] == middle[1] == after[1]]
