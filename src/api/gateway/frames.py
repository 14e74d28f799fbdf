"""One message, encoded once for everybody who gets it: payload, WebSocket frame, and the same compressed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

_TEXT = 0x81
_TEXT_COMPRESSED = 0xC1
_SHORT = 126
_MEDIUM = 1 << 16
_LEAST_COMPRESSED = 256
_LEVEL = 3
"""Higher levels cost several times as much and save a few per cent of a book."""


class Frame:
    """Bytes of one text message. Frames from a server are not masked, so all clients share them.

    Compression works without context takeover: a compressed frame, too, is the same for everybody.
    """

    __slots__ = ("_compressed", "payload", "wire")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.wire = _framed(_TEXT, payload)
        self._compressed: bytes | None = None

    @property
    def compressed(self) -> bytes:
        """The frame for clients that negotiated permessage-deflate; short messages stay as they are."""
        if self._compressed is None:
            self._compressed = self.wire if len(self.payload) < _LEAST_COMPRESSED else _deflated(self.payload)
        return self._compressed


def joined(frames: Sequence[Frame]) -> Frame:
    """One frame with a JSON array of several messages."""
    return Frame(b"[" + b",".join([frame.payload for frame in frames]) + b"]")


def _deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return _framed(_TEXT_COMPRESSED, data[:-4])  # RFC 7692, 7.2.1: the tail 00 00 ff ff is left out


def _framed(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _SHORT:
        return struct.pack("!BB", first, size) + payload
    if size < _MEDIUM:
        return struct.pack("!BBH", first, _SHORT, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload
