"""All connections to one venue from one egress address: spreads subscriptions, watches freshness, tells status."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from src.models.clock import Clock
from src.models.messages import Gap, GapReason
from src.models.metrics import TASK_FAILURES, Metrics
from src.models.streams import StreamKey, Subscription, SubscriptionState
from src.venues.budget import Budget
from src.venues.connection import Connection
from src.venues.feed import Feed, HoursFeed, RawTap, Sink
from src.venues.freshness import ClockSkew, Freshness, Muted, Reconnect, Resubscribe, Verdict
from src.venues.parts import LETTERS_MOST, LETTERS_WINDOW_S, Parts
from src.venues.placement import Place, Placement
from src.venues.repeats import Repeats
from src.venues.report import PoolNumbers, pool_status, put_gauges
from src.venues.timing import Timing
from src.venues.transport import Opener, open_websocket

log = structlog.get_logger(__name__)


class Pool:
    """Keeps a set of subscriptions alive on up to ``clients`` connections.

    ``set_target``, ``add`` and ``remove`` may be called at any time from the event loop's thread and return at once.
    ``budget`` is shared by everything that leaves from the same address. Nothing runs before `run`.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        sink: Sink,
        clock: Clock,
        metrics: Metrics,
        budget: Budget,
        clients: int = 5,
        rng: random.Random | None = None,
        tap: RawTap | None = None,
        timing: Timing | None = None,
        opener: Opener = open_websocket,
        label: str = "",
        tells_gauges: bool = True,
    ) -> None:
        """Nothing is opened yet.

        Args:
            feed: what the venue wants to hear.
            sink: takes what it says.
            clock: for everything.
            metrics: for everything.
            budget: of the egress address.
            clients: most connections.
            rng: for jitter.
            tap: gets every raw frame.
            timing: waiting times.
            opener: opens sockets.
            label: part of the names of connections, where a venue has several pools.
            tells_gauges: whether the venue's gauges are this pool's alone; else somebody adds up `numbers`.
        """
        if clients < 1:
            raise ValueError(f"clients must be at least 1, not {clients}")
        timing = timing or Timing()
        self._parts = Parts(
            feed=feed,
            sink=sink,
            clock=clock,
            metrics=metrics,
            budget=budget,
            freshness=Freshness(silence_is_common=isinstance(feed, HoursFeed) and feed.silence_is_common),
            timing=timing,
            random=(rng or random.Random()).random,  # noqa: S311 - jitter, no secret
            opener=opener,
            tap=tap,
            log_gate=Repeats(window_s=timing.log_repeat_s),
            letter_gate=Repeats(window_s=LETTERS_WINDOW_S, most=LETTERS_MOST),
            label=label,
        )
        self._tells_gauges = tells_gauges
        allowed = feed.limits.connections
        homes = clients if allowed is None else min(clients, allowed)
        self._connections = [Connection(home, self._parts) for home in range(homes)]
        self._placement = Placement(homes, budget)
        self._dropped: list[dict[StreamKey, list[Place]]] = [{} for _ in range(homes)]
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting_told = 0

    def set_target(self, subscriptions: Iterable[Subscription]) -> None:
        """Carry exactly these, the first ones first where limits do not allow all; what is carried already stays."""
        target = {subscription.key: subscription for subscription in subscriptions}
        wanted = self._placement.wanted()
        self.remove([key for key, subscription in wanted.items() if target.get(key) != subscription])
        self._placement.sort_waiting(target)
        self.add(target.values())

    def add(self, subscriptions: Iterable[Subscription]) -> None:
        """Carry these too; keys that are carried already are left as they are."""
        self._carry(self._placement.want(subscriptions))

    def remove(self, keys: Iterable[StreamKey]) -> None:
        """Carry these no longer. A user's slot becomes free when the venue has confirmed the unsubscribe.

        Whether the venue frees a user before the connection closes is not documented; where it does not, it will
        refuse the next user, who is then *failed* and tried again slowly.
        """
        parts, told = self._parts, []
        for place in self._placement.drop(keys):
            key = place.subscription.key
            live = self._connections[place.home].remove(key)
            if parts.freshness.forget(key) and live:
                told.append(key)
            self._dropped[place.home].setdefault(key, []).append(place)
        if told:
            parts.sink.gap(Gap(tuple(told), GapReason.UNSUBSCRIBED, parts.clock.wall_ms()))
        self._settle()

    def resubscribe(self, keys: Iterable[StreamKey]) -> None:
        """Ask for these afresh where they are carried and confirmed."""
        for key in keys:
            self._obey(Resubscribe(key))

    def reconnect(self, detail: str) -> None:
        """Replace every open socket, and try again where the venue had refused us for good (new credentials)."""
        for connection in self._connections:
            connection.reconnect(detail)

    def recycle(self, homes: Iterable[int] | None = None) -> None:
        """Close open sockets (of these connections), and open them anew where something is still to be carried.

        Where a venue frees users only with their connection, this is what frees them.
        """
        for connection in self._connections:
            if homes is None or connection.home in homes:
                connection.recycle()

    def confirmed_users(self) -> set[str]:
        """Users of whom the venue has confirmed something."""
        entries = (entry for connection in self._connections for entry in connection.ledger.entries())
        users = {entry.subscription.user for entry in entries if entry.state is SubscriptionState.CONFIRMED}
        return {user for user in users if user is not None}

    def retry_users(self) -> None:
        """A user's slot became free elsewhere: ask again for those who were refused for want of one."""
        for connection in self._connections:
            connection.retry_users()

    def settle(self) -> None:
        """Look at once for slots that became free; happens by itself at every tick."""
        self._settle()

    def homes_of(self, users: Iterable[str]) -> set[int]:
        """The connections that carry something of these users."""
        wanted = set(users)
        places = (self._placement.place(key) for key in self._placement.wanted())
        return {place.home for place in places if place is not None and place.subscription.user in wanted}

    def is_waiting(self, keys: Iterable[StreamKey]) -> bool:
        """Whether any of these has to wait for a slot."""
        return any(self._placement.waits(key) for key in keys)

    @property
    def users_held(self) -> int:
        """Users the venue may count because of this pool."""
        return self._placement.users_held

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return sum(connection.open for connection in self._connections)

    @property
    def given_up(self) -> bool:
        """Whether the venue refuses us for good on some connection; `reconnect` tries again."""
        return any(connection.given_up for connection in self._connections)

    def standing(self, key: StreamKey) -> tuple[SubscriptionState, str] | None:
        """How one subscription stands and why it failed; None when it is not wanted."""
        place = self._placement.place(key)
        if place is not None:
            entry = self._connections[place.home].ledger.entry(key)
            return None if entry is None else (entry.state, entry.why)
        why = next((waiting.why for waiting in self._placement.waiting if waiting.subscription.key == key), None)
        return None if why is None else (SubscriptionState.FAILED, why)

    async def run(self) -> None:
        """Collect until `close`; a part that raises is logged, counted and started again."""
        if self._closing.is_set():
            return
        async with asyncio.TaskGroup() as group:
            jobs = [(connection.name, connection.run) for connection in self._connections]
            for name, job in [*jobs, (f"{self._parts.feed.venue}-monitor", self._monitor)]:
                self._tasks.append(group.create_task(self._supervise(name, job), name=name))

    async def close(self) -> None:
        """Say good-bye on all connections and let `run` return, within ``drain_s``; safe to repeat."""
        self._closing.set()
        for connection in self._connections:
            connection.stop()
        if not self._tasks:
            return
        for connection, task in zip(self._connections, self._tasks, strict=False):
            if connection.connecting:  # there is nobody yet to say good-bye to
                task.cancel()
        _, late = await asyncio.wait(self._tasks, timeout=self._parts.timing.drain_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("connections_cut_at_close", venue=self._parts.feed.venue, count=len(late))
            await asyncio.wait(late)

    def status(self) -> dict[str, Any]:
        """Connections, streams and budget as they are now; JSON-ready. See `report.pool_status`."""
        return pool_status(self._parts, self._connections, self._placement)

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def _supervise(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """Run ``job`` until it returns; when it raises, start it again after a growing pause."""
        timing, pause_s = self._parts.timing, self._parts.timing.task_restart_s
        while True:
            began = self._parts.clock.monotonic()
            try:
                await job()
            except Exception:  # the supervised boundary: one dead task must not end the collection
                self._parts.metrics.add(TASK_FAILURES, name)
                if self._parts.log_gate.due(("died", name), began):
                    log.exception("task_died", task=name)
            else:
                return
            lived_s = self._parts.clock.monotonic() - began
            pause_s = timing.task_restart_s if lived_s > timing.healthy_after_s else pause_s
            if await self._closes_within(pause_s):
                return
            pause_s = min(2 * pause_s, timing.retry_cap_s)

    async def _monitor(self) -> None:
        parts = self._parts
        while not await self._closes_within(parts.timing.tick_s):
            now, wall_ms = parts.clock.monotonic(), parts.clock.wall_ms()
            if isinstance(parts.feed, HoursFeed) and not parts.feed.expects_data(wall_ms):
                parts.freshness.rest(now)
            else:
                for verdict in parts.freshness.check(now, wall_ms):
                    self._obey(verdict)
            self._settle()
            if self._tells_gauges:
                put_gauges(parts.metrics, parts.feed.venue, [self.numbers()])

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True

    # -- what the monitor does -------------------------------------------------------------------------------------

    def _obey(self, verdict: Verdict) -> None:
        parts = self._parts
        match verdict:
            case Muted(key, reason, at_ms, age_s):
                parts.sink.gap(Gap((key,), reason, at_ms, f"{age_s:.1f} s old"))
                if parts.log_gate.due(("muted", key.channel, reason), parts.clock.monotonic()):
                    log.warning("stream_not_fresh", stream=str(key), reason=reason.value, age_s=round(age_s, 1))
            case Resubscribe(key):
                place = self._placement.place(key)
                if place is not None:
                    self._connections[place.home].resubscribe(key)
            case Reconnect(home, key):
                self._connections[home].reconnect(f"{key} stayed silent after a new subscription")
            case ClockSkew(offset_ms):
                log.warning("clock_skew", venue=parts.feed.venue, ours_ahead_ms=offset_ms)

    def _settle(self) -> None:
        """Give freed slots to those who wait."""
        freed_user = False
        for connection, dropped in zip(self._connections, self._dropped, strict=True):
            for subscription in connection.ledger.take_left():
                places = dropped[subscription.key]
                freed_user |= self._placement.left(places.pop(0))
                if not places:
                    del dropped[subscription.key]
        if freed_user:
            for connection in self._connections:
                connection.retry_users()
        self._carry(self._placement.fill())

    def _carry(self, places: list[Place]) -> None:
        for place in places:
            self._parts.freshness.watch(place.subscription, place.home)
            self._connections[place.home].add(place.subscription)
        waiting = self._placement.waiting
        more, self._waiting_told = len(waiting) > self._waiting_told, len(waiting)
        if more and self._parts.log_gate.due(("limit", waiting[0].why), self._parts.clock.monotonic()):
            log.warning(
                "venue_limit_reached",
                venue=self._parts.feed.venue,
                not_collected=len(waiting),
                users=len({entry.subscription.user for entry in waiting} - {None}),
                why=waiting[0].why,
            )

    def numbers(self) -> PoolNumbers:
        """How many subscriptions are in each state or wait for room, and how many connections are open."""
        waiting = len(self._placement.waiting)
        counts = dict.fromkeys(SubscriptionState, 0)
        for connection in self._connections:
            for state, count in connection.ledger.counts().items():
                counts[state] += count
        counts[SubscriptionState.FAILED] += waiting
        return PoolNumbers(counts, waiting, self.open_connections)
