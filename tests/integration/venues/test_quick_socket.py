"""The shortcut for data frames reads what the library would read, however the bytes are cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.utils import accept_key

from src.venues import quick_socket
from src.venues.feed import Endpoint
from src.venues.quick_socket import MOST_WAITING
from src.venues.timing import Timing
from src.venues.transport import Transport, open_websocket
from tests.support.toy_venue import until

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG, FIN = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA, 0x80


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    head = bytes([opcode | (FIN if fin else 0)])
    size = len(payload)
    if size < 126:
        head += bytes([size])
    elif size < 65536:
        head += b"\x7e" + struct.pack(">H", size)
    else:
        head += b"\x7f" + struct.pack(">Q", size)
    return head + payload


class RawServer:
    """Shakes hands and then sends exactly the bytes it is told to, in exactly these pieces."""

    def __init__(self, *, with_handshake: bytes = b"") -> None:
        self.heard = bytearray()
        self.url = ""
        self.writer: asyncio.StreamWriter | None = None
        self._with_handshake = with_handshake
        self._done = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        answer = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
        writer.write(answer.encode() + self._with_handshake)
        self.writer = writer
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.heard += data
        await self._done.wait()
        writer.close()

    async def send(self, *pieces: bytes) -> None:
        await until(lambda: self.writer is not None)
        assert self.writer is not None
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RawServer]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self._done.set()
            if self.writer is not None:
                self.writer.transport.abort()
            server.close()
            await server.wait_closed()


@contextlib.asynccontextmanager
async def connected(server: RawServer, *, most_bytes: int = 1 << 20) -> AsyncIterator[Transport]:
    transport = await open_websocket(
        Endpoint(server.url, max_size_bytes=most_bytes, binary=True), Timing(close_timeout_s=0.3)
    )
    try:
        yield transport
    finally:
        transport.abort()


MESSAGES = [
    (b"", True),
    (b"a", False),
    (b"x" * 125, True),
    (b"y" * 126, False),
    (b"z" * 65535, True),
    (b"w" * 65536, True),
    (b"\xff\xfe", False),
    (b"end", True),
]
STREAM = b"".join(frame(BINARY if binary else TEXT, payload) for payload, binary in MESSAGES)


def in_pieces(size: int) -> Callable[[bytes], list[bytes]]:
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


def at_random(seed: int) -> Callable[[bytes], list[bytes]]:
    def cut(data: bytes) -> list[bytes]:
        chance = random.Random(seed)
        places = sorted(chance.sample(range(1, len(data)), 25))
        return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]

    return cut


@pytest.mark.parametrize(
    "cut", [in_pieces(1 << 30), in_pieces(1_000), in_pieces(7_919), *(at_random(seed) for seed in range(6))]
)
async def test_messages_come_whole_and_in_order_however_their_bytes_arrive(
    cut: Callable[[bytes], list[bytes]],
) -> None:
    async with RawServer().running() as server, connected(server) as transport:
        sending = asyncio.create_task(server.send(*cut(STREAM)))
        assert [await transport.recv() for _ in MESSAGES] == MESSAGES
        await sending
        assert transport.heard >= len(MESSAGES)
        assert transport._socket._reader is quick_socket._Reader.QUICK


async def test_every_split_of_short_frames() -> None:
    data = frame(TEXT, b"one") + frame(PING, b"p") + frame(BINARY, b"t" * 200) + frame(TEXT, b"three")
    expected = [(b"one", False), (b"t" * 200, True), (b"three", False)]
    async with RawServer().running() as server, connected(server) as transport:
        for place in range(1, len(data)):
            await server.send(data[:place])
            await asyncio.sleep(0)
            await server.send(data[place:])
            assert [await transport.recv() for _ in expected] == expected


async def test_frames_in_the_same_breath_as_the_handshake() -> None:
    async with RawServer(with_handshake=STREAM[:70]).running() as server, connected(server) as transport:
        await server.send(STREAM[70:])
        assert [await transport.recv() for _ in MESSAGES] == MESSAGES


async def test_pings_are_answered_between_messages() -> None:
    async with RawServer().running() as server, connected(server) as transport:
        before = transport.heard
        await server.send(
            frame(TEXT, b"1") + frame(PING, b"abc") + frame(TEXT, b"2") + frame(PONG, b"") + frame(TEXT, b"3")
        )
        assert [(await transport.recv())[0] for _ in range(3)] == [b"1", b"2", b"3"]
        await until(lambda: server.heard)
        assert server.heard[0] == FIN | PONG
        assert transport.heard - before == 5


async def test_fragments_are_joined_by_the_library_and_order_is_kept() -> None:
    parts = [
        frame(TEXT, b"0"),
        frame(TEXT, b"on", fin=False),
        frame(PING, b""),
        frame(CONTINUED, b"e"),
        frame(BINARY, b"two"),
    ]
    async with RawServer().running() as server, connected(server) as transport:
        await server.send(b"".join(parts))
        assert [await transport.recv() for _ in range(3)] == [(b"0", False), (b"one", False), (b"two", True)]


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_a_close_comes_after_everything_before_it(code: int) -> None:
    async with RawServer().running() as server, connected(server) as transport:
        await server.send(
            frame(TEXT, b"1")
            + frame(TEXT, b"2")
            + frame(CLOSE, struct.pack(">H", code) + b"why")
            + frame(TEXT, b"no")
        )
        assert [(await transport.recv())[0] for _ in range(2)] == [b"1", b"2"]
        await until(lambda: transport.closing)
        server._done.set()
        server.writer.transport.abort()
        with pytest.raises(ConnectionClosed) as caught:
            await transport.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code


async def test_an_end_without_a_word_comes_after_everything_before_it_even_in_the_middle_of_a_frame() -> None:
    async with RawServer().running() as server, connected(server) as transport:
        await server.send(frame(TEXT, b"1") + frame(TEXT, b"cut off")[:5])
        assert (await transport.recv())[0] == b"1"
        waiting = asyncio.create_task(transport.recv())
        await asyncio.sleep(0)
        server.writer.transport.abort()
        with pytest.raises((ConnectionClosed, OSError)):
            await waiting


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(TEXT, b"x" * 2_000), 1009),
        (bytes([FIN | BINARY, 127]) + struct.pack(">Q", 1 << 62), 1009),
        (bytes([FIN | TEXT, 0x80 | 2]) + b"abcdef", 1002),
        (bytes([FIN | 0x40 | TEXT, 2]) + b"ab", 1002),
        (bytes([FIN | 0x3, 2]) + b"ab", 1002),
        (frame(CONTINUED, b"x"), 1002),
        (bytes([FIN | PING, 126]) + struct.pack(">H", 200) + b"p" * 200, 1002),
    ],
)
async def test_what_breaks_the_protocol_or_the_bound_ends_the_connection_as_ever(raw: bytes, code: int) -> None:
    async with RawServer().running() as server, connected(server, most_bytes=1_000) as transport:
        await server.send(frame(TEXT, b"good") + raw)
        assert (await transport.recv())[0] == b"good"
        await until(lambda: transport.closing)
        server.writer.transport.abort()
        with pytest.raises(ConnectionClosedError) as caught:
            await transport.recv()
        assert caught.value.sent is not None
        assert caught.value.sent.code == code


async def test_a_reader_that_does_not_read_holds_the_peer_back() -> None:
    big = frame(BINARY, b"x" * 10_000)
    async with RawServer().running() as server, connected(server) as transport:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(5_000):
                await server.send(big)
                sent += 1

        flooding = asyncio.create_task(flood())
        await until(lambda: transport._socket.held)
        settled = -1
        while settled != sent:  # what the buffers between us hold is finite
            settled = sent
            await asyncio.sleep(0.2)
        assert sent < 5_000
        for _ in range(5_000):
            assert len((await transport.recv())[0]) == 10_000
        await flooding
        assert len(transport._socket._waiting) <= MOST_WAITING * 30


async def test_a_waiting_reader_may_be_cancelled_and_come_again() -> None:
    async with RawServer().running() as server, connected(server) as transport:
        for number in range(3):
            waiting = asyncio.create_task(transport.recv())
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            await server.send(frame(TEXT, str(number).encode()))
            assert (await transport.recv())[0] == str(number).encode()
