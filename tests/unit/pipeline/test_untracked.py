"""A trader who is let go leaves nothing that looks open or closed, and is taken up again where he was left."""

from src.models.changes import OrderChange, PositionChange
from src.models.metrics import ORDER_CHANGES, TRACKED_ORDERS, TRACKED_POSITIONS
from src.models.writes import Collection, Upsert, WriteBatch
from src.pipeline.batches import BatchBuilder
from src.pipeline.documents import to_date
from src.pipeline.restore import let_go
from src.store.memory import MemoryStore
from tests.support.trader_states import (
    OTHER_TRADER,
    START_MS,
    TRADER,
    VENUE,
    Watcher,
    a_position,
    an_order,
    store_changes,
    told,
    watcher_over,
)

LATER_MS = START_MS + 900_000


def lets_go(watcher, at_ms=LATER_MS):
    changes = watcher.diff.untrack(TRADER, VENUE, at_ms)
    watcher.changes += changes
    return changes


def documents(store, collection):
    return {document["_id"]: document for document in store.documents(collection)}


async def test_what_was_open_is_untracked_with_a_time_and_a_revision_of_its_own():
    watcher = Watcher()
    watcher.shows([an_order(1), an_order(2)])
    watcher.shows([an_order(1, sz="0.1")])
    watcher.holds([a_position("BTC", "-0.7"), a_position("ETH")])
    changes = lets_go(watcher)
    assert told(changes) == [("untracked", 1, 3)]
    store = await watcher.stored()
    orders = documents(store, Collection.TRADER_ORDERS)
    first = orders[f"{TRADER}:1"]
    assert (first["status"], first["action"], first["revision"], first["sz"]) == ("untracked", "untracked", 3, 0.1)
    assert first["untrackedAt"] == to_date(LATER_MS)
    assert "closedAt" not in first
    assert "closeReason" not in first
    assert orders[f"{TRADER}:2"]["status"] == "closed"
    event = documents(store, Collection.TRADER_ORDER_EVENTS)[f"{TRADER}:1:3"]
    assert event["changes"] == {"status": {"from": "open", "to": "untracked"}}
    positions = documents(store, Collection.TRADER_POSITIONS)
    btc = positions[f"{TRADER}::BTC"]
    assert (btc["status"], btc["kind"], btc["szi"]) == ("untracked", "untracked", -0.7)
    assert btc["untrackedAt"] == to_date(LATER_MS)
    assert positions[f"{TRADER}::ETH"]["status"] == "untracked"


def test_nothing_of_the_trader_stays_in_memory_and_others_are_left_alone():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    watcher.holds([a_position()])
    watcher.shows([an_order(9)], trader=OTHER_TRADER)
    lets_go(watcher)
    assert (watcher.diff.open_orders, watcher.diff.open_positions) == (1, 0)
    assert watcher.metrics.value(TRACKED_ORDERS) == 1
    assert watcher.metrics.value(TRACKED_POSITIONS) == 0
    assert watcher.metrics.value(ORDER_CHANGES, "untracked") == 1
    assert set(watcher.diff.looks()) == {OTHER_TRADER}


def test_letting_go_twice_says_nothing_the_second_time():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    lets_go(watcher)
    assert lets_go(watcher) == []


async def test_who_comes_back_goes_on_where_he_was_left():
    watcher = Watcher()
    watcher.shows([an_order(1), an_order(2), an_order(3)])
    watcher.holds([a_position("BTC"), a_position("ETH"), a_position("SOL")])
    lets_go(watcher)
    store = await watcher.stored()
    again = await watcher_over(store, now_ms=LATER_MS + 60_000)
    assert again.diff.open_orders == 3
    changes = again.shows([an_order(1), an_order(2, sz="0.05"), an_order(4)])
    assert sorted(told(changes)) == [("closed", 3, 3), ("new", 4, 1), ("updated", 1, 3), ("updated", 2, 3)]
    by_oid = {change.order.oid: change for change in changes if isinstance(change, OrderChange)}
    assert by_oid[1].changes == {"status": {"from": "untracked", "to": "open"}}
    assert by_oid[2].changes["status"] == {"from": "untracked", "to": "open"}
    assert by_oid[2].changes["sz"] == {"from": 0.2, "to": 0.05}
    assert by_oid[3].changes == {"status": {"from": "untracked", "to": "closed"}}
    assert by_oid[3].observed == "late"
    moved = again.holds([a_position("BTC"), a_position("ETH", "0.9")])
    kinds = {change.position.coin: (change.kind, change.revision) for change in moved}
    assert kinds == {"BTC": ("resumed", 3), "ETH": ("increase", 3), "SOL": ("close", 3)}
    await store_changes(store, again.changes)
    orders = documents(store, Collection.TRADER_ORDERS)
    assert (orders[f"{TRADER}:1"]["status"], orders[f"{TRADER}:1"]["untrackedAt"]) == ("open", None)
    assert orders[f"{TRADER}:3"]["status"] == "closed"
    assert documents(store, Collection.TRADER_POSITIONS)[f"{TRADER}::BTC"]["untrackedAt"] is None


async def test_once_seen_again_an_unchanged_list_says_nothing():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    watcher.holds([a_position()])
    lets_go(watcher)
    again = await watcher_over(await watcher.stored(), now_ms=LATER_MS)
    again.shows([an_order(1)])
    again.holds([a_position()])
    assert again.shows([an_order(1)]) == []
    assert again.holds([a_position()]) == []


async def test_who_is_let_go_again_before_the_first_look_changes_nothing():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    watcher.holds([a_position()])
    lets_go(watcher)
    again = await watcher_over(await watcher.stored(), now_ms=LATER_MS)
    assert lets_go(again, LATER_MS + 5) == []


async def test_a_crash_between_events_and_states_is_mended():
    watcher = Watcher()
    watcher.shows([an_order(1)])
    watcher.holds([a_position()])
    store = await watcher.stored()
    builder = BatchBuilder(2)
    for change in lets_go(watcher):
        builder.add(change)
    await store.write(WriteBatch(2, builder.build().groups[:1]))
    again = await watcher_over(store, now_ms=LATER_MS)
    order = documents(store, Collection.TRADER_ORDERS)[f"{TRADER}:1"]
    assert (order["status"], order["untrackedAt"]) == ("untracked", to_date(LATER_MS))
    assert documents(store, Collection.TRADER_POSITIONS)[f"{TRADER}::BTC"]["status"] == "untracked"
    assert told(again.shows([an_order(1)])) == [("updated", 1, 3)]


async def a_trader(store, address, *, enabled):
    values = {"ethAddress": address, "enabled": enabled}
    await store.write(WriteBatch(0, [[Upsert(Collection.TRADERS, address, "revision", 1, values)]]))


async def test_who_was_let_go_while_nobody_collected_is_found():
    store = MemoryStore()
    assert await let_go(store) == []
    watcher = Watcher()
    watcher.shows([an_order(1)])
    watcher.holds([a_position()], trader=OTHER_TRADER)
    await store_changes(store, watcher.changes)
    await a_trader(store, TRADER, enabled=False)
    await a_trader(store, OTHER_TRADER, enabled=True)
    assert await let_go(store) == [TRADER]
    await a_trader(store, "0x" + "c" * 40, enabled=False)
    again = await watcher_over(store, now_ms=LATER_MS)
    await store_changes(store, lets_go(again))
    assert await let_go(store) == []


def test_both_kinds_of_changes_name_their_trader():
    watcher = Watcher(dex="xyz")
    watcher.shows([an_order(1)])
    watcher.holds([a_position()])
    order, position = lets_go(watcher)
    assert isinstance(order, OrderChange)
    assert isinstance(position, PositionChange)
    for change in (order, position):
        assert (change.venue, change.trader, change.dex, change.received_ms) == (VENUE, TRADER, "xyz", LATER_MS)
