"""A segment of changes as one batch: events first, one write per document, patches last."""

from __future__ import annotations

import pytest

from src.models import changes as c
from src.models.messages import Book
from src.models.writes import Collection, Insert, Patch, Upsert
from src.pipeline import batches
from src.pipeline.batches import BatchBuilder
from src.store.memory import MemoryStore
from tests.support.trader_states import TRADER, Watcher, a_position, an_order, some_orders


def build(changes, seq: int = 7):
    builder = BatchBuilder(seq)
    for change in changes:
        builder.add(change)
    return builder.build()


def test_every_kind_of_change_can_be_translated():
    assert set(batches._BUILDERS) == set(c.Change.__args__)


def test_nothing_makes_an_empty_batch():
    batch = build([])
    assert (batch.seq, len(batch), list(batch.groups)) == (7, 0, [])


def test_events_come_before_states_and_states_before_patches():
    watcher = Watcher()
    watcher.shows([an_order(1, cloid="0xc")])
    watcher.shows([an_order(1, cloid="0xc"), an_order(2, cloid="0xc")])
    watcher.shows([an_order(2, cloid="0xc")])
    watcher.holds([a_position()])
    kinds = [{type(write) for write in group} for group in build(watcher.changes).groups]
    assert kinds == [{Insert}, {Upsert}, {Patch}]


def test_several_states_of_one_order_become_one_write_and_all_events_stay():
    watcher = Watcher()
    for size in ("0.2", "0.15", "0.1"):
        watcher.shows([an_order(1, sz=size)])
    watcher.shows([])
    inserts, upserts = build(watcher.changes).groups
    assert [write.document["revision"] for write in inserts] == [1, 2, 3, 4]
    [state] = upserts
    assert (state.version, state.values["status"], state.values["sz"]) == (4, "closed", 0.1)
    assert state.on_insert == {"createdAt": inserts[0].document["receivedAt"]}


def test_a_field_set_by_an_earlier_state_survives_the_later_ones():
    watcher = Watcher()
    watcher.shows([an_order(1, cloid="0xc")])
    watcher.shows([an_order(2, cloid="0xc")])
    watcher.shows([an_order(2, cloid="0xc", sz="0.1")])
    states = {write.id: write.values for write in build(watcher.changes).groups[1]}
    assert states[f"{TRADER}:2"]["replaces"] == 1
    assert states[f"{TRADER}:1"]["replacedBy"] == 2


def test_an_order_that_closed_and_came_back_in_one_batch_is_open():
    watcher = Watcher()
    for visible in ([1], [], [1], [1]):
        watcher.shows(some_orders(*visible))
    [state] = build(watcher.changes).groups[1]
    assert (state.values["status"], state.values["closedAt"], state.values["closeReason"]) == ("open", None, None)


def test_a_position_opened_and_closed_in_one_batch_keeps_both_times():
    watcher = Watcher()
    watcher.holds([a_position()])
    watcher.holds([])
    [state] = build(watcher.changes).groups[1]
    assert state.values["openedAt"] < state.values["closedAt"]


def test_only_the_newest_of_several_books_is_the_latest_one():
    books = [c.BookChange(Book("v", "BTC", time_ms, time_ms, (), ()), changed=True) for time_ms in (1, 2, 3)]
    inserts, [latest] = build(books).groups
    assert len(inserts) == 3
    assert latest.values["timestamp"].microsecond == 3_000


def test_patches_of_one_document_with_the_same_guard_become_one():
    marks = [c.PositionMarks("v", TRADER, "", a_position(marginUsed=text), 3, None, 5) for text in ("1.0", "2.0")]
    [[patch]] = build(marks).groups
    assert patch.values["marginUsed"] == 2.0


def test_patches_with_different_guards_stay_apart_and_in_order():
    marks = [c.PositionMarks("v", TRADER, "", a_position(), revision, None, 5) for revision in (3, 4, 4)]
    [patches] = build(marks).groups
    assert [patch.guard for patch in patches] == [{"revision": 3}, {"revision": 4}]


def test_both_sides_of_links_to_one_order_are_set():
    [[patch]] = build([c.OrderLink("v", TRADER, 1, replaces=0), c.OrderLink("v", TRADER, 1, replaced_by=2)]).groups
    assert patch.values == {"replaces": 0, "replacedBy": 2}


async def test_storing_a_batch_twice_changes_nothing():
    watcher = Watcher()
    watcher.shows(some_orders(1, 2))
    watcher.holds([a_position()])
    watcher.loses_sight()
    watcher.shows([an_order(2, sz="0.1")])
    store, batch = MemoryStore(), build(watcher.changes)
    await store.write(batch)
    before = {name: store.documents(name) for name in Collection}
    result = await store.write(batch)
    assert {name: store.documents(name) for name in Collection} == before
    assert (dict(result.inserted), dict(result.modified), result.repeated) == ({}, {}, len(batch))


async def test_one_batch_or_many_lead_to_the_same_documents():
    watcher = Watcher()
    for visible in ([1, 2], [2, 3], [2], [1, 2], [1, 2], []):
        watcher.shows(some_orders(*visible))
        watcher.holds([a_position(szi=f"{len(visible)}.5")] if visible else [])
    at_once, one_by_one = MemoryStore(), MemoryStore()
    await at_once.write(build(watcher.changes))
    for change in watcher.changes:
        await one_by_one.write(build([change]))
    for collection in Collection:
        key = {document["_id"]: document for document in at_once.documents(collection)}
        assert {document["_id"]: document for document in one_by_one.documents(collection)} == key


def test_an_unknown_change_is_an_error_of_ours():
    with pytest.raises(KeyError):
        BatchBuilder(1).add("nonsense")  # type: ignore[arg-type]
