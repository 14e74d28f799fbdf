"""The flush: stored or kept, never lost, never twice; on a timer, by size, on demand, and at the stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from src.models.changes import BookChange, Change, OrderLink, TradeSeen
from src.models.errors import StoreError, StoreFatalError
from src.models.messages import Book, Trade
from src.models.metrics import (
    DEAD_LETTERS,
    DOCUMENTS_INSERTED,
    FLUSH_RETRIES,
    FLUSHES,
    WRITES_PENDING,
    WRITES_REPEATED,
)
from src.models.writes import Collection, Insert
from src.pipeline import flush as flush_module
from src.pipeline.flush import FATAL_RETRY_S, REPORT_EVERY_S, RETRY_CAP_S, SAMPLE_BYTES, Flusher
from tests.support.trader_states import Watcher, an_order, some_orders


def some_trades(*identities: int) -> list[Change]:
    return [
        TradeSeen(Trade("hyperliquid", "BTC", str(identity), "1.0", "1.0", "B", identity, identity))
        for identity in identities
    ]


def stored_ids(store) -> list[str]:
    return [document["tradeId"] for document in store.documents(Collection.TRADES)]


@contextlib.asynccontextmanager
async def running(flusher: Flusher) -> AsyncIterator[asyncio.Event]:
    stopping = asyncio.Event()
    task = asyncio.create_task(flusher.run(stopping))
    try:
        yield stopping
    finally:
        stopping.set()
        await asyncio.wait_for(task, 10)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(flush_module, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(flush_module, "RETRY_CAP_S", 0.002)


# -- one segment -----------------------------------------------------------------------------------------------------


async def test_a_flush_stores_the_oldest_segment(rig):
    rig.pending.add(some_trades(1, 2))
    assert await rig.flusher.flush_once() is True
    assert stored_ids(rig.store) == ["1", "2"]
    assert len(rig.pending) == 0
    assert rig.flusher.last_flush_ms == rig.clock.wall_ms()
    assert rig.metrics.value(FLUSHES) == 1
    assert rig.metrics.value(WRITES_PENDING) == 0
    assert rig.metrics.value(DOCUMENTS_INSERTED, "trades") == 2


async def test_nothing_pending_is_nothing_to_do(rig):
    assert await rig.flusher.flush_once() is True
    assert rig.store.offered == []
    assert rig.metrics.value(FLUSHES) == 0


async def test_batches_are_numbered_from_one(rig):
    rig.cut_segments_at(1)
    for number in range(3):
        rig.pending.add(some_trades(number))
    await rig.flusher.drain()
    assert [batch.seq for batch in rig.store.batches] == [1, 2, 3]


async def test_a_segment_that_could_not_be_stored_waits_and_is_offered_again(rig):
    rig.store.fail_next(StoreError("away"))
    rig.pending.add(some_trades(1))
    assert await rig.flusher.flush_once() is False
    assert len(rig.pending) == 1
    assert stored_ids(rig.store) == []
    assert await rig.flusher.flush_once() is True
    assert stored_ids(rig.store) == ["1"]
    assert rig.metrics.value(FLUSH_RETRIES) == 1


async def test_what_came_meanwhile_is_stored_after_what_was_kept(rig):
    rig.store.fail_next(StoreError("away"))
    rig.pending.add(some_trades(1))
    await rig.flusher.flush_once()
    rig.pending.add(some_trades(2))
    await rig.flusher.drain()
    assert stored_ids(rig.store) == ["1", "2"]


async def test_a_segment_that_grew_while_it_was_kept_is_stored_whole(rig):
    watcher = Watcher()
    watcher.shows([an_order(1)])
    rig.store.lost_answers = 1
    rig.pending.add(watcher.changes)
    assert await rig.flusher.flush_once() is False
    rig.pending.add(watcher.shows([an_order(1, sz="0.1")]))
    rig.pending.add(watcher.shows([]))
    await rig.flusher.drain()
    assert len(rig.pending) == 0
    [order] = rig.store.documents(Collection.TRADER_ORDERS)
    assert (order["revision"], order["status"]) == (3, "closed")
    assert [event["revision"] for event in rig.store.documents(Collection.TRADER_ORDER_EVENTS)] == [1, 2, 3]


async def test_a_lost_answer_stores_nothing_twice(rig):
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(2))
    rig.store.lost_answers = 2
    rig.pending.add(watcher.changes)
    await rig.flusher.drain()
    assert len(rig.store.offered) == 3
    assert len(rig.store.documents(Collection.TRADER_ORDER_EVENTS)) == 3
    states = {order["oid"]: order for order in rig.store.documents(Collection.TRADER_ORDERS)}
    assert {oid: order["revision"] for oid, order in states.items()} == {1: 2, 2: 1}
    assert rig.metrics.value(WRITES_REPEATED) == 5


async def test_an_error_that_is_not_the_stores_keeps_the_segment_too(rig, monkeypatch):
    async def broken(_batch):
        raise RuntimeError("a bug")

    rig.pending.add(some_trades(1))
    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "write", broken)
        with pytest.raises(RuntimeError):
            await rig.flusher.flush_once()
    assert len(rig.pending) == 1
    await rig.flusher.drain()
    assert stored_ids(rig.store) == ["1"]


async def test_a_cancelled_flush_keeps_its_segment(rig):
    rig.store.gate.clear()
    rig.pending.add(some_trades(1))
    task = asyncio.create_task(rig.flusher.flush_once())
    await rig.store.under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(rig.pending), rig.pending.segments) == (1, 1)
    rig.store.gate.set()
    assert await rig.flusher.flush_once() is True


async def test_two_flushes_at_once_store_one_after_the_other(rig):
    rig.cut_segments_at(1)
    rig.pending.add(some_trades(1))
    rig.pending.add(some_trades(2))
    rig.store.gate.clear()
    tasks = [asyncio.create_task(rig.flusher.flush_once()) for _ in range(2)]
    await rig.store.under_way.wait()
    await asyncio.sleep(0)
    assert len(rig.store.offered) == 1
    rig.store.gate.set()
    assert await asyncio.gather(*tasks) == [True, True]
    assert stored_ids(rig.store) == ["1", "2"]


# -- the last flush --------------------------------------------------------------------------------------------------


async def test_drain_stores_everything_however_often_it_has_to_try(rig):
    rig.cut_segments_at(2)
    for number in range(7):
        rig.pending.add(some_trades(number))
    rig.store.fail_next(*[StoreError("away")] * 4)
    await asyncio.wait_for(rig.flusher.drain(), 10)
    assert stored_ids(rig.store) == [str(number) for number in range(7)]


async def test_drain_waits_for_a_flush_that_is_under_way(rig):
    rig.store.gate.clear()
    rig.pending.add(some_trades(1))
    flush = asyncio.create_task(rig.flusher.flush_once())
    await rig.store.under_way.wait()
    drain = asyncio.create_task(rig.flusher.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not drain.done()
    rig.store.gate.set()
    await asyncio.wait_for(asyncio.gather(flush, drain), 10)
    assert stored_ids(rig.store) == ["1"]


async def test_drain_can_be_given_a_deadline_and_keeps_what_is_left(rig):
    rig.store.gate.clear()
    rig.pending.add(some_trades(1, 2))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.flusher.drain(), 0.02)
    assert len(rig.pending) == 2
    rig.store.gate.set()
    await rig.flusher.drain()
    assert stored_ids(rig.store) == ["1", "2"]


# -- timer, size, stop -----------------------------------------------------------------------------------------------


async def test_the_timer_flushes(rig):
    async with running(rig.flusher):
        rig.pending.add(some_trades(1))
        await rig.until(lambda: stored_ids(rig.store) == ["1"])
        rig.pending.add(some_trades(2))
        await rig.until(lambda: stored_ids(rig.store) == ["1", "2"])


async def test_enough_pending_flushes_before_the_timer(rig):
    rig.flusher._interval_s = 3_600
    async with running(rig.flusher):
        rig.add(some_trades(*range(99)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert rig.store.offered == []
        rig.add(some_trades(99))
        await rig.until(lambda: len(stored_ids(rig.store)) == 100)


async def test_a_request_flushes_before_the_timer(rig):
    rig.flusher._interval_s = 3_600
    async with running(rig.flusher):
        rig.add(some_trades(1))
        rig.flusher.request()
        await rig.until(lambda: stored_ids(rig.store) == ["1"])


async def test_what_comes_during_a_flush_waits_for_the_next_interval(rig):
    rig.flusher._interval_s = 3_600
    async with running(rig.flusher):
        rig.store.gate.clear()
        rig.add(some_trades(1))
        rig.flusher.request()
        await rig.store.under_way.wait()
        rig.add(some_trades(2))
        rig.store.gate.set()
        await rig.until(lambda: stored_ids(rig.store) == ["1"])
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(rig.store.offered) == 1
        rig.flusher.request()
        await rig.until(lambda: stored_ids(rig.store) == ["1", "2"])


async def test_the_flusher_survives_an_outage_and_catches_up(rig):
    rig.store.fail_next(*[StoreError("away")] * 5)
    async with running(rig.flusher):
        rig.add(some_trades(1))
        await rig.until(lambda: rig.metrics.value(FLUSH_RETRIES) >= 3)
        rig.add(some_trades(2))
        await rig.until(lambda: stored_ids(rig.store) == ["1", "2"])
    assert rig.flusher.outage is None


async def test_the_stop_ends_the_waiting_at_once(rig):
    rig.flusher._interval_s = 3_600
    stopping = asyncio.Event()
    task = asyncio.create_task(rig.flusher.run(stopping))
    await asyncio.sleep(0)
    stopping.set()
    await asyncio.wait_for(task, 1)


async def test_the_stop_ends_a_long_pause_between_attempts(rig, monkeypatch):
    monkeypatch.setattr(flush_module, "FATAL_RETRY_S", 3_600)
    rig.store.fail_next(StoreFatalError("no rights"))
    stopping = asyncio.Event()
    rig.pending.add(some_trades(1))
    task = asyncio.create_task(rig.flusher.run(stopping))
    await rig.until(lambda: rig.flusher.outage is not None)
    stopping.set()
    await asyncio.wait_for(task, 1)
    assert len(rig.pending) == 1


async def test_an_outage_while_nudged_does_not_spin(rig):
    rig.store.fail_next(*[StoreError("away")] * 1_000)
    async with running(rig.flusher):
        rig.add(some_trades(*range(200)))
        await rig.until(lambda: rig.metrics.value(FLUSH_RETRIES) >= 3)
        assert rig.metrics.value(FLUSH_RETRIES) < 200
        rig.store._failures.clear()


# -- outages ---------------------------------------------------------------------------------------------------------


async def test_an_outage_is_told_once_with_its_length(rig):
    rig.store.fail_next(StoreError("first"), StoreError("second"))
    rig.pending.add(some_trades(1))
    with capture_logs() as logs:
        await rig.flusher.flush_once()
        began_s = rig.clock.monotonic()
        rig.clock.advance(40)
        await rig.flusher.flush_once()
        assert rig.flusher.outage == flush_module.StoreOutage(began_s, "second", 2)
        await rig.flusher.flush_once()
    assert rig.flusher.outage is None
    told = [(entry["event"], entry["log_level"]) for entry in logs if "database" in entry["event"]]
    assert [event for event, _ in told if event.startswith("database_")] == ["database_away", "database_back"]
    assert next(entry for entry in logs if entry["event"] == "database_back")["away_s"] == 40


async def test_a_fatal_error_is_told_loudly_and_tried_again_rarely(rig):
    rig.store.fail_next(StoreFatalError("no rights"))
    rig.pending.add(some_trades(1))
    with capture_logs() as logs:
        assert await rig.flusher.flush_once() is False
    assert [(entry["event"], entry["log_level"], entry["fatal"]) for entry in logs] == [
        ("database_away", "error", True)
    ]
    assert rig.flusher._retry_delay_s() == FATAL_RETRY_S
    assert await rig.flusher.flush_once() is True


def test_pauses_between_attempts_grow_up_to_a_cap(rig, monkeypatch):
    monkeypatch.setattr(flush_module, "RETRY_FIRST_S", 0.5)
    monkeypatch.setattr(flush_module, "RETRY_CAP_S", RETRY_CAP_S)
    asked: list[float] = []

    class Longest:
        def uniform(self, low: float, high: float) -> float:
            asked.append(high)
            return low

    rig.flusher._rng = Longest()
    for attempts in (1, 2, 3, 4, 5, 1_000_000):
        rig.flusher.outage = flush_module.StoreOutage(0, "", attempts)
        rig.flusher._retry_delay_s()
    assert asked == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


# -- documents that are refused --------------------------------------------------------------------------------------


async def test_one_refused_document_becomes_a_dead_letter_and_the_rest_is_stored(rig):
    rig.store.refuses = lambda write: isinstance(write, Insert) and write.document.get("tradeId") == "2"
    rig.pending.add(some_trades(1, 2, 3))
    with capture_logs() as logs:
        await rig.flusher.drain()
    assert stored_ids(rig.store) == ["1", "3"]
    [letter] = rig.store.documents(Collection.DEAD_LETTERS)
    assert (letter["stage"], letter["reason"], letter["detail"]) == ("store", "refused", "trades: not wanted")
    assert "'tradeId': '2'" in letter["sample"]
    assert rig.metrics.value(DEAD_LETTERS, "store", "refused") == 1
    assert len(rig.pending) == 0
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["documents_rejected"]


async def test_a_dead_letter_is_cut_to_size(rig):
    rig.store.refuses = lambda write: write.collection is Collection.TRADES
    rig.pending.add([TradeSeen(Trade("v", "BTC", "x" * 100_000, "1", "1", None, 1, 1))])
    await rig.flusher.drain()
    [letter] = rig.store.documents(Collection.DEAD_LETTERS)
    assert len(letter["sample"]) == SAMPLE_BYTES
    assert letter["sizeBytes"] > 100_000


async def test_a_refused_dead_letter_is_only_counted(rig):
    rig.store.refuses = lambda write: True
    rig.pending.add(some_trades(1))
    await asyncio.wait_for(rig.flusher.drain(), 10)
    assert len(rig.pending) == 0
    assert rig.metrics.value(DEAD_LETTERS, "store", "refused") == 2


async def test_a_document_that_mongodb_cannot_hold_costs_only_itself(rig):
    bad = TradeSeen(Trade("v", "BTC", "\ud800", "1.0", "1.0", None, 1, 1))
    rig.pending.add([*some_trades(1), bad, *some_trades(2)])
    await rig.flusher.drain()
    assert stored_ids(rig.store) == ["1", "2"]
    assert rig.metrics.value(DEAD_LETTERS, "store", "not_encodable") == 1


async def test_a_change_that_cannot_be_translated_costs_only_itself(rig):
    beyond_time = BookChange(Book("v", "BTC", 10**18, 1, (), ()), changed=True)
    rig.pending.add([*some_trades(1), beyond_time, *some_trades(2)])
    with capture_logs() as logs:
        await asyncio.wait_for(rig.flusher.drain(), 10)
    assert stored_ids(rig.store) == ["1", "2"]
    [letter] = rig.store.documents(Collection.DEAD_LETTERS)
    assert (letter["reason"], letter["detail"]) == ("untranslatable", "BookChange")
    assert "10000000000000" in letter["sample"]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["change_not_translated"]


# -- what it tells ---------------------------------------------------------------------------------------------------


async def test_the_sentence_about_flushed_orders_comes_at_most_every_half_minute_with_sums(rig):
    watcher = Watcher()
    with capture_logs() as logs:
        for number in range(4):
            rig.pending.add([*watcher.shows(some_orders(number)), *some_trades(number)])
            await rig.flusher.flush_once()
            rig.clock.advance(REPORT_EVERY_S / 2)
    sentences = [entry for entry in logs if entry["event"].startswith("Flushed")]
    assert [(entry["event"], entry["trades"]) for entry in sentences] == [
        ("Flushed 1 order updates to database", 1),
        ("Flushed 4 order updates to database", 2),
    ]


async def test_translating_a_large_segment_gives_way_to_others(rig):
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    rig.pending.add([OrderLink("v", "0x", oid) for oid in range(flush_module.BUILD_CHUNK * 8)])
    await rig.flusher.flush_once()
    task.cancel()
    assert turns >= 8


# -- the gate ----------------------------------------------------------------------------------------------------------


def gated(rig, gate):
    return Flusher(
        store=rig.store, pending=rig.pending, metrics=rig.metrics, clock=rig.clock, interval_s=0.01, gate=gate
    )


async def test_behind_a_closed_gate_everything_is_kept_and_nothing_offered(rig):
    is_open = False
    flusher = gated(rig, lambda: is_open)
    rig.pending.add(some_trades(1, 2))
    assert await flusher.flush_once() is False
    assert rig.store.offered == []
    assert len(rig.pending) == 2
    assert flusher.outage is None
    is_open = True
    assert await flusher.flush_once() is True
    assert stored_ids(rig.store) == ["1", "2"]
    assert len(rig.pending) == 0


async def test_the_gate_is_asked_again_right_before_the_batch_leaves(rig):
    answers = [True, False, True, True]
    flusher = gated(rig, lambda: answers.pop(0))
    rig.pending.add(some_trades(1))
    assert await flusher.flush_once() is False
    assert rig.store.offered == []
    assert await flusher.flush_once() is True
    assert stored_ids(rig.store) == ["1"]
    assert answers == []


async def test_a_running_flush_goes_on_when_the_gate_opens(rig):
    is_open = False
    flusher = gated(rig, lambda: is_open)
    async with running(flusher):
        rig.pending.add(some_trades(1))
        await asyncio.sleep(0.05)
        assert rig.store.offered == []
        is_open = True
        await rig.until(lambda: stored_ids(rig.store) == ["1"])
