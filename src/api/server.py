"""Serves the application inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI

from src.models.errors import CollectorError, ConfigurationError

STOP_TIMEOUT_S = 5.0
START_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 15
MOST_CONNECTIONS = 256
LARGEST_HEAD_BYTES = 32 * 1024

SocketFactory = Callable[[], asyncio.Protocol]

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    stop_timeout_s: float = STOP_TIMEOUT_S,
    socket_of: SocketFactory | None = None,
) -> AsyncIterator[str]:
    """Serve ``app`` for as long as the block runs; gives the address, for example ``http://127.0.0.1:8002``.

    At the end requests under way get ``stop_timeout_s`` seconds. Should the server die on its own, the block is
    cancelled and `CollectorError` comes out of it. ``socket_of`` makes the protocol object that takes over
    a connection whose client asks for a WebSocket; without it such requests are answered like any other.

    Raises:
        ConfigurationError: the address or port cannot be used; the text names the setting.
        CollectorError: the server stopped although nobody asked it to.
    """
    listener = _listen(host, port)
    server = _Server(_configuration(app, stop_timeout_s, socket_of))
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http_server")
    watch = _Watch(task)
    try:
        await _until_started(server, task)
        with watch:
            yield _address(listener)
    finally:
        await _stop(server, task, stop_timeout_s)
        listener.close()


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the composition root decides what Ctrl-C means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Watch:
    """Cancels the block it guards when ``task`` ends before the block does, and says so with an error."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self._block: asyncio.Task[object] | None = None
        self._died = False

    def __enter__(self) -> None:
        self._block = asyncio.current_task()
        self._task.add_done_callback(self._on_end)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._task.remove_done_callback(self._on_end)
        block, self._block = self._block, None
        if self._died and block is not None:
            others = block.uncancel()
            if kind is None or (issubclass(kind, asyncio.CancelledError) and not others):
                cause = None if self._task.cancelled() else self._task.exception()
                raise CollectorError(f"the HTTP server stopped by itself: {cause!r}") from cause

    def _on_end(self, _: asyncio.Task[None]) -> None:
        if self._block is not None:
            self._died = True
            self._block.cancel()


def _configuration(app: FastAPI, stop_timeout_s: float, socket_of: SocketFactory | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        # uvicorn hands over a request to upgrade as raw bytes; what it tells besides is not needed.
        ws="none" if socket_of is None else cast("type[asyncio.Protocol]", lambda **_: socket_of()),
        lifespan="off",
        log_config=None,  # src.logs routes its loggers
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else X-Forwarded-For could make anybody a loopback client
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(stop_timeout_s)),
        h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A bound, listening socket."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigurationError(_why_not(host, port, error)) from error
    listener.setblocking(False)
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"HTTP_HOST={host}: the name is unknown ({error.strerror}); write an address such as 127.0.0.1"
    match error.errno:
        case errno.EADDRINUSE:
            return f"HTTP_PORT={port}: in use by another program on {host}; stop that one, or choose another port"
        case errno.EACCES:
            return f"HTTP_PORT={port}: not allowed for this user; choose a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"HTTP_HOST={host}: not an address of this machine; use 127.0.0.1, or 0.0.0.0 with an API_TOKEN"
        case _:
            return f"HTTP_HOST={host}, HTTP_PORT={port}: cannot listen there ({error.strerror})"


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _until_started(server: _Server, task: asyncio.Task[None]) -> None:
    """Return when connections are accepted.

    Raises:
        CollectorError: it did not come up.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not server.started:
                if task.done():
                    raise CollectorError("the HTTP server did not start") from task.exception()
                await asyncio.sleep(0)
    except TimeoutError:
        raise CollectorError(f"the HTTP server did not start within {START_TIMEOUT_S:g} s") from None


async def _stop(server: _Server, task: asyncio.Task[None], timeout_s: float) -> None:
    """Let requests under way finish, then stop without them; always ends."""
    server.should_exit = True
    done, _ = await asyncio.wait([task], timeout=timeout_s + 1.0)
    if not done:
        server.force_exit = True
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
    if task.done() and not task.cancelled() and task.exception() is not None:
        _log.error("http_server_failed", error=repr(task.exception()))
