"""Order books into files of CSV: one per symbol and day, beside the collection and never in its way.

`CsvJob.listen` is a listener of the hub: it only queues. A thread writes each message at once and hands it to the
operating system. A full disk makes the queue longer; when that is full, messages are left out of the files (never out
of MongoDB) and counted.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from src.jobs.order_books.csv_archive import Archive, Compression
from src.jobs.order_books.csv_directory import DEFAULT_VENUE, RETRY_CAP_S, CsvDirectory, CsvOptions
from src.jobs.order_books.csv_files import FileKey
from src.jobs.order_books.csv_rows import ticker_of
from src.jobs.stoppable import is_set_within
from src.models.changes import BookChange, Change
from src.models.clock import Clock
from src.models.errors import ConfigurationError
from src.models.messages import Book
from src.models.metrics import (
    CSV_BOOKS_WRITTEN,
    CSV_COMPRESSED,
    CSV_DROPPED,
    CSV_FAILURES,
    CSV_FILES_OPEN,
    CSV_QUEUED,
    Metrics,
)
from src.store.lockfile import FileLock

TICK_S = 1.0
ARCHIVE_EVERY_S = 300.0
CLOSE_TIMEOUT_S = 5.0
LOCK_NAME = ".lock"

_EVERYWHERE = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EMFILE", "ENFILE", "ENODEV", "ESTALE", "ENOTCONN")
    if hasattr(errno, name)  # not every system has all of them
)
"""Errors that every other file would meet as well."""

Wanted = Callable[[str, str], bool]
"""Whether books of (venue, ticker) are to be written, on whichever board."""

_log = structlog.get_logger(__name__)


class CsvJob:
    """Writes the books that somebody wants; `run` is its supervised task. ``wanted`` is asked for each book."""

    def __init__(self, options: CsvOptions, *, wanted: Wanted, clock: Clock, metrics: Metrics) -> None:
        self._options = options
        self._wanted = wanted
        self._clock = clock
        self._metrics = metrics
        self._guard = threading.Lock()
        self._directory = CsvDirectory(options, guard=self._guard)
        self._lock: FileLock | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._archive_ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._queue: deque[Book] = deque()
        self._queued_levels = 0
        self._counting = threading.Lock()
        self._written: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._blocked: dict[FileKey, float] = {}
        self._pause_s = options.retry_s
        self.problem = ""
        """Why nothing is written now, in words; empty while all is well."""

    def listen(self, changes: Sequence[Change]) -> None:
        """Queue the wanted books among these changes; returns at once."""
        for change in changes:
            if isinstance(change, BookChange) and self._wanted(change.book.venue, ticker_of(change.book)):
                self._put(change.book)

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until ``stopping``, and even then: `finish` ends it, when everything that arrived has been told.

        Raises:
            RuntimeError: the writing thread died; called again, a new one goes on.
        """
        thread = self._thread = threading.Thread(target=self._work, name="csv", daemon=True)
        thread.start()
        ended = asyncio.Event()
        archive = asyncio.create_task(self._archive(ended), name="csv archive")
        try:
            while not stopping.is_set() and thread.is_alive():
                self._publish()
                if archive.done():
                    archive.result()
                await is_set_within(stopping, TICK_S / 2)
        finally:
            ended.set()
            self._archive_ends.set()
            await asyncio.gather(archive, return_exceptions=True)
            self._archive_ends.clear()
            self._publish()
        if not thread.is_alive():
            raise RuntimeError("the thread that writes CSV files ended by itself")

    async def finish(self) -> None:
        """Write what is queued, for up to `CLOSE_TIMEOUT_S`, close the files, and count what is left unwritten."""
        self._closing.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            await asyncio.to_thread(thread.join, CLOSE_TIMEOUT_S)
        with self._counting:
            left = len(self._queue)
            self._queue.clear()
            self._queued_levels = 0
        self._dropped["stopped"] += left
        if left or (thread is not None and thread.is_alive()):
            _log.warning("csv_not_finished", messages=left, why=self.problem or "the disk was too slow")
        self._publish()

    def stats(self) -> dict[str, Any]:
        """For ``/stats``."""
        return {
            "directory": str(self._options.directory),
            "layout": self._options.layout.value,
            "files_open": len(self._directory),
            "books_written": sum(self._written.values()),
            "queued": len(self._queue),
            "dropped": dict(self._dropped),
            "failures": dict(self._failures),
            "problem": self.problem,
        }

    # -- the side of the event loop ---------------------------------------------------------------------------------

    def _put(self, book: Book) -> None:
        levels = _weight(book)
        with self._counting:
            if self._queued_levels + levels > self._options.most_queued_levels:
                self._dropped["writing_paused" if self.problem else "queue_full"] += 1
                return
            self._queued_levels += levels
            self._queue.append(book)
        self._wake.set()

    def _publish(self) -> None:
        """Bring the counters of the thread into the metrics; those belong to the event loop."""
        for metric, counts in (
            (CSV_BOOKS_WRITTEN, self._written),
            (CSV_DROPPED, self._dropped),
            (CSV_FAILURES, self._failures),
        ):
            for label, count in list(counts.items()):
                grown = count - self._metrics.value(metric, label)
                if grown > 0:
                    self._metrics.add(metric, label, amount=grown)
        self._metrics.put(CSV_QUEUED, value=len(self._queue))
        self._metrics.put(CSV_FILES_OPEN, value=len(self._directory))

    async def _archive(self, ended: asyncio.Event) -> None:
        archive = Archive(
            self._options.directory,
            self._options.compression,
            default_venue=DEFAULT_VENUE,
            guard=self._guard,
            in_use=self._directory.in_use,
            stopping=self._archive_ends,
        )
        while not ended.is_set() and self._options.compression is not Compression.OFF:
            if self._lock is not None:  # the directory is ours
                done = await asyncio.to_thread(archive.run_pass, self._clock.wall_ms())
                self._metrics.add(CSV_COMPRESSED, amount=done.compressed)
                self._failures["compress"] += done.failed
            await is_set_within(ended, ARCHIVE_EVERY_S if self._lock is not None else TICK_S)

    # -- the side of the thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._step():
                if self.problem:
                    self._closing.wait(self._pause_s)
                    self._pause_s = min(2 * self._pause_s, RETRY_CAP_S)
        finally:
            self._directory.close()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _step(self) -> bool:
        """Wait for work and do it; True when it was the last."""
        self._wake.wait(TICK_S)
        self._wake.clear()
        closing = self._closing.is_set()
        try:
            if self._is_ready():
                self._write_queued()
                self._directory.close_ended(self._clock.wall_ms())
                if not self._queue:
                    self._resume()
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: whatever fails, collecting goes on
            self._pause("fault", repr(error))
            _log.exception("csv_fault")
        return closing

    def _is_ready(self) -> bool:
        """Make the directory and lock it against other programs; False while that does not work."""
        if self._lock is not None:
            return True
        lock = FileLock(self._options.directory / LOCK_NAME)
        try:
            self._options.directory.mkdir(parents=True, exist_ok=True)
            if not lock.try_acquire():
                self._pause("lock", f"another program writes there ({lock.holder()})")
                return False
        except (OSError, ConfigurationError) as error:
            self._pause("directory", str(error))
            return False
        lock.sign("CSV files")
        self._lock = lock
        self._resume()
        return True

    def _write_queued(self) -> None:
        while self._queue:
            book = self._queue[0]
            if not self._write(book):
                return
            with self._counting:
                if self._queue and self._queue[0] is book:
                    self._queue.popleft()
                    self._queued_levels -= _weight(book)

    def _write(self, book: Book) -> bool:
        """Write one book, or count why not; False when the disk takes nothing and it should be tried again."""
        key, now = FileKey(book.venue, book.symbol), self._clock.monotonic()
        if self._blocked.get(key, 0.0) > now:
            self._dropped["file_unusable"] += 1
            return True
        try:
            self._directory.write(book)
        except OSError as error:
            self._directory.forget(book)
            if error.errno in _EVERYWHERE:
                self._pause("disk", str(error))
                return False
            self._failures["file"] += 1
            self._dropped["file_unusable"] += 1
            self._blocked[key] = now + RETRY_CAP_S
            _log.warning("csv_file_unusable", venue=key.venue, symbol=key.symbol, error=str(error))
        except Exception:  # noqa: BLE001 - one book must not stand in the way of the others
            self._failures["book"] += 1
            self._dropped["unwritable"] += 1
            if self._failures["book"] == 1:
                _log.exception("csv_book_unwritable", venue=key.venue, symbol=key.symbol)
        else:
            self._written[book.venue] += 1
            self._blocked.pop(key, None)
            self._resume()
        return True

    def _pause(self, what: str, why: str) -> None:
        self._failures[what] += 1
        if not self.problem:
            _log.error(
                "csv_writing_paused",
                directory=str(self._options.directory),
                error=why,
                remedy="free space there or set ORDERBOOK_DIR; collecting goes on, MongoDB gets everything",
            )
        self.problem = why

    def _resume(self) -> None:
        if self.problem:
            _log.info("csv_writing_resumed", queued=len(self._queue), dropped=sum(self._dropped.values()))
        self.problem = ""
        self._pause_s = self._options.retry_s


def _weight(book: Book) -> int:
    return len(book.bids) + len(book.asks) + 1
