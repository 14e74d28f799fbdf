"""What the simulated venues have in common around what they simulate: an HTTP side, and a program of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

Simulator = TypeVar("Simulator")


class Startable(ABC):
    """Runs from `start` to `stop`, or inside ``async with``."""

    @abstractmethod
    async def start(self) -> None:
        """Listen."""

    @abstractmethod
    async def stop(self) -> None:
        """Close everything; raises what made a part of it fail."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class HttpSide:
    """Serves routes on a socket of its own until `stop`; ``name`` is that of its task."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, routes: Sequence[Route]) -> int:
        """Listen; returns the port."""
        sock = socket.create_server((host, port))
        app = Starlette(routes=list(routes))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", loop="none")
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name=self._name)
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)
        return int(sock.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and wait for the end."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await self._task


class _QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


async def serve_until_told(
    simulator: AbstractAsyncContextManager[Simulator], tell: Callable[[Simulator], Mapping[str, Any]]
) -> None:
    """Run a simulator as a program: a line of JSON with ``tell``, until a signal comes or standard input ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with simulator as running:
        sys.stdout.write(json.dumps(tell(running)) + "\n")
        sys.stdout.flush()
        watcher = asyncio.create_task(_until_stdin_ends(stop), name="stdin")
        await stop.wait()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _until_stdin_ends(stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    with contextlib.suppress(ValueError, OSError):  # a closed or regular-file stdin cannot be watched
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.read(1024):
            pass
        stop.set()
