"""The journal: what was appended is there after any end of the process, in order, until it is acknowledged."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

from src.models.changes import Change, DeadLetter
from src.pipeline import journal as journal_module
from src.pipeline import journal_files
from src.pipeline.journal import ACKED_FILE, SMALLEST_SEGMENT_BYTES, Journal, JournalFullError
from src.pipeline.journal_files import JournalDamagedError
from tests.support.every_change import every_change, numbered, numbers

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024
BULKY = b"x" * (SMALLEST_SEGMENT_BYTES // 4)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Journal]]:
    """Opens journals in one directory; whatever a test leaves open is closed."""
    made: list[Journal] = []

    def make(*, limit_bytes: int = 64 * MIB, segment_bytes: int = SMALLEST_SEGMENT_BYTES, **more: Any) -> Journal:
        journal = Journal(tmp_path / "journal", limit_bytes=limit_bytes, segment_bytes=segment_bytes, **more)
        made.append(journal)
        journal.open()
        return journal

    yield make
    for journal in made:
        abandon(journal)


def abandon(journal: Journal) -> None:
    """What remains of a journal whose process was killed: files, and no open descriptor."""
    for descriptor in (*journal._retired, *([journal._fd] if journal._fd is not None else [])):
        os.close(descriptor)
    journal._retired, journal._fd = [], None


def bulky(number: int) -> list[Change]:
    """A record of a quarter of a file."""
    return [*numbered(number), DeadLetter("v", "decode", "r", "", BULKY, 1, number)]


def content(journal: Journal, after: int | None = None) -> list[int]:
    """The numbers of everything that can be read and is not acknowledged, skipping what is damaged."""
    found, at, resumed = [], journal.acknowledged if after is None else after, -1
    while True:
        assert at > resumed, "the reader does not get on"
        resumed = at
        try:
            for record in journal.read(at, max_changes=10**9):
                found += numbers(record.changes)
                at = record.seq
        except JournalDamagedError as error:
            at = error.resume_after
        else:
            return found


def ten(number: int) -> list[Change]:
    return numbered(*range(number * 10, number * 10 + 10))


def append_until(error: type[Exception], journal: Journal, changes_of: Callable[[int], list[Change]]) -> int:
    """How many records it took before it raised."""
    for number in range(1_000_000):
        try:
            journal.append(changes_of(number))
        except error:
            return number
    raise AssertionError("it took everything")


def log_files(journal: Journal) -> list[Path]:
    return sorted(journal._directory.glob("*.log"))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- round trip ------------------------------------------------------------------------------------------------------


def test_every_kind_of_change_comes_back_as_it_went_in(opened):
    changes = every_change()
    assert {type(change) for change in changes} == set(get_args(Change))
    journal = opened()
    assert journal.append(changes) == 1
    [record] = journal.read(0, max_changes=1)
    assert (record.seq, record.changes) == (1, changes)
    abandon(journal)
    [record] = opened().read(0, max_changes=1)
    assert record.changes == changes


def test_records_come_back_in_order_from_where_the_reader_was(opened):
    journal = opened()
    assert [journal.append(numbered(number)) for number in range(1, 11)] == list(range(1, 11))
    assert [record.seq for record in journal.read(4, max_changes=10**9)] == [5, 6, 7, 8, 9, 10]
    assert (journal.last, journal.changes, journal.acknowledged) == (10, 10, 0)


def test_reading_stops_when_enough_was_read_and_never_inside_a_record(opened):
    journal = opened()
    for number in range(10):
        journal.append(numbered(number, number))
    assert [record.seq for record in journal.read(0, max_changes=5)] == [1, 2, 3]
    assert [record.seq for record in journal.read(3, max_changes=1)] == [4]


def test_an_empty_journal_is_nothing(opened):
    journal = opened()
    assert (list(journal.read(0, max_changes=5)), journal.last, journal.size_bytes, journal.usage) == ([], 0, 0, 0)


def test_reading_goes_on_from_file_to_file_while_more_is_appended(opened):
    journal = opened()
    for number in range(9):
        journal.append(bulky(number))
    assert len(log_files(journal)) == 3
    reader = journal.read(0, max_changes=10**9)
    seen = [number for _ in range(5) for number in numbers(next(reader).changes)]
    journal.append(bulky(9))
    journal.append(numbered(10))
    seen += [number for record in reader for number in numbers(record.changes)]
    seen += content(journal, after=len(seen))
    assert seen == list(range(11))


# -- acknowledgement -------------------------------------------------------------------------------------------------


def test_what_is_acknowledged_is_gone_after_a_restart(opened):
    journal = opened()
    for number in range(10):
        journal.append(numbered(number))
    journal.acknowledge(4)
    assert (journal.changes, journal.acknowledged) == (6, 4)
    journal.close()
    journal = opened()
    assert (content(journal), journal.changes, journal.acknowledged, journal.last) == ([4, 5, 6, 7, 8, 9], 6, 4, 10)


def test_files_go_when_everything_in_them_is_acknowledged(opened):
    journal = opened()
    for number in range(20):
        journal.append(bulky(number))
    assert len(log_files(journal)) == 7
    size = journal.size_bytes
    journal.acknowledge(10)
    assert len(log_files(journal)) == 4
    assert journal.size_bytes == sum(path.stat().st_size for path in log_files(journal)) < size
    journal.acknowledge(20)
    assert (journal.size_bytes, journal.changes, len(log_files(journal))) == (0, 0, 1)
    assert journal.append(numbered(20)) == 21
    assert content(journal) == [20]


def test_an_older_acknowledgement_and_one_of_the_future_change_nothing(opened):
    journal = opened()
    for number in range(3):
        journal.append(numbered(number))
    journal.acknowledge(2)
    journal.acknowledge(1)
    assert journal.acknowledged == 2
    journal.acknowledge(99)
    assert (journal.acknowledged, journal.changes) == (3, 0)
    assert journal.append(numbered(3)) == 4
    assert content(journal) == [3]


def test_a_lost_note_of_what_is_stored_repeats_and_loses_nothing(opened):
    journal = opened()
    for number in range(5):
        journal.append(numbered(number))
    journal.acknowledge(3)
    journal.close()
    (journal._directory / ACKED_FILE).unlink()
    assert content(opened()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("text", ["", "abc", "-7", "1e3", "\x00\x00\x00", "3 4", "9" * 40, "1000000"])
def test_a_note_that_makes_no_sense_is_not_believed(opened, text):
    journal = opened()
    for number in range(5):
        journal.append(numbered(number))
    journal.close()
    (journal._directory / ACKED_FILE).write_text(text)
    journal = opened()
    assert content(journal) == [0, 1, 2, 3, 4]
    assert journal.append(numbered(5)) == 6
    abandon(journal)
    assert content(opened()) == [0, 1, 2, 3, 4, 5]


def test_a_note_that_is_not_text_is_not_believed(opened):
    journal = opened()
    journal.append(numbered(1))
    journal.close()
    (journal._directory / ACKED_FILE).write_bytes(os.urandom(64) + b"\xff")
    assert content(opened()) == [1]


def test_a_note_ahead_of_what_a_power_cut_left_does_not_swallow_what_comes_next(opened):
    journal = opened()
    for number in range(10):
        journal.append(numbered(number))
    journal.acknowledge(10)
    journal.save_ack()
    abandon(journal)
    [path] = log_files(journal)
    os.truncate(path, path.stat().st_size // 2)  # the note reached the disk, the tail of the file did not
    journal = opened()
    for number in range(100, 110):
        journal.append(numbered(number))
    abandon(journal)
    assert content(opened())[-10:] == list(range(100, 110))


def test_the_note_is_only_written_when_there_is_news(opened, monkeypatch):
    journal = opened()
    journal.append(numbered(1))
    journal.save_ack()
    assert not (journal._directory / ACKED_FILE).exists()
    journal.acknowledge(1)
    journal.save_ack()
    assert (journal._directory / ACKED_FILE).read_text().strip() == "1"
    before = (journal._directory / ACKED_FILE).stat().st_mtime_ns
    journal.save_ack()
    assert (journal._directory / ACKED_FILE).stat().st_mtime_ns == before


def test_a_file_that_cannot_be_deleted_or_made_does_not_disturb_the_acknowledgement(opened, monkeypatch):
    journal = opened()
    for number in range(8):
        journal.append(bulky(number))

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "refused")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        patched.setattr(journal_module.os, "open", refused)
        with capture_logs() as logs:
            journal.acknowledge(8)
    assert "journal_file_kept" in [entry["event"] for entry in logs]
    assert (journal.acknowledged, journal.changes) == (8, 0)
    assert journal.size_bytes == sum(path.stat().st_size for path in log_files(journal))
    journal.append(bulky(8))
    journal.acknowledge(9)
    assert (journal.size_bytes, len(log_files(journal))) == (0, 1)


# -- torn tails and damage -------------------------------------------------------------------------------------------


def test_a_tail_torn_at_any_byte_is_cut_and_told_and_all_before_it_survives(opened):
    journal = opened()
    for number in range(3):
        journal.append(numbered(number))
    before = journal.size_bytes
    journal.append(numbered(3, 4))
    after = journal.size_bytes
    abandon(journal)
    [path] = log_files(journal)
    whole = path.read_bytes()
    for cut in range(before, after):
        for other in log_files(journal):
            other.unlink()
        path.write_bytes(whole[:cut])
        journal = Journal(journal._directory, limit_bytes=64 * MIB)
        with capture_logs() as logs:
            recovery = journal.open()
        assert (recovery.changes, recovery.torn_bytes) == (3, cut - before), cut
        assert path.stat().st_size == before
        told = [entry for entry in logs if entry["event"] == "journal_tail_cut"]
        assert [entry["bytes"] for entry in told] == ([cut - before] if cut > before else [])
        assert journal.append(numbered(9)) == 4
        assert content(journal) == [0, 1, 2, 9]
        journal.close()


@pytest.mark.parametrize("junk", [b"\x00" * 5000, b"\xff" * 17, bytes(range(256)) * 3])
def test_junk_behind_the_last_record_is_cut(opened, junk):
    journal = opened()
    journal.append(numbered(1))
    abandon(journal)
    with log_files(journal)[0].open("ab") as file:
        file.write(junk)
    journal = opened()
    assert content(journal) == [1]
    assert log_files(journal)[0].stat().st_size == journal.size_bytes


HEADER_BYTES = 24


def test_a_flipped_bit_costs_its_record_or_the_rest_of_its_file_and_is_told(opened):
    """Anywhere in a file that is not the newest: a payload costs its record, a header the rest of the file."""
    journal = opened()
    for number in range(12):
        journal.append(bulky(number))
    abandon(journal)
    second = log_files(journal)[1]
    sound, rng = second.read_bytes(), random.Random(5)
    record_bytes = len(sound) // 3
    for place in [*range(60), *(rng.randrange(len(sound)) for _ in range(60)), len(sound) - 1]:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << rng.randrange(8)
        second.write_bytes(damaged)
        for path in log_files(journal)[4:]:
            path.unlink()
        with capture_logs() as logs:
            journal = opened()
        number, offset = 3 + place // record_bytes, place % record_bytes
        told = [entry["event"] for entry in logs]
        if offset < HEADER_BYTES:
            assert content(journal) == [*range(number), *range(6, 12)], place
            assert (told, journal.damaged_files) == (["journal_file_damaged"], 1), place
        else:
            assert content(journal) == [*range(number), *range(number + 1, 12)], place
            with pytest.raises(JournalDamagedError, match=f"record {number + 1} is damaged") as raised:
                list(journal.read(0, max_changes=10**9))
            assert (raised.value.last_good, raised.value.resume_after) == (number, number + 1), place
            assert told == [], place
        abandon(journal)


def test_a_flipped_bit_in_the_newest_file_costs_no_more(opened):
    journal = opened()
    for number in range(3):
        journal.append(bulky(number))
    abandon(journal)
    [path] = log_files(journal)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    journal = opened()
    assert content(journal) == [0, 2]
    assert journal.append(numbered(9)) == 4
    assert content(journal) == [0, 2, 9]


def test_a_damaged_header_in_the_newest_file_costs_what_is_behind_it(opened):
    journal = opened()
    for number in range(3):
        journal.append(bulky(number))
    abandon(journal)
    [path] = log_files(journal)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3 + 3] ^= 1
    path.write_bytes(damaged)
    with capture_logs() as logs:
        journal = opened()
    assert [entry["event"] for entry in logs] == ["journal_tail_cut"]
    assert content(journal) == [0]
    assert journal.append(numbered(9)) == 2
    assert content(journal) == [0, 9]


def test_a_number_as_mongodb_hands_it_out_is_a_number(opened):
    class Int64(int):
        """As bson's: an integer of another class."""

    journal = opened()
    journal.append(numbered(Int64(2**40)))
    assert content(journal) == [2**40]


def test_what_cannot_be_written_down_is_refused_and_leaves_nothing(opened):
    journal = opened()
    for bad in (2**70, object(), "\ud800"):
        with pytest.raises((OverflowError, TypeError, ValueError)):
            journal.append(numbered(bad))
    assert (journal.size_bytes, journal.last) == (0, 0)
    journal.append(numbered(1))
    assert content(journal) == [1]


def test_a_sound_record_of_another_version_costs_only_itself(opened, monkeypatch):
    journal = opened()
    journal.append(numbered(1))
    with monkeypatch.context() as patched:
        patched.setattr(journal_files, "_encode", lambda _changes: b"\x91\x81\xa4type\xa7Unknown")
        journal.append(numbered(2))
    journal.append(numbered(3))
    abandon(journal)
    journal = opened()
    assert content(journal) == [1, 3]
    assert journal.append(numbered(4)) == 4


def test_a_file_that_vanished_or_cannot_be_read_costs_only_itself(opened, monkeypatch):
    journal = opened()
    for number in range(12):
        journal.append(bulky(number))
    log_files(journal)[1].unlink()
    with pytest.raises(JournalDamagedError):
        list(journal.read(3, max_changes=10**9))
    assert content(journal) == [0, 1, 2, 6, 7, 8, 9, 10, 11]


def test_files_of_others_are_left_alone(opened, tmp_path):
    journal = opened()
    journal.append(numbered(1))
    abandon(journal)
    (tmp_path / "journal" / "notes.log").write_text("mine")
    (tmp_path / "journal" / "00000000000000000007.log").mkdir()
    (tmp_path / "journal" / "²³.log").write_text("mine")
    journal = opened()
    assert content(journal) == [1]
    assert (tmp_path / "journal" / "notes.log").read_text() == "mine"


def test_a_directory_that_is_a_file_is_an_os_error(tmp_path):
    (tmp_path / "journal").write_text("")
    with pytest.raises(OSError):
        Journal(tmp_path / "journal", limit_bytes=MIB).open()


def test_opening_many_times_keeps_what_waits_and_leaves_no_heap_of_files(opened):
    journal = opened()
    journal.append(numbered(0))
    for number in range(1, 30):
        abandon(journal)
        journal = opened()
        assert content(journal) == list(range(number))
        if number % 3:
            journal.append(numbered(number))
        else:
            journal.append(numbered(number))
            abandon(journal)
            journal = opened()
            assert journal.last == number + 1
    for _ in range(30):  # without anything new
        abandon(journal)
        journal = opened()
    assert content(journal) == list(range(30))
    assert len(log_files(journal)) <= 32
    journal.acknowledge(journal.last)
    journal.close()
    opened().close()
    assert len(log_files(journal)) == 1


# -- limits and full disks -------------------------------------------------------------------------------------------


def test_at_its_limit_it_takes_nothing_more_until_something_is_acknowledged(opened):
    journal = opened(limit_bytes=MIB)
    number = append_until(JournalFullError, journal, bulky)
    assert MIB - 2 * len(BULKY) < journal.size_bytes <= MIB
    assert journal.usage > 0.95
    assert content(journal) == list(range(number))
    journal.acknowledge(journal.last // 2)
    assert journal.usage < 0.6
    assert journal.append(bulky(number)) == number + 1
    assert content(journal)[-1] == number


def test_a_full_disk_leaves_no_half_record(opened, monkeypatch):
    journal, sound, room = opened(), os.write, [0]

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "no space left")
        part = bytes(data)[: room[0]]
        room[0] -= len(part)
        return sound(descriptor, part)

    monkeypatch.setattr(journal_module.os, "write", write)
    room[0] = 1000
    taken = []
    for number in range(40):
        size = journal.size_bytes
        try:
            journal.append(numbered(number))
            taken.append(number)
        except OSError:
            assert journal.size_bytes == size == log_files(journal)[-1].stat().st_size
            room[0] = number * 10  # a little is freed
    assert 5 < len(taken) < 40
    assert content(journal) == taken
    abandon(journal)
    assert content(opened()) == taken


def test_half_a_record_that_cannot_be_taken_back_does_not_hide_later_ones(opened, monkeypatch):
    journal, sound = opened(), os.write
    journal.append(numbered(1))

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(errno.EIO, "broken")
        return sound(descriptor, bytes(data)[:20])

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", half)
        patched.setattr(journal_module.os, "ftruncate", refused)
        with pytest.raises(OSError):
            journal.append(numbered(2))
    journal.append(numbered(3))
    journal.append(numbered(4))
    assert content(journal) == [1, 3, 4]
    abandon(journal)
    assert content(opened()) == [1, 3, 4]


_FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from src.pipeline import journal_files
from src.pipeline.journal import ACKED_FILE, SMALLEST_SEGMENT_BYTES, Journal, JournalFullError
from src.pipeline.journal_files import JournalDamagedError
from tests.support.every_change import numbered
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), limit_bytes=64 << 20)
journal.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (10_001, 10_001))
number = 0
try:
    while True:
        journal.append(numbered(number))
        number += 1
except OSError as error:
    print(number, error.errno, journal.size_bytes, flush=True)
"""


def test_the_operating_system_refusing_to_write_more_leaves_no_half_record(tmp_path):
    directory = tmp_path / "journal"
    done = subprocess.run(
        [sys.executable, "-c", _FILLS_THE_DISK, str(directory), str(ROOT)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    count, number, size = map(int, done.stdout.split())
    assert number == errno.EFBIG
    assert count > 50
    journal = Journal(directory, limit_bytes=64 * MIB)
    recovery = journal.open()
    assert (recovery.changes, recovery.torn_bytes, journal.size_bytes) == (count, 0, size)
    assert content(journal) == list(range(count))
    journal.close()


def test_a_full_file_system_leaves_no_half_record_and_takes_more_when_there_is_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tiny file system cannot be mounted here")
    try:
        (disk / "other").write_bytes(b"x" * 150_000)
        journal = Journal(disk / "journal", limit_bytes=64 * MIB, segment_bytes=SMALLEST_SEGMENT_BYTES)
        journal.open()
        number = append_until(OSError, journal, ten)
        assert number > 20
        (disk / "other").unlink()
        for more in range(number, number + 20):
            journal.append(ten(more))
        assert content(journal) == list(range((number + 20) * 10))
        journal.acknowledge(journal.last)
        journal.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True, capture_output=True)


# -- reaching the disk -----------------------------------------------------------------------------------------------


def test_sync_tells_whether_there_was_something_to_bring(opened):
    journal = opened()
    assert journal.sync() is False
    journal.append(numbered(1))
    assert journal.sync(force=False) is False
    assert journal.sync() is True
    assert journal.sync() is False


def test_with_sync_always_each_record_is_on_disk_before_append_returns(opened, monkeypatch):
    synced: list[int] = []
    sound = os.fdatasync
    monkeypatch.setattr(journal_module.os, "fdatasync", lambda fd: (synced.append(fd), sound(fd)))
    journal = opened(sync_always=True)
    for number in range(3):
        journal.append(numbered(number))
        assert len(synced) == number + 1


def test_a_sync_that_failed_is_due_again(opened, monkeypatch):
    journal = opened()
    journal.append(numbered(1))

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "fdatasync", broken)
        with pytest.raises(OSError):
            journal.sync()
    assert journal.sync() is True


def test_closed_files_are_brought_to_disk_before_they_are_let_go_of(opened, monkeypatch):
    journal = opened()
    for number in range(8):
        journal.append(bulky(number))
    waiting = set(journal._retired) | {journal._fd}
    assert len(waiting) == 3
    synced: set[int] = set()
    sound = os.fdatasync
    monkeypatch.setattr(journal_module.os, "fdatasync", lambda fd: (synced.add(fd), sound(fd)))
    journal.sync()
    assert synced == waiting
    assert journal._retired == []


def test_the_names_of_new_files_reach_the_disk_too(opened, monkeypatch):
    journal = opened()
    synced: list[bool] = []
    sound = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").samefile(journal._directory))
        sound(descriptor)

    monkeypatch.setattr(journal_module.os, "fsync", fsync)
    journal.append(numbered(1))
    journal.sync()
    assert synced == [True]
    journal.append(numbered(2))
    journal.sync()
    assert synced == [True]


def test_syncing_in_a_thread_while_appending_and_rotating_leaks_nothing_and_harms_nobody(opened):
    before = descriptors()
    journal = opened()
    stop, errors = threading.Event(), []

    def keep_syncing() -> None:
        while not stop.is_set():
            try:
                journal.sync()
                journal.sync(force=False)
            except Exception as error:  # noqa: BLE001 - for the assertion below
                errors.append(error)

    threads = [threading.Thread(target=keep_syncing) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(600):
        seq = journal.append(bulky(number))
        if number % 50 == 49:
            assert content(journal) == list(range(journal.acknowledged, number + 1))
            journal.acknowledge(seq - 5)
    journal.close()  # while the others are still at it
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert descriptors() == before
    assert content(opened())[-5:] == list(range(595, 600))


def test_closing_waits_for_a_sync_under_way(opened, monkeypatch):
    journal = opened()
    journal.append(numbered(1))
    inside, go_on, order = threading.Event(), threading.Event(), []
    sound = os.fdatasync

    def slow(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(10)
            order.append("synced")
        sound(descriptor)

    monkeypatch.setattr(journal_module.os, "fdatasync", slow)
    thread = threading.Thread(target=journal.sync)
    thread.start()
    assert inside.wait(10)
    closing = threading.Thread(target=lambda: (journal.close(), order.append("closed")))
    closing.start()
    closing.join(0.05)
    go_on.set()
    thread.join(10)
    closing.join(10)
    assert order[-1] == "closed"
    assert "synced" in order


def test_closing_twice_and_syncing_afterwards_is_harmless(opened):
    journal = opened()
    journal.append(numbered(1))
    journal.close()
    journal.close()
    assert journal.sync() is False


def test_a_note_that_cannot_be_written_does_not_keep_the_rest_from_the_disk(opened, monkeypatch):
    journal = opened()
    journal.append(numbered(1))
    journal.append(numbered(2))
    journal.acknowledge(1)
    synced: list[int] = []
    monkeypatch.setattr(journal_module.os, "fdatasync", synced.append)

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_text", refused)
    before = descriptors()
    with pytest.raises(OSError):
        journal.close()
    assert synced
    assert descriptors() == before - 1


# -- kills -----------------------------------------------------------------------------------------------------------

_WRITES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from src.pipeline import journal_files
from src.pipeline.journal import ACKED_FILE, SMALLEST_SEGMENT_BYTES, Journal, JournalFullError
from src.pipeline.journal_files import JournalDamagedError
from tests.support.every_change import numbered
journal = Journal(Path(sys.argv[1]), limit_bytes=64 << 20, segment_bytes=1 << 16)
journal.open()
number = int(sys.argv[3])
while True:
    seq = journal.append(numbered(*range(number, number + 7)))
    number += 7
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    if number % 49 == 0 and seq > 200:
        journal.acknowledge(seq - 200)
        journal.save_ack()
"""


def test_after_kill_9_everything_whose_append_returned_is_there(tmp_path):
    directory, rng, appended = tmp_path / "journal", random.Random(7), 0
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(directory), str(ROOT), str(appended)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 400)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        appended = max(appended, *(int(line) for line in told[:-1]), 0) if len(told) > 1 else appended
        journal = Journal(directory, limit_bytes=64 * MIB)
        journal.open()
        found = content(journal)
        assert found == list(range(found[0], found[0] + len(found))), "a gap, or a change twice"
        assert found[-1] + 1 >= appended
        assert journal.changes == len(found)
        appended = found[-1] + 1
        journal.close()
