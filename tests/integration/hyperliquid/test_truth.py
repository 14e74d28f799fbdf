"""The truth test: what the simulated venue showed, with faults switched on, is in MongoDB exactly once.

Longer by hand: ``TRUTH_SECONDS=600 TRUTH_SEEDS=5 uv run pytest -n 0 -s tests/integration/hyperliquid/test_truth.py``.
"""

import os

import pytest

from src.venues.hyperliquid.simulator import subscriptions
from tests.support.truth import truth_run

SECONDS = float(os.environ.get("TRUTH_SECONDS", "12"))
SEEDS = range(1, 1 + int(os.environ.get("TRUTH_SEEDS", "3")))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(120 + 2 * SECONDS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_split_feeds_agree_with_the_truth(mongo_uri, database_name, seed):
    verdict = await truth_run(mongo_uri, database_name, seed=seed, seconds=SECONDS)
    print(f"\nseed {seed}: {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems[:20])
    assert verdict.order_events > 100
    assert verdict.position_events > 20
    assert sum(verdict.struck.values()) > 0
    assert verdict.uncertain < verdict.orders / 4


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(120 + 2 * SECONDS)
async def test_legacy_webdata2_agrees_with_the_truth(mongo_uri, database_name):
    verdict = await truth_run(mongo_uri, database_name, seed=11, seconds=SECONDS, legacy=True)
    print(f"\nlegacy: {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems[:20])
    assert verdict.order_events > 100
    assert verdict.stats["trader_feed"] == "webData2"


@pytest.mark.slow
@pytest.mark.integration
async def test_without_faults_nothing_is_uncertain_and_no_hole_opens_while_running(mongo_uri, database_name):
    verdict = await truth_run(mongo_uri, database_name, seed=21, seconds=6, faults_per_minute=0)
    print(f"\nno faults: {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems[:20])
    assert verdict.uncertain == 0
    assert verdict.stats["diff"]["holes_open"] == 0


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(120 + 2 * SECONDS)
async def test_a_venue_that_does_not_know_the_history_feed_agrees_with_the_truth(
    mongo_uri, database_name, monkeypatch
):
    known = subscriptions.USER_TYPES - {"userHistoricalOrders"}
    monkeypatch.setattr(subscriptions, "USER_TYPES", known)
    verdict = await truth_run(mongo_uri, database_name, seed=5, seconds=SECONDS, faults_per_minute=0)
    print(f"\nno history feed: {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems[:20])
    assert verdict.stats["trader_feed"] == "split"
    assert verdict.explained > 20
    assert verdict.stats["rest"]["refused"] == 0
    assert verdict.stats["rest"]["used"]["reason"] > 0
    assert verdict.stats["diff"]["holes_open"] == 0
