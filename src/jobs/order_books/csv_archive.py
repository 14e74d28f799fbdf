"""Compressing the files of days that have ended: whole or not at all, and never twice. Blocking; for a thread.

The compressed file is written beside, read back, and only then takes the place of the plain one. Killed at any point,
the next pass finds either the plain file, or both with the same lines, and goes on from there.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

import structlog
import zstandard
from msgspec import Struct

from src.jobs.order_books.csv_rows import parse_file_name
from src.jobs.order_books.exchange_days import day_of, zone_of

REST_MS = 10 * 60_000
"""A day's file is left alone for so long after its midnight: a clock may be set back a little."""

UNFINISHED = ".part"
ZSTD_LEVEL = 6
_PIECE_BYTES = 1024 * 1024
_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)
_log = structlog.get_logger(__name__)


class Compression(StrEnum):
    """What becomes of files of days that have ended."""

    ZSTD = "zstd"
    GZIP = "gzip"
    OFF = "off"


SUFFIXES = {Compression.ZSTD: ".zst", Compression.GZIP: ".gz"}


class Pass(Struct):
    """What one pass did: files compressed, left for later because they are written to, and failed."""

    compressed: int = 0
    waiting: int = 0
    failed: int = 0


class _StoppedError(Exception):
    """The program stops; the next start does the rest."""


class Archive:
    """Compresses what has ended in one directory and in the venues' directories below it.

    Args:
        directory: where the files are.
        how: zstd, gzip or not at all.
        default_venue: whose files lie in ``directory`` itself.
        guard: held while files change places; whoever opens files for writing holds it too.
        in_use: whether a path is open for writing; asked under ``guard``.
        stopping: set = leave as soon as possible.
    """

    def __init__(
        self,
        directory: Path,
        how: Compression,
        *,
        default_venue: str,
        guard: threading.Lock,
        in_use: Callable[[Path], bool],
        stopping: threading.Event,
    ) -> None:
        self._directory = directory
        self._how = how
        self._default_venue = default_venue
        self._guard = guard
        self._in_use = in_use
        self._stopping = stopping

    def run_pass(self, now_ms: int) -> Pass:
        """Compress every file that has ended by now; what fails is told, left as it is and tried by the next pass."""
        done = Pass()
        if self._how is Compression.OFF:
            return done
        try:
            self._remove_unfinished()
            paths = self._ended(now_ms)
        except OSError as error:
            _log.warning("csv_directory_unreadable", directory=str(self._directory), error=str(error))
            done.failed += 1
            return done
        for path in paths:
            try:
                if self._compress(path):
                    done.compressed += 1
                else:
                    done.waiting += 1
            except _StoppedError:
                break
            except _UNREADABLE as error:
                done.failed += 1
                _log.warning(
                    "csv_file_not_compressed",
                    path=str(path),
                    error=str(error),
                    remedy="the plain file is still there; free disk space, or move a broken compressed file away",
                )
        return done

    def _ended(self, now_ms: int) -> list[Path]:
        """Plain files of days that have ended, the oldest first."""
        folders = [(self._default_venue, self._directory)]
        folders += [
            (path.name, path) for path in self._directory.iterdir() if path.is_dir() and not path.is_symlink()
        ]
        found = []
        for venue, folder in folders:
            for path in folder.iterdir():
                named = parse_file_name(path.name)
                if named is None or path.is_symlink() or not path.is_file():
                    continue
                if now_ms >= day_of(named[0], zone_of(venue, named[1])).end_ms + REST_MS:
                    found.append(path)
        return sorted(found, key=lambda path: path.name)

    def _remove_unfinished(self) -> None:
        for pattern in (f"*.csv.*{UNFINISHED}", f"*/*.csv.*{UNFINISHED}"):
            for path in self._directory.glob(pattern):
                path.unlink(missing_ok=True)

    def _compress(self, path: Path) -> bool:
        """Replace a plain file by a compressed one, behind lines compressed before; False when it has to wait."""
        target = path.with_name(path.name + SUFFIXES[self._how])
        unfinished = target.with_name(target.name + UNFINISHED)
        with self._guard:
            if self._in_use(path):
                return False
        before = path.stat()
        try:
            if not self._is_contained(path, target):
                size = self._write(path, target, unfinished)
                if self._content_size(unfinished) != size:
                    raise OSError(f"{unfinished} reads back differently")
            with self._guard:
                after = path.stat()
                if self._in_use(path) or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    return False
                if unfinished.exists():
                    unfinished.replace(target)
                    _sync_directory(target.parent)
                path.unlink()
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()
        _log.info("csv_file_compressed", path=str(target), bytes_before=before.st_size, bytes=target.stat().st_size)
        return True

    def _is_contained(self, path: Path, target: Path) -> bool:
        """Whether the compressed file ends with the lines of the plain one: then only its removal is missing."""
        if not target.exists():
            return False
        with path.open("rb") as plain:
            size = path.stat().st_size - len(plain.readline())
            skip = self._content_size(target) - size
            if skip < 0:
                return False
            with contextlib.closing(self._opened(target)) as packed:
                _read(packed, skip)
                return all(_read(packed, len(piece), keep=True) == piece for piece in self._pieces(plain))

    def _write(self, path: Path, target: Path, unfinished: Path) -> int:
        """Write what is compressed already and the plain file behind it; how many plain bytes that is."""
        size = 0
        with unfinished.open("wb") as raw:
            with contextlib.closing(self._packer(raw)) as packer:
                if target.exists():
                    with contextlib.closing(self._opened(target)) as packed:
                        for piece in self._pieces(packed):
                            packer.write(piece)
                            size += len(piece)
                with path.open("rb") as plain:
                    if size:
                        plain.readline()  # one header is enough
                    for piece in self._pieces(plain):
                        packer.write(piece)
                        size += len(piece)
            raw.flush()
            os.fsync(raw.fileno())
        return size

    def _pieces(self, file: IO[bytes]) -> Iterator[bytes]:
        while piece := file.read(_PIECE_BYTES):
            if self._stopping.is_set():
                raise _StoppedError
            yield piece

    def _content_size(self, path: Path) -> int:
        with contextlib.closing(self._opened(path)) as file:
            return sum(len(piece) for piece in self._pieces(file))

    def _opened(self, path: Path) -> IO[bytes]:
        if self._how is Compression.GZIP:
            return cast("IO[bytes]", gzip.open(path, "rb"))
        raw = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
        return cast("IO[bytes]", raw)

    def _packer(self, raw: IO[bytes]) -> IO[bytes]:
        if self._how is Compression.GZIP:
            return cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="wb", mtime=0))
        packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        return cast("IO[bytes]", packer.stream_writer(raw, closefd=False))


def _read(file: IO[bytes], size: int, *, keep: bool = False) -> bytes:
    """Exactly ``size`` bytes, or what there is; without ``keep`` they are forgotten as they come."""
    kept, left = bytearray(), size
    while left and (piece := file.read(min(left, _PIECE_BYTES))):
        left -= len(piece)
        if keep:
            kept += piece
    return bytes(kept)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
