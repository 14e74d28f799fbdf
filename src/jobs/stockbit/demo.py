"""Stockbit's part of the demo: a simulated exchange that is always open, and the settings that lead to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct
from pydantic import SecretStr

from src.config import Settings
from src.jobs.stockbit.source import TradingHours
from src.venues.stockbit.simulator import Hours, StockbitSimulator, StockbitSimulatorConfig

DEMO_TICKERS = ("BBCA", "TLKM", "BBRI")


class StockbitDemo(Struct, frozen=True):
    """What the demo changes: ``settings`` of the program, and the ``hours`` of the simulated exchange."""

    settings: Settings
    hours: TradingHours


@asynccontextmanager
async def stockbit_demo(settings: Settings, *, seed: int) -> AsyncIterator[StockbitDemo]:
    """A running simulated exchange, and what makes the program collect from it.

    ``settings`` have a data directory of their own already: the invented tokens are kept there.
    """
    config = StockbitSimulatorConfig(seed=seed, always_open=True, keeps_log=False, refresh_life_s=365 * 86_400.0)
    async with StockbitSimulator(config) as simulator:
        access, refresh = simulator.log_in()
        changed = settings.model_copy(
            update={
                "stockbit_enabled": True,
                "stockbit_ws_url": simulator.ws_url,
                "stockbit_api_url": simulator.api_url,
                "stockbit_access_token": SecretStr(access),
                "stockbit_refresh_token": SecretStr(refresh),
                "stockbit_tickers": settings.stockbit_tickers or DEMO_TICKERS,
                "stockbit_layout": "nested",
            }
        )
        yield StockbitDemo(changed, Hours(always_open=True))
