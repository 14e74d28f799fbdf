"""A source that follows traders of a venue without sockets, in virtual time."""

import asyncio
from contextlib import asynccontextmanager

from src.config import Settings
from src.jobs.following.egress import Way
from src.jobs.hyperliquid.source import HyperliquidSource
from src.models.metrics import Metrics
from src.venues.hyperliquid.simulator import Cadences, Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.simulator.inprocess import InProcessOpener, InProcessRest, InProcessVenue


class LoopClock:
    """Reads the running loop's time."""

    def monotonic(self):
        return asyncio.get_running_loop().time()

    def wall_ms(self):
        return 1_790_000_000_000 + round(asyncio.get_running_loop().time() * 1000)


class Notes:
    """A sink that keeps what matters: when each trader's streams arrived, gaps, refusals."""

    def __init__(self, clock):
        self.clock = clock
        self.gaps = []
        self.refusals = []
        self.letters = []
        self.seen = {}
        self.waits = {}
        self.promises = {}
        self.listeners = []

    def data(self, data):
        for listener in self.listeners:
            listener(data)

    def gap(self, gap):
        self.gaps.append(gap)

    def refused(self, refusal, failed):
        self.refusals.append((refusal, failed))

    def rejected(self, letter):
        self.letters.append(letter)


@asynccontextmanager
async def following(
    *,
    traders,
    addresses=1,
    users_freed="unsubscribe",
    limits=None,
    latency_s=0.05,
    actions_per_s=0.0,
    cadence_s=5.0,
    seed=1,
    sink=None,
    market=None,
    **settings,
):
    """A venue and a source over it; yields (source, venue, notes). Nobody is followed yet."""
    clock = LoopClock()
    config = SimulatorConfig(
        market=MarketConfig(
            seed=seed,
            traders=traders,
            actions_per_s=actions_per_s,
            trades_per_s=0.0,
            volatility=0.0 if not actions_per_s else 0.0003,
            **{
                "orders_per_trader": 4,
                "positions_per_trader": 2,
                "log_truth": False,
                "tick_ms": 500,
                **(market or {}),
            },
        ),
        cadences=Cadences(trader_s=cadence_s),
        limits=limits or Limits(),
        users_freed=users_freed,
    )
    venue = InProcessVenue(config, clock=clock, latency_s=latency_s)
    names = [f"address-{number}" for number in range(addresses)]
    notes = sink or Notes(clock)
    metrics = Metrics()
    source = HyperliquidSource(
        Settings(
            hyperliquid_coins=(),
            hyperliquid_egress=("direct", *(f"http://127.0.0.1:{9000 + n}" for n in range(addresses - 1))),
            **{"hyperliquid_fills": False, **settings},
        ),
        sink=notes,
        clock=clock,
        metrics=metrics,
        ways=[Way(InProcessOpener(venue, name), InProcessRest(venue, name)) for name in names],
    )
    source.metrics = metrics
    running = [asyncio.create_task(venue.run()), asyncio.create_task(source.run())]
    try:
        yield source, venue, notes
        for task in running:
            if task.done():
                task.result()
    finally:
        await source.close()
        running[0].cancel()
        await asyncio.gather(*running, return_exceptions=True)
