"""What looking things up has in common, with something to look up that is played."""

import asyncio

import pytest

from src.jobs.repair.look_up import FAILED_CAP_S, FAILED_FIRST_S, LOOK_BACK_TRIES, LookUp
from src.models.clock import ManualClock
from src.models.errors import StoreError, VenueError
from src.models.metrics import REASONS_WAITING, REPAIRS_DROPPED, Metrics


class Played(LookUp):
    """``rounds`` and ``finds`` are answers, one for each time it is asked; errors among them are raised."""

    def __init__(self, *, rounds=(), finds=(), poll_s=60.0):
        self.clock, self.metrics = ManualClock(), Metrics()
        super().__init__(self.clock, self.metrics, what="closes", gauge=REASONS_WAITING, poll_s=poll_s)
        self.rounds, self.finds = list(rounds), list(finds)
        self.queued, self.worked, self.looked_back, self.told = 0, 0, 0, []
        self.has_worked = asyncio.Event()

    def waiting(self):
        return self.queued

    async def _work_once(self):
        self.worked += 1
        self.has_worked.set()
        return raised(self.rounds.pop(0)) if self.rounds else False

    async def _find_undone(self, now_ms):
        assert now_ms == self.clock.wall_ms()
        self.looked_back += 1
        self.queued += raised(self.finds.pop(0)) if self.finds else 0

    def _tell_store_away(self, error):
        self.told.append(f"store {error}")

    def _tell_delay(self, error):
        self.told.append(f"venue {error}")

    def drop(self):
        self._drop("queue_full")

    def wake(self):
        self._wake.set()


def raised(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


async def test_what_is_due_is_worked_on_until_nothing_is():
    job = Played(rounds=[True, True, False, True], finds=[7])
    await job.work()
    assert job.worked == 3
    assert job.metrics.value(REASONS_WAITING) == 7


async def test_a_venue_that_does_not_answer_is_left_alone_for_growing_pauses():
    job = Played(rounds=[VenueError("away")] * 12)
    pause_s = FAILED_FIRST_S
    for asked in range(1, 11):
        await job.work()
        assert job.worked == asked
        job.clock.advance(pause_s - 0.01)
        await job.work()
        assert job.worked == asked, "asked before the pause was over"
        job.clock.advance(0.01)
        pause_s = min(FAILED_CAP_S, pause_s * 2)
    assert job.told == ["venue away"], "one outage, told once"


async def test_after_an_answer_pauses_begin_anew_and_an_outage_is_told_again():
    away = VenueError("away")
    job = Played(rounds=[away, away, True, away, False])
    for pause_s in (FAILED_FIRST_S, 2 * FAILED_FIRST_S, FAILED_FIRST_S):
        await job.work()
        job.clock.advance(pause_s)
    await job.work()
    assert job.worked == 5
    assert job.told == ["venue away", "venue away"]


async def test_what_was_left_undone_is_looked_for_once():
    job = Played(finds=[0, 1])
    await job.work()
    await job.work()
    assert job.looked_back == 1


async def test_a_database_that_is_away_is_asked_again_a_few_times():
    job = Played(finds=[StoreError("away")] * (LOOK_BACK_TRIES + 1))
    for _ in range(LOOK_BACK_TRIES + 2):
        await job.work()
    assert job.looked_back == LOOK_BACK_TRIES
    assert job.told == ["store away"] * LOOK_BACK_TRIES
    assert job.worked == 2, "a round follows only where looking back was done, or given up"


async def test_what_is_dropped_is_looked_for_when_nothing_waits_any_more():
    job = Played(finds=[3])
    await job.work()
    job.drop()
    assert job.metrics.value(REPAIRS_DROPPED, "closes", "queue_full") == 1
    await job.work()
    assert job.looked_back == 1
    job.queued = 0
    await job.work()
    assert job.looked_back == 2


@pytest.mark.parametrize("wakes", [True, False])
async def test_it_works_again_when_there_is_more_or_time_is_over_until_the_stop(wakes):
    job, stopping = Played(poll_s=60.0 if wakes else 0.01), asyncio.Event()
    running = asyncio.create_task(job.run(stopping))
    async with asyncio.timeout(10):
        for _ in range(3):
            await job.has_worked.wait()
            job.has_worked.clear()
            if wakes:
                job.wake()
        for _ in range(100):
            await asyncio.sleep(0)
        stopping.set()
        await running
    assert job.worked == 4 if wakes else job.worked >= 3
