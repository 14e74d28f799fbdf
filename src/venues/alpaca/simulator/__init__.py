"""A loopback Alpaca: stock stream and history over real sockets, with faults on demand."""

from src.venues.alpaca.simulator.config import Account, SimulatorConfig
from src.venues.alpaca.simulator.market import Market
from src.venues.alpaca.simulator.server import AlpacaSimulator

__all__ = ["Account", "AlpacaSimulator", "Market", "SimulatorConfig"]
