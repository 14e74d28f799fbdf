"""What goes wrong on purpose: a TCP proxy with bad manners, and eyes on a program while it suffers.

Every fault test has a short form, which runs always, and a long one: ``FAULTS=long uv run pytest tests/faults``.
"""

import asyncio
import os
import random
import secrets
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

LONG = os.environ.get("FAULTS", "") == "long"
SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1_000_000))

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def sized(short, long):
    """The size of a test in its short and in its long form."""
    return long if LONG else short


def seeded():
    """Random moments; the seed is printed, and with it a failure: set FAULTS_SEED to see it again."""
    print(f"FAULTS_SEED={SEED}")
    return random.Random(SEED)


# -- the proxy ---------------------------------------------------------------------------------------------------------


@dataclass
class Cut:
    """Cut the connection at the next ``times`` chunks towards the server that contain ``pattern``.

    ``inside``: half of the chunk still gets through. ``after``: all of it, and the answer never comes back.
    ``struck`` counts.
    """

    pattern: bytes
    where: str = "inside"
    times: int = 1
    struck: int = 0


@dataclass
class Manners:
    """How the proxy treats bytes; change it any time.

    Attributes:
        delay_s: before each chunk towards the server.
        down_bytes_per_s, down_slice_bytes: speed and size of pieces towards the client, None = as they come.
        cut_down_after: bytes towards the client after which connections are cut in two, None = never.
        frozen: nothing moves, nothing is read, and connections stay open.
        close_at_once: new connections are accepted and closed.
    """

    delay_s: float = 0.0
    down_bytes_per_s: float | None = None
    down_slice_bytes: int | None = None
    cut_down_after: int | None = None
    frozen: bool = False
    close_at_once: bool = False
    cuts: list[Cut] = field(default_factory=list)


class FaultProxy:
    """Stands between a program and a server. ``port`` is where to connect; ``accepted`` counts connections."""

    def __init__(self, host, port):
        self._target = (host, port)
        self._writers = set()
        self._tasks = set()
        self._server = None
        self.manners = Manners()
        self.port = 0
        self.accepted = 0

    async def start(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        self.reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset_all(self):
        """Cut every connection without a word."""
        for writer in list(self._writers):
            _reset(writer)

    async def _accept(self, reader, writer):
        self.accepted += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if not self.manners.close_at_once:
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one of both sides is gone, or the test is over
        finally:
            writer.close()

    async def _relay(self, reader, writer):
        server_reader, server_writer = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
        pair = (writer, server_writer)
        self._writers.update(pair)
        ways = [
            asyncio.ensure_future(self._up(reader, server_writer, pair)),
            asyncio.ensure_future(self._down(server_reader, writer, pair)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.difference_update(pair)
            server_writer.close()

    async def _up(self, reader, writer, pair):
        while data := await self._read(reader):
            if self.manners.delay_s:
                await asyncio.sleep(self.manners.delay_s)
            cut = next((cut for cut in self.manners.cuts if cut.struck < cut.times and cut.pattern in data), None)
            if cut is not None:
                cut.struck += 1
                writer.write(data if cut.where == "after" else data[: len(data) // 2])
                await writer.drain()
                if cut.where == "after":
                    await asyncio.sleep(0.3)  # the server does its work; `_down` keeps the answer back meanwhile
                for one in pair:
                    _reset(one)
                return
            writer.write(data)
            await writer.drain()

    async def _down(self, reader, writer, pair):
        passed = 0
        while data := await self._read(reader):
            manners = self.manners
            if any(cut.struck and cut.where == "after" and cut.struck <= cut.times for cut in manners.cuts):
                await asyncio.sleep(0.4)  # an answer to what is being cut does not get through
            size = manners.down_slice_bytes or len(data)
            if manners.down_bytes_per_s:
                size = min(size, max(1, int(manners.down_bytes_per_s / 20)))
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                after = self.manners.cut_down_after
                if after is not None and passed + len(piece) > after:
                    writer.write(piece[: max(0, after - passed)])
                    with suppress(OSError):
                        await writer.drain()
                    for one in pair:
                        _reset(one)
                    return
                passed += len(piece)
                writer.write(piece)
                await writer.drain()
                if manners.down_bytes_per_s:
                    await asyncio.sleep(len(piece) / manners.down_bytes_per_s)
                elif size < len(data) and start % 4096 == 0:
                    await asyncio.sleep(0)

    async def _read(self, reader):
        await self._until_thawed()
        data = await reader.read(_CHUNK_BYTES)
        await self._until_thawed()
        return data

    async def _until_thawed(self):
        while self.manners.frozen:  # noqa: ASYNC110 - manners are plain data that any thread may exchange
            await asyncio.sleep(0.02)


def _reset(writer):
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


class ThreadedProxy:
    """A `FaultProxy` on a loop of its own, for plain tests."""

    def __init__(self, loop, proxy):
        self._loop = loop
        self._proxy = proxy

    @property
    def port(self):
        return self._proxy.port

    @property
    def accepted(self):
        return self._proxy.accepted

    def behave(self, **manners):
        """Well again, but for these `Manners`."""
        self._loop.call_soon_threadsafe(setattr, self._proxy, "manners", Manners(**manners))

    def cut(self, pattern, where="inside", times=1):
        """Cut at the next chunks with this pattern; returns the `Cut`, to look at its ``struck``."""
        cut = Cut(pattern, where, times)
        self._loop.call_soon_threadsafe(self._proxy.manners.cuts.append, cut)
        return cut

    def reset_all(self):
        self._loop.call_soon_threadsafe(self._proxy.reset_all)


@contextmanager
def fault_proxy(port, host="127.0.0.1"):
    """A proxy in front of ``host:port``, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy", daemon=True)
    thread.start()
    proxy = FaultProxy(host, port)
    try:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        try:
            yield ThreadedProxy(loop, proxy)
        finally:
            asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


# -- eyes on the program -----------------------------------------------------------------------------------------------

ANSWER_MS = 100.0
LAG_MS = 250.0


@dataclass
class Watched:
    """What was seen: how long answers took, how late the event loop was, how much memory was in use."""

    answers_ms: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self):
        answers, lags = sorted(self.answers_ms), sorted(self.lags_ms)
        return (
            f"{len(answers)} answers, 99 of 100 within {_share(answers, 0.99):.0f} ms, slowest {answers[-1]:.0f} ms; "
            f"loop lag at most {lags[-1]:.0f} ms"
        )

    def check(self):
        """Answers came within 100 ms and the loop was never 250 ms late; one in fifty may be, on a shared machine."""
        assert not self.failures, self.failures[:5]
        assert self.answers_ms, "it was not watched"
        for values, limit in ((self.answers_ms, ANSWER_MS), (self.lags_ms, LAG_MS)):
            assert sum(value >= limit for value in values) <= max(1, len(values) // 50), str(self)
        print(self)


def _share(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def watching(url, *, every_s=0.1):
    """Ask /health/live and /stats in turn, from a thread of its own, for as long as the block lasts."""
    seen, over = Watched(), threading.Event()

    def look():
        with httpx.Client(base_url=url, timeout=10.0, trust_env=False) as client:
            while not over.wait(every_s) or not seen.answers_ms:  # on a busy machine one look may outlast the block
                for path in ("/health/live", "/health", "/stats"):
                    began = time.monotonic()
                    try:
                        answer = client.get(path)
                    except httpx.HTTPError as error:
                        seen.failures.append(f"{path}: {error!r}")
                        continue
                    seen.answers_ms.append((time.monotonic() - began) * 1000)
                    if path == "/stats":
                        seen.lags_ms.append(answer.json()["event_loop_lag_ms"])

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(15)
