"""The whole program against a loopback venue: no internet, no account, the same market for the same seed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from src.config import Settings
from src.venues.hyperliquid.simulator import (
    Cadences,
    FaultKind,
    FaultPlan,
    HyperliquidSimulator,
    MarketConfig,
    SimulatorConfig,
)

DEMO_COINS = ("BTC", "ETH", "SOL", "HYPE")
DEMO_CADENCE_S = 1.0
DEMO_DATABASE_SUFFIX = "_demo"
FIRST_FAULT_AFTER_S = 8.0
SECOND_FAULT_AFTER_S = 4.0


class DemoFaults(StrEnum):
    """How much goes wrong in the demo: nothing, a little (so that holes can be seen), or everything, often."""

    NONE = "none"
    SOME = "some"
    MANY = "many"


_PLANS = {
    DemoFaults.SOME: (2.0, (FaultKind.DROP, FaultKind.MALFORMED, FaultKind.LATE, FaultKind.DUPLICATE)),
    DemoFaults.MANY: (20.0, tuple(FaultKind)),
}


@asynccontextmanager
async def demo_venue(settings: Settings, *, seed: int, faults: DemoFaults) -> AsyncIterator[Settings]:
    """A running simulated venue, and the settings that make the program collect from it.

    The demo has a data directory of its own (``demo`` below ``DATA_DIR``) and a database of its own, so that
    invented traders never mix with real ones.
    """
    config = SimulatorConfig(
        # Without its logs: a demo may run for days.
        market=MarketConfig(seed=seed, traders=min(10, settings.hyperliquid_max_users), log_truth=False),
        cadences=Cadences.quick(DEMO_CADENCE_S),
        log_deliveries=False,
    )
    plan = None
    if faults in _PLANS:
        rate, kinds = _PLANS[faults]
        plan = FaultPlan(seed=seed, rate=rate, kinds=kinds)
    async with HyperliquidSimulator(config, plan=plan) as simulator:
        showing = asyncio.create_task(_show_faults(simulator, faults), name="demo-faults")
        try:
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
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing


async def _show_faults(simulator: HyperliquidSimulator, faults: DemoFaults) -> None:
    """Early in a demo one frame is garbage and one connection breaks, so that there is something to see."""
    if faults is DemoFaults.NONE:
        return
    await asyncio.sleep(FIRST_FAULT_AFTER_S)
    simulator.faults.arm(FaultKind.MALFORMED)
    await asyncio.sleep(SECOND_FAULT_AFTER_S)
    session = next(iter(simulator.sessions.values()), None)
    if session is not None:
        await simulator.faults.drop(session)
