"""Futu as one source of the running program: order books of the symbols somebody wants, through a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from src.config import Settings
from src.jobs.source import Work
from src.jobs.stoppable import is_set_within
from src.models.clock import Clock
from src.models.live import ACCEPTED, STAR, WANTED, Standing
from src.models.market_symbols import canonical_or_none
from src.models.metrics import Metrics
from src.models.streams import StreamKey, SubscriptionState
from src.venues.budget import Budget
from src.venues.feed import Heartbeat, RawTap, Sink
from src.venues.futu.feed import FutuFeed, book_subscriptions, stream_of
from src.venues.futu.mapper import VENUE
from src.venues.futu.session import MINIMUM_HOLD_S
from src.venues.futu.transport import open_tcp
from src.venues.pool import Pool
from src.venues.timing import Timing

log = structlog.get_logger(__name__)

LOGGED_OUT_RETRY_S = 60.0
"""The gateway is near: asking it once a minute whether somebody has logged it in again costs nothing."""

HOLD_SLACK_S = 1.0
"""The gateway's minute begins when it has subscribed, ours when we hear of it; neither clock is exact."""

LOOK_EVERY_S = 1.0
KIND = "book"


class FutuPace(Struct, frozen=True):
    """Waiting times; simulations hand in shorter ones. ``heartbeat`` None = as the gateway says."""

    timing: Timing = Timing(slow_retry_s=LOGGED_OUT_RETRY_S)
    heartbeat: Heartbeat | None = None
    minimum_hold_s: float = MINIMUM_HOLD_S + HOLD_SLACK_S
    look_every_s: float = LOOK_EVERY_S


class FutuSource:
    """Turns settings and demand into subscriptions; without ``FUTU_HOST`` it does nothing and says so once.

    A symbol nobody wants any more stays subscribed until the minute is over in which the gateway refuses to cancel.
    """

    venue = VENUE

    def __init__(
        self,
        settings: Settings,
        *,
        sink: Sink,
        clock: Clock,
        metrics: Metrics,
        tap: RawTap | None = None,
        pace: FutuPace | None = None,
    ) -> None:
        self.enabled = bool(settings.futu_host)
        self._pace = pace or FutuPace()
        self._clock = clock
        self._configured = settings.futu_symbols
        self._wanted: dict[str, None] = dict.fromkeys(self._configured)
        self._lingering: set[str] = set()
        self._carried: dict[str, None] = {}
        self._closing = asyncio.Event()
        self._quota_told = False
        if not self.enabled:
            log.info(
                "venue_off", venue=VENUE, why="no host", remedy="set FUTU_HOST to where the gateway (OpenD) runs"
            )
        self.feed = FutuFeed(
            settings.futu_host or "127.0.0.1",
            settings.futu_port,
            quota=settings.futu_quota,
            clock=clock,
            heartbeat=self._pace.heartbeat,
        )
        self.pool = Pool(
            feed=self.feed,
            sink=sink,
            clock=clock,
            metrics=metrics,
            budget=Budget(self.feed.limits, clock=clock),
            clients=1,
            tap=tap,
            timing=self._pace.timing,
            opener=open_tcp,
        )

    @property
    def off(self) -> str:
        """Why nothing is collected, empty when it is."""
        return "" if self.enabled else "FUTU_HOST is empty"

    def want(self, wanted: Iterable[str] | Mapping[str, Collection[str]]) -> None:
        """Collect books of these, in either spelling, besides ``FUTU_SYMBOLS``; what is no symbol is left out.

        Args:
            wanted: symbols, or symbols with the kinds of topics wanted of each, of which only books exist here.
        """
        symbols = (s for s, kinds in wanted.items() if KIND in kinds) if isinstance(wanted, Mapping) else wanted
        found = (canonical_or_none(symbol) for symbol in symbols)
        self._wanted = dict.fromkeys([*self._configured, *(symbol for symbol in found if symbol)])
        self._settle()

    def standing(self, kind: str, symbol: str) -> Standing:
        """How a wanted symbol (with its market) stands with the gateway; ``*`` means what is collected anyway."""
        if not self.enabled:
            return Standing("refused", "no_source", "FUTU_HOST is empty: nothing is collected from Futu here")
        if kind != KIND:
            return Standing("refused", "unknown_topic", f"{VENUE} has no {kind} here, only order books")
        if symbol == STAR:
            return ACCEPTED
        found = self.pool.standing(stream_of(symbol))
        if found is None:
            return WANTED
        state, why = found
        if state is SubscriptionState.CONFIRMED:
            return ACCEPTED
        return WANTED if state is SubscriptionState.PENDING else Standing("refused", "upstream_refused", why)

    @property
    def is_connected(self) -> bool:
        """Whether the gateway can be heard now."""
        return self.pool.open_connections > 0

    def streams(self) -> tuple[StreamKey, ...]:
        """Everything that is asked for."""
        return tuple(stream_of(symbol) for symbol in self._carried) if self.enabled else ()

    def works(self, stopping: asyncio.Event) -> Sequence[Work]:
        """Names and bodies of the tasks to be supervised; they end with `close`."""
        del stopping  # the pool closes in its own order
        return [(VENUE, self.run)] if self.enabled else []

    async def run(self) -> None:
        """Collect until `close`."""
        if not self.enabled:
            return
        self._settle()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pool.run(), name=f"{VENUE}-pool")
            group.create_task(self._look_after(), name=f"{VENUE}-holds")

    async def close(self) -> None:
        """Say good-bye and let `run` return; safe to repeat."""
        self._closing.set()
        await self.pool.close()

    def reconnect(self) -> None:
        """Try again now, for example after somebody logged the gateway in."""
        self.pool.reconnect("asked for")

    def status(self) -> dict[str, Any]:
        """See `Pool.status`; with the gateway's own state and quota, and what is only held for its minute."""
        if not self.enabled:
            return {"venue": VENUE, "enabled": False, "why": "FUTU_HOST is empty"}
        return {**self.pool.status(), "enabled": True, **self.feed.status(), "lingering": len(self._lingering)}

    def _settle(self) -> None:
        """Carry what is wanted, and what was wanted until its minute is over."""
        if not self.enabled:
            return
        now, hold_s = self._clock.monotonic(), self._pace.minimum_hold_s
        self._lingering = {
            symbol
            for symbol in self._carried
            if symbol not in self._wanted
            and (since := self.feed.held_since(stream_of(symbol))) is not None
            and now - since < hold_s
        }
        carried = dict.fromkeys([*self._wanted, *(s for s in self._carried if s in self._lingering)])
        if carried != self._carried:
            self._carried = carried
            self.pool.set_target(book_subscriptions(carried))

    async def _look_after(self) -> None:
        """Let go of what was held long enough."""
        while not self._closing.is_set():
            if self._lingering:
                self._settle()
            self._tell_quota()
            await is_set_within(self._closing, self._pace.look_every_s)

    def _tell_quota(self) -> None:
        quota, plan = self.feed.quota, self.feed.limits.subscriptions
        if quota is None or plan is None or self._quota_told or quota.used + quota.left >= plan:
            return
        self._quota_told = True
        total = quota.used + quota.left
        log.warning("futu_quota_smaller_than_set", account=total, set=plan, hint=f"set FUTU_QUOTA={total}")
