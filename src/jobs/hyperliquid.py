"""Hyperliquid as one source of the running program: its pool, who it follows, which feeds it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct

from src.config import Settings
from src.jobs.tracking import Candidate
from src.models.clock import Clock
from src.models.messages import Refusal, RefusalKind
from src.models.metrics import Metrics
from src.models.streams import StreamKey, Subscription
from src.venues.budget import Budget
from src.venues.feed import Heartbeat, RawTap, Sink
from src.venues.hyperliquid.feed import FeedChoice, HyperliquidFeed, TraderStreams, market_subscriptions
from src.venues.hyperliquid.leaderboard import top_traders
from src.venues.pool import Pool
from src.venues.timing import Timing

log = structlog.get_logger(__name__)


class Pace(Struct, frozen=True):
    """Waiting times other than the usual ones; simulations hand in shorter ones."""

    timing: Timing
    heartbeat: Heartbeat


class HyperliquidSource:
    """Turns settings and followed traders into subscriptions of one pool."""

    def __init__(
        self,
        settings: Settings,
        *,
        sink: Sink,
        clock: Clock,
        metrics: Metrics,
        tap: RawTap | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._choice = FeedChoice(settings.hyperliquid_trader_feed)
        self.followed: tuple[str, ...] = ()
        self._replaced: tuple[StreamKey, ...] = ()
        feed = make_feed(settings, pace)
        self.pool = Pool(
            feed=feed,
            sink=sink,
            clock=clock,
            metrics=metrics,
            budget=Budget(feed.limits, clock=clock),
            clients=settings.trader_ws_clients,
            tap=tap,
            timing=pace.timing if pace else None,
        )

    def follow(self, addresses: Sequence[str]) -> None:
        """Follow exactly these traders, the most wanted first; books and trades of the coins always."""
        self.followed = tuple(addresses)
        self.pool.set_target(self._subscriptions(self.followed))

    def streams(self) -> tuple[StreamKey, ...]:
        """Everything that is asked for."""
        return self.streams_with(self.followed)

    def streams_with(self, followed: Sequence[str]) -> tuple[StreamKey, ...]:
        """Everything that would be asked for when following exactly these traders."""
        return tuple(subscription.key for subscription in self._subscriptions(followed))

    def on_refused(self, refusal: Refusal, failed: Sequence[Subscription]) -> bool:
        """Where the server does not know the modern trader feeds, use the legacy one; True when that was decided."""
        if refusal.kind is not RefusalKind.UNKNOWN_TYPE:
            return False
        channels = {subscription.key.channel for subscription in failed}
        if refusal.stream is not None:
            channels.add(refusal.stream.channel)
        replaced = self._trader_streams()
        if not any(self._choice.refused(channel) for channel in channels):
            return False
        self._replaced = replaced
        log.warning("trader_feed_changed", feed=self._choice.current, because=refusal.text[:120])
        asyncio.get_running_loop().call_soon(self.follow, self.followed)
        return True

    def replaced_streams(self) -> tuple[StreamKey, ...]:
        """The streams that the last change of the trader feed made superfluous."""
        kept = set(self.streams())
        return tuple(stream for stream in self._replaced if stream not in kept)

    async def discover(self, count: int) -> list[Candidate]:
        """The best ``count`` traders of the leaderboard.

        Raises:
            VenueError: it could not be read.
        """
        proxy = self._settings.hyperliquid_proxy
        rows = await top_traders(
            self._settings.hyperliquid_stats_url,
            count,
            clock=self._clock,
            metrics=self._metrics,
            proxy=None if proxy is None else proxy.get_secret_value(),
        )
        return [Candidate(row.address, None if row.month is None else row.month.pnl) for row in rows]

    def status(self) -> dict[str, Any]:
        """See `Pool.status`; with the trader feed in use."""
        return {**self.pool.status(), "trader_feed": self._choice.current}

    def _trader_streams(self) -> tuple[StreamKey, ...]:
        subscriptions = self._subscriptions(self.followed)
        return tuple(subscription.key for subscription in subscriptions if subscription.user is not None)

    def _subscriptions(self, followed: Sequence[str]) -> list[Subscription]:
        settings = self._settings
        wanted = market_subscriptions(
            settings.hyperliquid_coins,
            books=settings.hyperliquid_books,
            trades=settings.hyperliquid_trades,
            fast_books=settings.hyperliquid_book_fast,
        )
        streams = TraderStreams(
            feed=self._choice.current,
            orders=settings.trader_orders_ws_enabled,
            positions=settings.trader_positions_ws_enabled,
            fills=settings.hyperliquid_fills,
            dexes=settings.hyperliquid_dexes,
        )
        for address in followed:
            wanted.extend(streams.subscriptions(address))
        return wanted


def make_feed(settings: Settings, pace: Pace | None = None) -> HyperliquidFeed:
    """The feed the settings describe."""
    proxy = settings.hyperliquid_proxy
    return HyperliquidFeed(
        settings.hyperliquid_ws_url,
        max_users=settings.hyperliquid_max_users,
        proxy=None if proxy is None else proxy.get_secret_value(),
        heartbeat=pace.heartbeat if pace else None,
    )
