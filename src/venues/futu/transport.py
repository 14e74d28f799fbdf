"""Plain TCP under the shared connection machinery: one message is one frame of the gateway, head and body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from src.models.errors import ConfigurationError, VenueError
from src.venues.feed import Endpoint
from src.venues.futu.codec import HEAD_BYTES, FrameBoundaryLostError, Splitter
from src.venues.timing import Timing
from src.venues.transport import Transport

READ_BYTES = 256 * 1024


async def open_tcp(endpoint: Endpoint, timing: Timing) -> Transport:
    """Connect once.

    Raises:
        OSError: name, network or refusal; `TimeoutError` after the open timeout, whatever it was that hung.
        ConfigurationError: the address is not ``tcp://host:port``.
    """
    host, port = _address(endpoint.url)
    async with asyncio.timeout(timing.open_timeout_s):
        reader, writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
    return _TcpTransport(reader, writer, Splitter(largest_body_bytes=endpoint.max_size_bytes - HEAD_BYTES))


class _TcpTransport:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, splitter: Splitter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = splitter
        self._lost: FrameBoundaryLostError | None = None
        self.heard = 0

    @property
    def closing(self) -> bool:
        return self._writer.is_closing() or self._reader.at_eof()

    async def recv(self) -> tuple[bytes, bool]:
        """The next frame.

        Raises:
            EOFError: the gateway closed; the text tells whether inside a frame.
            OSError: the network ended it.
            VenueError: what came is no frame.
        """
        while (frame := self._splitter.take()) is None:
            if self._lost is not None:
                raise VenueError(str(self._lost))
            piece = await self._reader.read(READ_BYTES)
            if not piece:
                where = "inside a frame" if self._splitter.torn else "between two frames"
                raise EOFError(f"the gateway closed the connection {where}")
            self.heard += 1
            try:
                self._splitter.feed(piece)
            except FrameBoundaryLostError as error:
                self._lost = error  # told after the frames that came whole before it
        return frame, True

    async def send(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            raise TypeError("the gateway takes bytes")
        self._writer.write(frame)
        await self._writer.drain()

    async def ping(self) -> None:
        """TCP has none; the keep-alive is a frame."""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()


def _address(url: str) -> tuple[str, int]:
    problem: Callable[[str], ConfigurationError] = ConfigurationError
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise problem(f"{url}: {error}; write tcp://host:port") from error
    if parts.scheme != "tcp" or not host or not port:
        raise problem(f"{url}: write tcp://host:port")
    return host, port
