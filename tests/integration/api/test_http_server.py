"""The HTTP server over real sockets: start, stop, ports in use, death."""

import asyncio
import contextlib
import signal
import socket
import time

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from src.api.app import create_app
from src.api.server import serve
from src.models.clock import ManualClock
from src.models.errors import CollectorError, ConfigurationError
from src.models.metrics import Metrics
from src.models.status import Health

pytestmark = pytest.mark.integration


@pytest.fixture
def app():
    """Answers at once, or when ``app.state.gate`` opens."""
    app = FastAPI(docs_url=None, redoc_url=None)
    app.state.gate = asyncio.Event()
    app.state.entered = asyncio.Event()

    @app.get("/")
    async def root() -> PlainTextResponse:
        return PlainTextResponse("here")

    @app.get("/slow")
    async def slow() -> PlainTextResponse:
        app.state.entered.set()
        await app.state.gate.wait()
        return PlainTextResponse("late")

    return app


@pytest.fixture
def whole():
    """The real application around an empty store."""

    class Store:
        async def find(self, collection, query):
            for document in ():
                yield document

    class Status:
        def health(self):
            return Health("ok", ready=True, checks=())

        def stats(self):
            return {}

    class Traders:
        async def add(self, addresses, *, source, tags):
            return len(addresses)

    return create_app(
        status=Status(),
        store=Store(),
        metrics=Metrics(),
        traders=Traders(),
        token=None,
        allowed_origins=(),
        clock=ManualClock(),
        version="1",
    )


async def test_serves_on_a_free_port_and_lets_go_of_it(app):
    async with serve(app, "127.0.0.1", 0) as address, httpx.AsyncClient(base_url=address) as client:
        assert address.startswith("http://127.0.0.1:")
        answer = await client.get("/")
        assert answer.text == "here"
        assert "server" not in answer.headers
    port = int(address.rpartition(":")[2])
    async with serve(app, "127.0.0.1", port) as again:
        assert again == address
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


async def test_ipv6_loopback(app):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with serve(app, "::1", 0) as address, httpx.AsyncClient() as client:
        assert address.startswith("http://[::1]:")
        assert (await client.get(address)).status_code == 200


async def test_a_port_in_use_is_a_setting_to_change(app):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"HTTP_PORT={port}: in use by another program"):
            async with serve(app, "127.0.0.1", port):
                pytest.fail("must not start")


@pytest.mark.parametrize(
    ("host", "told"), [("203.0.113.1", "not an address of this machine"), ("no-such-host.invalid", "name is unknown")]
)
async def test_an_unusable_host_is_a_setting_to_change(app, host, told):
    with pytest.raises(ConfigurationError, match=f"HTTP_HOST={host}.*{told}"):
        async with serve(app, host, 0):
            pytest.fail("must not start")


async def test_requests_under_way_are_finished(app):
    async with httpx.AsyncClient() as client:
        async with serve(app, "127.0.0.1", 0) as address:
            request = asyncio.create_task(client.get(f"{address}/slow"))
            await app.state.entered.wait()
            asyncio.get_running_loop().call_later(0.2, app.state.gate.set)
        assert (await request).text == "late"


async def test_a_request_that_never_ends_does_not_hold_up_the_stop(app):
    async with httpx.AsyncClient() as client:
        async with serve(app, "127.0.0.1", 0, stop_timeout_s=1) as address:
            request = asyncio.create_task(client.get(f"{address}/slow"))
            await app.state.entered.wait()
            begun = time.monotonic()
        assert time.monotonic() - begun < 4
        with pytest.raises(httpx.HTTPError):
            (await request).raise_for_status()


async def test_an_idle_kept_alive_connection_does_not_hold_up_the_stop(app):
    async with httpx.AsyncClient() as client:
        async with serve(app, "127.0.0.1", 0) as address:
            await client.get(address)
            begun = time.monotonic()
        assert time.monotonic() - begun < 2


async def test_signal_handlers_are_left_alone(app):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serve(app, "127.0.0.1", 0):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_errors_and_cancellation_of_the_block_pass_through(app):
    with pytest.raises(KeyError, match="mine"):
        async with serve(app, "127.0.0.1", 0):
            raise KeyError("mine")

    async def run():
        async with serve(app, "127.0.0.1", 0) as address:
            app.state.address = address
            app.state.entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await app.state.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient() as client:
            await client.get(app.state.address)


async def test_the_death_of_the_server_reaches_its_owner(app):
    async def own():
        async with serve(app, "127.0.0.1", 0), asyncio.timeout(10):
            (server,) = (task for task in asyncio.all_tasks() if task.get_name() == "http_server")
            server.cancel()
            await asyncio.Event().wait()

    with pytest.raises(CollectorError, match="stopped by itself"):
        await own()
    assert asyncio.current_task().cancelling() == 0


async def test_an_endless_head_is_cut_off_and_the_server_lives(app):
    async with serve(app, "127.0.0.1", 0) as address, httpx.AsyncClient() as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(100):
            writer.write(b"a" * 10_000)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):  # when it closed while we were still sending
                assert b" 400 " in await reader.readline()
        writer.transport.abort()
        assert (await client.get(address)).status_code == 200


async def test_the_whole_application_over_a_socket(whole):
    async with serve(whole, "127.0.0.1", 0) as address, httpx.AsyncClient(base_url=address) as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        assert (await client.get("/api/orders", params={"coin": "PURR/USDC"})).json() == {
            "items": [],
            "nextCursor": None,
        }
        assert (
            (await client.get("/api/orderbook/hyperliquid/PURR%2FUSDC")).json()["detail"].startswith("no order book")
        )
        assert "collector_flushes_total 0.0" in (await client.get("/metrics")).text
        body = {"addresses": ["0x" + "a" * 40]}
        assert (await client.post("/api/traders", json=body)).json() == {"added": 1}
        forwarded = await client.post("/api/traders", json=body, headers={"x-forwarded-for": "127.0.0.1"})
        assert forwarded.status_code == 403
        rebound = await client.post("/api/traders", json=body, headers={"host": "evil.example"})
        assert rebound.status_code == 403
        large = await client.post("/api/traders", content=b" " * 2_000_000)
        assert large.status_code == 413
        assert (await client.get("/")).status_code == 200
