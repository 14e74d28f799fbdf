"""A collector reduced to what repair needs: connections, diff, hub and a store that is written in order, at once.

It can be killed (nothing more is written, nobody says goodbye) and started again on the same database.
"""

import asyncio
import contextlib

from src.config import Settings
from src.jobs.hyperliquid.history import HyperliquidHistory
from src.jobs.hyperliquid.source import HyperliquidSource
from src.jobs.repair.close_details import CloseDetails
from src.jobs.repair.reasons import Reasons
from src.jobs.repair.repair import Repair
from src.jobs.repair.store import RepairStore
from src.jobs.writer.heartbeat import Heartbeat, find_absences
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.pipeline.diff import Diff
from src.pipeline.hub import Hub
from src.pipeline.restore import restore_holes, restore_traders, roll_forward
from src.store.base import Query
from src.venues.clock import SystemClock
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import WeightBudget
from tests.support.truth import QUICK

WRITE_EVERY_S = 0.05


class RunningCollector:
    """One run. Also the `Sink` of its connections."""

    def __init__(self, store, simulator, *, coins=("BTC", "ETH"), history=True, **repair_options):
        self.store, self.simulator = store, simulator
        self.clock, self.metrics = SystemClock(), Metrics()
        self.diff, self.hub = Diff(metrics=self.metrics), Hub(metrics=self.metrics)
        settings = Settings(
            hyperliquid_ws_url=simulator.ws_url,
            hyperliquid_api_url=simulator.api_url,
            hyperliquid_coins=coins,
            hyperliquid_dexes=("xyz",),
            trader_ws_clients=2,
            hyperliquid_pinned=10,
        )
        self.source = HyperliquidSource(settings, sink=self, clock=self.clock, metrics=self.metrics, pace=QUICK)
        self.source._tells_history = history
        self.rest = HyperliquidRest(
            simulator.api_url,
            clock=self.clock,
            metrics=self.metrics,
            budget=WeightBudget(clock=self.clock, per_minute=100_000),
        )
        options = {"settle_s": 0.3, "poll_s": 0.05} | repair_options
        history = HyperliquidHistory([self.rest], self.clock, self.metrics)
        reasons_store = RepairStore(store, self.metrics)
        self.details = CloseDetails(
            reasons_store, self.clock, self.metrics, venue="hyperliquid", settle_s=0.3, poll_s=0.05
        )
        self.reasons = Reasons(
            reasons_store,
            history,
            self.clock,
            self.metrics,
            explained=self.details.explained,
            grace_s=0.5,
            poll_s=0.05,
        )
        options |= {"publish": self.hub.publish, "learned": self.reasons.learned}
        self.repair = Repair(store, history, self.clock, self.metrics, **options)
        self.hub.listen("repair", self.repair.heard)
        self.hub.listen("reasons", self.reasons.heard)
        self.hub.listen("details", self.details.heard)
        self.heartbeat = Heartbeat(store, self.clock, version="test", streams=self.source.streams, interval_s=0.2)
        self.stopping = asyncio.Event()
        self.refused_frames = []
        self._pending = []
        self._alive = True
        self._tasks = []

    # -- Sink ------------------------------------------------------------------------------------------------------

    def data(self, data):
        self._take(self.diff.apply(data))

    def gap(self, gap):
        self._take(self.diff.apply_gap(gap))

    def refused(self, refusal, failed):
        raise AssertionError(f"nothing is refused here: {refusal} {failed}")

    def rejected(self, letter):
        self.refused_frames.append(letter)

    def _take(self, changes):
        if self._alive and changes:
            self.hub.publish(changes)
            self._pending.extend(changes)

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self):
        traders = self.simulator.traders
        await roll_forward(self.store)
        await restore_holes(self.store, self.diff)
        await restore_traders(self.store, self.diff, traders, self.clock.wall_ms())
        self.source.follow(traders)
        gaps = await find_absences(
            self.store,
            self.source.streams(),
            last=await self.heartbeat.last(),
            open_holes=self.diff.holes,
            now_ms=self.clock.wall_ms(),
        )
        for gap in gaps:
            self.gap(gap)
        works = (
            self.source.run(),
            self._write(),
            self.repair.run(self.stopping),
            self.reasons.run(self.stopping),
            self.details.run(self.stopping),
            self.heartbeat.run(self.stopping),
        )
        self._tasks = [asyncio.create_task(work) for work in works]
        return self

    async def kill(self):
        """End as a power cut would: what was not written is gone."""
        self._alive = False
        for session in list(self.simulator.sessions.values()):
            session.abort()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        await self.rest.close()

    async def _write(self):
        while True:
            builder, count = BatchBuilder(1), len(self._pending)
            for change in self._pending:
                builder.add(change)
            if count:
                result = await self.store.write(builder.build())
                assert not result.rejected
                del self._pending[:count]
            await asyncio.sleep(WRITE_EVERY_S)

    def waiting(self):
        """Holes and closes that are still to be looked up."""
        return self.repair.waiting() + self.reasons.waiting()

    async def until(self, condition, timeout_s=30.0, what="the condition"):
        """Wait until ``await condition()``; a task that died ends the waiting."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await condition():
                    for task in self._tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{what} did not come true within {timeout_s} s") from None

    async def until_all_seen(self, *, trades=False):
        """Wait until every stream is seen again (trades only if asked: a market may be quiet) and all is looked up."""

        async def settled():
            open_holes = [s for s in self.diff.holes if trades or s.channel != "trades"]
            return not open_holes and not self._pending and not self.waiting()

        try:
            await self.until(settled, what="a state without holes and repairs")
        except AssertionError as error:
            error.add_note(f"holes {self.diff.holes}, repairs {self.waiting()}")
            error.add_note(f"{[(m.name, labels, value) for m, labels, value in self.metrics.samples()]}")
            raise


@contextlib.asynccontextmanager
async def collecting(store, simulator, **options):
    """A run that is killed at the end of the block, if it still lives."""
    run = RunningCollector(store, simulator, **options)
    await run.start()
    try:
        yield run
    finally:
        await run.kill()


async def documents(store, collection, **equals):
    return [document async for document in store.find(collection, Query(equals=equals))]


async def late_closes(store):
    return await documents(store, Collection.TRADER_ORDER_EVENTS, action="closed", closeObserved="late")


def endings(simulator):
    """By (trader, oid): how and when the order ended, by the truth log."""
    return {
        (event.trader, event.oid): (event.reason or "filled", event.time_ms)
        for event in simulator.truth.of("filled", "canceled")
    }


def fill_ids(simulator, trader):
    return [
        f"{trader}:{fill.coin}:{fill.time}:{fill.tid}:{fill.oid}" for fill in simulator.market.traders[trader].fills
    ]
