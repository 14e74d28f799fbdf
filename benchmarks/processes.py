"""Processes of the measures that watch the program from outside: the program, and whatever it talks to."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.rows import MeasureError
from src.config import setting_names

ROOT = Path(__file__).parents[1]
START_S = 60.0
STOP_S = 60.0


class Program:
    """The program in a process of its own, watched over HTTP."""

    def __init__(self, process: Process, url: str, client: httpx.AsyncClient) -> None:
        self.pid = process.pid
        self._process = process
        self._url = url
        self._client = client

    def mongod_pid(self) -> int:
        """The embedded server."""
        for child in psutil.Process(self.pid).children(recursive=True):
            if "mongod" in child.name():
                return int(child.pid)
        raise MeasureError("the collector has no mongod below it")

    async def stats(self) -> Mapping[str, Any]:
        return await self.ask("GET", "/stats")

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        response = await self._client.request(method, f"{self._url}{path}", json=body)
        told: Mapping[str, Any] = response.raise_for_status().json()
        return told

    async def until(self, wanted: Any, timeout_s: float, what: str) -> Mapping[str, Any]:
        """Ask once a second until ``wanted`` of the statistics is true."""
        deadline, stats = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            if self._process.returncode is not None:
                raise MeasureError(f"the collector ended with code {self._process.returncode}; its words stand above")
            try:
                stats = await self.stats()
            except httpx.TransportError:
                stats = None  # not listening yet
            if stats is not None and wanted(stats):
                return stats
            await asyncio.sleep(1)
        told = {} if stats is None else {key: stats.get(key) for key in ("phase", "states", "pending", "buffer")}
        raise MeasureError(f"{what} did not come within {timeout_s:g} s: {told}")

    async def stop(self) -> None:
        self._process.terminate()
        code = await asyncio.wait_for(self._process.wait(), STOP_S)
        if code != 0:
            raise MeasureError(f"the collector ended with code {code}")


@asynccontextmanager
async def running_program(module: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Program]:
    """The program as a user starts it, by environment, with its data and its embedded MongoDB below ``folder``."""
    port = _free_port()
    foreign = {name: value for name, value in os.environ.items() if name not in setting_names()}
    ours = {
        "DATA_DIR": str(folder),
        "HTTP_PORT": str(port),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "warning",
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        cwd=folder,  # away from a .env of the checkout
        env={**foreign, **ours, **settings},
        stdout=DEVNULL,  # the banner; what goes wrong is told on the standard error
    )
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            yield Program(process, f"http://127.0.0.1:{port}", client)
    finally:
        await end(process)


async def answer(process: Process) -> Mapping[str, Any]:
    """The next line of JSON."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise MeasureError("the simulated venue ended; its error stands above")
    told: Mapping[str, Any] = json.loads(line)
    return told


async def end(process: Process) -> None:
    """Ask a process to end, and end it after a while; one that has ended already is left alone."""
    if process.returncode is None and process.stdin is not None:
        process.stdin.close()
    elif process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
