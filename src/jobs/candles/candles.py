"""Candles (open, high, low, close, volume) from the trades in the database.

A candle is always computed from *all* stored trades of its minute, never from those that happen to pass by, so a
restart, a repeated trade or a late one cannot spoil it. Its ``count`` of trades is its version: a candle of more
trades replaces one of fewer, and an equal one changes nothing. 5m, 1h and 1d candles are put together from the next
smaller ones.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import structlog
from msgspec import Struct

from src.jobs.candles.sums import PARTS_OF, Candle, CandleKey, add_part, add_trade, candle_write, open_ms
from src.jobs.stoppable import is_set_within
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.messages import Trade
from src.models.metrics import CANDLE_FAILURES, CANDLES_COMPUTED, CANDLES_GIVEN_UP, Metrics
from src.models.writes import Collection, Insert, Patch, Upsert, WriteBatch
from src.pipeline.identities import stored_trade_id
from src.store.base import Query, Store
from src.store.counting import count_written

PASS_INTERVAL_S = 5.0
SUMS_INTERVAL_S = 60.0
"""How often the candles above 1m are put together anew."""

MAX_MINUTES = 20_000
"""Touched minutes kept one by one (about 300 bytes each); beyond that, per symbol only the span they lie in."""

SPAN_REST_S = 30.0
"""A span is computed when it has not grown for this long, so that its trades have reached the database."""

LOOK_BACK_MS = 3_600_000
"""At the first trade of a symbol its candles are computed anew from an hour before the newest one on."""

MISSES_ALLOWED = 120
"""Passes that look for a touched trade in the database before it counts as never stored (10 minutes)."""

FINAL_PASS_TIMEOUT_S = 5.0

_MINUTE_MS = 60_000
_LATEST_MS = 4_102_444_800_000  # the year 2100: a time beyond is a mistake of the venue
_SPAN_STEP_MS = 6 * 3_600_000
_WRITES_PER_BATCH = 500
_log = structlog.get_logger(__name__)

_SymbolKey = tuple[str, str]
_MinuteKey = tuple[str, int, str]


class CandleJob:
    """Keeps ``candles`` in step with ``trades``: told which trades came, it recomputes the minutes they fall into.

    `touched` may be called before the trade is stored: a minute stays on the list until its last reported trade is
    found in the database and its count has stopped growing. The owner runs `run` as a supervised task.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        interval_s: float = PASS_INTERVAL_S,
        sums_interval_s: float = SUMS_INTERVAL_S,
        max_minutes: int = MAX_MINUTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = Metrics() if metrics is None else metrics
        self._interval_s = interval_s
        self._sums_interval_s = sums_interval_s
        self._max_minutes = max_minutes
        self._minutes: dict[_MinuteKey, _Waiting] = {}
        self._spans: dict[_SymbolKey, _Span] = {}
        self._known: set[_SymbolKey] = set()
        self._to_resume: dict[_SymbolKey, int] = {}
        self._unsummed: dict[str, set[CandleKey]] = {interval: set() for interval in PARTS_OF}
        self._sums_due_at = clock.monotonic() + sums_interval_s
        self._seq = 0
        self._failing = False

    def touched(self, trade: Trade) -> None:
        """Note that a trade came; quick, and safe to call for a trade that came before."""
        if not 0 <= trade.time_ms < _LATEST_MS:
            return
        minute = trade.time_ms - trade.time_ms % _MINUTE_MS
        symbol = (trade.venue, trade.symbol)
        if symbol not in self._known:
            self._known.add(symbol)
            self._to_resume[symbol] = minute
        key = (trade.venue, minute, trade.symbol)
        waiting = self._minutes.get(key)
        if waiting is not None:
            waiting.trade_id, waiting.misses, waiting.settled = _document_id(trade), 0, False
        elif len(self._minutes) < self._max_minutes:
            self._minutes[key] = _Waiting(_document_id(trade))
        else:
            self._widen(symbol, minute, minute + _MINUTE_MS)

    def waiting(self) -> int:
        """How many minutes and spans are still to be computed."""
        return len(self._minutes) + len(self._spans) + len(self._to_resume)

    async def run(self, stop: asyncio.Event) -> None:
        """Recompute every few seconds until ``stop`` is set, then once more for what came last.

        Raises:
            StoreFatalError: the database refuses for good.
        """
        while not await is_set_within(stop, self._interval_s):
            await self._guarded_pass()
        try:
            async with asyncio.timeout(FINAL_PASS_TIMEOUT_S):
                await self._guarded_pass(last=True)
        except TimeoutError:
            _log.info("candles_unfinished", waiting=self.waiting(), effect="computed at the next start")

    async def compute(self, *, last: bool = False) -> None:
        """One pass over everything touched; ``last`` waits for nothing any more.

        Raises:
            StoreError: the database is away; everything stays on the list.
        """
        for symbol in list(self._to_resume):
            await self._resume(symbol)
        for symbol in list(self._spans):
            await self._compute_span(symbol, last=last)
        await self._compute_minutes()
        if last or self._clock.monotonic() >= self._sums_due_at:
            await self._compute_sums()
            self._sums_due_at = self._clock.monotonic() + self._sums_interval_s

    async def _guarded_pass(self, *, last: bool = False) -> None:
        try:
            await self.compute(last=last)
        except StoreError as error:
            if not error.retryable:
                raise
            self._metrics.add(CANDLE_FAILURES)
            if not self._failing:
                _log.warning("candles_delayed", error=str(error), waiting=self.waiting())
            self._failing = True
        else:
            if self._failing:
                _log.info("candles_resumed", waiting=self.waiting())
            self._failing = False

    async def _resume(self, symbol: _SymbolKey) -> None:
        """Continue where the previous run ended: what it had on its list is not known any more."""
        of_symbol = {"venue": symbol[0], "symbol": symbol[1]}
        newest = await self._edge(Collection.CANDLES, {**of_symbol, "interval": "1m"}, descending=True)
        if newest is not None:
            begin = newest - LOOK_BACK_MS
        else:
            oldest = await self._edge(Collection.TRADES, of_symbol, descending=False)
            begin = self._to_resume[symbol] if oldest is None else oldest
        self._widen(symbol, begin - begin % _MINUTE_MS, self._clock.wall_ms() + _MINUTE_MS, rested=True)
        del self._to_resume[symbol]

    async def _edge(self, collection: Collection, equals: dict[str, str], *, descending: bool) -> int | None:
        query = Query(equals=equals, sort=[("timestamp", descending)], limit=1, fields=["timestamp"])
        async for document in self._store.find(collection, query):
            return open_ms(document["timestamp"])
        return None

    def _widen(self, symbol: _SymbolKey, begin: int, end: int, *, rested: bool = False) -> None:
        grown_at = self._clock.monotonic() - (SPAN_REST_S if rested else 0)
        span = self._spans.get(symbol)
        if span is None:
            self._spans[symbol] = _Span(begin, end, grown_at)
        else:
            span.begin, span.end = min(span.begin, begin), max(span.end, end)
            span.grown_at = max(span.grown_at, grown_at)

    async def _compute_span(self, symbol: _SymbolKey, *, last: bool) -> None:
        if not last and self._clock.monotonic() - self._spans[symbol].grown_at < SPAN_REST_S:
            return
        span = self._spans.pop(symbol)
        begin = span.begin
        try:
            while begin < span.end:
                step = min(begin + _SPAN_STEP_MS, span.end)
                await self._store_candles((await self._sum_trades(symbol[0], [symbol[1]], begin, step)).values())
                begin = step
        finally:
            if begin < span.end:  # the database went away in the middle: what is done stays done
                self._widen(symbol, begin, span.end, rested=True)

    async def _compute_minutes(self) -> None:
        groups: dict[tuple[str, int], list[str]] = defaultdict(list)
        for venue, minute, symbol in self._minutes:
            groups[venue, minute].append(symbol)
        for (venue, minute), symbols in groups.items():
            looked_at = {symbol: self._minutes[venue, minute, symbol].trade_id for symbol in symbols}
            found = await self._sum_trades(
                venue, symbols, minute, minute + _MINUTE_MS, looking_for=set(looked_at.values())
            )
            grown = [
                candle
                for key, candle in found.items()
                if candle.count != self._minutes[venue, minute, key.symbol].stored_count
            ]
            await self._store_candles(grown)
            for symbol, trade_id in looked_at.items():
                self._judge((venue, minute, symbol), trade_id, found.get(CandleKey(venue, symbol, "1m", minute)))

    def _judge(self, key: _MinuteKey, trade_id: str, candle: Candle | None) -> None:
        """Take a minute off the list when its last trade is stored and two passes in a row counted the same."""
        waiting = self._minutes[key]
        same_count = candle is not None and candle.count == waiting.stored_count
        waiting.stored_count = -1 if candle is None else candle.count
        if waiting.trade_id != trade_id:
            return  # touched again while we looked
        if candle is not None and trade_id in candle.seen:
            if waiting.settled and same_count:
                del self._minutes[key]
            waiting.settled = True
            return
        waiting.misses += 1
        if waiting.misses >= MISSES_ALLOWED:
            self._metrics.add(CANDLES_GIVEN_UP)
            del self._minutes[key]

    async def _sum_trades(
        self, venue: str, symbols: Sequence[str], begin: int, end: int, *, looking_for: set[str] | None = None
    ) -> dict[CandleKey, Candle]:
        candles: dict[CandleKey, Candle] = {}
        query = Query(
            equals={"venue": venue},
            one_of={"symbol": symbols},
            at_least={"timestamp": _date(begin)},
            below={"timestamp": _date(end)},
            fields=["_id", "symbol", "timestamp", "price", "size", "receivedAt"],
        )
        async for document in self._store.find(Collection.TRADES, query):
            add_trade(candles, venue, document, looking_for or set())
        return candles

    async def _compute_sums(self) -> None:
        for interval, (part_interval, length_ms) in PARTS_OF.items():
            groups: dict[tuple[str, int], list[str]] = defaultdict(list)
            for key in self._unsummed[interval]:
                groups[key.venue, key.open_ms].append(key.symbol)
            for (venue, opened), symbols in groups.items():
                query = Query(
                    equals={"venue": venue, "interval": part_interval},
                    one_of={"symbol": symbols},
                    at_least={"timestamp": _date(opened)},
                    below={"timestamp": _date(opened + length_ms)},
                )
                sums: dict[CandleKey, Candle] = {}
                async for document in self._store.find(Collection.CANDLES, query):
                    add_part(sums, CandleKey(venue, str(document["symbol"]), interval, opened), document)
                await self._store_candles(sums.values())
                self._unsummed[interval] -= {CandleKey(venue, symbol, interval, opened) for symbol in symbols}

    async def _store_candles(self, candles: Iterable[Candle]) -> None:
        now = _date(self._clock.wall_ms())
        computed = list(candles)
        writes: list[Insert | Upsert | Patch] = [candle_write(candle, now) for candle in computed]
        for start in range(0, len(writes), _WRITES_PER_BATCH):
            self._seq += 1
            result = await self._store.write(WriteBatch(self._seq, [writes[start : start + _WRITES_PER_BATCH]]))
            count_written(self._metrics, result)
            for rejected in result.rejected[:1]:
                _log.error("candle_rejected", reason=rejected.reason, count=len(result.rejected))
        for candle in computed:
            self._metrics.add(CANDLES_COMPUTED, candle.key.interval)
            for interval, (part_interval, length_ms) in PARTS_OF.items():
                if part_interval == candle.key.interval:
                    opened = candle.key.open_ms - candle.key.open_ms % length_ms
                    self._unsummed[interval].add(CandleKey(candle.key.venue, candle.key.symbol, interval, opened))


class _Waiting(Struct):
    """A touched minute: its last reported trade, and what the previous pass counted and stored."""

    trade_id: str
    stored_count: int = -1
    misses: int = 0
    settled: bool = False


class _Span(Struct):
    """Minutes from ``begin`` up to ``end`` (ms) of one symbol, to be computed as a whole."""

    begin: int
    end: int
    grown_at: float


def _document_id(trade: Trade) -> str:
    return stored_trade_id(trade.venue, trade.symbol, trade.trade_id)


def _date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
