"""Several programs that want to write to one database, in virtual time, with everything that can happen to them."""

import asyncio
import contextlib
import random

from src.jobs.writer.lease import WriterLease
from src.jobs.writer.rules import LEASE_ID, Holder
from src.models.errors import StoreError
from src.models.writes import Collection, Insert, WriteBatch
from src.store.base import Query
from src.store.memory import MemoryStore

TIMEOUT_S = 5.0
TAKEOVER_BOUND_S = 15.0
LOOK_S = 0.05


class SkewedClock:
    """A monotonic clock with its own origin and its own idea of a second; the wall clock may be anything."""

    def __init__(self, *, offset_s, rate, wall_offset_ms):
        self._offset_s, self._rate, self._wall_offset_ms = offset_s, rate, wall_offset_ms

    def monotonic(self):
        return self._offset_s + self._rate * asyncio.get_running_loop().time()

    def wall_ms(self):
        return 1_700_000_000_000 + self._wall_offset_ms + int(1000 * asyncio.get_running_loop().time())


class World:
    """One server and the programs on it.

    Attributes:
        arrived: (time, run) of every batch in the order in which the server applied them.
        takeovers: (time, run) of every tenure.
        problems: promises that were broken.
    """

    def __init__(self, seed, *, losses=0.0):
        self.rng = random.Random(seed)
        self.server = MemoryStore()
        self.losses = losses
        self.is_up = True
        self.programs = []
        self.arrived, self.takeovers, self.problems = [], [], []
        self._background = set()

    def program(self, name):
        self.programs.append(Program(self, name))
        return self.programs[-1]

    @property
    def owner(self):
        """``run`` of whoever has the lease by the document, None = nobody yet."""
        for document in self.server.documents(Collection.SCHEMA):
            if document["_id"] == LEASE_ID:
                return None if document.get("released") else document.get("run")
        return None

    @property
    def term(self):
        return next((d["term"] for d in self.server.documents(Collection.SCHEMA) if d["_id"] == LEASE_ID), 0)

    def later(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def apply(self, batch):
        before = self.owner
        result = await self.server.write(batch)
        now, owner = asyncio.get_running_loop().time(), self.owner
        if owner != before and owner is not None:
            self.takeovers.append((now, owner))
        for group in batch.groups:
            self.arrived += [(now, w.document["run"]) for w in group if w.collection is Collection.TRADES]
        return result

    def heal(self):
        self.is_up, self.losses = True, 0.0
        for program in self.programs:
            program.thaw()
            program.is_cut_off = False


class Remote:
    """The store as one program reaches it: slow, sometimes away, sometimes losing questions or answers."""

    def __init__(self, world, program):
        self._world, self._program = world, program

    async def write(self, batch):
        is_lease = any(write.collection is Collection.SCHEMA for group in batch.groups for write in group)
        fate = self._fate(("question", "answer", "late") if is_lease else ("question", "answer"))
        await self._travel(lost=fate == "question")
        if fate == "late":
            self._world.later(self._arrive_late(batch))
            await self._time_out()
        result = await self._world.apply(batch)
        await self._travel(lost=fate == "answer")
        return result

    async def find(self, collection, query):
        await self._travel(lost=self._fate(("question",)) == "question")
        found = [document async for document in self._world.server.find(collection, query)]
        await self._travel()
        for document in found:
            yield document

    async def _travel(self, *, lost=False):
        await self._program.thawed.wait()
        await asyncio.sleep(self._world.rng.uniform(0.001, 0.05))
        if lost or self._program.is_cut_off or not self._world.is_up:
            await self._time_out()
        await self._program.thawed.wait()

    async def _time_out(self):
        await asyncio.sleep(TIMEOUT_S)
        await self._program.thawed.wait()
        raise StoreError("timed out")

    async def _arrive_late(self, batch):
        await asyncio.sleep(self._world.rng.uniform(TIMEOUT_S, 30.0))
        await self._world.apply(batch)

    def _fate(self, fates):
        rng = self._world.rng
        return rng.choice(fates) if rng.random() < self._world.losses else None


class Program:
    """A collector reduced to its lease and its flush. `kill` and `start` may alternate."""

    def __init__(self, world, name):
        rng = world.rng
        self._world, self.name = world, name
        self._clock = SkewedClock(
            offset_s=rng.uniform(0, 1e6),
            rate=rng.uniform(0.98, 1.02),
            wall_offset_ms=rng.randrange(-(10**10), 10**10),
        )
        self._task = None
        self._starts = 0
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.is_cut_off = False
        self.lease = None
        self.run = ""
        self.ended = None
        self.waited_for = []

    @property
    def is_alive(self):
        return self._task is not None and not self._task.done()

    @property
    def writes(self):
        return self.is_alive and self.thawed.is_set() and self.lease.is_held

    def start(self):
        assert not self.is_alive
        self._starts += 1
        self.run, self.ended = f"{self.name}.{self._starts}", None
        holder = Holder(id=self.name, host=f"host-{self.name}", pid=self._starts, run=self.run)
        self.lease = WriterLease(Remote(self._world, self), self._clock, holder=holder)
        self.stopping = asyncio.Event()
        self._task = asyncio.ensure_future(self._live())

    def kill(self):
        if self.is_alive:
            self._task.cancel()
        self._task = None
        self.thaw()

    def freeze(self):
        self.thawed.clear()

    def thaw(self):
        self.thawed.set()

    async def stop(self):
        self.stopping.set()
        await self._task

    async def _live(self):
        if not await self.lease.acquire(self.stopping, self.waited_for.append):
            self.ended = "stopped while waiting"
            return
        renewing = asyncio.ensure_future(self.lease.run(asyncio.Event()))
        try:
            while not self.stopping.is_set() and not self.lease.lost.is_set():
                await self._flush()
                await asyncio.sleep(self._world.rng.uniform(0.05, 0.4))
                await self.thawed.wait()
            self.ended = "lost" if self.lease.lost.is_set() else "stopped"
        finally:
            renewing.cancel()
        if self.ended == "stopped":
            await self.lease.release()

    async def _flush(self):
        if not self.lease.is_held:
            return
        if self._world.owner != self.run:
            self._world.problems.append(
                f"{self.run} offers a batch at {asyncio.get_running_loop().time():.2f} while {self._world.owner} writes"
            )
        batch = WriteBatch(1, [[Insert(Collection.TRADES, {"_id": f"{self._world.rng.random()}", "run": self.run})]])
        with contextlib.suppress(StoreError):
            await Remote(self._world, self).write(batch)


async def watch_takeovers(world, bound_s=TAKEOVER_BOUND_S):
    """Note a problem whenever nobody writes for ``bound_s`` although somebody could all the time."""
    loop = asyncio.get_running_loop()
    last_written, able_since = loop.time(), {}
    while True:
        now = loop.time()
        if any(program.writes for program in world.programs):
            last_written = now
        for program in world.programs:
            able = program.is_alive and program.thawed.is_set() and not program.is_cut_off and world.is_up
            if not able or program.ended:
                able_since[program.run] = now + LOOK_S + TIMEOUT_S  # the call under way has to time out first
                continue
            since = max(able_since.setdefault(program.run, now), last_written)
            if now - since > bound_s:
                world.problems.append(f"nobody writes at {now:.2f} for {now - since:.1f} s, {program.run} could")
                last_written = now
        await asyncio.sleep(LOOK_S)


def overlapping(world):
    """Batches of each fenced run that arrived after the next tenure had begun."""
    late = {}
    order = [run for _, run in world.takeovers]
    for at, run in world.arrived:
        position = len(order) - 1 - order[::-1].index(run)
        if position + 1 < len(order) and at > world.takeovers[position + 1][0]:
            late[run] = late.get(run, 0) + 1
    return late


async def lease_document(store):
    """The lease as it stands in a store."""
    async for document in store.find(Collection.SCHEMA, Query(equals={"_id": LEASE_ID})):
        return document
    return None
