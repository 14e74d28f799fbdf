"""The program and its MongoDB killed at random moments, again and again, while a market is collected."""

import asyncio
import json
import os
import signal
import time

import pytest

from tests.support.arrivals import Arrivals, judge
from tests.support.faults import seeded, sized
from tests.support.plain_mongod import free_port
from tests.support.program import Program, end_mongod, mongod_pid
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DIFF_INTERVAL_S = 0.1
SLACK_S = 0.15
"""For the way from the socket to the diff, and for an event loop that shares its machine."""

EMBEDDED = "market_collector"


@pytest.fixture
def venue():
    with simulated_venue(traders=6, actions_per_s=40.0, mass_cancel_share=0.0) as running_venue:
        yield running_venue


class Life:
    """One program started again and again on one data directory."""

    def __init__(self, folder, venue, settings):
        self._folder, self._venue = folder, venue
        rare = {"TRADER_ORDERS_WS_FLUSH_INTERVAL": "2"}  # most of what a kill finds is in the journal alone
        self._settings = {"DIFF_INTERVAL": str(DIFF_INTERVAL_S), **rare, **settings}
        self.arrivals = Arrivals()
        self.program = None
        self.starts = 0
        self.data_dir = folder / "data"

    def prefer_port(self):
        """Let the embedded server listen where no other test looks for a port between its death and its next start."""
        self.data_dir.mkdir()
        state = {"pid": 0, "port": free_port(), "cache_gib": 0.25, "version": ""}
        (self.data_dir / "mongodb.json").write_text(json.dumps(state))

    def start(self):
        self.program = Program(self._folder, **self._settings)
        self.starts += 1

    def kill(self, also=None):
        """End the program as a power cut of its process would; what had arrived `DIFF_INTERVAL_S` before is safe."""
        self.arrivals.before_kill(self._venue)
        time.sleep(DIFF_INTERVAL_S + SLACK_S)
        os.kill(self.program.pid, signal.SIGKILL)
        if also is not None:
            os.kill(also, signal.SIGKILL)
        self.program.process.wait(10)
        self.arrivals.killed(self._venue)
        self.program.close()

    def finish(self):
        """Freeze the market, let everything be stored, stop in order."""
        self._venue.run(self._venue.simulator.settle(timeout_s=40.0))
        stats = self.program.until_stats(lambda stats: stats["buffer"]["length"] == 0)
        flushes = stats["flushes"]
        self.program.until_stats(lambda stats: stats["pending"] == 0 and stats["flushes"] > flushes)
        journal = self.program.stats()["journal"]
        assert journal.get("changes", 0) == 0, journal
        assert stats["task_failures"] == {}, stats["task_failures"]
        assert "Traceback" not in self.program.text()

    def stop(self):
        code, _ = self.program.stop(signal.SIGTERM)
        assert code == 0, self.program.text()


@pytest.fixture
def life(tmp_path, venue, collecting):
    lives = []

    def begin(**settings):
        lives.append(Life(tmp_path, venue, collecting(venue, **settings)))
        return lives[0]

    yield begin
    for one in lives:
        if one.program is not None:
            one.program.close()
        end_mongod(one.data_dir)


def collects(program):
    """Wait until it stores what the venue shows, and not only what a journal held."""
    program.banner()
    program.until_stats(lambda stats: stats["states"].get("fresh", 0) > 5 and stats["orders_inserted"] > 0)


def test_the_program_killed_at_random_moments_loses_and_doubles_nothing(life, venue, fresh_database):
    rng, kills = seeded(), sized(4, 50)
    run = life(**fresh_database)
    for number in range(kills):
        run.start()
        if number == 0:
            collects(run.program)
        time.sleep(rng.uniform(0.5, sized(3.5, 4.5)))  # also in the middle of a start
        run.kill()
    run.start()
    collects(run.program)
    run.finish()
    verdict = asyncio.run(
        judge(fresh_database["MONGODB_URI"], fresh_database["MONGODB_DATABASE"], venue, run.arrivals)
    )
    run.stop()
    print(f"{kills} kills: {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems[:10])
    assert verdict.events > 100 * sized(1, 5)


def test_mongodb_killed_during_load_loses_and_doubles_nothing(life, venue):
    rng, kills = seeded(), sized(3, 20)
    run = life()
    run.prefer_port()
    run.start()
    collects(run.program)
    for _ in range(kills):
        time.sleep(rng.uniform(0.2, 1.5))
        pid = mongod_pid(run.data_dir)
        os.kill(pid, signal.SIGKILL)
        run.program._until(lambda pid=pid: mongod_pid(run.data_dir) != pid, 60, "a new mongod")
        flushes = run.program.stats()["flushes"]
        run.program.until_stats(
            lambda stats, flushes=flushes: stats["flushes"] > flushes and not stats["database"]["away"],
            timeout_s=60,
        )
    run.finish()
    verdict = asyncio.run(judge(embedded_uri(run.program), EMBEDDED, venue, run.arrivals))
    run.stop()
    print(f"{kills} kills of mongod: {verdict}")
    assert len(run.program.logged("mongod_died")) == kills
    assert not run.arrivals.free
    assert not verdict.problems, "\n".join(verdict.problems[:10])


def test_both_killed_at_once_lose_and_double_nothing(life, venue):
    rng, kills = seeded(), sized(2, 10)
    run = life()
    run.prefer_port()
    for _ in range(kills):
        run.start()
        collects(run.program)
        time.sleep(rng.uniform(0.2, 2.0))
        run.kill(also=mongod_pid(run.data_dir))
    run.start()
    collects(run.program)
    run.finish()
    verdict = asyncio.run(judge(embedded_uri(run.program), EMBEDDED, venue, run.arrivals))
    run.stop()
    print(f"{kills} kills of both: {verdict}")
    assert not verdict.problems, "\n".join(verdict.problems[:10])


def embedded_uri(program):
    return program.banner().split("into")[1].split()[0]
