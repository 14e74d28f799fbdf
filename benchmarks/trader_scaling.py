"""CPU per message, from bytes to changes, with few and with many traders.

Each number of traders lives in a process of its own, because the garbage collector looks at the whole process. The
processes work in turns, one at a time, on the same number of messages.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from benchmarks.messages import Voice, orders_voice, positions_voice
from benchmarks.rows import Effort, Goal, MeasureError, Row, ratio, spread
from src.models.changes import OrderChange
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.venues.hyperliquid.mapper import HyperliquidMapper

NAME = "trader-scaling"
GOAL = Goal(1.2)

ORDERS = 40
POSITIONS = 12
_TRADERS = {Effort.TINY: (2, 4), Effort.QUICK: (10, 1_000), Effort.FULL: (10, 100, 1_000)}
_ROUNDS = {Effort.TINY: 2, Effort.QUICK: 5, Effort.FULL: 15}
_LOOKS = {Effort.TINY: 8, Effort.QUICK: 2_000, Effort.FULL: 4_000}
"""Looks at a trader per round; a look is two messages: openOrders with one order changed, and clearinghouseState."""

_RECEIVED_MS = 1_791_280_000_000


def measure(effort: Effort) -> Sequence[Row]:
    counts, looks = _TRADERS[effort], _LOOKS[effort]
    workers = {traders: _Worker(traders) for traders in counts}
    try:
        for worker in workers.values():
            worker.spend_us(looks)
        figures: dict[int, list[float]] = {traders: [] for traders in counts}
        turns = list(workers.items())
        for _ in range(_ROUNDS[effort]):
            for traders, worker in turns:
                figures[traders].append(worker.spend_us(looks))
            turns.append(turns.pop(0))
    finally:
        for worker in workers.values():
            worker.close()
    few = counts[0]
    return [
        Row(
            f"CPU per message, {traders:,} traders",
            spread(figures[traders]),
            "µs",
            peer=f"{few} traders",
            peer_value=spread(figures[few]),
            ratio=ratio(figures[traders], figures[few]),
            goal=GOAL,
            note=f"openOrders with {ORDERS} orders (one changed) and clearinghouseState with {POSITIONS} positions",
        )
        for traders in counts[1:]
    ]


class Crowd:
    """Traders, and everything we know of them."""

    def __init__(self, traders: int) -> None:
        self._voices: list[tuple[Voice, Voice]] = [
            (orders_voice(number, orders=ORDERS), positions_voice(number, positions=POSITIONS))
            for number in range(traders)
        ]
        self._mapper = HyperliquidMapper()
        self._diff = Diff(metrics=Metrics())
        self._next = 0
        for orders, positions in self._voices:
            self._take(orders.same())
            self._take(positions.same())

    def spend_us(self, looks: int) -> float:
        """Mean CPU per message over so many looks, round robin over the traders.

        Raises:
            MeasureError: not every look found its one changed order.
        """
        clock, spent_ns, found = time.thread_time_ns, 0, 0
        for _ in range(looks):
            orders, positions = self._voices[self._next]
            self._next = (self._next + 1) % len(self._voices)
            frames = (orders.changed(), positions.same())
            start = clock()
            for frame in frames:
                changes = self._take(frame)
                if changes and type(changes[0]) is OrderChange:
                    found += 1
            spent_ns += clock() - start
        if found != looks:
            raise MeasureError(f"{found} changed orders in {looks} looks")
        return spent_ns / looks / 2 / 1000

    def _take(self, frame: bytes) -> list[object]:
        return self._diff.apply(self._mapper.decode(frame, _RECEIVED_MS))  # type: ignore[arg-type, return-value]


class _Worker:
    """A `Crowd` in another process that works only when asked."""

    def __init__(self, traders: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(traders, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def spend_us(self, looks: int) -> float:
        self._pipe.send(looks)
        try:
            return float(self._pipe.recv())
        except EOFError:
            raise MeasureError("a worker ended; its error stands above") from None

    def close(self) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(traders: int, pipe: Connection) -> None:
    crowd = Crowd(traders)
    while True:
        try:
            looks = pipe.recv()
        except EOFError:
            return
        pipe.send(crowd.spend_us(looks))
