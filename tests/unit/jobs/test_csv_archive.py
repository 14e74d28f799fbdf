"""Compressing ended days: atomic, resumable, nothing lost and nothing twice, whatever is in the way."""

from __future__ import annotations

import threading
from datetime import date

import pytest
from structlog.testing import capture_logs

from src.jobs.order_books import csv_archive
from src.jobs.order_books.csv_archive import REST_MS, Archive, Compression
from src.jobs.order_books.exchange_days import WIB, day_of
from tests.support.books import DAY_MS, read_bytes

HEAD = b"timestamp,price,lots,total_value,side\n"
END = day_of(date(2026, 2, 4), WIB).end_ms
LATER = END + REST_MS
BOTH = pytest.mark.parametrize(("how", "suffix"), [(Compression.ZSTD, ".zst"), (Compression.GZIP, ".gz")])


class Bench:
    def __init__(self, directory, how=Compression.ZSTD):
        self.directory = directory
        self.open = set()
        self.stopping = threading.Event()
        self.guard = threading.Lock()
        self.archive = Archive(
            directory, how, default_venue="stockbit", guard=self.guard, in_use=self.in_use, stopping=self.stopping
        )

    def in_use(self, path):
        assert self.guard.locked()
        return path in self.open

    def run(self, now_ms=LATER):
        done = self.archive.run_pass(now_ms)
        return done.compressed, done.waiting, done.failed


def put(directory, name="2026-02-04_BBCA.csv", content=HEAD + b"1\n2\n"):
    directory.mkdir(exist_ok=True, parents=True)
    path = directory / name
    path.write_bytes(content)
    return path


@BOTH
def test_a_file_of_an_ended_day_is_replaced_by_a_compressed_one(tmp_path, how, suffix):
    path = put(tmp_path, content=HEAD + b"1,2,3\n" * 50_000)
    assert Bench(tmp_path, how).run() == (1, 0, 0)
    packed = path.with_name(path.name + suffix)
    assert sorted(tmp_path.iterdir()) == [packed]
    assert read_bytes(packed) == HEAD + b"1,2,3\n" * 50_000
    assert packed.stat().st_size < 10_000


@pytest.mark.parametrize(
    ("venue", "name", "now_ms", "ended"),
    [
        ("", "2026-02-04_BBCA.csv", LATER - 1, False),
        ("", "2026-02-04_BBCA.csv", LATER, True),
        ("hyperliquid", "2026-02-04_BTC.csv", LATER + 7 * 3_600_000 - 1, False),
        ("hyperliquid", "2026-02-04_BTC.csv", LATER + 7 * 3_600_000, True),
        ("futu", "2026-02-04_HK.00700.csv", LATER - 3_600_000, True),
        ("futu", "2026-02-04_US.AAPL.csv", LATER + 11 * 3_600_000, False),
        ("futu", "2026-02-04_US.AAPL.csv", LATER + 12 * 3_600_000, True),
    ],
)
def test_a_day_ends_at_the_midnight_of_its_exchange(tmp_path, venue, name, now_ms, ended):
    put(tmp_path / venue, name)
    assert Bench(tmp_path).run(now_ms) == (int(ended), 0, 0)


def test_other_files_and_links_are_left_alone(tmp_path):
    kept = [put(tmp_path, name) for name in ("notes.csv", "2026-02-04_BBCA.txt", ".lock", "2026-02-30_X.csv")]
    outside = put(tmp_path / "outside" / "deep", "2026-02-04_TLKM.csv")
    (tmp_path / "2026-02-04_LINK.csv").symlink_to(outside)
    assert Bench(tmp_path).run() == (0, 0, 0)
    assert all(path.exists() for path in (*kept, outside))


def test_a_file_that_is_written_to_waits(tmp_path):
    bench, path = Bench(tmp_path), put(tmp_path)
    bench.open.add(path)
    assert bench.run() == (0, 1, 0)
    assert path.exists()
    bench.open.clear()
    assert bench.run() == (1, 0, 0)


@BOTH
def test_lines_that_come_after_the_compression_are_added_behind_one_header(tmp_path, how, suffix):
    bench, path = Bench(tmp_path, how), put(tmp_path)
    bench.run()
    put(tmp_path, content=HEAD + b"3\n")
    bench.run()
    put(tmp_path, content=HEAD + b"4\n")
    bench.run()
    assert read_bytes(path.with_name(path.name + suffix)) == HEAD + b"1\n2\n3\n4\n"
    assert not path.exists()


@BOTH
def test_killed_before_the_plain_file_was_removed_nothing_is_there_twice(tmp_path, how, suffix):
    bench, path = Bench(tmp_path, how), put(tmp_path)
    bench.run()
    put(tmp_path, content=HEAD + b"3\n")
    bench.run()
    put(tmp_path, content=HEAD + b"3\n")  # the removal did not reach the disk
    assert bench.run() == (1, 0, 0)
    assert read_bytes(path.with_name(path.name + suffix)) == HEAD + b"1\n2\n3\n"
    put(tmp_path, content=HEAD)
    assert bench.run() == (1, 0, 0)
    assert read_bytes(path.with_name(path.name + suffix)) == HEAD + b"1\n2\n3\n"


def test_what_an_earlier_run_did_not_finish_is_removed(tmp_path):
    path = put(tmp_path)
    halves = [put(tmp_path, path.name + ".zst.part", b"half"), put(tmp_path / "futu", "x.csv.gz.part", b"half")]
    assert Bench(tmp_path).run() == (1, 0, 0)
    assert not any(half.exists() for half in halves)


def test_off_leaves_everything_as_it_is(tmp_path):
    path = put(tmp_path)
    assert Bench(tmp_path, Compression.OFF).run() == (0, 0, 0)
    assert path.exists()


def test_a_full_disk_keeps_the_plain_file_and_is_told(tmp_path, monkeypatch):
    bench, path = Bench(tmp_path), put(tmp_path)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(csv_archive.os, "fsync", no_space)
        assert bench.run() == (0, 0, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert logs[0]["event"] == "csv_file_not_compressed"
    assert bench.run() == (1, 0, 0)


@BOTH
def test_a_broken_compressed_file_is_told_and_nothing_is_removed(tmp_path, how, suffix):
    path = put(tmp_path)
    put(tmp_path, path.name + suffix, b"not compressed at all")
    other = put(tmp_path, "2026-02-04_TLKM.csv")
    with capture_logs() as logs:
        assert Bench(tmp_path, how).run() == (1, 0, 1)
    assert path.exists()
    assert not other.exists()
    assert logs[0]["event"] == "csv_file_not_compressed"


def test_a_file_that_grows_meanwhile_is_kept_for_the_next_pass(tmp_path, monkeypatch):
    bench, path = Bench(tmp_path), put(tmp_path)
    write = Archive._write

    def grow(self, plain, target, unfinished):
        size = write(self, plain, target, unfinished)
        with plain.open("ab") as file:
            file.write(b"late\n")
        return size

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "_write", grow)
        assert bench.run() == (0, 1, 0)
    assert bench.run() == (1, 0, 0)
    assert read_bytes(path.with_name(path.name + ".zst")) == HEAD + b"1\n2\nlate\n"


def test_a_stop_ends_the_pass_and_the_next_one_goes_on(tmp_path):
    bench = Bench(tmp_path)
    paths = [put(tmp_path, f"2026-02-0{day}_BBCA.csv") for day in (1, 2, 3)]
    bench.stopping.set()
    assert bench.run() == (0, 0, 0)
    assert sorted(tmp_path.iterdir()) == paths
    bench.stopping.clear()
    assert bench.run() == (3, 0, 0)


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with capture_logs() as logs:
        assert Bench(tmp_path / "gone").run() == (0, 0, 1)
    assert logs[0]["event"] == "csv_directory_unreadable"
    assert DAY_MS == 86_400_000
