"""A network between venue and program that half-dies: what arrives is stored once and right, and no connect storm."""

import asyncio
import random

import pytest

from src.models.clock import ManualClock
from src.models.metrics import CONNECT_ATTEMPTS, DISCONNECTS, FRAMES_RECEIVED, Metrics
from src.venues.budget import Budget
from src.venues.feed import Endpoint, Heartbeat
from src.venues.pool import Pool
from src.venues.timing import Timing
from src.venues.transport import Transport
from tests.support.faults import Manners, sized
from tests.support.toy_venue import MemorySink, ToyFeed, market
from tests.support.truth import truth_run
from tests.support.virtual_time import run_virtually

pytestmark = [pytest.mark.integration]

CLIENTS = 3
MINUTES = sized(10, 240)


async def run_through(mongo_uri, database_name, during, *, seed=5):
    """Collect through the proxy while ``during`` misbehaves; returns the verdict."""

    async def disturbed(run):
        await run.until_fresh()
        before = run.metrics.total(FRAMES_RECEIVED)
        await during(run)
        run.proxy.manners = Manners()
        await run.until_fresh()
        await run.until(lambda: run.metrics.total(FRAMES_RECEIVED) > before + 50, what="more frames")

    verdict = await truth_run(mongo_uri, database_name, seed=seed, faults_per_minute=0, during=disturbed)
    print(verdict)
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.order_events > 50
    return verdict


async def test_half_open_connections_are_noticed_and_replaced(mongo_uri, database_name):
    async def half_open(run):
        lost = run.metrics.total(DISCONNECTS)
        run.proxy.manners = Manners(frozen=True)
        await run.until(lambda: run.metrics.total(DISCONNECTS) >= lost + CLIENTS, what="their death")
        attempts = run.metrics.total(CONNECT_ATTEMPTS)
        await asyncio.sleep(sized(1.0, 30.0))  # the time is what is examined
        assert run.metrics.total(CONNECT_ATTEMPTS) - attempts < 10 * sized(1, 30) * CLIENTS
        run.proxy.reset_all()

    verdict = await run_through(mongo_uri, database_name, half_open)
    assert verdict.holes > 0


async def test_slices_of_one_byte_change_nothing(mongo_uri, database_name):
    async def sliced(run):
        before = run.metrics.total(FRAMES_RECEIVED)
        run.proxy.manners = Manners(down_slice_bytes=1)
        await run.until(
            lambda: run.metrics.total(FRAMES_RECEIVED) > before + sized(60, 3000), timeout_s=300, what="whole frames"
        )
        assert run.metrics.total(DISCONNECTS) == 0

    verdict = await run_through(mongo_uri, database_name, sliced)
    assert verdict.uncertain == 0
    assert verdict.stats["messages_rejected"] == {}


async def test_ten_kilobytes_a_second_are_slow_and_nothing_else(mongo_uri, database_name):
    async def slow(run):
        before = run.metrics.total(FRAMES_RECEIVED)
        run.proxy.manners = Manners(down_bytes_per_s=10_000)
        await run.until(
            lambda: run.metrics.total(FRAMES_RECEIVED) > before + sized(10, 300), timeout_s=300, what="slow frames"
        )

    verdict = await run_through(mongo_uri, database_name, slow)
    assert verdict.stats["messages_rejected"] == {}


async def test_a_frame_cut_in_two_is_a_hole_and_no_rejected_frame(mongo_uri, database_name):
    async def truncated(run):
        for _ in range(sized(3, 60)):
            lost = run.metrics.total(DISCONNECTS)
            # Counted per connection and from now on: whatever it is, it ends in the middle of some frame.
            run.proxy.manners = Manners(cut_down_after=run.simulator.market.now_ms % 3000 + 500)
            await run.until(lambda lost=lost: run.metrics.total(DISCONNECTS) > lost, what="a cut")
            run.proxy.manners = Manners()
            await run.until_fresh()

    verdict = await run_through(mongo_uri, database_name, truncated)
    assert verdict.holes > 0
    assert verdict.stats["messages_rejected"] == {}


class HungUpAtOnce:
    """What an accepted and at once closed connection looks like."""

    heard = 0
    closing = True

    async def recv(self):
        raise ConnectionResetError("closed by the venue")

    async def send(self, frame):
        raise ConnectionResetError("closed by the venue")

    async def ping(self):
        raise ConnectionResetError("closed by the venue")

    async def close(self):
        return

    def abort(self):
        return


class LoopClock(ManualClock):
    """The time of a loop whose time is virtual."""

    def monotonic(self):
        return asyncio.get_running_loop().time()


@pytest.mark.parametrize("seed", range(sized(5, 50)))
def test_accept_then_close_makes_at_most_eight_attempts_in_any_sixty_seconds(seed):
    attempts = []

    async def accept_and_close(endpoint: Endpoint, timing: Timing) -> Transport:
        attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.02)
        return HungUpAtOnce()

    async def collect():
        clock, metrics = LoopClock(), Metrics()
        feed = ToyFeed("ws://127.0.0.1:1/", heartbeat=Heartbeat(20.0, 10.0))
        budget = Budget(feed.limits, clock=clock)
        pool = Pool(
            feed=feed,
            sink=MemorySink(),
            clock=clock,
            metrics=metrics,
            budget=budget,
            clients=1,
            rng=random.Random(seed),
            opener=accept_and_close,
        )
        pool.set_target([market("BTC")])
        running = asyncio.create_task(pool.run())
        await asyncio.sleep(60.0 * MINUTES)
        await pool.close()
        await running
        return metrics

    metrics = run_virtually(collect())
    assert metrics.total(CONNECT_ATTEMPTS) == len(attempts) > MINUTES
    for start in attempts:
        assert sum(start <= at <= start + 60.0 for at in attempts) <= 8
