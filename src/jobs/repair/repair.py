"""What was not seen is looked up afterwards: orders, fills and trades, and what holes can be closed.

`Repair.heard` listens to the hub and only takes notes; `Repair.run` asks the venue's history, as fast as its limits
allow. Nothing is looked up before the change that asks for it is stored, so results never overtake what they explain.
Everything may be done twice. What a full queue or a stop leaves behind is found again in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from src.jobs.repair.due_queue import DueQueue
from src.jobs.repair.history import History, Shown
from src.jobs.repair.look_up import (
    BARRIER_CAP_S,
    BARRIER_FIRST_S,
    FAILED_CAP_S,
    FAILED_FIRST_S,
    MOST_ATTEMPTS,
    POLL_S,
    LookUp,
)
from src.jobs.repair.plan import (
    ClosedHole,
    Verdict,
    judge_trades,
    no_history,
    patch_of_hole,
)
from src.jobs.repair.store import RepairStore, is_nobodys_trouble
from src.jobs.repair.trader import Learned, TraderRepair
from src.models.changes import Change, HoleClosed, TradeSeen
from src.models.clock import Clock
from src.models.errors import StoreError, VenueError, VenueRequestError
from src.models.messages import Trade
from src.models.metrics import REPAIRS, REPAIRS_WAITING, Metrics
from src.models.streams import StreamKey
from src.pipeline.documents import write_of_trade
from src.store.base import Store

log = structlog.get_logger(__name__)

SETTLE_S = 2.0
"""Between the end of a hole and the look at the history, which may lag behind the feed."""

HOLES_LIMIT = 10_000
WINDOWS_LIMIT = 1_000
AT_ONCE = 200
"""Holes looked at in one go."""


class Repair(LookUp):
    """See the module. ``history`` is of one venue; streams of others are left alone.

    Args:
        store: read and written directly, besides the pipeline.
        history: the venue's past, paid from the shared budget.
        clock: monotonic for waiting.
        metrics: outcomes, drops, and how much waits.
        fills: whether fills are collected at all.
        publish: hears of trades and fills that were missing (candles and live clients want to know).
        settle_s: see `SETTLE_S`.
        poll_s: seconds between looks at what waits.
        holes_limit: holes that may wait in memory.
        learned: hears what orders of a trader the history told.
    """

    def __init__(
        self,
        store: Store,
        history: History,
        clock: Clock,
        metrics: Metrics,
        *,
        fills: bool = True,
        publish: Callable[[Sequence[Change]], None] = lambda _: None,
        settle_s: float = SETTLE_S,
        poll_s: float = POLL_S,
        holes_limit: int = HOLES_LIMIT,
        learned: Learned = lambda *_: None,
    ) -> None:
        super().__init__(clock, metrics, what="holes", gauge=REPAIRS_WAITING, poll_s=poll_s)
        self._store = RepairStore(store, metrics)
        self._history = history
        self._publish = publish
        self._settle_s = settle_s
        self._trader = TraderRepair(
            self._store, history, clock, metrics, fills=fills, publish=publish, learned=learned
        )
        self._holes: DueQueue[ClosedHole] = DueQueue(holes_limit)
        self._windows: dict[str, Sequence[Trade]] = {}

    # -- listening -------------------------------------------------------------------------------------------------

    def heard(self, changes: Sequence[Change]) -> None:
        """Take note of what has to be looked up; a listener of the hub."""
        for change in changes:
            if (
                isinstance(change, HoleClosed)
                and change.venue == self._history.venue
                and not is_nobodys_trouble(change.reason)
            ):
                self._note_hole(ClosedHole(StreamKey.parse(change.stream), change.from_ms, change.to_ms))

    def waiting(self) -> int:
        """How many holes wait to be looked up."""
        return len(self._holes)

    # -- one round -------------------------------------------------------------------------------------------------

    async def _work_once(self) -> bool:
        """One round over what is due; False when nothing was."""
        failure = await self._fetch_windows()
        now_s = self._clock.monotonic()
        holes = await self._stored_holes(self._holes.ready(now_s, AT_ONCE))
        traders: dict[str, list[ClosedHole]] = {}
        for hole in holes:
            shown = self._shown(hole)
            if Shown.TRADES in shown:
                await self._repair_trades(hole)
            elif shown <= {Shown.BOOKS}:
                await self._leave(hole, [no_history(Shown.BOOKS)])
            else:
                traders.setdefault(hole.stream.subject, []).append(hole)
        for trader, its_holes in traders.items():
            await self._repair_trader(trader, its_holes)
        if failure is not None:
            raise failure
        return bool(holes)

    async def _repair_trader(self, trader: str, holes: list[ClosedHole]) -> None:
        try:
            await self._trader.repair(trader, holes)
        except VenueError as error:
            for hole in holes:
                await self._put_off_hole(hole, error)
            raise
        for hole in holes:
            self._forget_hole(hole)

    async def _fetch_windows(self) -> VenueError | None:
        """The venue's newest trades move on quickly: they are read at once and judged when MongoDB is as far.

        Returns:
            What kept the venue from answering; one failure may be about one coin, so the round goes on without it.
        """
        failures: list[VenueError] = []
        now_s = self._clock.monotonic() + self._settle_s
        fresh: dict[str, Sequence[Trade]] = {}
        for hole in self._holes.ready(now_s, HOLES_LIMIT).values():
            if Shown.TRADES not in self._shown(hole) or hole.id in self._windows:
                continue
            if len(self._windows) >= WINDOWS_LIMIT or len(failures) > 1:
                break
            symbol = hole.stream.subject
            if symbol not in fresh:
                try:
                    fresh[symbol] = await self._history.recent_trades(symbol)
                except VenueError as error:
                    failures.append(error)
                    await self._put_off_hole(hole, error)
                    continue
            self._windows[hole.id] = fresh[symbol]
        return failures[0] if failures else None

    async def _repair_trades(self, hole: ClosedHole) -> None:
        window = self._windows.get(hole.id)
        if window is None:
            self._put_off(hole.id, BARRIER_FIRST_S, BARRIER_CAP_S)
            return  # too many at once: its turn comes when others are done
        anchor = await self._store.newest_trade(hole.stream.venue, hole.stream.subject, hole.from_ms)
        by_id = {}
        for trade in window:
            insert = write_of_trade(TradeSeen(trade))
            by_id[insert.document["_id"]] = (insert, trade)
        missing = await self._store.missing([insert for insert, _ in by_id.values()])
        await self._store.write(missing, "trades")
        if missing:
            self._publish([TradeSeen(by_id[insert.document["_id"]][1]) for insert in missing])
        await self._leave(hole, [judge_trades(window, anchor)])

    async def _leave(self, hole: ClosedHole, verdicts: Sequence[Verdict]) -> None:
        """Write down what could be proved; the hole needs nothing more."""
        await self._store.write([patch_of_hole(hole, verdicts, self._clock.wall_ms())], "holes")
        for verdict in verdicts:
            self._metrics.add(REPAIRS, verdict.what, "complete" if verdict.complete else "incomplete")
        self._forget_hole(hole)

    # -- barrier: nothing is looked up before it is stored ---------------------------------------------------------

    async def _stored_holes(self, due: dict[str, ClosedHole]) -> list[ClosedHole]:
        if not due:
            return []
        stored = await self._store.stored_holes(due)
        for key, hole in due.items():
            if key not in stored and self._put_off(key, BARRIER_FIRST_S, BARRIER_CAP_S):
                self._drop("never_stored")
                self._forget_hole(hole)
        return [hole for key, hole in due.items() if key in stored]

    async def _find_undone(self, now_ms: int) -> None:
        for hole in await self._store.unlooked_holes(self._history.venue, now_ms):
            self._note_hole(hole)
        if self.waiting():
            log.info("repairs_found", holes=len(self._holes))

    # -- notes -----------------------------------------------------------------------------------------------------

    def _note_hole(self, hole: ClosedHole) -> None:
        if not self._shown(hole):
            return
        if not self._holes.add(hole.id, hole, self._clock.monotonic() + self._settle_s):
            self._drop("queue_full")
        self._show_waiting()
        self._wake.set()

    def _tell_store_away(self, error: StoreError) -> None:
        log.debug("repair_waits_for_mongodb", error=str(error))

    def _tell_delay(self, error: VenueError) -> None:
        log.warning("repair_delayed", error=str(error), waiting=self.waiting())

    async def _put_off_hole(self, hole: ClosedHole, error: VenueError) -> None:
        """Try again later what the venue did not answer; what it calls wrong, or never answers, is left as it is."""
        exhausted = self._put_off(hole.id, FAILED_FIRST_S, FAILED_CAP_S)
        if exhausted or isinstance(error, VenueRequestError):
            note = f"the venue's history could not be read: {error}"[:300]
            verdicts = [Verdict(one.value, complete=False, note=note) for one in sorted(self._shown(hole))]
            await self._leave(hole, verdicts)

    def _put_off(self, key: str, first_s: float, cap_s: float) -> bool:
        """Make ``key`` due later; True when that happened too often."""
        return self._holes.put_off(key, self._clock.monotonic(), first_s=first_s, cap_s=cap_s) > MOST_ATTEMPTS

    def _forget_hole(self, hole: ClosedHole) -> None:
        self._holes.done(hole.id)
        self._windows.pop(hole.id, None)
        self._show_waiting()

    def _shown(self, hole: ClosedHole) -> frozenset[Shown]:
        return self._history.shown.get(hole.stream.channel, frozenset())
