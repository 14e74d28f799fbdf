"""Plain TCP as a transport: whole frames or a reason why not."""

import asyncio
import contextlib

import pytest

from src.models.errors import ConfigurationError, VenueError
from src.venues.failures import classify
from src.venues.feed import Endpoint
from src.venues.futu import wire
from src.venues.futu.codec import pack
from src.venues.futu.transport import open_tcp
from src.venues.timing import Timing

pytestmark = pytest.mark.integration
FRAME = pack(wire.keep_alive(1, 1_700_000_000))


@contextlib.asynccontextmanager
async def served(handle):
    """A connection to a server that does ``handle(reader, writer)``."""
    ended = asyncio.Event()

    async def serve(reader, writer):
        try:
            await handle(reader, writer)
        finally:
            ended.set()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(f"tcp://127.0.0.1:{port}", max_size_bytes=2_000, binary=True)
    transport = await open_tcp(endpoint, Timing(open_timeout_s=20))
    try:
        yield transport
    finally:
        transport.abort()
        server.close()
        await asyncio.wait_for(ended.wait(), 20)


async def test_frames_arrive_whole_and_are_binary():
    async def dribble(_reader, writer):
        for byte in FRAME + FRAME:
            writer.write(bytes([byte]))
            await writer.drain()

    async with served(dribble) as transport:
        assert [await transport.recv() for _ in range(2)] == [(FRAME, True)] * 2
        assert transport.heard >= 1
        with pytest.raises(EOFError, match="between two frames"):
            await transport.recv()
        assert transport.closing


async def test_an_end_inside_a_frame_says_so_and_counts_as_closed_by_the_venue():
    async def half(_reader, writer):
        writer.write(FRAME + FRAME[:20])

    async with served(half) as transport:
        assert (await transport.recv())[0] == FRAME
        with pytest.raises(EOFError, match="inside a frame") as caught:
            await transport.recv()
    failure = classify(caught.value)
    assert failure.closed_by_venue
    assert not failure.loud


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n", FRAME[:12] + b"\xff\xff\xff\x7f" + FRAME[16:44]])
async def test_what_is_no_frame_ends_it_after_what_was_whole(garbage):
    async def talk(reader, writer):
        writer.write(FRAME + garbage)
        await reader.read()

    async with served(talk) as transport:
        assert (await transport.recv())[0] == FRAME
        for _ in range(2):
            with pytest.raises(VenueError) as caught:
                await transport.recv()
    assert classify(caught.value).reason == "venue_error"


async def test_sending_and_closing_in_order():
    received = bytearray()

    async def take(reader, _writer):
        received.extend(await reader.read())

    async with served(take) as transport:
        await transport.send(FRAME)
        await transport.ping()
        with pytest.raises(TypeError):
            await transport.send("text")
        await transport.close()
        assert transport.closing
    assert bytes(received) == FRAME


async def test_a_peer_that_does_not_read_holds_up_the_sender():
    release = asyncio.Event()

    async def sleep(_reader, _writer):
        await release.wait()

    async with served(sleep) as transport:

        async def send_for_ever():
            while True:
                await transport.send(b"x" * 1_000_000)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send_for_ever(), 0.5)
        release.set()


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:1", "tcp://127.0.0.1", "tcp://:5", "tcp://127.0.0.1:99999", "tcp://[x"]
)
async def test_wrong_addresses(url):
    with pytest.raises(ConfigurationError, match="write tcp://host:port"):
        await open_tcp(Endpoint(url), Timing())


async def test_a_host_that_does_not_resolve_fails_like_any_network_error():
    with pytest.raises(OSError) as caught:
        await open_tcp(Endpoint("tcp://no-such-host.invalid:11111"), Timing(open_timeout_s=20))
    assert not classify(caught.value).loud
