"""How fresh the view of 500 traders is, and how much of what their orders do is seen, over a venue with its limits.

The real source (planner, pools, budgets, mapper) and the real diff over the simulated venue, without sockets and in
virtual time; latency 100 ms each way. What happened is read from the venue's own log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import quantiles
from typing import Any

from msgspec import Struct

from benchmarks.rows import Effort, Goal, MeasureError, Row, Spread
from benchmarks.virtual_time import LoopClock, run_virtually
from src.config import Settings
from src.jobs.following.egress import Way
from src.jobs.hyperliquid.source import HyperliquidSource
from src.models.changes import OrderChange
from src.models.messages import Data, Gap, Refusal
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.venues.hyperliquid.simulator import Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.simulator.inprocess import InProcessOpener, InProcessRest, InProcessVenue

NAME = "following"
LATENCY_S = 0.1
AGE_EVERY_S = 5.0
ACTIONS_PER_TRADER_AND_HOUR = 60
P95_GOAL = Goal(120)

_TRADERS = {Effort.TINY: 20, Effort.QUICK: 500, Effort.FULL: 500}
_WATCHED_S = {Effort.TINY: 60, Effort.QUICK: 600, Effort.FULL: 1_800}
_STARTS = frozenset({"placed"})
_ENDS = frozenset({"canceled", "filled"})


class Case(Struct, frozen=True):
    """One way to follow them."""

    name: str
    warm_s: int
    addresses: int = 1
    followed: int | None = None
    users_freed: str = "unsubscribe"
    settings: dict[str, Any] = {}
    goal: Goal | None = None


CASES = (
    Case("slots that go round", 300, goal=P95_GOAL),
    Case("the same, users freed only with the connection", 600, users_freed="connection"),
    Case("polling alone", 1_300, settings={"hyperliquid_rotation": "never", "hyperliquid_max_users": 1}),
    Case("three addresses", 300, addresses=3, goal=P95_GOAL),
    Case("ten live, the others not at all", 300, followed=10),
)


class Seen(Struct):
    """What a case showed: ages in seconds, bound, shares of order events, refusals after the first minute."""

    ages: list[float]
    bound_s: float
    events: int
    share: float
    followed: int
    refused: int


class _Collected:
    """The sink: frames go through the diff, order events are remembered by order id."""

    def __init__(self) -> None:
        self._diff = Diff(metrics=Metrics())
        self.began: set[int] = set()
        self.ended: set[int] = set()

    def data(self, data: Data) -> None:
        for change in self._diff.apply(data):
            if isinstance(change, OrderChange):
                (self.ended if change.action == "closed" else self.began).add(change.order.oid)

    def gap(self, gap: Gap) -> None:
        self._diff.apply_gap(gap)

    def refused(self, refusal: Refusal, failed: object) -> None:
        """The source learns; there is nobody else to tell."""

    def rejected(self, letter: Any) -> None:
        raise MeasureError(f"a frame was rejected: {letter.detail}")


def measure(effort: Effort) -> Sequence[Row]:
    """One row for each way: 95th percentile of the age of the view, against what ten subscriptions see."""
    return [_row(case, effort, run_virtually(_live(case, effort))) for case in CASES]


def _row(case: Case, effort: Effort, seen: Seen) -> Row:
    if not seen.ages:
        raise MeasureError(f"{case.name}: nobody was looked at")
    cuts = quantiles(seen.ages, n=20, method="inclusive")
    note = (
        f"{seen.followed} of {_TRADERS[effort]} traders seen; age p50 {cuts[9]:.0f} s, max {max(seen.ages):.0f} s, "
        f"promised {seen.bound_s:.0f} s; {seen.share:.1%} of {seen.events:,} order events seen without any history; "
        f"{seen.refused} refusals after the first minute"
    )
    return Row(
        f"age of the view, p95: {case.name}",
        Spread(cuts[18], cuts[0], cuts[18]),
        "s",
        goal=None if effort is Effort.TINY else case.goal,
        holds={"no refusal after the first minute": not seen.refused},
        note=note,
    )


async def _live(case: Case, effort: Effort) -> Seen:
    clock, sink = LoopClock(), _Collected()
    traders = _TRADERS[effort]
    config = SimulatorConfig(
        market=MarketConfig(
            traders=traders,
            actions_per_s=traders * ACTIONS_PER_TRADER_AND_HOUR / 3600,
            trades_per_s=0.5,
            tick_ms=500,
        ),
        limits=Limits(),
        users_freed=case.users_freed,
    )
    venue = InProcessVenue(config, clock=clock, latency_s=LATENCY_S)
    names = [f"address-{number + 1}" for number in range(case.addresses)]
    egress = ("direct", *(f"http://proxy-{number}:3128" for number in range(case.addresses - 1)))
    source = HyperliquidSource(
        Settings(hyperliquid_coins=(), hyperliquid_egress=egress, **case.settings),
        sink=sink,
        clock=clock,
        metrics=Metrics(),
        ways=[Way(InProcessOpener(venue, name), InProcessRest(venue, name)) for name in names],
    )
    tasks = [asyncio.create_task(venue.run()), asyncio.create_task(source.run())]
    source.follow(venue.traders[: case.followed])
    try:
        return await _watch(case, effort, source, venue, sink)
    finally:
        await source.close()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(
    case: Case, effort: Effort, source: HyperliquidSource, venue: InProcessVenue, sink: _Collected
) -> Seen:
    loop, ages = asyncio.get_running_loop(), []
    await asyncio.sleep(60)
    refused = _refusals(venue)
    await asyncio.sleep(max(0, case.warm_s - 60))
    begin_ms, end = venue.market.now_ms, loop.time() + _WATCHED_S[effort]
    while loop.time() < end:
        await asyncio.sleep(AGE_EVERY_S)
        ages += [source.looks[trader].age_s(loop.time()) for trader in source.followed]
    end_ms = venue.market.now_ms
    told = source.status()["following"]
    await asyncio.sleep(told["bound_s"] + 30)  # what happened last may be seen as late as promised
    events = [e for e in venue.market.truth.events if begin_ms <= e.time_ms < end_ms and e.oid is not None]
    begun = [e.oid for e in events if e.kind in _STARTS]
    done = [e.oid for e in events if e.kind in _ENDS]
    hits = sum(oid in sink.began for oid in begun) + sum(oid in sink.ended for oid in done)
    total = len(begun) + len(done)
    if not total:
        raise MeasureError("nothing happened")
    return Seen(ages, told["bound_s"], total, hits / total, len(source.followed), _refusals(venue) - refused)


def _refusals(venue: InProcessVenue) -> int:
    return sum(sum(venue.limits.of(address).refused.values()) for address in venue.peaks)
