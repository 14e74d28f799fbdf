"""Run the simulated venue in a process of its own.

Prints one JSON line with its addresses and a pair of invented tokens; stops on SIGTERM, SIGINT, or when stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from typing import Any

from src.models.clock import Clock
from src.venues.clock import SystemClock
from src.venues.simulating import serve_until_told
from src.venues.stockbit.simulator.config import DEFAULT_TICKERS, StockbitSimulatorConfig
from src.venues.stockbit.simulator.day import DayClock
from src.venues.stockbit.simulator.server import StockbitSimulator


def parse_arguments(arguments: list[str]) -> tuple[StockbitSimulatorConfig, Clock]:
    """The configuration a command line asks for, and the clock of the venue."""
    parser = argparse.ArgumentParser(prog="python -m src.venues.stockbit.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tickers", default=",".join(DEFAULT_TICKERS), help="names, comma separated")
    parser.add_argument("--updates-per-s", type=float, default=4.25, help="changes of each book")
    parser.add_argument("--trades-per-s", type=float, default=0.5, help="trades of each share")
    parser.add_argument("--levels", type=int, default=60)
    parser.add_argument("--always-open", action="store_true", help="trade around the clock")
    parser.add_argument("--start", type=datetime.fromisoformat, help="2026-02-04T08:40:00+07:00; default: now")
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of the day in a second")
    parser.add_argument("--token-life", type=float, default=86_400.0, help="seconds of the day")
    parser.add_argument("--ping-deadline", type=float, default=None, help="drop clients that do not ping, seconds")
    parser.add_argument("--layout", choices=("nested", "flat"), default="nested")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-port", type=int, default=0)
    options = parser.parse_args(arguments)
    config = StockbitSimulatorConfig(
        port=options.port,
        api_port=options.api_port,
        tickers=tuple(name for name in options.tickers.split(",") if name),
        seed=options.seed,
        updates_per_s=options.updates_per_s,
        trades_per_s=options.trades_per_s,
        levels=options.levels,
        always_open=options.always_open,
        token_life_s=options.token_life,
        ping_deadline_s=options.ping_deadline,
        layout=options.layout,
        keeps_log=False,
    )
    if options.start is None and options.speed == 1.0:
        return config, SystemClock()
    start_ms = SystemClock().wall_ms() if options.start is None else int(options.start.timestamp() * 1000)
    return config, DayClock(start_ms, options.speed)


async def run(config: StockbitSimulatorConfig, clock: Clock) -> None:
    """Serve until told to stop."""
    await serve_until_told(StockbitSimulator(config, clock=clock), _addresses)


def _addresses(simulator: StockbitSimulator) -> dict[str, Any]:
    access, refresh = simulator.log_in()
    return {
        "ws_url": simulator.ws_url,
        "api_url": simulator.api_url,
        "tickers": list(simulator.config.tickers),
        "access_token": access,
        "refresh_token": refresh,
    }


if __name__ == "__main__":
    asyncio.run(run(*parse_arguments(sys.argv[1:])))
