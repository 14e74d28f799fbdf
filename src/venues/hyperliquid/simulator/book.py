"""One coin's market: a wandering price, a background of anonymous orders, and the traders' resting orders in it.

The background is a pure function of price, side and time, so that looking at a book changes nothing. Resting orders
of traders never cross it: `Market` sweeps those that the wandering price runs over.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.units import Instrument

DEPTH = 20
_BACKGROUND_LEVELS = 26
_SIZE_LIFE_STEPS = 40
_MASK = (1 << 64) - 1
_MAX_SPREAD_TICKS = 3
_LEVEL_NOTIONAL_MICRO = 20_000_000_000


class Level(NamedTuple):
    """Price, total lots and number of orders of one level."""

    px: int
    lots: int
    n: int


class _Side:
    """Resting orders of one side: prices in ascending order, orders first come first served."""

    def __init__(self) -> None:
        self.prices: list[int] = []
        self.orders: dict[int, dict[int, SimOrder]] = {}

    def add(self, order: SimOrder) -> None:
        queue = self.orders.get(order.limit_px)
        if queue is None:
            queue = self.orders[order.limit_px] = {}
            insort(self.prices, order.limit_px)
        queue[order.oid] = order

    def remove(self, order: SimOrder) -> None:
        queue = self.orders[order.limit_px]
        del queue[order.oid]
        if not queue:
            del self.orders[order.limit_px]
            del self.prices[bisect_left(self.prices, order.limit_px)]

    def level(self, px: int) -> Level:
        queue = self.orders[px]
        return Level(px, sum(order.lots for order in queue.values()), len(queue))


class CoinMarket:
    """Price, background and resting orders of one coin."""

    def __init__(self, coin: Instrument, seed: int) -> None:
        self.coin = coin
        self.level = float(coin.start_px)
        self.steps = 0
        self.bids = _Side()
        self.asks = _Side()
        self.triggers: dict[int, SimOrder] = {}
        self._seed = _mix(seed * 1_000_003 + coin.index + 7919 * len(coin.dex) + hash_text(coin.name))
        self.mark = coin.start_px
        self.background_bid = coin.start_px
        self.background_ask = coin.start_px
        self.move(self.level)

    def move(self, level: float) -> None:
        """Let the price wander to ``level`` (price units)."""
        coin = self.coin
        self.level = max(level, coin.start_px * 0.05, 10.0)
        self.mark = coin.snap(self.level)
        tick = coin.tick(self.mark)
        self.background_bid = max(tick, self.mark - tick * (self.level < self.mark))
        spread = 1 + _mix(self._seed ^ (self.steps // _SIZE_LIFE_STEPS)) % _MAX_SPREAD_TICKS
        self.background_ask = self.background_bid + spread * tick
        self.steps += 1

    def add(self, order: SimOrder) -> None:
        """Put an order into the book."""
        (self.bids if order.is_buy else self.asks).add(order)
        order.resting = True

    def remove(self, order: SimOrder) -> None:
        """Take an order out of the book."""
        (self.bids if order.is_buy else self.asks).remove(order)
        order.resting = False

    def best_bid(self) -> int:
        """Highest price somebody buys at."""
        return max(self.background_bid, self.bids.prices[-1]) if self.bids.prices else self.background_bid

    def best_ask(self) -> int:
        """Lowest price somebody sells at."""
        return min(self.background_ask, self.asks.prices[0]) if self.asks.prices else self.background_ask

    def maker_for(self, *, taker_buys: bool) -> SimOrder | None:
        """The trader's order that a taker meets first, None when the background is better."""
        side = self.asks if taker_buys else self.bids
        if not side.prices:
            return None
        px = side.prices[0] if taker_buys else side.prices[-1]
        if (px > self.background_ask) if taker_buys else (px < self.background_bid):
            return None
        return next(iter(side.orders[px].values()))

    def run_over(self) -> Iterator[SimOrder]:
        """Resting orders that the background has run over, best price first; each must be filled by the caller."""
        while self.bids.prices and self.bids.prices[-1] >= self.background_ask:
            yield next(iter(self.bids.orders[self.bids.prices[-1]].values()))
        while self.asks.prices and self.asks.prices[0] <= self.background_bid:
            yield next(iter(self.asks.orders[self.asks.prices[0]].values()))

    def levels(self, depth: int = DEPTH) -> tuple[list[Level], list[Level]]:
        """Bids (descending) and asks (ascending); empty for a delisted coin."""
        if self.coin.delisted:
            return [], []
        bids = _merge(self._background(is_bid=True), self._resting(is_bid=True), descending=True)
        asks = _merge(self._background(is_bid=False), self._resting(is_bid=False), descending=False)
        return bids[:depth], asks[:depth]

    def _background(self, *, is_bid: bool) -> Iterator[Level]:
        coin = self.coin
        px = self.background_bid if is_bid else self.background_ask
        for _ in range(_BACKGROUND_LEVELS):
            tick = coin.tick(px)
            key = _mix(self._seed ^ (px * 2 + is_bid))
            draw = _mix(key + (self.steps + key % _SIZE_LIFE_STEPS) // _SIZE_LIFE_STEPS)
            lots = coin.lots_for(draw % _LEVEL_NOTIONAL_MICRO, px)
            yield Level(px, lots, 1 + draw % 13)
            step = tick * (1 + key % 3)
            px = px - step if is_bid else px + step
            if px <= 0:
                return

    def _resting(self, *, is_bid: bool) -> Iterator[Level]:
        side = self.bids if is_bid else self.asks
        prices = side.prices[: -DEPTH - 1 : -1] if is_bid else side.prices[:DEPTH]
        return (side.level(px) for px in prices)


def hash_text(text: str) -> int:
    """A number from a text, the same in every process."""
    value = 1469598103934665603
    for byte in text.encode():
        value = ((value ^ byte) * 1099511628211) & _MASK
    return value


def _merge(background: Iterator[Level], resting: Iterator[Level], *, descending: bool) -> list[Level]:
    merged: dict[int, Level] = {level.px: level for level in background}
    for level in resting:
        there = merged.get(level.px)
        merged[level.px] = Level(level.px, level.lots + there.lots, level.n + there.n) if there else level
    return [merged[px] for px in sorted(merged, reverse=descending)]


def _mix(value: int) -> int:
    """A well-spread 64-bit hash (splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
