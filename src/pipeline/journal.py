"""The journal: every batch of changes is on disk before it is offered to MongoDB, and leaves when it is stored.

Append-only segment files ``<first sequence>.log`` in one directory; `journal_files` knows what is in them. Killing
the process loses nothing that was appended, for the operating system has it; a power cut loses at most what came
after the last `sync`. A torn tail is cut at `open` and reported; a damaged payload costs its record, which the reader
reports; a damaged header costs the rest of its segment, which `open` reports.

Replaying a record twice is harmless (documents have deterministic keys), so acknowledgement need not be exact.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
from msgspec import Struct

from src.models.changes import Change
from src.models.errors import CollectorError
from src.pipeline.journal_files import BadHeaderError, Record, SegmentFile, encode_record, read_records, scan_records

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
SMALLEST_SEGMENT_BYTES = 64 * 1024
ACKED_FILE = "acked"
_SUFFIX = ".log"


class JournalFullError(CollectorError):
    """The journal has reached its limit; the caller decides what to drop."""

    retryable = True


class Recovery(Struct, frozen=True):
    """What `Journal.open` found: changes not acknowledged yet, and bytes of a torn tail that were cut off."""

    changes: int
    torn_bytes: int


class Journal:
    """A bounded queue of records on disk. Used by one task; only `sync` may run in another thread.

    Attributes:
        changes: changes that are not acknowledged.
        damaged_files: files of which `open` could not read the end.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        sync_always: bool = False,
    ) -> None:
        self._sync_always = sync_always
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._segment_bytes = max(SMALLEST_SEGMENT_BYTES, min(segment_bytes, limit_bytes // 8))
        self._segments: list[SegmentFile] = []
        self._size = 0
        self._fd: int | None = None
        self._retired: list[int] = []  # files no longer written to; only `sync` and `close` close them
        self._syncing = threading.Lock()
        self._tail_torn = False
        self._directory_dirty = False
        self._kept_told = False
        self._next = 1
        self._acked = 0
        self._ack_on_disk = 0
        self._dirty = False
        self.changes = 0
        self.damaged_files = 0

    # -- life ------------------------------------------------------------------------------------------------------

    def open(self) -> Recovery:
        """Read what is there, cut a torn tail, get ready to append.

        Raises:
            OSError: the directory cannot be read or written.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        paths = sorted(path for path in self._directory.glob(f"*{_SUFFIX}") if _is_ours(path))
        self._segments = [SegmentFile(path, int(path.stem), int(path.stem) - 1) for path in paths]
        torn = sum(self._load(segment, newest=segment is self._segments[-1]) for segment in self._segments)
        self._size = sum(segment.size for segment in self._segments)
        last = self._segments[-1].last if self._segments else 0
        self._next = last + 1
        self._ack_on_disk = self._believed_ack(last)
        self._acked = max(self._ack_on_disk, self._segments[0].first - 1 if self._segments else 0)
        self.changes = self.changes_after(self._acked)
        self._start_segment()
        self._drop_acked()
        return Recovery(self.changes, torn)

    def close(self) -> None:
        """Let everything reach the disk and close the file; safe to repeat."""
        if self._fd is None:
            return
        try:
            self.sync()
            self.save_ack()
        finally:
            with self._syncing:  # a thread may still be at it
                for descriptor in (*self._retired, self._fd):
                    os.close(descriptor)
                self._retired, self._fd = [], None

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(self, changes: Sequence[Change]) -> int:
        """Write one record; returns its sequence. It survives a kill of this process from here on.

        Raises:
            TypeError, ValueError, OverflowError, RecursionError: a change that no file can hold (`UNWRITABLE`).
            JournalFullError: the limit is reached; nothing was written.
            OSError: the disk is full or gone; nothing of the record stays behind.
        """
        record = encode_record(self._next, changes)
        if self._size + len(record) > self._limit_bytes:
            raise JournalFullError(f"the journal has reached its limit of {self._limit_bytes} bytes")
        full = self._segments[-1].size and self._segments[-1].size + len(record) > self._segment_bytes
        if full or self._tail_torn:
            self._start_segment()
        segment = self._segments[-1]
        self._write(segment, record)
        segment.size += len(record)
        self._size += len(record)
        segment.last = self._next
        segment.counts.append(len(changes))
        self.changes += len(changes)
        self._next += 1
        self._dirty = True
        if self._sync_always:
            self.sync()
        return segment.last

    def sync(self, *, force: bool = True) -> bool:
        """Bring what was appended onto the disk; True when there was something to bring. May run in a thread.

        With ``force`` False only files that are no longer written to are let go of.

        Raises:
            OSError: the disk refuses; what was appended since the last success may not survive a power cut.
        """
        with self._syncing:
            while self._retired:
                if force:
                    os.fdatasync(self._retired[0])
                os.close(self._retired.pop(0))
            descriptor = self._fd
            if not (force and self._dirty) or descriptor is None:
                return False
            self._dirty = False
            try:
                os.fdatasync(descriptor)
                self._sync_directory()
            except OSError:
                self._dirty = True
                raise
            return True

    def acknowledge(self, seq: int) -> None:
        """Everything up to ``seq`` is stored: files that hold nothing else are deleted."""
        seq = min(seq, self.last)
        if seq <= self._acked:
            return
        self.changes -= self._changes_between(self._acked, seq)
        self._acked = seq
        try:
            self._drop_acked()
        except OSError as error:  # what is stored is stored; the next acknowledgement tries again
            if not self._kept_told:
                log.warning(
                    "journal_file_kept", error=str(error), remedy="free space below DATA_DIR, check its rights"
                )
            self._kept_told = True
        else:
            self._kept_told = False

    def save_ack(self) -> None:
        """Note on disk how far MongoDB is, so that a restart repeats less; worth calling every few seconds.

        Raises:
            OSError: the disk is full or gone.
        """
        if self._acked == self._ack_on_disk:
            return
        temporary = self._directory / f"{ACKED_FILE}.new"
        temporary.write_text(f"{self._acked}\n")
        temporary.replace(self._directory / ACKED_FILE)
        self._ack_on_disk = self._acked

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, after: int, *, max_changes: int) -> Iterator[Record]:
        """Records after ``after`` in order, until they hold ``max_changes`` changes or more.

        Raises:
            JournalDamagedError: the next record cannot be read and never will; go on after its ``resume_after``.
            OSError: a file cannot be read now.
        """
        count = 0
        for segment in self._segments[self._index_of(after + 1) :]:
            if segment.last <= after:
                continue
            for record in read_records(segment, after):
                yield record
                count += len(record.changes)
                if count >= max_changes:
                    return

    def changes_after(self, seq: int) -> int:
        """How many changes the records after ``seq`` hold."""
        return self._changes_between(seq, self.last)

    @property
    def last(self) -> int:
        """Sequence of the newest record, 0 when there never was one."""
        return self._next - 1

    @property
    def acknowledged(self) -> int:
        """Sequence up to which everything is stored."""
        return self._acked

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return self._size

    @property
    def usage(self) -> float:
        """Share of the limit in use, 0 to 1."""
        return self._size / self._limit_bytes

    # -- files -----------------------------------------------------------------------------------------------------

    def _believed_ack(self, last: int) -> int:
        """How far MongoDB was, as noted.

        A note that is ahead of the records (after a power cut, or garbage) must not swallow what will get these
        numbers: it is forgotten, and what is left is stored once more.
        """
        path = self._directory / ACKED_FILE
        noted = _read_ack(path)
        if 0 <= noted <= last:
            return noted
        log.warning("journal_note_ignored", noted=noted, last=last, effect="what is left is stored once more")
        path.unlink()
        return 0

    def _changes_between(self, after: int, upto: int) -> int:
        return sum(
            sum(segment.counts[max(0, after + 1 - segment.first) : upto + 1 - segment.first])
            for segment in self._segments[self._index_of(after + 1) :]
            if segment.last > after and segment.first <= upto
        )

    def _write(self, segment: SegmentFile, record: bytes) -> None:
        assert self._fd is not None, "open() comes first"
        view, written = memoryview(record), 0
        try:
            while written < len(record):
                written += os.write(self._fd, view[written:])
        except OSError:
            try:
                os.ftruncate(self._fd, segment.size)  # half a record must not stand in front of the next one
            except OSError:
                self._tail_torn = True  # which then goes into another file
            raise

    def _start_segment(self) -> None:
        """Write into a new file from here on; an empty one is used as it is."""
        path = self._directory / f"{self._next:020d}{_SUFFIX}"
        reused = bool(self._segments) and self._segments[-1].path == path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if reused else 0)
        descriptor = os.open(path, flags, 0o600)
        if self._fd is not None:
            self._retired.append(self._fd)
        self._fd = descriptor
        self._tail_torn, self._directory_dirty = False, True
        if not reused:
            self._segments.append(SegmentFile(path, self._next, self._next - 1))

    def _drop_acked(self) -> None:
        newest = self._segments[-1]
        if newest.last <= self._acked and newest.size >= self._segment_bytes // 2:
            self._start_segment()
        while len(self._segments) > 1 and self._segments[0].last <= self._acked:
            self._segments[0].path.unlink(missing_ok=True)
            self._size -= self._segments.pop(0).size

    def _sync_directory(self) -> None:
        """A new file's name has to survive a power cut, too."""
        if not self._directory_dirty:
            return
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._directory_dirty = False

    def _load(self, segment: SegmentFile, *, newest: bool) -> int:
        """Learn what a file holds; cut what is torn off the newest one. Returns the bytes cut."""
        segment.size, sound, reason = segment.path.stat().st_size, 0, ""
        try:
            for seq, count, end, is_sound in scan_records(segment, check=newest):
                segment.counts.append(count)
                if is_sound:
                    segment.last, sound = seq, end
        except BadHeaderError as error:
            reason = str(error)
        del segment.counts[segment.last + 1 - segment.first :]
        rest = segment.size - sound
        if not rest:
            return 0
        if newest:
            os.truncate(segment.path, sound)
            segment.size = sound
            log.warning("journal_tail_cut", file=segment.path.name, bytes=rest, last=segment.last)
            return rest
        segment.unreadable = rest
        self.damaged_files += 1
        log.error("journal_file_damaged", file=segment.path.name, bytes=rest, after=segment.last, error=reason)
        return 0

    def _index_of(self, seq: int) -> int:
        return max(0, bisect_right([segment.first for segment in self._segments], seq) - 1)


def _read_ack(path: Path) -> int:
    """The number noted; 0 where there is none, -1 where it is none."""
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return 0
    except ValueError:
        return -1


def _is_ours(path: Path) -> bool:
    return path.stem.isascii() and path.stem.isdecimal() and path.is_file()
