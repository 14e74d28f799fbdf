"""Changes that wait for MongoDB: in the journal, and as far as memory allows in segments ready to be stored.

With a journal every batch is on disk before it can be taken. Beyond ``memory_limit`` changes a batch stays on disk
alone and is read back when its turn comes, so memory is bounded however long MongoDB is away. When the journal fills
up, what is dearest is dropped last: first the history of books (their latest state is kept), then trades, fills and
samples, and orders and positions never: for them the diff waits. Every drop is counted, and a hole.

What the journal cannot take now (full, disk broken) waits in memory behind everything that is in it, and goes into it
as soon as it takes something again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import structlog
from msgspec import Struct

from src.models.changes import (
    AccountSample,
    BarSeen,
    BookChange,
    Change,
    DeadLetter,
    FillSeen,
    HoleClosed,
    HoleOpened,
    PositionMarks,
    QuoteSeen,
    TradeSeen,
)
from src.models.clock import Clock
from src.models.messages import GapReason
from src.models.metrics import DEAD_LETTERS, JOURNAL_ERRORS, MESSAGES_DROPPED, Metrics
from src.models.streams import StreamKey
from src.pipeline.journal import Journal, JournalFullError
from src.pipeline.journal_files import UNWRITABLE, JournalDamagedError, is_writable

log = structlog.get_logger(__name__)

SEGMENT_SIZE = 5_000
"""Changes per segment; a restart looks back two segments to mend what a crash cut in half."""

BOOKS_STOP_AT = 0.80
HISTORY_STOPS_AT = 0.90
RESUME_BELOW = 0.70
"""Shares of the journal's limit at which kinds of changes are dropped, and at which they are kept again."""

ERROR_LOG_EVERY_S = 30.0
RETRY_EVERY_S = 1.0
"""How often the journal is asked again to take what it did not take."""

NOT_ENCODABLE = "not_encodable"
SAMPLE_BYTES = 4096

_HISTORY: dict[type, str] = {
    TradeSeen: "trade",
    FillSeen: "fill",
    PositionMarks: "marks",
    AccountSample: "account",
    QuoteSeen: "quote",
    BarSeen: "bar",
}
"""Kinds of changes that give way before orders and positions do, with their label in the metrics."""


class Segment(Struct):
    """Changes to be stored together; when they are, the journal is done up to ``seq`` (0 = not in the journal)."""

    changes: list[Change]
    seq: int = 0


class Pending:
    """A queue of changes with a limit; the newest segment is still growing. Used by one task."""

    def __init__(
        self,
        memory_limit: int,
        *,
        clock: Clock,
        metrics: Metrics,
        journal: Journal | None = None,
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        self._memory_limit = memory_limit
        self._clock = clock
        self._metrics = metrics
        self._journal = journal
        self._segment_size = segment_size
        self._segments: deque[Segment] = deque()
        self._in_memory = 0
        self._on_disk = 0
        self._loaded = 0
        self._late: list[Change] = []  # newer than all that is in the journal, which did not take them
        self._retry_at_s = float("-inf")
        self._blocked_at: float | None = None
        self._books: dict[tuple[str, str], BookChange] = {}
        self._suspended: dict[StreamKey, int] = {}
        self._error_logged_at = float("-inf")
        self.journal_error = ""
        if journal is not None:
            self._loaded, self._on_disk = journal.acknowledged, journal.changes
            if journal.damaged_files:
                metrics.add(JOURNAL_ERRORS, "damaged", amount=journal.damaged_files)

    def __len__(self) -> int:
        return self._in_memory + self._on_disk + len(self._books)

    @property
    def segments(self) -> int:
        """Segments that can be taken now, about: those on disk may be fewer and larger."""
        waiting = (self._on_disk, len(self._late))
        return len(self._segments) + sum(-(-count // self._segment_size) for count in waiting) + bool(self._books)

    @property
    def is_full(self) -> bool:
        """True when the diff has to wait; the buffer then coalesces."""
        if self._in_memory >= self._memory_limit and (self._journal is None or self._late):
            return True
        if self._journal is None or self._blocked_at is None:
            return False
        if self._journal.usage < min(self._blocked_at, HISTORY_STOPS_AT) or not len(self):
            self._blocked_at = None
        return self._blocked_at is not None

    @property
    def on_disk(self) -> int:
        """Changes that are in the journal only."""
        return self._on_disk

    @property
    def suspended(self) -> int:
        """Streams of which changes are being dropped because the journal is nearly full."""
        return len(self._suspended)

    def add(self, changes: Sequence[Change], stream: StreamKey | None = None) -> None:
        """Take changes found in a frame of ``stream``. May overshoot the limit by one call; look at `is_full`."""
        if not changes:
            return
        if self._journal is not None:
            changes = self._affordable(self._journal, changes, stream)
        if changes:
            self._append(changes)

    def take(self) -> Segment | None:
        """The oldest segment, now the caller's; None when nothing waits, or what waits cannot be read now.

        End with `done` or `put_back`.
        """
        if self._late:
            self._write_late()
        while not self._segments and self._on_disk and self._load():
            pass
        if not self._segments and not self._on_disk:
            self._make_segment()
        return self._segments.popleft() if self._segments else None

    def put_back(self, segment: Segment) -> None:
        """Return a segment that could not be stored, to be the next one taken."""
        if self._journal is not None and not (segment.seq or self._segments or self._on_disk):
            self._late[:0] = segment.changes  # it is not in the journal yet
        else:
            self._segments.appendleft(segment)

    def done(self, segment: Segment) -> None:
        """A taken segment is stored."""
        self._in_memory -= len(segment.changes)
        if self._journal is not None and segment.seq:
            self._journal.acknowledge(segment.seq)

    # -- adding ----------------------------------------------------------------------------------------------------

    def _append(self, changes: Sequence[Change]) -> None:
        if self._journal is None:
            self._in_memory += len(changes)
            self._hold(changes, 0)
            return
        try:
            seq = 0 if self._late else self._write(self._journal, changes)
        except UNWRITABLE:
            changes = self._writable(changes)
            seq = self._write(self._journal, changes)
        if seq:
            self._place(changes, seq)
            return
        self._late.extend(changes)
        self._in_memory += len(changes)
        self._write_late()

    def _place(self, changes: Sequence[Change], seq: int) -> None:
        """Changes that are in the journal: into memory, too, unless others have to be read back before them."""
        if self._on_disk or self._in_memory >= self._memory_limit:
            self._on_disk += len(changes)
            return
        self._in_memory += len(changes)
        self._loaded = seq
        self._hold(changes, seq)

    def _hold(self, changes: Sequence[Change], seq: int) -> None:
        if not self._segments or len(self._segments[-1].changes) >= self._segment_size:
            self._segments.append(Segment([]))
        newest = self._segments[-1]
        newest.changes.extend(changes)
        newest.seq = max(seq, newest.seq)

    def _write_late(self) -> None:
        """Bring into the journal what it did not take at the time."""
        assert self._journal is not None
        while self._late and self._clock.monotonic() >= self._retry_at_s:
            chunk = self._late[: self._segment_size]
            try:
                seq = self._write(self._journal, chunk)
            except UNWRITABLE:
                self._late[: len(chunk)] = self._writable(chunk)
                continue
            if not seq:
                return
            del self._late[: len(chunk)]
            self._in_memory -= len(chunk)
            self._place(chunk, seq)

    def _make_segment(self) -> None:
        """When nothing else waits: of what could not be journaled, else the latest books."""
        if self._late:
            self._segments.append(Segment(self._late[: self._segment_size]))
            del self._late[: self._segment_size]
        elif self._books:
            self._segments.append(Segment(list(self._books.values())))
            self._in_memory += len(self._books)
            self._books.clear()

    def _write(self, journal: Journal, changes: Sequence[Change]) -> int:
        """Into the journal; 0 where that is not possible, and the changes are safe only once they are stored."""
        try:
            seq = journal.append(changes)
        except JournalFullError:
            self._blocked_at = journal.usage
            self._metrics.add(JOURNAL_ERRORS, "full")
            self._retry_at_s = self._clock.monotonic() + RETRY_EVERY_S
            return 0
        except OSError as error:
            self._note_error("journal_not_written", error, effect="changes wait in memory only")
            self._retry_at_s = self._clock.monotonic() + RETRY_EVERY_S
            return 0
        self._note_works()
        return seq

    def _note_error(self, event: str, error: OSError, **more: str) -> None:
        self._metrics.add(JOURNAL_ERRORS, "failed")
        self.journal_error = str(error) or type(error).__name__
        if self._clock.monotonic() - self._error_logged_at >= ERROR_LOG_EVERY_S:
            self._error_logged_at = self._clock.monotonic()
            remedy = "see to the disk of DATA_DIR: space, rights, faults"
            log.error(event, error=self.journal_error, remedy=remedy, **more)

    def _note_works(self) -> None:
        if self.journal_error:
            log.info("journal_works_again", waited_in_memory=len(self._late))
            self.journal_error = ""

    def _writable(self, changes: Sequence[Change]) -> list[Change]:
        """The same changes, dead letters in place of those that neither the journal nor MongoDB can hold."""
        return [change if is_writable(change) else self._letter(change) for change in changes]

    def _letter(self, change: Change) -> DeadLetter:
        self._metrics.add(DEAD_LETTERS, "store", NOT_ENCODABLE)
        body = repr(change).encode("utf-8", "backslashreplace")
        kind, now_ms = type(change).__name__, self._clock.wall_ms()
        return DeadLetter("", "store", NOT_ENCODABLE, kind, body[:SAMPLE_BYTES], len(body), now_ms)

    # -- a journal that fills up ------------------------------------------------------------------------------------

    def _affordable(self, journal: Journal, changes: Sequence[Change], stream: StreamKey | None) -> Sequence[Change]:
        usage = journal.usage
        if usage < RESUME_BELOW:
            if self._suspended:
                self._resume()
            return changes
        drop_books = usage >= BOOKS_STOP_AT or bool(self._suspended)
        drop_history = usage >= HISTORY_STOPS_AT
        if not drop_books:
            return changes
        kept: list[Change] = []
        for change in changes:
            if isinstance(change, BookChange):
                self._keep_latest(change)
                if change.changed:  # else there is no history to lose
                    self._drop("book", stream)
            elif drop_history and type(change) in _HISTORY:
                self._drop(_HISTORY[type(change)], stream)
            else:
                kept.append(change)
        return kept

    def _keep_latest(self, change: BookChange) -> None:
        """The newest book of each symbol is still stored, without a place in the history."""
        self._books[change.book.venue, change.book.symbol] = BookChange(change.book, changed=False)

    def _drop(self, kind: str, stream: StreamKey | None) -> None:
        self._metrics.add(MESSAGES_DROPPED, kind, "journal_full")
        if stream is None or stream in self._suspended:
            return
        now_ms = self._clock.wall_ms()
        self._suspended[stream] = now_ms
        reason = GapReason.JOURNAL_FULL.value
        self._append([HoleOpened(str(stream), stream.venue, now_ms, reason, "the journal is nearly full")])

    def _resume(self) -> None:
        now_ms = self._clock.wall_ms()
        reason = GapReason.JOURNAL_FULL.value
        ended = [
            HoleClosed(str(stream), stream.venue, from_ms, max(now_ms, from_ms), reason)
            for stream, from_ms in self._suspended.items()
        ]
        self._suspended.clear()
        self._append(ended)

    # -- reading back ----------------------------------------------------------------------------------------------

    def _load(self) -> bool:
        """Bring the next segment from disk into memory; False when that is not possible now."""
        assert self._journal is not None
        segment = Segment([])
        try:
            for record in self._journal.read(self._loaded, max_changes=self._segment_size):
                segment.changes.extend(record.changes)
                segment.seq = self._loaded = record.seq
        except JournalDamagedError as error:
            self._skip_damage(self._journal, error)
        except OSError as error:
            self._note_error("journal_not_read", error)
            if not segment.changes:
                return False
        else:
            self._note_works()
        self._in_memory += len(segment.changes)
        self._on_disk -= len(segment.changes)
        if segment.changes:
            self._segments.append(segment)
        return True

    def _skip_damage(self, journal: Journal, error: JournalDamagedError) -> None:
        lost = journal.changes_after(self._loaded) - journal.changes_after(error.resume_after)
        self._loaded = max(error.resume_after, self._loaded)
        self._on_disk -= lost
        self._metrics.add(JOURNAL_ERRORS, "damaged")
        self._metrics.add(MESSAGES_DROPPED, "change", "journal_damaged", amount=lost)
        log.error("journal_damaged", error=str(error), changes_lost=lost, continued_after=self._loaded)
