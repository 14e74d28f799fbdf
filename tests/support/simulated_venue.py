"""The simulated venue in a thread of its own, so that plain tests and subprocesses can use it."""

import asyncio
import threading
from contextlib import contextmanager

from src.venues.hyperliquid.simulator import (
    Cadences,
    HyperliquidSimulator,
    Limits,
    MarketConfig,
    SimulatorConfig,
)


class SimulatedVenue:
    """A running simulator. ``call`` runs a coroutine function on its loop, ``urls`` are the settings to reach it."""

    def __init__(self, loop, simulator):
        self._loop = loop
        self.simulator = simulator

    @property
    def urls(self):
        return {
            "HYPERLIQUID_WS_URL": self.simulator.ws_url,
            "HYPERLIQUID_API_URL": self.simulator.api_url,
            "HYPERLIQUID_STATS_URL": self.simulator.stats_url,
        }

    @property
    def traders(self):
        return self.simulator.traders

    def run(self, coroutine, timeout_s=60.0):
        """Run a coroutine on the simulator's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def do(self, function, *arguments, **options):
        """Call a plain function on the simulator's loop and return its result."""

        async def call():
            return function(*arguments, **options)

        return self.run(call())


@contextmanager
def simulated_venue(
    *, seed=1, traders=4, cadence_s=0.25, actions_per_s=15.0, legacy=False, limits=None, plan=None, **market
):
    """A simulator in its own thread; stops with the block, and raises what made it fail."""
    config = SimulatorConfig(
        market=MarketConfig(seed=seed, traders=traders, actions_per_s=actions_per_s, **market),
        cadences=Cadences.quick(cadence_s),
        limits=limits or Limits(connects_per_minute=None, messages_per_minute=None),
        legacy=legacy,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated-venue", daemon=True)
    thread.start()
    simulator = HyperliquidSimulator(config, plan=plan)
    venue = SimulatedVenue(loop, simulator)
    try:
        venue.run(simulator.start())
        try:
            yield venue
        finally:
            venue.run(simulator.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
