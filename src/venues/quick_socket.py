"""The library's WebSocket connection with a shortcut for the frames that make up a feed.

A busy feed is thousands of small, whole, uncompressed data frames a second, and most of what they cost is the
library's parser. After the handshake this socket reads such frames itself. Everything else (control frames,
fragments, compressed or too large messages, what breaks the protocol) goes to the library as it came: it answers
pings, closes and fails as ever. Once it has been handed anything but a control frame it keeps the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

MOST_WAITING = 64
"""Messages that wait to be taken before the socket is read no more; it is read again below a quarter of them."""

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""First bytes of whole frames (RFC 6455, 5.2): FIN set, no extension."""

_MEDIUM, _LONG = 126, 127
_END_OF_HEAD = b"\r\n\r\n"


class _Reader(Enum):
    HANDSHAKE = "handshake"
    QUICK = "quick"
    LIBRARY = "library"


class QuickSocket(ClientConnection):
    """A client connection; messages are taken with `take`, never with ``recv``.

    Attributes:
        heard: frames of any kind that have arrived.
        held: so many messages wait that nothing more is read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard = 0
        self._reader = _Reader.HANDSHAKE
        self._head = b""
        self._rest = bytearray()  # the beginning of a frame
        self._needed = 0  # bytes of ``_rest`` from which it is worth a look
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._kinds: deque[bool] = deque()  # of messages the library read: whether they are binary
        self.held = False
        self._waker: asyncio.Future[None] | None = None

    async def take(self) -> tuple[bytes, bool]:
        """The next message and whether it is binary; text is not checked to be UTF-8. Raises when the end came."""
        while not self._waiting:
            if self._reader is _Reader.LIBRARY:
                message = await self.recv(decode=False)
                return message, self._kinds.popleft()
            self._waker = self.loop.create_future()
            await self._waker
        if self.held and len(self._waiting) <= MOST_WAITING // 4:
            self.held = False
            self.transport.resume_reading()
        return self._waiting.popleft()

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self._reader is _Reader.QUICK:
            self._read(data)
        elif self._reader is _Reader.LIBRARY:
            super().data_received(data)
        else:
            self._shake_hands(data)

    def process_event(self, event: Event) -> None:
        """Something the library has read."""
        self.heard += 1
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._kinds.append(event.opcode is Opcode.BINARY)
        super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; what was read before it can still be taken."""
        super().connection_lost(exc)
        self._reader = _Reader.LIBRARY
        self._wake()

    def _shake_hands(self, data: bytes) -> None:
        """The head of the answer is the library's; frames begin right behind it."""
        before = len(self._head)
        end = (self._head + data).find(_END_OF_HEAD)
        if end < 0:
            self._head = (self._head + data)[-len(_END_OF_HEAD) + 1 :]
            super().data_received(data)
            return
        cut = end + len(_END_OF_HEAD) - before
        super().data_received(data[:cut])
        simple = self.protocol.state is State.OPEN and not self.protocol.extensions
        self._reader = _Reader.QUICK if simple else _Reader.LIBRARY
        if len(data) > cut:
            self.data_received(data[cut:])

    def _read(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), bytearray()
        at = self._read_frames(data)
        if at < len(data):
            if self._reader is _Reader.LIBRARY:
                super().data_received(data[at:])
            else:
                self._rest = bytearray(data[at:])
        if len(self._waiting) > MOST_WAITING and not self.held:
            self.held = True
            self.transport.pause_reading()
        self._wake()

    def _read_frames(self, data: bytes) -> int:  # noqa: C901 - one loop over bytes; calls would cost more than frames
        """Read whole frames; returns where the first one begins that is not whole, or not ours to read."""
        at, size, waiting, largest = 0, len(data), self._waiting, self.protocol.max_message_size
        while size - at >= 2:  # noqa: PLR2004 - the shortest head
            first, length, begin = data[at], data[at + 1], at + 2
            if length == _MEDIUM:
                length, begin = int.from_bytes(data[begin : begin + 2]), begin + 2
            elif length == _LONG:
                length, begin = int.from_bytes(data[begin : begin + 8]), begin + 8
            elif length > _LONG:
                return self._hand_over(at)  # masked, as only clients do
            end = begin + length
            if first in (_BINARY, _TEXT):
                if largest is not None and begin <= size and length > largest:
                    return self._hand_over(at)
                if end > size:
                    break
                self.heard += 1
                waiting.append((data[begin:end], first == _BINARY))
            elif first not in (_CLOSE, _PING, _PONG) or length >= _MEDIUM:
                return self._hand_over(at)
            elif end > size:
                break
            else:
                super().data_received(data[at:end])
                if self.protocol.state is not State.OPEN:
                    return self._hand_over(end)
            at = end
        # With an incomplete head the length is not known yet: look again at every byte.
        self._needed = end - at if at < size and size - at >= 2 and begin <= size else 0  # noqa: PLR2004
        return at

    def _hand_over(self, at: int) -> int:
        self._reader = _Reader.LIBRARY
        return at

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)
