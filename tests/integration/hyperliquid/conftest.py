"""A plain client of the venue's protocol, and simulators that stop by themselves."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import connect

from src.venues.hyperliquid.simulator import Cadences, HyperliquidSimulator, MarketConfig, SimulatorConfig


async def until(condition, timeout_s=10.0):
    """Wait until ``condition()`` is true and return its value."""
    async with asyncio.timeout(timeout_s):
        while not (value := condition()):  # noqa: ASYNC110 - the condition is any state, not only what an event tells
            await asyncio.sleep(0.005)
        return value


class Client:
    """Collects every frame in the order of arrival; JSON where it is JSON."""

    def __init__(self, ws):
        self.ws = ws
        self.frames = []
        self.broken = []
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self.ws:
            try:
                frame = json.loads(message)
            except ValueError:
                frame = None
            if isinstance(frame, dict) and "channel" in frame:
                self.frames.append(frame)
            else:
                self.broken.append(message)

    async def send(self, value):
        await self.ws.send(value if isinstance(value, str) else json.dumps(value))

    async def subscribe(self, kind, **fields):
        await self.send({"method": "subscribe", "subscription": {"type": kind, **fields}})

    async def unsubscribe(self, kind, **fields):
        await self.send({"method": "unsubscribe", "subscription": {"type": kind, **fields}})

    def data(self, channel):
        return [frame.get("data") for frame in self.frames if frame["channel"] == channel]

    async def wait(self, channel, count=1):
        """The data of the first ``count`` frames of a channel, once they are here."""
        return await until(lambda: len(self.data(channel)) >= count and self.data(channel))

    async def ended(self):
        """Wait until the connection is over; its close code (None without closing frame)."""
        await asyncio.wait({self.task}, timeout=10)
        assert self.task.done()
        self.task.exception()  # how it ended is told by the code
        return self.ws.close_code


@pytest.fixture
def quick_config():
    """A small, lively market with short cadences."""
    return SimulatorConfig(
        market=MarketConfig(seed=3, traders=4, actions_per_s=80.0, trades_per_s=20.0), cadences=Cadences.quick(0.05)
    )


@pytest.fixture
async def venue():
    """Starts simulators and clients and ends them after the test."""
    async with AsyncExitStack() as stack:
        clients = []

        class Venue:
            async def start(self, config, **options):
                return await stack.enter_async_context(HyperliquidSimulator(config, **options))

            async def connect(self, sim, **options):
                ws = await connect(sim.ws_url, ping_interval=None, **options)
                clients.append(Client(ws))
                return clients[-1]

        yield Venue()
        for client in clients:
            client.ws.transport.abort()
            await asyncio.gather(client.task, return_exceptions=True)


@pytest.fixture
def wait_until():
    return until
