"""The real program against a busy venue: is everything stored, and what does it cost?

Three processes: the simulated venue, the program as a user starts it, and its mongod. The program is watched from
outside. The figures are taken in a steady window, after the first look at everything is stored; afterwards the venue
falls silent and what it sent is compared with what was received and with what is in MongoDB.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct
from pymongo import MongoClient

from benchmarks.processes import ROOT, START_S, Program, answer, cpu_s, end, running_program
from benchmarks.rows import Effort, Goal, Row, Spread, spread
from src.models.writes import Collection

NAME = "collector-load"
GOAL = Goal(25.0)

STATE_BYTES, ORDERS_BYTES = 65_000, 28_000
CADENCE_S = 5.0
DATABASE = "bench_load"

_WARM_UP_S = 240.0
_SETTLE_S = 60.0
_CALM_PENDING = 2_000


class Load(Struct, frozen=True):
    """How much is asked for, and for how long it is watched, in slices of ``slice_s`` seconds."""

    traders: int
    books: int
    state_bytes: int
    orders_bytes: int
    cadence_s: float
    slices: int
    slice_s: float

    @property
    def streams(self) -> int:
        return 3 * self.traders + self.books  # orders, positions, order history


LOADS = {
    Effort.TINY: Load(3, 2, 7_000, 3_500, cadence_s=0.5, slices=2, slice_s=1.0),
    Effort.QUICK: Load(500, 50, STATE_BYTES, ORDERS_BYTES, CADENCE_S, slices=2, slice_s=10.0),
    Effort.FULL: Load(500, 50, STATE_BYTES, ORDERS_BYTES, CADENCE_S, slices=6, slice_s=10.0),
}


class Window(Struct):
    """What was seen from outside; CPU in percent of one core per slice, memory in MB per slice."""

    collector: list[float] = []
    mongod: list[float] = []
    venue: list[float] = []
    resident: list[float] = []
    mongod_resident: list[float] = []
    frames: float = 0
    size_bytes: float = 0
    changes: float = 0


def measure(effort: Effort) -> Sequence[Row]:
    return asyncio.run(_measure(LOADS[effort]))


async def _measure(load: Load) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        async with _venue(load) as venue, _collector(load, venue.address, Path(folder)) as collector:
            await collector.until(_all_fresh(load), _WARM_UP_S, "the first look at everything")
            window = await _watch(load, venue, collector)
            holds = await _compare(load, venue, collector)
            await collector.stop()
    return _rows(load, window, holds)


async def _watch(load: Load, venue: _Venue, collector: Program) -> Window:
    window, before = Window(), await collector.stats()
    ours, theirs, server = (psutil.Process(pid) for pid in (collector.pid, venue.pid, collector.mongod_pid()))
    for _ in range(load.slices):
        start, spent = time.monotonic(), [cpu_s(process) for process in (ours, server, theirs)]
        await asyncio.sleep(load.slice_s)
        lasted_s = time.monotonic() - start
        for figures, process, earlier in zip(
            (window.collector, window.mongod, window.venue), (ours, server, theirs), spent, strict=True
        ):
            figures.append(100 * (cpu_s(process) - earlier) / lasted_s)
        window.resident.append(ours.memory_info().rss / 1e6)
        window.mongod_resident.append(server.memory_info().rss / 1e6)
    after, lasted_s = await collector.stats(), load.slices * load.slice_s
    window.frames = (after["messages_received"] - before["messages_received"]) / lasted_s
    window.size_bytes = (after["bytes_received"] - before["bytes_received"]) / lasted_s
    window.changes = (_changes(after, "orders") - _changes(before, "orders")) / lasted_s
    return window


async def _compare(load: Load, venue: _Venue, collector: Program) -> dict[str, bool]:
    """Let everybody see the final state twice, silence the venue, and compare what was sent with what is stored."""
    await venue.ask("freeze")
    await asyncio.sleep(2.5 * load.cadence_s)
    frames = sum((await venue.ask("hush"))["frames"].values())

    def through(stats: Mapping[str, Any]) -> bool:
        return stats["messages_received"] >= frames and not stats["pending"] and not stats["buffer"]["length"]

    stats = await collector.until(through, _SETTLE_S, f"all {frames} frames that were sent")
    sent = await venue.ask("counts")  # with the pongs that came meanwhile
    frames = sum(sent["frames"].values())
    stored, opened = _stored(stats["database"]["uri"])
    orders, order_events = Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS
    positions, position_events = Collection.TRADER_POSITIONS, Collection.TRADER_POSITION_EVENTS
    equal = {
        ("frames sent", "received"): (frames, stats["messages_received"]),
        ("order events found", "stored"): (_changes(stats, "orders"), stored[order_events]),
        ("position events found", "stored"): (_changes(stats, "positions"), stored[position_events]),
        ("orders open at the venue", "in MongoDB"): (sent["open_orders"], opened[orders]),
        ("positions open at the venue", "in MongoDB"): (sent["open_positions"], opened[positions]),
    }
    none = {
        "left out by the venue": sent["skipped"],
        "rejected": sum(stats["messages_rejected"].values()),
        "coalesced in the buffer": stats["buffer"]["coalesced"],
        "dropped from the buffer": stats["buffer"]["dropped"],
    }
    agree = {
        f"{one} {left:.0f} = {other} {right:.0f}": left == right for (one, other), (left, right) in equal.items()
    }
    return agree | {f"{count:.0f} {name}": count == 0 for name, count in none.items()}


def _stored(uri: str) -> tuple[dict[Collection, int], dict[Collection, int]]:
    """Documents in each collection, and those with the status open."""
    with MongoClient[dict[str, Any]](uri) as client:
        database = client.get_database(DATABASE)
        return (
            {name: database[name.value].count_documents({}) for name in Collection},
            {name: database[name.value].count_documents({"status": "open"}) for name in Collection},
        )


def _rows(load: Load, window: Window, holds: dict[str, bool]) -> list[Row]:
    sizes = f"{load.state_bytes // 1000} kB + {load.orders_bytes // 1000} kB"
    name = f"{load.traders} traders ({sizes} each {load.cadence_s:g} s), {load.books} books: collector CPU"
    rate = f"{window.frames:.0f} messages/s, {window.size_bytes / 1e6:.1f} MB/s, {window.changes:.0f} order events/s"
    checks = "; ".join(holds)
    return [
        Row(name, spread(window.collector), "% of a core", goal=GOAL, holds=holds, note=f"{rate}; {checks}"),
        _orientation("mongod CPU", window.mongod, "% of a core"),
        _orientation("simulated venue CPU", window.venue, "% of a core"),
        _orientation("collector memory (RSS)", window.resident, "MB"),
        _orientation("mongod memory (RSS)", window.mongod_resident, "MB"),
    ]


def _orientation(name: str, values: list[float], unit: str) -> Row:
    figures: Spread = spread(values)
    return Row(f"  for orientation: {name}", figures, unit)


# -- the processes -------------------------------------------------------------------------------------------------


class _Venue:
    def __init__(self, process: Process, address: Mapping[str, Any]) -> None:
        self.pid = process.pid
        self.address = address
        self._process = process

    async def ask(self, command: str) -> Mapping[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()
        return await answer(self._process)


def _all_fresh(load: Load) -> Any:
    def fresh(stats: Mapping[str, Any]) -> bool:
        return bool(stats.get("states") == {"fresh": load.streams} and stats["pending"] < _CALM_PENDING)

    return fresh


@asynccontextmanager
async def _venue(load: Load) -> AsyncIterator[_Venue]:
    arguments = {
        "traders": load.traders,
        "payload-bytes-state": load.state_bytes,
        "payload-bytes-orders": load.orders_bytes,
        "coins": "BTC,ETH,SOL",
        "trader-cadence": load.cadence_s,
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    command = (sys.executable, "-m", "benchmarks.venue_process", *words, "--no-limits")
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT, limit=2**24)
    try:
        yield _Venue(process, await asyncio.wait_for(answer(process), START_S))
    finally:
        await end(process)


@asynccontextmanager
async def _collector(load: Load, venue: Mapping[str, Any], folder: Path) -> AsyncIterator[Program]:
    settings = {
        "MONGODB_DATABASE": DATABASE,
        "HYPERLIQUID_WS_URL": venue["ws_url"],
        "HYPERLIQUID_API_URL": venue["api_url"],
        "HYPERLIQUID_STATS_URL": venue["stats_url"],
        "HYPERLIQUID_TRADERS": ",".join(venue["traders"]),
        "HYPERLIQUID_MAX_USERS": str(load.traders),
        "HYPERLIQUID_COINS": ",".join(venue["coins"][: load.books]),
        "HYPERLIQUID_TRADES": "false",
        "HYPERLIQUID_FILLS": "false",
        "HYPERLIQUID_BACKFILL": "false",
    }
    async with running_program("benchmarks.collector_process", folder, settings) as program:
        yield program


def _changes(stats: Mapping[str, Any], kind: str) -> float:
    return float(sum(stats["diff"][kind].values()))
