"""Who can tell the past. A venue with a history of trades adds one line to `TRADES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from src.config import Settings
from src.jobs.alpaca.past import alpaca_trades
from src.jobs.backfill.past import TradesPast
from src.jobs.hyperliquid.past import hyperliquid_trades
from src.models.clock import Clock
from src.models.metrics import Metrics

OpenTrades = Callable[[Settings, Clock, Metrics], AbstractAsyncContextManager[TradesPast]]

TRADES: Mapping[str, OpenTrades] = {"hyperliquid": hyperliquid_trades, "alpaca": alpaca_trades}
"""By venue, how to reach its history of public trades."""
