"""The core of the program in a world that fails on a seeded schedule: MongoDB away, half-stored batches, kills.

Nothing here waits or opens sockets; a kill is an exception after which everything but the files and the database is
thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from src.models.changes import Change
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.messages import Data, Gap, OrdersSnapshot, PositionsSnapshot
from src.models.metrics import Metrics
from src.models.orders import Order, unpack_order
from src.models.positions import Position
from src.models.writes import Collection, Write, WriteBatch, WriteResult
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff
from src.pipeline.flush import Flusher
from src.pipeline.hub import Hub
from src.pipeline.journal import ACKED_FILE, Journal
from src.pipeline.pending import Pending
from src.pipeline.pipeline import Pipeline
from src.pipeline.restore import restore_holes, restore_traders, roll_forward
from src.store.memory import MemoryStore
from tests.support.trader_lifecycles import ACTIONS, Exchange
from tests.support.trader_states import TRADER

DIRECTORY = "journal"


class Killed(Exception):  # noqa: N818 - an event, not an error
    """The process ends here."""


class FailingStore(MemoryStore):
    """Before or after a batch, or inside of it, the connection breaks or the process is killed."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.rng = rng
        self.faults = True

    async def write(self, batch: WriteBatch) -> WriteResult:
        if not self.faults:
            return await super().write(batch)
        fate = self.rng.random()
        if fate < 0.10:
            self.fail_next(StoreError("away"))
        elif fate < 0.20:
            await super().write(self._part(batch))
            raise StoreError("the connection broke inside")
        elif fate < 0.25:
            await super().write(batch)
            raise StoreError("the answer was lost")
        elif fate < 0.30:
            await super().write(self._part(batch))
            raise Killed
        elif fate < 0.33:
            await super().write(batch)
            raise Killed
        return await super().write(batch)

    def _part(self, batch: WriteBatch) -> WriteBatch:
        """The first groups whole, and of the next one any writes: bulks are unordered."""
        whole = self.rng.randrange(len(batch.groups) + 1)
        groups: list[Sequence[Write]] = list(batch.groups[:whole])
        if whole < len(batch.groups):
            groups.append([write for write in batch.groups[whole] if self.rng.random() < 0.5])
        return WriteBatch(batch.seq, groups)


class KillableJournal(Journal):
    """A journal whose process may be killed before, inside and after an append."""

    rng: Random
    kills = 0.0

    def append(self, changes: Sequence[Change]) -> int:
        fate = self.rng.random()
        if fate < self.kills:
            if self._fd is not None and fate < self.kills / 2:
                os.write(self._fd, self.rng.randbytes(self.rng.randrange(1, 90)))  # as far as it came
            raise Killed
        return super().append(changes)

    def abandon(self) -> None:
        """The descriptors end with the process."""
        for descriptor in (*self._retired, *([] if self._fd is None else [self._fd])):
            os.close(descriptor)
        self._retired, self._fd = [], None


class Simulation:
    """One life of an exchange and of the programs that watched it, one after the other.

    Attributes:
        seen_orders / seen_positions: what the diff was shown, up to what a kill took back.
        gaps: streams and times of the gaps that were told.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = Random(seed)
        self.folder = folder
        self.exchange = Exchange(timed=self.rng.random() < 0.5, most_orders=9)
        self.store = FailingStore(self.rng)
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.seen_orders: list[dict[int, Order]] = []
        self.seen_positions: list[dict[str, Position]] = []
        self.gaps: set[tuple[str, int]] = set()
        self.starts = 0
        self._newest_ms: dict[type, int] = {}
        self._on_trial: Data | None = None
        self._kills = self.rng.choice([0.0, 0.01, 0.05])
        self._memory = self.rng.choice([3, 20, 10_000])
        self._segment = self.rng.choice([2, 7, 5_000])

    async def run(self, steps: int) -> None:
        """So many steps with faults, then to a good end without them."""
        await self._start()
        await self._receive(list(self.exchange.show()))
        for _ in range(steps):
            await self._receive(list(self.exchange.do(self.rng.choice(ACTIONS), self.rng.randrange(10_000))))
            await self._look_after_it()
        self.store.faults, self.journal.kills, self._kills = False, 0.0, 0.0
        await self._receive([*self.exchange.show(), *self.exchange.show(), "drain"])
        await self.flusher.drain()

    async def repeat_everything(self) -> None:
        """Start once more without the note of what is stored."""
        self.journal.abandon()
        (self.folder / DIRECTORY / ACKED_FILE).unlink(missing_ok=True)
        await self._start()

    def events(self, collection: Collection, key: str, told: str) -> dict[Any, list[str]]:
        """What was stored of each order or coin, in order of revision, which must be without gaps and repeats."""
        found: dict[Any, list[str]] = {}
        for event in sorted(self.store.documents(collection), key=lambda event: event["revision"]):
            story = found.setdefault(event[key], [])
            assert event["revision"] == len(story) + 1, event
            story.append(event[told])
        return found

    # -- the program -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """As `src.app` does: journal first, then what is known, then the streams."""
        while True:
            self.starts += 1
            self._assemble()
            try:
                while len(self.pending):
                    await self.flusher.flush_once()
                await roll_forward(self.store)
                await restore_holes(self.store, self.diff)
                await restore_traders(self.store, self.diff, [TRADER], self.exchange.now_ms)
            except Killed:
                self.journal.abandon()
            except StoreError:
                continue
            else:
                self.journal.kills = self._kills
                return

    def _assemble(self) -> None:
        metrics, clock = self.metrics, self.clock
        self.journal = KillableJournal(self.folder / DIRECTORY, limit_bytes=1 << 30, segment_bytes=1 << 16)
        self.journal.rng = self.rng
        self.journal.open()
        self.pending = Pending(
            self._memory, clock=clock, metrics=metrics, journal=self.journal, segment_size=self._segment
        )
        self.diff = Diff(metrics=metrics)
        self.flusher = Flusher(store=self.store, pending=self.pending, metrics=metrics, clock=clock, interval_s=3_600)
        self.pipeline = Pipeline(
            buffer=Buffer(self.rng.choice([1, 4, 1_000]), metrics=metrics),
            diff=self.diff,
            hub=Hub(metrics=metrics),
            pending=self.pending,
            flusher=self.flusher,
            metrics=metrics,
            clock=clock,
            drain_interval_s=3_600,
        )
        sound = self.diff.apply
        self.diff.apply = lambda data: (self._note_seen(data), sound(data))[1]  # type: ignore[method-assign]
        add = self.pending.add
        self.pending.add = lambda changes, stream=None: (add(changes, stream), self._settle())[0]  # type: ignore[method-assign]
        self._newest_ms.clear()

    def _note_seen(self, data: Data) -> None:
        """What this frame shows, unless it is older than what was shown already."""
        self._settle()
        self._on_trial = data

    def _settle(self) -> None:
        """The changes of the last frame are in the journal: it was seen."""
        data, self._on_trial = self._on_trial, None
        for message in data.messages if data is not None else ():
            if not isinstance(message, OrdersSnapshot | PositionsSnapshot):
                continue
            if (message.time_ms or 0) < self._newest_ms.get(type(message), 0):
                continue
            self._newest_ms[type(message)] = message.time_ms or 0
            if isinstance(message, OrdersSnapshot):
                self.seen_orders.append({oid: unpack_order(row) for oid, row in message.rows.items()})
            else:
                self.seen_positions.append(dict(message.positions))

    # -- the world -------------------------------------------------------------------------------------------------

    async def _receive(self, items: Sequence[Data | Gap | str]) -> None:
        try:
            for item in items:
                if isinstance(item, Data):
                    self.pipeline.data(item)
                elif isinstance(item, Gap):
                    known = set(self.diff.holes)
                    self.pipeline.gap(item)
                    self.gaps |= {(str(stream), item.at_ms) for stream in item.streams if stream not in known}
                else:
                    self.pipeline.drain()
                self._settle()
        except Killed:
            await self._killed()

    async def _look_after_it(self) -> None:
        """What timers do: drain, flush, note; and now and then the end of the process."""
        fate = self.rng.random()
        try:
            if fate < 0.4:
                self.pipeline.drain()
                self._settle()
            elif fate < 0.7:
                await self.flusher.flush_once()
            elif fate < 0.8:
                self.journal.save_ack()
            elif fate < 0.8 + self._kills:
                raise Killed  # noqa: TRY301 - as from any of the calls above
        except Killed:
            await self._killed()

    async def _killed(self) -> None:
        self._on_trial = None
        self.journal.abandon()
        await self._start()
        await self._receive(list(self.exchange.reconnect()))
