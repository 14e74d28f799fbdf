"""What waits for MongoDB with a journal behind it: spilled, read back, kept in order, through faults of the disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from src.models.changes import Change, DeadLetter, OrderLink
from src.models.clock import ManualClock
from src.models.metrics import DEAD_LETTERS, JOURNAL_ERRORS, MESSAGES_DROPPED, Metrics
from src.models.writes import Collection
from src.pipeline import journal as journal_module
from src.pipeline import journal_files
from src.pipeline.durability import Durability
from src.pipeline.flush import Flusher
from src.pipeline.journal import Journal
from src.pipeline.pending import ERROR_LOG_EVERY_S, RETRY_EVERY_S, Pending, Segment
from src.store.memory import MemoryStore
from tests.support.every_change import every_change, numbered, numbers

MIB = 1024 * 1024


class Rig:
    """A queue of small segments over a journal of small files."""

    def __init__(self, directory: Path, *, memory_limit: int = 10, segment_size: int = 4) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.memory_limit = memory_limit
        self.segment_size = segment_size
        self.restart()

    def restart(self) -> None:
        """As after a kill: nothing was closed, nothing noted."""
        self.journal = Journal(self.directory, limit_bytes=16 * MIB)
        self.journal.open()
        self.pending = Pending(
            self.memory_limit,
            clock=self.clock,
            metrics=self.metrics,
            journal=self.journal,
            segment_size=self.segment_size,
        )

    def store_all(self) -> list[int]:
        """Take and finish everything; the numbers in the order in which they left."""
        left: list[int] = []
        while (segment := self.pending.take()) is not None:
            left += numbers(segment.changes)
            self.pending.done(segment)
        return left

    def flusher(self) -> Flusher:
        self.store = MemoryStore()
        return Flusher(
            store=self.store, pending=self.pending, metrics=self.metrics, clock=self.clock, interval_s=3_600
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "journal")
    yield rig
    rig.journal.close()


def refused(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "no space left")


def take(pending: Pending) -> Segment:
    segment = pending.take()
    assert segment is not None
    return segment


# -- spilling --------------------------------------------------------------------------------------------------------


def test_everything_is_in_the_journal_before_it_can_be_taken(rig):
    rig.pending.add(numbered(1, 2))
    assert rig.journal.changes == 2
    segment = take(rig.pending)
    assert (numbers(segment.changes), segment.seq) == ([1, 2], 1)
    assert rig.journal.changes == 2
    rig.pending.done(segment)
    assert (rig.journal.changes, len(rig.pending)) == (0, 0)


def test_beyond_the_memory_limit_changes_wait_on_disk_and_come_back_in_order(rig):
    for number in range(100):
        rig.pending.add(numbered(number))
    assert (len(rig.pending), rig.pending.on_disk, rig.pending._in_memory) == (100, 90, 10)
    assert not rig.pending.is_full
    assert rig.pending.segments == 3 + 23
    assert rig.store_all() == list(range(100))
    assert (len(rig.pending), rig.pending.on_disk, rig.journal.changes) == (0, 0, 0)


def test_once_spilled_later_changes_queue_behind_on_disk_though_there_is_room_again(rig):
    for number in range(12):
        rig.pending.add(numbered(number))
    rig.pending.done(take(rig.pending))
    rig.pending.add(numbered(12))
    assert rig.pending.on_disk == 3
    assert rig.store_all() == list(range(4, 13))


def test_what_could_not_be_stored_is_the_next_one_though_others_are_on_disk(rig):
    for number in range(30):
        rig.pending.add(numbered(number))
    rig.pending.put_back(take(rig.pending))
    assert len(rig.pending) == 30
    assert rig.store_all() == list(range(30))


def test_a_restart_finds_what_was_not_acknowledged(rig):
    for number in range(30):
        rig.pending.add(numbered(number))
    rig.pending.done(take(rig.pending))
    rig.journal.save_ack()
    rig.restart()
    assert (len(rig.pending), rig.pending.on_disk, rig.pending.segments) == (26, 26, 7)
    rig.pending.add(numbered(30))
    assert rig.store_all() == list(range(4, 31))


async def test_one_request_stores_a_backlog_that_is_on_disk(rig):
    for number in range(100):
        rig.pending.add(numbered(number))
    rig.restart()
    flusher, stopping = rig.flusher(), asyncio.Event()
    flusher.request()
    task = asyncio.create_task(flusher.run(stopping))
    async with asyncio.timeout(10):
        while len(rig.pending):  # noqa: ASYNC110 - a plain queue
            await asyncio.sleep(0.001)
    stopping.set()
    await task


# -- a disk that does not take it ------------------------------------------------------------------------------------


def test_while_the_disk_refuses_changes_wait_in_memory_and_that_is_told_once_in_a_while(rig, monkeypatch):
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(journal_module.os, "write", refused)
        for number in range(5):
            rig.pending.add(numbered(number))
            rig.clock.advance(ERROR_LOG_EVERY_S / 2)
        assert "no space left" in rig.pending.journal_error
    assert [entry["event"] for entry in logs] == ["journal_not_written"] * 3
    assert (len(rig.pending), rig.pending.on_disk, rig.journal.changes) == (5, 0, 0)
    assert rig.metrics.value(JOURNAL_ERRORS, "failed") == 5
    assert rig.store_all() == [0, 1, 2, 3, 4]


def test_without_the_journal_memory_is_the_limit(rig, monkeypatch):
    monkeypatch.setattr(journal_module.os, "write", refused)
    for number in range(10):
        assert not rig.pending.is_full
        rig.pending.add(numbered(number))
    assert rig.pending.is_full
    rig.pending.done(take(rig.pending))
    assert not rig.pending.is_full


def test_a_disk_that_breaks_after_a_spill_stops_the_diff_at_once(rig, monkeypatch):
    for number in range(20):
        rig.pending.add(numbered(number))
    assert not rig.pending.is_full
    monkeypatch.setattr(journal_module.os, "write", refused)
    rig.pending.add(numbered(20))
    assert rig.pending.is_full


def test_changes_that_are_not_in_the_journal_never_overtake_those_on_disk(rig, monkeypatch):
    for number in range(20):
        rig.pending.add(numbered(number))
    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", refused)
        rig.pending.add(numbered(20))
        rig.clock.advance(RETRY_EVERY_S / 2)
    rig.pending.add(numbered(21))  # too soon to ask the disk again
    assert (rig.journal.changes, rig.pending._late) == (20, numbered(20, 21))
    assert rig.store_all() == list(range(22))


def test_what_the_disk_refused_is_written_as_soon_as_it_takes_something_again(rig, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", refused)
        for number in range(9):
            rig.pending.add(numbered(number))
    rig.clock.advance(RETRY_EVERY_S)
    with capture_logs() as logs:
        rig.pending.add(numbered(9))
    assert [entry["event"] for entry in logs] == ["journal_works_again"]
    assert (rig.pending.journal_error, rig.journal.changes, len(rig.pending)) == ("", 10, 10)
    rig.restart()
    assert rig.store_all() == list(range(10))


def test_a_full_queue_finds_out_that_the_disk_is_well_again_by_offering_itself(rig, monkeypatch):
    """The diff waits then, so nothing is added that would try."""
    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", refused)
        rig.pending.add(numbered(*range(10)))
        assert rig.pending.is_full
        rig.pending.put_back(take(rig.pending))
    rig.clock.advance(RETRY_EVERY_S)
    rig.pending.put_back(take(rig.pending))
    assert (rig.pending.is_full, rig.journal.changes, len(rig.pending)) == (False, 10, 10)
    rig.restart()
    assert rig.store_all() == list(range(10))


def test_a_long_queue_is_not_encoded_again_with_each_change(rig, monkeypatch):
    monkeypatch.setattr(journal_module.os, "write", refused)
    encoded = []
    sound = journal_files._encode
    monkeypatch.setattr(journal_files, "_encode", lambda changes: (encoded.append(len(changes)), sound(changes))[1])
    for number in range(500):
        rig.pending.add(numbered(number))
        rig.clock.advance(0.001)
    assert len(encoded) == 1


# -- what cannot be written or read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [2**70, "\ud800", object()])
def test_a_change_that_no_file_can_hold_becomes_a_dead_letter_and_costs_only_itself(rig, bad):
    rig.pending.add([*numbered(1), OrderLink("v", "0x", bad), *numbered(2)])
    assert rig.journal.changes == 3
    assert rig.pending.journal_error == ""
    rig.restart()
    segment = take(rig.pending)
    one, letter, two = segment.changes
    assert numbers([one, two]) == [1, 2]
    assert isinstance(letter, DeadLetter)
    assert (letter.stage, letter.reason, letter.detail) == ("store", "not_encodable", "OrderLink")
    assert rig.metrics.value(DEAD_LETTERS, "store", "not_encodable") == 1


def test_such_a_change_that_came_while_the_disk_refused_does_not_block_the_others(rig, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", refused)
        rig.pending.add(numbered(1))
        rig.pending.add([OrderLink("v", "0x", 2**70), *numbered(2)])
    rig.clock.advance(RETRY_EVERY_S)
    rig.pending.add(numbered(3))
    rig.restart()
    assert rig.store_all() == [1, 2, 3]


async def test_every_kind_of_change_is_stored_from_the_journal_as_from_memory(rig):
    stores = []
    rig.memory_limit = 1_000
    for from_disk in (False, True):
        rig.restart()
        rig.pending.add(every_change())
        if from_disk:
            rig.restart()
        await rig.flusher().drain()
        stores.append({name: rig.store.documents(name) for name in Collection})
    assert stores[0] == stores[1]
    assert sum(map(len, stores[0].values())) > 10


def damage(rig: Rig, number: int) -> None:
    """Flip a bit in the payload of one record of the file that waits."""
    path = min(rig.directory.glob("*.log"))
    content = bytearray(path.read_bytes())
    content[len(content) * number // 20 + 30] ^= 1
    path.write_bytes(content)


def test_a_damaged_record_is_skipped_counted_and_told(rig):
    for number in range(20):
        rig.pending.add(numbered(number))
    rig.restart()
    damage(rig, 5)
    with capture_logs() as logs:
        assert rig.store_all() == [number for number in range(20) if number != 5]
    assert (len(rig.pending), rig.journal.changes) == (0, 0)
    [entry] = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["event"], entry["changes_lost"]) == ("journal_damaged", 1)
    assert rig.metrics.value(JOURNAL_ERRORS, "damaged") == 1
    assert rig.metrics.value(MESSAGES_DROPPED, "change", "journal_damaged") == 1


def test_damage_in_the_first_record_does_not_look_like_an_empty_queue(rig):
    for number in range(20):
        rig.pending.add(numbered(number))
    rig.restart()
    damage(rig, 0)
    with capture_logs():
        assert numbers(take(rig.pending).changes) == [1, 2, 3, 4]
    assert len(rig.pending) == 19


def test_damage_found_at_the_start_is_counted(rig):
    for number in range(20):
        rig.pending.add(numbered(number))
    rig.restart()
    path = min(rig.directory.glob("*.log"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 3] ^= 1
    path.write_bytes(content)
    with capture_logs():
        rig.restart()
    assert rig.metrics.value(JOURNAL_ERRORS, "damaged") == 1
    assert rig.store_all() == list(range(10))


async def test_a_file_that_cannot_be_read_now_is_waited_for_and_nothing_spins(rig, monkeypatch):
    for number in range(20):
        rig.pending.add(numbered(number))
    rig.restart()
    flusher = rig.flusher()
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(Path, "open", lambda *_, **__: refused())
        assert await flusher.flush_once() is False
        assert (len(rig.pending), rig.pending.take()) == (20, None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flusher.drain(), 0.05)
    assert [entry["event"] for entry in logs] == ["journal_not_read"]
    await asyncio.wait_for(flusher.drain(), 10)
    assert (len(rig.pending), rig.pending.journal_error) == (0, "")


def test_what_is_not_in_the_journal_waits_for_a_file_that_cannot_be_read_now(rig, monkeypatch):
    for number in range(20):
        rig.pending.add(numbered(number))
    rig.restart()
    with monkeypatch.context() as patched, capture_logs():
        patched.setattr(journal_module.os, "write", refused)
        rig.pending.add(numbered(20))
        patched.setattr(Path, "open", lambda *_, **__: refused())
        assert rig.pending.take() is None
    assert rig.store_all() == list(range(21))


# -- durability ------------------------------------------------------------------------------------------------------


async def test_forcing_each_append_does_not_make_the_task_spin(rig, monkeypatch):
    turns = 0
    durability = Durability(rig.journal, metrics=rig.metrics, interval_s=0.0)

    async def turn() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(durability, "turn", turn)
    stopping = asyncio.Event()
    task = asyncio.create_task(durability.run(stopping))
    for _ in range(1_000):
        await asyncio.sleep(0)
    stopping.set()
    await asyncio.wait_for(task, 5)
    assert turns == 1


async def test_a_sync_that_fails_is_told_once_and_tried_again(rig, monkeypatch):
    durability = Durability(rig.journal, metrics=rig.metrics, interval_s=0.5)
    rig.pending.add(numbered(1))
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(journal_module.os, "fdatasync", refused)
        await durability.turn()
        await durability.turn()
    assert [entry["event"] for entry in logs] == ["journal_not_synced"]
    assert rig.metrics.value(JOURNAL_ERRORS, "sync") == 2
    await durability.turn()
    assert rig.journal.sync() is False


async def test_a_turn_notes_how_far_mongodb_is(rig):
    rig.pending.add(numbered(1))
    rig.pending.add(numbered(2))
    rig.pending.done(take(rig.pending))
    rig.pending.add(numbered(3))
    await Durability(rig.journal, metrics=rig.metrics, interval_s=None).turn()
    rig.restart()
    assert rig.store_all() == [3]


def test_the_last_of_what_waits_is_never_only_in_the_callers_list(rig):
    mine: list[Change] = numbered(1)
    rig.pending.add(mine)
    mine.clear()
    assert rig.store_all() == [1]
