"""The wall clock set forward and back by an hour while the program collects: nothing stored lasts less than nothing."""

import pytest

from src.models.metrics import CONNECT_ATTEMPTS, DISCONNECTS, MESSAGES_OUTDATED, ORDER_CHANGES
from src.models.writes import Collection
from src.store.base import Query
from src.store.mongo import MongoStore
from src.venues.clock import SystemClock
from tests.support.faults import sized
from tests.support.truth import truth_run

pytestmark = [pytest.mark.integration]

HOUR_S = 3600.0
SPANS = (
    (Collection.COVERAGE, "from", "to"),
    (Collection.TRADER_ORDERS, "timestamp", "closedAt"),
    (Collection.TRADER_POSITIONS, "openedAt", "closedAt"),
)


class JumpingClock(SystemClock):
    """The machine's clock, set anew by ``jump`` as an NTP step or a person does."""

    def __init__(self):
        self._offset_ms = 0

    def wall_ms(self):
        return super().wall_ms() + self._offset_ms

    def jump(self, seconds):
        self._offset_ms += round(seconds * 1000)


@pytest.mark.parametrize(
    "legacy", sized([False], [False, True]), ids=sized(["split feeds"], ["split feeds", "webData2"])
)
@pytest.mark.parametrize("jumps", [(HOUR_S, -HOUR_S), (-HOUR_S, HOUR_S)], ids=["ahead and back", "back and ahead"])
async def test_a_clock_that_jumps_an_hour_stores_no_negative_duration(mongo_uri, database_name, jumps, legacy):
    clock = JumpingClock()

    async def jumping(run):
        await run.until_fresh()
        for jump in jumps * sized(1, 5):
            attempts = run.metrics.total(CONNECT_ATTEMPTS)
            clock.jump(jump)
            found = run.metrics.total(ORDER_CHANGES)
            await run.until(
                lambda found=found: run.metrics.total(ORDER_CHANGES) > found + 15, what="changes after it"
            )
            assert run.metrics.total(CONNECT_ATTEMPTS) == attempts, "the jump made it connect anew"
            lost = run.metrics.total(DISCONNECTS)
            await run.simulator.faults.drop()  # holes, opened before a jump and closed after it
            await run.until(lambda lost=lost: run.metrics.total(DISCONNECTS) > lost, what="a cut")
            clock.jump(jump / 2)
            await run.until_fresh()
            clock.jump(-jump / 2)
        assert run.metrics.total(MESSAGES_OUTDATED) == 0

    verdict = await truth_run(
        mongo_uri, database_name, seed=7, faults_per_minute=0, legacy=legacy, clock=clock, during=jumping
    )
    print(verdict)
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.holes > 0
    assert await negative_durations(mongo_uri, database_name) == []


async def negative_durations(uri, database):
    """Documents in which something ends before it begins."""
    store = MongoStore(uri, database)
    try:
        found = []
        for collection, first, last in SPANS:
            looked_at = 0
            async for document in store.find(collection, Query()):
                begin, end = document.get(first), document.get(last)
                if begin is not None and end is not None:
                    looked_at += 1
                    if end < begin:
                        found.append((collection.value, first, begin, last, end, document["_id"]))
            assert looked_at > 0, f"no {collection.value} with {first} and {last}"
        return found
    finally:
        await store.close()


def test_the_clock_under_test_jumps():
    clock = JumpingClock()
    before, ticks = clock.wall_ms(), clock.monotonic()
    clock.jump(-HOUR_S)
    assert clock.wall_ms() < before - 3_000_000
    assert clock.monotonic() >= ticks
