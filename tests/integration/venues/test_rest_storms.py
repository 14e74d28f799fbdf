"""Storms at the REST client over real sockets: 429 and 500 for a while, bans, and a venue that enforces its limit."""

from __future__ import annotations

import asyncio
import json

import pytest

from src.models.errors import VenueError
from src.models.metrics import REST_REFUSALS, Metrics
from src.venues.clock import SystemClock
from src.venues.hyperliquid import weight_budget as module
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.simulator import HyperliquidSimulator, Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.weight_budget import Priority, WeightBudget
from tests.support.scripted_http import serve_script

pytestmark = pytest.mark.integration
SPEED = 60.0
"""Waiting takes this much less time than it would: a ban of a minute lasts a second."""


class FastClock(SystemClock):
    """The system's clock, faster."""

    def monotonic(self) -> float:
        return super().monotonic() * SPEED


async def fast_sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / SPEED)


class Client:
    """A REST client in fast time, and what came of its requests."""

    def __init__(self, url: str, **options) -> None:
        self.metrics = Metrics()
        self.clock = FastClock()
        self.budget = WeightBudget(clock=self.clock, sleep=fast_sleep, metrics=self.metrics, **options)
        self.rest = HyperliquidRest(
            url, clock=self.clock, metrics=self.metrics, budget=self.budget, sleep=fast_sleep, timeout_s=5.0
        )
        self.failed = 0

    async def ask_until_answered(self, ask) -> bytes:
        """As a caller does who keeps its place: the same question again after a failure."""
        while True:
            try:
                return await ask()
            except VenueError:
                self.failed += 1
                await fast_sleep(5.0)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.rest.close()


class BadDays:
    """A venue that answers as told for a while, then in order; notes when it was asked."""

    def __init__(self, clock: FastClock) -> None:
        self.clock = clock
        self.until = 0.0
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[float] = []
        self.busy = self.most_busy = 0

    def misbehave(self, status: int, seconds: float, **headers: str) -> None:
        self.until, self.status, self.headers = self.clock.monotonic() + seconds, status, headers

    async def respond(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.asked.append(self.clock.monotonic())
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        await asyncio.sleep(0.01)
        self.busy -= 1
        bad = self.clock.monotonic() < self.until
        body = b"null" if bad else json.dumps([{"asked": json.loads(request.partition(b"\r\n\r\n")[2])}]).encode()
        extra = (
            "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in self.headers.items()) if bad else ""
        )
        status = self.status if bad else 200
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()


@pytest.fixture
async def client():
    async with serve_script() as server, Client(server.url) as client:
        client.venue = BadDays(client.clock)
        server.script.append(client.venue.respond)
        yield client


@pytest.mark.parametrize(("status", "seconds"), [(429, 60.0), (429, 300.0), (500, 120.0), (503, 60.0), (403, 60.0)])
async def test_a_storm_is_sat_out_and_every_question_is_answered_in_the_end(client, status, seconds):
    client.venue.misbehave(status, seconds)
    questions = [
        client.ask_until_answered(
            lambda n=n: client.rest.user_fills_by_time(f"0x{n:040x}", n, priority=Priority(n % 4))
        )
        for n in range(20)
    ]
    answers = await asyncio.wait_for(asyncio.gather(*questions), 60)
    told = [json.loads(answer)[0]["asked"] for answer in answers]
    assert [one["startTime"] for one in told] == list(range(20))  # nobody got somebody else's answer, or none
    during = [at for at in client.venue.asked if at < client.venue.until]
    assert len(during) <= 30 + seconds / 4  # not hammered: 20 at the beginning, then a few probes
    assert client.budget.left() > 0 or client.budget.status()["paused_s"] == 0


async def test_a_ban_is_tried_by_one_request_at_a_time(client):
    client.venue.misbehave(429, 90.0)
    with pytest.raises(VenueError):
        await client.rest.info({"type": "meta"})
    assert client.metrics.value(REST_REFUSALS, "hyperliquid", "direct") == 4
    client.venue.most_busy = 0
    await asyncio.gather(*(client.ask_until_answered(lambda: client.rest.info({"type": "meta"})) for _ in range(10)))
    refused = client.budget.refusals
    assert refused <= 8
    assert client.budget.usable < client.budget.full  # it grows back later


async def test_a_time_told_by_the_venue_is_kept(client):
    client.venue.misbehave(429, 20.0, retry_after="20")
    await client.rest.info({"type": "meta"})
    assert client.metrics.value(REST_REFUSALS, "hyperliquid", "direct") == 1
    first, second = client.venue.asked
    assert second - first >= 20.0


async def test_a_venue_that_enforces_its_limit_never_has_to_refuse():
    config = SimulatorConfig(market=MarketConfig(seed=5, traders=3, actions_per_s=50.0), limits=Limits())
    async with HyperliquidSimulator(config) as simulator:
        clock, metrics = SystemClock(), Metrics()
        budget = WeightBudget(clock=clock, metrics=metrics)
        rest = HyperliquidRest(simulator.api_url, clock=clock, metrics=metrics, budget=budget)
        done = dict.fromkeys(Priority, 0)

        async def ask(priority: Priority, trader: str) -> None:
            while True:
                if priority is Priority.BACKFILL:
                    await rest.user_fills(trader, priority=priority)
                elif priority is Priority.POLL:
                    await rest.frontend_open_orders(trader, priority=priority)
                else:
                    await rest.order_status(trader, 1, priority=priority)
                done[priority] += 1

        tasks = [asyncio.create_task(ask(p, t)) for p in Priority for t in simulator.traders]
        try:
            async with asyncio.timeout(20):
                while budget.left() > 60:  # noqa: ASYNC110 - nothing tells of spending
                    await asyncio.sleep(0.02)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await rest.close()
        assert [result for result in results if not isinstance(result, asyncio.CancelledError)] == []
        assert budget.refusals == 0
        assert all(done.values())
        spent = sum(budget.status()["used"].values())
        assert 0.5 * module.WEIGHT_PER_MINUTE <= spent <= module.USABLE_SHARE * module.WEIGHT_PER_MINUTE
