"""A gateway on a loopback port that speaks the venue's real wire protocol; for tests, benchmarks and the demo."""

from src.venues.futu.simulator.config import GatewayConfig
from src.venues.futu.simulator.faults import GatewayFaults
from src.venues.futu.simulator.server import FutuSimulator

__all__ = ["FutuSimulator", "GatewayConfig", "GatewayFaults"]
