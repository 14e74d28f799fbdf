"""One way out to the venue: its limits, what was learned of them, its pinned slots, its rotation and its polls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import structlog
from msgspec import Struct, structs

from src.jobs.following.ceilings import Ceiling
from src.jobs.following.looks import Looks
from src.jobs.following.past_looks import PastLooks
from src.jobs.following.planner import AddressPlan, Freed, Room
from src.jobs.following.polling import Polling
from src.jobs.following.rotation import Rotation
from src.models.changes import DeadLetter
from src.models.clock import Clock
from src.models.messages import Data, Gap, OrdersSnapshot, PositionsSnapshot, Refusal, RefusalKind
from src.models.metrics import Metrics
from src.models.streams import StreamKey, Subscription
from src.pipeline.supervise import supervise
from src.venues.budget import Budget
from src.venues.feed import RawTap, Sink
from src.venues.hyperliquid.feed import HyperliquidFeed
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import FLOORS, Priority, WeightBudget
from src.venues.pool import Pool
from src.venues.timing import Timing
from src.venues.transport import Opener, open_websocket

log = structlog.get_logger(__name__)

LOOK_MESSAGES_SHARE = 0.91
"""Part of the messages per minute that looks may take, beside pings; the rest is for live traders, and for what looks
take along."""

LOOK_CONNECTS_LEFT = 8
"""New connections per minute that batches of looks leave to the others."""

RETRY_FREED_S = 6 * 3600.0
"""After so long it is tried again whether an unsubscribe frees a user."""

WEIGHT_STEP = 50
LOOK_STEP = 1.25
"""What is measured is rounded, so that plans do not change with every breath."""

RESERVED_SHARE = 0.1
STATE_CHANNELS = frozenset({"openOrders", "clearinghouseState", "webData2"})
"""What a look shows; fills and past orders of a trader who is no longer live are not seen."""

LIVE_FIRST_S = 3.0
"""Looks wait for so long when traders become live, so that these get their slots."""

LEARNING_S = 15.0
"""For so long after it was learned that users stay counted, refusals still answer what was sent before."""

ROTATION_TICK_S = 0.1

Release = Literal["auto", "unsubscribe", "connection", "never"]
RefusalListener = Callable[[Refusal, tuple[Subscription, ...]], None]


class Means(Struct, frozen=True):
    """What all egress addresses have in common."""

    sink: Sink
    clock: Clock
    metrics: Metrics
    looks: Looks
    look_subscriptions: Callable[[str], Sequence[Subscription]]
    past: PastLooks
    clients: int
    release: Release
    poll_share: float
    tap: RawTap | None = None
    timing: Timing | None = None
    opener: Opener = open_websocket


class Way(Struct, frozen=True):
    """One way out other than over sockets; simulations hand them in."""

    opener: Opener
    http: httpx.AsyncBaseTransport


class Egress:
    """Everything that leaves through one address. ``run`` works until ``close``."""

    def __init__(
        self,
        number: int,
        *,
        feed: HyperliquidFeed,
        rest: HyperliquidRest,
        means: Means,
        on_refused: RefusalListener | None = None,
    ) -> None:
        self.number = number
        self.feed = feed
        self.rest = rest
        self.weights: WeightBudget = rest.budget
        self._means = means
        self._on_refused = on_refused
        self.budget = Budget(feed.limits, clock=means.clock)
        self.users = Ceiling(feed.limits.users or 1)
        self._by_connection_until = self._learned_at = float("-inf")
        self._live: frozenset[str] = frozenset()
        self._left_homes: set[int] = set()
        self.pool = self._pool(_LiveSink(means, self._refused), means.clients, means.timing)
        self.rotation = Rotation(
            subscriptions=means.look_subscriptions,
            looks=means.looks,
            clock=means.clock,
            sink=means.sink,
            past=means.past,
            has_room=self.budget.has_room_for,
            on_refused=self._look_refused,
        )
        timing = means.timing or Timing()
        self.look_pool = self._pool(self.rotation, 1, _quick(timing), "look-")
        self.rotation.use(self.look_pool)
        means.past.use(self.rotation)
        self.polling = Polling(
            streams=lambda trader: [s.key for s in means.look_subscriptions(trader)],
            rest=rest,
            feed=feed,
            sink=means.sink,
            looks=means.looks,
            clock=means.clock,
        )
        self._closing = asyncio.Event()

    # -- plan ------------------------------------------------------------------------------------------------------

    @property
    def freed(self) -> Freed:
        """When this address's users are freed, as set or as learned."""
        release = self._means.release
        if release != "auto":
            return release
        return "connection" if self._means.clock.monotonic() < self._by_connection_until else "unsubscribe"

    def room(self, market_streams: int, turnover: int = 0) -> Room:
        """What may be spent on traders now; ``turnover``: messages it takes to let other traders be live."""
        now, limits, freed = self._means.clock.monotonic(), self.feed.limits, self.freed
        pings = (self._means.clients + 1) * 60.0 / self.feed.heartbeat.ping_every_s
        most = limits.messages_per_minute or 0
        messages = most - max(most * (1 - LOOK_MESSAGES_SHARE), turnover) - pings
        return Room(
            users=self.users.allowed(now),
            subscriptions=(limits.subscriptions or 1_000) - market_streams,
            messages_per_minute=max(0.0, messages),
            connects_per_minute=max(0, (limits.connects_per_minute or 0) - LOOK_CONNECTS_LEFT),
            weight_per_minute=self._weight_left() // WEIGHT_STEP * WEIGHT_STEP,
            freed=freed,
            look_s=LOOK_STEP ** math.ceil(math.log(max(self.rotation.look_s, 1e-3), LOOK_STEP)),
            connect_s=0.5,
            reweigh=self.rotation.has_gone_round and self.polling.has_gone_round,
        )

    def follow(self, plan: AddressPlan, subscriptions: Sequence[Subscription]) -> None:
        """Carry out a plan; ``subscriptions`` are those of the live traders and of the markets."""
        self.rotation.by_connection = self.freed == "connection"
        self.rotation.follow(plan.rotation)
        self.polling.follow(plan.poll)
        self.carry(plan.live, subscriptions)

    def carry(self, live: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        """Carry exactly these with the pinned slots; ``live`` are the traders among them."""
        homes = self.pool.homes_of(self._live - frozenset(live))
        if frozenset(live) - self._live:
            self.rotation.pause(LIVE_FIRST_S)
        self._live = frozenset(live)
        self.pool.set_target(subscriptions)
        if self.freed == "connection" or self._means.clock.monotonic() < self._by_connection_until:
            self.pool.recycle(homes)
        else:
            self._left_homes |= homes

    def tick(self) -> None:
        """Give slots that users kept after they were let go to those who were refused; see who was accepted."""
        if self.users.suspected:
            self.users.accepted(len(self.pool.confirmed_users() | self.look_pool.confirmed_users()))
        if self._is_learning() and not self.look_pool.users_held:
            self.pool.retry_users()

    def hurry(self, trader: str) -> None:
        """Look at ``trader`` as soon as possible."""
        self.rotation.hurry(trader)
        self.polling.hurry(trader)

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Collect until `close`."""
        means = self._means
        works = {
            "hyperliquid": self.pool.run,
            "hyperliquid-looks": self.look_pool.run,
            "rotation": lambda: self.rotation.run(self._closing),
            "polling": lambda: self.polling.run(self._closing),
        }
        async with asyncio.TaskGroup() as group:
            for name, work in works.items():
                group.create_task(supervise(name, work, metrics=means.metrics, clock=means.clock), name=name)

    async def close(self) -> None:
        """Say good-bye on all connections and let `run` return."""
        self._closing.set()
        await asyncio.gather(self.pool.close(), self.look_pool.close())
        await self.rest.close()

    def status(self) -> dict[str, Any]:
        """Slots, budgets and what was learned; JSON-ready."""
        now = self._means.clock.monotonic()
        return {
            "name": self.weights.name,
            "live": len(self._live),
            "looks_under_way": self.rotation.under_way,
            "users_allowed": self.users.allowed(now),
            "users_freed_with": self.freed,
            "look_s": round(self.rotation.look_s, 2),
            "poll_weight_per_minute": round(self._weight_left()),
            "budget": self.budget.usage(),
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _pool(self, sink: Sink, clients: int, timing: Timing | None, label: str = "") -> Pool:
        means = self._means
        of_address = f"{self.number + 1}-" if self.number else ""
        return Pool(
            feed=self.feed,
            sink=sink,
            clock=means.clock,
            metrics=means.metrics,
            budget=self.budget,
            clients=clients,
            tap=means.tap,
            timing=timing,
            opener=means.opener,
            label=of_address + label,
            tells_gauges=False,
        )

    def _weight_left(self) -> float:
        """REST weight per minute that polls can rely on: what better requests leave, at least what is promised."""
        weights = self.weights
        used: Mapping[str, int] = weights.status()["used"]
        better = used[Priority.REPAIR.label] + used[Priority.REASON.label]
        kept = sum(share for priority, share in FLOORS.items() if priority is not Priority.POLL)
        left = weights.usable * (1.0 - kept - RESERVED_SHARE) - better
        return max(float(weights.promised(Priority.POLL)), left) * self._means.poll_share

    def _is_learning(self) -> bool:
        return self._means.clock.monotonic() - self._learned_at < LEARNING_S

    def _look_refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """A look was refused: users stay counted after they are let go, or fewer are allowed than we thought."""
        by_cap = refusal.kind is RefusalKind.USER_CAP
        if by_cap and self._means.release == "auto" and self.freed == "unsubscribe" and self.rotation.let_go:
            self._learn_that_users_stay(refusal)
            return
        shown = tuple(subscription for subscription in failed if subscription.key.channel in STATE_CHANNELS)
        self._note_refusal(refusal, failed)
        self._means.sink.refused(refusal, shown)

    def _learn_that_users_stay(self, refusal: Refusal) -> None:
        """Somebody who was let go still counts: from now on connections end with the users on them."""
        now = self._means.clock.monotonic()
        self._learned_at = now
        self._by_connection_until = now + RETRY_FREED_S
        self.rotation.by_connection = self.freed == "connection"
        log.warning("users_freed_with_connection", egress=self.weights.name, because=refusal.text[:120])
        self.rotation.pause(LIVE_FIRST_S)
        self.look_pool.recycle()
        self.pool.recycle(self._left_homes)
        self._left_homes = set()

    def _refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        self._note_refusal(refusal, failed)
        self._means.sink.refused(refusal, failed)

    def _note_refusal(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        by_cap = refusal.kind is RefusalKind.USER_CAP
        if by_cap and self._left_homes:
            self._learn_that_users_stay(refusal)
        elif by_cap and not self._is_learning():
            users = {subscription.user for subscription in failed} - {None}
            held = self.budget.usage()["users"]["used"]
            if self.users.refused(max(1, held - len(users)), self._means.clock.monotonic()):
                log.warning("fewer_users_allowed", egress=self.weights.name, users=self.users.allowed(0.0))


class _LiveSink:
    """Between the pinned slots and the pipeline: notes looks and activity."""

    def __init__(self, means: Means, refused: RefusalListener) -> None:
        self._sink = means.sink
        self._looks = means.looks
        self._tell_refused = refused

    def data(self, data: Data) -> None:
        """A frame; any state of a trader is a look at him."""
        for message in data.messages:
            if isinstance(message, OrdersSnapshot | PositionsSnapshot):
                self._looks.saw(data)
                self._looks.looked(data.stream.subject, "live")
            break
        self._sink.data(data)

    def gap(self, gap: Gap) -> None:
        """Streams that are no longer seen; those of traders who are looked at from now on are not told."""
        streams = tuple(stream for stream in gap.streams if not self._is_handed_over(stream, gap))
        if streams:
            self._sink.gap(gap if streams == gap.streams else Gap(streams, gap.reason, gap.at_ms, gap.detail))

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """A refusal, with the streams that are not seen because of it."""
        self._tell_refused(refusal, failed)

    def rejected(self, letter: DeadLetter) -> None:
        """A frame that could not be used."""
        self._sink.rejected(letter)

    def _is_handed_over(self, stream: StreamKey, gap: Gap) -> bool:
        if gap.reason != "unsubscribed" or stream.channel not in STATE_CHANNELS or stream.subject not in self._looks:
            return False
        assignment = self._looks[stream.subject].assignment
        return assignment is not None and assignment.mode != "live"


def names_of(proxies: Sequence[str | None]) -> list[str]:
    """Names for people and metrics: ``direct``, or host and port of the proxy, never its credentials; all differ."""
    names: list[str] = []
    for number, proxy in enumerate(proxies):
        parts = urlsplit(proxy or "")
        name = "direct" if proxy is None else f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        names.append(name if name not in names else f"{name}#{number + 1}")
    return names


def open_rest(
    api_url: str, proxy: str | None, *, name: str, clock: Clock, metrics: Metrics, way: Way | None = None
) -> HyperliquidRest:
    """REST through ``proxy`` (None = directly), paid from a budget of its own."""
    client = None if way is None else httpx.AsyncClient(transport=way.http)  # which has nothing to close
    budget = WeightBudget(clock=clock, name=name, metrics=metrics)
    return HyperliquidRest(api_url, clock=clock, metrics=metrics, budget=budget, client=client, proxy=proxy)


def _quick(timing: Timing) -> Timing:
    """For connections that carry looks: slots are to be free as soon as the venue says so."""
    return structs.replace(timing, tick_s=min(ROTATION_TICK_S, timing.tick_s), refused_retry_s=3600.0)
