"""A venue of our own invention: feed, loopback server with faults on demand, and a sink that remembers."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from src.models.changes import DeadLetter
from src.models.errors import WireError
from src.models.messages import Ack, Data, Decoded, Gap, Ignored, Pong, Refusal, RefusalKind, Trade
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Endpoint, Heartbeat, VenueLimits
from src.venues.timing import Timing

VENUE = "toy"

QUICK = Timing(
    open_timeout_s=1.0,
    close_timeout_s=0.3,
    send_timeout_s=0.5,
    tick_s=0.02,
    retry_first_s=0.05,
    retry_cap_s=0.2,
    healthy_after_s=0.3,
    attempts_most=1000,
    attempts_window_s=1.0,
    rate_limited_s=0.3,
    ack_deadline_s=0.3,
    refused_retry_s=0.4,
    invalid_retry_s=5.0,
    message_pause_s=0.2,
    idle_close_s=0.1,
    drain_s=2.0,
    task_restart_s=0.02,
)


def key(subject: str, channel: str = "price") -> StreamKey:
    return StreamKey(VENUE, channel, subject)


def market(subject: str, *, silent: float | None = None, stale: float | None = None) -> Subscription:
    args = {"ch": "price", "s": subject}
    return Subscription(key(subject), args, silent_after_s=silent, stale_after_s=stale)


def user_feeds(user: str, *channels: str) -> list[Subscription]:
    return [
        Subscription(key(user, channel), {"ch": channel, "s": user, "u": 1}, user=user)
        for channel in channels or ("orders", "state")
    ]


class ToyFeed:
    venue = VENUE

    def __init__(
        self,
        url: str = "ws://127.0.0.1:9",
        *,
        limits: VenueLimits | None = None,
        heartbeat: Heartbeat | None = None,
        binary: bool = False,
        protocol_ping: bool = False,
        max_size_bytes: int = 65536,
    ) -> None:
        self.url = url
        self.limits = limits or VenueLimits()
        self.heartbeat = heartbeat or Heartbeat(ping_every_s=20.0, deadline_s=10.0)
        self._binary = binary
        self._protocol_ping = protocol_ping
        self._max_size_bytes = max_size_bytes

    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, headers={"X-Toy": "1"}, max_size_bytes=self._max_size_bytes, binary=self._binary)

    def subscribe_frame(self, subscription: Subscription) -> str:
        return json.dumps({"op": "sub", **subscription.args})

    def unsubscribe_frame(self, subscription: Subscription) -> str:
        return json.dumps({"op": "unsub", **subscription.args})

    def ping_frame(self) -> str | None:
        return None if self._protocol_ping else '{"op": "ping"}'

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        try:
            said = json.loads(frame)
            return self._mean(said, received_ms, len(frame))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WireError("malformed_json", str(error)[:100]) from error

    def _mean(self, said: dict[str, Any], received_ms: int, size: int) -> Decoded:
        kind = said["k"]
        stream = key(said["s"], said.get("ch", "price")) if "s" in said else None
        if kind == "bug":
            raise ZeroDivisionError("a fault in the mapper")
        if kind == "pong":
            return Pong()
        if kind == "hello":
            return Ignored("hello")
        if kind == "err":
            return Refusal(RefusalKind(said["kind"]), said.get("text", "no"), stream)
        if kind == "ack" and stream is not None:
            return Ack(stream, bool(said["on"]))
        if kind == "data" and stream is not None:
            trade = Trade(VENUE, said["s"], str(said["n"]), "1.0", "1.0", None, said["t"], received_ms)
            return Data(stream, said["t"], (trade,), size)
        raise WireError("unknown_kind", str(kind))


class MemorySink:
    """Remembers everything it is given."""

    def __init__(self) -> None:
        self.received: list[Data] = []
        self.gaps: list[Gap] = []
        self.refusals: list[tuple[Refusal, tuple[Subscription, ...]]] = []
        self.letters: list[DeadLetter] = []
        self.on_refused: Callable[[Refusal], None] | None = None

    def data(self, data: Data) -> None:
        self.received.append(data)

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        self.refusals.append((refusal, failed))
        if self.on_refused:
            self.on_refused(refusal)

    def rejected(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def subjects(self) -> Counter[str]:
        return Counter(data.stream.subject for data in self.received)

    def gap_reasons(self) -> Counter[str]:
        return Counter(gap.reason.value for gap in self.gaps)


class ToyServer:
    """Speaks the toy protocol on a free loopback port; every fault is an attribute."""

    def __init__(self) -> None:
        self.url = ""
        self.attempts = 0
        self.attempt_times: list[float] = []
        self.accepted = 0
        self.said: list[tuple[int, dict[str, Any]]] = []
        self.subscribed: dict[ServerConnection, dict[tuple[str, str], bool]] = {}
        self.pings = 0
        # faults
        self.status: int | None = None
        self.status_headers: dict[str, str] = {}
        self.close_at_once: int | None = None
        self.user_cap: int | None = None
        self.no_ack: set[str] = set()
        self.invalid: set[str] = set()
        self.poison: set[str] = set()
        self.mute: set[str] = set()
        self.data_before_ack = False
        self.answers_ping = True
        self.deaf = False
        self.venue_time_offset_ms = 0
        self.on_subscribe: Callable[[ServerConnection, dict[str, Any]], Awaitable[None]] | None = None
        self.push_every_s = 0.02
        self._n = 0
        self._server: Server | None = None

    @contextlib.asynccontextmanager
    async def running(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ToyServer]:
        async with serve(
            self._handle, "127.0.0.1", 0, process_request=self._answer, ssl=tls, ping_interval=None, close_timeout=0.1
        ) as server:
            self._server = server
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws"
            pusher = asyncio.create_task(self._push_for_ever())
            try:
                yield self
            finally:
                pusher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pusher
                self.drop_all()

    def drop_all(self) -> None:
        """All connections end without a closing handshake, as at an upgrade."""
        for connection in list(self.subscribed):
            connection.transport.abort()

    async def close_all(self, code: int, reason: str = "") -> None:
        for connection in list(self.subscribed):
            await connection.close(code, reason)

    async def say_to_all(self, frame: str | bytes) -> None:
        for connection in list(self.subscribed):
            await connection.send(frame)

    def users(self) -> set[str]:
        return {s for streams in self.subscribed.values() for (_, s), is_user in streams.items() if is_user}

    def ops(self, op: str) -> list[str]:
        return [said["s"] for _, said in self.said if said["op"] == op]

    def data_frame(self, channel: str, subject: str) -> str:
        self._n += 1
        now_ms = int(asyncio.get_running_loop().time() * 1000) + self.venue_time_offset_ms
        return json.dumps({"k": "data", "ch": channel, "s": subject, "n": self._n, "t": now_ms})

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        self.attempt_times.append(asyncio.get_running_loop().time())
        if self.status is None:
            return None
        phrase = http.HTTPStatus(self.status).phrase
        return Response(self.status, phrase, Headers({**self.status_headers, "Content-Length": "0"}), b"")

    async def _handle(self, connection: ServerConnection) -> None:
        self.accepted += 1
        if self.close_at_once is not None:
            await connection.close(self.close_at_once, "Expired")
            return
        number = self.accepted
        self.subscribed[connection] = {}
        try:
            async for frame in connection:
                if self.deaf:
                    connection.transport.pause_reading()
                    continue
                await self._take(connection, number, json.loads(frame))
        except ConnectionClosed:
            pass
        finally:
            self.subscribed.pop(connection, None)

    async def _take(self, connection: ServerConnection, number: int, said: dict[str, Any]) -> None:
        if said["op"] == "ping":
            self.pings += 1
            if self.answers_ping:
                await connection.send('{"k": "pong"}')
            return
        self.said.append((number, said))
        if said["op"] == "unsub":
            self.subscribed[connection].pop((said["ch"], said["s"]), None)
            await connection.send(json.dumps({"k": "ack", "ch": said["ch"], "s": said["s"], "on": False}))
            return
        await self._subscribe(connection, said)

    async def _subscribe(self, connection: ServerConnection, said: dict[str, Any]) -> None:
        channel, subject, is_user = said["ch"], said["s"], "u" in said
        if subject in self.poison:
            await connection.close(1011)
            return
        if subject in self.invalid:
            error = {"k": "err", "kind": "invalid_subscription", "text": f"Invalid {subject}", "s": subject}
            await connection.send(json.dumps({**error, "ch": channel}))
            return
        capped = self.user_cap is not None and is_user and subject not in self.users()
        if capped and len(self.users()) >= (self.user_cap or 0):
            text = f"Cannot track more than {self.user_cap} total users."
            await connection.send(json.dumps({"k": "err", "kind": "user_cap", "text": text}))
            return
        if self.data_before_ack:
            await connection.send(self.data_frame(channel, subject))
        self.subscribed[connection][channel, subject] = is_user
        if subject not in self.no_ack:
            await connection.send(json.dumps({"k": "ack", "ch": channel, "s": subject, "on": True}))
        if self.on_subscribe is not None:
            await self.on_subscribe(connection, said)

    async def _push_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.push_every_s)
            for connection, streams in list(self.subscribed.items()):
                for channel, subject in list(streams):
                    if subject not in self.mute and subject not in self.no_ack:
                        with contextlib.suppress(ConnectionClosed):
                            await connection.send(self.data_frame(channel, subject))


async def until(condition: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Wait for a condition; fail the test when it does not come true in time."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - conditions are of any kind, few have an event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"did not come true within {within_s} s") from None
