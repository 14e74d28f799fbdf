"""Files of lines that are only ever appended to: opened, repaired, rotated and put aside. Blocking; for a thread.

A file is written by one process at a time (a lock on the directory), a message at a time, and ends with a whole line
whatever happened to the process before.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from src.jobs.order_books.exchange_days import ExchangeDay

MOST_HANDLES = 256
MOST_PUT_ASIDE = 1000
_TAIL_BYTES = 64 * 1024
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)

_log = structlog.get_logger(__name__)


class FileKey(NamedTuple):
    """Whose lines: one file per venue, symbol and day."""

    venue: str
    symbol: str


class DayFile:
    """One open file. What `append` takes is handed to the operating system before it returns."""

    def __init__(self, path: Path, head: bytes, day: ExchangeDay) -> None:
        """Open the file, made where missing; an unfinished last line is cut off, another header put aside.

        Raises:
            OSError: it cannot be opened, read or repaired.
        """
        self.path = path
        self.day = day
        self._descriptor, self._size = _open_repaired(path, head)

    def append(self, data: bytes) -> None:
        """Write whole lines at the end; all of them or none.

        Raises:
            OSError: they could not be written (the disk is full); the file is as it was before.
        """
        try:
            _write_all(self._descriptor, data)
        except OSError:
            with contextlib.suppress(OSError):  # what is torn is repaired when the file is opened again
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def is_there(self) -> bool:
        """Whether the path still leads to this file: a person may have moved or deleted it."""
        try:
            found, ours = self.path.stat(follow_symlinks=False), os.fstat(self._descriptor)
        except OSError:
            return False
        return (found.st_ino, found.st_dev) == (ours.st_ino, ours.st_dev)

    def close(self) -> None:
        """Let go of the file; safe to repeat."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


class OpenFiles:
    """The open files of all symbols, at most ``most``: the one unused for longest is closed for another."""

    def __init__(self, *, most: int = MOST_HANDLES) -> None:
        self._most = most
        self._files: OrderedDict[FileKey, DayFile] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[DayFile]:
        return iter(list(self._files.values()))

    def get(self, key: FileKey) -> DayFile | None:
        """The open file of a symbol, of whatever day."""
        file = self._files.get(key)
        if file is not None:
            self._files.move_to_end(key)
        return file

    def put(self, key: FileKey, file: DayFile) -> None:
        """Keep a file open; may close another one."""
        while len(self._files) >= self._most:
            _, oldest = self._files.popitem(last=False)
            oldest.close()
        self._files[key] = file

    def drop(self, key: FileKey) -> None:
        """Close the file of a symbol, if it is open."""
        file = self._files.pop(key, None)
        if file is not None:
            file.close()

    def close_outside(self, wall_ms: int) -> None:
        """Close the files of days that have ended, and those that are no longer where they were."""
        for key, file in list(self._files.items()):
            if not file.day.begin_ms <= wall_ms < file.day.end_ms or not file.is_there():
                self.drop(key)

    def close_all(self) -> None:
        """Close everything."""
        for key in list(self._files):
            self.drop(key)


def _open_repaired(path: Path, head: bytes) -> tuple[int, int]:
    """A descriptor of a file that begins with ``head`` and ends with a whole line, and its size."""
    for _ in range(2):
        descriptor = os.open(path, _FLAGS, 0o644)
        try:
            size = _repair(descriptor, path, head)
        except BaseException:
            os.close(descriptor)
            raise
        if size is not None:
            return descriptor, size
        os.close(descriptor)
        _put_aside(path)
    raise OSError(f"{path} has other columns, and could not be put aside")


def _repair(descriptor: int, path: Path, head: bytes) -> int | None:
    """Make the file end with a whole line; its size, None when it has other columns."""
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(f"{path} is no plain file")
    size = facts.st_size
    begin = os.pread(descriptor, len(head) + 1, 0)
    if len(begin) < len(head) and head.startswith(begin):  # new, or killed while the header was written
        os.ftruncate(descriptor, 0)
        try:
            _write_all(descriptor, head)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            raise
        return len(head)
    if begin[: len(head)] != head and begin != head[:-1] + b"\r\n":
        return None
    whole = _whole_lines(descriptor, size)
    if whole < size:
        os.ftruncate(descriptor, whole)
        _log.warning("csv_file_repaired", path=str(path), cut_bytes=size - whole, why="its last line was not whole")
    return whole


def _whole_lines(descriptor: int, size: int) -> int:
    """How many bytes of the file are whole lines."""
    end = size
    while end > 0:
        begin = max(0, end - _TAIL_BYTES)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _put_aside(path: Path) -> None:
    """Give a file with other columns another name, so that columns never change inside a file."""
    for number in range(1, MOST_PUT_ASIDE):
        aside = path.with_name(f"{path.stem}.before-{number}.csv")
        if not aside.exists():
            path.rename(aside)
            _log.warning("csv_file_put_aside", path=str(path), now=str(aside), why="it has other columns")
            return
    raise OSError(f"{path} has other columns, and {MOST_PUT_ASIDE} such files were put aside before")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
