"""The server of the gateway measure, in a process of its own: one venue connection, the pipeline, and the gateway.

Started with the venue's address and ``gateway`` or ``broadcast``. Prints one JSON line with its port, and for each
line on its standard input one with its memory, CPU time and counters. With ``broadcast`` the same books go to
all clients through `websockets.broadcast`, the ceiling the gateway is compared with: no subscriptions, no limits.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import structlog
import uvloop
from fastapi import FastAPI
from websockets.asyncio.server import broadcast
from websockets.asyncio.server import serve as serve_websockets

from src.api.gateway.gateway import Gateway
from src.api.gateway.messages import book_data, book_update
from src.api.gateway.options import Options
from src.api.gateway.remembered import LocalMemory
from src.api.gateway.session import Limits
from src.api.gateway.socket import GatewaySocket
from src.api.server import serve
from src.config import Settings
from src.core import build_core
from src.jobs.live.live import Live
from src.models.changes import BookChange, Change
from src.models.live import ACCEPTED, WANTED, Standing
from src.models.metrics import Metrics
from src.models.streams import StreamKey, SubscriptionState
from src.models.symbols import FUTU, HYPERLIQUID, Directory
from src.pipeline.demand import Demand
from src.store.memory import MemoryStore
from src.venues.budget import Budget
from src.venues.clock import SystemClock
from src.venues.hyperliquid.feed import HyperliquidFeed, market_subscriptions
from src.venues.pool import Pool

FLUSH_EVERY_S = 5.0


class Forgetful(MemoryStore):
    """Takes every batch and keeps nothing."""

    async def write(self, batch: Any) -> Any:
        result = await super().write(batch)
        self.__init__()  # type: ignore[misc]
        return result


class Books:
    """A source whose books are collected anyway."""

    venue = "hyperliquid"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def want(self, kinds_by_symbol: Mapping[str, frozenset[str]]) -> None:
        pass

    def standing(self, kind: str, symbol: str) -> Standing:  # noqa: ARG002 - there are only books
        found = self._pool.standing(StreamKey(self.venue, "l2Book", symbol))
        return ACCEPTED if found is not None and found[0] is SubscriptionState.CONFIRMED else WANTED

    @property
    def is_connected(self) -> bool:
        return self._pool.open_connections > 0


async def run(venue_url: str, mode: str, symbols: Sequence[str]) -> None:
    clock, metrics, stopping = SystemClock(), Metrics(), asyncio.Event()
    core = build_core(Settings(), store=Forgetful(), metrics=metrics, clock=clock)
    feed = HyperliquidFeed(venue_url, max_users=1)
    budget = Budget(feed.limits, clock=clock)
    pool = Pool(feed=feed, sink=core.pipeline, clock=clock, metrics=metrics, budget=budget, clients=1)
    pool.set_target(market_subscriptions(symbols, books=True, trades=False, fast_books=False))
    live = Live(demand=Demand(grace_s=30.0), sources=[Books(pool)], clock=clock)
    gateway = Gateway(
        Options(connections=20_000, limits=Limits(slow_s=5.0)),
        upstream=live,
        directory=Directory([HYPERLIQUID, FUTU], lambda topic: topic.subject in symbols),
        memory=LocalMemory(clock),
        clock=clock,
        metrics=metrics,
    )
    live.on_change, live.on_released = gateway.stood, gateway.released
    async with asyncio.TaskGroup() as group:
        works = [pool.run(), core.flusher.run(stopping), core.pipeline.run_drain(stopping)]
        if mode == "broadcast":
            works.append(_broadcast(core))
        else:
            core.hub.listen("live", live.heard)
            core.hub.listen("gateway", gateway.heard)
            core.pipeline.is_hurried = lambda: not gateway.is_idle
            works += [live.run(stopping), gateway.run(stopping), _serve(gateway)]
        for work in works:
            group.create_task(work)


async def _serve(gateway: Gateway) -> None:
    async with serve(FastAPI(), "127.0.0.1", 0, socket_of=lambda: GatewaySocket(gateway)) as address:
        await _answer(int(address.rpartition(":")[2]), gateway.stats)


async def _broadcast(core: Any) -> None:
    core.pipeline.is_hurried = lambda: True
    async with serve_websockets(_hold, "127.0.0.1", 0, compression=None, ping_interval=None) as server:

        def publish(changes: Sequence[Change]) -> None:
            for change in changes:
                if isinstance(change, BookChange):
                    book = change.book
                    payload = book_update(book.symbol, book.venue, book_data(book)).decode()
                    broadcast(server.connections, payload)

        core.hub.listen("broadcast", publish)
        await _answer(next(iter(server.sockets)).getsockname()[1], dict)


async def _hold(connection: Any) -> None:
    await connection.wait_closed()


async def _answer(port: int, stats: Any) -> None:
    _say({"port": port})
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    process = psutil.Process()
    while await reader.readline():
        gc.collect()
        _say({"rss": process.memory_info().rss, "cpu_s": time.process_time(), "stats": stats()})
    raise SystemExit


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.run(run(sys.argv[1], sys.argv[2], sys.argv[3].split(",")))
