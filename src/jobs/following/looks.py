"""When each followed trader was looked at, how busy he is, and who waits longer than promised."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import quantiles
from typing import Any

from msgspec import Struct

from src.jobs.following.planner import Assignment, Mode
from src.models.clock import Clock
from src.models.messages import Data, OrdersSnapshot, PositionsSnapshot
from src.models.metrics import FOLLOWED, LOOK_AGE, LOOK_BOUND, LOOKS, LOOKS_LATE, Metrics
from src.models.streams import StreamKey

MINUTE_S = 60.0
HALF_LIFE_S = 1_800.0
"""After this long without a change a trader counts as half as busy."""

GRACE_S = 2.0
"""Later than promised by this much is not worth a hole: our own ticks and timers are part of it."""

VENUE = "hyperliquid"
_MODES: tuple[Mode, ...] = ("live", "rotation", "poll")


class Watched(Struct):
    """What is known of one trader; times are monotonic seconds.

    Attributes:
        since: followed since.
        looked_at, looked_ms: last whole look, by both clocks; None = none yet.
        assignment: how he is followed, None before the first plan.
        within_s: what holds for the wait that is under way; a shorter promise begins with the next look.
        late: told as late, and not looked at since.
        changes, counted_at: decayed number of changes seen, and when it was brought up to date.
        egress: address of the last assignment.
    """

    since: float
    looked_at: float | None = None
    looked_ms: int | None = None
    assignment: Assignment | None = None
    within_s: float | None = None
    late: bool = False
    changes: float = 0.0
    counted_at: float = 0.0

    def age_s(self, now: float) -> float:
        """Seconds since the last look, or since he is followed."""
        return now - (self.since if self.looked_at is None else self.looked_at)


class Looks:
    """All followed traders. Not thread-safe; every method returns at once."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._watched: dict[str, Watched] = {}
        self._rows: dict[StreamKey, Mapping[Any, Any]] = {}
        self._times: dict[Mode, deque[float]] = {mode: deque() for mode in _MODES}
        self.looked_at: dict[str, float] = {}

    def __getitem__(self, trader: str) -> Watched:
        return self._watched[trader]

    def get(self, trader: str) -> Watched | None:
        """What is known of one trader, None when he is not followed."""
        return self._watched.get(trader)

    def __contains__(self, trader: str) -> bool:
        return trader in self._watched

    def follow(self, traders: Iterable[str]) -> None:
        """Exactly these are followed; what is known of the others is dropped."""
        now, wanted = self._clock.monotonic(), set(traders)
        for gone in self._watched.keys() - wanted:
            del self._watched[gone]
            self.looked_at.pop(gone, None)
        for stream in [stream for stream in self._rows if stream.subject not in wanted]:
            del self._rows[stream]
        for trader in wanted - self._watched.keys():
            self._watched[trader] = Watched(now, counted_at=now)

    def assign(self, assignments: Mapping[str, Assignment]) -> None:
        """A new plan. What it promises beyond what held before holds at once, what is shorter from the next look."""
        for trader, assignment in assignments.items():
            watched = self._watched.get(trader)
            if watched is None:
                continue
            promised, held = assignment.within_s, watched.within_s
            is_longer = held is not None and (promised is None or promised > held)
            if is_longer or watched.assignment is None:
                watched.within_s = promised
            watched.assignment = assignment

    # -- what arrived ----------------------------------------------------------------------------------------------

    def saw(self, data: Data) -> None:
        """Count what changed in a frame of a trader."""
        watched = self._watched.get(data.stream.subject)
        if watched is None:
            return
        for message in data.messages:
            if isinstance(message, OrdersSnapshot):
                self._count(watched, data.stream, message.rows)
            elif isinstance(message, PositionsSnapshot):
                sizes = {coin: position.szi for coin, position in message.positions.items()}
                self._count(watched, StreamKey(VENUE, "", data.stream.subject, message.dex), sizes)

    def looked(self, trader: str, mode: Mode) -> None:
        """A whole look at ``trader`` is through."""
        watched = self._watched.get(trader)
        if watched is None:
            return
        now = self._clock.monotonic()
        watched.looked_at = self.looked_at[trader] = now
        watched.looked_ms = self._clock.wall_ms()
        watched.late = False
        if watched.assignment is not None:
            watched.within_s = watched.assignment.within_s
        if mode != "live":
            self._metrics.add(LOOKS, VENUE, mode, "complete")
            self._times[mode].append(now)

    def failed(self, mode: Mode, why: str) -> None:
        """A look did not come to its end."""
        self._metrics.add(LOOKS, VENUE, mode, why)

    # -- reading ---------------------------------------------------------------------------------------------------

    def activity(self, trader: str) -> float:
        """Changes per hour, lately."""
        watched = self._watched[trader]
        self._decay(watched)
        return watched.changes * math.log(2) / HALF_LIFE_S * 3600.0

    def newly_late(self) -> list[str]:
        """Who has waited longer than promised, each told once."""
        now, late = self._clock.monotonic(), []
        for trader, watched in self._watched.items():
            if watched.late or not self._is_sampled(watched) or watched.within_s is None:
                continue
            if watched.age_s(now) > watched.within_s + GRACE_S:
                watched.late = True
                late.append(trader)
        return late

    def times(self) -> dict[str, int]:
        """When each trader was looked at last, in ms."""
        return {trader: w.looked_ms for trader, w in self._watched.items() if w.looked_ms is not None}

    def view(self, trader: str) -> dict[str, Any] | None:
        """How one trader is followed; JSON-ready. None when he is not."""
        watched = self._watched.get(trader)
        if watched is None or watched.assignment is None:
            return None
        seen = watched.looked_at is not None
        return {
            "mode": watched.assignment.mode,
            "lastLookAgeS": round(watched.age_s(self._clock.monotonic()), 1) if seen else None,
            "lookWithinS": watched.assignment.within_s,
            "late": watched.late,
            "changesPerHour": round(self.activity(trader), 1),
        }

    def status(self) -> dict[str, Any]:
        """Numbers of traders, ages and looks per minute; JSON-ready. Ages are seconds, of those looked at or live."""
        now = self._clock.monotonic()
        listed = list(self._watched.values())
        modes = {mode: [w for w in listed if w.assignment and w.assignment.mode == mode] for mode in _MODES}
        bounds = [w.within_s for w in listed if self._is_sampled(w)]
        by_mode = {mode: _distribution([w.age_s(now) for w in members]) for mode, members in modes.items()}
        sampled = _distribution([w.age_s(now) for w in (*modes["rotation"], *modes["poll"])])
        answer = {
            "traders": len(listed),
            "modes": {mode: len(members) for mode, members in modes.items()},
            "never_looked_at": sum(w.looked_at is None for w in listed),
            "late": sum(w.late for w in listed),
            "age_s": {**sampled, "by_mode": by_mode},
            "bound_s": max((bound for bound in bounds if bound is not None), default=0.0),
            "without_bound": sum(bound is None for bound in bounds),
            "looks_per_minute": {mode: self._per_minute(mode, now) for mode in _MODES[1:]},
        }
        self._show(answer)
        return answer

    # -- inside ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _is_sampled(watched: Watched) -> bool:
        return watched.assignment is not None and watched.assignment.mode != "live"

    def _count(self, watched: Watched, stream: StreamKey, rows: Mapping[Any, Any]) -> None:
        before = self._rows.get(stream)
        if rows is before:
            return
        self._rows[stream] = rows
        if before is not None and (changed := len(before.items() ^ rows.items())):
            self._decay(watched)
            watched.changes += changed

    def _decay(self, watched: Watched) -> None:
        now = self._clock.monotonic()
        watched.changes *= 0.5 ** ((now - watched.counted_at) / HALF_LIFE_S)
        watched.counted_at = now

    def _per_minute(self, mode: Mode, now: float) -> int:
        times = self._times[mode]
        while times and now - times[0] >= MINUTE_S:
            times.popleft()
        return len(times)

    def _show(self, answer: Mapping[str, Any]) -> None:
        for mode, count in answer["modes"].items():
            self._metrics.put(FOLLOWED, VENUE, mode, value=count)
        for name in ("p50", "p95", "max"):
            self._metrics.put(LOOK_AGE, VENUE, name, value=answer["age_s"][name])
        self._metrics.put(LOOK_BOUND, VENUE, value=answer["bound_s"])
        self._metrics.put(LOOKS_LATE, VENUE, value=answer["late"])


def _distribution(ages: list[float]) -> dict[str, float]:
    if not ages:
        return {"p50": 0.0, "p95": 0.0, "max": 0.0}
    cuts = quantiles(ages, n=20, method="inclusive") if len(ages) > 1 else ages * 19
    return {"p50": round(cuts[9], 1), "p95": round(cuts[18], 1), "max": round(max(ages), 1)}
