"""The CSV files of one directory: which book goes into which file. Blocking; for a thread."""

from __future__ import annotations

import threading
from pathlib import Path

from msgspec import Struct

from src.jobs.order_books.csv_archive import Compression
from src.jobs.order_books.csv_files import MOST_HANDLES, DayFile, FileKey, OpenFiles
from src.jobs.order_books.csv_rows import Layout, file_name, header, lines, updates_of
from src.jobs.order_books.exchange_days import day_at, zone_of
from src.models.messages import Book

DEFAULT_VENUE = "stockbit"
"""Its files lie in the directory itself, as documented; those of others in a directory with the venue's name."""

MOST_QUEUED_LEVELS = 200_000
"""Price levels waiting for the disk (about 200 bytes each)."""

RETRY_S = 2.0
RETRY_CAP_S = 30.0
MOST_REMEMBERED = 10_000


class CsvOptions(Struct, frozen=True):
    """How files are written.

    Attributes:
        directory: where they go; made where missing.
        layout: their columns.
        compression: what becomes of those of days that have ended.
        most_handles: files open at a time.
        most_queued_levels: price levels that may wait for the disk.
        retry_s: first pause after a full disk; doubled up to `RETRY_CAP_S`.
    """

    directory: Path
    layout: Layout = Layout.SIMPLE
    compression: Compression = Compression.ZSTD
    most_handles: int = MOST_HANDLES
    most_queued_levels: int = MOST_QUEUED_LEVELS
    retry_s: float = RETRY_S


class CsvDirectory:
    """The files of one directory, written by one thread. ``guard`` as in `Archive`."""

    def __init__(self, options: CsvOptions, *, guard: threading.Lock) -> None:
        self._options = options
        self._guard = guard
        self._head = header(options.layout)
        self._files = OpenFiles(most=options.most_handles)
        self._last: dict[FileKey, Book] = {}

    def __len__(self) -> int:
        return len(self._files)

    def write(self, book: Book) -> None:
        """Append the sides that a book brought.

        Raises:
            OSError: nothing of it was written.
        """
        key = FileKey(book.venue, book.symbol)
        zone = zone_of(book.venue, book.symbol)
        updates = updates_of(book, self._last.get(key), zone)
        data = lines(self._options.layout, book, updates, zone)
        if data:
            self._file(key, book.received_ms).append(data)
        if book.bids_told is not None or book.asks_told is not None:
            if len(self._last) >= MOST_REMEMBERED:
                self._last.clear()
            self._last[key] = book

    def forget(self, book: Book) -> None:
        """Close the file of a book, so that the next write opens it anew."""
        with self._guard:
            self._files.drop(FileKey(book.venue, book.symbol))

    def close_ended(self, now_ms: int) -> None:
        """Close files of days that have ended, and those that were moved away."""
        with self._guard:
            self._files.close_outside(now_ms)

    def close(self) -> None:
        """Close every file."""
        with self._guard:
            self._files.close_all()

    def in_use(self, path: Path) -> bool:
        """Whether this path is open; the caller holds ``guard``."""
        return any(file.path == path for file in self._files)

    def _file(self, key: FileKey, received_ms: int) -> DayFile:
        """The open file of the day on which a message arrived."""
        with self._guard:
            file = self._files.get(key)
            if file is not None and file.day.begin_ms <= received_ms < file.day.end_ms:
                return file
            self._files.drop(key)
            folder = self._options.directory
            if key.venue != DEFAULT_VENUE:
                folder /= _plain_name(key.venue)
            folder.mkdir(parents=True, exist_ok=True)
            day = day_at(received_ms, zone_of(key.venue, key.symbol))
            opened = DayFile(folder / file_name(day.date, key.symbol), self._head, day)
            self._files.put(key, opened)
            return opened


def _plain_name(venue: str) -> str:
    """The name of a venue's directory; names of venues are ours, so this only makes sure of it."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in venue) or "_"
