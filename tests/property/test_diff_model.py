"""Random lives of orders and positions: every event exactly once, and the final state is the exchange's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import bson
from hypothesis import given, settings
from hypothesis import strategies as st

from src.models.changes import Change, OrderChange, PositionChange
from src.models.messages import Data, Gap
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff
from src.pipeline.documents import to_double
from src.pipeline.orders import changed_fields
from src.store.memory import MemoryStore
from tests.support.lifecycle_expectations import assert_links, assert_state, expected_orders, expected_positions
from tests.support.trader_lifecycles import STEPS, Exchange
from tests.support.trader_states import TRADER, an_order, store_changes, watcher_over

bounded = settings(max_examples=250, deadline=None, derandomize=True)
BIG = 100_000


def collect(
    stream: Iterable[Data | Gap | str], diff: Diff | None = None, *, capacity: int = BIG
) -> tuple[Diff, list[Change]]:
    """Buffer and diff as the pipeline runs them, draining where the stream says so."""
    diff = diff or Diff(metrics=Metrics())
    buffer = Buffer(capacity, metrics=Metrics())
    changes: list[Change] = []

    def drain() -> None:
        for data in buffer.drain():
            changes.extend(diff.apply(data))

    for item in stream:
        if isinstance(item, Data):
            buffer.put(item)
        else:
            drain()
            if isinstance(item, Gap):
                changes.extend(diff.apply_gap(item))
    drain()
    return diff, changes


def order_story(changes: Iterable[Change]) -> dict[int, list[str]]:
    story: dict[int, list[str]] = defaultdict(list)
    for change in changes:
        if isinstance(change, OrderChange):
            assert not change.reopened
            story[change.order.oid].append(change.action)
    return dict(story)


def assert_contiguous(revisions: Iterable[tuple[Any, int]]) -> None:
    last: dict[Any, int] = defaultdict(int)
    for identity, revision in revisions:
        assert revision == last[identity] + 1, identity
        last[identity] = revision


@bounded
@given(STEPS, st.booleans())
def test_every_order_event_exactly_once(steps, timed):
    exchange = Exchange(timed=timed)
    diff, changes = collect(exchange.run(steps))
    assert order_story(changes) == expected_orders([orders for orders, _ in exchange.shown])
    assert_contiguous((c.order.oid, c.revision) for c in changes if isinstance(c, OrderChange))
    assert diff.open_orders == len(exchange.orders)


@bounded
@given(STEPS, st.booleans())
def test_every_position_event_exactly_once(steps, timed):
    exchange = Exchange(timed=timed)
    diff, changes = collect(exchange.run(steps))
    story: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        if isinstance(change, PositionChange):
            story[change.position.coin].append(change.kind)
    assert story == expected_positions([positions for _, positions in exchange.shown])
    assert_contiguous((c.position.coin, c.revision) for c in changes if isinstance(c, PositionChange))
    assert diff.open_positions == len(exchange.positions)


@bounded
@given(STEPS, st.booleans(), st.integers(1, 5))
async def test_a_buffer_that_is_too_small_costs_steps_in_between_and_never_the_end(steps, timed, capacity):
    exchange = Exchange(timed=timed)
    diff, changes = collect(exchange.run(steps), capacity=capacity)
    # Coalescing may have swallowed the list that settles a doubt.
    _, rest = collect(exchange.run([]), diff)
    changes += rest
    assert diff.open_orders == len(exchange.orders)
    assert_contiguous((c.order.oid, c.revision) for c in changes if isinstance(c, OrderChange))
    assert all(story.count("new") == 1 and story.count("closed") <= 1 for story in order_story(changes).values())
    store = MemoryStore()
    await store_changes(store, changes)
    assert_state(store, exchange)
    assert_links(store)


@bounded
@given(STEPS, st.booleans())
async def test_what_is_stored_in_the_end_is_what_the_exchange_has(steps, timed):
    exchange = Exchange(timed=timed)
    _, changes = collect(exchange.run(steps))
    store = MemoryStore()
    await store_changes(store, changes)
    assert_state(store, exchange)
    assert_links(store)
    events = store.documents(Collection.TRADER_ORDER_EVENTS)
    assert len(events) == sum(isinstance(change, OrderChange) for change in changes)


@bounded
@given(STEPS, st.booleans())
def test_the_same_input_gives_the_same_changes(steps, timed):
    first, second = (collect(Exchange(timed=timed).run(steps))[1] for _ in range(2))
    assert first == second


@bounded
@given(STEPS, st.booleans(), st.lists(st.integers(0, 60), max_size=3))
def test_when_the_buffer_is_drained_makes_no_difference(steps, timed, drains):
    at_random = list(steps)
    for place in drains:
        at_random.insert(place, ("drain", 0))
    assert collect(Exchange(timed=timed).run(steps))[1] == collect(Exchange(timed=timed).run(at_random))[1]


# Not compared: whether a close was seen, and when marks were refreshed last.
_OF_THE_RUN = {"closeObserved", "timestamp", "receivedAt"}


def _comparable(store: MemoryStore) -> dict[str, dict[Any, dict[str, Any]]]:
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    for collection in (
        Collection.TRADER_ORDERS,
        Collection.TRADER_ORDER_EVENTS,
        Collection.TRADER_POSITIONS,
        Collection.TRADER_POSITION_EVENTS,
    ):
        ignored = _OF_THE_RUN if collection is Collection.TRADER_POSITIONS else {"closeObserved"}
        found[collection] = {
            document["_id"]: {name: value for name, value in document.items() if name not in ignored}
            for document in store.documents(collection)
        }
    return found


@bounded
@given(STEPS, st.booleans(), st.lists(st.integers(0, 80), min_size=1, max_size=3))
async def test_a_restart_at_any_point_leaves_the_same_documents(steps, timed, cuts):
    # Fewer than ten orders: a doubt that a restart forgets would be settled one list later. An older repeat of the
    # time before a restart cannot arrive on a connection made after it.
    steps = [step for step in steps if step[0] != "older"]
    whole = MemoryStore()
    await store_changes(whole, collect(Exchange(timed=timed, most_orders=9).run(steps))[1])

    items = list(Exchange(timed=timed, most_orders=9).run(steps))
    store = MemoryStore()
    bounds = [0, *sorted(min(cut, len(items)) for cut in cuts), len(items)]
    for begin, end in pairwise(bounds):
        last_ms = max(
            (m.received_ms for item in items[:begin] if isinstance(item, Data) for m in item.messages), default=0
        )
        watcher = await watcher_over(store, now_ms=last_ms, trader=TRADER)
        await store_changes(store, collect(items[begin:end], watcher.diff)[1])
    assert _comparable(store) == _comparable(whole)


@st.composite
def decimals(draw: st.DrawFn) -> str:
    """Any decimal text of at most 15 significant digits, as a venue writes it."""
    digits = str(draw(st.integers(0, 10**15 - 1)))
    places = draw(st.integers(0, 18))
    padded = digits.rjust(places + 1, "0")
    whole, fraction = (padded[: len(padded) - places], padded[len(padded) - places :]) if places else (padded, "")
    sign = draw(st.sampled_from(["", "-"]))
    zeros = "0" * draw(st.integers(0, 3))
    return sign + whole + ("." + fraction + zeros if fraction or zeros else "")


@settings(max_examples=1_000, deadline=None, derandomize=True)
@given(decimals())
def test_every_number_a_venue_can_send_survives_the_round_trip(text):
    stored = bson.decode(bson.encode({"value": to_double(text)}))["value"]
    assert stored == float(text)
    assert Decimal(repr(stored)) == Decimal(text)
    assert (
        changed_fields(an_order(1, sz=text, limitPx=text), an_order(1, sz=repr(stored), limitPx=repr(stored))) == {}
    )


@settings(max_examples=500, deadline=None, derandomize=True)
@given(decimals(), decimals())
def test_two_numbers_differ_in_the_store_exactly_when_they_differ(one, other):
    differs = bool(changed_fields(an_order(1, sz=one), an_order(1, sz=other)))
    assert differs == (Decimal(one) != Decimal(other))
