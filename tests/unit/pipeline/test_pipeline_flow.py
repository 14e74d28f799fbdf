"""Buffer, diff, hub and flush in one line: the sink of every connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from src.models.changes import Change, DeadLetter, HoleClosed, HoleOpened, OrderChange, TradeSeen
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.messages import Data, Gap, GapReason, Refusal, RefusalKind, Trade
from src.models.metrics import (
    BUFFER_LENGTH,
    DEAD_LETTERS,
    MESSAGES_DROPPED,
    MESSAGES_OUTDATED,
    TASK_FAILURES,
    WRITES_PENDING,
    Metrics,
)
from src.models.streams import StreamKey, Subscription
from src.models.writes import Collection
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff
from src.pipeline.flush import Flusher
from src.pipeline.hub import Hub
from src.pipeline.pending import Pending
from src.pipeline.pipeline import FAULT_LOG_EVERY_S, FUTURE_MS, Pipeline
from src.pipeline.samples import PER_MINUTE as LETTERS_PER_REASON
from src.store.memory import MemoryStore
from src.venues.feed import Sink
from tests.support.trader_states import OTHER_TRADER, START_MS, TRADER, VENUE, orders_data, some_orders, told

STREAM = StreamKey("hyperliquid", "openOrders", TRADER)
TRADES = StreamKey("hyperliquid", "trades", "BTC")


class Rig:
    """A pipeline over a store in memory, with a listener."""

    def __init__(self, *, capacity: int = 100, limit: int = 1_000) -> None:
        self.store = MemoryStore()
        self.metrics = Metrics()
        self.clock = ManualClock(wall_ms=START_MS)
        self.pending = Pending(limit, clock=self.clock, metrics=self.metrics)
        self.diff = Diff(metrics=self.metrics)
        self.hub = Hub(metrics=self.metrics)
        self.buffer = Buffer(capacity, metrics=self.metrics)
        self.flusher = Flusher(
            store=self.store, pending=self.pending, metrics=self.metrics, clock=self.clock, interval_s=3_600
        )
        self.pipeline = Pipeline(
            buffer=self.buffer,
            diff=self.diff,
            hub=self.hub,
            pending=self.pending,
            flusher=self.flusher,
            metrics=self.metrics,
            clock=self.clock,
            drain_interval_s=0.001,
        )
        self.heard: list[Change] = []
        self.hub.listen("test", self._hear)

    def _hear(self, changes: Sequence[Change]) -> None:
        self.heard += changes

    def fill_pending(self) -> None:
        """MongoDB is away and what waits for it has reached its limit."""
        self.pending.add([HoleOpened("v/s/x", "v", number, "disconnect") for number in range(1_000)])
        assert self.pending.is_full

    def free_pending(self) -> None:
        taken = self.pending.take()
        assert taken is not None
        self.pending.done(taken)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


def trades(number: int) -> Data:
    trade = Trade("hyperliquid", "BTC", str(number), "1.0", "1.0", "B", number, START_MS + number)
    return Data(TRADES, number, (trade,))


def a_letter(reason: str = "malformed_json", *, at_ms: int = START_MS, sample: bytes = b"[") -> DeadLetter:
    return DeadLetter("hyperliquid", "decode", reason, "", sample, len(sample), at_ms)


async def test_it_is_a_sink(rig):
    sink: Sink = rig.pipeline
    assert sink is rig.pipeline


async def test_frames_wait_for_the_drain_then_go_to_listeners_and_to_what_waits_for_mongodb(rig):
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    assert rig.heard == []
    rig.pipeline.drain()
    assert told(rig.heard) == [("new", 1, 1)]
    assert len(rig.pending) == 1
    await rig.flusher.drain()
    assert [document["oid"] for document in rig.store.documents(Collection.TRADER_ORDERS)] == [1]


async def test_an_order_that_lived_between_two_drains_is_told_twice(rig):
    for visible in ([], [1], []):
        rig.pipeline.data(orders_data(some_orders(*visible), received_ms=START_MS))
    rig.pipeline.drain()
    assert told(rig.heard) == [("new", 1, 1), ("closed", 1, 2)]


async def test_a_full_buffer_drains_at_once():
    rig = Rig(capacity=3)
    for oid in range(3):
        rig.pipeline.data(orders_data(some_orders(oid), received_ms=START_MS))
    assert len(rig.buffer) == 0
    assert [action for action, _, _ in told(rig.heard)] == ["new", "closed", "new", "closed", "new"]


async def test_a_full_buffer_asks_for_a_flush():
    rig = Rig(capacity=1)
    stopping = asyncio.Event()
    task = asyncio.create_task(rig.flusher.run(stopping))
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    async with asyncio.timeout(5):
        while not rig.store.documents(Collection.TRADER_ORDERS):  # noqa: ASYNC110 - state of the store
            await asyncio.sleep(0.001)
    stopping.set()
    await task


# -- MongoDB is away -------------------------------------------------------------------------------------------------


async def test_while_too_much_waits_full_states_coalesce_and_nothing_more_piles_up():
    rig = Rig(capacity=2)
    rig.fill_pending()
    for oid in range(50):
        rig.pipeline.data(orders_data(some_orders(oid), received_ms=START_MS + oid))
    assert len(rig.pending) == 1_000
    assert len(rig.buffer) == 3
    assert rig.heard == []
    rig.free_pending()
    rig.pipeline.drain()
    assert told(rig.heard) == [("new", 0, 1), ("closed", 0, 2), ("new", 1, 1), ("closed", 1, 2), ("new", 49, 1)]


async def test_a_lost_increment_is_counted_and_is_a_hole_from_its_arrival():
    rig = Rig(capacity=2)
    rig.fill_pending()
    for number in range(7):
        rig.pipeline.data(trades(number))
        rig.clock.advance(60)
    assert rig.metrics.value(MESSAGES_DROPPED, "trades", "buffer_full") == 3  # 2, 3 and 4; 0, 1, 5 and 6 wait
    assert [(c.stream, c.from_ms, c.reason) for c in rig.heard] == [(str(TRADES), START_MS + 2, "overflow")]
    rig.free_pending()
    rig.pipeline.drain()
    seen = [change.trade.trade_id if isinstance(change, TradeSeen) else change for change in rig.heard[1:]]
    # What had come before the loss does not end the hole; the first trade after it does.
    assert seen == [
        "0",
        "1",
        HoleClosed(str(TRADES), "hyperliquid", START_MS + 2, START_MS + 5, "overflow"),
        "5",
        "6",
    ]


async def test_a_gap_while_too_much_waits_is_not_ended_by_what_came_before_it():
    rig = Rig(limit=1_000)
    rig.pipeline.data(orders_data(some_orders(1, 2), received_ms=START_MS))
    rig.pipeline.drain()
    rig.fill_pending()
    rig.pipeline.data(orders_data(some_orders(1, 2), received_ms=START_MS + 100))
    rig.pipeline.gap(Gap((STREAM,), GapReason.DISCONNECT, START_MS + 200))
    rig.free_pending()
    rig.pipeline.drain()
    assert STREAM in rig.diff.holes
    rig.pipeline.data(orders_data(some_orders(2), received_ms=START_MS + 900))
    rig.pipeline.drain()
    *_, hole, close = rig.heard
    assert (hole.from_ms, hole.to_ms) == (START_MS + 200, START_MS + 900)
    assert (close.action, close.observed) == ("closed", "late")


async def test_dead_letters_do_not_pile_up_either():
    rig = Rig()
    rig.fill_pending()
    rig.pipeline.rejected(a_letter())
    assert len(rig.pending) == 1_000
    assert rig.metrics.value(DEAD_LETTERS, "decode", "malformed_json") == 1


# -- gaps and refusals -----------------------------------------------------------------------------------------------


async def test_a_gap_comes_after_what_was_delivered_before_it(rig):
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    rig.pipeline.gap(Gap((STREAM,), GapReason.DISCONNECT, START_MS + 5, "code 1006"))
    assert [type(change) for change in rig.heard] == [OrderChange, HoleOpened]
    assert rig.heard[1] == HoleOpened(str(STREAM), "hyperliquid", START_MS + 5, "disconnect", "code 1006")


async def test_a_refusal_is_a_hole_for_every_stream_that_failed_and_a_word_to_the_venue(rig):
    told_venue = []
    rig.pipeline.on_refused = lambda refusal, failed: told_venue.append((refusal, failed))
    refusal = Refusal(RefusalKind.USER_CAP, "Cannot track more than 10 total users.")
    failed = (Subscription(STREAM, {}), Subscription(TRADES, {}))
    rig.pipeline.refused(refusal, failed)
    assert [(change.stream, change.reason, change.detail) for change in rig.heard] == [
        (str(STREAM), "refused", refusal.text),
        (str(TRADES), "refused", refusal.text),
    ]
    assert told_venue == [(refusal, failed)]


async def test_a_refusal_without_consequences_opens_no_hole(rig):
    rig.pipeline.refused(Refusal(RefusalKind.MESSAGE_RATE, "slow"), ())
    assert rig.heard == []


# -- dead letters ----------------------------------------------------------------------------------------------------


async def test_a_rejected_frame_is_kept_and_counted(rig):
    rig.pipeline.rejected(a_letter())
    await rig.flusher.drain()
    [letter] = rig.store.documents(Collection.DEAD_LETTERS)
    assert (letter["reason"], letter["sample"]) == ("malformed_json", "[")


async def test_of_many_rejected_frames_only_samples_are_kept_and_all_are_counted(rig):
    for number in range(LETTERS_PER_REASON * 3):
        rig.pipeline.rejected(a_letter(sample=str(number).encode()))
    rig.pipeline.rejected(a_letter("wrong_type"))
    assert len(rig.pending) == LETTERS_PER_REASON + 1
    assert rig.metrics.value(DEAD_LETTERS, "decode", "malformed_json") == LETTERS_PER_REASON * 3


async def test_the_next_minute_has_samples_of_its_own(rig):
    for minute in (0, 1):
        for _ in range(LETTERS_PER_REASON + 5):
            rig.pipeline.rejected(a_letter(at_ms=START_MS + minute * 60_000))
        rig.clock.advance(60)
    assert len(rig.pending) == 2 * LETTERS_PER_REASON


async def test_a_frame_dated_a_day_ahead_is_refused_and_does_not_outdate_the_next(rig):
    ahead = orders_data(some_orders(1), received_ms=START_MS, venue_ms=START_MS + FUTURE_MS + 1, channel="webData2")
    rig.pipeline.data(ahead)
    rig.pipeline.data(orders_data(some_orders(2), received_ms=START_MS, venue_ms=START_MS, channel="webData2"))
    rig.pipeline.drain()
    assert rig.metrics.value(DEAD_LETTERS, "decode", "time_in_future") == 1
    assert rig.metrics.value(MESSAGES_OUTDATED, "orders") == 0
    assert rig.diff.open_orders == 1


async def test_replaced_streams_have_no_hole_any_more(rig):
    stream = StreamKey(VENUE, "openOrders", TRADER)
    rig.pipeline.gap(Gap((stream,), GapReason.REFUSED, START_MS))
    assert rig.pipeline.stats()["diff"]["holes_open"] == 1
    rig.clock.advance(2)
    rig.pipeline.replaced([stream, StreamKey(VENUE, "openOrders", OTHER_TRADER)])
    assert rig.pipeline.stats()["diff"]["holes_open"] == 0
    ended = [change for change in rig.heard if isinstance(change, HoleClosed)]
    assert [(hole.from_ms, hole.to_ms) for hole in ended] == [(START_MS, START_MS + 2_000)]


async def test_streams_nobody_asks_for_do_not_count_as_open_holes(rig):
    rig.pipeline.gap(Gap((StreamKey(VENUE, "openOrders", TRADER),), GapReason.UNSUBSCRIBED, START_MS))
    assert rig.pipeline.stats()["diff"]["holes_open"] == 0


# -- faults ----------------------------------------------------------------------------------------------------------


async def test_a_frame_the_diff_cannot_digest_costs_only_itself(rig, monkeypatch):
    sound = rig.diff.apply

    def fragile(data: Data) -> list[Change]:
        if data.stream == TRADES:
            raise ZeroDivisionError
        return sound(data)

    monkeypatch.setattr(rig.diff, "apply", fragile)
    with capture_logs() as logs:
        for _ in range(3):
            rig.pipeline.data(trades(1))
            rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
            rig.pipeline.drain()
        rig.clock.advance(FAULT_LOG_EVERY_S)
        rig.pipeline.data(trades(1))
        rig.pipeline.drain()
    assert told(rig.heard) == [("new", 1, 1)]
    assert rig.metrics.value(TASK_FAILURES, "diff") == 4
    assert [entry["event"] for entry in logs] == ["frame_not_applied"] * 2


async def test_a_broken_listener_does_not_stop_the_flow(rig):
    def broken(_changes: Sequence[Change]) -> None:
        raise RuntimeError

    rig.hub.listen("broken", broken)
    with capture_logs():
        rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
        rig.pipeline.drain()
    assert len(rig.pending) == 1


# -- running and stopping --------------------------------------------------------------------------------------------


async def test_the_drain_task_drains_until_it_is_stopped(rig):
    stopping = asyncio.Event()
    task = asyncio.create_task(rig.pipeline.run_drain(stopping))
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    async with asyncio.timeout(5):
        while not rig.heard:  # noqa: ASYNC110 - the listener is no coroutine
            await asyncio.sleep(0.001)
    stopping.set()
    await asyncio.wait_for(task, 5)
    assert rig.metrics.value(BUFFER_LENGTH) == 0
    assert rig.metrics.value(WRITES_PENDING) == 1


async def test_finishing_stores_what_is_still_buffered(rig):
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    assert await rig.pipeline.finish(5) == 0
    assert [document["oid"] for document in rig.store.documents(Collection.TRADER_ORDERS)] == [1]


async def test_finishing_diffs_what_is_buffered_even_when_too_much_waits(rig):
    rig.fill_pending()
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    assert await rig.pipeline.finish(5) == 0
    assert len(rig.store.documents(Collection.COVERAGE)) == 1_000
    assert len(rig.store.documents(Collection.TRADER_ORDERS)) == 1


async def test_finishing_without_mongodb_says_what_is_left(rig):
    rig.pipeline.data(orders_data(some_orders(1, 2), received_ms=START_MS))
    rig.store.fail_next(*[StoreError("away")] * 100)
    with capture_logs() as logs:
        assert await rig.pipeline.finish(0.05) == 2
    assert ("stopped_with_unstored_changes", 2) in [(entry["event"], entry.get("pending")) for entry in logs]


async def test_finishing_while_a_flush_is_under_way_waits_for_it(rig, monkeypatch):
    gate, started, sound = asyncio.Event(), asyncio.Event(), rig.store.write

    async def slow(batch):
        started.set()
        await gate.wait()
        return await sound(batch)

    monkeypatch.setattr(rig.store, "write", slow)
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    rig.pipeline.drain()
    flush = asyncio.create_task(rig.flusher.flush_once())
    await started.wait()
    finish = asyncio.create_task(rig.pipeline.finish(5))
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.wait_for(finish, 5) == 0
    await flush


async def test_stats_tell_the_state_of_every_stage(rig):
    rig.pipeline.data(orders_data(some_orders(1), received_ms=START_MS))
    rig.pipeline.drain()
    rig.pipeline.data(orders_data(some_orders(1, 2), received_ms=START_MS))
    rig.pipeline.gap(Gap((TRADES,), GapReason.DISCONNECT, START_MS))
    stats = rig.pipeline.stats()
    assert stats["buffer"] == {"length": 0, "full": False, "coalesced": 0, "dropped": 0}
    assert stats["diff"]["orders"] == {"new": 2}
    assert stats["diff"]["holes_open"] == 1
    assert (stats["pending"], stats["pending_full"], stats["last_flush_ms"]) == (3, False, None)
    import json

    json.dumps(stats)
