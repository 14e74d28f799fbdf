"""What the venue tells besides its lists: why orders ended, before or after a list misses them, and what none showed."""

from __future__ import annotations

import pytest

from src.models.changes import OrderChange, OrderEnded
from src.models.writes import Collection
from src.pipeline import orders as module
from src.pipeline.documents import to_date
from tests.support.order_statuses import CHANNEL, a_status, remaining, tells
from tests.support.trader_states import (
    START_MS,
    STEP_MS,
    TRADER,
    Watcher,
    an_order,
    links,
    some_orders,
    store_changes,
    told,
)


@pytest.fixture
def watcher() -> Watcher:
    """Has seen orders 1, 2 and 3."""
    watcher = Watcher()
    watcher.shows(some_orders(1, 2, 3))
    return watcher


async def document(watcher: Watcher, collection: Collection, identity: str) -> dict:
    store = await watcher.stored()
    [found] = [d for d in store.documents(collection) if d["_id"] == identity]
    return found


async def test_an_end_told_first_is_known_when_the_list_misses_the_order(watcher):
    assert tells(watcher, a_status(2, "marginCanceled", START_MS + 7)) == []
    [close] = watcher.shows(some_orders(1, 3))
    assert (close.action, close.reason, close.ended_ms, close.revision) == (
        "closed",
        "marginCanceled",
        START_MS + 7,
        2,
    )
    for collection, identity in (
        (Collection.TRADER_ORDERS, f"{TRADER}:2"),
        (Collection.TRADER_ORDER_EVENTS, f"{TRADER}:2:2"),
    ):
        stored = await document(watcher, collection, identity)
        assert stored["closeReason"] == "marginCanceled"
        assert stored["closedAt"] == to_date(START_MS + 7)
        assert stored["closeResolvedAt"] == to_date(watcher.now_ms)


async def test_an_end_told_later_explains_the_close_without_a_new_revision(watcher):
    [close] = watcher.shows(some_orders(1, 3))
    assert close.reason is None
    assert (await document(watcher, Collection.TRADER_ORDERS, f"{TRADER}:2"))["closeReason"] == "unknown"
    [ended] = tells(watcher, a_status(2, "canceled", START_MS + 7))
    assert ended == OrderEnded("hyperliquid", TRADER, 2, 2, "canceled", START_MS + 7, watcher.now_ms)
    for identity in (f"{TRADER}:2", f"{TRADER}:2:2"):
        collection = Collection.TRADER_ORDERS if identity.count(":") == 1 else Collection.TRADER_ORDER_EVENTS
        stored = await document(watcher, collection, identity)
        assert (stored["closeReason"], stored["closedAt"]) == ("canceled", to_date(START_MS + 7))
        assert stored["revision"] == 2


def test_an_end_is_told_once_however_often_it_arrives(watcher):
    watcher.shows(some_orders(1, 3))
    assert len(tells(watcher, a_status(2))) == 1
    assert tells(watcher, a_status(2)) == []
    assert tells(watcher, a_status(2), is_snapshot=True) == []


def test_a_status_that_is_no_end_changes_nothing(watcher):
    assert tells(watcher, a_status(1, "open"), a_status(2, "triggered"), a_status(9, "open")) == []
    assert tells(watcher, a_status(3, "whatever", START_MS + 1)) == []
    [close] = watcher.shows(some_orders(1, 2))
    assert close.reason is None


def test_of_several_statuses_the_newest_end_counts(watcher):
    rows = [
        a_status(2, "filled", START_MS + 9),
        a_status(2, "open", START_MS + 9),
        a_status(2, "triggered", START_MS),
    ]
    tells(watcher, *rows)
    [close] = watcher.shows(some_orders(1, 3))
    assert close.reason == "filled"


async def test_an_order_between_two_lists_gets_both_of_its_events(watcher):
    order = remaining(9, "0.05", cloid="0x09", timestamp=START_MS + 100)
    found = tells(watcher, a_status(order, "canceled", START_MS + 400))
    assert told(found) == [("new", 9, 1), ("closed", 9, 2)]
    new, closed = found
    assert (new.order.sz, new.order.origSz, new.venue_ms) == ("0.2", "0.2", START_MS + 100)
    assert (closed.order.sz, closed.reason, closed.ended_ms) == ("0.05", "canceled", START_MS + 400)
    assert closed.changes == {"status": {"from": "open", "to": "closed"}, "sz": {"from": 0.2, "to": 0.05}}
    assert (new.source, closed.source, closed.observed) == (CHANNEL, CHANNEL, "live")
    state = await document(watcher, Collection.TRADER_ORDERS, f"{TRADER}:9")
    assert (state["status"], state["revision"], state["source"]) == ("closed", 2, CHANNEL)
    assert (state["closeReason"], state["closedAt"]) == ("canceled", to_date(START_MS + 400))
    assert watcher.shows(some_orders(1, 2, 3)) == []
    assert watcher.diff.open_orders == 3


def test_what_was_refused_never_lived(watcher):
    assert tells(watcher, a_status(9, "tickRejected"), a_status(10, "iocCancelRejected")) == []


def test_a_refused_order_that_a_list_showed_all_the_same_is_explained(watcher):
    tells(watcher, a_status(2, "perpMarginRejected"))
    [close] = watcher.shows(some_orders(1, 3))
    assert close.reason == "perpMarginRejected"


def test_the_first_snapshot_explains_but_digs_out_nothing(watcher):
    rows = [a_status(2), a_status(7, "canceled", START_MS - 1), a_status(8, "filled", START_MS + 1)]
    assert tells(watcher, *rows, is_snapshot=True) == []
    [close] = watcher.shows(some_orders(1, 3))
    assert close.reason == "filled"


def test_a_later_snapshot_tells_what_was_missed_since_the_last_news(watcher):
    tells(watcher, a_status(1, "open", START_MS + 10_000), is_snapshot=True)
    old, missed = a_status(8, "filled", START_MS + 1), a_status(9, "filled", START_MS + 10_500)
    found = tells(watcher, old, missed, is_snapshot=True)
    assert told(found) == [("new", 9, 1), ("closed", 9, 2)]
    assert found[1].observed == "late"


def test_without_a_list_nothing_is_known_to_be_unseen():
    watcher = Watcher()
    assert tells(watcher, a_status(9)) == []
    watcher.shows(some_orders(1))
    assert told(tells(watcher, a_status(9))) == [("new", 9, 1), ("closed", 9, 2)]


def test_orders_of_a_dex_that_is_not_followed_are_left_alone(watcher):
    assert tells(watcher, a_status(an_order(9, coin="xyz:TSLA"))) == []
    watcher.shows([], dex="xyz")
    found = tells(watcher, a_status(an_order(10, coin="xyz:TSLA")), a_status(an_order(11, coin="@107")))
    assert [(change.order.oid, change.dex) for change in found if change.action == "new"] == [(10, "xyz"), (11, "")]


def test_a_list_under_way_that_still_shows_an_ended_order_does_not_bring_it_back(watcher):
    tells(watcher, a_status(9))
    tells(watcher, a_status(3))
    assert told(watcher.shows(some_orders(1, 2, 3, 9))) == []
    assert told(watcher.shows(some_orders(1, 2))) == [("closed", 3, 2)]
    assert told(watcher.shows(some_orders(1, 2, 3, 9, 4))) == [("new", 4, 1)]
    assert watcher.diff.open_orders == 3


def test_what_vanished_is_found_although_the_list_still_shows_ended_ones(watcher):
    tells(watcher, a_status(8), a_status(9))
    assert told(watcher.shows(some_orders(1, 2, 8, 9))) == [("closed", 3, 2)]


def test_a_list_that_shows_what_ended_long_ago_is_an_old_one(watcher):
    tells(watcher, a_status(3))
    watcher.shows(some_orders(1, 2))
    watcher.now_ms += module.UNDER_WAY_MS
    assert told(watcher.shows(some_orders(1, 3, 5))) == [("new", 5, 1)]  # 2 is not closed by it
    assert told(watcher.shows(some_orders(1, 2, 5))) == []


def test_many_that_vanish_at_once_are_closed_at_once_when_their_end_was_told():
    watcher = Watcher()
    watcher.shows(some_orders(*range(1, 21)))
    tells(watcher, *(a_status(oid) for oid in range(1, 13)))
    found = watcher.shows(some_orders(*range(15, 21)))
    assert sorted(change.order.oid for change in found) == list(range(1, 13))
    assert {change.reason for change in found} == {"filled"}
    assert sorted(c.order.oid for c in watcher.shows(some_orders(*range(15, 21)))) == [13, 14]


def test_a_child_told_of_alone_keeps_the_name_of_its_parent(watcher):
    tells(watcher, a_status(2, "open", children=(21, 22)))
    found = tells(watcher, a_status(21, "canceled"), a_status(2, "canceled", children=(21, 22)))
    assert [(change.order.oid, change.order.parentOid) for change in found] == [(21, 2), (21, 2)]


def test_modifies_between_two_lists_are_linked(watcher):
    rows = [
        a_status(remaining(11, "0.2", cloid="0xc1", timestamp=START_MS), "canceled", START_MS + 100),
        a_status(remaining(12, "0.2", cloid="0xc1", timestamp=START_MS + 100), "canceled", START_MS + 200),
        a_status(remaining(13, "0.0", cloid="0xc1", timestamp=START_MS + 200), "filled", START_MS + 300),
        a_status(remaining(14, "0.2", cloid="0xc2", timestamp=START_MS), "canceled", START_MS + 100),
    ]
    found = tells(watcher, *rows)
    assert links(found) == {11: (None, 12), 12: (11, 13), 13: (12, None)}


def test_a_cloid_used_again_much_later_is_no_modify(watcher):
    late = START_MS + module.REPLACE_WINDOW_MS + 1
    found = tells(
        watcher,
        a_status(remaining(11, "0.2", cloid="0xc1", timestamp=START_MS), "canceled", START_MS),
        a_status(remaining(12, "0.2", cloid="0xc1", timestamp=late), "canceled", late),
    )
    assert links(found) == {}


def test_an_order_closed_by_mistake_and_back_keeps_its_revisions(watcher):
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(1, 2, 3))
    assert told(watcher.shows(some_orders(1, 2, 3))) == [("reopened", 3, 3)]
    tells(watcher, a_status(3, "canceled"))
    [close] = watcher.shows(some_orders(1, 2))
    assert (close.revision, close.reason) == (4, "canceled")


def test_what_is_remembered_is_bounded(watcher, monkeypatch):
    monkeypatch.setattr(module, "ENDED_MEMORY", 10)
    monkeypatch.setattr("src.pipeline.order_history.PARENTS_KEPT", 10)
    tells(watcher, *(a_status(oid, children=(oid + 10_000,)) for oid in range(100, 200)))
    assert len(watcher.diff._orders[TRADER, ""].ended) == 10
    assert len(watcher.diff._histories[TRADER].parents) == 10


def test_who_is_let_go_is_forgotten(watcher):
    tells(watcher, a_status(9))
    watcher.diff.forget(TRADER)
    assert tells(watcher, a_status(10)) == []


async def test_telling_the_same_after_a_restart_changes_nothing_that_is_stored(watcher):
    row = a_status(remaining(9, "0.05"), "canceled", START_MS + 400)
    tells(watcher, row)
    store = await watcher.stored()
    collections = (Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS)
    before = [dict(document) for collection in collections for document in store.documents(collection)]
    after = await watcher.restarted()
    after.shows(some_orders(1, 2, 3))
    assert tells(after, row) == []
    after.diff.forget(TRADER)
    after.shows(some_orders(1, 2, 3))
    again = tells(after, row)
    assert [type(change) for change in again] == [OrderChange, OrderChange]
    await store_changes(store, again)
    assert [document for collection in collections for document in store.documents(collection)] == before


def test_an_empty_frame_is_a_frame(watcher):
    assert tells(watcher, is_snapshot=True) == []
    watcher.now_ms += STEP_MS
    assert told(tells(watcher, a_status(9, "filled", watcher.now_ms), is_snapshot=True)) == [
        ("new", 9, 1),
        ("closed", 9, 2),
    ]


async def test_an_end_that_was_told_of_another_close_does_not_touch_an_order_that_is_open_again(watcher):
    watcher.shows(some_orders(1, 2))
    watcher.shows(some_orders(1, 2, 3))
    watcher.shows(some_orders(1, 2, 3))
    store = await watcher.stored()
    await store_changes(store, [OrderEnded("hyperliquid", TRADER, 3, 2, "canceled", START_MS, START_MS)])
    [state] = [d for d in store.documents(Collection.TRADER_ORDERS) if d["oid"] == 3]
    assert (state["status"], state["revision"], state["closeReason"]) == ("open", 3, None)
