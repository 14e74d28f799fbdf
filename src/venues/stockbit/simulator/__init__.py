"""Stockbit on loopback: the real wire protocol, accounts whose tokens expire, and a day that can be compressed."""

from src.venues.stockbit.simulator.config import StockbitSimulatorConfig
from src.venues.stockbit.simulator.day import DayClock, Hours
from src.venues.stockbit.simulator.frames import Bad
from src.venues.stockbit.simulator.server import SentSide, StockbitSimulator

__all__ = ["Bad", "DayClock", "Hours", "SentSide", "StockbitSimulator", "StockbitSimulatorConfig"]
