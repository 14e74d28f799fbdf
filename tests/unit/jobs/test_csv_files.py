"""Files that are appended to: whole lines, one header, repaired after a kill, whatever else happened to them."""

from __future__ import annotations

import errno
import os
from datetime import UTC, date
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from src.jobs.order_books import csv_files
from src.jobs.order_books.csv_files import DayFile, FileKey, OpenFiles
from src.jobs.order_books.exchange_days import day_of

HEAD = b"timestamp,price,lots,total_value,side\n"
DAY = day_of(date(2026, 2, 4), UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "2026-02-04_BBCA.csv"


def opened(path, head=HEAD):
    return DayFile(path, head, DAY)


def test_what_is_appended_is_there_at_once(path):
    file = opened(path)
    assert path.read_bytes() == HEAD
    file.append(b"1\n2\n")
    assert path.read_bytes() == HEAD + b"1\n2\n"
    file.close()
    file.close()


def test_a_second_opening_goes_on_behind_one_header(path):
    for text in (b"1\n", b"2\n", b"3\n"):
        file = opened(path)
        file.append(text)
        file.close()
    assert path.read_bytes() == HEAD + b"1\n2\n3\n"


@pytest.mark.parametrize("torn", [b"", b"t", HEAD[:10], HEAD[:-1]])
def test_a_torn_header_is_written_anew(path, torn):
    path.write_bytes(torn)
    file = opened(path)
    file.append(b"1\n")
    assert path.read_bytes() == HEAD + b"1\n"


@pytest.mark.parametrize("torn", [b"2", b"2026-02-04T11:05:42", b'"two', b"x" * 200_000])
def test_a_torn_last_line_is_cut_off(path, torn):
    path.write_bytes(HEAD + b"1\n" + torn)
    with capture_logs() as logs:
        file = opened(path)
    file.append(b"3\n")
    assert path.read_bytes() == HEAD + b"1\n3\n"
    assert [(log["event"], log["cut_bytes"]) for log in logs] == [("csv_file_repaired", len(torn))]


def test_a_file_written_by_others_with_windows_line_ends_is_gone_on_with(path):
    path.write_bytes(HEAD[:-1] + b"\r\n1,2\r\n")
    file = opened(path)
    file.append(b"3\n")
    assert path.read_bytes() == HEAD[:-1] + b"\r\n1,2\r\n3\n"


def test_a_file_with_other_columns_is_put_aside(path):
    for number, head in enumerate((b"a,b\n1,2\n", b"c,d\n", HEAD[:-1] + b",more\n"), 1):
        path.write_bytes(head)
        with capture_logs() as logs:
            opened(path).close()
        assert path.read_bytes() == HEAD
        assert path.with_name(f"2026-02-04_BBCA.before-{number}.csv").read_bytes() == head
        assert logs[0]["event"] == "csv_file_put_aside"


class FullDisk:
    """`os.write` of a disk with room for so many bytes."""

    def __init__(self, room):
        self.room = room
        self._write = os.write

    def __call__(self, descriptor, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(data)[: self.room]
        self.room -= len(part)
        return self._write(descriptor, part)


@pytest.mark.parametrize("room", [0, 1, 5])
def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch, room):
    file = opened(path)
    file.append(b"1\n")
    disk = FullDisk(room)
    monkeypatch.setattr(csv_files.os, "write", disk)
    with pytest.raises(OSError, match="No space"):
        file.append(b"22222222\n")
    assert path.read_bytes() == HEAD + b"1\n"
    disk.room = 1000
    file.append(b"3\n")
    assert path.read_bytes() == HEAD + b"1\n3\n"


def test_a_full_disk_leaves_no_half_header(path, monkeypatch):
    disk = FullDisk(7)
    monkeypatch.setattr(csv_files.os, "write", disk)
    with pytest.raises(OSError, match="No space"):
        opened(path)
    assert path.read_bytes() == b""
    disk.room = 1000
    opened(path).close()
    assert path.read_bytes() == HEAD


def test_a_link_or_a_directory_is_not_written_to(tmp_path, path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"keep me")
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        opened(path)
    assert elsewhere.read_bytes() == b"keep me"
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="irectory"):
        opened(path)


def descriptors():
    """How many descriptors this process has open, 0 where the system does not tell."""
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


def test_a_failed_opening_leaks_no_descriptor(path):
    path.mkdir()
    before = descriptors()
    for _ in range(20):
        with pytest.raises(OSError, match="irectory"):
            opened(path)
    assert descriptors() <= before


def test_a_moved_file_is_noticed(path):
    file = opened(path)
    assert file.is_there()
    path.rename(path.with_suffix(".old"))
    assert not file.is_there()
    path.write_bytes(HEAD)
    assert not file.is_there()


class TestOpenFiles:
    def keys(self, files, count):
        return [key for key in (FileKey("v", f"S{n}") for n in range(count)) if files.get(key) is not None]

    def test_at_most_so_many_are_open_and_the_least_used_goes(self, tmp_path):
        files = OpenFiles(most=3)
        made = {}
        for number in range(3):
            made[number] = opened(tmp_path / f"{number}.csv")
            files.put(FileKey("v", f"S{number}"), made[number])
        assert files.get(FileKey("v", "S0")) is made[0]
        files.put(FileKey("v", "S3"), opened(tmp_path / "3.csv"))
        assert len(files) == 3
        assert [key.symbol for key in self.keys(files, 4)] == ["S0", "S2", "S3"]
        with pytest.raises(OSError, match="descriptor"):
            made[1].append(b"x\n")

    def test_ended_days_are_closed_at_their_midnight_also_while_idle(self, tmp_path):
        files = OpenFiles()
        files.put(FileKey("v", "S0"), opened(tmp_path / "0.csv"))
        files.close_outside(DAY.end_ms - 1)
        assert len(files) == 1
        files.close_outside(DAY.end_ms)
        assert len(files) == 0

    def test_moved_files_are_let_go(self, tmp_path):
        files = OpenFiles()
        files.put(FileKey("v", "S0"), opened(tmp_path / "0.csv"))
        (tmp_path / "0.csv").unlink()
        files.close_outside(DAY.begin_ms)
        assert len(files) == 0

    def test_everything_can_be_closed(self, tmp_path):
        files = OpenFiles()
        for number in range(5):
            files.put(FileKey("v", f"S{number}"), opened(tmp_path / f"{number}.csv"))
        files.drop(FileKey("v", "S1"))
        files.drop(FileKey("v", "nobody"))
        assert len(list(files)) == 4
        files.close_all()
        assert len(files) == 0
