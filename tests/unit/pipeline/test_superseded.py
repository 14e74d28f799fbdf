"""A journal of a collector that was replaced: what the other one has described later stays as it is."""

from __future__ import annotations

import pytest

from src.models.changes import OrderChange
from src.models.metrics import MESSAGES_DROPPED, Metrics
from src.models.writes import Collection
from src.pipeline.superseded import SupersededSieve
from tests.support.trader_states import Watcher, a_position, an_order, store_changes, told, watcher_over


@pytest.fixture
def metrics():
    return Metrics()


async def replaced_while_away(before, unstored, after):
    """The first collector stores ``before`` and keeps ``unstored`` in its journal; the second one then sees ``after``."""
    first = Watcher()
    before(first)
    store = await first.stored()
    kept_from = len(first.changes)
    unstored(first)
    second = await watcher_over(store, now_ms=first.now_ms + 60_000)
    after(second)
    await store_changes(store, second.changes)
    return store, first.changes[kept_from:]


async def test_what_nobody_described_since_is_stored(metrics):
    store, journal = await replaced_while_away(
        lambda first: first.shows([an_order(1)]),
        lambda first: (first.shows([an_order(1), an_order(2)]), first.shows([an_order(1)])),
        lambda second: second.shows([an_order(1)]),
    )

    kept = await SupersededSieve(store, metrics)(journal)

    assert told(kept) == [("new", 2, 1), ("closed", 2, 2)]
    assert metrics.total(MESSAGES_DROPPED) == 0


async def test_an_order_the_other_one_saw_later_keeps_its_word(metrics):
    store, journal = await replaced_while_away(
        lambda first: first.shows([an_order(1, sz="0.2")]),
        lambda first: (first.shows([an_order(1, sz="0.1")]), first.shows([an_order(1, sz="0.05")])),
        lambda second: second.shows([]),
    )

    kept = await SupersededSieve(store, metrics)(journal)

    assert told(kept) == [("updated", 1, 2)], "its revision is taken: storing it changes nothing"
    assert metrics.value(MESSAGES_DROPPED, "change", "superseded") == 1


async def test_a_position_the_other_one_saw_later_keeps_its_word(metrics):
    store, journal = await replaced_while_away(
        lambda first: first.holds([a_position("BTC", "0.5")]),
        lambda first: (first.holds([a_position("BTC", "0.7")]), first.holds([a_position("BTC"), a_position("ETH")])),
        lambda second: second.holds([a_position("BTC", "0.9")]),
    )

    kept = await SupersededSieve(store, metrics)(journal)

    assert [(change.position.coin, change.revision) for change in kept] == [("BTC", 2), ("ETH", 1)]


async def test_what_follows_an_outdated_change_is_left_out_too_so_that_revisions_have_no_hole(metrics):
    first = Watcher()
    first.shows([an_order(1, sz="0.2")])
    store = await first.stored()
    first.shows([an_order(1, sz="0.1")])
    first.shows([an_order(1, sz="0.09")])
    first.now_ms += 120_000
    first.shows([an_order(1, sz="0.05")])
    journal = [change for change in first.changes[1:] if isinstance(change, OrderChange)]
    second = await watcher_over(store, now_ms=journal[1].received_ms + 60_000)
    second.shows([an_order(1, sz="0.07")])
    await store_changes(store, second.changes)
    assert journal[1].received_ms < second.now_ms < journal[2].received_ms

    sieve = SupersededSieve(store, metrics)

    assert told(await sieve(journal[:2])) == [("updated", 1, 2)]
    assert await sieve(journal[2:]) == []


async def test_what_is_stored_already_may_be_offered_again(metrics):
    first = Watcher()
    first.shows([an_order(1)])
    first.shows([an_order(1, sz="0.1")])
    store = await first.stored()

    assert await SupersededSieve(store, metrics)(first.changes) == first.changes


async def test_after_the_drain_the_state_of_the_other_one_is_the_stored_one(metrics):
    store, journal = await replaced_while_away(
        lambda first: first.shows([an_order(1, sz="0.2")]),
        lambda first: (first.shows([an_order(1, sz="0.1")]), first.shows([an_order(1, sz="0.05")])),
        lambda second: second.shows([an_order(1, sz="0.15")]),
    )

    await store_changes(store, await SupersededSieve(store, metrics)(journal))

    (state,) = store.documents(Collection.TRADER_ORDERS)
    assert (state["sz"], state["revision"]) == (0.15, 2)
