"""One client that never reads: it is bounded, then cut off, and nobody else notices."""

import asyncio
import json
import socket

import pytest

from tests.support.gateway_world import gateway_world, speaker, until

pytestmark = pytest.mark.integration

HELLO = (
    b"GET /ws/deaf HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def deaf(world, *commands):
    """A client with a small receive buffer that speaks and never reads."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", int(world.url.rpartition(":")[2])))
    await loop.sock_sendall(client, HELLO)
    await until(lambda: world.gateway.stats()["connections"] > 0)
    for command in commands:
        payload = json.dumps(command).encode()
        assert len(payload) < 126
        await loop.sock_sendall(client, bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)
    return client


async def test_it_is_closed_and_the_others_get_everything():
    async with gateway_world(gateway_slow_client_s=1, gateway_queue_size=100) as world:
        client = await deaf(
            world,
            {"action": "subscribe", "symbol": "BTC"},
            {"action": "subscribe", "symbol": "BTC", "topic": "trade"},
        )
        async with speaker(world, "/ws/quick") as other:
            await other.say(action="subscribe", symbol="BTC", topics=["book", "trade"])
            await other.until("subscription_confirmed", count=2)
            await until(lambda: world.gateway.stats()["subscriptions"] == {"BTC": 4})
            sent = 0
            while world.gateway.stats()["connections"] == 2:
                sent += 1
                world.book("BTC", levels=500)
                world.trade("BTC", number=sent)
                (session,) = [one for one in world.gateway._sessions.values() if one.client.name == "deaf"] or [None]
                if session is not None:
                    assert session.waiting() <= 100 + 2
                await other.until("trade", sent)  # whoever reads gets each trade, while the deaf one is there
            assert [trade["data"]["id"] for trade in other.found("trade")] == [str(n + 1) for n in range(sent)]
            assert not other.found("dropped")
            assert world.gateway.stats()["closed"] == {"slow": 1}
            await until(lambda: world.source.wanted == {"BTC": {"book", "trade"}})
        client.close()


async def test_who_reads_again_in_time_gets_the_latest_book_and_a_notice_of_what_was_dropped():
    async with gateway_world(gateway_slow_client_s=60, gateway_queue_size=10) as world:
        client = await deaf(
            world,
            {"action": "subscribe", "symbol": "BTC"},
            {"action": "subscribe", "symbol": "BTC", "topic": "trade"},
        )
        await until(lambda: world.gateway.stats()["subscriptions"] == {"BTC": 2})
        (session,) = world.gateway._sessions.values()
        await until(lambda: all(session.is_confirmed(key) for key in session.keys))
        number = 0
        while session.dropped_total < 5:
            number += 1
            world.book("BTC", price=f"{number}.0", levels=500)
            world.trade("BTC", number=number)
            await asyncio.sleep(0.002)
        reader, writer = await asyncio.open_connection(sock=client)
        await reader.readuntil(b"\r\n\r\n")
        messages = []
        async with asyncio.timeout(30):
            while not any(message["type"] == "dropped" for message in messages) or not (
                messages[-1]["type"] == "orderbook_update" and messages[-1]["data"]["bids"][0]["price"] == number
            ):
                messages.append(await read_message(reader))
        dropped = sum(message["count"] for message in messages if message["type"] == "dropped")
        trades = [int(message["data"]["id"]) for message in messages if message["type"] == "trade"]
        assert trades == sorted(trades)
        assert len(trades) + dropped == number
        assert trades[-1] == number
        books = [message["data"]["bids"][0]["price"] for message in messages if message["type"] == "orderbook_update"]
        assert len(books) < number
        writer.close()


async def read_message(reader):
    _, size = await reader.readexactly(2)
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return json.loads(await reader.readexactly(size))
