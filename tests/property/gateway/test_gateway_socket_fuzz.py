"""Whatever bytes a client sends, the gateway neither raises nor forgets to give back what the client had."""

import os
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from src.api.gateway.gateway import Gateway
from src.api.gateway.options import Options
from src.api.gateway.remembered import LocalMemory
from src.api.gateway.socket import GatewaySocket
from src.models.clock import ManualClock
from src.models.live import ACCEPTED
from src.models.metrics import Metrics
from src.models.symbols import ALL_VENUES, Directory

HELLO = (
    b"GET /ws/fuzz HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Upstream:
    def __init__(self):
        self.held = set()

    def hold(self, holder, topic):
        self.held.add((holder, topic))
        return ACCEPTED

    def release(self, holder, topic):
        self.held.discard((holder, topic))

    def standing(self, topic):
        return ACCEPTED

    def connected(self):
        return {}


class Transport:
    def __init__(self):
        self.written = b""
        self.closed = False

    def set_write_buffer_limits(self, high):
        self.high = high

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    abort = close


class Timer:
    def cancel(self):
        pass


def masked(opcode, payload, *, fin=True):
    mask = os.urandom(4)
    size = len(payload)
    head = struct.pack("!BB", (0x80 if fin else 0) | opcode, 0x80 | min(size, 126))
    if size >= 126:
        head += struct.pack("!H", size)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


words = st.sampled_from(
    [
        b'{"action":"subscribe","symbol":"BTC"}',
        b'{"action":"subscribe","symbols":["ETH","*"],"topics":["book","trade","status"]}',
        b'{"action":"unsubscribe","symbol":"BTC"}',
        b'{"action":"ping"}',
        b'{"action":"health"}',
        b"{}",
        b"\xff\x00",
    ]
)
frames = st.one_of(
    st.builds(masked, st.just(1), words),
    st.builds(masked, st.sampled_from([0, 1, 2, 9, 10]), st.binary(max_size=125), fin=st.booleans()),
    st.builds(masked, st.just(8), st.just(b"") | st.just(struct.pack("!H", 1000)) | st.binary(max_size=10)),
    st.binary(max_size=40),
)


def served(clock, upstream):
    gateway = Gateway(
        Options(),
        upstream=upstream,
        directory=Directory(ALL_VENUES, lambda _: False),
        memory=LocalMemory(clock),
        clock=clock,
        metrics=Metrics(),
        call_later=lambda delay, call: Timer(),
    )
    return gateway, GatewaySocket(gateway)


@settings(max_examples=200, deadline=None)
@given(st.lists(frames, max_size=12), st.integers(1, 64))
def test_any_bytes_after_the_handshake(sent, step):
    clock, upstream, transport = ManualClock(), Upstream(), Transport()
    gateway, socket = served(clock, upstream)
    socket.connection_made(transport)
    socket.data_received(HELLO)
    assert transport.written.startswith(b"HTTP/1.1 101")
    stream = b"".join(sent)
    for at in range(0, len(stream), step):
        socket.data_received(stream[at : at + step])
        clock.advance(0.01)
        if transport.closed:
            break
    socket.eof_received()
    gateway.check()
    socket.connection_lost(None)
    assert upstream.held == set()
    assert gateway.stats()["connections"] == gateway.stats()["clients"] == 0
    assert gateway.stats()["subscriptions"] == {}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda path: f"GET {path} HTTP/1.1\r\n\r\n".encode()))
def test_any_bytes_instead_of_a_handshake(said):
    clock, transport = ManualClock(), Transport()
    gateway, socket = served(clock, Upstream())
    socket.connection_made(transport)
    socket.data_received(said)
    assert b"101 Switching" not in transport.written
    socket.connection_lost(None)
    assert gateway.stats()["connections"] == 0
