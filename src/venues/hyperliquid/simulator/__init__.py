"""A loopback Hyperliquid: a seeded market behind the venue's real WebSocket and REST protocol.

It is the independent witness of the tests: it shares no mapping or comparing code with the collector, writes down
every event it generates and every state it shows, and can misbehave on demand.
"""

from src.venues.hyperliquid.simulator.config import Cadences, Limits, MarketConfig, SimulatorConfig
from src.venues.hyperliquid.simulator.expected import Expected, expected_events
from src.venues.hyperliquid.simulator.faults import FaultKind, FaultPlan
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.server import HyperliquidSimulator
from src.venues.hyperliquid.simulator.truth import Delivery, DeliveryLog, Event, TruthLog

__all__ = [
    "Cadences",
    "Delivery",
    "DeliveryLog",
    "Event",
    "Expected",
    "FaultKind",
    "FaultPlan",
    "HyperliquidSimulator",
    "Limits",
    "Market",
    "MarketConfig",
    "SimulatorConfig",
    "TruthLog",
    "expected_events",
]
