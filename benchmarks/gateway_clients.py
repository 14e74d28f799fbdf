"""Clients of the gateway measure: as little work per byte as possible, so that they measure the server.

Run as a program it is the crowd: ``port clients speaks deaf`` opens that many clients (the last ``deaf`` of them
never read), prints one line when they are there, and one with what they received for each line on its input.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import cast

import uvloop

SYMBOLS = tuple(f"C{number}" for number in range(10))
_TIME_AT = b'"timestamp":"'
_TIME_SIZE = 24
_SHORT = 126


class Client(asyncio.Protocol):
    """Counts bytes; a probe also reads frames and notes how old each update is."""

    def __init__(self, name: str, *, speaks: bool, probes: bool = False, deaf: bool = False) -> None:
        self.is_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.size_bytes = 0
        self.closed = False
        self.ages_ms: list[float] = []
        self._name, self._speaks, self._probes, self._deaf = name, speaks, probes, deaf
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        transport = self._transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws/{self._name} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if not self.is_up.done():
            head, _, data = (self._rest + data).partition(b"\r\n\r\n")
            self._rest = b""
            if b" 101 " not in head:
                self.is_up.set_exception(ConnectionError(head.decode(errors="replace")[:200]))
                return
            if self._speaks:
                self._transport.write(_masked(json.dumps({"action": "subscribe", "symbols": SYMBOLS}).encode()))
            if self._deaf:
                self._transport.pause_reading()
            self.is_up.set_result(None)
        if self._probes:
            self._read(self._rest + data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True

    def begin(self) -> None:
        """Count from here on."""
        self.size_bytes, self.ages_ms = 0, []

    def _read(self, data: bytes) -> None:
        now_ms, at = time.time() * 1000, 0
        while len(data) - at >= 4:  # a head has two bytes or four; every message of the measure is longer than both
            size, head = data[at + 1], 2
            if size == _SHORT:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            if len(data) - at < head + size:
                break
            payload = data[at + head : at + head + size]
            at += head + size
            if b"orderbook_update" in payload[:40]:
                told = payload.rfind(_TIME_AT) + len(_TIME_AT)
                sent = datetime.fromisoformat(payload[told : told + _TIME_SIZE].decode())
                self.ages_ms.append(now_ms - sent.timestamp() * 1000)
        self._rest = data[at:]


async def open_clients(
    port: int, names: Sequence[str], *, speaks: bool, probes: bool = False, deaf: int = 0
) -> list[Client]:
    """Open clients one after the other; the last ``deaf`` of them never read."""
    loop, clients = asyncio.get_running_loop(), []
    for number, name in enumerate(names):
        client = Client(name, speaks=speaks, probes=probes, deaf=number >= len(names) - deaf)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
        await client.is_up
        clients.append(client)
    return clients


async def crowd(port: int, count: int, speaks: bool, deaf: int) -> None:  # noqa: FBT001 - from the command line
    names = [f"crowd-{number}" for number in range(count)]
    clients = await open_clients(port, names, speaks=speaks, deaf=deaf)
    _say({"open": len(clients)})
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        _say(
            {
                "size_bytes": sum(client.size_bytes for client in clients),
                "closed": sum(client.closed for client in clients),
                "cpu_s": time.process_time(),
            }
        )


def _masked(payload: bytes) -> bytes:
    size = len(payload)
    head = struct.pack("!BB", 0x81, 0x80 | size) if size < _SHORT else struct.pack("!BBH", 0x81, 0x80 | _SHORT, size)
    return head + b"\0\0\0\0" + payload


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(crowd(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4])))
