"""The socket under a connection: small enough that another kind (plain TCP) can take its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

from src.venues.feed import Endpoint
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
        create_connection=_Socket,
        additional_headers=dict(endpoint.headers),
        compression="deflate" if endpoint.compression else None,
        proxy=endpoint.proxy,
        open_timeout=timing.open_timeout_s,
        close_timeout=timing.close_timeout_s,
        ping_interval=None,
        max_size=endpoint.max_size_bytes,
        max_queue=_MAX_QUEUE,
    )
    assert isinstance(socket, _Socket)
    return _WebSocketTransport(socket)


class _Socket(ClientConnection):
    """The library's connection; it also notes signs of life and which messages are binary.

    ``recv(decode=False)`` hands out text without the cost of checking UTF-8, but then no longer says what was text.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard = 0
        self.binary: deque[bool] = deque()

    def process_event(self, event: Event) -> None:
        self.heard += 1
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.binary.append(event.opcode is Opcode.BINARY)
        super().process_event(event)


class _WebSocketTransport:
    def __init__(self, socket: _Socket) -> None:
        self._socket = socket

    @property
    def heard(self) -> int:
        return self._socket.heard

    @property
    def closing(self) -> bool:
        return self._socket.state is not State.OPEN

    async def recv(self) -> tuple[bytes, bool]:
        frame = await self._socket.recv(decode=False)
        return frame, self._socket.binary.popleft()

    async def send(self, frame: str | bytes) -> None:
        await self._socket.send(frame)

    async def ping(self) -> None:
        await self._socket.ping()

    async def close(self) -> None:
        await self._socket.close()

    def abort(self) -> None:
        self._socket.transport.abort()
