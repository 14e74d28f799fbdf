"""The writer's lease in virtual time: who gets it when, and what a holder may believe."""

import asyncio
from datetime import UTC, datetime

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from src.jobs.writer.instance import INSTANCE_FILE, this_holder
from src.jobs.writer.lease import WriterLease, writing
from src.jobs.writer.rules import Holder, LeaseDocument, Watch, read_lease, write_to_take
from src.models.clock import ManualClock
from src.models.errors import StoreError, StoreFatalError, WriterBusyError, WriterLostError
from src.models.metrics import WRITER_LEASE_HELD, WRITER_LEASE_RENEWAL_FAILURES, Metrics
from src.models.writes import Collection, WriteBatch
from src.store.memory import MemoryStore
from tests.support.lease_world import World, lease_document
from tests.support.virtual_time import run_virtually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_holder(name, run="1"):
    return Holder(id=name, host=f"host-{name}", pid=7, run=f"{name}.{run}")


def virtually(test):
    """Run an async test in virtual time."""

    def run():
        run_virtually(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def started(world, *names):
    programs = [world.program(name) for name in names]
    for program in programs:
        program.start()
        await asyncio.sleep(1)
    return programs


async def takes_over_after(program):
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not program.writes:
        await asyncio.sleep(0.01)
        assert loop.time() - began < 60, "nobody took over"
    return loop.time() - began


# -- getting it --------------------------------------------------------------------------------------------------------


@virtually
async def test_on_a_fresh_database_the_first_writes_at_once_and_the_second_says_that_it_waits():
    world = World(1)
    with capture_logs() as logs:
        first, second = await started(world, "a", "b")
        await asyncio.sleep(120)
    assert first.writes
    assert not second.writes
    assert first.waited_for == [""]
    assert "another collector writes (host host-a, pid 1, since 20" in second.waited_for[0]
    assert "taking over when it stops renewing" in second.waited_for[0]
    told = [entry for entry in logs if entry["event"] == "another_writer"]
    assert len(told) == 1
    assert (told[0]["host"], told[0]["pid"]) == ("host-a", 1)


@virtually
async def test_after_a_kill_the_standby_takes_over_within_15_seconds_and_not_before_the_lease_has_ended():
    world = World(2)
    first, second = await started(world, "a", "b")
    first.kill()
    assert 8 < await takes_over_after(second) < 15
    assert second.lease.others_wrote


@virtually
async def test_after_an_orderly_stop_the_standby_takes_over_at_once():
    world = World(3)
    first, second = await started(world, "a", "b")
    await first.stop()
    assert await takes_over_after(second) < 1


@virtually
async def test_the_same_data_directory_does_not_wait_for_its_own_dead_run():
    world = World(4)
    (first,) = await started(world, "a")
    first.kill()
    first.start()
    assert await takes_over_after(first) < 1
    assert first.lease.term == 2
    assert not first.lease.others_wrote


@virtually
async def test_a_copied_data_directory_on_another_host_is_somebody_else():
    world = World(5)
    (first,) = await started(world, "a")
    document = read_lease(await lease_document(world.server))
    watch = Watch(structs.replace(a_holder("a"), host="elsewhere"), patience_s=11, longest_gap_s=5)
    assert not watch.may_take(document, 0.0)
    assert Watch(a_holder("a"), patience_s=11, longest_gap_s=5).may_take(document, 0.0)
    first.kill()


@virtually
async def test_who_waits_can_be_stopped():
    world = World(6)
    _, second = await started(world, "a", "b")
    await asyncio.wait_for(second.stop(), 1)
    assert second.ended == "stopped while waiting"
    assert world.term == 1


@virtually
async def test_a_standby_frozen_for_an_hour_does_not_take_a_lease_that_could_not_be_renewed_meanwhile():
    world = World(7)
    first, second = await started(world, "a", "b")
    second.freeze()
    world.is_up = False
    await asyncio.sleep(3600)
    world.is_up = True
    second.thaw()
    await asyncio.sleep(60)
    assert first.writes
    assert world.term == 1


@virtually
async def test_an_outage_of_hours_leaves_the_lease_with_its_holder():
    world = World(8)
    first, second = await started(world, "a", "b")
    for _ in range(20):
        world.is_up = False
        await asyncio.sleep(720 * world.rng.random())
        assert not second.writes
        world.is_up = True
        assert await takes_over_after(first) < 15
    assert world.term == 1
    assert first.ended is None


@virtually
async def test_a_renewal_between_the_last_look_and_the_attempt_keeps_the_lease():
    store, clock = MemoryStore(), ManualClock()
    first = WriterLease(store, clock, holder=a_holder("a"))
    assert await first.acquire(asyncio.Event(), lambda _: None)
    seen = read_lease(await lease_document(store))
    assert await first.renew()
    await store.write(WriteBatch(0, [[write_to_take(seen, a_holder("b"), NOW)]]))
    assert (await lease_document(store))["run"] == "a.1"
    assert await first.renew()


@virtually
async def test_of_two_that_begin_at_the_same_moment_one_writes():
    world = World(9)
    programs = [world.program(name) for name in "abc"]
    for program in programs:
        program.start()
    await asyncio.sleep(5)
    assert sum(program.writes for program in programs) == 1


@virtually
async def test_a_database_that_refuses_for_good_ends_the_wait():
    store = MemoryStore()
    store.fail_next(StoreFatalError("no rights"))
    with pytest.raises(StoreFatalError, match="no rights"):
        await WriterLease(store, ManualClock(), holder=a_holder("a")).acquire(asyncio.Event(), lambda _: None)


# -- keeping it --------------------------------------------------------------------------------------------------------


@virtually
async def test_without_a_renewal_nothing_may_be_written_and_the_proof_comes_first():
    store, clock, metrics = MemoryStore(), ManualClock(), Metrics()
    lease = WriterLease(store, clock, holder=a_holder("a"), metrics=metrics)
    assert not lease.is_held
    assert await lease.acquire(asyncio.Event(), lambda _: None)
    clock.advance(9.9)
    assert lease.is_held
    clock.advance(0.2)
    assert not lease.is_held
    assert "not confirmed by MongoDB for 10 s" in lease.trouble
    assert await lease.renew()
    assert lease.is_held
    assert lease.trouble == ""
    assert metrics.value(WRITER_LEASE_HELD) == 1


@virtually
async def test_a_jump_of_the_wall_clock_changes_nothing():
    store, clock = MemoryStore(), ManualClock()
    lease = WriterLease(store, clock, holder=a_holder("a"))
    assert await lease.acquire(asyncio.Event(), lambda _: None)
    for seconds in (3600, -7200):
        clock.jump(seconds)
        assert lease.is_held
        assert await lease.renew()


@virtually
async def test_a_renewal_counts_from_its_beginning():
    world = World(10)
    (first,) = await started(world, "a")
    clock = first._clock
    first.lease._store._travel = slow_travel(8.0)
    began = clock.monotonic()
    assert await first.lease.renew()
    assert first.lease._renewed_s == pytest.approx(began)
    first.kill()


def slow_travel(seconds):
    async def travel(*, lost=False):
        await asyncio.sleep(seconds / 2)

    return travel


@virtually
async def test_failed_renewals_are_counted_and_told_once_and_so_is_the_return():
    world = World(11)
    (first,) = await started(world, "a")
    metrics = first.lease._metrics
    with capture_logs() as logs:
        world.is_up = False
        await asyncio.sleep(300)
        assert not first.lease.is_held
        assert metrics.value(WRITER_LEASE_HELD) == 0
        world.is_up = True
        assert await takes_over_after(first) < 10
    assert [entry["event"] for entry in logs] == ["writing_paused", "writing_resumed"]
    assert metrics.value(WRITER_LEASE_RENEWAL_FAILURES) > 10


@virtually
async def test_who_was_frozen_too_long_finds_that_it_lost_and_offers_nothing():
    world = World(12)
    first, second = await started(world, "a", "b")
    first.freeze()
    await takes_over_after(second)
    first.thaw()
    await asyncio.sleep(10)
    assert first.ended == "lost"
    assert first.lease.trouble.startswith("another collector has taken over")
    assert not world.problems
    assert not await first.lease.renew()


@virtually
async def test_a_removed_document_is_put_back_and_nobody_else_gets_in_between():
    world = World(13)
    first, second = await started(world, "a", "b")
    world.server._documents[Collection.SCHEMA].clear()
    await asyncio.sleep(30)
    assert first.writes
    assert not second.writes
    assert len({run for _, run in world.arrived}) == 1


@virtually
async def test_a_spoilt_document_is_no_obstacle():
    world = World(14)
    world.server._documents[Collection.SCHEMA]["writer"] = {"_id": "writer", "term": "x", "since": 5}
    program = world.program("a")
    program.start()
    await asyncio.sleep(30)
    assert program.writes
    assert not world.problems


@virtually
async def test_release_without_a_database_says_so_and_comes_back():
    world = World(15)
    (first,) = await started(world, "a")
    world.is_up = False
    with capture_logs() as logs:
        await asyncio.wait_for(first.stop(), 10)
    assert any(entry["event"] == "lease_not_released" for entry in logs)
    assert not first.lease.is_held


# -- for commands ------------------------------------------------------------------------------------------------------


@virtually
async def test_a_command_is_refused_beside_a_living_writer_and_told_who():
    world = World(16)
    await started(world, "a")
    command = WriterLease(world.server, WorldClock(), holder=a_holder("command"))
    with pytest.raises(WriterBusyError, match="host host-a, pid 1"):
        async with writing(command):
            pytest.fail("it must not begin")
    assert world.owner == "a.1"


@virtually
async def test_a_command_takes_what_a_dead_writer_left_and_gives_it_back():
    world = World(17)
    first, second = await started(world, "a", "b")
    first.kill()
    second.kill()
    command = WriterLease(world.server, WorldClock(), holder=a_holder("command"))
    async with writing(command):
        assert command.is_held
        await asyncio.sleep(60)
        assert command.is_held
    assert world.owner is None
    second.start()
    assert await takes_over_after(second) < 1


@virtually
async def test_a_command_that_loses_the_lease_is_ended():
    store = MemoryStore()
    command = WriterLease(store, WorldClock(), holder=a_holder("command"))

    async def block():
        async with writing(command):
            seen = read_lease(await lease_document(store))
            await store.write(WriteBatch(0, [[write_to_take(seen, a_holder("b"), NOW)]]))
            await asyncio.sleep(60)
            pytest.fail("it must have been ended")

    with pytest.raises(WriterLostError):
        await block()
    assert (await lease_document(store))["run"] == "b.1"


@virtually
async def test_a_command_that_fails_gives_the_lease_back():
    store = MemoryStore()
    with pytest.raises(StoreError, match="of its own"):
        async with writing(WriterLease(store, WorldClock(), holder=a_holder("command"))):
            raise StoreError("of its own")
    assert (await lease_document(store))["released"] is True


@virtually
async def test_a_command_that_is_interrupted_while_it_is_granted_the_lease_gives_it_back():
    class SlowAnswers(MemoryStore):
        async def write(self, batch):
            result = await super().write(batch)
            written.set()
            await asyncio.sleep(0.5)
            return result

    store, written = SlowAnswers(), asyncio.Event()

    async def block():
        async with writing(WriterLease(store, WorldClock(), holder=a_holder("command"))):
            pytest.fail("it must not begin")

    task = asyncio.create_task(block())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await lease_document(store))["released"] is True


class WorldClock:
    def monotonic(self):
        return asyncio.get_running_loop().time()

    def wall_ms(self):
        return int(1000 * self.monotonic())


# -- who we are --------------------------------------------------------------------------------------------------------


def test_a_data_directory_keeps_its_identity_and_each_run_is_another(tmp_path):
    one, two = this_holder(tmp_path / "new"), this_holder(tmp_path / "new")
    assert one.id == two.id
    assert one.run != two.run
    assert this_holder(tmp_path / "other").id != one.id
    assert this_holder(None).id != this_holder(None).id


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe", b"0" * 4096])
def test_a_damaged_identity_is_replaced_for_good(tmp_path, content):
    (tmp_path / INSTANCE_FILE).write_bytes(content)
    first = this_holder(tmp_path).id
    assert len(first) == 32
    assert this_holder(tmp_path).id == first


def test_an_identity_that_cannot_be_noted_is_told_and_used(tmp_path):
    (tmp_path / "file").write_text("")
    with capture_logs() as logs:
        assert len(this_holder(tmp_path / "file").id) == 32
    assert logs[0]["event"] == "instance_not_noted"


def test_a_lease_names_its_owner_for_people():
    lease = LeaseDocument(1, 0, "i", "r", "desk", 42, NOW, released=False)
    assert lease.owner == "host desk, pid 42, since 2026-01-01 00:00:00 UTC"
    assert structs.replace(lease, since=None).owner == "host desk, pid 42"
