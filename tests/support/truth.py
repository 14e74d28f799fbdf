"""The collector against the simulated venue: run both, then hold MongoDB against what the venue really showed."""

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from src.app import Collector
from src.config import Settings
from src.jobs.hyperliquid.source import Pace
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.pipeline.documents import to_date, to_double
from src.stopping import Stop
from src.store.base import Query
from src.store.mongo import MongoStore
from src.venues.clock import SystemClock
from src.venues.feed import Heartbeat
from src.venues.hyperliquid.simulator import (
    Cadences,
    FaultPlan,
    HyperliquidSimulator,
    Limits,
    MarketConfig,
    SimulatorConfig,
    expected_events,
)
from src.venues.hyperliquid.simulator.expected import ORDER_FIELDS
from src.venues.timing import Timing
from tests.support.faults import FaultProxy

QUICK = Pace(
    timing=Timing(
        open_timeout_s=2.0,
        close_timeout_s=0.5,
        tick_s=0.05,
        retry_first_s=0.05,
        retry_cap_s=0.5,
        healthy_after_s=1.0,
        attempts_most=1000,
        rate_limited_s=0.3,
        ack_deadline_s=1.0,
        refused_retry_s=1.0,
        invalid_retry_s=2.0,
        drain_s=2.0,
    ),
    heartbeat=Heartbeat(ping_every_s=0.5, deadline_s=1.0),
)


@dataclass
class Verdict:
    """What came out of one run; ``problems`` is empty when everything agrees."""

    orders: int = 0
    order_events: int = 0
    positions: int = 0
    position_events: int = 0
    uncertain: int = 0
    struck: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    holes: int = 0
    explained: int = 0
    stats: dict = field(default_factory=dict)

    def __str__(self):
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.struck.items()))
        return (
            f"{self.orders} orders with {self.order_events} events, {self.positions} positions with "
            f"{self.position_events} events, {self.uncertain} uncertain, {self.holes} holes, faults: {faults}; "
            f"{len(self.problems)} problems"
        )


@dataclass
class Ongoing:
    """A run that a test may disturb: both sides, the proxy between them, and what is counted."""

    collector: Collector
    simulator: HyperliquidSimulator
    proxy: FaultProxy
    metrics: Metrics

    async def until(self, condition, timeout_s=20.0, what="the condition"):
        """Wait until ``condition()`` is true."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"{what} did not come true within {timeout_s:g} s"
            await asyncio.sleep(0.02)

    @property
    def states(self):
        """Streams by state."""
        return self.collector.status.stats()["states"]

    async def until_fresh(self):
        """Wait until every stream is fresh; after many cuts the budget of handshakes per minute makes it wait."""
        await self.until(lambda: self.states and set(self.states) == {"fresh"}, 90.0, "all streams fresh")


async def truth_run(
    uri,
    database,
    *,
    seed,
    seconds=0.0,
    legacy=False,
    faults_per_minute=90.0,
    traders=6,
    clock=None,
    journal=None,
    during=None,
    timeout_s=5.0,
):
    """Run both for ``seconds`` or ``during`` (given an `Ongoing`), settle, stop the collector in order, and compare."""
    config = SimulatorConfig(
        market=MarketConfig(seed=seed, traders=traders, actions_per_s=40.0, mass_cancel_share=0.01),
        cadences=Cadences.quick(0.2),
        limits=Limits(connects_per_minute=None, messages_per_minute=None),
        legacy=legacy,
    )
    plan = FaultPlan(seed=seed, rate=faults_per_minute, duration_s=(0.2, 1.5)) if faults_per_minute else None
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(HyperliquidSimulator(config, plan=plan))
        proxy, ws_url = await stack.enter_async_context(proxied(simulator))
        settings = Settings(
            mongodb_uri=uri,
            mongodb_database=database,
            http_port=0,
            hyperliquid_ws_url=ws_url if during else simulator.ws_url,
            hyperliquid_api_url=simulator.api_url,
            hyperliquid_stats_url=simulator.stats_url,
            hyperliquid_coins=("BTC", "ETH", "MATIC"),
            hyperliquid_traders=tuple(simulator.traders),
            hyperliquid_dexes=("xyz",),
            trader_ws_clients=3,
            trader_orders_ws_flush_interval=0.5,
            diff_interval=0.05,
            status_line_interval=0,
        )
        store = await stack.enter_async_context(closing(MongoStore(uri, database, timeout_s=timeout_s)))
        stop, metrics = Stop(), Metrics()
        clock = clock or SystemClock()
        collector = Collector(
            settings, store=store, stop=stop, clock=clock, metrics=metrics, pace=QUICK, journal=journal
        )
        running = asyncio.create_task(collector.run(lambda *_: None))
        try:
            await asyncio.wait([running], timeout=seconds)
            if during is not None and not running.done():
                await during(Ongoing(collector, simulator, proxy, metrics))
            if running.done():
                running.result()
                raise AssertionError("the collector stopped by itself")
            await simulator.settle(timeout_s=60.0)
            await _until_seen(collector, simulator)
            stats = collector.status.stats()
        finally:
            stop.event.set()
            exit_code = await asyncio.wait_for(running, 30)
        verdict = await compare(store, simulator)
        verdict.stats = dict(stats)
        if exit_code:
            verdict.problems.append(f"exit code {exit_code}")
    return verdict


@asynccontextmanager
async def closing(store):
    """The store, closed at the end whatever happens."""
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def proxied(simulator):
    """A well-behaved proxy in front of the simulator, and its WebSocket address."""
    address = urlsplit(simulator.ws_url)
    proxy = FaultProxy(address.hostname, address.port)
    await proxy.start()
    try:
        yield proxy, f"ws://127.0.0.1:{proxy.port}{address.path}"
    finally:
        await proxy.stop()


async def _until_seen(collector, simulator):
    """Wait until everybody was shown the frozen market, by turns maybe, and the collector has what was shown."""
    shown, stats = set(), {}
    orders = positions = 0
    try:
        async with asyncio.timeout(60):  # a busy machine connects again slowly
            while True:
                last_orders, last_positions = _last(simulator, "orders"), _last(simulator, "positions")
                shown = {trader for trader, _ in (*last_orders, *last_positions)}
                orders = sum(len(item.orders) for item in last_orders.values())
                positions = sum(len(item.positions) for item in last_positions.values())
                stats = collector.status.stats()
                settled = stats["tracked_orders"] == orders and stats["tracked_positions"] == positions
                if settled and shown == set(simulator.traders) and not stats["buffer"]["length"]:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        seen = {
            name: stats[name] for name in ("tracked_orders", "tracked_positions", "buffer", "states", "following")
        }
        wanted = f"{len(shown)} of {len(simulator.traders)} were shown {orders} orders and {positions} positions"
        raise AssertionError(f"{wanted}; {seen}") from None


def _last(simulator, section):
    last = {}
    for item in simulator.deliveries:
        if getattr(item, section) is not None and item.settled:
            last[item.trader, item.dex] = item
    return last


async def compare(store, simulator):
    """Every order and position event that was visible is stored exactly once, and final states agree."""
    expected = expected_events(list(simulator.deliveries))
    verdict = Verdict(struck=Counter({kind.value: n for kind, n in simulator.faults.struck.items()}))
    verdict.uncertain = len(expected.uncertain)
    verdict.holes = await store.count(Collection.COVERAGE, Query())
    await _compare_orders(store, expected, verdict, _endings(simulator))
    await _compare_positions(store, expected, verdict)
    return verdict


def _endings(simulator):
    """(trader, oid) -> reason and time, by the truth log."""
    ended = simulator.truth.of("filled", "canceled")
    return {(event.trader, event.oid): (event.reason or "filled", event.time_ms) for event in ended}


async def _compare_orders(store, expected, verdict, endings):
    # States first: what the history tells may be stored at this very moment, its events before its state.
    states = {(d["ethAddress"], d["oid"]): d async for d in store.find(Collection.TRADER_ORDERS, Query())}
    events = defaultdict(list)
    async for event in store.find(Collection.TRADER_ORDER_EVENTS, Query(sort=(("revision", False),))):
        events[event["ethAddress"], event["oid"]].append(event)
    verdict.orders, verdict.order_events = len(states), sum(len(e) for e in events.values())
    until_s = time.monotonic() + 10
    for key in expected.orders.keys() | events.keys() | states.keys():
        _check_reason(f"order {key}", states.get(key), endings.get(key), verdict)
        if key in expected.uncertain:
            continue
        wanted = expected.orders.get(key, [])
        stored = [_order_action(event) for event in events.get(key, [])]
        if events.get(key) and events[key][0].get("source"):  # no list need have shown it
            state = states.get(key) or await _state_of(store, key, until_s)
            _check_told(f"order {key}", stored, events[key], state, verdict)
            continue
        if wanted != stored:
            verdict.problems.append(f"order {key}: expected {wanted}, stored {stored}")
            continue
        _check_revisions(f"order {key}", events[key], states.get(key), verdict)
        if key not in expected.order_states:
            verdict.problems.append(f"order {key}: no list showed it; stored {states.get(key)}")
            continue
        status, row = expected.order_states[key]
        _check_state(f"order {key}", states.get(key), status, row, ORDER_FIELDS, verdict)


async def _compare_positions(store, expected, verdict):
    events = defaultdict(list)
    async for event in store.find(Collection.TRADER_POSITION_EVENTS, Query(sort=(("revision", False),))):
        events[event["ethAddress"], event["dex"], event["coin"]].append(event)
    states = {
        (d["ethAddress"], d["dex"], d["coin"]): d async for d in store.find(Collection.TRADER_POSITIONS, Query())
    }
    verdict.positions, verdict.position_events = len(states), sum(len(e) for e in events.values())
    for key in expected.positions.keys() | events.keys() | states.keys():
        if key in expected.uncertain:
            continue
        wanted = expected.positions.get(key, [])
        stored = [event["kind"] for event in events.get(key, [])]
        if wanted != stored:
            verdict.problems.append(f"position {key}: expected {wanted}, stored {stored}")
            continue
        _check_revisions(f"position {key}", events[key], states.get(key), verdict)
        status, row = expected.position_states[key]
        fields = ("szi", "entryPx") if status == "open" else ("entryPx",)
        _check_state(f"position {key}", states.get(key), status, row, fields, verdict)


async def _state_of(store, key, until_s):
    """The state of an order whose events are stored already; None when it does not come."""
    while True:
        query = Query(equals={"_id": f"{key[0]}:{key[1]}"}, limit=1)
        async for state in store.find(Collection.TRADER_ORDERS, query):
            return state
        if time.monotonic() > until_s:
            return None
        await asyncio.sleep(0.05)


def _check_reason(name, state, ending, verdict):
    """What is told of an end is true; it may not be told yet."""
    if state is None or state["status"] != "closed" or state["closeReason"] == "unknown":
        return
    verdict.explained += 1
    reason, time_ms = ending or ("none, it lives", None)
    if (state["closeReason"], state["closedAt"]) != (reason, to_date(time_ms)):
        verdict.problems.append(f"{name}: ended {state['closeReason']} at {state['closedAt']} instead of {ending}")


def _check_told(name, stored, events, state, verdict):
    if stored != ["new", "closed"] or state is None or state["closeReason"] == "unknown":
        verdict.problems.append(f"{name}: told by {events[0]['source']}, stored {stored}, {state}")
    _check_revisions(name, events, state, verdict)


def _order_action(event):
    if event["changes"].get("status", {}).get("to") == "open":
        return "reopened"
    return event["action"]


def _check_revisions(name, events, state, verdict):
    revisions = [event["revision"] for event in events]
    if revisions != list(range(1, len(revisions) + 1)):
        verdict.problems.append(f"{name}: revisions {revisions}")
    if state is None or state["revision"] != len(revisions):
        verdict.problems.append(f"{name}: state at revision {state and state['revision']} of {len(revisions)}")


def _check_state(name, state, status, row, fields, verdict):
    if state is None:
        verdict.problems.append(f"{name}: no state")
        return
    if state["status"] != status:
        verdict.problems.append(f"{name}: {state['status']} instead of {status}")
    for one in fields:
        wanted = _stored(one, row[one])
        if one == "parentOid" and wanted is None:
            continue  # the state keeps the name of the parent when the venue no longer tells it
        if state.get(one) != wanted:
            verdict.problems.append(f"{name}: {one} is {state.get(one)} instead of {row[one]}")


def _stored(name, value):
    if name == "timestamp":
        return to_date(value)
    return to_double(value) if name in NUMBERS else value


NUMBERS = {"limitPx", "sz", "origSz", "triggerPx", "szi", "entryPx"}
