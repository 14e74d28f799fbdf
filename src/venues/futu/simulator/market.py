"""Order books that move: a random walk on a price grid, the same for the same seed."""

from __future__ import annotations

import random

from msgspec import Struct

from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire

_TICK = 0.2
_LOT = 100


class SimulatedLevel(Struct, frozen=True):
    """One price level: price, shares, orders."""

    price: float
    volume: int
    orders: int


class SimulatedBook(Struct, frozen=True):
    """A book at ``time_ms`` (0 = the gateway has it from its cache and knows no time)."""

    symbol: str
    time_ms: int
    bids: tuple[SimulatedLevel, ...]
    asks: tuple[SimulatedLevel, ...]


class GatewayMarket:
    """The books of all symbols."""

    def __init__(self, symbols: tuple[str, ...], *, seed: int, depth: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._depth = depth
        self._middle = {symbol: 500 + 137 * number for number, symbol in enumerate(symbols)}
        self.books: dict[str, SimulatedBook] = {}

    def step(self, symbol: str, time_ms: int) -> SimulatedBook:
        """Move ``symbol`` on by one book."""
        draw = self._random
        middle = max(self._depth + 2, self._middle[symbol] + draw.choice((-1, 0, 0, 1)))
        self._middle[symbol] = middle
        book = SimulatedBook(
            symbol,
            time_ms,
            tuple(self._level(middle - distance) for distance in range(1, self._depth + 1)),
            tuple(self._level(middle + distance) for distance in range(1, self._depth + 1)),
        )
        self.books[symbol] = book
        return book

    def put(self, book: SimulatedBook) -> None:
        """Set a book by hand."""
        self.books[book.symbol] = book

    def _level(self, steps: int) -> SimulatedLevel:
        orders = self._random.randint(1, 40)
        return SimulatedLevel(round(steps * _TICK, 3), _LOT * self._random.randint(orders, orders * 20), orders)


def push_body(book: SimulatedBook, *, times: bool = True) -> pb.OrderBook.Response:
    """``book`` as the gateway pushes it."""
    s2c = pb.OrderBook.S2C(
        security=wire.security(book.symbol),
        orderBookBidList=[_wire_level(level) for level in book.bids],
        orderBookAskList=[_wire_level(level) for level in book.asks],
    )
    if times and book.time_ms:
        s2c.svrRecvTimeBidTimestamp = book.time_ms / 1000
        s2c.svrRecvTimeAskTimestamp = book.time_ms / 1000
    return pb.OrderBook.Response(retType=wire.RET_OK, retMsg="", s2c=s2c)


def _wire_level(level: SimulatedLevel) -> pb.OrderBookLevel:
    return pb.OrderBookLevel(price=level.price, volume=level.volume, orederCount=level.orders)
