"""Movers: stocks that rise on high volume are subscribed by themselves.

A stock is a mover when its gain and its surge both reach the settings' thresholds:

* gain = last price / previous day's close - 1, in per cent. The last price is that of the latest trade if its
  conditions let it set the last price of the day, else the close of the running day bar.
* surge of the day = volume per minute today / volume per minute of the previous day, taken over its 390 minutes.
  Today's minutes count from the opening of regular trading, before it from 4:00 in New York.
* surge of the minute = volume of the latest minute / volume per minute today.

A mover stays one until its gain falls below half of the threshold, or the day in New York ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Literal

import structlog
from msgspec import Struct

from src.config import Settings
from src.jobs.stoppable import unless_stopped
from src.models.clock import Clock
from src.models.errors import VenueError
from src.models.metrics import MOVERS, Metrics
from src.venues.alpaca import wire
from src.venues.alpaca.codes import counts_as_last
from src.venues.alpaca.hours import (
    OPEN_MIN,
    PRE_MARKET_MIN,
    REGULAR_MINUTES,
    is_extended,
    new_york_date,
    session_of,
)
from src.venues.alpaca.mapper import STAR, VENUE
from src.venues.alpaca.rest import AlpacaRest
from src.venues.alpaca.times import NS_PER_MS, BadTimeError, time_ns
from src.venues.repeats import Repeats

log = structlog.get_logger(__name__)

CANDIDATES = 50
"""Rows of the venue's list of gainers; it has no more."""

FRESH_MINUTE_MS = 300_000
_MINUTE_MS = 60_000
_LOG_EVERY_S = 600.0


class MoverRules(Struct, frozen=True):
    """What makes a mover, and where it is looked for."""

    gain_percent: float
    surge: float
    surge_of: Literal["day", "minute"]
    candidates: tuple[str, ...]
    most: int
    interval_s: float
    feed: str

    @classmethod
    def of(cls, settings: Settings) -> MoverRules:
        """As the settings say."""
        return cls(
            gain_percent=settings.alpaca_movers_gain,
            surge=settings.alpaca_movers_surge,
            surge_of=settings.alpaca_movers_surge_of,
            candidates=tuple(name for name in settings.alpaca_movers_symbols if name != STAR),
            most=settings.alpaca_movers_most,
            interval_s=settings.alpaca_movers_interval,
            feed=settings.alpaca_feed,
        )


class Measures(Struct, frozen=True):
    """Gain in per cent and surge as a factor; None where a part of them is not known."""

    gain_percent: float | None
    surge: float | None


def measure(snapshot: wire.Snapshot, surge_of: Literal["day", "minute"], now_ms: int) -> Measures:
    """The two measures of a stock, of the current day only."""
    day, previous = snapshot.dailyBar, snapshot.prevDailyBar
    today = new_york_date(now_ms)
    if day is None or previous is None or _date_of(day.t) != today or previous.c <= 0:
        return Measures(None, None)
    gain = (_last_price(snapshot, day, today) / previous.c - 1) * 100
    minutes = minutes_traded(now_ms)
    if surge_of == "day":
        usual, now = previous.v / REGULAR_MINUTES, day.v / minutes
    else:
        usual, now = day.v / minutes, _latest_minute(snapshot, now_ms)
    return Measures(round(gain, 4), None if usual <= 0 else round(now / usual, 4))


def minutes_traded(now_ms: int) -> float:
    """Minutes of today's trading so far, at least one; see the module."""
    session = session_of(new_york_date(now_ms))
    if session is None:
        return float(REGULAR_MINUTES)
    begin_ms = session.open_ms
    if now_ms < begin_ms:
        begin_ms -= (OPEN_MIN - PRE_MARKET_MIN) * _MINUTE_MS
    return max(1.0, (min(now_ms, session.close_ms) - begin_ms) / _MINUTE_MS)


class MoversJob:
    """Looks for movers now and then while the market is open, and tells which there are.

    Args:
        rest: the venue's HTTP side.
        rules: what makes a mover.
        on_movers: told of all present movers, the strongest first, when they change.
        clock: for the hours and the day.
        metrics: the number of movers.
    """

    def __init__(
        self,
        rest: AlpacaRest,
        rules: MoverRules,
        *,
        on_movers: Callable[[Sequence[str]], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._rest = rest
        self._rules = rules
        self._on_movers = on_movers
        self._clock = clock
        self._metrics = metrics
        self._present: dict[str, Measures] = {}
        self._day: date | None = None
        self._error = ""
        self._gate = Repeats(window_s=_LOG_EVERY_S)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until ``stopping``; a venue that does not answer is asked again at the next turn."""
        while await unless_stopped(self.look(), stopping):
            await unless_stopped(asyncio.sleep(self._rules.interval_s), stopping)

    async def look(self) -> None:
        """Look once, if the market is open."""
        now_ms = self._clock.wall_ms()
        day = new_york_date(now_ms)
        if day != self._day:
            self._day = day
            self._settle({})
        if not is_extended(now_ms):
            return
        try:
            symbols = await self._candidates()
            snapshots = await self._rest.snapshots(symbols, feed=self._rules.feed) if symbols else {}
        except VenueError as error:
            self._error = str(error)
            if self._gate.due("failed", self._clock.monotonic()):
                log.warning("movers_not_looked_for", error=self._error[:200])
            return
        self._error = ""
        self.judge(snapshots, now_ms)

    def judge(self, snapshots: Mapping[str, wire.Snapshot], now_ms: int) -> None:
        """Take newcomers, let go who fell back."""
        rules = self._rules
        measured = {name: measure(snapshot, rules.surge_of, now_ms) for name, snapshot in snapshots.items()}
        staying = {
            name: measured.get(name, before)
            for name, before in self._present.items()
            if _or_zero(measured.get(name, before).gain_percent) >= rules.gain_percent / 2
        }
        coming = sorted(
            (name for name, found in measured.items() if name not in staying and self._moves(found)),
            key=lambda name: -_or_zero(measured[name].gain_percent),
        )
        room = max(0, rules.most - len(staying))
        if len(coming) > room and self._gate.due("full", self._clock.monotonic()):
            log.warning("movers_beyond_limit", most=rules.most, left_out=coming[room : room + 10])
        self._settle(staying | {name: measured[name] for name in coming[:room]})

    def status(self) -> dict[str, Any]:
        """Present movers with their measures, and what went wrong last; JSON-ready."""
        movers = {
            name: {"gain_percent": found.gain_percent, "surge": found.surge} for name, found in self._present.items()
        }
        return {"present": movers, "error": self._error}

    async def _candidates(self) -> list[str]:
        named: Iterable[str] = self._rules.candidates
        if not named:
            gainers = await self._rest.gainers(CANDIDATES)
            named = (row.symbol for row in gainers if row.percent_change >= self._rules.gain_percent)
        return list(dict.fromkeys((*self._present, *named)))

    def _moves(self, found: Measures) -> bool:
        if found.gain_percent is None or found.surge is None:
            return False
        return found.gain_percent > self._rules.gain_percent and found.surge > self._rules.surge

    def _settle(self, present: dict[str, Measures]) -> None:
        come, gone = present.keys() - self._present.keys(), self._present.keys() - present.keys()
        self._present = dict(sorted(present.items(), key=lambda item: -_or_zero(item[1].gain_percent)))
        self._metrics.put(MOVERS, VENUE, value=len(self._present))
        if come or gone:
            log.info("movers_changed", come=sorted(come), gone=sorted(gone))
            self._on_movers(tuple(self._present))


def _last_price(snapshot: wire.Snapshot, day: wire.SnapshotBar, today: date) -> float:
    latest = snapshot.latestTrade
    if latest is None or _date_of(latest.t) != today or not counts_as_last(latest.c, latest.z):
        return day.c
    return latest.p


def _latest_minute(snapshot: wire.Snapshot, now_ms: int) -> float:
    """Volume of the latest minute, 0 when it is long ago."""
    minute = snapshot.minuteBar
    start_ms = None if minute is None else _ms_of(minute.t)
    if minute is None or start_ms is None or now_ms - start_ms > FRESH_MINUTE_MS:
        return 0.0
    return float(minute.v)


def _date_of(text: str) -> date | None:
    time_ms = _ms_of(text)
    return None if time_ms is None else new_york_date(time_ms)


def _ms_of(text: str) -> int | None:
    try:
        return time_ns(text) // NS_PER_MS
    except BadTimeError:
        return None


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None else value
