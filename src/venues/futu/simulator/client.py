"""One connection to a simulated gateway: cutting, slicing, delaying and spoiling what is sent."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from google.protobuf import json_format
from google.protobuf.message import Message

from src.venues.futu.codec import FORMAT_JSON, FORMAT_PROTOBUF, Frame, pack
from src.venues.futu.simulator.faults import GatewayFaults

MOST_QUEUED = 10_000
"""Frames that wait for a client that does not read; further ones are left out and counted."""

FLUSH_S = 1.0

_SHA1_AT = 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class GatewayClient:
    """Frames go out in order, in a task of their own, so that a slow client holds up nobody.

    Attributes:
        logged_in: InitConnect was answered.
        skipped: frames left out because the client does not read.
    """

    def __init__(self, number: int, writer: asyncio.StreamWriter, faults: GatewayFaults) -> None:
        self.number = number
        self.logged_in = False
        self.skipped = 0
        self._writer = writer
        self._faults = faults
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_QUEUED)

    def send(self, protocol: int, serial: int, message: Message) -> None:
        """Queue a frame."""
        faults = self._faults
        if faults.deaf:
            return
        if faults.json:
            body, kind = json_format.MessageToJson(message).encode(), FORMAT_JSON
        else:
            body, kind = message.SerializePartialToString(), FORMAT_PROTOBUF
        self.send_raw(self._spoiled(pack(Frame(protocol, serial, body, kind))))

    def send_raw(self, data: bytes) -> None:
        """Queue bytes as they are."""
        try:
            self._queue.put_nowait(data)
        except asyncio.QueueFull:
            self.skipped += 1

    async def write_forever(self) -> None:
        """Send what is queued; ends with the connection."""
        with suppress(ConnectionError):
            while True:
                data = await self._queue.get()
                if self._faults.delay_s:
                    await asyncio.sleep(self._faults.delay_s)
                await self._write(data)
                self._queue.task_done()

    async def flush(self) -> None:
        """Return when everything queued has gone out, or the client has not read it for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._queue.join()

    def cut_inside(self, data: bytes) -> None:
        """Send half of a frame, then close in order: the bytes arrive, the rest never does."""
        self._writer.write(data[: len(data) // 2])
        self._writer.close()

    def reset(self) -> None:
        """End the connection without a word."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    async def _write(self, data: bytes) -> None:
        size = self._faults.slice_bytes or len(data)
        for start in range(0, len(data), size):
            self._writer.write(data[start : start + size])
            await self._writer.drain()
            if size < len(data):
                await asyncio.sleep(0)

    def _spoiled(self, data: bytes) -> bytes:
        faults = self._faults
        if faults.bad_sha1 > 0:
            faults.bad_sha1 -= 1
            return data[:_SHA1_AT] + bytes(20) + data[_SHA1_AT + 20 :]
        if faults.wrong_magic > 0:
            faults.wrong_magic -= 1
            return b"XX" + data[2:]
        return data
