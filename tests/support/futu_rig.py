"""A simulated Futu gateway on loopback TCP, and a source of ours that talks to it."""

import asyncio
import contextlib

from src.config import Settings
from src.jobs.futu import FutuPace, FutuSource
from src.models.metrics import Metrics
from src.venues.clock import SystemClock
from src.venues.feed import Heartbeat
from src.venues.futu.simulator import FutuSimulator, GatewayConfig
from src.venues.timing import Timing
from tests.support.toy_venue import MemorySink

QUICK = Timing(
    open_timeout_s=5.0,
    close_timeout_s=0.5,
    send_timeout_s=2.0,
    tick_s=0.02,
    retry_first_s=0.05,
    retry_cap_s=0.2,
    healthy_after_s=0.3,
    attempts_most=1000,
    attempts_window_s=1.0,
    login_deadline_s=5.0,
    slow_retry_s=0.3,
    ack_deadline_s=5.0,
    refused_retry_s=0.3,
    invalid_retry_s=0.5,
    idle_close_s=0.1,
    drain_s=3.0,
    log_repeat_s=0.01,
)
BEAT = Heartbeat(ping_every_s=0.1, deadline_s=20.0)


class Rig:
    """What a test looks at: the gateway, the source, and what the source delivered."""

    def __init__(self, gateway, source, sink, metrics, records):
        self.gateway = gateway
        self.source = source
        self.sink = sink
        self.metrics = metrics
        self.records = records

    def books(self, symbol):
        return [m for data in self.sink.received for m in data.messages if m.symbol == symbol]

    def states(self):
        return {name.rpartition("/")[2]: row["state"] for name, row in self.source.status()["streams"].items()}

    def connection(self):
        return self.source.status()["connections"][0]

    def gap_details(self):
        return [gap.detail for gap in self.sink.gaps]


@contextlib.asynccontextmanager
async def futu_rig(*symbols, config=None, pace=None, quota=100, host=None, port=None, hold_s=0.0, sink=None):
    config = config or GatewayConfig(push_every_s=0.0, minimum_hold_s=hold_s)
    async with FutuSimulator(config) as gateway:
        settings = Settings(
            futu_host=host or gateway.host,
            futu_port=port or gateway.port,
            futu_symbols=",".join(symbols),
            futu_quota=quota,
        )
        sink, metrics, frames = sink or MemorySink(), Metrics(), []
        source = FutuSource(
            settings,
            sink=sink,
            clock=SystemClock(),
            metrics=metrics,
            tap=lambda name, raw, at: frames.append(raw),
            pace=pace or FutuPace(QUICK, BEAT, minimum_hold_s=hold_s, look_every_s=0.02),
        )
        task = asyncio.create_task(source.run())
        try:
            yield Rig(gateway, source, sink, metrics, frames)
        finally:
            await source.close()
            await task
        assert gateway.failure is None
