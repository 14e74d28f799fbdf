"""Twenty seconds at the documented rate (169 messages of two shares), message by message, through the whole program."""

import pytest

from tests.support.stockbit_judge import Shown
from tests.support.stockbit_soak import HOUR_MS, Plan, soak

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TEN_O_CLOCK_MS = 1_770_138_000_000 + 10 * HOUR_MS  # Wednesday, 2026-02-04 in Jakarta
SECONDS = 20.0
DOCUMENTED_MESSAGES = 169


async def test_twenty_seconds_at_the_documented_rate_lose_nothing(tmp_path, mongo_uri, database_name):
    plan = Plan(
        start_ms=TEN_O_CLOCK_MS,
        hours=SECONDS / 3600,
        speed=1.0,
        misfortunes=(),
        updates_per_s=4.25,
        trades_per_s=0.5,
        sessions={"one": ("BBCA", "TLKM")},
    )
    shown = Shown()
    verdict = await soak(tmp_path / "data", mongo_uri, database_name, plan, shown=shown)
    assert verdict.problems == [], verdict.figures
    figures = verdict.figures
    assert figures["sides_sent"] == figures["sides_written"] >= DOCUMENTED_MESSAGES
    assert figures["sides_lost"] == figures["sides_in_flight_at_breaks"] == 0
    assert figures["trades_stored"] >= figures["trades_told"] > 0
    assert figures["trades_lost"] == 0
    assert figures["connections"] == 1
    in_pairs = figures["sides_written"] - figures["books_told"]["one"]
    assert 0 <= in_pairs <= len(plan.tickers), (
        "each side is a book that is counted, but the first two of a share are one"
    )
    assert {ticker for ticker, _, _ in shown.sides} == {"BBCA", "TLKM"}
