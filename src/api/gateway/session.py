"""One connected client: commands in, frames out, and everything bounded. Pure, time is handed in.

What waits for a client that does not read is bounded by what it is: of a book only the latest, of trades the newest
`Limits.events` with a notice of how many were dropped, of replies a few hundred.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

from src.api.gateway.commands import Command, CommandError, default_kinds, parse_command
from src.api.gateway.dialects import Dialect
from src.api.gateway.frames import Frame
from src.api.gateway.messages import error, plain
from src.models.live import STAR, Topic

MOST_REPLIES = 512
MOST_REFUSED_COMMANDS = 200
"""Commands beyond the rate that a client may send before it is cut off; each good one forgives one."""


class Doom(NamedTuple):
    """Why a connection has to end: a counter label, and what its client is told."""

    cause: str
    text: str


class Limits(Struct, frozen=True):
    """Bounds of one client; connections are bounded by `src.api.gateway.gateway`.

    Attributes:
        subscriptions: per client id, all its connections together.
        commands_per_s: lasting rate; at once it may send as many as it may have subscriptions, twice.
        events: trades, order and position events that wait for a connection that does not read.
        slow_s: seconds a connection may take nothing before it is hopeless.
    """

    subscriptions: int = 50
    commands_per_s: float = 20.0
    events: int = 1000
    slow_s: float = 10.0


class SubKey(NamedTuple):
    """A subscription as the client wrote it; ``venue`` is empty when it named none."""

    kind: str
    symbol: str
    venue: str = ""


Route = tuple[Topic, str]
"""A topic, and the spelling in which its messages name the symbol."""


class Began(NamedTuple):
    """The client wants something new."""

    key: SubKey


class Ended(NamedTuple):
    """The client wants something no longer."""

    key: SubKey


class Asked(NamedTuple):
    """The client waits for an answer that needs more than the session knows."""

    what: Literal["ping", "health"]


Event = Began | Ended | Asked


class Client:
    """All connections that use one client id, and what they are subscribed to."""

    __slots__ = ("_held", "name", "sockets")

    def __init__(self, name: str) -> None:
        self.name = name
        self.sockets = 0
        self._held: dict[SubKey, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def keys(self) -> Iterable[SubKey]:
        """What any of its connections is subscribed to."""
        return self._held.keys()

    def has_room(self, key: SubKey, most: int) -> bool:
        """Whether this is one of its subscriptions already, or one more is allowed."""
        return key in self._held or len(self._held) < most

    def add(self, key: SubKey) -> None:
        """One connection more is subscribed to it."""
        self._held[key] = self._held.get(key, 0) + 1

    def remove(self, key: SubKey) -> None:
        """One connection less is subscribed to it."""
        left = self._held[key] - 1
        if left:
            self._held[key] = left
        else:
            del self._held[key]


def _asleep() -> None:
    """Nobody writes for this session yet."""


class Session:
    """One connection of a client. ``latest`` may be written to by whoever has its routes."""

    __slots__ = (
        "_aims",
        "_blocked_at",
        "_control",
        "_dropped",
        "_events",
        "_filled_at",
        "_limits",
        "_refused",
        "_routes",
        "_states",
        "_subs",
        "_tokens",
        "client",
        "dialect",
        "doom",
        "dropped_total",
        "latest",
        "name",
        "wake",
    )

    def __init__(self, name: str, dialect: Dialect, client: Client, limits: Limits, now: float) -> None:
        self.name = name
        self.dialect = dialect
        self.client = client
        self.doom: Doom | None = None
        self.dropped_total = 0
        self.wake: Callable[[], None] = _asleep
        self.latest: dict[Route, Frame] = {}
        self._limits = limits
        self._tokens = self._burst
        self._filled_at = now
        self._refused = 0
        self._blocked_at: float | None = None
        self._control: deque[Frame] = deque()
        self._events: deque[tuple[Route, Frame]] = deque()
        self._states: dict[Route, Frame] = {}
        self._dropped: dict[str, int] = {}
        self._subs: dict[SubKey, bool] = {}
        self._aims: dict[SubKey, tuple[Topic, ...]] = {}
        self._routes: dict[Route, set[SubKey]] = {}

    # -- what the client says --------------------------------------------------------------------------------------

    def receive(self, raw: str | bytes, now: float) -> list[Event]:
        """Carry out one message as far as the session can; the rest is for the caller."""
        if not self.admits(now):
            self.reply(error("rate_limited", f"more than {self._limits.commands_per_s:g} messages a second; wait"))
            return []
        try:
            command = parse_command(raw)
        except CommandError as wrong:
            self.reply(error(wrong.code, str(wrong), wrong.symbol))
            return []
        if command.action == "ping":
            return [Asked("ping")]
        if command.action == "health":
            return [Asked("health")]
        carry_out = self._subscribe if command.action == "subscribe" else self._unsubscribe
        return [event for key in self._keys(command) for event in carry_out(key)]

    def admits(self, now: float) -> bool:
        """Count one message against the rate; False when it is one too many."""
        burst = self._burst
        self._tokens = min(burst, self._tokens + (now - self._filled_at) * self._limits.commands_per_s)
        self._filled_at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            self._refused = max(0, self._refused - 1)
            return True
        self._refused += 1
        if self._refused > MOST_REFUSED_COMMANDS:
            self.doom = Doom("rate", "Rate limit exceeded")
        return False

    # -- subscriptions ---------------------------------------------------------------------------------------------

    @property
    def keys(self) -> list[SubKey]:
        """Everything subscribed, confirmed or not."""
        return list(self._subs)

    @property
    def routes(self) -> Iterable[Route]:
        """Where its messages come from."""
        return self._routes.keys()

    def restore(self, key: SubKey) -> list[Event]:
        """Subscribe as if the client had asked; what is beyond its limits is left out silently."""
        return list(self._subscribe(key)) if self.client.has_room(key, self._limits.subscriptions) else []

    def is_confirmed(self, key: SubKey) -> bool | None:
        """Whether the client was told that it is subscribed, None when it is not."""
        return self._subs.get(key)

    def aim(self, key: SubKey, topics: Iterable[Topic]) -> None:
        """Let a subscription mean these topics; its messages begin to come with `add_routes`."""
        self._aims[key] = tuple(topics)

    def topics_of(self, key: SubKey) -> tuple[Topic, ...]:
        """The topics a subscription means."""
        return self._aims.get(key, ())

    def keys_on(self, topic: Topic) -> list[SubKey]:
        """Its subscriptions that mean a topic."""
        return [key for key, topics in self._aims.items() if topic in topics]

    def means(self, topic: Topic) -> bool:
        """Whether any of its subscriptions means a topic."""
        return any(topic in topics for topics in self._aims.values())

    def add_routes(self, key: SubKey) -> list[Route]:
        """Let its topics serve a subscription; returns the routes that are new."""
        added = []
        for topic in self._aims[key]:
            route = (topic, key.symbol)
            if route not in self._routes:
                self._routes[route] = set()
                added.append(route)
            self._routes[route].add(key)
        return added

    def drop_routes(self, key: SubKey) -> list[Route]:
        """Let nothing serve an ended subscription; what waits of it is discarded. Returns the routes not used now."""
        self._aims.pop(key, None)
        gone = []
        for route, keys in list(self._routes.items()):
            keys.discard(key)
            if not keys:
                del self._routes[route]
                gone.append(route)
        if gone:
            self._discard(gone)
        return gone

    def connecting(self, key: SubKey, venue: str) -> None:
        """Tell that the venue has to be asked first."""
        payload = self.dialect.connecting(key.kind, key.symbol, venue)
        if payload is not None:
            self.reply(payload)

    def confirm(self, key: SubKey) -> None:
        """Tell that the venue accepted."""
        self._subs[key] = True
        self.reply(self.dialect.confirmed(key.kind, key.symbol))

    def refuse(self, key: SubKey, code: str, text: str) -> None:
        """Tell that it cannot be had; the subscription is gone."""
        self._remove(key)
        self.reply(error(code, text, key.symbol, key.kind if key.kind != self.dialect.usual else None))

    def leave(self) -> list[SubKey]:
        """The connection is gone: give everything back."""
        keys = list(self._subs)
        for key in keys:
            self._remove(key)
        return keys

    # -- what waits for the client ---------------------------------------------------------------------------------

    def reply(self, payload: bytes) -> None:
        """Queue an answer."""
        if len(self._control) >= MOST_REPLIES:
            self.doom = Doom("slow", "Too many unread replies")
            return
        self._control.append(Frame(payload))

    def offer_event(self, route: Route, frame: Frame) -> None:
        """Queue something of which each one counts; the oldest give way."""
        if len(self._events) >= self._limits.events:
            (_, symbol), _ = self._events.popleft()
            self._dropped[symbol] = self._dropped.get(symbol, 0) + 1
            self.dropped_total += 1
        self._events.append((route, frame))

    def offer_state(self, route: Route, frame: Frame) -> None:
        """Queue how fresh a topic is; only the latest word counts."""
        self._states[route] = frame

    def take(self) -> list[Frame]:
        """Everything that waits, in the order in which it is to be sent."""
        frames: list[Frame] = []
        if self._control:
            frames.extend(self._control)
            self._control.clear()
        if self._states:
            frames.extend(self._states.values())
            self._states.clear()
        if self._events:
            frames.extend(Frame(plain("dropped", symbol=symbol, count=n)) for symbol, n in self._dropped.items())
            self._dropped.clear()
            frames.extend([frame for _, frame in self._events])
            self._events.clear()
        if self.latest:
            frames.extend(self.latest.values())
            self.latest.clear()
        return frames

    def waiting(self) -> int:
        """How many frames wait."""
        return len(self._control) + len(self._states) + len(self._events) + len(self.latest)

    def block(self, now: float) -> None:
        """The connection takes nothing more for now."""
        if self._blocked_at is None:
            self._blocked_at = now

    def unblock(self) -> None:
        """The connection takes more."""
        self._blocked_at = None

    def verdict(self, now: float) -> Doom | None:
        """Why this connection has to end, None when it may go on."""
        if self.doom is None and self._blocked_at is not None and now - self._blocked_at > self._limits.slow_s:
            self.doom = Doom("slow", "Too slow: nothing was read for a while")
        return self.doom

    # -- private ---------------------------------------------------------------------------------------------------

    @property
    def _burst(self) -> float:
        """A client that comes back subscribes everything at once, one message each."""
        return 2.0 * max(self._limits.subscriptions, self._limits.commands_per_s)

    def _keys(self, command: Command) -> list[SubKey]:
        venue = command.venue or ""
        return [
            SubKey(kind, symbol, venue)
            for symbol in command.symbols
            for kind in command.kinds or default_kinds(symbol, self.dialect.usual)
        ]

    def _subscribe(self, key: SubKey) -> list[Event]:
        known = self._subs.get(key)
        if known is not None:
            if known:
                self.reply(self.dialect.confirmed(key.kind, key.symbol))
            return []
        if not self.client.has_room(key, self._limits.subscriptions):
            most = self._limits.subscriptions
            self.reply(error("limit", f"Subscription limit exceeded: {most} per client", key.symbol))
            return []
        self._subs[key] = False
        self.client.add(key)
        return [Began(key)]

    def _unsubscribe(self, key: SubKey) -> list[Event]:
        """End what matches; a venue that was not named matches any."""
        meant = [
            one
            for one in self._subs
            if one.kind == key.kind and one.symbol == key.symbol and key.venue in ("", one.venue)
        ]
        for one in meant:
            self._remove(one)
        self.reply(self.dialect.ended(key.kind, key.symbol))
        return [Ended(one) for one in meant]

    def _remove(self, key: SubKey) -> None:
        if self._subs.pop(key, None) is not None:
            self.client.remove(key)

    def _discard(self, gone: list[Route]) -> None:
        """Drop what waits of routes that are gone, and of what came in by a star among them."""
        stars = {(topic.kind, topic.venue) for topic, _ in gone if topic.subject == STAR}

        def is_left(route: Route) -> bool:
            topic = route[0]
            return route not in gone and (route in self._routes or (topic.kind, topic.venue) not in stars)

        self.latest = {route: frame for route, frame in self.latest.items() if is_left(route)}
        self._states = {route: frame for route, frame in self._states.items() if is_left(route)}
        self._events = deque((route, frame) for route, frame in self._events if is_left(route))
