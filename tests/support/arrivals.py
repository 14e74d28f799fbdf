"""The judge of a run with kills: what was safe must be stored once and in order, what was on its way may be missing.

Of every trader's lists the venue noted which arrived. A list that had arrived long enough before a kill counts; one
that was still on its way counts or not, as it happened. A stored history is right when some choice of the uncertain
lists explains it to the letter.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from src.models.writes import Collection
from src.store.base import Query
from src.store.mongo import MongoStore
from src.venues.hyperliquid.simulator.expected import ORDER_FIELDS, _position_kind
from tests.support.truth import _check_revisions, _check_state, _order_action


@dataclass
class Arrivals:
    """Which deliveries are free to be missing. Call `before_kill` first, wait as long as is promised, then `killed`."""

    free: set[int] = field(default_factory=set)
    _known: set[int] = field(default_factory=set)
    _looked_at: int = 0

    def before_kill(self, venue):
        """What has arrived by now is safe."""
        items = venue.do(lambda: [d.seq for d in venue.simulator.deliveries.items[self._looked_at :] if d.delivered])
        self._known = set(items)

    def killed(self, venue):
        """What was sent since, or had not arrived then, may be missing."""
        items = venue.do(lambda: [d.seq for d in venue.simulator.deliveries.items[self._looked_at :]])
        self.free |= set(items) - self._known
        self._looked_at += len(items)


@dataclass
class Judgement:
    """``problems`` is empty when every stored history can be explained."""

    events: int = 0
    documents: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self):
        return f"{self.documents} orders and positions with {self.events} events; {len(self.problems)} problems"


async def judge(uri, database, venue, arrivals):
    """Hold MongoDB against the venue's log."""
    store = MongoStore(uri, database)
    try:
        verdict = Judgement()
        deliveries = [d for d in venue.do(lambda: list(venue.simulator.deliveries)) if d.delivered is not False]
        sure = {d.seq for d in deliveries if d.delivered} - arrivals.free
        await _judge_orders(store, deliveries, sure, verdict)
        await _judge_positions(store, deliveries, sure, verdict)
    finally:
        await store.close()
    return verdict


async def _judge_orders(store, deliveries, sure, verdict):
    lists = defaultdict(list)
    for item in deliveries:
        if item.orders is not None:
            lists[item.trader, item.dex].append((item.orders, item.seq in sure))
    homes = {
        (trader, oid): (trader, dex)
        for (trader, dex), shown in lists.items()
        for orders, _ in shown
        for oid in orders
    }
    events, states = await _stored(
        store, Collection.TRADER_ORDER_EVENTS, Collection.TRADER_ORDERS, ("ethAddress", "oid")
    )
    for key in homes.keys() | events.keys() | states.keys():
        if events[key] and events[key][0].get("source"):  # told by the history: no list need have shown it
            _check_told(f"order {key}", events[key], states.get(key), verdict)
            continue
        if key not in homes:
            verdict.problems.append(f"order {key}: no list showed it; stored {events[key]}, {states.get(key)}")
            continue
        history = [(orders.get(key[1]), certain) for orders, certain in lists[homes[key]]]
        actions = [_order_action(event) for event in events[key]]
        _compare(
            f"order {key}",
            history,
            actions,
            _order_step,
            events=events[key],
            state=states.get(key),
            fields=ORDER_FIELDS,
            verdict=verdict,
        )


async def _judge_positions(store, deliveries, sure, verdict):
    lists = defaultdict(list)
    for item in deliveries:
        if item.positions is not None:
            lists[item.trader, item.dex].append((item.positions, item.seq in sure))
    shown = {
        (trader, dex, coin) for (trader, dex), items in lists.items() for positions, _ in items for coin in positions
    }
    events, states = await _stored(
        store, Collection.TRADER_POSITION_EVENTS, Collection.TRADER_POSITIONS, ("ethAddress", "dex", "coin")
    )
    for key in shown | events.keys() | states.keys():
        history = [(positions.get(key[2]), certain) for positions, certain in lists[key[:2]]]
        kinds = [event["kind"] for event in events[key]]
        _compare(
            f"position {key}",
            history,
            kinds,
            _position_step,
            events=events[key],
            state=states.get(key),
            fields=("entryPx",),
            verdict=verdict,
        )


def _check_told(name, events, state, verdict):
    """An order that lived between two lists: it came and went, once."""
    verdict.documents += 1
    verdict.events += len(events)
    actions, revisions = [event["action"] for event in events], [event["revision"] for event in events]
    if actions != ["new", "closed"] or revisions != [1, 2]:
        verdict.problems.append(f"{name}: told by {events[0]['source']}, stored {actions} at revisions {revisions}")
    if state is None or (state["status"], state["revision"]) != ("closed", 2):
        verdict.problems.append(f"{name}: told by {events[0]['source']}, its state is {state}")


def _compare(name, history, stored, step, *, events, state, fields, verdict):
    verdict.documents += 1
    verdict.events += len(stored)
    ends = explain(history, stored, step)
    if not ends:
        sure, every = _played(history, step, certain_only=True), _played(history, step, certain_only=False)
        verdict.problems.append(f"{name}: stored {stored}; sure to have arrived: {sure}; with all: {every}")
        return
    if not stored:
        if state is not None:
            verdict.problems.append(f"{name}: a state without events")
        return
    _check_revisions(name, events, state, verdict)
    last = history[-1]
    if last[1]:  # the last list is sure, as after a settle: the final state is known
        rows = [row for row, _ in history if row is not None]
        status = "open" if last[0] is not None else "closed"
        if state is not None and state["status"] != status:
            verdict.problems.append(f"{name}: {state['status']} instead of {status}")
        elif status == "open":
            _check_state(name, state, status, rows[-1], fields, verdict)


def explain(history, stored, step):
    """Ways to read ``history`` that give exactly ``stored``; empty when there is none.

    A way is (last row or None, ever seen, number of events explained).
    """
    ways = [(None, False, 0)]
    for row, certain in history:
        after = [] if certain else list(ways)
        for last, seen, count in ways:
            event = step(last, row, seen)
            if event is None:
                after.append((row, seen or row is not None, count))
            elif count < len(stored) and stored[count] == event:
                after.append((row, True, count + 1))
        ways = _distinct(after)
    return [way for way in ways if way[2] == len(stored)]


def _distinct(ways):
    found = []
    for way in ways:
        if way not in found:
            found.append(way)
    return found


def _played(history, step, *, certain_only):
    last, seen, events = None, False, []
    for row, certain in history:
        if certain_only and not certain:
            continue
        event = step(last, row, seen)
        if event is not None:
            events.append(event)
        last, seen = row, seen or row is not None
    return events


def _order_step(before, after, seen):
    if before is None and after is None:
        return None
    if before is None:
        return "reopened" if seen else "new"
    if after is None:
        return "closed"
    return "updated" if any(before[name] != after[name] for name in ORDER_FIELDS) else None


def _position_step(before, after, seen):
    if after is None:
        return None if before is None else "close"
    return _position_kind(before, after)


async def _stored(store, events_in, states_in, key_fields):
    def key(document):
        return tuple(document[name] for name in key_fields)

    events = defaultdict(list)
    async for event in store.find(events_in, Query(sort=(("revision", False),))):
        events[key(event)].append(event)
    states = {key(document): document async for document in store.find(states_in, Query())}
    return events, states
