"""The whole program against loopback venues: no internet, no account, the same markets for the same seed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec import Struct
from pydantic import SecretStr

from src.config import Settings
from src.jobs.demo.faults import DemoFaults
from src.jobs.stockbit.demo import stockbit_demo
from src.jobs.stockbit.source import TradingHours
from src.venues.alpaca.simulator import AlpacaSimulator
from src.venues.alpaca.simulator import SimulatorConfig as AlpacaConfig
from src.venues.futu.simulator import FutuSimulator, GatewayConfig
from src.venues.hyperliquid.simulator import (
    Cadences,
    FaultKind,
    FaultPlan,
    HyperliquidSimulator,
    MarketConfig,
    SimulatorConfig,
)

DEMO_COINS = ("BTC", "ETH", "SOL", "HYPE")
DEMO_STOCKS = ("AAPL", "TSLA")
DEMO_SHARES = ("US.AAPL", "HK.00700")
DEMO_TRADES_PER_S = 5.0
DEMO_CADENCE_S = 1.0
DEMO_DATABASE_SUFFIX = "_demo"
FIRST_FAULT_AFTER_S = 8.0
SECOND_FAULT_AFTER_S = 4.0


_PLANS = {
    DemoFaults.SOME: (2.0, (FaultKind.DROP, FaultKind.MALFORMED, FaultKind.LATE, FaultKind.DUPLICATE)),
    DemoFaults.MANY: (20.0, tuple(FaultKind)),
}


class Demo(Struct, frozen=True):
    """What the demo changes: ``settings`` of the program, and the ``hours`` of the simulated exchange."""

    settings: Settings
    hours: TradingHours


@asynccontextmanager
async def demo_venues(settings: Settings, *, seed: int, faults: DemoFaults) -> AsyncIterator[Demo]:
    """Simulators of all venues, and the settings that make the program collect from them.

    The demo has a data directory of its own (``demo`` below ``DATA_DIR``) and a database of its own, so that
    invented traders never mix with real ones.
    """
    settings = settings.model_copy(
        update={
            "data_dir": settings.data_dir / "demo",
            "mongodb_database": settings.mongodb_database + DEMO_DATABASE_SUFFIX,
            "trader_orders_ws_flush_interval": min(settings.trader_orders_ws_flush_interval, 2.0),
        }
    )
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(_hyperliquid(settings, seed=seed, faults=faults))
        settings = await stack.enter_async_context(_alpaca(settings, seed=seed))
        settings = await stack.enter_async_context(_futu(settings, seed=seed))
        stockbit = await stack.enter_async_context(stockbit_demo(settings, seed=seed))
        yield Demo(stockbit.settings, stockbit.hours)


@asynccontextmanager
async def _hyperliquid(settings: Settings, *, seed: int, faults: DemoFaults) -> AsyncIterator[Settings]:
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
                }
            )
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing


@asynccontextmanager
async def _alpaca(settings: Settings, *, seed: int) -> AsyncIterator[Settings]:
    config = AlpacaConfig(seed=seed, trades_per_s=DEMO_TRADES_PER_S, correction_share=0.01, cancel_share=0.01)
    account = config.accounts[0]
    async with AlpacaSimulator(config) as simulator:
        yield settings.model_copy(
            update={
                "alpaca_ws_url": simulator.ws_url,
                "alpaca_api_url": simulator.api_url,
                "alpaca_api_key": SecretStr(account.key),
                "alpaca_secret_key": SecretStr(account.secret),
                "alpaca_symbols": settings.alpaca_symbols or DEMO_STOCKS,
            }
        )


@asynccontextmanager
async def _futu(settings: Settings, *, seed: int) -> AsyncIterator[Settings]:
    async with FutuSimulator(GatewayConfig(seed=seed)) as simulator:
        yield settings.model_copy(
            update={
                "futu_host": simulator.host,
                "futu_port": simulator.port,
                "futu_symbols": settings.futu_symbols or DEMO_SHARES,
            }
        )


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
