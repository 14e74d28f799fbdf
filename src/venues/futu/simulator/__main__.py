"""Run a simulated gateway in a process of its own.

Prints one JSON line with its address; stops on SIGTERM, SIGINT, or when stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from src.venues.futu.simulator.config import DEFAULT_SYMBOLS, GatewayConfig
from src.venues.futu.simulator.server import FutuSimulator
from src.venues.simulating import serve_until_told


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
    await serve_until_told(
        FutuSimulator(config),
        lambda gateway: {"host": gateway.host, "port": gateway.port, "symbols": list(config.symbols)},
    )


if __name__ == "__main__":
    asyncio.run(run(parse_arguments(sys.argv[1:])))
