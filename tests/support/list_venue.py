"""A venue of our own invention that wants a log-in and takes lists of subscriptions; loopback server with faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from src.models.errors import WireError
from src.models.messages import (
    AckList,
    Data,
    Decoded,
    LoggedIn,
    LoginRefused,
    Refusal,
    RefusalKind,
    Several,
    Trade,
    Welcome,
)
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Batching, Endpoint, Heartbeat, VenueLimits

VENUE = "lists"


def key(subject: str) -> StreamKey:
    return StreamKey(VENUE, "trades", subject)


def wanted(*subjects: str) -> list[Subscription]:
    return [Subscription(key(subject), {"s": subject}) for subject in subjects]


class ListFeed:
    venue = VENUE
    heartbeat = Heartbeat(ping_every_s=20.0, deadline_s=10.0)

    def __init__(
        self, url: str = "ws://127.0.0.1:9", *, greets: bool = True, batching: Batching | None = None
    ) -> None:
        self.url = url
        self.greets = greets
        self.password = "open sesame"
        self.batching = batching or Batching(most=100)
        self.limits = VenueLimits(connections=1)

    def endpoint(self) -> Endpoint:
        return Endpoint(self.url)

    def login_frames(self) -> Sequence[str]:
        return [json.dumps({"op": "login", "password": self.password})]

    def subscribe_frame(self, subscription: Subscription) -> str:
        return self.subscribe_frames([subscription])[0]

    def unsubscribe_frame(self, subscription: Subscription) -> str:
        return self.unsubscribe_frames([subscription])[0]

    def subscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[str]:
        return [json.dumps({"op": "sub", "s": [s.key.subject for s in subscriptions]})]

    def unsubscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[str]:
        return [json.dumps({"op": "unsub", "s": [s.key.subject for s in subscriptions]})]

    def ping_frame(self) -> None:
        return None

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        try:
            parts = tuple(self._mean(said, received_ms) for said in json.loads(frame))
        except (ValueError, KeyError, TypeError) as error:
            raise WireError("malformed_json", str(error)[:100]) from error
        return parts[0] if len(parts) == 1 else Several(parts)

    def _mean(self, said: dict[str, Any], received_ms: int) -> Decoded:
        match said["k"]:
            case "hello":
                return Welcome()
            case "in":
                return LoggedIn()
            case "no":
                return LoginRefused(
                    said["kind"], said["text"], said.get("remedy", ""), said.get("why", "login_refused")
                )
            case "err":
                return Refusal(RefusalKind(said["kind"]), "no", key(said["s"]) if "s" in said else None)
            case "list":
                return AckList(frozenset(key(subject) for subject in said["s"]))
            case "data":
                trade = Trade(VENUE, said["s"], str(said["n"]), "1", "1", None, 1_000, received_ms)
                return Data(key(said["s"]), 1_000, (trade,))
        raise WireError("unknown_kind", str(said["k"]))


class ListServer:
    """Every fault is an attribute; ``said`` are all client messages but the log-ins, ``logins`` those."""

    def __init__(self) -> None:
        self.url = ""
        self.accepted = 0
        self.logins: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.too_early: list[dict[str, Any]] = []
        self.sets: dict[ServerConnection, list[str]] = {}
        self.open = 0
        self.most_open = 0
        # faults
        self.greets = True
        self.greeting_after_s = 0.0
        self.refuses_login: dict[str, Any] | None = None
        self.closes_after_refusal = False
        self.answers_login = True
        self.needs_no_login = False
        self.limit: int | None = None
        self.unknown: set[str] = set()
        self.answers_lists = True
        self._n = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ListServer]:
        async with serve(self._handle, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
            yield self
            for socket in list(self.sets):
                socket.transport.abort()

    async def say(self, *parts: dict[str, Any]) -> None:
        for socket in list(self.sets):
            await self._send(socket, *parts)

    async def push(self, *subjects: str) -> None:
        """One frame with one trade of each."""
        self._n += 1
        await self.say(*({"k": "data", "s": subject, "n": self._n} for subject in subjects))

    def subscribed(self) -> list[str]:
        return sorted(subject for subjects in self.sets.values() for subject in subjects)

    async def _send(self, socket: ServerConnection, *parts: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await socket.send(json.dumps(parts))

    async def _handle(self, socket: ServerConnection) -> None:
        self.accepted += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        logged_in = False
        try:
            if self.greets:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(socket.wait_closed(), self.greeting_after_s)
                await self._send(socket, {"k": "hello"})
            if self.needs_no_login:
                logged_in = await self._let_in(socket)
            async for text in socket:
                said = json.loads(text)
                if said["op"] == "login":
                    logged_in = await self._login(socket, said)
                elif not logged_in:
                    self.too_early.append(said)
                else:
                    self.said.append(said)
                    await self._take(socket, said)
        except ConnectionClosed:
            pass
        finally:
            self.open -= 1
            self.sets.pop(socket, None)

    async def _login(self, socket: ServerConnection, said: dict[str, Any]) -> bool:
        self.logins.append(said)
        if self.refuses_login is not None:
            await self._send(socket, {"k": "no", **self.refuses_login})
            if self.closes_after_refusal:
                await socket.close(1000)
            return False
        return await self._let_in(socket) if self.answers_login else False

    async def _let_in(self, socket: ServerConnection) -> bool:
        self.sets[socket] = []
        await self._send(socket, {"k": "in"})
        return True

    async def _take(self, socket: ServerConnection, said: dict[str, Any]) -> None:
        has, subjects = self.sets[socket], said["s"]
        if said["op"] == "sub":
            if self.unknown & set(subjects):
                await self._send(socket, {"k": "err", "kind": "invalid_subscription"})
                return
            new = [subject for subject in subjects if subject not in has]
            if self.limit is not None and len(has) + len(new) > self.limit:
                await self._send(socket, {"k": "err", "kind": "subscription_cap"})
                return
            has += new
        else:
            has[:] = [subject for subject in has if subject not in subjects]
        if self.answers_lists:
            await self._send(socket, {"k": "list", "s": has})
