"""The budget from which REST requests are paid: who goes first, and never more than the venue allows.

The venue grants each address 1200 weight per minute, shared by ``/info``, ``/exchange``, the explorer and posts over
the WebSocket (rate-limits-and-user-limits page); no endpoint tells what is left. Time comes from an injected clock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any

from msgspec import Struct

from src.models.clock import Clock
from src.models.metrics import (
    REST_REFUSALS,
    REST_WAITING,
    REST_WEIGHT_SPENT,
    REST_WEIGHT_USABLE,
    REST_WEIGHT_USED,
    Metrics,
)

VENUE = "hyperliquid"
WEIGHT_PER_MINUTE = 1200
WINDOW_S = 60.0
USABLE_SHARE = 0.9
"""Part of the published limit that we spend: the venue's minute is not ours, and another program may share it."""

HELD_POLL_S = 0.05
"""How soon to look again when only requests without an answer yet are in the way."""

LOOK_AGAIN_S = 1.0
"""How long the request whose turn it is sleeps at most: the turn may pass to one that has waited too long."""


class Priority(IntEnum):
    """Who goes first when the budget is short; the smaller the number the sooner."""

    REPAIR = 0
    """What a hole hid: the venue keeps it for a limited time only."""
    REASON = 1
    """Why orders ended."""
    POLL = 2
    """Looks at traders without a WebSocket slot."""
    BACKFILL = 3
    """The past."""

    @property
    def label(self) -> str:
        """Its name in ``/stats`` and metrics."""
        return self.name.lower()


FLOORS: Mapping[Priority, float] = {Priority.REASON: 0.1, Priority.POLL: 0.3, Priority.BACKFILL: 0.05}
"""Share of the budget that a priority gets in every minute however much the ones before it want."""

PATIENCE_S = 5.0
"""How long a request that is still owed its priority's floor lets better ones pass; those after it need not wait."""

FIRST_PAUSE_S = 5.0
"""Pause after a 429 that does not say how long; doubled with each one that follows. ``Retry-After`` is not
documented, nor is how long a ban lasts."""
LONGEST_PAUSE_S = 60.0
SHRINK_BY = 0.7
LEAST_SHARE = 0.1
GROWTH_PER_MINUTE = 0.1
"""A 429 shrinks the budget to this part of itself; each minute without another gives a tenth of the whole back."""

FAILURES_BORNE = 4
"""Failures (5xx, no answer) in a row before the whole address pauses; one request alone may be what is wrong."""
FAILED_PAUSE_S = 1.0
LONGEST_FAILED_PAUSE_S = 30.0


class Hold(Struct):
    """Weight set aside for one request in flight; give it back with `WeightBudget.settle`, once."""

    weight: int
    priority: Priority = Priority.POLL
    taken_s: float = 0.0


class _Waiter(Struct, eq=False):
    weight: int
    priority: Priority
    since_s: float
    turn: asyncio.Event


class WeightBudget:
    """A sliding minute that never holds more weight than the usable share of the limit, shared out by priority.

    A request first takes a `Hold` for the most it can cost, which counts until it is settled with what it did cost;
    that price then counts for a minute from the settling. So the sum over any minute stays within ``usable`` unless
    an answer costs more than was held for it. One instance per egress address, for every REST and post request that
    leaves from there; memory is bounded by the limit and by how many requests wait.

    Of those that wait the best priority goes first, within one priority the first come; a cheap request never
    overtakes a dear one whose turn it is. A priority below its floor (see `FLOORS`) comes next after `PATIENCE_S`.

    The venue's answers are told with `accepted`, `refused` and `failed`: a 429 shrinks the budget and stops
    everything for a while, then one request at a time tries whether it is over.

    Args:
        clock: monotonic.
        per_minute: the published limit.
        usable_share: part of it that is spent.
        name: of the egress address, for people.
        metrics: weight spent, refusals and what waits.
        sleep: waits between looks.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        per_minute: int = WEIGHT_PER_MINUTE,
        usable_share: float = USABLE_SHARE,
        name: str = "direct",
        metrics: Metrics | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._sleep = sleep
        self.name = name
        self.per_minute = per_minute
        self.full = max(1, int(per_minute * usable_share))
        self._spent: deque[tuple[float, int, Priority]] = deque()
        self._spent_by = dict.fromkeys(Priority, 0)
        self._held_by = dict.fromkeys(Priority, 0)
        self._owed_until_s = dict.fromkeys(Priority, -math.inf)
        self._waiting: dict[Priority, deque[_Waiter]] = {priority: deque() for priority in Priority}
        self._paused_until = -math.inf
        self._share = 1.0
        self._share_since = -math.inf
        self._refusals_in_a_row = 0
        self._failures_in_a_row = 0
        self._last_trouble_s = -math.inf
        self._in_flight = 0
        self.refusals = 0

    # -- asking ----------------------------------------------------------------------------------------------------

    async def acquire(self, weight: int, priority: Priority = Priority.POLL) -> Hold:
        """Wait until it is this request's turn and ``weight`` fits; settle the hold with what the request cost."""
        waiter = _Waiter(weight, priority, self._clock.monotonic(), asyncio.Event())
        self._waiting[priority].append(waiter)
        try:
            while True:
                turn = self._next()
                if turn is waiter:
                    delay_s = self.delay(weight)
                    if delay_s <= 0:
                        return self._hold(weight, priority)
                    await self._sleep(min(delay_s, LOOK_AGAIN_S))
                else:
                    if turn is not None:
                        turn.turn.set()
                    waiter.turn.clear()
                    await waiter.turn.wait()
        finally:
            self._waiting[priority].remove(waiter)
            turn = self._next()
            if turn is not None:
                turn.turn.set()
            self._show()

    def take(self, weight: int, priority: Priority = Priority.POLL) -> Hold | None:
        """Set ``weight`` aside, or None when it does not fit now or somebody else goes first."""
        better = any(self._waiting[other] for other in Priority if other <= priority)
        return None if better or self.delay(weight) > 0 else self._hold(weight, priority)

    def settle(self, hold: Hold, spent: int) -> None:
        """Replace ``hold`` by what the request cost; to settle a hold again only adds to what was spent."""
        if hold.weight:
            self._held_by[hold.priority] -= hold.weight
            self._in_flight -= 1
        hold.weight = 0
        if spent > 0:
            self._spent.append((self._clock.monotonic(), spent, hold.priority))
            self._spent_by[hold.priority] += spent
            self._metrics.add(REST_WEIGHT_SPENT, VENUE, self.name, hold.priority.label, amount=spent)
        self._show()

    # -- what the venue said ---------------------------------------------------------------------------------------

    def accepted(self) -> None:
        """The venue answered: whatever stopped everything is over."""
        self._refusals_in_a_row = self._failures_in_a_row = 0

    def refused(self, hold: Hold, retry_after_s: float | None = None) -> float:
        """The venue said 429 (or bans the address); returns for how many seconds nothing is let through.

        Several refusals of requests that were sent together count as one.
        """
        now = self._clock.monotonic()
        self.refusals += 1
        self._metrics.add(REST_REFUSALS, VENUE, self.name)
        if hold.taken_s >= self._last_trouble_s:
            self._share, self._share_since = max(LEAST_SHARE, self.share() * SHRINK_BY), now
            pause_s = FIRST_PAUSE_S * 2 ** min(self._refusals_in_a_row, 10)
            if retry_after_s is not None:
                pause_s = max(retry_after_s, pause_s if self._refusals_in_a_row else 0.0)
            self._refusals_in_a_row += 1
            self._last_trouble_s = now
            self.pause(min(pause_s, LONGEST_PAUSE_S))
        elif retry_after_s is not None:
            self.pause(min(retry_after_s, LONGEST_PAUSE_S))
        return max(0.0, self._paused_until - now)

    def failed(self, hold: Hold) -> None:
        """The venue did not answer, or with 5xx. Many of these in a row stop everything for a while."""
        if hold.taken_s < self._last_trouble_s:
            return
        self._failures_in_a_row += 1
        beyond = self._failures_in_a_row - FAILURES_BORNE
        if beyond >= 0:
            self._last_trouble_s = self._clock.monotonic()
            self.pause(min(LONGEST_FAILED_PAUSE_S, FAILED_PAUSE_S * 2 ** min(beyond, 10)))

    def pause(self, seconds: float) -> None:
        """Let nothing through for ``seconds``."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> int:
        """Weight that may be spent in a minute now; less than ``full`` for some time after a 429."""
        return max(1, int(self.full * self.share()))

    def share(self) -> float:
        """Part of ``full`` that is usable now."""
        grown = (self._clock.monotonic() - self._share_since) / WINDOW_S * GROWTH_PER_MINUTE
        return min(1.0, self._share + grown) if self._share < 1.0 else 1.0

    def promised(self, priority: Priority) -> int:
        """Weight per minute that requests of this priority can rely on, whatever the others want."""
        if priority is Priority.REPAIR:
            return int(self.usable * (1 - sum(FLOORS.values())))
        return int(self.usable * FLOORS[priority])

    def in_use(self) -> int:
        """Weight spent in the last minute plus weight held for requests in flight."""
        self._forget()
        return sum(self._spent_by.values()) + sum(self._held_by.values())

    def left(self) -> int:
        """Weight that could be spent at once."""
        return 0 if self._pause_s() else max(0, self.usable - self.in_use())

    def waiting(self, priority: Priority) -> int:
        """How many requests of this priority wait."""
        return len(self._waiting[priority])

    def ahead_of(self, priority: Priority) -> int:
        """How many requests would go before a new one of this priority."""
        return sum(len(self._waiting[other]) for other in Priority if other <= priority)

    def delay(self, weight: int) -> float:
        """Seconds until ``weight`` fits, 0 when it fits now.

        Requests in flight may delay it further, so ask again after waiting. A weight above the whole budget counts
        as the whole budget: it waits for an empty minute instead of for ever.
        """
        pause = self._pause_s()
        usable = self.usable
        excess = self.in_use() + min(weight, usable) - usable
        is_trying = self._refusals_in_a_row or self._failures_in_a_row >= FAILURES_BORNE
        if excess <= 0:
            return max(pause, HELD_POLL_S) if is_trying and self._in_flight else pause
        if self._in_flight:
            return max(pause, HELD_POLL_S)  # most answers cost less than was held for them
        for spent_at, spent, _ in self._spent:
            excess -= spent
            if excess <= 0:
                return max(pause, spent_at + WINDOW_S - self._clock.monotonic(), HELD_POLL_S)
        return max(pause, HELD_POLL_S)

    def status(self) -> dict[str, Any]:
        """Usage of the last minute; JSON-ready."""
        self._show()
        in_use = self.in_use()
        return {
            "weight_used": in_use,
            "weight_limit": self.per_minute,
            "weight_usable": self.usable,
            "weight_left": self.left(),
            "used": {priority.label: self._used(priority) for priority in Priority},
            "waiting": {priority.label: self.waiting(priority) for priority in Priority},
            "in_flight": self._in_flight,
            "refused": self.refusals,
            "paused_s": round(self._pause_s(), 1),
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _next(self) -> _Waiter | None:
        """Whose turn it is."""
        self._forget()
        now = self._clock.monotonic()
        for priority, floor in FLOORS.items():
            queue = self._waiting[priority]
            if not queue or self._used(priority) >= floor * self.usable:
                continue
            if now - queue[0].since_s >= PATIENCE_S:
                self._owed_until_s[priority] = now + PATIENCE_S
            if now < self._owed_until_s[priority]:
                return queue[0]
        return next((queue[0] for queue in self._waiting.values() if queue), None)

    def _hold(self, weight: int, priority: Priority) -> Hold:
        hold = Hold(min(weight, self.full), priority, self._clock.monotonic())
        self._held_by[priority] += hold.weight
        self._in_flight += 1
        return hold

    def _used(self, priority: Priority) -> int:
        return self._spent_by[priority] + self._held_by[priority]

    def _pause_s(self) -> float:
        return max(0.0, self._paused_until - self._clock.monotonic())

    def _forget(self) -> None:
        horizon = self._clock.monotonic() - WINDOW_S
        while self._spent and self._spent[0][0] <= horizon:
            _, spent, priority = self._spent.popleft()
            self._spent_by[priority] -= spent

    def _show(self) -> None:
        self._metrics.put(REST_WEIGHT_USED, VENUE, self.name, value=self.in_use())
        self._metrics.put(REST_WEIGHT_USABLE, VENUE, self.name, value=self.usable)
        for priority in Priority:
            self._metrics.put(REST_WAITING, VENUE, self.name, priority.label, value=self.waiting(priority))


def status_of_budgets(budgets: Iterable[WeightBudget]) -> dict[str, Any]:
    """The ``rest`` section of ``/stats``: sums over all egress addresses, and each of them by name."""
    by_egress = {budget.name: budget.status() for budget in budgets}
    sums = ("weight_used", "weight_limit", "weight_usable", "weight_left", "in_flight", "refused")
    total: dict[str, Any] = {name: sum(one[name] for one in by_egress.values()) for name in sums}
    for name in ("used", "waiting"):
        total[name] = {
            priority.label: sum(one[name][priority.label] for one in by_egress.values()) for priority in Priority
        }
    return {**total, "egress": by_egress}
