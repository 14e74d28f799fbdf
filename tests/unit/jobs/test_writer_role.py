"""What the program does with the lease: waits, writes, gives back, stops when it is lost."""

import asyncio

import pytest
from structlog.testing import capture_logs

from src.jobs.status import RunState
from src.jobs.writer.lease import WriterLease
from src.jobs.writer.role import EXIT_FENCED, WriterRole
from src.jobs.writer.rules import Holder, read_lease, write_to_take
from src.models.metrics import TASK_FAILURES, Metrics
from src.models.writes import WriteBatch
from src.pipeline.documents import to_date
from src.pipeline.supervise import TaskDiedTooOftenError
from src.store.memory import MemoryStore
from tests.support.lease_world import lease_document
from tests.support.virtual_time import run_virtually


class LoopClock:
    def monotonic(self):
        return asyncio.get_running_loop().time()

    def wall_ms(self):
        return int(1000 * self.monotonic())


def a_holder(name):
    return Holder(id=name, host=f"host-{name}", pid=7, run=f"{name}.1")


class Rig:
    def __init__(self, store=None, name="a"):
        self.store = store or MemoryStore()
        self.state, self.stopping, self.metrics, self.faults = RunState(), asyncio.Event(), Metrics(), []
        self.lease = WriterLease(self.store, LoopClock(), holder=a_holder(name))
        self.role = WriterRole(
            self.lease,
            state=self.state,
            stopping=self.stopping,
            on_fault=self.faults.append,
            clock=LoopClock(),
            metrics=self.metrics,
        )


def test_it_renews_for_the_whole_block_and_gives_back_at_its_end():
    async def test():
        rig = Rig()
        async with rig.role.kept():
            assert not rig.role.may_write()
            assert await rig.role.become_writer()
            await asyncio.sleep(600)
            assert rig.role.may_write()
            rig.stopping.set()  # the stop has begun, its last flush has not ended
            await asyncio.sleep(60)
            assert rig.role.may_write()
        assert not rig.role.may_write()
        assert (await lease_document(rig.store))["released"]

    run_virtually(test())


def test_without_a_database_it_is_not_given_back_but_left_to_end():
    async def test():
        rig = Rig()
        async with rig.role.kept():
            assert await rig.role.become_writer()
            rig.role.gives_back = False
        assert not (await lease_document(rig.store))["released"]

    run_virtually(test())


def test_a_standby_says_so_until_its_turn_comes():
    async def test():
        first = Rig()
        second = Rig(first.store, "b")
        async with second.role.kept():
            async with first.role.kept():
                assert await first.role.become_writer()
                waiting = asyncio.ensure_future(second.role.become_writer())
                await asyncio.sleep(60)
                assert second.state.phase == "standby"
                assert "another collector writes (host host-a, pid 7" in second.state.writer()
                assert first.state.writer() == ""
            assert await waiting
            assert second.state.phase == "starting"
            assert second.state.writer() == ""

    run_virtually(test())


def test_a_lost_lease_stops_the_program_with_a_clear_word():
    async def test():
        rig = Rig()
        async with rig.role.kept():
            assert await rig.role.become_writer()
            seen = read_lease(await lease_document(rig.store))
            await rig.store.write(WriteBatch(0, [[write_to_take(seen, a_holder("b"), to_date(0))]]))
            with capture_logs() as logs:
                await asyncio.wait_for(rig.stopping.wait(), 10)
            assert rig.role.is_lost
            assert "has taken over" in rig.state.writer()
            (told,) = (entry for entry in logs if entry["event"] == "another_collector_took_over")
            assert told["exit_code"] == EXIT_FENCED == 75
            assert not await rig.role.become_writer()
        assert (await lease_document(rig.store))["run"] == "b.1"
        assert not (await lease_document(rig.store))["released"]

    run_virtually(test())


def test_a_renewal_that_keeps_dying_ends_the_program():
    async def test():
        rig = Rig()

        async def broken():
            raise RuntimeError("a fault")

        rig.lease.renew = broken
        async with rig.role.kept():
            assert await rig.role.become_writer()
            await asyncio.sleep(60)
        assert isinstance(rig.faults[0], TaskDiedTooOftenError)
        assert rig.metrics.value(TASK_FAILURES, "lease") == 6

    run_virtually(test())


@pytest.mark.parametrize("late", [False, True])
def test_waiting_ends_with_the_stop(late):
    async def test():
        first, second = Rig(), None
        second = Rig(first.store, "b")
        async with first.role.kept():
            assert await first.role.become_writer()
            if late:
                waiting = asyncio.ensure_future(second.role.become_writer())
                await asyncio.sleep(5)
                second.stopping.set()
                assert not await asyncio.wait_for(waiting, 1)
            else:
                second.stopping.set()
                assert not await second.role.become_writer()

    run_virtually(test())
