"""The whole program against the simulated exchange over hours or days that pass quickly, with things going wrong.

One clock for both: its day passes fast while shares trade, and faster while they do not. Everything else is as a user
has it: the collector with its HTTP server, a real MongoDB, sockets, two sessions, files in the layout ``full``.
"""

import asyncio
import random
from contextlib import asynccontextmanager
from unittest.mock import patch

import httpx
from msgspec import Struct, field, structs
from pydantic import SecretStr
from pymongo import MongoClient

from src.app import Collector
from src.config import Settings
from src.jobs.order_books.exchange_days import WIB, iso_text
from src.models.metrics import CSV_DROPPED, TASK_FAILURES, Metrics
from src.stopping import Stop
from src.store.mongo import MongoStore
from src.venues.idx.calendar import IdxCalendar
from src.venues.stockbit.feed import TIMING
from src.venues.stockbit.simulator import DayClock, StockbitSimulator, StockbitSimulatorConfig
from tests.support.stockbit_judge import Shown, judge
from tests.support.stockbit_world import until

SESSIONS = {"first": ("BBCA", "TLKM"), "second": ("TLKM", "BBRI")}
HOUR_MS = 3_600_000
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.02
QUIET_TIMES_FASTER = 6.0
TROUBLED_TIMES_SLOWER = 10.0
DOWN_FOR_S = 0.7
PACE = structs.replace(TIMING, retry_first_s=0.5, retry_cap_s=2.0, healthy_after_s=3.0, attempts_most=1000)
"""Days of misfortunes happen in minutes, so the program is less patient, too."""


class Misfortune(Struct, frozen=True):
    """``drop``: sockets break; ``down``: they break and nothing answers for a while; ``login``: somebody logged in
    elsewhere, so the token is dead before its time."""

    at_ms: int
    kind: str


class Plan(Struct, frozen=True):
    """``speed``: seconds of the exchange's day in a second while shares trade."""

    start_ms: int
    hours: float
    speed: float
    misfortunes: tuple[Misfortune, ...]
    token_life_s: float = 6 * 3600.0
    updates_per_s: float = 10.0
    trades_per_s: float = 2.0
    seed: int = 1
    sessions: dict[str, tuple[str, ...]] = field(default_factory=lambda: SESSIONS)

    @property
    def tickers(self):
        return tuple(dict.fromkeys(ticker for tickers in self.sessions.values() for ticker in tickers))


def misfortunes_of(start_ms, hours, *, seed, each_hours=1.5):
    """Some at random moments, and one in each lunch break and right before each midnight."""
    rng = random.Random(seed)
    end_ms = start_ms + round(hours * HOUR_MS)
    found = []
    at_ms = start_ms
    while (at_ms := at_ms + round(rng.uniform(0.5, 1.5) * each_hours * HOUR_MS)) < end_ms:
        found.append(Misfortune(at_ms, rng.choice(("drop", "drop", "down", "login"))))
    day_ms = 24 * HOUR_MS
    midnight_ms = start_ms - (start_ms + 7 * HOUR_MS) % day_ms
    while midnight_ms < end_ms:
        found += [Misfortune(midnight_ms + round(hour * HOUR_MS), "drop") for hour in (12.6, 23.99)]
        midnight_ms += day_ms
    return tuple(sorted((one for one in found if start_ms < one.at_ms < end_ms), key=lambda one: one.at_ms))


async def soak(folder, uri, database, plan, *, told=lambda _: None, shown=None):
    """Run the plan and compare; ``told`` hears a line for every break. Returns the `Verdict`."""
    clock, shown = DayClock(plan.start_ms), shown or Shown()
    config = StockbitSimulatorConfig(
        tickers=plan.tickers,
        seed=plan.seed,
        updates_per_s=plan.updates_per_s,
        trades_per_s=plan.trades_per_s,
        token_life_s=plan.token_life_s,
        refresh_life_s=365 * 86_400.0,
    )
    async with StockbitSimulator(config, clock=clock) as sim:
        sim.sent = shown
        async with _program(folder, uri, database, sim, clock, plan) as soaked:
            await soaked.begin()
            await soaked.live(plan, told)
            await soaked.settle()
            figures = await soaked.figures()
        shown.trades = sim.trades
    with MongoClient(uri, serverSelectionTimeoutMS=5000, tz_aware=True) as client:
        verdict = judge(folder / "orderbook", client[database], shown)
    verdict.figures |= figures
    if soaked.exit_code:
        verdict.problems.append(f"exit code {soaked.exit_code}")
    if set(figures["reconnects_told"].values()) != {figures["connections"] - 1}:
        verdict.problems.append(f"reconnects told: {figures['reconnects_told']}")
    for name in ("csv_dropped", "task_failures", "unknown_breaks", "silences"):
        if figures[name]:
            verdict.problems.append(f"{name}: {figures[name]}")
    return verdict


@asynccontextmanager
async def _program(folder, uri, database, sim, clock, plan):
    access, refresh = sim.log_in()
    settings = Settings(
        data_dir=folder,
        mongodb_uri=SecretStr(uri),
        mongodb_database=database,
        http_port=0,
        status_line_interval=0,
        diff_interval=0.05,
        trader_orders_ws_flush_interval=0.5,
        hyperliquid_enabled=False,
        stockbit_ws_url=sim.ws_url,
        stockbit_api_url=sim.api_url,
        stockbit_access_token=SecretStr(access),
        stockbit_refresh_token=SecretStr(refresh),
        stockbit_tickers=plan.tickers,
        stockbit_ping_interval=1.0,
        orderbook_csv_layout="full",
        orderbook_snapshot_days=0,  # else the days of the plan, long past, expire at once
    )
    stop, metrics = Stop(), Metrics()
    store = MongoStore(uri, database, timeout_s=10.0)
    with patch("src.jobs.stockbit.source.TIMING", PACE), patch("src.venues.stockbit.feed.CONNECTS_PER_MINUTE", 600):
        collector = Collector(settings, store=store, stop=stop, clock=clock, metrics=metrics)
    started = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(collector.run(started.set_result))
    soaked = _Soaked(sim, clock, collector, metrics, running, plan.sessions)
    try:
        await asyncio.wait([running, started], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        assert started.done(), "the program did not start"
        async with httpx.AsyncClient(base_url=started.result().url, trust_env=False, timeout=10.0) as soaked.http:
            yield soaked
    finally:
        stop.event.set()
        soaked.exit_code = await asyncio.wait_for(running, PATIENCE_S)
        await store.close()


class _Soaked:
    """The running program and what happens to it."""

    def __init__(self, sim, clock, collector, metrics, running, sessions):
        self._sessions = sessions
        self.sim, self.clock, self.metrics, self.running = sim, clock, metrics, running
        self._source = next(source for source in collector.sources if source.venue == "stockbit")
        self._calendar = IdxCalendar()
        self.breaks = {}
        self.unknown_breaks = 0
        self.exit_code = None

    async def begin(self):
        await until(lambda: self._is_fresh(0), "the first connection", PATIENCE_S)
        for name, tickers in self._sessions.items():
            answer = await self.http.post(
                "/api/orderbook/streams", json={"tickers": list(tickers), "session_id": name}
            )
            assert answer.status_code == 200, answer.text

    async def live(self, plan, told):
        """Let the time of the plan pass; each break is waited out, for the plan says that it ends."""
        end_ms = plan.start_ms + round(plan.hours * HOUR_MS)
        ahead = list(plan.misfortunes)
        connects = self.sim.connects
        while (now_ms := self.clock.wall_ms()) < end_ms:
            assert not self.running.done(), self.running.result()
            kind = ""
            if ahead and now_ms >= ahead[0].at_ms:
                kind = ahead.pop(0).kind
                await self._strike(kind)
            elif self.sim.connects > connects or not self.sim.sessions:
                kind = "expiry"
            if kind:
                self.clock.speed = plan.speed / TROUBLED_TIMES_SLOWER
                await until(lambda before=connects: self._is_fresh(before), f"connected after {kind}", PATIENCE_S)
                self.breaks[kind] = self.breaks.get(kind, 0) + 1
                self.unknown_breaks += self.sim.connects - connects - 1
                connects = self.sim.connects
                phase = self._calendar.session_at(now_ms).phase
                renewed = self.sim.accounts.refreshes
                told(
                    f"{iso_text(now_ms, WIB)} {phase}: {kind}; connection {connects}, tokens renewed {renewed} times"
                )
            trades = self._calendar.is_continuous(self.clock.wall_ms())
            self.clock.speed = plan.speed * (1.0 if trades else QUIET_TIMES_FASTER)
            await asyncio.sleep(LOOK_EVERY_S)
        self.clock.speed = 1.0

    async def settle(self):
        """Nothing happens any more; wait until everybody knows the last state."""
        self.sim.is_paused = True
        await until(lambda: self._is_fresh(0), "connected at the end", PATIENCE_S)
        last = self.sim.sent.last
        books = self._source._feed.mapper.books

        def all_known():
            known = {}
            for state in books:
                for side, told in (("BID", state.bid.told), ("OFFER", state.offer.told)):
                    known[state.ticker, side] = told and told.seq
            return known == last

        await until(all_known, "the last sides arrive", PATIENCE_S)

    async def figures(self):
        stats = {}
        for name in self._sessions:
            stats[name] = (await self.http.get(f"/api/orderbook/streams/{name}")).json()["stats"]
        health = (await self.http.get("/health")).json()
        return {
            "breaks": dict(self.breaks),
            "unknown_breaks": self.unknown_breaks,
            "tokens_renewed": self.sim.accounts.refreshes,
            "reconnects_told": {name: one["total_reconnects"] for name, one in stats.items()},
            "books_told": {name: sum(one["message_counts"].values()) for name, one in stats.items()},
            "connections": self.sim.connects,
            "health": health["status"],
            "csv_dropped": self.metrics.total(CSV_DROPPED),
            "task_failures": self.metrics.total(TASK_FAILURES),
            "silences": sum(state != "fresh" for state in self._source.status()["states"]),
        }

    def _is_fresh(self, connects):
        """Whether every stream has spoken on a connection later than the first ``connects``."""
        status = self._source.status()
        states = status["states"]
        is_open = any(one["state"] == "open" for one in status["connections"])
        return self.sim.connects > connects and is_open and bool(states) and set(states) == {"fresh"}

    async def _strike(self, kind):
        if kind == "login":
            self.sim.accounts.kill_tokens()
            return
        self.sim.is_down = self.sim.rest.faults.is_down = kind == "down"
        self.sim.drop_all()
        if kind == "down":
            await asyncio.sleep(DOWN_FOR_S)
            self.sim.is_down = self.sim.rest.faults.is_down = False
