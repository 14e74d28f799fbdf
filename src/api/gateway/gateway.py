"""All clients: who is connected, what they want of the venues, and what they are sent when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from src.api.gateway.admission import Entry, Handshake, Refusal, admit
from src.api.gateway.board import Board, Stale
from src.api.gateway.dialects import Middleware, TimeAndSales, health, pong
from src.api.gateway.options import Options
from src.api.gateway.remembered import Memory
from src.api.gateway.session import Asked, Began, Client, Ended, Event, Session, SubKey
from src.api.gateway.socket import GatewaySocket
from src.api.gateway.subscriptions import Subscriptions
from src.models.changes import Change, HoleClosed, HoleOpened
from src.models.clock import Clock
from src.models.live import CLIENT_HOLDER, Topic, Upstream, by_topic
from src.models.metrics import (
    GATEWAY_BYTES_SENT,
    GATEWAY_CLOSED,
    GATEWAY_CONNECTIONS,
    GATEWAY_DROPPED,
    GATEWAY_MESSAGES_SENT,
    GATEWAY_REFUSED,
    GATEWAY_SUBSCRIPTIONS,
    Metrics,
)
from src.models.symbols import Directory

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 1.0
LATENCY_SAMPLES = 2_000
GOING_AWAY = 1001
REST_FACTOR = 2.0
"""After a flush that took t seconds of CPU the next one waits this many t, and leaves the loop to others."""

NOT_TOLD = frozenset({"unsubscribed", "not_collected", "sampled"})
"""Holes that mean only that nobody asked until now."""

RECONNECTING = frozenset({"disconnect", "process_down", "refused"})

_TIME_AND_SALES = TimeAndSales()
_MIDDLEWARE = Middleware()


class Handle(Protocol):
    """A timer that can be cancelled."""

    def cancel(self) -> None:
        """Do not call."""


CallLater = Callable[[float, Callable[[], None]], Handle]


class Gateway:
    """Created by the composition root; `GatewaySocket` is its hand towards each client.

    All methods are called from the event loop's thread and return at once.

    Args:
        options: see `Options`.
        upstream: takes the clients' demand.
        directory: what symbols mean.
        memory: remembers subscriptions of client ids.
        clock: for everything but the timers.
        metrics: counters.
        call_later: starts timers; None = those of the running event loop.
        effort_s: CPU time spent so far, in seconds; what others do meanwhile on the machine must not count.
    """

    def __init__(
        self,
        options: Options,
        *,
        upstream: Upstream,
        directory: Directory,
        memory: Memory,
        clock: Clock,
        metrics: Metrics,
        call_later: CallLater | None = None,
        effort_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self.options = options
        self.board = Board(interval_s=options.interval_s, recent=options.recent)
        self._subscriptions = Subscriptions(self.board, upstream=upstream, directory=directory)
        self._upstream = upstream
        self._directory = directory
        self._memory = memory
        self._clock = clock
        self._metrics = metrics
        self._call_later = call_later
        self._effort_s = effort_s
        self._sockets: dict[GatewaySocket, None] = {}
        self._clients: dict[str, Client] = {}
        self._sessions: dict[str, Session] = {}
        self._timer: Handle | None = None
        self._timer_at = 0.0
        self._rest_until = 0.0
        self._names = 0
        self._closing = False
        self._empty = asyncio.Event()
        self._latency_ms: deque[int] = deque(maxlen=LATENCY_SAMPLES)
        self._high_water = 0
        self.listeners_elsewhere: Callable[[Topic], int] = lambda _: 0

    # -- what is published -----------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Nobody is connected: nothing hurries."""
        return not self._sessions

    def heard(self, changes: Sequence[Change]) -> None:
        """Take what the hub publishes."""
        now = self.now()
        for topic, found in by_topic(changes).items():
            self.board.publish(topic, found, now)
        for change in changes:
            if isinstance(change, HoleOpened) and change.reason not in NOT_TOLD:
                state = "reconnecting" if change.reason in RECONNECTING else "stale"
                self.mark(change.stream, Stale(state, change.reason, change.from_ms))
            elif isinstance(change, HoleClosed):
                self.mark(change.stream, None)
        self._schedule(now)

    def mark(self, stream: str, stale: Stale | None) -> None:
        """Tell those who listen to what a stream feeds how fresh it is."""
        for topic in self._directory.topics_fed_by(stream):
            for session in self.board.mark(topic, stale):
                session.wake()

    def stood(self, topic: Topic) -> None:
        """The venue has answered, or thinks differently now, about a topic somebody holds."""
        self._subscriptions.stood(topic)

    def released(self, topic: Topic) -> None:
        """Nobody wants this topic any more: what is known of it grows old."""
        if not self._directory.is_pushed(topic):
            self.board.forget(topic)

    def book_subscribers(self, venue: str, symbol: str) -> int:
        """See `src.api.live.Audience`."""
        topic = Topic("book", venue, symbol)
        return len(self.board.listeners(topic)) + self.listeners_elsewhere(topic)

    # -- sockets ---------------------------------------------------------------------------------------------------

    def attach(self, socket: GatewaySocket) -> None:
        """A connection begins its handshake."""
        self._sockets[socket] = None

    def admit(self, handshake: Handshake) -> Entry | Refusal:
        """Decide whether a client may come in."""
        entry = admit(handshake, self.options.rules)
        refusal = entry if isinstance(entry, Refusal) else self._check_room(entry)
        if refusal is None:
            return entry
        self._metrics.add(GATEWAY_REFUSED, refusal.code)
        return refusal

    def open(self, entry: Entry, wake: Callable[[], None]) -> Session:
        """Begin the session of a client that was let in."""
        self._names += 1
        name = f"{CLIENT_HOLDER}{self._names}"
        client_id = entry.client_id or name
        client = self._clients.setdefault(client_id, Client(client_id))
        client.sockets += 1
        dialect = _MIDDLEWARE if entry.middleware else _TIME_AND_SALES
        session = Session(name, dialect, client, self.options.limits, self.now())
        session.wake = wake
        self._sessions[name] = session
        self._metrics.put(GATEWAY_CONNECTIONS, value=len(self._sessions))
        if entry.client_id is not None and entry.resume:
            self._memory.recall(entry.client_id, lambda keys: self._restore(session, keys))
        return session

    def receive(self, session: Session, raw: bytes) -> None:
        """Carry out one message of a client."""
        before = session.keys
        self._follow(session, session.receive(raw, self.now()))
        if session.keys != before:
            self._remember(session)

    def detach(self, socket: GatewaySocket, session: Session | None) -> None:
        """A connection is gone."""
        self._sockets.pop(socket, None)
        if not self._sockets:
            self._empty.set()
        if session is None:
            return
        del self._sessions[session.name]
        self._remember(session)
        self._high_water = max(self._high_water, session.waiting())
        for key in session.leave():
            self._subscriptions.let_go(session, key)
        client = session.client
        client.sockets -= 1
        if not client.sockets:
            del self._clients[client.name]
        self._metrics.put(GATEWAY_CONNECTIONS, value=len(self._sessions))
        self._count_subscriptions()

    def sent(self, messages: int, size_bytes: int) -> None:
        """Count what was written."""
        self._metrics.add(GATEWAY_MESSAGES_SENT, amount=messages)
        self._metrics.add(GATEWAY_BYTES_SENT, amount=size_bytes)

    def ended(self, cause: str) -> None:
        """Count a connection that we ended."""
        self._metrics.add(GATEWAY_CLOSED, cause)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def later(self, delay_s: float, call: Callable[[], None]) -> Handle:
        """Call something in a while."""
        if self._call_later is not None:
            return self._call_later(delay_s, call)
        return asyncio.get_running_loop().call_later(delay_s, call)

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Look after the connections until ``stopping``."""
        while not stopping.is_set():
            self.check()
            try:
                await asyncio.wait_for(stopping.wait(), CHECK_EVERY_S)
            except TimeoutError:
                continue

    def check(self) -> None:
        """End connections that are hopeless or dead, and bring the counters up to date."""
        now = self.now()
        for socket in list(self._sockets):
            socket.check(now)
        for session in self._sessions.values():
            self._high_water = max(self._high_water, session.waiting())
            if session.dropped_total:
                self._metrics.add(GATEWAY_DROPPED, "slow_reader", amount=session.dropped_total)
                session.dropped_total = 0

    async def close(self, timeout_s: float = 1.0) -> None:
        """Send everybody away (1001), and wait a moment for their answers."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for socket in list(self._sockets):
            socket.close(GOING_AWAY, "The server stops; come back in a moment", cause="stop")
        if self._sockets:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
        for socket in list(self._sockets):
            socket.cut()

    def stats(self) -> dict[str, Any]:
        """The section ``gateway`` of ``/stats``."""
        metrics, ordered = self._metrics, sorted(self._latency_ms)
        return {
            "connections": len(self._sessions),
            "clients": len(self._clients),
            "subscriptions": dict(self._subscriptions.symbols),
            "messages_sent": metrics.total(GATEWAY_MESSAGES_SENT),
            "messages_dropped": metrics.total(GATEWAY_DROPPED),
            "refused": {labels[0]: value for labels, value in metrics.by_label(GATEWAY_REFUSED).items()},
            "closed": {labels[0]: value for labels, value in metrics.by_label(GATEWAY_CLOSED).items()},
            "queue_high_water": self._high_water,
            "latency_ms": {"p50": _share(ordered, 0.5), "p99": _share(ordered, 0.99)},
        }

    def connected(self) -> Mapping[str, bool]:
        """Whether each venue can be heard."""
        return self._upstream.connected()

    # -- private: commands -----------------------------------------------------------------------------------------

    def _check_room(self, entry: Entry) -> Refusal | None:
        if self._closing:
            return Refusal("stopping", "The server stops; come back in a moment")
        if len(self._sessions) >= self.options.connections:
            return Refusal("connections", "Connection limit of the server exceeded")
        client = None if entry.client_id is None else self._clients.get(entry.client_id)
        if client is not None and client.sockets >= self.options.connections_per_client:
            return Refusal("client_connections", "Connection limit exceeded")
        return None

    def _follow(self, session: Session, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Began):
                self._subscriptions.begin(session, event.key)
            elif isinstance(event, Ended):
                self._subscriptions.let_go(session, event.key)
            elif isinstance(event, Asked):
                self._answer(session, event)
        if events:
            self._count_subscriptions()

    def _answer(self, session: Session, asked: Asked) -> None:
        connected = self._upstream.connected()
        if asked.what == "ping":
            session.reply(pong(connected))
        else:
            session.reply(health(connected, sorted(self._subscriptions.symbols), len(self._sessions)))

    def _restore(self, session: Session, keys: Sequence[SubKey]) -> None:
        """Subscribe a client that came back to what it had."""
        if session.name not in self._sessions:
            return
        for key in keys:
            self._follow(session, session.restore(key))
        self._remember(session)
        session.wake()

    def _remember(self, session: Session) -> None:
        client = session.client
        if client.name != session.name:
            self._memory.remember(client.name, list(client.keys))

    def _count_subscriptions(self) -> None:
        self._metrics.put(GATEWAY_SUBSCRIPTIONS, value=sum(len(client) for client in self._clients.values()))

    # -- private: sending ------------------------------------------------------------------------------------------

    def _schedule(self, now: float) -> None:
        due = self.board.due()
        if due is None or self._closing:
            return
        at = max(due, self._rest_until)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.later(max(0.0, at - now), self._flush)

    def _flush(self) -> None:
        self._timer = None
        effort_s = self._effort_s()
        for session in self.board.flush(self.now()):
            session.wake()
        ended = self.now()
        wall_ms = self._clock.wall_ms()
        self._latency_ms.extend(max(0, wall_ms - received_ms) for received_ms in self.board.oldest_received_ms)
        self._rest_until = ended + min(self.options.interval_s, REST_FACTOR * (self._effort_s() - effort_s))
        self._schedule(ended)


def _share(ordered: Sequence[int], share: float) -> int | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
