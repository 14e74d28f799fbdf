"""Arming, silencing and refusing, without any socket."""

import asyncio
import random

import pytest

from src.venues.hyperliquid.simulator.faults import FRAME_FAULTS, FaultKind, FaultPlan, Faults
from src.venues.hyperliquid.simulator.subscriptions import Subscription
from src.venues.hyperliquid.simulator.truth import Delivery, DeliveryLog, TruthLog

ORDERS = Subscription(type="openOrders", user="0xa")
BOOK = Subscription(type="l2Book", coin="BTC")


class Time:
    now_s = 100.0


@pytest.fixture
def faults():
    made = Faults(list, lambda: Time.now_s)
    Time.now_s = 100.0
    return made


def test_an_armed_fault_strikes_as_often_as_asked(faults):
    faults.arm(FaultKind.DUPLICATE, channel="openOrders", count=2)
    assert faults.armed_for(BOOK, FRAME_FAULTS) is None
    for _ in range(2):
        assert faults.armed_for(ORDERS, FRAME_FAULTS) is FaultKind.DUPLICATE
        faults.struck_by(FaultKind.DUPLICATE, ORDERS)
    assert faults.armed_for(ORDERS, FRAME_FAULTS) is None
    assert faults.struck[FaultKind.DUPLICATE] == 2


def test_a_fault_that_is_not_possible_here_waits_and_does_not_block_others(faults):
    faults.arm(FaultKind.LATE)
    faults.arm(FaultKind.MALFORMED)
    assert faults.armed_for(ORDERS, (FaultKind.MALFORMED,)) is FaultKind.MALFORMED
    assert faults.armed_for(ORDERS, (FaultKind.LATE,)) is FaultKind.LATE


def test_arming_for_one_user(faults):
    faults.arm(FaultKind.RESET, user="0xA")
    assert faults.armed_for(ORDERS, FRAME_FAULTS) is FaultKind.RESET
    assert faults.armed_for(Subscription(type="openOrders", user="0xb"), FRAME_FAULTS) is None


def test_only_frame_faults_can_be_armed(faults):
    with pytest.raises(ValueError, match="its own method"):
        faults.arm(FaultKind.UPGRADE)


def test_silence_ends_by_itself(faults):
    faults.silence(5.0, channel="l2Book")
    assert faults.is_silent(BOOK)
    assert not faults.is_silent(ORDERS)
    Time.now_s += 5.1
    assert not faults.is_silent(BOOK)


def test_refusals_hit_feeds_of_users_only(faults):
    faults.refuse_subscriptions(1, "no")
    assert faults.take_refusal(BOOK) is None
    assert faults.take_refusal(ORDERS) == "no"
    assert faults.take_refusal(ORDERS) is None


def test_accept_then_close_counts_down(faults):
    faults.accept_then_close(2)
    assert [faults.take_accept_then_close() for _ in range(3)] == [True, True, False]


def test_rate_limit_and_clear(faults):
    faults.rate_limit(10.0)
    faults.silence(10.0)
    faults.arm(FaultKind.LATE)
    faults.accept_then_close()
    faults.refuse_subscriptions()
    assert faults.is_rate_limited()
    faults.clear()
    assert not faults.is_rate_limited()
    assert not faults.is_silent(ORDERS)
    assert faults.armed_for(ORDERS, FRAME_FAULTS) is None
    assert not faults.take_accept_then_close()
    assert faults.take_refusal(ORDERS) is None


async def test_an_upgrade_without_clients(faults):
    await faults.upgrade(3.0)
    assert faults.is_down()
    Time.now_s += 3.1
    assert not faults.is_down()


async def test_a_plan_strikes_every_kind_in_the_end(faults):
    for kind in FaultKind:
        await faults.strike(kind, random.Random(1), (0.1, 0.2))
    assert faults.is_down()
    assert faults.is_rate_limited()


async def test_a_plan_runs_until_cancelled(faults):
    task = asyncio.create_task(faults.run(FaultPlan(seed=1, rate=60_000.0, kinds=(FaultKind.RATE_LIMIT,))))
    async with asyncio.timeout(10):
        while faults.struck[FaultKind.RATE_LIMIT] < 3:  # noqa: ASYNC110 - a counter, not an event
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_logs_are_written_as_json_lines(tmp_path):
    truth, deliveries = TruthLog(), DeliveryLog()
    truth.add(5, "placed", "BTC", "", trader="0xa", oid=1, order={"sz": "1.0"})
    truth.add(6, "trade", "BTC", "", detail={"px": "1.0"})
    deliveries.add(Delivery(0, 1, "openOrders", "0xa", "", None, 7, orders={1: {"sz": "1.0"}}))
    truth.write(tmp_path / "truth.jsonl")
    deliveries.write(tmp_path / "deliveries.jsonl")
    lines = (tmp_path / "truth.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert '"kind":"placed"' in lines[0]
    assert "trader" not in lines[1]
    assert '"1":{"sz":"1.0"}' in (tmp_path / "deliveries.jsonl").read_text()
