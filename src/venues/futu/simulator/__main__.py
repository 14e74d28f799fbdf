"""Run a simulated gateway in a process of its own.

Prints one JSON line with its address; stops on SIGTERM, SIGINT, or when stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys

from src.venues.futu.simulator.config import DEFAULT_SYMBOLS, GatewayConfig
from src.venues.futu.simulator.server import FutuSimulator


def parse_arguments(arguments: list[str]) -> GatewayConfig:
    """The configuration a command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m src.venues.futu.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--symbols", default=",".join(DEFAULT_SYMBOLS), help="comma separated")
    parser.add_argument("--quota", type=int, default=100)
    parser.add_argument("--push-every", type=float, default=1.0, help="seconds between books of a symbol")
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--minimum-hold", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    return GatewayConfig(
        symbols=tuple(symbol for symbol in options.symbols.split(",") if symbol),
        seed=options.seed,
        quota=options.quota,
        push_every_s=options.push_every,
        depth=options.depth,
        minimum_hold_s=options.minimum_hold,
        port=options.port,
    )


async def run(config: GatewayConfig) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with FutuSimulator(config) as gateway:
        address = {"host": gateway.host, "port": gateway.port, "symbols": list(config.symbols)}
        sys.stdout.write(json.dumps(address) + "\n")
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


if __name__ == "__main__":
    asyncio.run(run(parse_arguments(sys.argv[1:])))
