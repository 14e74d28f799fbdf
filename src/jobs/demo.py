"""The whole program against a loopback venue: no internet, no account, the same market for the same seed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from src.config import Settings
from src.venues.hyperliquid.simulator import Cadences, FaultPlan, HyperliquidSimulator, MarketConfig, SimulatorConfig

DEMO_COINS = ("BTC", "ETH", "SOL", "HYPE")
DEMO_CADENCE_S = 1.0
DEMO_FAULTS_PER_MINUTE = 6.0
DEMO_DATABASE_SUFFIX = "_demo"


@asynccontextmanager
async def demo_venue(settings: Settings, *, seed: int, faults: bool) -> AsyncIterator[Settings]:
    """A running simulated venue, and the settings that make the program collect from it.

    The demo has a data directory of its own (``demo`` below ``DATA_DIR``) and, on a given ``MONGODB_URI``, a database
    of its own, so that invented traders never mix with real ones.
    """
    config = SimulatorConfig(
        market=MarketConfig(seed=seed, traders=min(10, settings.hyperliquid_max_users)),
        cadences=Cadences.quick(DEMO_CADENCE_S),
    )
    plan = FaultPlan(seed=seed, rate=DEMO_FAULTS_PER_MINUTE) if faults else None
    async with HyperliquidSimulator(config, plan=plan) as simulator:
        yield settings.model_copy(
            update={
                "hyperliquid_ws_url": simulator.ws_url,
                "hyperliquid_api_url": simulator.api_url,
                "hyperliquid_stats_url": simulator.stats_url,
                "hyperliquid_coins": DEMO_COINS,
                "hyperliquid_traders": (),
                "hyperliquid_dexes": ("xyz",),
                "data_dir": settings.data_dir / "demo",
                "mongodb_database": settings.mongodb_database + DEMO_DATABASE_SUFFIX,
                "trader_orders_ws_flush_interval": min(settings.trader_orders_ws_flush_interval, 2.0),
            }
        )
