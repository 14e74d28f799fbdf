"""A running Alpaca source against the simulator, with its neighbours at hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from src.config import Settings
from src.jobs.alpaca.source import AlpacaPace, AlpacaSource
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.venues.alpaca.simulator import Account, AlpacaSimulator
from src.venues.clock import SystemClock
from src.venues.feed import Heartbeat
from tests.support.toy_venue import QUICK, MemorySink

ACCOUNT = Account()
FREE = Account(key="PKFREE00000000000001", secret="free-secret", plan="free")
TIMING = msgspec.structs.replace(QUICK, login_deadline_s=1.0, slow_retry_s=0.4, ack_deadline_s=2.0)


def settings_for(simulator: AlpacaSimulator, account: Account = ACCOUNT, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "alpaca_api_key": account.key,
        "alpaca_secret_key": account.secret,
        "alpaca_feed": "sip" if account.plan == "plus" else "iex",
        "alpaca_ws_url": simulator.ws_url,
        "alpaca_api_url": simulator.api_url,
        "alpaca_symbols": "AAPL,TSLA",
        "alpaca_silent_after": 0,
    }
    return Settings(**{**values, **more})


class MarketClock(SystemClock):
    """Shows the time of the simulated market."""

    def __init__(self, simulator: AlpacaSimulator) -> None:
        self._simulator = simulator

    def wall_ms(self) -> int:
        return self._simulator.now_ns() // 1_000_000


class RunningSource:
    def __init__(self, source: AlpacaSource, sink: MemorySink, metrics: Metrics, task: asyncio.Task[None]) -> None:
        self.source = source
        self.sink = sink
        self.metrics = metrics
        self.task = task

    def states(self) -> dict[str, str]:
        """State of each stream, by ``channel/symbol``."""
        return {name.split("/", 1)[1]: row["state"] for name, row in self.source.status()["streams"].items()}

    def messages(self, kind: type) -> list[Any]:
        """All messages of a kind that arrived."""
        return [message for data in self.sink.received for message in data.messages if isinstance(message, kind)]

    def last_error(self) -> dict[str, Any]:
        return self.source.status()["connections"][0]["last_error"] or {}


@contextlib.asynccontextmanager
async def running_source(
    settings: Settings, *, timing: Any = TIMING, heartbeat: Heartbeat | None = None, clock: Clock | None = None
) -> AsyncIterator[RunningSource]:
    sink, metrics = MemorySink(), Metrics()
    pace = AlpacaPace(timing, heartbeat)
    source = AlpacaSource(settings, sink=sink, clock=clock or SystemClock(), metrics=metrics, pace=pace)
    task = asyncio.create_task(source.run())
    try:
        yield RunningSource(source, sink, metrics, task)
    finally:
        await source.close()
        await asyncio.wait([task], timeout=5)
        assert task.done(), "run() did not return after close()"
        task.result()
