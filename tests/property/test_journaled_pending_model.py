"""Journal and what waits for MongoDB against a plain list, under random orders of everything that can happen.

``PENDING_SEEDS=20000 pytest tests/property/test_journaled_pending_model.py`` tries more.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from src.models.changes import BookChange, Change, HoleClosed, HoleOpened, TradeSeen
from src.models.clock import ManualClock
from src.models.messages import Book, Trade
from src.models.metrics import JOURNAL_ERRORS, MESSAGES_DROPPED, Metrics
from src.models.streams import StreamKey
from src.pipeline import journal as journal_module
from src.pipeline.journal import Journal
from src.pipeline.pending import Pending, Segment
from tests.support.every_change import numbered

SEEDS = int(os.environ.get("PENDING_SEEDS", "600"))
STEPS = 70
MEMORY_LIMIT = 12
SEGMENT_SIZE = 4
MOST_PER_ADD = 6
JOURNAL_BYTES = 9_000
STREAMS = [StreamKey("v", "l2Book", symbol) for symbol in ("BTC", "ETH")]


class Disk:
    """Decides what the operating system says to the next writes."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.broken = False
        self.no_truncate = False
        self.left_halves = False

    def write(self, descriptor: int, data: bytes) -> int:
        if self.broken:
            if self.rng.random() < 0.5:
                os.pwrite(descriptor, bytes(data)[: len(data) // 2], 0)  # O_APPEND: at the end all the same
            raise OSError(errno.ENOSPC, "no space left")
        return os.write(descriptor, bytes(data)[: self.rng.randrange(1, len(data) + 1)])

    def ftruncate(self, descriptor: int, size: int) -> None:
        if self.no_truncate:
            self.left_halves = True
            raise OSError(errno.EIO, "broken")
        os.ftruncate(descriptor, size)

    def fdatasync(self, descriptor: int) -> None:
        """Nothing: what a kill leaves does not depend on it, and real disks take long."""

    fsync = fdatasync

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


class Model:
    """The system and its model: ``waiting`` are all changes that are neither stored nor dropped, in order."""

    def __init__(self, directory: Path, rng: random.Random, disk: Disk) -> None:
        self.directory = directory
        self.rng = rng
        self.disk = disk
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.waiting: list[Change] = []
        self.records: dict[int, list[Change]] = {}
        self.taken: Segment | None = None
        self.number = 0
        self.dropped = 0
        self.holes: dict[StreamKey, int] = {}
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.directory, limit_bytes=JOURNAL_BYTES)
        recovery = self.journal.open()
        self.pending = Pending(
            MEMORY_LIMIT, clock=self.clock, metrics=self.metrics, journal=self.journal, segment_size=SEGMENT_SIZE
        )
        self.waiting = [
            change for seq, changes in self.records.items() if seq > self.journal.acknowledged for change in changes
        ]
        assert recovery.changes == self.journal.changes == len(self.waiting)
        assert self.metrics.value(JOURNAL_ERRORS, "damaged") == 0 or self.disk.left_halves
        self.taken = None
        self._watch()

    def _watch(self) -> None:
        append, add = self.journal.append, self.pending._append

        def watched_append(changes: Sequence[Change]) -> int:
            seq = append(changes)
            self.records[seq] = list(changes)
            return seq

        def watched_add(changes: Sequence[Change]) -> None:
            for change in changes:
                if isinstance(change, HoleOpened):
                    assert change.reason == "journal_full"
                    self.holes[StreamKey.parse(change.stream)] = change.from_ms
                elif isinstance(change, HoleClosed):
                    assert self.holes.pop(StreamKey.parse(change.stream)) == change.from_ms
            self.waiting += changes
            add(changes)

        self.journal.append = watched_append  # type: ignore[method-assign]
        self.pending._append = watched_add  # type: ignore[method-assign]

    # -- what can happen -------------------------------------------------------------------------------------------

    def add(self) -> None:
        if self.pending.is_full:
            return  # as the diff does
        count = self.rng.randrange(1, MOST_PER_ADD)
        self.pending.add(numbered(*range(self.number, self.number + count)), self.rng.choice([None, *STREAMS]))
        self.number += count

    def add_market(self) -> None:
        stream = self.rng.choice(STREAMS)
        self.number += 1
        before = self.metrics.total(MESSAGES_DROPPED)
        changes: list[Change] = [
            BookChange(Book("v", stream.subject, self.number, self.number, (), ()), changed=True),
            TradeSeen(Trade("v", stream.subject, str(self.number), "1", "1", None, self.number, self.number)),
        ]
        if not self.pending.is_full:
            self.pending.add(changes, stream)
        if self.metrics.total(MESSAGES_DROPPED) > before:
            assert stream in self.holes, "dropped without a hole"

    def take(self) -> None:
        if self.taken is not None:
            return
        self.taken = self.pending.take()
        if self.taken is None:
            assert not self.waiting
            assert not len(self.pending)
            return
        changes = self.taken.changes
        if not self.waiting:  # the latest books, which wait outside the queue
            assert all(isinstance(change, BookChange) and not change.changed for change in changes)
            self.waiting += changes
        assert changes == self.waiting[: len(changes)]

    def done(self) -> None:
        if self.taken is not None:
            del self.waiting[: len(self.taken.changes)]
            self.pending.done(self.taken)
            self.taken = None

    def put_back(self) -> None:
        if self.taken is not None:
            self.pending.put_back(self.taken)
            self.taken = None

    def save_ack(self) -> None:
        self.journal.save_ack()

    def sync(self) -> None:
        self.journal.sync(force=self.rng.random() < 0.5)

    def pass_time(self) -> None:
        self.clock.advance(self.rng.random() * 3)

    def break_disk(self) -> None:
        self.disk.broken = not self.disk.broken
        self.disk.no_truncate = self.disk.broken and self.rng.random() < 0.2

    def crash(self) -> None:
        stored = self.journal.acknowledged
        unsafe = [change for seq, changes in self.records.items() if seq > stored for change in changes]
        for descriptor in (*self.journal._retired, self.journal._fd):
            os.close(descriptor)
        self.disk.broken = self.disk.no_truncate = False
        self.holes.clear()  # the next run finds them stored, or opened by what is still in the journal
        self.start()
        assert self.waiting[len(self.waiting) - len(unsafe) :] == unsafe, "journaled, not acknowledged, and gone"

    def check(self) -> None:
        pending = self.pending
        held = sum(len(segment.changes) for segment in pending._segments) + len(pending._late)
        held += len(self.taken.changes) if self.taken else 0
        assert pending._in_memory == held
        assert len(pending) == len(self.waiting) + len(pending._books)
        assert held <= MEMORY_LIMIT + 2 * MOST_PER_ADD + SEGMENT_SIZE + len(STREAMS)
        assert len(pending._books) <= len(STREAMS)
        assert pending.suspended == len(self.holes)
        assert self.journal.size_bytes <= JOURNAL_BYTES + (1_000 if self.disk.left_halves else 0)
        assert pending.segments > 0 or len(pending) == (len(self.taken.changes) if self.taken else 0)

    def finish(self) -> None:
        """MongoDB and the disk are well again: everything leaves, in order, and the queue is as new."""
        self.disk.broken = self.disk.no_truncate = False
        self.put_back()
        for _ in range(2_000):
            self.clock.advance(1)
            self.take()
            if self.taken is None:
                break
            self.done()
            self.check()
        assert len(self.pending) == 0
        assert not self.pending.is_full
        self.add()
        self.take()
        self.done()
        assert self.pending.suspended == 0
        assert self.holes == {}
        assert self.journal.changes == 0
        self.journal.close()


_WEIGHTS = {
    "add": 22, "add_market": 10, "take": 14, "done": 9, "put_back": 6, "pass_time": 6, "save_ack": 3, "sync": 2,
    "break_disk": 2, "crash": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(journal_module, "SMALLEST_SEGMENT_BYTES", 700)


def test_nothing_journaled_is_lost_nothing_changes_places_and_memory_is_bounded(monkeypatch):
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        rng = random.Random(seed)
        disk = Disk(rng)
        monkeypatch.setattr(journal_module, "os", disk)
        # MongoDB is there, away for most of the time, or hardly ever
        weights = dict(
            _WEIGHTS, done=rng.choice([9, 4, 1]), take=rng.choice([14, 7]), add_market=rng.choice([0, 10, 30])
        )
        with tempfile.TemporaryDirectory() as folder, capture_logs():
            try:
                model = Model(Path(folder), rng, disk)
                for step in rng.choices(list(weights), list(weights.values()), k=STEPS):
                    getattr(model, step)()
                    model.check()
                model.finish()
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
        seen.update({metric.name + "/".join(labels): value for metric, labels, value in model.metrics.samples()})
    # The schedules come by everything that was to be seen.
    assert min(seen["journal_errorsfull"], seen["journal_errorsfailed"]) > SEEDS / 10
    assert min(seen["messages_droppedbook/journal_full"], seen["messages_droppedtrade/journal_full"]) > SEEDS / 10
