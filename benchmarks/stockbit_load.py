"""Ten IDX shares at the documented rate: what the whole program costs, and what a further share takes in memory.

Three processes: the simulated exchange (always open), the program as a user starts it with an embedded MongoDB, and
its mongod. A session of one share runs until the memory has settled, then a second session brings the others. Every
book goes into CSV files and into MongoDB.
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

from benchmarks.processes import ROOT, START_S, Program, answer, cpu_s, end, running_program
from benchmarks.rows import Effort, Goal, Row, spread

NAME = "stockbit-load"
CPU_GOAL = Goal(5.0)
MEMORY_GOAL = Goal(1.0)
TICKERS = ("BBCA", "TLKM", "BBRI", "BMRI", "ASII", "GOTO", "ANTM", "ADRO", "UNVR", "INDF")
UPDATES_PER_S = 4.25
"""Of a share; two of them make the documented 169 messages in 20 s."""

_WARM_UP_S = 120.0
_URL = "/api/orderbook/streams"


class Watch(Struct, frozen=True):
    """How long is looked: ``slices`` of ``slice_s`` seconds each, after ``settle_s`` in which memory settles."""

    slices: int
    slice_s: float
    settle_s: float


WATCHES = {Effort.TINY: Watch(2, 1.0, 1.0), Effort.QUICK: Watch(3, 5.0, 10.0), Effort.FULL: Watch(6, 10.0, 30.0)}


class Seen(Struct):
    """CPU in percent of one core and messages per second, by slice; memory in MB."""

    program: list[float] = []
    mongod: list[float] = []
    per_message_us: list[float] = []
    rates: list[float] = []
    before_mb: float = 0.0
    after_mb: float = 0.0


def measure(effort: Effort) -> Sequence[Row]:
    return asyncio.run(_measure(WATCHES[effort]))


async def _measure(watch: Watch) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        async with _exchange() as exchange, _program(exchange, Path(folder)) as program:
            await program.until(lambda stats: stats["phase"] == "running", _WARM_UP_S, "the start")
            seen = await _look(watch, program)
            stats = await program.stats()
            written = sum(_sides(path) for path in (Path(folder) / "orderbook").glob("*.csv"))
            await program.stop()
    return _rows(watch, seen, stats, written)


async def _look(watch: Watch, program: Program) -> Seen:
    seen, process = Seen(), psutil.Process(program.pid)
    server = psutil.Process(program.mongod_pid())
    await _collect(program, TICKERS[:1], "first")
    await asyncio.sleep(watch.settle_s)
    seen.before_mb = process.memory_info().rss / 1e6
    await _collect(program, TICKERS[1:], "others")
    for _ in range(watch.slices):
        start, spent, received = time.monotonic(), [cpu_s(process), cpu_s(server)], await _received(program)
        await asyncio.sleep(watch.slice_s)
        messages = await _received(program) - received
        lasted_s = time.monotonic() - start
        seen.program.append(100 * (cpu_s(process) - spent[0]) / lasted_s)
        seen.mongod.append(100 * (cpu_s(server) - spent[1]) / lasted_s)
        seen.rates.append(messages / lasted_s)
        seen.per_message_us.append(1e6 * (cpu_s(process) - spent[0]) / max(1.0, messages))
    seen.after_mb = process.memory_info().rss / 1e6
    return seen


async def _collect(program: Program, tickers: Sequence[str], name: str) -> None:
    """Begin a session and wait until each of its shares has been heard of."""
    await program.ask("POST", _URL, {"tickers": list(tickers), "session_id": name})
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        counts = (await program.ask("GET", f"{_URL}/{name}"))["stats"]["message_counts"]
        if all(counts.values()):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{name} heard nothing of some shares: {counts}")


async def _received(program: Program) -> float:
    return float((await program.stats())["messages_received"])


def _sides(path: Path) -> int:
    """Messages in a file: rows of one message follow each other with the same time and side."""
    found, last = 0, ""
    for line in path.read_text().splitlines()[1:]:
        time_text, _, rest = line.partition(",")
        key = time_text + rest.rpartition(",")[2]
        found += key != last
        last = key
    return found


def _rows(watch: Watch, seen: Seen, stats: Mapping[str, Any], written: int) -> list[Row]:
    rate = sum(seen.rates) / len(seen.rates)
    expected = len(TICKERS) * UPDATES_PER_S
    rejected = sum(stats["messages_rejected"].values())
    holds = {
        f"{rate:.0f} messages/s, at least the documented {expected:g}": rate > 0.9 * expected,
        f"{rejected:g} rejected": rejected == 0,
        f"{written} sides in files": written > 0.8 * expected * watch.slices * watch.slice_s,
    }
    count = len(TICKERS) - 1
    per_ticker = max(0.0, seen.after_mb - seen.before_mb) / count
    memory_note = f"resident memory {seen.before_mb:.0f} MB with one share, {seen.after_mb:.0f} MB with ten"
    return [
        Row(
            f"stockbit: {len(TICKERS)} shares of 60 levels, collector CPU",
            spread(seen.program),
            "% of a core",
            goal=CPU_GOAL,
            holds=holds,
            note="; ".join(holds),
        ),
        Row("stockbit: memory per further share", spread([per_ticker]), "MB", goal=MEMORY_GOAL, note=memory_note),
        Row("  for orientation: collector CPU per message, all it does", spread(seen.per_message_us), "µs"),
        Row("  for orientation: mongod CPU", spread(seen.mongod), "% of a core"),
    ]


@asynccontextmanager
async def _exchange() -> AsyncIterator[Mapping[str, Any]]:
    options = ("--always-open", "--tickers", ",".join(TICKERS), "--updates-per-s", str(UPDATES_PER_S))
    command = (sys.executable, "-m", "src.venues.stockbit.simulator", *options)
    process: Process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    try:
        yield await asyncio.wait_for(answer(process), START_S)
    finally:
        await end(process)


@asynccontextmanager
async def _program(exchange: Mapping[str, Any], folder: Path) -> AsyncIterator[Program]:
    settings = {
        "HYPERLIQUID_ENABLED": "false",
        "STOCKBIT_WS_URL": exchange["ws_url"],
        "STOCKBIT_API_URL": exchange["api_url"],
        "STOCKBIT_ACCESS_TOKEN": exchange["access_token"],
        "STOCKBIT_REFRESH_TOKEN": exchange["refresh_token"],
    }
    async with running_program("src.main", folder, settings) as program:
        yield program
