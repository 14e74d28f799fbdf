"""Closing while messages lie unread: the venue's answer is behind them."""

import asyncio
import time

import pytest
from websockets.asyncio.server import serve

from src.venues.feed import Endpoint
from src.venues.timing import Timing
from src.venues.transport import open_websocket

pytestmark = pytest.mark.integration

CLOSE_TIMEOUT_S = 30.0


async def talk(socket):
    for number in range(200):
        await socket.send(f"message {number}")
    await socket.wait_closed()


async def test_unread_messages_do_not_hold_up_the_good_bye():
    async with serve(talk, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        transport = await open_websocket(Endpoint(f"ws://127.0.0.1:{port}"), Timing(close_timeout_s=CLOSE_TIMEOUT_S))
        async with asyncio.timeout(20):
            while not transport._socket.held:  # noqa: ASYNC110 - the socket tells nobody
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await transport.close()
        assert time.monotonic() - began < CLOSE_TIMEOUT_S / 3
        assert transport.closing
