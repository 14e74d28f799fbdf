"""An invented stock market: trades, what becomes of them, bars and history. Pure but for its random numbers."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from src.venues.alpaca.hours import midnight_ms, new_york_date
from src.venues.alpaca.simulator.config import TEST_SYMBOL, SimulatorConfig
from src.venues.alpaca.simulator.frames import Ns
from src.venues.alpaca.times import NS_PER_MS, NS_PER_S

Message = dict[str, Any]

HISTORY_ROWS = 200_000
_EXCHANGES = "QVPZKND"
_AMENDABLE = 200
_MINUTE_NS = 60 * NS_PER_S
_STEP = 0.0005
_CENT = 0.01


class Stock:
    """One symbol: its price, its day and its past."""

    def __init__(self, symbol: str, close: float) -> None:
        self.symbol = symbol
        self.previous_close = close
        self.previous_volume = 1_000_000.0
        self.price = close
        self.day: Message | None = None
        self.minute: Message | None = None
        self.history: deque[Message] = deque(maxlen=HISTORY_ROWS)


class Market:
    """All symbols; `step` makes time pass.

    Attributes:
        stocks: by symbol.
        corrected, cancelled: amendments made so far, as they were sent.
    """

    def __init__(self, config: SimulatorConfig, start_ns: int) -> None:
        self._config = config
        self._random = random.Random(config.seed)  # noqa: S311 - an invented market
        self._now_ns = start_ns
        self._due = 0.0
        self._ids: dict[tuple[str, str], int] = {}
        self._recent: deque[Message] = deque(maxlen=_AMENDABLE)
        self.stocks = {name: Stock(name, price) for name, price in {**config.symbols, TEST_SYMBOL: 134.0}.items()}
        self.corrected: list[Message] = []
        self.cancelled: list[Message] = []
        self.running = True

    def step(self, now_ns: int) -> list[Message]:
        """What happens until ``now_ns``, in order."""
        elapsed_ns, began_ns = now_ns - self._now_ns, self._now_ns
        if elapsed_ns <= 0:
            return []
        self._now_ns = now_ns
        if not self.running:
            return []
        self._due += self._config.trades_per_s * elapsed_ns / NS_PER_S
        count, self._due = int(self._due), self._due % 1
        names = list(self.stocks)
        said: list[Message] = []
        for number in range(count):
            at_ns = began_ns + elapsed_ns * (number + 1) // count
            said.extend(self.trade(self._random.choice(names), at_ns))
            said.extend(self._amend(at_ns))
        return said

    def trade(
        self, symbol: str, at_ns: int, *, price: float | None = None, size: int | None = None, exchange: str = ""
    ) -> list[Message]:
        """A trade, and the bar it ends where it is the first of a minute."""
        stock = self.stocks[symbol]
        stock.price = price or max(_CENT, round(stock.price * (1 + self._random.uniform(-_STEP, _STEP)), 2))
        letter = exchange or self._random.choice(_EXCHANGES)
        message: Message = {
            "T": "t",
            "S": symbol,
            "i": self._next_id(symbol, letter, at_ns),
            "x": letter,
            "p": stock.price,
            "s": size or self._random.choice((1, 5, 10, 50, 100, 100, 200)),
            "c": ["@"],
            "t": Ns(at_ns),
            "z": "C",
        }
        stock.history.append(_row(message))
        self._recent.append(message)
        return [*self._count(stock, message), message]

    def correct(self, trade: Message, at_ns: int, *, price: float, size: int) -> Message:
        """Replace a trade by one with a new id."""
        stock = self.stocks[trade["S"]]
        number = self._next_id(trade["S"], trade["x"], at_ns)
        message = {
            "T": "c",
            "S": trade["S"],
            "x": trade["x"],
            "oi": trade["i"],
            "op": trade["p"],
            "os": trade["s"],
            "oc": trade["c"],
            "ci": number,
            "cp": price,
            "cs": size,
            "cc": trade["c"],
            "t": Ns(at_ns),
            "z": "C",
        }
        _mark(stock, trade, "incorrect")
        row = {"t": Ns(at_ns), "x": trade["x"], "p": price, "s": size, "c": trade["c"], "i": number, "z": "C"}
        stock.history.append(row | {"u": "corrected"})
        self.corrected.append(message)
        return message

    def cancel(self, trade: Message, at_ns: int, *, action: str = "C") -> Message:
        """Take a trade back."""
        kept = {name: trade[name] for name in ("S", "i", "x", "p", "s", "z")}
        message = {"T": "x", **kept, "a": action, "t": Ns(at_ns)}
        _mark(self.stocks[trade["S"]], trade, "canceled")
        self.cancelled.append(message)
        return message

    def quote(self, symbol: str, at_ns: int) -> Message:
        """Best bid and offer around the price."""
        price = self.stocks[symbol].price
        bid, ask = round(price - _CENT, 2), round(price + _CENT, 2)
        sides = {"bx": "Q", "bp": bid, "bs": 3, "ax": "V", "ap": ask, "as": 1}
        return {"T": "q", "S": symbol, **sides, "c": ["R"], "t": Ns(at_ns), "z": "C"}

    def status(self, symbol: str, at_ns: int, *, halted: bool) -> Message:
        """A halt for news, or the end of it."""
        words = ("H", "Trading Halt") if halted else ("T", "Trading Resumption")
        code, text = words
        reason = {"rc": "T1", "rm": "Halt News Pending"} if halted else {"rc": "T2", "rm": "Halt News Dissemination"}
        return {"T": "s", "S": symbol, "sc": code, "sm": text, **reason, "t": Ns(at_ns), "z": "C"}

    def set_day(self, symbol: str, *, gain: float, volume: float, previous_volume: float, now_ns: int) -> None:
        """Let a symbol have gained so much since yesterday, with these volumes."""
        stock = self.stocks[symbol]
        stock.price = round(stock.previous_close * (1 + gain), 2)
        stock.previous_volume = previous_volume
        stock.day = _bar(_day_start(now_ns), stock.price, volume)
        stock.minute = _bar(Ns(now_ns - now_ns % _MINUTE_NS), stock.price, volume / 100)

    def snapshot(self, symbol: str) -> Message | None:
        """The latest state of a symbol as REST tells it; None for one that is not listed."""
        stock = self.stocks.get(symbol)
        if stock is None:
            return None
        previous = _bar(_day_start(_day_start(self._now_ns) - 1), stock.previous_close, stock.previous_volume)
        latest = stock.history[-1] if stock.history else None
        return {"latestTrade": latest, "minuteBar": stock.minute, "dailyBar": stock.day, "prevDailyBar": previous}

    def _amend(self, at_ns: int) -> list[Message]:
        if not self._recent:
            return []
        said = []
        if self._random.random() < self._config.correction_share:
            trade = self._take_recent()
            said.append(self.correct(trade, at_ns, price=round(trade["p"] + _CENT, 2), size=trade["s"] + 1))
        if self._recent and self._random.random() < self._config.cancel_share:
            said.append(self.cancel(self._take_recent(), at_ns))
        return said

    def _take_recent(self) -> Message:
        """A trade that was not amended yet."""
        position = self._random.randrange(len(self._recent))
        trade = self._recent[position]
        del self._recent[position]
        return trade

    def _count(self, stock: Stock, trade: Message) -> list[Message]:
        """Add a trade to the day and the minute; the minute it ends is a message."""
        at_ns = int(trade["t"])
        day_ns, minute_ns = _day_start(at_ns), at_ns - at_ns % _MINUTE_NS
        if stock.day is None or stock.day["t"] != day_ns:
            stock.day = _bar(day_ns, trade["p"], 0.0)
        ended = []
        if stock.minute is None or stock.minute["t"] != minute_ns:
            if stock.minute is not None and stock.minute["n"]:
                ended = [{"T": "b", "S": stock.symbol, **stock.minute}]
            stock.minute = _bar(Ns(minute_ns), trade["p"], 0.0)
        for bar in (stock.day, stock.minute):
            bar.update(c=trade["p"], h=max(bar["h"], trade["p"]), l=min(bar["l"], trade["p"]))
            bar.update(v=bar["v"] + trade["s"], n=bar["n"] + 1)
        return ended

    def _next_id(self, symbol: str, exchange: str, at_ns: int) -> int:
        """Ids count anew on every exchange and day."""
        key = (f"{new_york_date(at_ns // NS_PER_MS)}-{exchange}", symbol)
        self._ids[key] = self._ids.get(key, 0) + 1
        return self._ids[key]


def _row(trade: Message) -> Message:
    return {name: trade[name] for name in ("t", "x", "p", "s", "c", "i", "z")}


def _mark(stock: Stock, trade: Message, state: str) -> None:
    for row in reversed(stock.history):
        if (row["x"], row["i"]) == (trade["x"], trade["i"]):
            row["u"] = state
            return


def _day_start(at_ns: int) -> Ns:
    return Ns(midnight_ms(new_york_date(at_ns // NS_PER_MS)) * NS_PER_MS)


def _bar(start: Ns, price: float, volume: float) -> Message:
    return {"t": start, "o": price, "h": price, "l": price, "c": price, "v": volume, "n": 0, "vw": price}
