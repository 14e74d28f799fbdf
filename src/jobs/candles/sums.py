"""The arithmetic of candles: from trades to a candle, from candles to a longer one. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from src.models.writes import Collection, Upsert

PARTS_OF: Mapping[str, tuple[str, int]] = {
    "5m": ("1m", 300_000),
    "1h": ("5m", 3_600_000),
    "1d": ("1h", 86_400_000),
}
"""Interval -> the interval it is put together from, and its own length in ms; smaller ones first. Days are UTC."""

_MINUTE_MS = 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CandleKey(NamedTuple):
    """Identity of a candle; ``open_ms`` is when it begins."""

    venue: str
    symbol: str
    interval: str
    open_ms: int


_Order = tuple[datetime, str]


class Candle(Struct):
    """A candle being summed up.

    Trades of one millisecond have no known order (the venue's ids are hashes), so they are taken in the order of
    their ids: the same trades always give the same candle.

    Attributes:
        first / last: order of the trades that gave ``open`` and ``close``.
        seen: which of the trades asked about were among them.
    """

    key: CandleKey
    open: float
    high: float
    low: float
    close: float
    volume: float
    count: int
    received_at: datetime
    first: _Order
    last: _Order
    seen: set[str]


def open_ms(timestamp: datetime) -> int:
    """A stored date as ms since 1970; exact, unlike its way through a float."""
    return (timestamp - _EPOCH) // timedelta(milliseconds=1)


def add_trade(
    candles: dict[CandleKey, Candle], venue: str, document: Mapping[str, Any], looking_for: set[str]
) -> None:
    """Add a stored trade to the 1m candle of its minute; one without a usable price or size is left out."""
    price: Any = document.get("price")
    size: Any = document.get("size")
    at: datetime = document["timestamp"]
    if not (_is_number(price) and _is_number(size)):
        return
    trade_id = str(document["_id"])
    opened = open_ms(at)
    key = CandleKey(venue, str(document["symbol"]), "1m", opened - opened % _MINUTE_MS)
    received_at = document.get("receivedAt") or at
    order = (at, trade_id)
    _merge(candles, Candle(key, price, price, price, price, size, 1, received_at, order, order, set()))
    if trade_id in looking_for:
        candles[key].seen.add(trade_id)


def add_part(candles: dict[CandleKey, Candle], key: CandleKey, document: Mapping[str, Any]) -> None:
    """Add a stored shorter candle to the longer one ``key``."""
    at = document["timestamp"]
    order = (at, "")
    part = Candle(
        key,
        document["open"],
        document["high"],
        document["low"],
        document["close"],
        document["volume"],
        document["count"],
        document.get("receivedAt") or at,
        order,
        order,
        set(),
    )
    _merge(candles, part)


def candle_write(candle: Candle, now: datetime) -> Upsert:
    """The candle as a write; a stored one of as many trades or more stays as it is."""
    venue, symbol, interval, opened = candle.key
    return Upsert(
        collection=Collection.CANDLES,
        id=f"{venue}:{symbol}:{interval}:{opened}",
        version_field="count",
        version=candle.count,
        values={
            "venue": venue,
            "symbol": symbol,
            "interval": interval,
            "timestamp": datetime.fromtimestamp(opened / 1000, tz=UTC),
            "open": candle.open,
            "high": candle.high,
            "low": candle.low,
            "close": candle.close,
            "volume": candle.volume,
            "receivedAt": candle.received_at,
            "updatedAt": now,
        },
    )


def _merge(candles: dict[CandleKey, Candle], part: Candle) -> None:
    candle = candles.get(part.key)
    if candle is None:
        candles[part.key] = part
        return
    if part.first < candle.first:
        candle.open, candle.first = part.open, part.first
    if part.last > candle.last:
        candle.close, candle.last = part.close, part.last
    candle.high = max(candle.high, part.high)
    candle.low = min(candle.low, part.low)
    candle.volume += part.volume
    candle.count += part.count
    candle.received_at = max(candle.received_at, part.received_at)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
