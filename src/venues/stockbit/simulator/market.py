"""The simulated market: books that move a little at a time, and trades at their best prices."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from src.models.messages import Level
from src.venues.stockbit.body import Side

LOT = 100
LOWEST_PRICE = 50
REPLAYED_TRADES = 40
_START_PRICES = {"BBCA": 7725, "TLKM": 3300, "BBRI": 4100, "BMRI": 4210, "ASII": 4790, "GOTO": 62}
_MOVE_SHARE = 0.06
_TOUCHED_LEVELS = 4


class SimTrade(Struct, frozen=True):
    """A running trade; ``number`` begins anew each day."""

    ticker: str
    price: int
    shares: int
    is_buy: bool
    number: int
    at_ms: int
    in_auction: bool = False


class SimBook:
    """One share: sixty levels on either side of a price that wanders."""

    def __init__(self, ticker: str, rng: random.Random, levels: int) -> None:
        self.ticker = ticker
        self._rng = rng
        self._levels = levels
        self._price = _START_PRICES.get(ticker, rng.randrange(100, 9_000))
        self._price -= self._price % tick_of(self._price)
        self._rows: dict[Side, list[tuple[int, int]]] = {"BID": [], "OFFER": []}
        self.trades: deque[SimTrade] = deque(maxlen=REPLAYED_TRADES)
        for side in self._rows:
            self._rows[side] = [self._new_row() for _ in range(levels)]

    def side(self, side: Side) -> tuple[Level, ...]:
        """The levels of a side, best first."""
        tick = tick_of(self._price)
        rows = self._rows[side]
        step = -tick if side == "BID" else tick
        first = self._price if side == "BID" else self._price + tick
        prices = [first + step * rank for rank in range(len(rows))]
        return tuple(
            Level(str(price), str(lots * LOT), orders)
            for price, (orders, lots) in zip(prices, rows, strict=True)
            if price >= LOWEST_PRICE
        )

    def change(self) -> tuple[Side, ...]:
        """Let something happen; returns the sides that look different now."""
        if self._rng.random() < _MOVE_SHARE:
            self._move(up=self._rng.random() < 0.5)  # noqa: PLR2004 - a coin toss
            return ("BID", "OFFER")
        side: Side = "BID" if self._rng.random() < 0.5 else "OFFER"  # noqa: PLR2004 - a coin toss
        rows = self._rows[side]
        for _ in range(self._rng.randint(1, _TOUCHED_LEVELS)):
            rows[min(int(self._rng.expovariate(0.2)), len(rows) - 1)] = self._new_row()
        return (side,)

    def trade(self, number: int, at_ms: int, *, in_auction: bool) -> tuple[SimTrade, Side]:
        """Somebody takes a part of the best level; returns the trade and the side that shrank."""
        is_buy = self._rng.random() < 0.5  # noqa: PLR2004 - a coin toss
        side: Side = "OFFER" if is_buy else "BID"
        rows = self._rows[side]
        orders, lots = rows[0]
        taken = max(1, min(lots - 1, int(self._rng.expovariate(1 / 40)) + 1))
        rows[0] = (max(1, orders - 1), max(1, lots - taken))
        price = int(self.side(side)[0].px)
        done = SimTrade(self.ticker, price, taken * LOT, is_buy, number, at_ms, in_auction)
        self.trades.append(done)
        return done, side

    def _move(self, *, up: bool) -> None:
        """The price goes one step up or down; new levels appear at the ends."""
        tick = tick_of(self._price)
        if not up and self._price - tick < LOWEST_PRICE * 2:
            up = True
        self._price += tick if up else -tick
        self._price -= self._price % tick_of(self._price)
        gains, loses = (self._rows["BID"], self._rows["OFFER"]) if up else (self._rows["OFFER"], self._rows["BID"])
        gains.insert(0, self._new_row())
        gains.pop()
        loses.pop(0)
        loses.append(self._new_row())

    def _new_row(self) -> tuple[int, int]:
        lots = 1 + int(self._rng.expovariate(1 / 20_000))
        return (max(1, min(lots, int(self._rng.expovariate(1 / 300)))), lots)


class SimMarket:
    """All shares."""

    def __init__(self, tickers: tuple[str, ...], *, seed: int, levels: int) -> None:
        rng = random.Random(seed)  # noqa: S311 - a market that can be repeated
        self.books = {ticker: SimBook(ticker, random.Random(rng.random()), levels) for ticker in tickers}  # noqa: S311
        self._numbers = 0

    def new_day(self) -> None:
        """Trade numbers begin anew, yesterday's trades are history."""
        self._numbers = 0
        for book in self.books.values():
            book.trades.clear()

    def next_number(self) -> int:
        """The number of the next trade of the day."""
        self._numbers += 1
        return self._numbers

    def __iter__(self) -> Iterator[SimBook]:
        return iter(self.books.values())


def tick_of(price: int) -> int:
    """The step of prices (README.md, "Ticks")."""
    for below, tick in ((200, 1), (500, 2), (2_000, 5), (5_000, 10)):
        if price < below:
            return tick
    return 25
