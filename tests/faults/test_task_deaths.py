"""Every task of the program dies once, and for ever: it is told once, counted, started again, or the program stops."""

import asyncio
import functools
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

import src.app as app_module
import src.jobs.writer.role as writer_role_module
from src.app import EXIT_OK, EXIT_UNSTORED, Collector, Stop
from src.config import Settings
from src.jobs.writer.lease import WriterLease
from src.models.errors import CollectorError, StoreError
from src.models.metrics import FRAMES_RECEIVED, TASK_FAILURES, Metrics
from src.pipeline.journal import Journal
from src.pipeline.supervise import MAX_FAILURES
from src.store.memory import MemoryStore
from src.venues.clock import SystemClock
from src.venues.hyperliquid.simulator import Cadences, HyperliquidSimulator, Limits, MarketConfig, SimulatorConfig
from tests.support.truth import QUICK

pytestmark = [pytest.mark.integration]

BROKEN = "broken on purpose"


class Terminal:
    """Where the status line goes."""

    def isatty(self):
        return True

    def write(self, text):
        return len(text)

    def flush(self):
        return None


def a_collector(tmp_path, simulator, *, stop, metrics, journal):
    settings = Settings(
        mongodb_uri="mongodb://127.0.0.1:1/",
        data_dir=tmp_path,
        http_port=0,
        hyperliquid_ws_url=simulator.ws_url or "ws://127.0.0.1:1/ws",
        hyperliquid_api_url=simulator.api_url or "http://127.0.0.1:1",
        hyperliquid_stats_url=simulator.stats_url or "http://127.0.0.1:1",
        hyperliquid_coins=("BTC",),
        hyperliquid_traders=tuple(simulator.traders),
        trader_ws_clients=1,
        trader_orders_ws_flush_interval=0.1,
        diff_interval=0.02,
        status_line_interval=0.1,
        shutdown_timeout=5.0,
    )
    return Collector(
        settings, store=MemoryStore(), stop=stop, clock=SystemClock(), metrics=metrics, pace=QUICK, journal=journal
    )


def a_simulator():
    return HyperliquidSimulator(
        SimulatorConfig(
            market=MarketConfig(traders=2, actions_per_s=30.0),
            cadences=Cadences.quick(0.1),
            limits=Limits.off(),
        )
    )


def task_names():
    """Every supervised task a program with everything switched on has; nothing is opened or started for that."""
    stdout, sys.stdout = sys.stdout, Terminal()
    nowhere = Path("nowhere")
    try:
        journal = Journal(nowhere / "journal", limit_bytes=1 << 24)
        collector = a_collector(nowhere, a_simulator(), stop=Stop(), metrics=Metrics(), journal=journal)
        return [name for name, _ in collector._works()]
    finally:
        sys.stdout = stdout


KINDS = task_names()


class Ran:
    """A running program of which one task can be broken."""

    def __init__(self, collector, metrics, stop):
        self.collector, self.metrics, self.stop = collector, metrics, stop
        self.task = None

    async def until(self, condition, what):
        async with asyncio.timeout(15):
            while not condition():
                assert not self.task.done(), f"it ended while waiting for {what}: {self.task}"
                await asyncio.sleep(0.01)

    async def until_collecting(self):
        """Wait for new frames and for new documents of them."""
        frames = self.metrics.total(FRAMES_RECEIVED)
        stored = self.collector.status.stats()["orders_inserted"]
        await self.until(lambda: self.metrics.total(FRAMES_RECEIVED) > frames + 5, "frames")
        await self.until(lambda: self.collector.status.stats()["orders_inserted"] > stored, "documents")

    async def ended(self):
        return await asyncio.wait_for(self.task, 20)


@asynccontextmanager
async def a_program(tmp_path, monkeypatch, broken=None, deaths=0, embedded=None):
    """A running program; the task ``broken`` raises the first ``deaths`` times it is started."""
    monkeypatch.setattr(app_module, "supervise", functools.partial(app_module.supervise, restart_delay_s=0.01))
    monkeypatch.setattr(sys, "stdout", Terminal())
    left = [deaths]
    works = Collector._works

    def breaking(self):
        def broken_work(work):
            async def run():
                if left[0] > 0:
                    left[0] -= 1
                    raise RuntimeError(BROKEN)
                await work()

            return run

        return [(name, broken_work(work) if name == broken else work) for name, work in works(self)]

    monkeypatch.setattr(Collector, "_works", breaking)
    stop, metrics = Stop(), Metrics()
    stop.embedded = embedded
    journal = Journal(tmp_path / "journal", limit_bytes=1 << 24)
    journal.open()
    async with a_simulator() as simulator:
        collector = a_collector(tmp_path, simulator, stop=stop, metrics=metrics, journal=journal)
        ran = Ran(collector, metrics, stop)
        ran.task = asyncio.create_task(collector.run(lambda *_: None))
        try:
            yield ran
        finally:
            stop.event.set()
            await asyncio.wait([ran.task], timeout=20)
            journal.close()


def test_the_known_tasks_are_among_those_examined_here():
    known = {
        "flush",
        "drain",
        "candles",
        "journal",
        "hyperliquid",
        "traders",
        "leaderboard",
        "backfill",
        "status line",
    }
    assert known <= set(KINDS)
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("name", KINDS)
async def test_a_task_that_dies_is_told_once_counted_and_started_again(tmp_path, monkeypatch, name):
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch, broken=name, deaths=1) as ran:
            await ran.until(lambda: ran.metrics.value(TASK_FAILURES, name) == 1, "the death")
            await ran.until_collecting()
            assert ran.metrics.total(TASK_FAILURES) == 1
            ran.stop.event.set()
            assert await ran.ended() == EXIT_OK
    deaths = [entry for entry in logs if entry["event"] == "task_died"]
    assert [(entry["task"], entry["log_level"]) for entry in deaths] == [(name, "error")]
    assert not [entry for entry in logs if entry["event"] == "stopping_because_of_a_fault"]


@pytest.mark.parametrize("name", KINDS)
async def test_a_task_that_keeps_dying_stops_the_program_in_order(tmp_path, monkeypatch, name):
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch, broken=name, deaths=10**6) as ran:
            assert await ran.ended() == EXIT_UNSTORED
            assert len(ran.collector._core.pending) == 0
            assert ran.metrics.value(TASK_FAILURES, name) == MAX_FAILURES + 1
    (told,) = [entry for entry in logs if entry["event"] == "stopping_because_of_a_fault"]
    assert name in told["error"]
    assert logs[-1]["event"] == "stopped"
    assert logs[-1]["changes_not_stored"] == 0


@pytest.mark.parametrize(("deaths", "code"), [(1, EXIT_OK), (10**6, EXIT_UNSTORED)])
async def test_the_keeper_of_the_lease_is_restarted_or_stops_the_program(tmp_path, monkeypatch, deaths, code):
    renew, left = WriterLease.run, [deaths]

    async def run(self, stopping):
        if left[0]:
            left[0] -= 1
            raise RuntimeError(BROKEN)
        await renew(self, stopping)

    monkeypatch.setattr(WriterLease, "run", run)
    quick = functools.partial(writer_role_module.supervise, restart_delay_s=0.01)
    monkeypatch.setattr(writer_role_module, "supervise", quick)
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch) as ran:
            if code == EXIT_OK:
                await ran.until_collecting()
                ran.stop.event.set()
            assert await ran.ended() == code
            assert ran.metrics.value(TASK_FAILURES, "lease") == min(deaths, MAX_FAILURES + 1)
    assert logs[-1]["event"] == "stopped"
    assert logs[-1]["changes_not_stored"] == 0


async def test_an_embedded_mongod_that_cannot_be_started_again_is_tried_then_the_program_stops(tmp_path, monkeypatch):
    async def restart():
        raise CollectorError(BROKEN)

    died = asyncio.Event()
    embedded = SimpleNamespace(died=died, restart=restart, pid=0, leave_by=None)
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch, embedded=embedded) as ran:
            await ran.until_collecting()
            died.set()
            assert await ran.ended() == EXIT_UNSTORED
    assert len([entry for entry in logs if entry["event"] == "task_died" and entry["task"] == "mongod"]) > 1
    (told,) = [entry for entry in logs if entry["event"] == "stopping_because_of_a_fault"]
    assert "mongod" in told["error"]


async def test_an_http_server_that_dies_ends_the_program_with_a_message(tmp_path, monkeypatch):
    from src.api import server as server_module

    servers = []

    class Dying(server_module._Server):
        async def serve(self, sockets=None):
            servers.append(asyncio.current_task())
            await super().serve(sockets=sockets)

    monkeypatch.setattr(server_module, "_Server", Dying)
    async with a_program(tmp_path, monkeypatch) as ran:
        await ran.until_collecting()
        servers[0].cancel()
        with pytest.raises(CollectorError, match="HTTP server stopped by itself"):
            await ran.ended()


async def test_a_part_of_the_pool_that_dies_costs_only_its_connection(tmp_path, monkeypatch):
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch) as ran:
            await ran.until_collecting()
            pool = ran.collector._traders.source.pool
            connection = pool._connections[0]
            original, left = connection._attempt, [1]

            async def attempt():
                if left[0]:
                    left[0] = 0
                    raise RuntimeError(BROKEN)
                return await original()

            monkeypatch.setattr(connection, "_attempt", attempt)
            connection.reconnect("for the test")
            await ran.until(lambda: ran.metrics.total(TASK_FAILURES) == 1, "the death")
            await ran.until_collecting()
            ran.stop.event.set()
            assert await ran.ended() == EXIT_OK
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1


async def test_frames_that_the_diff_cannot_digest_are_counted_told_once_and_cost_nothing_else(tmp_path, monkeypatch):
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch) as ran:
            await ran.until_collecting()
            diff = ran.collector._core.diff
            original, left = diff.apply, [3]

            def apply(data):
                if left[0]:
                    left[0] -= 1
                    raise RuntimeError(BROKEN)
                return original(data)

            monkeypatch.setattr(diff, "apply", apply)
            await ran.until(lambda: ran.metrics.value(TASK_FAILURES, "diff") == 3, "the faults")
            await ran.until_collecting()
            ran.stop.event.set()
            assert await ran.ended() == EXIT_OK
    assert len([entry for entry in logs if entry["event"] == "frame_not_applied"]) == 1


async def test_a_store_that_always_fails_is_an_outage_and_no_death(tmp_path, monkeypatch):
    with capture_logs() as logs:
        async with a_program(tmp_path, monkeypatch) as ran:
            await ran.until_collecting()
            ran.collector._store.fail_next(*[StoreError("away")] * 3)
            await ran.until(lambda: any(entry["event"] == "database_back" for entry in logs), "the end of it")
            assert ran.metrics.total(TASK_FAILURES) == 0
