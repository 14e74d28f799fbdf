"""Frames of the gateway: a head of 44 bytes, then the body. No I/O here.

Head, little endian (as the published client packs it; one public page counts 36 bytes and is wrong): ``FT``, protocol
id u32, format u8 (0 protobuf, 1 JSON), version u8, serial u32, length of the body u32, its SHA-1, eight zero bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque

from msgspec import Struct

from src.models.errors import WireError

HEAD = struct.Struct("<2sIBBII20s8s")
HEAD_BYTES = HEAD.size
MAGIC = b"FT"
VERSION = 0
LARGEST_BODY_BYTES = 4 * 1024 * 1024
"""A full book with every order's id stays far below; a larger length is a lost frame boundary."""

FORMAT_PROTOBUF = 0
FORMAT_JSON = 1
LARGEST_SERIAL = 2**32 - 1

_RESERVED = bytes(8)


class Frame(Struct, frozen=True):
    """One frame. ``serial`` of a reply repeats that of the request; pushes carry any number."""

    protocol: int
    serial: int
    body: bytes
    format: int = FORMAT_PROTOBUF


class FrameBoundaryLostError(WireError):
    """What should be a head is none: nothing after it can be read, the connection has to go."""


def pack(frame: Frame) -> bytes:
    """Head and body of ``frame``."""
    body = frame.body
    digest = hashlib.sha1(body, usedforsecurity=False).digest()
    head = HEAD.pack(MAGIC, frame.protocol, frame.format, VERSION, frame.serial, len(body), digest, _RESERVED)
    return head + body


def unpack(raw: bytes) -> Frame:
    """The frame in ``raw``, which has to be exactly one.

    Raises:
        WireError: ``torn_frame`` (more or fewer bytes than the head says), ``bad_magic``, ``bad_version``,
            ``bad_sha1``.
    """
    if len(raw) < HEAD_BYTES:
        raise WireError("torn_frame", f"{len(raw)} bytes of a head of {HEAD_BYTES}")
    magic, protocol, kind, version, serial, length, digest, _ = HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise WireError("bad_magic", magic.hex())
    if version != VERSION:
        raise WireError("bad_version", str(version))
    body = raw[HEAD_BYTES:]
    if len(body) != length:
        raise WireError("torn_frame", f"{len(body)} bytes of a body of {length}")
    if hashlib.sha1(body, usedforsecurity=False).digest() != digest:
        raise WireError("bad_sha1", f"protocol {protocol}, {length} bytes")
    return Frame(protocol, serial, body, kind)


class Splitter:
    """Cuts a stream of bytes into frames. One per connection: what is torn at its end never meets the next one."""

    def __init__(self, *, largest_body_bytes: int = LARGEST_BODY_BYTES) -> None:
        self._largest = largest_body_bytes
        self._buffer = bytearray()
        self._frames: deque[bytes] = deque()

    @property
    def torn(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return bool(self._buffer)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes, however they are cut.

        Raises:
            FrameBoundaryLostError: no head where one must be, or a body larger than allowed. Frames complete before
                it can still be taken.
        """
        self._buffer += piece
        start = 0
        try:
            while (end := self._end_of_frame(start)) is not None:
                self._frames.append(bytes(self._buffer[start:end]))
                start = end
        finally:
            del self._buffer[:start]

    def take(self) -> bytes | None:
        """The next complete frame with its head, None when there is none."""
        return self._frames.popleft() if self._frames else None

    def _end_of_frame(self, start: int) -> int | None:
        have = len(self._buffer) - start
        if have < HEAD_BYTES:
            seen = bytes(self._buffer[start : start + len(MAGIC)])
            if not MAGIC.startswith(seen):
                raise FrameBoundaryLostError("frame_boundary_lost", f"expected FT, found {seen.hex()}")
            return None
        magic, protocol, _, _, _, length, _, _ = HEAD.unpack_from(self._buffer, start)
        if magic != MAGIC:
            raise FrameBoundaryLostError("frame_boundary_lost", f"expected FT, found {magic.hex()}")
        if length > self._largest:
            raise FrameBoundaryLostError("frame_too_big", f"protocol {protocol} announces {length} bytes")
        end = start + HEAD_BYTES + length
        return end if have >= HEAD_BYTES + length else None
