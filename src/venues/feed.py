"""What the shared connection machinery asks of a venue, and what it hands on.

A venue answers five questions: where to connect, what to send to subscribe, whether a frame is a heartbeat, how to
ping, and what a frame means. It knows nothing of retries, buffers or storage. Where a venue wants a log-in or takes
lists of subscriptions its feed answers these questions too (`LoginFeed`, `BatchFeed`); a feed without them is asked
none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from src.models.changes import DeadLetter
from src.models.messages import Data, Decoded, Gap, Refusal
from src.models.streams import Subscription


class Endpoint(Struct, frozen=True):
    """Where to open a WebSocket.

    Attributes:
        url: ``ws://`` or ``wss://`` address.
        headers: sent with the handshake.
        max_size_bytes: bound of one message; a larger one ends the connection and is counted as rejected.
        compression: offers permessage-deflate.
        proxy: address of a proxy, None = straight out, whatever the environment says.
        binary: the venue sends binary messages. False: text arrives at ``Feed.decode`` as ``bytes`` (not yet checked
            to be UTF-8), binary messages are rejected before it. True: text arrives as ``str``, binary as ``bytes``.
        subprotocols: offered in the handshake; a server that chooses none is accepted.
        ping_every_s, ping_timeout_s: keep-alive by the protocol's own pings besides ``Feed.ping_frame``; None = none.
    """

    url: str
    headers: Mapping[str, str] = {}
    max_size_bytes: int = 16 * 1024 * 1024
    compression: bool = False
    proxy: str | None = None
    binary: bool = False
    subprotocols: tuple[str, ...] = ()
    ping_every_s: float | None = None
    ping_timeout_s: float | None = None


class Heartbeat(Struct, frozen=True):
    """When to ping and when to give up on a connection, in seconds.

    ``ping_every_s`` after the last ping; without any frame ``deadline_s`` after a ping the connection is dead.
    """

    ping_every_s: float
    deadline_s: float


class VenueLimits(Struct, frozen=True):
    """Published limits of one egress address, shared by all connections that leave from it. None = no such limit."""

    connections: int | None = None
    connects_per_minute: int | None = None
    subscriptions: int | None = None
    users: int | None = None
    messages_per_minute: int | None = None


class Feed(Protocol):
    """The five answers of a venue. All methods are pure and quick; only `WireError` may leave ``decode``."""

    @property
    def venue(self) -> str:
        """Short lower-case name, the first part of every stream key."""

    @property
    def limits(self) -> VenueLimits:
        """Published limits per egress address."""

    @property
    def heartbeat(self) -> Heartbeat:
        """Ping interval and deadline."""

    def endpoint(self) -> Endpoint:
        """Where to connect; asked anew for each attempt (tokens may have changed)."""

    def subscribe_frame(self, subscription: Subscription) -> str | bytes:
        """What to send to subscribe."""

    def unsubscribe_frame(self, subscription: Subscription) -> str | bytes:
        """What to send to unsubscribe."""

    def ping_frame(self) -> str | bytes | None:
        """The application-level ping, None when the protocol's own ping does."""

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """Say what a frame means.

        Raises:
            WireError: the frame is not what the venue promises.
        """


@runtime_checkable
class LoginFeed(Protocol):
    """What a `Feed` also answers where the venue wants a log-in. Subscriptions wait until `LoggedIn` was decoded."""

    @property
    def greets(self) -> bool:
        """The venue speaks first: the log-in waits for its `Welcome`."""

    def login_frames(self) -> Sequence[str | bytes]:
        """What to send to log in, asked anew for each connection; empty where the handshake carried it all."""


class Batching(Struct, frozen=True):
    """How a venue takes many subscriptions in one frame.

    Attributes:
        most: subscriptions handed to one call of ``subscribe_frames`` or ``unsubscribe_frames``.
        whole: each message replaces the one before, so every call is given all that is to be subscribed from now on
            (``unsubscribe_frames`` is asked only when nothing remains, and given what goes).
        acknowledged: the venue answers each message (`AckList`, `Ack` or `Refusal`). Only one message is under way
            at a time then, and a refused one is cut in halves until it is clear who is meant. False: nothing but
            data proves a subscription, so no deadline runs.
    """

    most: int
    whole: bool = False
    acknowledged: bool = True


@runtime_checkable
class BatchFeed(Protocol):
    """What a `Feed` also answers where the venue takes lists of subscriptions."""

    @property
    def batching(self) -> Batching:
        """How it takes them."""

    def subscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        """What to send to subscribe all of these."""

    def unsubscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        """What to send to unsubscribe all of these."""


@runtime_checkable
class HoursFeed(Protocol):
    """What a `Feed` also answers where the venue has hours, outside of which silence means nothing."""

    @property
    def silence_is_common(self) -> bool:
        """A stream counts as silent only when every stream of its connection is."""

    def expects_data(self, wall_ms: int) -> bool:
        """Whether streams that may not be silent have to speak at this time (ms since 1970)."""


class Sink(Protocol):
    """Where connections deliver. Every method returns at once and never raises."""

    def data(self, data: Data) -> None:
        """Data of a stream."""

    def gap(self, gap: Gap) -> None:
        """Streams that are no longer seen."""

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """The venue refused something; ``failed`` are the subscriptions that count as failed because of it."""

    def rejected(self, letter: DeadLetter) -> None:
        """A frame that could not be decoded."""


RawTap = Callable[[str, str | bytes, int], None]
"""Receives (connection name, raw frame, receipt time in ms) of every frame, before decoding."""
