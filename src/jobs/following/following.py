"""Keeps the plan: who is live, who is looked at by turns, who is asked for, over all egress addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from src.jobs.following.egress import Egress
from src.jobs.following.looks import VENUE, Looks
from src.jobs.following.planner import Costs, Plan, Profile, Room, Tracked, Wishes, make_plan
from src.jobs.stoppable import is_set_within
from src.models.clock import Clock
from src.models.messages import Gap, GapReason
from src.models.metrics import Metrics
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Sink
from src.venues.report import put_gauges

log = structlog.get_logger(__name__)

TICK_S = 1.0
REPLAN_S = 30.0


Profiles = Callable[[], Mapping[str, Profile]]


class Following:
    """Plans anew every half minute, and at once when traders come or go or a venue allows less than was thought.

    Args:
        egresses: the ways out; the first also carries the markets.
        looks: what is known of each trader.
        sink: takes the holes of late looks and of traders let go.
        clock: for everything.
        metrics: for the gauges of all connections.
        wishes: what is wanted of the plan.
        markets: subscriptions that belong to no trader.
        trader_streams: subscriptions of a live trader.
        look_streams: subscriptions of one look.
        poll_weight: REST weight of one look.
    """

    def __init__(
        self,
        egresses: Sequence[Egress],
        *,
        looks: Looks,
        sink: Sink,
        clock: Clock,
        metrics: Metrics,
        wishes: Wishes,
        markets: Callable[[], Sequence[Subscription]],
        trader_streams: Callable[[str], Sequence[Subscription]],
        look_streams: Callable[[str], Sequence[Subscription]],
        poll_weight: Callable[[], int],
    ) -> None:
        self._egresses = egresses
        self._looks = looks
        self._sink = sink
        self._clock = clock
        self._metrics = metrics
        self._wishes = wishes
        self._markets = markets
        self._trader_streams = trader_streams
        self._look_streams = look_streams
        self._poll_weight = poll_weight
        self._traders: tuple[str, ...] = ()
        self._planned_at = float("-inf")
        self._planned_for: tuple[object, ...] = ()
        self.plan = Plan()
        self.profiles: Profiles = dict

    def follow(self, traders: Sequence[str]) -> None:
        """Follow exactly these, the most wanted first; effective at once."""
        self._let_go(set(self._traders) - set(traders))
        self._traders = tuple(traders)
        self._looks.follow(traders)
        self.replan()

    def planned_for(self, traders: Sequence[str]) -> Plan:
        """The plan as it would be with exactly these traders."""
        return make_plan(self._tracked(traders), self._rooms(), self._costs(), self._wishes)

    def streams(self, traders: Sequence[str]) -> list[StreamKey]:
        """Everything that would be asked for when following exactly these."""
        plan = self.plan if tuple(traders) == self._traders and self._planned_for else self.planned_for(traders)
        wanted = list(self._markets())
        for trader in traders:
            assignment = plan.assignments.get(trader)
            live = assignment is not None and assignment.mode == "live"
            wanted.extend((self._trader_streams if live else self._look_streams)(trader))
        return [subscription.key for subscription in wanted]

    def carry(self) -> None:
        """Other markets are wanted: carry them, with the plan as it is."""
        for egress, part in zip(self._egresses, self.plan.addresses, strict=False):
            egress.carry(part.live, self._subscriptions(egress, part.live))

    def replan(self) -> None:
        """Make and carry out a plan for how things are now."""
        rooms = self._rooms()
        self._planned_at, self._planned_for = self._clock.monotonic(), _hard_facts(rooms)
        self.plan = make_plan(self._tracked(self._traders), rooms, self._costs(), self._wishes)
        self._looks.assign(self.plan.assignments)
        for egress, part in zip(self._egresses, self.plan.addresses, strict=True):
            egress.follow(part, self._subscriptions(egress, part.live))

    async def run(self, closing: asyncio.Event) -> None:
        """Look after the plan until ``closing``."""
        while not closing.is_set():
            self.tick()
            await is_set_within(closing, TICK_S)

    def tick(self) -> None:
        """Plan anew where that is due, and tell who has not been looked at in time."""
        due = self._clock.monotonic() - self._planned_at >= REPLAN_S
        if self._planned_for and (due or _hard_facts(self._rooms()) != self._planned_for):
            self.replan()
        for egress in self._egresses:
            egress.tick()
        for trader in self._looks.newly_late():
            self._tell_late(trader)
        self._looks.status()
        pools = [pool.numbers() for egress in self._egresses for pool in (egress.pool, egress.look_pool)]
        put_gauges(self._metrics, VENUE, pools)

    def status(self) -> dict[str, Any]:
        """The ``following`` section of ``/stats``."""
        return {**self._looks.status(), "egress": [egress.status() for egress in self._egresses]}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _subscriptions(self, egress: Egress, live: Sequence[str]) -> list[Subscription]:
        """What the pinned slots of one egress address carry; the first also has the markets."""
        wanted = list(self._markets()) if egress.number == 0 else []
        for trader in live:
            wanted.extend(self._trader_streams(trader))
        return wanted

    def _tracked(self, traders: Sequence[str]) -> list[Tracked]:
        profiles, tracked = self.profiles(), []
        for place, trader in enumerate(traders):
            profile = profiles.get(trader) or Profile(score=-float(place))
            watched = self._looks.get(trader)
            now = watched.assignment if watched is not None else None
            tracked.append(
                Tracked(
                    trader,
                    manual=profile.manual,
                    tier=profile.tier,
                    score=profile.score,
                    activity=0.0 if watched is None else self._looks.activity(trader),
                    looked_at=None if watched is None else watched.looked_at,
                    mode=None if now is None else now.mode,
                    egress=None if now is None else now.egress,
                    weight=0 if now is None else now.weight,
                )
            )
        return tracked

    def _rooms(self) -> list[Room]:
        markets = len(self._markets())
        turnover = 2 * self._costs().live_streams * self._wishes.pinned
        return [egress.room(markets if egress.number == 0 else 0, turnover) for egress in self._egresses]

    def _costs(self) -> Costs:
        nobody = "0x" + "0" * 40
        return Costs(
            live_streams=len(self._trader_streams(nobody)),
            look_streams=max(1, len(self._look_streams(nobody))),
            poll_weight=max(1, self._poll_weight()),
        )

    def _let_go(self, gone: set[str]) -> None:
        """Of those who were live their connection tells it."""
        for trader in gone:
            watched = self._looks.get(trader)
            if watched is not None and watched.assignment is not None and watched.assignment.mode != "live":
                keys = tuple(subscription.key for subscription in self._look_streams(trader))
                self._sink.gap(Gap(keys, GapReason.UNSUBSCRIBED, self._clock.wall_ms()))

    def _tell_late(self, trader: str) -> None:
        watched = self._looks[trader]
        now_ms = self._clock.wall_ms()
        since_ms = now_ms
        if watched.looked_ms is not None and watched.within_s is not None:
            since_ms = min(now_ms, watched.looked_ms + round(watched.within_s * 1000))
        keys = tuple(subscription.key for subscription in self._look_streams(trader))
        self._sink.gap(Gap(keys, GapReason.LOOK_LATE, since_ms, f"promised within {watched.within_s:g} s"))
        if watched.assignment is not None:
            self._egresses[watched.assignment.egress].hurry(trader)


def _hard_facts(rooms: Sequence[Room]) -> tuple[object, ...]:
    """What of the rooms makes a plan wrong at once, not only less good."""
    return tuple((room.users, room.freed) for room in rooms)
