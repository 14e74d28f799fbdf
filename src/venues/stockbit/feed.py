"""Stockbit's answers to the connection machinery: where, how to subscribe, how to ping, and what a frame means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from src.models.messages import AckList, Data, Decoded, LoginRefused, Pong, Several
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Batching, Endpoint, Heartbeat, VenueLimits
from src.venues.stockbit.books import VENUE, Odd
from src.venues.stockbit.mapper import ORDER_BOOK, StockbitMapper
from src.venues.stockbit.wire import Codec, Credentials, NestedCodec
from src.venues.timing import Timing

# The documented parameters of the socket.
MAX_FRAME_BYTES = 10 * 1024 * 1024
WS_PING_EVERY_S = 30.0
WS_PONG_DEADLINE_S = 10.0
CLOSE_TIMEOUT_S = 10.0

# The web application pings about every 16 s; public collectors give up 13 s after a ping without any answer.
APP_PING_EVERY_S = 15.0
APP_PONG_DEADLINE_S = 13.0

# In continuous trading a connection on which no book moves for so long has lost its subscription.
SILENT_S = 90.0

SUBPROTOCOL = "web"
HEADERS: Mapping[str, str] = {
    "Origin": "https://stockbit.com",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0 Safari/537.36",
}
CONNECTS_PER_MINUTE = 12
"""Our own caution: no limit is published."""

MOST_SUBSCRIPTIONS = 3_000
"""Every share of the exchange on every channel; no limit is published."""

TIMING = Timing(close_timeout_s=CLOSE_TIMEOUT_S, retry_cap_s=30.0, refused_retry_s=60.0)

LINGERING_AFTER_MS = 5_000
"""Frames of a ticker that come so long after it was given up show that the venue adds to its set."""


class Session(Protocol):
    """The log-in of the account, as the feed needs it."""

    def refused(self, why: str) -> None:
        """The venue threw the present connection out."""

    def accepted(self) -> None:
        """The venue sends data: the log-in of the present connection is in order."""


class Hours(Protocol):
    """When the exchange trades continuously, so that silence means something."""

    def expects_data(self, wall_ms: int) -> bool:
        """Whether books move at this time of a day of trading."""


class StockbitFeed:
    """Whether a subscribe adds to the set or replaces it is not known, so each one says all that is wanted."""

    venue = VENUE
    silence_is_common = True
    """A single share may be quiet for hours; only when all of them are, something is wrong."""

    def __init__(
        self,
        ws_url: str,
        *,
        session: Session,
        hours: Hours,
        codec: Codec | None = None,
        odd: Odd | None = None,
        app_ping_s: float = APP_PING_EVERY_S,
        ws_ping_s: float = WS_PING_EVERY_S,
        proxy: str | None = None,
    ) -> None:
        """Seconds of 0 switch a keep-alive off; ``session`` and ``hours`` see `Session` and `Hours`."""
        self._codec: Codec = codec or NestedCodec()
        self._session = session
        self._hours = hours
        self._app_ping = app_ping_s > 0
        self.mapper = StockbitMapper(self._codec, odd)
        self.heartbeat = Heartbeat(app_ping_s if self._app_ping else math.inf, APP_PONG_DEADLINE_S)
        self.limits = VenueLimits(
            connections=1, connects_per_minute=CONNECTS_PER_MINUTE, subscriptions=MOST_SUBSCRIPTIONS
        )
        self.batching = Batching(most=MOST_SUBSCRIPTIONS, whole=True, acknowledged=False)
        self.credentials: Credentials | None = None
        self._endpoint = Endpoint(
            ws_url,
            headers=HEADERS,
            max_size_bytes=MAX_FRAME_BYTES,
            compression=False,
            proxy=proxy,
            binary=True,
            subprotocols=(SUBPROTOCOL,),
            ping_every_s=ws_ping_s if ws_ping_s > 0 else None,
            ping_timeout_s=WS_PONG_DEADLINE_S,
        )
        self._told: dict[StreamKey, None] = {}
        self._given_up: dict[str, int] = {}
        self._unproven = False  # something was asked for and nothing came since
        self._accepted = False  # the venue has sent data on this connection
        self._authenticated = False
        self._must_clear = False
        self._now_ms = 0

    @property
    def lingering(self) -> bool:
        """Whether tickers that were given up keep coming: the next subscribe will clear the set first."""
        return self._must_clear

    def expects_data(self, wall_ms: int) -> bool:
        """Whether silence means something now; see `src.venues.feed.KeepsHours`."""
        return self._hours.expects_data(wall_ms)

    def endpoint(self) -> Endpoint:
        """The same each time; being asked means that a new connection begins."""
        self.mapper.opened()
        self._told.clear()
        self._given_up.clear()
        self._unproven = self._accepted = self._authenticated = self._must_clear = False
        return self._endpoint

    def subscribe_frame(self, subscription: Subscription) -> bytes:
        """A set of one; the machinery asks `subscribe_frames` instead."""
        key = subscription.key
        return self._codec.subscribe_frame(self._known_credentials(), {key.channel: [key.subject]})

    def unsubscribe_frame(self, subscription: Subscription) -> bytes:
        """The set without it."""
        return self._codec.subscribe_frame(self._known_credentials(), _by_channel(self._told, but=subscription.key))

    def subscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[bytes]:
        """Everything wanted from now on: the log-in before the first, an empty set where the venue only adds."""
        wanted = dict.fromkeys(subscription.key for subscription in subscriptions)
        self._note_given_up(wanted)
        self._told = wanted
        self._unproven = True
        credentials = self._known_credentials()
        frames = []
        if not self._authenticated:
            auth = self._codec.auth_frame(credentials)
            frames += [] if auth is None else [auth]
            self._authenticated = True
        if self._must_clear:
            self._must_clear = False
            frames.append(self._codec.subscribe_frame(credentials, {}))
        frames.append(self._codec.subscribe_frame(credentials, _by_channel(wanted)))
        if self._app_ping:
            frames.append(self._codec.ping_frame())  # its answer says that what was sent before it was read
        return frames

    def unsubscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[bytes]:
        """Asked when nothing remains: an empty set."""
        del subscriptions
        self._note_given_up({})
        self._told.clear()
        self._unproven = True
        return [self._codec.subscribe_frame(self._known_credentials(), {})]

    def ping_frame(self) -> bytes:
        """The application's ping."""
        return self._codec.ping_frame()

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """See `StockbitMapper.decode`; the first data or pong after a subscribe confirms all that was asked for.

        The venue acknowledges nothing, but it reads frames in order and answers a refused log-in with an error.
        """
        self._now_ms = received_ms
        decoded = self.mapper.decode(frame, received_ms)
        if isinstance(decoded, LoginRefused):
            self._session.refused(decoded.text)
            return decoded
        first = decoded.parts[0] if isinstance(decoded, Several) else decoded
        if isinstance(first, Data):
            if not self._accepted:
                self._accepted = True
                self._session.accepted()
            if first.stream not in self._told:
                self._note_lingering(first.stream, received_ms)
        if not self._unproven or not isinstance(decoded, Data | Pong | Several):
            return decoded
        self._unproven = False
        return Several((AckList(frozenset(self._told)), decoded))

    def _known_credentials(self) -> Credentials:
        assert self.credentials is not None, "the opener fetched them before the socket was opened"
        return self.credentials

    def _note_given_up(self, wanted: Mapping[StreamKey, None]) -> None:
        books = {key.subject for key in wanted if key.channel == ORDER_BOOK}
        gone = {key.subject for key in self._told if key.channel == ORDER_BOOK} - books
        self._given_up.update(dict.fromkeys(gone, self._now_ms))
        for ticker in books:
            self._given_up.pop(ticker, None)
        self.mapper.books.drop(frozenset(gone))

    def _note_lingering(self, stream: StreamKey, received_ms: int) -> None:
        since_ms = self._given_up.get(stream.subject)
        if stream.channel == ORDER_BOOK and since_ms is not None and received_ms - since_ms > LINGERING_AFTER_MS:
            self._must_clear = True


def _by_channel(keys: Iterable[StreamKey], but: StreamKey | None = None) -> dict[str, list[str]]:
    channels: dict[str, list[str]] = {}
    for key in keys:
        if key != but:
            channels.setdefault(key.channel, []).append(key.subject)
    return channels


def subscription(channel: str, ticker: str) -> Subscription:
    """Ask for one channel of one ticker; only books are expected to speak, and only while the exchange trades."""
    silent_s = SILENT_S if channel == ORDER_BOOK else None
    return Subscription(StreamKey(VENUE, channel, ticker), {channel: ticker}, silent_after_s=silent_s)
