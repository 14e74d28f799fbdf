"""One-minute candles from the public trades, and longer ones from those."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from src.venues.hyperliquid.simulator.shapes import TradeShape

MINUTE_MS = 60_000
INTERVALS_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "2h": 120 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "8h": 480 * MINUTE_MS,
    "12h": 720 * MINUTE_MS,
    "1d": 1440 * MINUTE_MS,
    "3d": 3 * 1440 * MINUTE_MS,
    "1w": 7 * 1440 * MINUTE_MS,
    "1M": 30 * 1440 * MINUTE_MS,
}
NEWEST_KEPT = 5_000
"""How many candles of an interval exist on the venue."""


class _Bar(Struct):
    open_ms: int
    open: str
    close: str
    high: str
    low: str
    volume: float
    trades: int


class CandleBook:
    """Candles of all coins; bounded by `NEWEST_KEPT` minutes per coin."""

    def __init__(self) -> None:
        self._bars: dict[str, list[_Bar]] = {}

    def add(self, trade: TradeShape) -> None:
        """Count a trade in."""
        bars = self._bars.setdefault(trade.coin, [])
        open_ms = trade.time - trade.time % MINUTE_MS
        if not bars or bars[-1].open_ms != open_ms:
            bars.append(_Bar(open_ms, trade.px, trade.px, trade.px, trade.px, 0.0, 0))
            del bars[:-NEWEST_KEPT]
        bar = bars[-1]
        bar.close = trade.px
        bar.high = max(bar.high, trade.px, key=float)
        bar.low = min(bar.low, trade.px, key=float)
        bar.volume += float(trade.sz)
        bar.trades += 1

    def snapshot(self, coin: str, interval: str, start_ms: int, end_ms: int) -> list[dict[str, object]]:
        """Candles that open within [start, end], oldest first."""
        length = INTERVALS_MS[interval]
        groups: dict[int, list[_Bar]] = {}
        for bar in self._bars.get(coin, ()):
            open_ms = bar.open_ms - bar.open_ms % length
            if start_ms <= open_ms <= end_ms:
                groups.setdefault(open_ms, []).append(bar)
        return [_shape(coin, interval, open_ms, bars) for open_ms, bars in groups.items()]

    def current(self, coin: str, interval: str) -> dict[str, object] | None:
        """The candle that is being made, None before the first trade."""
        bars = self._bars.get(coin)
        if not bars:
            return None
        open_ms = bars[-1].open_ms - bars[-1].open_ms % INTERVALS_MS[interval]
        return _shape(coin, interval, open_ms, [bar for bar in bars if bar.open_ms >= open_ms])


def _shape(coin: str, interval: str, open_ms: int, bars: Iterable[_Bar]) -> dict[str, object]:
    parts = list(bars)
    return {
        "t": open_ms,
        "T": open_ms + INTERVALS_MS[interval] - 1,
        "s": coin,
        "i": interval,
        "o": parts[0].open,
        "c": parts[-1].close,
        "h": max((bar.high for bar in parts), key=float),
        "l": min((bar.low for bar in parts), key=float),
        "v": str(round(sum(bar.volume for bar in parts), 5)),
        "n": sum(bar.trades for bar in parts),
    }
