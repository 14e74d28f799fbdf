"""The source of this venue over real sockets against the simulated one, with everything it hands on at hand."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

from pydantic import SecretStr

from src.config import Settings
from src.jobs.stockbit.source import StockbitPace, StockbitSource
from src.models.messages import Book, Trade
from src.models.metrics import Metrics
from src.venues.clock import SystemClock
from src.venues.stockbit.simulator import Hours, StockbitSimulator, StockbitSimulatorConfig
from src.venues.timing import Timing
from tests.support.toy_venue import MemorySink

QUICK = Timing(
    open_timeout_s=5.0,
    close_timeout_s=0.5,
    tick_s=0.05,
    retry_first_s=0.05,
    retry_cap_s=0.2,
    healthy_after_s=0.3,
    attempts_most=1000,
    attempts_window_s=1.0,
    idle_close_s=0.2,
    drain_s=2.0,
    task_restart_s=0.05,
    log_repeat_s=0.0,
)
PATIENCE_S = 30.0


async def until(condition, what="", timeout_s=PATIENCE_S):
    """Wait for a condition; fails with ``what`` when it does not come true."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - conditions over plain state, nobody sets an event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


class StockbitWorld:
    """A simulator and a running source."""

    def __init__(self, sim, source, sink, metrics, folder, clock):
        self.sim = sim
        self.source = source
        self.sink = sink
        self.metrics = metrics
        self.folder = folder
        self.clock = clock

    def books(self, symbol=None):
        found = [m for data in self.sink.received for m in data.messages if isinstance(m, Book)]
        return [book for book in found if symbol in (None, book.symbol)]

    def trades(self):
        return [m for data in self.sink.received for m in data.messages if isinstance(m, Trade)]

    def told(self):
        """Every side handed on, as (symbol, side, seq): levels; repeated ones once."""
        found = {}
        for book in self.books():
            for side, told, levels in (("BID", book.bids_told, book.bids), ("OFFER", book.asks_told, book.asks)):
                if told is not None:
                    found.setdefault((book.symbol, side, told.seq), levels)
        return found

    def sent(self, session=None):
        """Every side the venue sent (to one connection), in the same words."""
        found = [sent for sent in self.sim.sent if session in (None, sent.session)]
        return {(sent.ticker, sent.side, sent.seq): sent.levels for sent in found}

    @property
    def state(self):
        return self.source.status()["connections"][0]["state"]

    def gaps(self):
        return Counter(str(gap.reason.value) for gap in self.sink.gaps)

    async def fresh(self, *, after=0):
        """Wait until every stream has spoken, and the venue was connected to more than ``after`` times."""
        await until(
            lambda: (
                self.sim.connects > after
                and self.state == "open"
                and (states := self.source.status()["states"])
                and set(states) == {"fresh"}
            ),
            f"fresh; {self.source.status()}",
        )


@contextlib.asynccontextmanager
async def stockbit_world(
    folder, *, clock=None, hours=None, log_in=True, refresh=True, timing=QUICK, ping_s=0.2, config=None, **settings
):
    """A running source with tokens from the simulated venue, unless ``log_in`` is False."""
    clock = clock or SystemClock()
    config = config or StockbitSimulatorConfig(always_open=True, updates_per_s=20.0, trades_per_s=4.0)
    async with StockbitSimulator(config, clock=clock) as sim:
        access, refresh_token = sim.log_in()
        tokens = {}
        if log_in:
            tokens["stockbit_access_token"] = SecretStr(access)
            if refresh:
                tokens["stockbit_refresh_token"] = SecretStr(refresh_token)
        settings = {
            "stockbit_ws_url": sim.ws_url,
            "stockbit_api_url": sim.api_url,
            "stockbit_tickers": ("BBCA", "TLKM"),
            **tokens,
            **settings,
        }
        sink, metrics = MemorySink(), Metrics()
        source = StockbitSource(
            Settings(data_dir=Path(folder), **settings),
            sink=sink,
            clock=clock,
            metrics=metrics,
            hours=hours or Hours(always_open=True),
            pace=StockbitPace(timing, ping_s=ping_s, watch_every_s=0.05),
        )
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(work(), name=name) for name, work in source.works(stopping)]
        try:
            yield StockbitWorld(sim, source, sink, metrics, Path(folder), clock)
        finally:
            stopping.set()
            await source.close()
            done, late = await asyncio.wait(tasks, timeout=10) if tasks else ((), ())
            assert not late, [task.get_name() for task in late]
            for task in done:
                task.result()
