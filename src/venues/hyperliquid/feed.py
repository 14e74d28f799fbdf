"""Hyperliquid's five answers, and what to subscribe for a trader or a coin."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from src.models.messages import Decoded
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Endpoint, Heartbeat, VenueLimits
from src.venues.hyperliquid.mapper import VENUE, HyperliquidMapper

# Published limits per address (rate-limits-and-user-limits): 10 connections, 30 new ones and 2,000 messages a
# minute, 1,000 subscriptions, 10 unique users.
MAX_CONNECTIONS = 10
CONNECTS_PER_MINUTE = 30
MAX_SUBSCRIPTIONS = 1_000
MESSAGES_PER_MINUTE = 2_000

# The server closes a connection to which it has sent nothing for 60 s (timeouts-and-heartbeats).
PING_EVERY_S = 20.0
PONG_DEADLINE_S = 10.0

MAX_FRAME_BYTES = 16 * 1024 * 1024

# Measured cadences: user state and default books every 4-5.3 s, fast books 0.55 s, webData2 at the end 15 s.
STATE_SILENT_S = 30.0
WEB_DATA2_SILENT_S = 90.0
BOOK_SILENT_S = 30.0
FAST_BOOK_SILENT_S = 10.0
STATE_STALE_S = 60.0

_PING = '{"method":"ping"}'

TraderFeed = Literal["split", "webData2"]
HISTORY_CHANNEL = "userHistoricalOrders"
FILLS_CHANNEL = "userFills"
SPLIT_CHANNELS = frozenset({"clearinghouseState", "openOrders"})


class HyperliquidFeed:
    """Where, how to subscribe, how to ping, and what a frame means."""

    venue = VENUE

    def __init__(
        self, ws_url: str, *, max_users: int, proxy: str | None = None, heartbeat: Heartbeat | None = None
    ) -> None:
        self.heartbeat = heartbeat or Heartbeat(PING_EVERY_S, PONG_DEADLINE_S)
        self._endpoint = Endpoint(ws_url, max_size_bytes=MAX_FRAME_BYTES, proxy=proxy)
        self._mapper = HyperliquidMapper()
        self.limits = VenueLimits(
            connections=MAX_CONNECTIONS,
            connects_per_minute=CONNECTS_PER_MINUTE,
            subscriptions=MAX_SUBSCRIPTIONS,
            users=max_users,
            messages_per_minute=MESSAGES_PER_MINUTE,
        )

    def endpoint(self) -> Endpoint:
        """The WebSocket address; nothing in it changes between attempts."""
        return self._endpoint

    def subscribe_frame(self, subscription: Subscription) -> str:
        """``{"method": "subscribe", "subscription": …}``."""
        return _request("subscribe", subscription)

    def unsubscribe_frame(self, subscription: Subscription) -> str:
        """``{"method": "unsubscribe", "subscription": …}`` with the same object."""
        return _request("unsubscribe", subscription)

    def ping_frame(self) -> str:
        """The documented JSON ping; the protocol's own ping is not known to count as traffic."""
        return _PING

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """See `HyperliquidMapper.decode`."""
        return self._mapper.decode(frame, received_ms)


class TraderStreams(Struct, frozen=True):
    """What to follow of each trader."""

    feed: TraderFeed
    orders: bool
    positions: bool
    fills: bool
    dexes: tuple[str, ...] = ()
    history: bool = False
    """Statuses of orders as they change: why orders ended, and what lived between two lists."""

    def subscriptions(self, trader: str) -> list[Subscription]:
        """The subscriptions of one trader; together they count as one user."""
        wanted: list[Subscription] = []
        if self.feed == "webData2":
            if self.orders or self.positions:
                wanted.append(user_stream("webData2", trader, silent_after_s=WEB_DATA2_SILENT_S))
        else:
            for dex in ("", *self.dexes):
                if self.positions:
                    wanted.append(user_stream("clearinghouseState", trader, dex, STATE_SILENT_S))
                if self.orders:
                    wanted.append(user_stream("openOrders", trader, dex, STATE_SILENT_S))
        if self.fills:
            wanted.append(user_stream(FILLS_CHANNEL, trader))
        if self.history:
            wanted.append(user_stream(HISTORY_CHANNEL, trader))
        return wanted


def market_subscriptions(coins: Iterable[str], *, books: bool, trades: bool, fast_books: bool) -> list[Subscription]:
    """Books and trades of coins. Trades may be quiet for as long as nobody trades, so only books are watched."""
    wanted: list[Subscription] = []
    for coin in coins:
        if books:
            args: dict[str, object] = {"type": "l2Book", "coin": coin}
            if fast_books:
                args["fast"] = True
            silent_s = FAST_BOOK_SILENT_S if fast_books else BOOK_SILENT_S
            key = StreamKey(VENUE, "l2Book", coin)
            wanted.append(Subscription(key, args, silent_after_s=silent_s, stale_after_s=STATE_STALE_S))
        if trades:
            wanted.append(Subscription(StreamKey(VENUE, "trades", coin), {"type": "trades", "coin": coin}))
    return wanted


class FeedChoice:
    """Which trader feed the server accepts: starts with the modern one, falls back once to the legacy one.

    Since summer 2026 the public server refuses ``webData2`` and older nodes know nothing else; either answers the
    other kind with a parse error.
    """

    def __init__(self, setting: Literal["auto", "split", "webData2"]) -> None:
        self._automatic = setting == "auto"
        self.current: TraderFeed = "webData2" if setting == "webData2" else "split"

    def refused(self, channel: str) -> bool:
        """The server does not know ``channel``; True when the choice changed because of it."""
        if not self._automatic or self.current != "split" or channel not in SPLIT_CHANNELS:
            return False
        self._automatic = False
        self.current = "webData2"
        return True


def user_stream(channel: str, trader: str, dex: str = "", silent_after_s: float | None = None) -> Subscription:
    """One feed of one trader; silence means something only where ``silent_after_s`` says from when on."""
    args: dict[str, object] = {"type": channel, "user": trader}
    if dex:
        args["dex"] = dex
    carries_time = channel in {"clearinghouseState", "webData2"}
    return Subscription(
        StreamKey(VENUE, channel, trader, dex),
        args,
        user=trader,
        silent_after_s=silent_after_s,
        stale_after_s=STATE_STALE_S if carries_time else None,
    )


def _request(method: str, subscription: Subscription) -> str:
    return json.dumps({"method": method, "subscription": dict(subscription.args)}, separators=(",", ":"))
