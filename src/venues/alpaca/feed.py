"""Alpaca's answers to the connection machinery, and what to subscribe for a symbol."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from src.models.messages import Decoded
from src.models.streams import StreamKey, Subscription
from src.venues.alpaca.hours import is_regular
from src.venues.alpaca.mapper import VENUE, AlpacaMapper
from src.venues.feed import Batching, Endpoint, Heartbeat, VenueLimits

FeedName = Literal["iex", "sip", "delayed_sip", "test", "boats", "overnight"]
Encoding = Literal["msgpack", "json"]

PATHS: dict[str, str] = {
    "iex": "/v2/iex",
    "sip": "/v2/sip",
    "delayed_sip": "/v2/delayed_sip",
    "test": "/v2/test",
    "boats": "/v1beta1/boats",
    "overnight": "/v1beta1/overnight",
}
# Plans and limits (docs.alpaca.markets, "About Market Data API"): 30 symbols without a paid plan, which IEX and the
# delayed feed do not need; no limit with it. One connection per feed and account, on every plan.
FREE_SYMBOLS = 30
FREE_FEEDS = frozenset({"iex", "delayed_sip", "test"})
TEST_SYMBOL = "FAKEPACA"
MAX_CONNECTIONS = 1

# The official Go client pings every 10 s and waits 5 s; ours waits longer, as a busy reader hears its pongs late.
PING_EVERY_S = 10.0
PONG_DEADLINE_S = 15.0

MAX_FRAME_BYTES = 16 * 1024 * 1024
SYMBOLS_PER_FRAME = 1_000
CONTENT_TYPES = {"msgpack": "application/msgpack", "json": "application/json"}


QUIET_FEEDS = frozenset({"boats", "overnight"})
"""Traded at night and thinly: nobody can tell silence from a dead stream."""

DELAY_MS = 900_000


class AlpacaFeed:
    """Where, how to log in, how to subscribe, and what a frame means."""

    venue = VENUE
    greets = True
    silence_is_common = True
    batching = Batching(most=SYMBOLS_PER_FRAME)

    def __init__(
        self,
        ws_url: str,
        *,
        feed: FeedName,
        key: str,
        secret: str,
        encoding: Encoding = "msgpack",
        max_subscriptions: int | None = None,
        proxy: str | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        """``max_subscriptions`` counts streams (a symbol on a channel), None = the plan has no limit."""
        self.heartbeat = heartbeat or Heartbeat(PING_EVERY_S, PONG_DEADLINE_S)
        self.limits = VenueLimits(connections=MAX_CONNECTIONS, subscriptions=max_subscriptions)
        self._key, self._secret = key, secret
        self._encoding = encoding
        self._feed = feed
        self._endpoint = Endpoint(
            ws_url.rstrip("/") + PATHS[feed],
            headers={"Content-Type": CONTENT_TYPES[encoding]},
            max_size_bytes=MAX_FRAME_BYTES,
            proxy=proxy,
            binary=encoding == "msgpack",
        )
        self._mapper = AlpacaMapper()

    def endpoint(self) -> Endpoint:
        """The address of the feed; nothing in it changes between attempts."""
        return self._endpoint

    def login_frames(self) -> Sequence[str | bytes]:
        """``{"action": "auth", ...}``, within 10 s of the greeting."""
        return [self._encoded({"action": "auth", "key": self._key, "secret": self._secret})]

    def subscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        """One message with a list for each channel; adds to what is subscribed."""
        return [self._encoded({"action": "subscribe", **_by_channel(subscriptions)})]

    def unsubscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        """The same to take away."""
        return [self._encoded({"action": "unsubscribe", **_by_channel(subscriptions)})]

    def subscribe_frame(self, subscription: Subscription) -> str | bytes:
        """A message for one stream."""
        return self.subscribe_frames([subscription])[0]

    def unsubscribe_frame(self, subscription: Subscription) -> str | bytes:
        """A message for one stream."""
        return self.unsubscribe_frames([subscription])[0]

    def ping_frame(self) -> None:
        """The protocol's own ping; there is no other."""

    def expects_data(self, wall_ms: int) -> bool:
        """Whether anything must be heard: during regular hours, on the delayed feed 15 minutes after them."""
        if self._feed in QUIET_FEEDS:
            return False
        return self._feed == "test" or is_regular(wall_ms - delay_ms(self._feed))

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """See `AlpacaMapper.decode`."""
        return self._mapper.decode(frame, received_ms)

    def _encoded(self, message: dict[str, object]) -> str | bytes:
        if self._encoding == "msgpack":
            return msgspec.msgpack.encode(message)
        return json.dumps(message, separators=(",", ":"))


def subscriptions_of(
    symbols: Iterable[str], channels: Sequence[str], *, silent_after_s: float | None = None
) -> list[Subscription]:
    """All channels of the first symbol, then of the next: where not all have room, whole symbols are left out.

    Nobody knows how long one share is not traded; ``silent_after_s`` is about all of them together.
    """
    return [
        Subscription(
            StreamKey(VENUE, channel, symbol),
            {"channel": channel, "symbol": symbol},
            silent_after_s=silent_after_s if channel == "trades" else None,
        )
        for symbol in symbols
        for channel in channels
    ]


def delay_ms(feed: FeedName) -> int:
    """How late the feed tells what happened."""
    return DELAY_MS if feed == "delayed_sip" else 0


def most_symbols(feed: FeedName, setting: int) -> int | None:
    """Symbols the plan allows: the setting, or what the feed suggests where it is 0; None = no limit."""
    if setting:
        return setting
    return FREE_SYMBOLS if feed in FREE_FEEDS else None


def _by_channel(subscriptions: Sequence[Subscription]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for subscription in subscriptions:
        lists.setdefault(subscription.key.channel, []).append(subscription.key.subject)
    return lists
