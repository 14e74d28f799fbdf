"""The simulated venue of the load measure, in a process of its own; it answers questions on its standard input.

Prints one JSON line at the start and one per command: ``counts`` what was sent so far and what is open, ``freeze``
lets nothing change any more, ``hush`` sends no more states. Ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from src.venues.hyperliquid.simulator.__main__ import parse_arguments
from src.venues.hyperliquid.simulator.config import SimulatorConfig
from src.venues.hyperliquid.simulator.server import HyperliquidSimulator
from src.venues.hyperliquid.simulator.sessions import Session

_FOR_EVER_S = 1e9
_CHANNEL_AT = len('{"channel":"')


class Sent:
    """Counts every frame that was handed to a socket."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.size_bytes: Counter[str] = Counter()

    def watch(self) -> None:
        """Count what any `Session` sends from now on."""
        send = Session.send

        def counted(session: Session, data: bytes, now_s: float, *, binary: bool = False) -> bool:
            sent = send(session, data, now_s, binary=binary)
            if sent:
                channel = data[_CHANNEL_AT : data.index(b'"', _CHANNEL_AT)].decode()
                self.frames[channel] += 1
                self.size_bytes[channel] += len(data)
            return sent

        Session.send = counted  # type: ignore[method-assign, assignment]


async def serve(config: SimulatorConfig) -> None:
    sent = Sent()
    sent.watch()
    async with HyperliquidSimulator(config) as simulator:
        _say(
            {
                "ws_url": simulator.ws_url,
                "api_url": simulator.api_url,
                "stats_url": simulator.stats_url,
                "traders": simulator.traders,
                "coins": [coin.name for coin in simulator.market.universe],
            }
        )
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while command := (await reader.readline()).decode().strip():
            if command == "freeze":
                simulator.market.freeze()
            elif command == "hush":
                simulator.faults.silence(_FOR_EVER_S)
            _say(_counts(simulator, sent))


def _counts(simulator: HyperliquidSimulator, sent: Sent) -> Mapping[str, Any]:
    traders = simulator.market.traders.values()
    return {
        "frames": dict(sent.frames),
        "size_bytes": dict(sent.size_bytes),
        "skipped": sum(session.skipped for session in simulator.sessions.values()),
        "open_orders": sum(len(list(order.family())) for trader in traders for order in trader.orders.values()),
        "open_positions": sum(len(account.rows()) for trader in traders for account in trader.accounts.values()),
    }


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(parse_arguments(sys.argv[1:])[0]))
