"""Run a simulator in a process of its own.

Prints one JSON line with its addresses; stops on SIGTERM, SIGINT, or when stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from collections.abc import Sequence
from typing import Any

from src.venues.alpaca.simulator.config import DEFAULT_SYMBOLS, Account, SimulatorConfig
from src.venues.alpaca.simulator.frames import Encoding, encode
from src.venues.alpaca.simulator.server import AlpacaSimulator, prepared_trades
from src.venues.simulating import serve_until_told


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """What a command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m src.venues.alpaca.simulator", description=__doc__)
    parser.add_argument("--symbols", default=",".join(DEFAULT_SYMBOLS), help="comma separated")
    parser.add_argument("--trades-per-s", type=float, default=50.0)
    parser.add_argument("--corrections", type=float, default=0.0, help="share of trades that are corrected")
    parser.add_argument("--cancels", type=float, default=0.0, help="share of trades that are cancelled")
    parser.add_argument("--plan", choices=("free", "plus"), default="plus")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--prepared", type=int, default=0, help="trades for each client at once, nothing else")
    parser.add_argument("--per-frame", type=int, default=50, help="prepared trades in one array")
    return parser.parse_args(arguments)


def configure(options: argparse.Namespace) -> SimulatorConfig:
    """The simulator they describe."""
    account = Account(plan=options.plan)
    return SimulatorConfig(
        accounts=(account,),
        symbols={name: DEFAULT_SYMBOLS.get(name, 100.0) for name in options.symbols.split(",")},
        trades_per_s=0.0 if options.prepared else options.trades_per_s,
        correction_share=options.corrections,
        cancel_share=options.cancels,
        seed=options.seed,
        port=options.port,
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until told to stop."""
    simulator = AlpacaSimulator(configure(options))
    if options.prepared:
        arrays = prepared_trades(options.prepared, options.symbols.split(","), per_frame=options.per_frame)

        @functools.cache
        def frames(encoding: Encoding) -> Sequence[str | bytes]:
            return [encode(messages, encoding) for messages in arrays]

        frames("msgpack")
        simulator.prepared = frames
    await serve_until_told(simulator, _addresses)


def _addresses(simulator: AlpacaSimulator) -> dict[str, Any]:
    (account,) = simulator.config.accounts
    return {
        "ws_url": simulator.ws_url,
        "api_url": simulator.api_url,
        "key": account.key,
        "secret": account.secret,
        "symbols": list(simulator.config.symbols),
    }


if __name__ == "__main__":
    asyncio.run(run(parse_arguments(sys.argv[1:])))
