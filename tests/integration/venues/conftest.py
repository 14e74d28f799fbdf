from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from src.models.metrics import Metrics
from src.venues.budget import Budget
from src.venues.clock import SystemClock
from src.venues.pool import Pool
from tests.support.toy_venue import QUICK, MemorySink, ToyFeed, ToyServer


class Running:
    """A pool that runs, with its neighbours at hand."""

    def __init__(
        self, pool: Pool, sink: MemorySink, metrics: Metrics, budget: Budget, task: asyncio.Task[None]
    ) -> None:
        self.pool = pool
        self.sink = sink
        self.metrics = metrics
        self.budget = budget
        self.task = task

    def states(self) -> dict[str, str]:
        return {name.split("/", 1)[1]: row["state"] for name, row in self.pool.status()["streams"].items()}

    def connections(self, state: str) -> int:
        return sum(c["state"] == state for c in self.pool.status()["connections"])

    def last_error(self, number: int = 0) -> str:
        error = self.pool.status()["connections"][number]["last_error"]
        return error["reason"] if error else ""


Start = Callable[..., "contextlib.AbstractAsyncContextManager[Running]"]


@pytest.fixture
async def server() -> AsyncIterator[ToyServer]:
    async with ToyServer().running() as running:
        yield running


@pytest.fixture
def start() -> Start:
    @contextlib.asynccontextmanager
    async def started(feed: ToyFeed, *, timing: Any = QUICK, **options: Any) -> AsyncIterator[Running]:
        clock, sink, metrics = SystemClock(), MemorySink(), Metrics()
        budget = options.pop("budget", None) or Budget(feed.limits, clock=clock, spacing_s=0.0)
        options.setdefault("clients", 1)
        pool = Pool(
            feed=feed,
            sink=sink,
            clock=clock,
            metrics=metrics,
            budget=budget,
            rng=random.Random(1),
            timing=timing,
            **options,
        )
        task = asyncio.create_task(pool.run())
        try:
            yield Running(pool, sink, metrics, budget, task)
        finally:
            await pool.close()
            await asyncio.wait([task], timeout=5)
            assert task.done(), "run() did not return after close()"
            if not task.cancelled():
                task.result()

    return started
