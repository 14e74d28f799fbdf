"""Live data in a real browser: our module, and the client of the source document unchanged.

Without Chromium the tests are skipped; ``REQUIRE_BROWSER=1`` lets them fail instead.
"""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest

from tests.support.browser import chromium
from tests.support.gateway_world import gateway_world, until
from tests.support.seed_client import printed_client, without_types

pytestmark = [pytest.mark.integration, pytest.mark.slow]

START = """
(async () => {
  const {MarketClient} = await import("/client.js");
  window.books = []; window.trades = []; window.states = [];
  const client = window.client = new MarketClient({firstDelayMs: 50, slowDelayMs: 500});
  client.onOrderBookUpdate = (symbol, data) => books.push([symbol, data]);
  client.onTrade = (symbol, data) => trades.push([symbol, data]);
  client.onStatus = (status) => states.push(status);
  client.subscribe("BTC");
  client.subscribe("BTC", {topic: "trade"});
  client.connect();
  return true;
})()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def keep_saying(world, symbol="BTC", venue="hyperliquid"):
    while True:
        world.book(symbol, "100.5", venue=venue)
        world.trade(symbol, "100.25")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def saying(world, **of):
    task = asyncio.create_task(keep_saying(world, **of))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_page_gets_books_and_trades_and_survives_a_restart(binary):
    port = free_port()
    async with chromium(binary) as page:
        async with gateway_world(port=port) as world:
            await page.open(f"{world.url}/docs")
            await page.until("document.readyState === 'complete'")
            assert await page.value(START)
            await until(lambda: world.source.wanted.get("BTC") == {"book", "trade"})
            async with saying(world):
                symbol, data = await page.until("window.books[0]")
                assert (symbol, data["bids"][0]) == ("BTC", {"price": 100.5, "volume": 1, "orders": 1})
                symbol, data = await page.until("window.trades[0]")
                assert (symbol, data["price"], data["size"]) == ("BTC", 100.25, 3)
            assert await page.value("client.state") == "open"
        await page.until("states.some((status) => status.state === 'reconnecting')")
        await page.value("books.length = 0; trades.length = 0")
        async with gateway_world(port=port) as world:
            await until(lambda: world.source.wanted.get("BTC") == {"book", "trade"})
            async with saying(world):
                await page.until("window.books[0] && window.trades[0]")
            await page.value("client.unsubscribe('BTC'); client.unsubscribe('BTC', {topic: 'trade'})")
            await until(lambda: world.gateway.stats()["subscriptions"] == {})
            await page.value("client.disconnect()")
            await until(lambda: world.gateway.stats()["connections"] == 0)
            assert await page.value("client.state") == "closed"


async def test_a_page_that_is_refused_goes_on_asking_slowly(binary):
    port = free_port()
    async with chromium(binary) as page, gateway_world(port=port, gateway_token="only-with-this") as world:
        await page.open(f"{world.url}/docs")
        await page.until("document.readyState === 'complete'")
        await page.value(START)
        reason = await page.until("states.find((status) => status.code === 1008)?.reason")
        assert "Token" in reason
        await page.value("client.token = 'only-with-this'")
        await page.until("client.state === 'open'")
        await until(lambda: "BTC" in world.source.wanted)


async def test_a_page_of_another_origin_is_refused(binary):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
        )
        await writer.drain()
        writer.close()

    foreign = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with foreign, chromium(binary) as page, gateway_world() as world:
        await page.open(f"http://127.0.0.1:{foreign.sockets[0].getsockname()[1]}/")
        await page.until("document.readyState === 'complete'")
        ended = await page.value(
            f"""new Promise((done) => {{
              const heard = [], socket = new WebSocket({json.dumps(world.socket_url("/ws"))});
              socket.onopen = () => socket.send('{{"action":"health"}}');
              socket.onmessage = (event) => heard.push(event.data);
              socket.onclose = (event) => done({{code: event.code, reason: event.reason, heard}});
            }})"""
        )
        assert (ended["code"], ended["heard"]) == (1008, [])
        assert "Origin" in ended["reason"]


async def test_the_printed_typescript_client_works_unchanged(binary):
    source = printed_client()
    if source is None:
        pytest.skip("the source documents are not beside this repository")
    port = free_port()
    async with chromium(binary) as page:
        async with gateway_world(port=port) as world:
            world.source.refuses["AAPL"] = "no such coin"
            await page.open(f"{world.url}/docs")
            await page.until("document.readyState === 'complete'")
            address = world.socket_url("")
            await page.value(f"window.process = {{env: {{REACT_APP_WEBSOCKET_URL: {json.dumps(address)}}}}}; true")
            await page.value(without_types(source) + "\ntrue")
            await page.value(
                "window.updates = []; window.one = new WebSocketClient('chart-AAPL');"
                "one.onOrderBookUpdate = (symbol, data) => updates.push([symbol, data]); one.connect(); true"
            )
            await page.until("one.ws.readyState === WebSocket.OPEN")
            await page.value("one.subscribe('AAPL'); true")
            await until(lambda: world.side.book_subscribers("outside", "AAPL") == 1)
            async with saying(world, symbol="AAPL", venue="outside"):
                symbol, data = await page.until("window.updates[0]")
            assert symbol == "AAPL"
            assert set(data) == {"bids", "asks", "timestamp"}
            assert data["asks"] == [{"price": 200, "volume": 2.5, "orders": 3}]
        await page.until("one.ws.readyState === WebSocket.CLOSED")
        await page.value("updates.length = 0")
        async with gateway_world(port=port) as world:
            world.source.refuses["AAPL"] = "no such coin"
            await until(lambda: world.side.book_subscribers("outside", "AAPL") == 1)  # it subscribes again by itself
            async with saying(world, symbol="AAPL", venue="outside"):
                await page.until("window.updates[0]")
            await page.value("one.unsubscribe('AAPL')")
            await until(lambda: world.side.book_subscribers("outside", "AAPL") == 0)
