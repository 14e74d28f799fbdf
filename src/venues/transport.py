"""The socket under a connection: small enough that another kind (plain TCP) can take its place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.protocol import State
from websockets.typing import Subprotocol

from src.venues.feed import Endpoint
from src.venues.quick_socket import QuickSocket
from src.venues.timing import Timing

_MAX_QUEUE = 8
"""Messages that wait inside the library before it stops reading from the socket."""


class Transport(Protocol):
    """An open connection that carries messages."""

    @property
    def heard(self) -> int:
        """How many frames of any kind have arrived; grows with every sign of life."""

    @property
    def closing(self) -> bool:
        """The end has begun, no message can come any more."""

    async def recv(self) -> tuple[bytes, bool]:
        """The next message and whether it is binary; text is not checked to be UTF-8. Raises when the end came."""

    async def send(self, frame: str | bytes) -> None:
        """Send text (``str``) or binary (``bytes``); waits while the peer does not read."""

    async def ping(self) -> None:
        """The protocol's own ping; the answer shows in `heard`."""

    async def close(self) -> None:
        """Say good-bye and close, within the close timeout."""

    def abort(self) -> None:
        """Drop the socket at once."""


Opener = Callable[[Endpoint, Timing], Awaitable[Transport]]
"""Opens a transport or raises one of `failures.EXPECTED_ERRORS`."""


async def open_websocket(endpoint: Endpoint, timing: Timing) -> Transport:
    """Connect once, without any retry of the library's own.

    Raises:
        OSError: DNS, TCP, TLS or the open timeout.
        websockets.exceptions.WebSocketException: the handshake was refused or malformed, or an address is wrong.
    """
    socket = await connect(
        endpoint.url,
        create_connection=QuickSocket,
        additional_headers=dict(endpoint.headers),
        compression="deflate" if endpoint.compression else None,
        proxy=endpoint.proxy,
        open_timeout=timing.open_timeout_s,
        close_timeout=timing.close_timeout_s,
        ping_interval=endpoint.ping_every_s,
        ping_timeout=endpoint.ping_timeout_s,
        subprotocols=[Subprotocol(name) for name in endpoint.subprotocols] or None,
        max_size=endpoint.max_size_bytes,
        max_queue=_MAX_QUEUE,
    )
    assert isinstance(socket, QuickSocket)
    return _WebSocketTransport(socket)


class _WebSocketTransport:
    def __init__(self, socket: QuickSocket) -> None:
        self._socket = socket

    @property
    def heard(self) -> int:
        return self._socket.heard

    @property
    def closing(self) -> bool:
        return self._socket.state is not State.OPEN

    async def recv(self) -> tuple[bytes, bool]:
        return await self._socket.take()

    async def send(self, frame: str | bytes) -> None:
        await self._socket.send(frame)

    async def ping(self) -> None:
        await self._socket.ping()

    async def close(self) -> None:
        # While nobody reads, the library stops reading from the socket and never sees the answer of a busy venue.
        discarding = asyncio.create_task(self._discard(), name="websocket discard")
        try:
            await self._socket.close()
        finally:
            discarding.cancel()
            await asyncio.gather(discarding, return_exceptions=True)

    async def _discard(self) -> None:
        with contextlib.suppress(WebSocketException):
            while True:
                await self._socket.take()

    def abort(self) -> None:
        self._socket.transport.abort()
