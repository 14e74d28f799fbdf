"""The job beside the collection: it queues at once, writes in a thread, survives a full disk, and says what is missing."""

from __future__ import annotations

import asyncio
import errno
import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from src.jobs.order_books import csv_files, csv_writer
from src.jobs.order_books.csv_archive import Compression
from src.jobs.order_books.csv_directory import CsvDirectory, CsvOptions
from src.jobs.order_books.csv_rows import Layout
from src.jobs.order_books.csv_writer import CsvJob
from src.models.changes import BookChange, TradeSeen
from src.models.clock import ManualClock
from src.models.messages import Trade
from src.models.metrics import CSV_BOOKS_WRITTEN, CSV_COMPRESSED, CSV_DROPPED, CSV_FAILURES, CSV_FILES_OPEN, Metrics
from src.store.lockfile import FileLock
from tests.support.books import DAY_MS, T0, read_bytes, read_rows, sided, told, whole

JAKARTA_MIDNIGHT = T0 + (24 * 60 - 11 * 60 - 5) * 60_000 - 42_178


class Bench:
    def __init__(self, directory, **options):
        self.clock = ManualClock(wall_ms=T0)
        self.metrics = Metrics()
        self.wanted = {("hyperliquid", "BTC"), ("stockbit", "BBCA"), ("stockbit", "TLKM")}
        self.directory = directory
        options = CsvOptions(directory, retry_s=0.01, **options)
        self.job = CsvJob(options, wanted=lambda *key: key in self.wanted, clock=self.clock, metrics=self.metrics)

    def see(self, *books):
        self.job.listen([BookChange(book, changed=True) for book in books])

    def paths(self):
        return sorted(
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if path.is_file() and path.name[0] != "."
        )

    @asynccontextmanager
    async def running(self):
        stopping = asyncio.Event()
        task = asyncio.create_task(self.job.run(stopping))
        try:
            yield self
        finally:
            stopping.set()
            await task
            await self.job.finish()

    async def until(self, condition, timeout_s=20.0):
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread
                await asyncio.sleep(0.005)

    async def until_written(self, count):
        await self.until(lambda: self.metrics.total(CSV_BOOKS_WRITTEN) >= count)


async def test_wanted_books_are_written_and_others_not(tmp_path):
    bench = Bench(tmp_path / "data" / "orderbook")
    async with bench.running():
        bench.see(whole("BTC"), whole("ETH"), sided(bids_told=told()), sided("BMRI", bids_told=told()))
        bench.job.listen([TradeSeen(Trade("hyperliquid", "BTC", "1", "1", "1", "B", T0, T0))])
        await bench.until_written(2)
        assert bench.paths() == ["2026-02-04_BBCA.csv", "hyperliquid/2026-02-04_BTC.csv"]
        assert len(read_rows(bench.directory / "hyperliquid/2026-02-04_BTC.csv")) == 1 + 5
        assert len(read_rows(bench.directory / "2026-02-04_BBCA.csv")) == 1 + 3
        await bench.until(lambda: bench.metrics.value(CSV_FILES_OPEN) == 2)
    assert bench.metrics.value(CSV_BOOKS_WRITTEN, "stockbit") == 1
    assert bench.metrics.total(CSV_DROPPED) == 0


async def test_boards_have_files_of_their_own(tmp_path):
    bench = Bench(tmp_path)
    async with bench.running():
        bench.see(sided(bids_told=told()), sided(board="NG", bids_told=told()))
        await bench.until_written(2)
    assert bench.paths() == ["2026-02-04_BBCA.csv", "2026-02-04_NG.BBCA.csv"]


async def test_sides_are_written_once_each(tmp_path):
    bench = Bench(tmp_path, layout=Layout.FULL)
    first, second, third = told(seq=1), told(T0 + 3, "t2", 2), told(T0 + 9, "t3", 3)
    async with bench.running():
        bench.see(
            sided(bids_told=first), sided(bids_told=first, asks_told=second), sided(bids_told=third, asks_told=second)
        )
        await bench.until_written(3)
    _, *rows = read_rows(tmp_path / "2026-02-04_BBCA.csv")
    assert [(row[4], row[10]) for row in rows] == [("BID", "1")] * 3 + [("OFFER", "2")] * 2 + [("BID", "3")] * 3


async def test_a_new_day_of_the_exchange_begins_a_new_file(tmp_path):
    bench = Bench(tmp_path, compression=Compression.OFF)
    async with bench.running():
        bench.see(
            sided(at=JAKARTA_MIDNIGHT - 2, bids_told=told(seq=1)), sided(at=JAKARTA_MIDNIGHT, bids_told=told(seq=2))
        )
        await bench.until_written(2)
    assert bench.paths() == ["2026-02-04_BBCA.csv", "2026-02-05_BBCA.csv"]


async def test_midnight_passes_also_while_idle_and_yesterday_is_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_writer, "ARCHIVE_EVERY_S", 0.05)
    bench = Bench(tmp_path)
    async with bench.running():
        bench.see(sided(bids_told=told()))
        await bench.until_written(1)
        await bench.until(lambda: bench.metrics.value(CSV_FILES_OPEN) == 1)
        before = read_bytes(tmp_path / "2026-02-04_BBCA.csv")
        bench.clock.advance(timedelta(milliseconds=JAKARTA_MIDNIGHT - T0).total_seconds())
        await bench.until(lambda: bench.metrics.value(CSV_FILES_OPEN) == 0)
        assert bench.paths() == ["2026-02-04_BBCA.csv"]
        bench.clock.advance(601)
        await bench.until(lambda: bench.metrics.value(CSV_COMPRESSED) == 1)
        assert bench.paths() == ["2026-02-04_BBCA.csv.zst"]
        assert read_bytes(tmp_path / "2026-02-04_BBCA.csv.zst") == before


async def test_a_clock_set_back_over_midnight_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_writer, "ARCHIVE_EVERY_S", 0.05)
    bench = Bench(tmp_path)
    bench.clock.advance((JAKARTA_MIDNIGHT - T0) / 1000 + 700)
    async with bench.running():
        bench.see(sided(at=JAKARTA_MIDNIGHT - 900_000, bids_told=told(text="first")))
        await bench.until_written(1)
        await bench.until(lambda: bench.paths() == ["2026-02-04_BBCA.csv.zst"])
        bench.see(sided(at=JAKARTA_MIDNIGHT - 800_000, bids_told=told(text="second")))
        await bench.until_written(2)
        await bench.until(lambda: bench.metrics.value(CSV_COMPRESSED) == 2)
    header, *rows = read_rows(tmp_path / "2026-02-04_BBCA.csv.zst")
    assert header[0] == "timestamp"
    assert [row[0] for row in rows] == ["first"] * 3 + ["second"] * 3


async def test_a_restart_goes_on_in_the_same_file(tmp_path):
    for number in range(3):
        bench = Bench(tmp_path)
        async with bench.running():
            bench.see(sided(bids_told=told(seq=number)))
            await bench.until_written(1)
    text = (tmp_path / "2026-02-04_BBCA.csv").read_text()
    assert text.count("timestamp") == 1
    assert text.count("\n") == 1 + 9


async def test_what_is_queued_at_the_stop_and_what_still_comes_is_written(tmp_path):
    bench, stopping = Bench(tmp_path), asyncio.Event()
    task = asyncio.create_task(bench.job.run(stopping))
    bench.see(*(sided(at=T0 + n, bids_told=told(seq=n)) for n in range(200)))
    stopping.set()
    await task
    bench.see(*(sided(at=T0 + n, bids_told=told(seq=n)) for n in range(200, 250)))
    await bench.job.finish()
    assert len(read_rows(tmp_path / "2026-02-04_BBCA.csv")) == 1 + 750
    assert bench.metrics.value(CSV_FILES_OPEN) == 0


def refuse(monkeypatch, error, room):
    """Let every write fail while ``room`` is not set."""
    write = csv_files.os.write

    def guarded(descriptor, data):
        if not room.is_set():
            raise OSError(error, "refused")
        return write(descriptor, data)

    monkeypatch.setattr(csv_files.os, "write", guarded)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
async def test_a_full_disk_is_told_counted_and_survived(tmp_path, monkeypatch, error):
    room = threading.Event()
    refuse(monkeypatch, error, room)
    bench = Bench(tmp_path, most_queued_levels=60)
    with capture_logs() as logs:
        async with bench.running():
            bench.see(sided(bids_told=told(seq=0)))
            await bench.until(lambda: bench.job.problem)
            bench.see(*(sided(at=T0 + n, bids_told=told(seq=n)) for n in range(1, 30)))
            await bench.until(lambda: bench.metrics.value(CSV_DROPPED, "writing_paused") > 0)
            assert bench.job.stats()["problem"]
            assert bench.job.stats()["queued"] == 10
            room.set()
            await bench.until_written(10)
            await bench.until(lambda: not bench.job.problem)
    assert bench.metrics.value(CSV_DROPPED, "writing_paused") == 20
    assert bench.metrics.value(CSV_FAILURES, "disk") >= 1
    header, *rows = read_rows(tmp_path / "2026-02-04_BBCA.csv")
    assert (header[0], len(rows)) == ("timestamp", 30)
    events = [log["event"] for log in logs]
    assert (events.count("csv_writing_paused"), events.count("csv_writing_resumed")) == (1, 1)


async def test_what_a_stop_leaves_unwritten_is_counted(tmp_path, monkeypatch):
    refuse(monkeypatch, errno.ENOSPC, threading.Event())
    bench = Bench(tmp_path)
    async with bench.running():
        bench.see(*(sided(at=T0 + n, bids_told=told(seq=n)) for n in range(7)))
        await bench.until(lambda: bench.job.problem)
    assert bench.metrics.value(CSV_DROPPED, "stopped") == 7


async def test_one_unusable_file_costs_the_others_nothing(tmp_path):
    (tmp_path / "2026-02-04_BBCA.csv").mkdir()
    bench = Bench(tmp_path)
    async with bench.running():
        for n in range(5):
            bench.see(
                sided("BBCA", at=T0 + n, bids_told=told(seq=n)), sided("TLKM", at=T0 + n, bids_told=told(seq=n))
            )
        await bench.until_written(5)
        assert not bench.job.problem
    assert bench.metrics.value(CSV_DROPPED, "file_unusable") == 5
    assert bench.metrics.value(CSV_FAILURES, "file") == 1
    assert len(read_rows(tmp_path / "2026-02-04_TLKM.csv")) == 1 + 15


async def test_a_directory_of_another_program_is_waited_for(tmp_path):
    other = FileLock(tmp_path / csv_writer.LOCK_NAME)
    assert other.try_acquire()
    bench = Bench(tmp_path)
    async with bench.running():
        bench.see(sided(bids_told=told()))
        await bench.until(lambda: "another program" in bench.job.problem)
        assert bench.paths() == []
        other.release()
        await bench.until_written(1)
    assert bench.paths() == ["2026-02-04_BBCA.csv"]


async def test_a_directory_that_cannot_be_made_is_told_and_made_later(tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    bench = Bench(place / "orderbook")
    async with bench.running():
        bench.see(sided(bids_told=told()))
        await bench.until(lambda: bench.job.problem)
        place.unlink()
        await bench.until_written(1)
    assert bench.metrics.value(CSV_FAILURES, "directory") >= 1


async def test_a_deleted_or_moved_file_is_begun_anew(tmp_path):
    bench = Bench(tmp_path)
    path = tmp_path / "2026-02-04_BBCA.csv"
    async with bench.running():
        bench.see(sided(bids_told=told(seq=1)))
        await bench.until_written(1)
        path.rename(tmp_path / "kept.csv")
        await bench.until(lambda: bench.metrics.value(CSV_FILES_OPEN) == 0)
        bench.see(sided(bids_told=told(seq=2)))
        await bench.until_written(2)
    assert len(read_rows(path)) == len(read_rows(tmp_path / "kept.csv")) == 4


async def test_a_book_that_cannot_be_written_costs_the_others_nothing(tmp_path, monkeypatch):
    write = CsvDirectory.write
    bench = Bench(tmp_path)

    def fail(self, book):
        if book.symbol == "BBCA":
            raise ZeroDivisionError
        write(self, book)

    monkeypatch.setattr(CsvDirectory, "write", fail)
    with capture_logs() as logs:
        async with bench.running():
            for n in range(5):
                bench.see(
                    sided("BBCA", at=T0 + n, bids_told=told(seq=n)), sided("TLKM", at=T0 + n, bids_told=told(seq=n))
                )
            await bench.until_written(5)
    assert bench.metrics.value(CSV_DROPPED, "unwritable") == 5
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["csv_book_unwritable"]


async def test_a_fault_elsewhere_is_told_and_passes(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(CsvDirectory, "close_ended", lambda self, now_ms: 1 / 0)
        async with bench.running():
            await bench.until(lambda: "ZeroDivision" in bench.job.problem)
            patched.undo()
            bench.see(sided(bids_told=told(seq=2)))
            await bench.until_written(1)
            await bench.until(lambda: not bench.job.problem)
    assert bench.metrics.value(CSV_FAILURES, "fault") >= 1
    assert "csv_fault" in [log["event"] for log in logs]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_is_noticed_and_replaced(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(CsvJob, "_step", lambda self: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(RuntimeError, match="ended by itself"):
            await bench.job.run(asyncio.Event())
    async with bench.running():
        bench.see(sided(bids_told=told(seq=2)))
        await bench.until_written(1)
    assert len(read_rows(tmp_path / "2026-02-04_BBCA.csv")) == 4


async def test_the_queue_is_bounded_before_anything_runs(tmp_path):
    bench = Bench(tmp_path, most_queued_levels=100)
    bench.see(*(whole(at=T0 + n) for n in range(50)))
    assert bench.job.stats()["queued"] == 16
    assert bench.job.stats()["dropped"] == {"queue_full": 34}


def test_the_directory_writes_to_the_day_of_arrival(tmp_path):
    directory = CsvDirectory(CsvOptions(tmp_path), guard=threading.Lock())
    for days in (0, 1, 0):
        directory.write(whole(at=T0 + days * DAY_MS))
    directory.close()
    assert len(read_rows(tmp_path / "hyperliquid/2026-02-04_BTC.csv")) == 1 + 10
    assert len(read_rows(tmp_path / "hyperliquid/2026-02-05_BTC.csv")) == 1 + 5
