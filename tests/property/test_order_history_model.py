"""Lists and a history of the same random lives, in any interleaving: one story per order, and the true end of each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from src.models.changes import OrderChange, OrderEnded
from src.models.messages import Data, Gap, OrderStatus
from src.models.orders import Order
from src.models.writes import Collection
from src.pipeline.documents import to_date
from src.store.memory import MemoryStore
from tests.support.order_statuses import a_status, history_data
from tests.support.trader_lifecycles import STEPS, Exchange
from tests.support.trader_states import TRADER, Watcher, store_changes

bounded = settings(max_examples=200, deadline=None, derandomize=True)
REASONS = ("filled", "canceled", "marginCanceled", "reduceOnlyCanceled", "siblingFilledCanceled")


class Teller:
    """Watches an exchange step by step and tells of its orders like the venue's feed: late, early, twice or at once."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.before: dict[int, Order] = {}
        self.ends: dict[int, OrderStatus] = {}
        self.untold: list[OrderStatus] = []
        self.began_ms = 0

    def note(self) -> None:
        """What has happened since the last step."""
        now, number = self.exchange.orders, len(self.ends)
        for order in now.values():
            if order.oid not in self.before:
                self.untold.append(a_status(order, "open", self.exchange.now_ms))
        for oid in self.before.keys() - now.keys():
            reason = REASONS[(oid + number) % len(REASONS)]
            last = self.before[oid]
            last = structs.replace(last, sz="0.0") if reason == "filled" else last
            self.ends[oid] = a_status(last, reason, self.exchange.now_ms + oid % 7)
            self.untold.append(self.ends[oid])
        self.before = dict(now)

    def tell(self, *, again: bool) -> Data:
        rows, self.untold = self.untold, []
        if again:
            rows = [*rows, *list(self.ends.values())[-3:]]
        return history_data(*rows, received_ms=self.exchange.now_ms)


def play(steps, talk) -> tuple[Watcher, Teller]:
    exchange, watcher = Exchange(timed=False), Watcher()
    teller = Teller(exchange)

    def see(items: Iterator[Data | Gap | str]) -> None:
        for item in items:
            if isinstance(item, Data):
                watcher.now_ms = exchange.now_ms
                watcher.applies(item)
            elif isinstance(item, Gap):
                watcher.changes += watcher.diff.apply_gap(item)

    see(exchange.show())
    teller.note()
    teller.began_ms = exchange.now_ms
    for (action, number), saying in zip(steps, talk, strict=False):
        see(exchange.do(action, number))
        teller.note()
        if saying:
            watcher.applies(teller.tell(again=saying > 1))
    watcher.applies(teller.tell(again=False))
    see(exchange.show())
    see(exchange.show())
    return watcher, teller


TALK = st.lists(st.integers(0, 2), min_size=60, max_size=60)


@bounded
@given(STEPS, TALK)
def test_every_order_has_one_story_and_its_true_end(steps, talk) -> None:
    watcher, teller = play(steps, talk)
    story: dict[int, list[str]] = defaultdict(list)
    reasons: dict[int, tuple[str, int]] = {}
    for change in watcher.changes:
        if isinstance(change, OrderChange):
            story[change.order.oid].append(change.action)
            assert change.revision == len(story[change.order.oid])
            assert not change.reopened
            if change.reason is not None:
                assert change.order.oid not in reasons
                reasons[change.order.oid] = (change.reason, change.ended_ms)
        elif isinstance(change, OrderEnded):
            assert change.oid not in reasons
            assert story[change.oid][-1] == "closed"
            assert change.revision == len(story[change.oid])
            reasons[change.oid] = (change.reason, change.ended_ms)
    assert set(story) == teller.ends.keys() | teller.exchange.orders.keys()
    for oid, actions in story.items():
        assert actions[0] == "new"
        assert actions[1:-1] == ["updated"] * len(actions[1:-1])
        assert (actions[-1] == "closed") == (oid in teller.ends)
    assert reasons == {oid: (row.status, row.status_ms) for oid, row in teller.ends.items()}
    assert watcher.diff.open_orders == len(teller.exchange.orders)


async def stored_in_batches(watcher: Watcher, batch: int) -> MemoryStore:
    store = MemoryStore()
    for start in range(0, len(watcher.changes), batch):
        await store_changes(store, watcher.changes[start : start + batch])
    return store


@settings(max_examples=60, deadline=None, derandomize=True)
@given(STEPS, TALK, st.integers(1, 20))
def test_what_is_stored_has_the_true_end_whatever_came_in_one_batch(steps, talk, batch) -> None:
    watcher, teller = play(steps, talk)
    store = asyncio.run(stored_in_batches(watcher, batch))
    for document in store.documents(Collection.TRADER_ORDERS):
        end = teller.ends.get(document["oid"])
        if end is None:
            assert document["status"] == "open"
            continue
        assert document["ethAddress"] == TRADER
        assert (document["status"], document["closeReason"]) == ("closed", end.status)
        assert document["closedAt"] == to_date(end.status_ms)
    closes = [d for d in store.documents(Collection.TRADER_ORDER_EVENTS) if d["action"] == "closed"]
    assert {d["oid"]: d["closeReason"] for d in closes} == {oid: row.status for oid, row in teller.ends.items()}
