"""Filled size, average price, and which other order ended an order: over the store in memory."""

from __future__ import annotations

import asyncio

import pytest

from src.jobs.repair import close_details as module
from src.jobs.repair.close_details import CloseDetails
from src.jobs.repair.plan import Close
from src.jobs.repair.store import RepairStore
from src.models.changes import FillSeen, OrderChange, OrderEnded
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.messages import Fill
from src.models.metrics import REPAIRS_DROPPED, Metrics
from src.models.writes import Collection
from src.store.memory import MemoryStore
from tests.support.trader_states import START_MS, TRADER, VENUE, an_order, store_changes

ENDED_MS = START_MS + 500


def placed(oid, **fields):
    return OrderChange(VENUE, TRADER, "", "new", an_order(oid, **fields), 1, {}, None, START_MS)


def closed(oid, reason=None, at_ms=ENDED_MS, *, venue=VENUE, **fields):
    end = {} if reason is None else {"reason": reason, "ended_ms": at_ms}
    return OrderChange(venue, TRADER, "", "closed", an_order(oid, **fields), 2, {}, None, START_MS, "live", **end)


def ended(oid, reason, at_ms=ENDED_MS):
    return OrderEnded(VENUE, TRADER, oid, 2, reason, at_ms, START_MS)


def filled(oid, sz, px="100", *, tid=1, at_ms=ENDED_MS, venue=VENUE, coin="BTC"):
    return FillSeen(Fill(venue, TRADER, coin, px, sz, "B", at_ms, START_MS, oid=oid, tid=tid))


class Rig:
    def __init__(self, **options):
        self.store, self.clock, self.metrics = MemoryStore(), ManualClock(wall_ms=START_MS), Metrics()
        self.options = options
        self.restart()

    def restart(self):
        reads = RepairStore(self.store, self.metrics)
        self.job = CloseDetails(reads, self.clock, self.metrics, venue=VENUE, poll_s=0.001, **self.options)

    async def hear(self, *changes, stored=True):
        self.job.heard(changes)
        if stored:
            await store_changes(self.store, changes)

    async def work(self, seconds=module.SETTLE_S):
        self.clock.advance(seconds)
        await self.job.work()

    def order(self, oid):
        [found] = [d for d in self.store.documents(Collection.TRADER_ORDERS) if d["oid"] == oid]
        return found

    def event(self, oid, revision=2):
        identity = f"{TRADER}:{oid}:{revision}"
        [found] = [d for d in self.store.documents(Collection.TRADER_ORDER_EVENTS) if d["_id"] == identity]
        return found


@pytest.fixture
def rig():
    return Rig()


async def test_size_and_price_are_summed_up_over_all_fills(rig):
    fills = [filled(1, "0.1", "100", tid=1), filled(1, "0.2", "103", tid=2), filled(2, "5", tid=3)]
    await rig.hear(placed(1), *fills, closed(1, "filled"))
    await rig.work()
    for document in (rig.order(1), rig.event(1)):
        assert (document["filledSz"], document["avgPx"]) == (0.3, 102.0)
        assert "closedBy" not in document
    assert rig.order(1)["revision"] == 2
    assert rig.job.waiting() == 0


async def test_an_order_that_ended_unfilled_says_so(rig):
    await rig.hear(placed(1), closed(1, "canceled"), placed(2), closed(2), placed(3), closed(3, "filled"))
    await rig.work()
    assert (rig.order(1)["filledSz"], rig.order(1)["avgPx"]) == (0.0, None)
    assert "filledSz" not in rig.order(2)  # how it ended is not known
    assert "filledSz" not in rig.order(3)  # its fills are not known
    await rig.hear(ended(2, "marginCanceled"))
    await rig.work()
    assert rig.order(2)["filledSz"] == 0.0


async def test_a_fill_that_comes_late_counts(rig):
    await rig.hear(placed(1), filled(1, "0.1", "100"), closed(1, "filled"))
    await rig.work()
    assert rig.order(1)["filledSz"] == 0.1
    await rig.hear(filled(1, "0.1", "200", tid=2))
    await rig.work()
    assert (rig.order(1)["filledSz"], rig.order(1)["avgPx"]) == (0.2, 150.0)


async def test_nothing_is_summed_up_before_the_newest_fill_is_stored(rig):
    last = filled(1, "0.1", "200", tid=2)
    await rig.hear(placed(1), filled(1, "0.1", "100"), closed(1, "filled"))
    await rig.hear(last, stored=False)
    await rig.work()
    assert "filledSz" not in rig.order(1)
    await store_changes(rig.store, [last])
    await rig.work(module.WAIT_FIRST_S)
    assert rig.order(1)["filledSz"] == 0.2


async def test_nothing_is_said_before_the_close_is_stored(rig):
    close = closed(1, "canceled")
    await rig.hear(placed(1))
    await rig.hear(close, stored=False)
    await rig.work()
    assert rig.order(1)["status"] == "open"
    assert "filledSz" not in rig.order(1)
    rig.job.heard([close])
    await store_changes(rig.store, [close])
    await rig.work()
    assert rig.order(1)["filledSz"] == 0.0


async def test_a_close_that_is_not_stored_at_all_yet_is_waited_for(rig):
    change = closed(1, "canceled")
    await rig.hear(change, stored=False)
    await rig.work()
    await store_changes(rig.store, [placed(1), change])
    await rig.work(module.WAIT_FIRST_S)
    assert rig.order(1)["filledSz"] == 0.0


async def test_fills_of_open_or_unknown_orders_are_not_waited_for(rig):
    await rig.hear(placed(1), filled(1, "0.1"), filled(77, "0.1"))
    await rig.work()
    assert rig.job.waiting() == 0
    assert "filledSz" not in rig.order(1)


async def test_what_was_looked_up_is_summed_up_too(rig):
    await rig.hear(placed(1), closed(1))
    await rig.work()
    await store_changes(rig.store, [ended(1, "canceled")])
    rig.job.explained([(Close(TRADER, 1, 2), None)])
    await rig.work()
    assert rig.order(1)["filledSz"] == 0.0


async def test_other_venues_are_left_alone(rig):
    await rig.hear(closed(1, venue="elsewhere"), filled(1, "1", venue="elsewhere"), stored=False)
    assert rig.job.waiting() == 0


async def test_a_sibling_is_named_by_the_fill_of_its_millisecond(rig):
    trigger = {"isTrigger": True, "triggerPx": "90", "orderType": "Stop Market"}
    await rig.hear(
        *(placed(oid, **trigger) for oid in (1, 2)), placed(3), filled(3, "1"), filled(1, "0.2", tid=2),
        filled(9, "1", tid=3, at_ms=ENDED_MS + 1), closed(1, "filled", **trigger),
        closed(2, "siblingFilledCanceled", **trigger), closed(3, "filled"),
    )  # fmt: skip
    await rig.work()
    assert rig.order(2)["closedBy"] == rig.event(2)["closedBy"] == 1
    assert rig.order(2)["filledSz"] == 0.0
    assert "closedBy" not in rig.order(1)


async def test_a_sibling_whose_fill_is_not_stored_yet_is_waited_for_but_not_for_ever(rig):
    trigger = {"isTrigger": True}
    await rig.hear(placed(1, **trigger), placed(2, **trigger), closed(2, "siblingFilledCanceled", **trigger))
    await rig.work()
    assert rig.job.waiting() == 1
    await store_changes(rig.store, [filled(1, "0.2")])
    await rig.work(module.WAIT_FIRST_S)
    assert rig.order(2)["closedBy"] == 1
    await rig.hear(placed(5, **trigger), closed(5, "siblingFilledCanceled", ENDED_MS + 50, **trigger))
    for _ in range(module.MOST_WAITS + 2):
        await rig.work(module.WAIT_CAP_S)
    assert rig.job.waiting() == 0
    assert rig.order(5)["filledSz"] == 0.0


async def test_a_child_cancelled_with_its_parent_names_it(rig):
    await rig.hear(
        placed(1), placed(2, parentOid=1), placed(3, parentOid=1), placed(4, parentOid=99),
        closed(1, "canceled"), closed(2, "canceled", parentOid=1), closed(3, "canceled", ENDED_MS - 1, parentOid=1),
        closed(4, "canceled", parentOid=99),
    )  # fmt: skip
    await rig.work()
    assert rig.order(2)["closedBy"] == 1
    assert "closedBy" not in rig.order(3)  # cancelled by itself, before
    assert "closedBy" not in rig.order(4)  # its parent was never seen
    assert rig.job.waiting() == 0


async def test_a_child_waits_until_it_is_known_how_its_parent_ended(rig):
    await rig.hear(placed(1), placed(2, parentOid=1), closed(2, "marginCanceled", parentOid=1))
    await rig.work()
    assert rig.job.waiting() == 1
    await rig.hear(closed(1, "marginCanceled"))
    await rig.work(module.WAIT_CAP_S)
    assert rig.order(2)["closedBy"] == 1


async def test_doing_it_again_writes_nothing(rig):
    await rig.hear(placed(1), filled(1, "0.1"), closed(1, "filled"))
    await rig.work()
    before = rig.store.batches if hasattr(rig.store, "batches") else None
    document = dict(rig.order(1))
    rig.job.heard([closed(1, "filled")])
    await rig.work()
    assert rig.order(1) == document
    assert before == (rig.store.batches if hasattr(rig.store, "batches") else None)


async def test_a_new_run_sums_up_what_the_last_one_left(rig):
    await rig.hear(placed(1), filled(1, "0.1"), closed(1, "filled"))
    rig.restart()
    await rig.work()
    await rig.work()
    assert rig.order(1)["filledSz"] == 0.1


async def test_a_full_queue_is_counted_and_made_up_for():
    rig = Rig(limit=2)
    await rig.hear(*(change for oid in range(1, 6) for change in (placed(oid), closed(oid, "canceled"))))
    assert rig.metrics.value(REPAIRS_DROPPED, "details", "queue_full") == 3
    for _ in range(5):
        await rig.work()
    assert {rig.order(oid)["filledSz"] for oid in range(1, 6)} == {0.0}


async def test_a_database_that_is_away_costs_nothing(rig):
    await rig.hear(placed(1), closed(1, "canceled"))
    rig.store.fail_next(*[StoreError("away")] * 3)
    for _ in range(3):
        await rig.work()
    assert rig.job.waiting() == 1
    await rig.work()
    assert rig.order(1)["filledSz"] == 0.0


async def test_it_runs_until_it_is_stopped(rig):
    stopping = asyncio.Event()
    task = asyncio.create_task(rig.job.run(stopping))
    await rig.hear(placed(1), closed(1, "canceled"))
    async with asyncio.timeout(5):
        while "filledSz" not in rig.order(1):
            rig.clock.advance(1.0)
            await asyncio.sleep(0.001)
        stopping.set()
        await task
