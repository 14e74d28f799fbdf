"""Why orders ended: every close that nobody has explained is looked up in the venue's history, within its limits.

Where a feed tells the reason there is nothing to do. The others wait here: a close that was seen a moment, because
the feed may still tell; one found late is asked for at once. One request explains the newest orders of a trader or a
single one, whichever is cheaper for what waits. What the venue does not tell (yet) is asked for again after growing
waits, and in the end stays ``unknown``. Nothing is asked before the close is stored, so no answer overtakes it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

from src.jobs.repair.due_queue import DueQueue
from src.jobs.repair.history import History, PastOrder
from src.jobs.repair.look_up import (
    BARRIER_CAP_S,
    BARRIER_FIRST_S,
    FAILED_CAP_S,
    FAILED_FIRST_S,
    MOST_ATTEMPTS,
    POLL_S,
    LookUp,
)
from src.jobs.repair.plan import Close, latest_by_oid, patch_of_unknown, patches_of_close
from src.jobs.repair.store import RepairStore, Stage
from src.models.changes import Change, OrderChange, OrderEnded
from src.models.clock import Clock
from src.models.errors import CollectorError, StoreError, VenueError, VenueRequestError
from src.models.metrics import CLOSE_REASONS, REASONS_WAITING, REPAIRS, Metrics

log = structlog.get_logger(__name__)

GRACE_S = 10.0
"""How long the feed may take to tell the reason of a close that was seen."""

CLOSES_LIMIT = 20_000
AT_ONCE = 200
"""Closes looked at in one go."""

BACKLOG = 2_000
"""With more closes waiting than this, those of whom most wait come first: one request then explains many."""

TRADERS_AT_ONCE = 4
"""Traders asked about at the same time."""

USUAL_ROWS = 1_200
"""Rows of a trader's order history, as long as it was never read."""

ASK_AGAIN_FIRST_S, ASK_AGAIN_CAP_S = 10.0, 3_600.0
MOST_ASKS = 10
"""How often the venue is asked about an order it does not know, or says to live, before the reason stays unknown."""

Ending = Literal["resolved", "alive", "unknown"]
Explained = Callable[[Sequence[tuple[Close, PastOrder]]], None]


class Reasons(LookUp):
    """See the module. ``history`` is of one venue; orders of others are left alone.

    Args:
        store: read and written directly, besides the pipeline.
        history: the venue's past, paid from the shared budget.
        clock: monotonic for waiting.
        metrics: outcomes, drops, and how much waits.
        explained: hears which closes were explained.
        limit: closes that may wait in memory; the others are found in the database later.
        grace_s: see `GRACE_S`.
        poll_s: seconds between looks at what waits.
    """

    def __init__(
        self,
        store: RepairStore,
        history: History,
        clock: Clock,
        metrics: Metrics,
        *,
        explained: Explained = lambda _: None,
        limit: int = CLOSES_LIMIT,
        grace_s: float = GRACE_S,
        poll_s: float = POLL_S,
    ) -> None:
        super().__init__(clock, metrics, what="closes", gauge=REASONS_WAITING, poll_s=poll_s)
        self._store = store
        self._history = history
        self._explained = explained
        self._grace_s = grace_s
        self._closes: DueQueue[Close] = DueQueue(limit)
        self._of_trader: dict[str, dict[str, Close]] = {}
        self._found: dict[str, PastOrder] = {}
        self._asks: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._unexplained: list[Close] = []

    # -- listening -------------------------------------------------------------------------------------------------

    def heard(self, changes: Sequence[Change]) -> None:
        """Take note of closes without a reason, and of reasons that were told meanwhile; a listener of the hub."""
        for change in changes:
            self._hear(change)

    def _hear(self, change: Change) -> None:
        if isinstance(change, OrderEnded) and change.venue == self._history.venue:
            self._metrics.add(CLOSE_REASONS, change.venue, "feed")
            self._forget(Close(change.trader, change.oid, change.revision))
        elif isinstance(change, OrderChange) and change.action == "closed" and change.venue == self._history.venue:
            if change.reason is not None:
                self._metrics.add(CLOSE_REASONS, change.venue, change.source or "feed")
                return
            grace_s = self._grace_s if change.observed == "live" else 0.0
            self._note(Close(change.trader, change.order.oid, change.revision), grace_s)

    def learned(self, trader: str, past: Sequence[PastOrder]) -> None:
        """Somebody has read the newest orders of a trader: what waits for them need not be asked."""
        self._rows[trader] = len(past)
        ended = {oid: row for oid, row in latest_by_oid(past).items() if row.ended}
        for key, close in self._of_trader.get(trader, {}).items():
            if close.oid in ended:
                self._found[key] = ended[close.oid]

    def waiting(self) -> int:
        """How many closes wait for their reason."""
        return len(self._closes)

    # -- one round -------------------------------------------------------------------------------------------------

    async def _work_once(self) -> bool:
        """One round over what is due; False when nothing was."""
        due = await self._unresolved(self._chosen())
        traders = dict.fromkeys(close.trader for close in due)
        turns = asyncio.Semaphore(TRADERS_AT_ONCE)
        failures: list[CollectorError] = []

        async def explain(trader: str) -> None:
            async with turns:
                if failures:
                    return
                its_closes = [close for close in due if close.trader == trader]
                try:
                    await self._explain(trader, its_closes)
                except VenueError as error:
                    self._put_off(its_closes)
                    failures.append(error)
                except StoreError as error:
                    failures.append(error)

        try:
            async with asyncio.TaskGroup() as group:
                for trader in traders:
                    group.create_task(explain(trader))
        except ExceptionGroup as faults:  # of our own: who supervises wants to see the fault itself
            raise faults.exceptions[0] from None
        await self._mark_unexplained()
        if failures:
            raise failures[0]
        return bool(due)

    def _chosen(self) -> dict[str, Close]:
        """What is due in the order in which it came; of a backlog what is cheapest to explain."""
        now_s, waiting = self._clock.monotonic(), len(self._closes)
        if waiting <= BACKLOG:
            return self._closes.ready(now_s, AT_ONCE)
        due = self._closes.ready(now_s, waiting)
        most = Counter(close.trader for close in due.values()).most_common(TRADERS_AT_ONCE)
        chosen = {trader for trader, _ in most}
        return {key: close for key, close in due.items() if close.trader in chosen}

    async def _explain(self, trader: str, due: Sequence[Close]) -> None:
        """Find the reasons of one trader's closes; reading all of them helps those that are not due yet too."""
        waiting = len(self._of_trader.get(trader, {}).keys() - self._found.keys())
        unknown = [close for close in due if close.event_id not in self._found]
        whole = self._history.weight_of_all(trader, self._rows.get(trader, USUAL_ROWS))
        is_read = bool(unknown) and waiting * self._history.weight_of_one >= whole
        if is_read:
            self.learned(trader, await self._history.past_orders(trader))
        found = self._found
        await self._store_found([(c, found[c.event_id]) for c in due if c.event_id in found], "history")
        for close in unknown:
            if self._closes.is_due(close.event_id, self._clock.monotonic()):
                await self._ask(close)

    async def _ask(self, close: Close) -> None:
        try:
            order = await self._history.past_order(close.trader, close.oid)
        except VenueRequestError:  # it understood the question and has no answer: as good as not knowing the order
            order = None
        if order is not None and order.ended:
            await self._store_found([(close, order)], "status")
        else:
            self._note_ending(close, "unknown" if order is None else "alive")

    async def _store_found(self, found: Sequence[tuple[Close, PastOrder]], source: str) -> None:
        if not found:
            return
        now_ms = self._clock.wall_ms()
        patches = [patches_of_close(close, order, now_ms) for close, order in found]
        # The event last: as long as it has no reason, a restart finds it and asks again.
        await self._store.write([state for state, _ in patches], "closes")
        await self._store.write([event for _, event in patches], "closes")
        self._metrics.add(CLOSE_REASONS, self._history.venue, source, amount=len(found))
        for close, _ in found:
            self._note_ending(close, "resolved")
        self._explained(found)

    async def _mark_unexplained(self) -> None:
        """Note on events that their reason stays unknown, so that no later start asks again."""
        if self._unexplained:
            await self._store.write([patch_of_unknown(close) for close in self._unexplained], "closes")
            self._metrics.add(CLOSE_REASONS, self._history.venue, "unknown", amount=len(self._unexplained))
            self._unexplained.clear()

    # -- barrier: nothing is looked up before it is stored ---------------------------------------------------------

    async def _unresolved(self, due: dict[str, Close]) -> list[Close]:
        if not due:
            return []
        stages = await self._store.stages(list(due.values()))
        for key, stage in stages.items():
            if key not in self._closes:
                continue  # the feed has told it meanwhile
            if stage is Stage.NOT_YET_STORED:
                attempts = self._closes.put_off(
                    key, self._clock.monotonic(), first_s=BARRIER_FIRST_S, cap_s=BARRIER_CAP_S
                )
                if attempts > MOST_ATTEMPTS:
                    self._drop("never_stored")
                    self._forget(due[key])
            elif stage is not Stage.UNRESOLVED:
                self._metrics.add(REPAIRS, "closes", stage.value)
                self._forget(due[key])
        return [close for key, close in due.items() if stages[key] is Stage.UNRESOLVED and key in self._closes]

    async def _find_undone(self, now_ms: int) -> None:
        for close in await self._store.unlooked_closes(now_ms):
            self._note(close, 0.0)
        if self.waiting():
            log.info("closes_without_reason_found", closes=self.waiting())

    # -- notes -----------------------------------------------------------------------------------------------------

    def _note(self, close: Close, grace_s: float) -> None:
        key = close.event_id
        if self._closes.add(key, close, self._clock.monotonic() + grace_s):
            self._of_trader.setdefault(close.trader, {})[key] = close
        else:
            self._drop("queue_full")
        self._show_waiting()
        self._wake.set()

    def _note_ending(self, close: Close, ending: Ending) -> None:
        key = close.event_id
        if key not in self._closes:
            return  # the feed was faster
        asks = self._asks.get(key, 0) + 1
        if ending != "resolved" and asks < MOST_ASKS:
            self._asks[key] = asks
            now_s = self._clock.monotonic()
            if asks == 1:
                self._closes.restart(key)  # what waited before has nothing to do with how long the venue takes
            self._closes.put_off(key, now_s, first_s=ASK_AGAIN_FIRST_S, cap_s=ASK_AGAIN_CAP_S)
            return
        if ending != "resolved":
            self._unexplained.append(close)
        self._metrics.add(REPAIRS, "closes", ending)
        self._forget(close)

    def _tell_store_away(self, error: StoreError) -> None:
        log.debug("reasons_wait_for_mongodb", error=str(error))

    def _tell_delay(self, error: VenueError) -> None:
        log.warning("reasons_delayed", error=str(error), waiting=self.waiting())

    def _put_off(self, closes: Sequence[Close]) -> None:
        now_s = self._clock.monotonic()
        for close in closes:
            key = close.event_id
            if not self._closes.is_due(key, now_s):
                continue
            if self._closes.put_off(key, now_s, first_s=FAILED_FIRST_S, cap_s=FAILED_CAP_S) > MOST_ATTEMPTS:
                self._drop("venue_away")
                self._forget(close)

    def _forget(self, close: Close) -> None:
        key = close.event_id
        self._closes.done(key)
        of_trader = self._of_trader.get(close.trader, {})
        of_trader.pop(key, None)
        if not of_trader:
            self._of_trader.pop(close.trader, None)
        self._asks.pop(key, None)
        self._found.pop(key, None)
        self._show_waiting()
