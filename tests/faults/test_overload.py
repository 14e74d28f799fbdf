"""Too much at once, and a stop with too much left: memory stays bounded, what waits is on disk, the end is in time."""

import asyncio
import signal
import time

import psutil
import pytest
from pymongo import MongoClient

from src.models.metrics import MESSAGES_DROPPED
from src.pipeline.journal import Journal
from src.store.mongo import MongoStore
from tests.support.faults import sized, watching
from tests.support.plain_mongod import plain_mongod
from tests.support.program import running
from tests.support.simulated_venue import simulated_venue
from tests.support.truth import compare, truth_run

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATABASE = "faults"
MIB = 1024 * 1024
NORMAL_CADENCE_S = 5.0
NORMAL_ACTIONS_PER_S = 20.0
FLOOD = 10
IN_MEMORY = 1000
MEMORY_MIB = sized(60, 100)
"""More than this must not be needed on top, however much comes."""

STOP_S = 25.0
LIMIT_BYTES = sized(MIB, 8 * MIB)
BUSY = {"traders": 6, "actions_per_s": 100.0, "trades_per_s": 400.0, "cadence_s": 0.1}


@pytest.fixture
def server(mongod_binary, tmp_path):
    with plain_mongod(mongod_binary, tmp_path / "mongod") as started:
        started.start()
        yield started


@pytest.fixture
def settings(server, collecting):
    def made(venue, **more):
        where = {"MONGODB_URI": server.uri, "MONGODB_DATABASE": DATABASE, "PENDING_WRITES_LIMIT": str(IN_MEMORY)}
        return collecting(venue, **where, **more)

    return made


async def _compare(uri, simulator):
    store = MongoStore(uri, DATABASE)
    try:
        return await compare(store, simulator)
    finally:
        await store.close()


def stored_completely(program, server, venue):
    venue.run(venue.simulator.settle(timeout_s=60))
    program.until_stats(lambda stats: stats["buffer"]["length"] == 0, timeout_s=60)
    flushes = program.stats()["flushes"]
    program.until_stats(lambda stats: stats["flushes"] > flushes and stats["pending"] == 0, timeout_s=90)
    verdict = asyncio.run(_compare(server.uri, venue.simulator))
    assert not verdict.problems, verdict.problems[:10]
    return verdict


def test_a_flood_without_a_database_goes_to_disk_and_memory_stays_bounded(tmp_path, server, settings):
    """Ten times the normal rate while MongoDB is frozen, with little room in memory: the rest waits on disk."""
    market = {"traders": 10, "cadence_s": NORMAL_CADENCE_S / FLOOD, "actions_per_s": FLOOD * NORMAL_ACTIONS_PER_S}
    with simulated_venue(**market, trades_per_s=100.0) as venue, running(tmp_path, **settings(venue)) as program:
        program.banner()
        program.until_stats(lambda stats: stats["orders_inserted"] > 100)
        process = psutil.Process(program.pid)
        before = process.memory_info().rss
        server.freeze()
        began, most = time.monotonic(), before
        with watching(program.url) as seen:
            while time.monotonic() - began < sized(5.0, 60.0):
                time.sleep(0.1)
                most = max(most, process.memory_info().rss)
            stats = program.until_stats(lambda stats: stats["journal"]["on_disk_only"] > 100, timeout_s=60)
        server.thaw()
        verdict = stored_completely(program, server, venue)
        assert program.stop()[0] == 0
    seen.check()
    print(f"{(most - before) / MIB:.1f} MiB more; journal {stats['journal']}; {verdict}")
    assert most - before < MEMORY_MIB * MIB
    assert stats["pending"] > IN_MEMORY
    assert stats["buffer"]["dropped"] == 0
    assert verdict.order_events > 300


async def test_a_flood_beyond_the_journals_limit_gives_up_books_first_counts_it_and_keeps_orders(tmp_path, server):
    journal = Journal(tmp_path / "journal", limit_bytes=LIMIT_BYTES)
    journal.open()
    process = psutil.Process()
    grown = []

    async def flooded(run):
        await run.until_fresh()
        pending = run.collector._core.pending
        before = process.memory_info().rss
        server.freeze()
        try:
            dropped = sized(20, 1000)
            await run.until(lambda: run.metrics.total(MESSAGES_DROPPED) > dropped, timeout_s=600, what="drops")
            assert server.is_running
            grown.append(process.memory_info().rss - before)
            assert pending.suspended > 0
            assert journal.size_bytes <= LIMIT_BYTES
            assert run.metrics.value(MESSAGES_DROPPED, "book", "journal_full") > 0
            assert run.collector.status.health().status == "degraded"
        finally:
            server.thaw()
        await run.until(lambda: not pending.suspended and not len(pending), timeout_s=60, what="all is stored")

    try:
        verdict = await truth_run(
            server.uri,
            DATABASE,
            seed=3,
            traders=10,
            faults_per_minute=0,
            journal=journal,
            during=flooded,
            timeout_s=1.0,
        )
    finally:
        journal.close()
    print(f"{grown[0] / MIB:.1f} MiB more; {verdict}")
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.order_events > 50
    assert grown[0] < MEMORY_MIB * MIB
    with MongoClient(server.uri) as client:
        holes = list(client[DATABASE].coverage.find({"reason": "journal_full"}))
    assert holes, "what was given up is not recorded"
    assert all(hole["to"] is not None for hole in holes)


def test_a_stop_with_a_backlog_and_no_database_says_what_is_left_and_the_next_start_stores_it(
    tmp_path, server, settings
):
    with simulated_venue(**BUSY) as venue:
        with running(tmp_path, **settings(venue)) as program:
            program.banner()
            program.until_stats(lambda stats: stats["orders_inserted"] > 20)
            server.freeze()
            pending = program.until_stats(lambda stats: stats["pending"] > IN_MEMORY * sized(1.5, 20), timeout_s=110)[
                "pending"
            ]
            code, seconds = program.stop(signal.SIGTERM)
            assert seconds < STOP_S
            assert code == 1, program.text()
            last = program.logged("stopped")[-1]
            assert last["changes_left_in_journal"] >= pending
            assert str(program.data_dir) in last["journal"]
            assert list(program.events)[-1]["event"] in ("stopped", "mongod_stopped")
            assert "Traceback" not in program.text()
        server.thaw()
        with running(tmp_path, **settings(venue)) as again:
            found = again.event("journal_found")
            assert found["changes"] >= last["changes_left_in_journal"]
            again.banner()
            stored_completely(again, server, venue)
            assert again.stop()[0] == 0
    print(f"left {last['changes_left_in_journal']} changes in {seconds:.1f} s")


def test_a_stop_with_a_backlog_and_a_database_stores_it_in_time(tmp_path, server, settings):
    began = time.monotonic()
    with simulated_venue(**BUSY) as venue, running(tmp_path, **settings(venue)) as program:
        program.banner()
        program.until_stats(lambda stats: stats["orders_inserted"] > 20)
        server.freeze()
        pending = program.until_stats(lambda stats: stats["pending"] > IN_MEMORY * sized(1.5, 20), timeout_s=110)[
            "pending"
        ]
        venue.run(_frozen(venue))
        time.sleep(1.0)  # the last lists arrive
        server.thaw()
        code, seconds = program.stop(signal.SIGTERM)
        print(f"stored {pending} changes in {seconds:.1f} s, {time.monotonic() - began:.0f} s after the beginning")
        assert (code, seconds < STOP_S) == (0, True), program.text()
        assert program.logged("stopped")[-1]["changes_not_stored"] == 0
        verdict = asyncio.run(_compare(server.uri, venue.simulator))
        assert not verdict.problems, verdict.problems[:10]


async def _frozen(venue):
    venue.simulator.market.freeze()
