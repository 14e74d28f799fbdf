"""One client connection: its subscriptions, sending, and the knowledge of what has arrived."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence

from msgspec import Struct
from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from src.venues.hyperliquid.simulator.limits import ClientUsage
from src.venues.hyperliquid.simulator.subscriptions import Subscription
from src.venues.hyperliquid.simulator.truth import Delivery

_LARGE_FRAME_HEADER = b"\x81\x7f"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class SentFrame(Struct, frozen=True):
    """A state frame as it was sent, kept for the faults that repeat one."""

    data: bytes
    time_ms: int | None
    deliveries: Sequence[Delivery]


class FeedState(Struct):
    """A running subscription: when its next frame is due (monotonic seconds) and what it sent last."""

    subscription: Subscription
    due_s: float
    last: SentFrame | None = None
    last_content: bytes = b""


class Session:
    """One connection.

    Attributes:
        muted: nothing more is sent (a fault is about to end the connection, or it is half-open).
        abort_at_s: monotonic time at which the pump cuts the connection, None = not planned.
        skipped: frames left out because the client does not read.
        left_users: of subscriptions that ended, where users count as long as their connection lasts.
    """

    def __init__(
        self, number: int, ws: ServerConnection, usage: ClientUsage, *, now_s: float, max_write_buffer_bytes: int
    ) -> None:
        self.number = number
        self.ws = ws
        self.usage = usage
        self.feeds: dict[Subscription, FeedState] = {}
        self.left_users: list[str] = []
        self.muted = False
        self.abort_at_s: float | None = None
        self.last_sent_s = now_s
        self.posts = 0
        self.skipped = 0
        self._max_write_buffer_bytes = max_write_buffer_bytes
        self._unconfirmed: list[Delivery] = []
        self._confirmed = 0
        self._has_unconfirmed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """True while frames can be sent and arrive."""
        return not self.muted and self.ws.protocol.state is State.OPEN

    def send(self, data: bytes, now_s: float, *, binary: bool = False) -> bool:
        """Send a frame at once; False when the connection is gone or the client does not read."""
        if not self.is_open:
            return False
        if self.ws.transport.get_write_buffer_size() > self._max_write_buffer_bytes:
            self.skipped += 1
            return False
        broadcast([self.ws], data, text=not binary)
        self.last_sent_s = now_s
        return True

    def note(self, deliveries: Sequence[Delivery]) -> None:
        """Remember states that were sent until it is known that they arrived."""
        self._unconfirmed.extend(deliveries)
        self._has_unconfirmed.set()

    async def confirm_forever(self) -> None:
        """Keep finding out what arrived; ends with the connection."""
        while True:
            await self._has_unconfirmed.wait()
            self._has_unconfirmed.clear()
            try:
                await self._confirm()
            except ConnectionClosed:
                return

    async def confirm(self, timeout_s: float = 2.0) -> bool:
        """Find out that everything sent so far arrived, by a ping round trip; False when no answer came."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._confirm()
        except (ConnectionClosed, TimeoutError):
            return False
        return True

    def abort(self) -> None:
        """Cut the connection without a closing handshake."""
        self.muted = True
        self.ws.transport.abort()

    def reset_in_frame(self, data: bytes) -> None:
        """Send the head and half of a frame, then reset the TCP connection."""
        self.muted = True
        transport = self.ws.transport
        transport.write(_LARGE_FRAME_HEADER + len(data).to_bytes(8, "big") + data[: len(data) // 2])
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    def stop_reading(self) -> None:
        """Become half-open: the TCP connection stays, nothing is read, answered or sent."""
        self.muted = True
        self.ws.transport.pause_reading()

    async def _confirm(self) -> None:
        target = self._confirmed + len(self._unconfirmed)
        pong = await self.ws.ping()
        await pong
        arrived = max(0, target - self._confirmed)  # less when a later round trip was quicker to be noticed
        for delivery in self._unconfirmed[:arrived]:
            delivery.delivered = True
        del self._unconfirmed[:arrived]
        self._confirmed += arrived
