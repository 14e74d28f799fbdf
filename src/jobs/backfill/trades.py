"""Public trades of the past, page by page, and the candles they change.

Trades are inserts with the venue's own identity, and a candle of more trades replaces one of fewer: both are safe
beside a collector that writes the same at the same time.
"""

from __future__ import annotations

from msgspec import structs

from src.jobs.backfill.past import TradesPast
from src.jobs.backfill.plan import Cursor, Kind, Range, writes_of_cursor
from src.jobs.backfill.store import BackfillStore
from src.jobs.candles.candles import CandleJob
from src.models.changes import TradeSeen
from src.models.clock import Clock
from src.models.metrics import BACKFILL_FOUND, Metrics
from src.models.writes import Collection, Insert
from src.pipeline.documents import write_of_trade
from src.store.base import Store
from src.store.by_id import stored_ids


class TradesBackfill:
    """Reads symbols one after the other; a reading that was cut off goes on at its last page."""

    def __init__(self, store: Store, past: TradesPast, clock: Clock, metrics: Metrics) -> None:
        self._raw = store
        self._store = BackfillStore(store, metrics)
        self._past = past
        self._clock = clock
        self._metrics = metrics
        self._candles = CandleJob(store, clock, metrics=metrics)

    async def read(self, symbol: str, wanted: Range) -> int:
        """Store what is missing of this symbol in this time; returns how many trades were.

        Raises:
            VenueError: the venue did not answer; what came before is stored.
            StoreError: MongoDB is away; the same.
        """
        cursor = await self._store.cursor(Kind.TRADES, self._past.venue, symbol)
        key = (wanted.from_ms, wanted.to_ms)
        token = cursor.anchor if cursor.range_ms == key else None
        to_ms = self._clock.wall_ms() if wanted.to_ms is None else wanted.to_ms
        found = 0
        while True:
            page = await self._past.page(symbol, wanted.from_ms, to_ms, token)
            found += await self._store_trades([TradeSeen(trade) for trade in page.trades])
            token = page.next
            await self._keep(cursor, key if token is not None else None, token)
            if token is None:
                break
        self._metrics.add(BACKFILL_FOUND, Kind.TRADES.value, amount=found)
        return found

    async def finish(self) -> None:
        """Compute the candles of every minute that got trades.

        Raises:
            StoreError: MongoDB is away; a collector computes them at its next start.
        """
        await self._candles.compute(last=True)

    async def _store_trades(self, trades: list[TradeSeen]) -> int:
        inserts: dict[str, tuple[Insert, TradeSeen]] = {}
        for seen in trades:
            insert = write_of_trade(seen)
            inserts[str(insert.document["_id"])] = (insert, seen)
        known = await stored_ids(self._raw, Collection.TRADES, list(inserts))
        missing = [pair for identity, pair in inserts.items() if identity not in known]
        await self._store.write([insert for insert, _ in missing])
        for _, seen in missing:
            self._candles.touched(seen.trade)
        return len(missing)

    async def _keep(self, cursor: Cursor, key: tuple[int, int | None] | None, token: str | None) -> None:
        now_ms = self._clock.wall_ms()
        done = key is None
        moved = structs.replace(
            cursor,
            anchor=token,
            range_ms=key,
            place_ms=None if done else now_ms,
            read_ms=now_ms if done else cursor.read_ms,
        )
        begun, patch = writes_of_cursor(moved)
        await self._store.write([begun], [patch])
