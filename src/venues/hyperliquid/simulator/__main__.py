"""Run a simulator in a process of its own.

Prints one JSON line with its addresses; stops on SIGTERM, SIGINT, or when stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from src.venues.hyperliquid.simulator.config import (
    DEFAULT_COINS,
    ORDER_SIZE_BYTES,
    POSITION_SIZE_BYTES,
    Cadences,
    Limits,
    MarketConfig,
    SimulatorConfig,
)
from src.venues.hyperliquid.simulator.faults import FaultPlan
from src.venues.hyperliquid.simulator.server import HyperliquidSimulator
from src.venues.simulating import serve_until_told

_FILLERS_BEYOND_POSITIONS = 10
_BENCH_TICK_MS = 250


def parse_arguments(arguments: list[str]) -> tuple[SimulatorConfig, FaultPlan | None]:
    """The configuration a command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m src.venues.hyperliquid.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traders", type=int, default=10)
    parser.add_argument("--coins", default=",".join(DEFAULT_COINS), help="names, comma separated")
    parser.add_argument("--filler-coins", type=int, default=0, help="further coins ALT000, ALT001, …")
    parser.add_argument("--orders", type=int, default=12, help="orders per trader")
    parser.add_argument("--positions", type=int, default=4, help="positions per trader")
    parser.add_argument("--actions-per-s", type=float, default=None)
    parser.add_argument("--trades-per-s", type=float, default=10.0)
    parser.add_argument("--payload-bytes-state", type=int, default=0, help="size of a clearinghouseState frame")
    parser.add_argument("--payload-bytes-orders", type=int, default=0, help="size of an openOrders frame")
    parser.add_argument("--trader-cadence", type=float, default=5.0, help="seconds between frames of a trader feed")
    parser.add_argument("--book-cadence", type=float, default=5.0, help="seconds between books")
    parser.add_argument("--legacy", action="store_true", help="the protocol of 2025: webData2, no split feeds")
    parser.add_argument("--no-limits", action="store_true", help="switch off the limits per client address")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="faults per minute")
    parser.add_argument("--leaderboard-rows", type=int, default=200)
    parser.add_argument("--compression", action="store_true", help="offer permessage-deflate")
    parser.add_argument("--logs", action="store_true", help="keep truth and delivery logs in memory")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-port", type=int, default=0)
    options = parser.parse_args(arguments)
    plan = FaultPlan(seed=options.seed, rate=options.fault_rate) if options.fault_rate > 0 else None
    return _configure(options), plan


async def run(config: SimulatorConfig, plan: FaultPlan | None) -> None:
    """Serve until told to stop."""
    await serve_until_told(HyperliquidSimulator(config, plan=plan), _addresses)


def _addresses(simulator: HyperliquidSimulator) -> dict[str, Any]:
    return {
        "ws_url": simulator.ws_url,
        "api_url": simulator.api_url,
        "stats_url": simulator.stats_url,
        "traders": simulator.traders,
        "coins": [coin.name for coin in simulator.market.universe],
    }


def _configure(options: argparse.Namespace) -> SimulatorConfig:
    sized = bool(options.payload_bytes_state or options.payload_bytes_orders)
    positions = options.payload_bytes_state // POSITION_SIZE_BYTES or options.positions
    orders = options.payload_bytes_orders // ORDER_SIZE_BYTES or options.orders
    fillers = options.filler_coins or (positions + _FILLERS_BEYOND_POSITIONS if sized else 0)
    actions_per_s = options.actions_per_s if options.actions_per_s is not None else (0.0 if sized else 20.0)
    return SimulatorConfig(
        market=MarketConfig(
            seed=options.seed,
            traders=options.traders,
            coins=tuple(name for name in options.coins.split(",") if name),
            filler_coins=fillers,
            orders_per_trader=orders,
            positions_per_trader=positions,
            actions_per_s=actions_per_s,
            trades_per_s=options.trades_per_s,
            tick_ms=_BENCH_TICK_MS if sized else 50,
            volatility=0.00005 if sized else 0.0003,
            log_truth=options.logs,
        ),
        cadences=Cadences(trader_s=options.trader_cadence, book_s=options.book_cadence),
        limits=Limits.off() if options.no_limits else Limits(),
        legacy=options.legacy,
        change_per_frame=sized,
        log_deliveries=options.logs,
        compression=options.compression,
        leaderboard_rows=options.leaderboard_rows,
        port=options.port,
        api_port=options.api_port,
    )


if __name__ == "__main__":
    configuration, faults = parse_arguments(sys.argv[1:])
    asyncio.run(run(configuration, faults))
