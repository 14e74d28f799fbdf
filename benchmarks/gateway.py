"""The gateway under load: from the venue's frame to the client, and what an idle client costs.

A venue sends ten order books of twenty levels, each ten times a second, spread evenly, stamped with the time of
sending. A server process (`gateway_process`) collects them and serves a crowd (`gateway_clients`, a process of its
own); some clients in this process read every frame and compare the stamp with their own clock. In the same run a
server sends the same books to as many clients with `websockets.broadcast`, in turns with the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from msgspec import Struct
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.gateway_clients import SYMBOLS, Client, open_clients
from benchmarks.rows import Effort, Goal, MeasureError, Row, spread

NAME = "gateway"
GOAL_MS = Goal(100.0)
GOAL_KIB = Goal(50.0)
RATE = 10.0
LEVELS = 20
PROBES = 20

_CLIENTS = {Effort.TINY: 30, Effort.QUICK: 300, Effort.FULL: 1_000}
_IDLE = {Effort.TINY: 50, Effort.QUICK: 500, Effort.FULL: 2_000}
_SECONDS = {Effort.TINY: 1.0, Effort.QUICK: 5.0, Effort.FULL: 10.0}
_ROUNDS = {Effort.TINY: 1, Effort.QUICK: 1, Effort.FULL: 3}
_SETTLE_S = 1.5


class Load(Struct, frozen=True):
    """What one round showed; ages in ms, rates per second.

    Attributes:
        p50_ms, p99_ms: age of updates when a probe read them.
        updates: updates each probe read.
        sent_bytes: what the crowd received.
        cpu: share of a core the server used.
        dropped, closed: what the gateway tells it dropped, and the connections it ended.
    """

    p50_ms: float
    p99_ms: float
    updates: float
    sent_bytes: float
    cpu: float
    dropped: float
    closed: int


def measure(effort: Effort) -> Sequence[Row]:
    return uvloop.run(_measure(effort))


async def _measure(effort: Effort) -> Sequence[Row]:
    clients, seconds = _CLIENTS[effort], _SECONDS[effort]
    idle = [await _idle_kib(_IDLE[effort]) for _ in range(_ROUNDS[effort])]
    ours, peers, disturbed = [], [], []
    for _ in range(_ROUNDS[effort]):
        ours.append(await _load("gateway", clients, seconds))
        peers.append(await _load("broadcast", clients, seconds))
        disturbed.append(await _load("gateway", clients, seconds, deaf=1))
    told = f"{clients:,} clients x {len(SYMBOLS)} books of {LEVELS} levels at {RATE:g} a second"
    return [
        Row(f"gateway: memory per idle client, {_IDLE[effort]:,} clients", spread(idle), "KiB", goal=GOAL_KIB),
        _latency_row(f"gateway: venue to client, p99, {told}", ours, peers),
        _latency_row("gateway: the same, and one client that never reads", disturbed, ours, peer="without it"),
        Row(
            "gateway: updates that reached each client",
            spread([load.updates for load in ours]),
            "per second",
            peer="websockets.broadcast",
            peer_value=spread([load.updates for load in peers]),
        ),
        Row(
            "gateway: CPU",
            spread([100 * load.cpu for load in ours]),
            "% of a core",
            peer="websockets.broadcast",
            peer_value=spread([100 * load.cpu for load in peers]),
        ),
    ]


def _latency_row(
    name: str, loads: Sequence[Load], peers: Sequence[Load], *, peer: str = "websockets.broadcast"
) -> Row:
    p50 = spread([load.p50_ms for load in loads]).median
    return Row(
        name,
        spread([load.p99_ms for load in loads]),
        "ms",
        peer=peer,
        peer_value=spread([load.p99_ms for load in peers]),
        # The bound is on the figure itself: no ratio, the peer is there to compare.
        goal=GOAL_MS,
        holds={"nothing was dropped": all(not load.dropped for load in loads)},
        note=f"median {p50:.1f} ms; {spread([load.sent_bytes / 1e6 for load in loads]).median:.0f} MB/s sent",
    )


async def _idle_kib(count: int) -> float:
    """Memory of the server per client that is connected and wants nothing."""
    async with _venue() as url, _server(url, "gateway") as (server, port):
        before = await _ask(server)
        async with _crowd(port, count, speaks=False):
            await asyncio.sleep(_SETTLE_S)
            after = await _ask(server)
        if after["stats"]["connections"] != count:
            raise MeasureError(f"{after['stats']['connections']} of {count} clients were connected")
    return (after["rss"] - before["rss"]) / count / 1024


async def _load(mode: str, clients: int, seconds: float, *, deaf: int = 0) -> Load:
    speaks = mode == "gateway"
    async with _venue() as url, _server(url, mode) as (server, port):
        probes = await open_clients(port, [f"probe-{number}" for number in range(PROBES)], speaks=speaks, probes=True)
        async with _crowd(port, max(0, clients - PROBES), speaks=speaks, deaf=deaf) as crowd:
            await asyncio.sleep(_SETTLE_S)
            before, heard, began = await _ask(server), await _ask(crowd), time.monotonic()
            for probe in probes:
                probe.begin()
            await asyncio.sleep(seconds)
            lasted = time.monotonic() - began
            ages = sorted(age for probe in probes for age in probe.ages_ms)
            after, heard_after = await _ask(server), await _ask(crowd)
    return _judge(ages, probes, lasted, [before, after], [heard, heard_after])


def _judge(ages: Sequence[float], probes: Sequence[Client], lasted: float, told: list[Any], heard: list[Any]) -> Load:
    if not ages:
        raise MeasureError("no update reached any client")
    stats = told[1]["stats"]
    return Load(
        p50_ms=ages[len(ages) // 2],
        p99_ms=ages[min(len(ages) - 1, int(0.99 * len(ages)))],
        updates=len(ages) / len(probes) / lasted,
        sent_bytes=(heard[1]["size_bytes"] - heard[0]["size_bytes"]) / lasted,
        cpu=(told[1]["cpu_s"] - told[0]["cpu_s"]) / lasted,
        dropped=stats.get("messages_dropped", 0),
        closed=heard[1]["closed"],
    )


@asynccontextmanager
async def _venue() -> AsyncIterator[str]:
    """Sends the books; gives its address."""
    async with serve(_send_books, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def _send_books(connection: ServerConnection) -> None:
    async def answer() -> None:
        async for text in connection:
            said = json.loads(text)
            if said["method"] == "ping":
                await connection.send('{"channel":"pong"}')
            else:
                await connection.send(json.dumps({"channel": "subscriptionResponse", "data": said}))

    answering = asyncio.create_task(answer())
    pause_s, due, step = 1.0 / RATE / len(SYMBOLS), time.monotonic(), 0
    with contextlib.suppress(ConnectionClosed):
        while not answering.done():
            await connection.send(_book(SYMBOLS[step % len(SYMBOLS)], step))
            step, due = step + 1, due + pause_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    answering.cancel()


def _book(symbol: str, step: int) -> str:
    def side(first: float, direction: int) -> list[dict[str, Any]]:
        return [
            {"px": f"{first + direction * level:.1f}", "sz": f"{1 + level + step % 997 / 1000:.4f}", "n": level + 1}
            for level in range(LEVELS)
        ]

    levels = [side(50_000.0, -1), side(50_001.0, 1)]
    return json.dumps(
        {"channel": "l2Book", "data": {"coin": symbol, "time": int(time.time() * 1000), "levels": levels}}
    )


@asynccontextmanager
async def _server(venue_url: str, mode: str) -> AsyncIterator[tuple[Process, int]]:
    async with _process("benchmarks.gateway_process", venue_url, mode, ",".join(SYMBOLS)) as process:
        port = (await _line(process))["port"]
        await asyncio.sleep(_SETTLE_S)
        yield process, port


@asynccontextmanager
async def _crowd(port: int, count: int, *, speaks: bool, deaf: int = 0) -> AsyncIterator[Process]:
    arguments = [str(port), str(count), str(int(speaks)), str(deaf)]
    async with _process("benchmarks.gateway_clients", *arguments) as process:
        await _line(process)
        yield process


@asynccontextmanager
async def _process(module: str, *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ask(process: Process) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(b"?\n")
    return await _line(process)


async def _line(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise MeasureError("a process of the measure ended early")
    found: dict[str, Any] = json.loads(line)
    return found
