"""Memory per tracked open order, through mapper and diff, in a process of its own per figure.

Two looks at each size: what the allocator was asked for (tracemalloc; exact, this is judged) and by how much the
process grew (resident memory; what the machine pays, with the allocator's waste).
"""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import psutil

from benchmarks.messages import VariedOrders
from benchmarks.rows import Effort, Goal, MeasureError, Row, spread
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.venues.hyperliquid.mapper import HyperliquidMapper

NAME = "order-memory"
GOAL = Goal(500)

_ORDERS_PER_TRADER = 100
_COUNTS = {Effort.TINY: (1_000,), Effort.QUICK: (10_000, 100_000), Effort.FULL: (10_000, 100_000, 1_000_000)}
_FLAT_WITHIN = 1.10
_RECEIVED_MS = 1_791_280_000_000


def measure(effort: Effort) -> Sequence[Row]:
    """One row for each count of orders; the first to the last must agree within `_FLAT_WITHIN`."""
    figures = [(count, *_alone(count)) for count in _COUNTS[effort]]
    flat = max(asked for _, asked, _ in figures) <= _FLAT_WITHIN * min(asked for _, asked, _ in figures)
    return [
        Row(
            f"memory per open order, {count:,} orders",
            spread([asked]),
            "bytes",
            goal=GOAL,
            holds={f"flat within {_FLAT_WITHIN:g} x": flat},
            note=f"{resident:.0f} bytes of resident memory; {_ORDERS_PER_TRADER} orders per trader",
        )
        for count, asked, resident in figures
    ]


def _alone(count: int) -> tuple[float, float]:
    """Bytes per order asked for, and resident; each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        asked, resident = pool.submit(asked_per_order, count), pool.submit(resident_per_order, count)
        return asked.result(), resident.result()


def asked_per_order(count: int) -> float:
    """Bytes in live objects per order that mapper and diff hold, after a change of every trader's list."""
    known = _Known()
    gc.collect()
    tracemalloc.start()
    known.track(count)
    gc.collect()
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size_bytes / known.open_orders


def resident_per_order(count: int) -> float:
    """Growth of the process per order."""
    known, process = _Known(), psutil.Process()
    known.track(_ORDERS_PER_TRADER)  # imports, code caches and the first arenas belong to the program
    gc.collect()
    before, orders_before = process.memory_info().rss, known.open_orders
    known.track(count, first_trader=1)
    gc.collect()
    grown: int = process.memory_info().rss - before
    return grown / (known.open_orders - orders_before)


class _Known:
    def __init__(self) -> None:
        self._lists = VariedOrders(_ORDERS_PER_TRADER)
        self._mapper = HyperliquidMapper()
        self._diff = Diff(metrics=Metrics())

    @property
    def open_orders(self) -> int:
        return self._diff.open_orders

    def track(self, count: int, *, first_trader: int = 0) -> None:
        """Two lists of each trader: the first opens its orders, in the second one of them changed."""
        before = self.open_orders
        for number in range(first_trader, first_trader + count // _ORDERS_PER_TRADER):
            for frame in self._lists.two_lists(number):
                self._take(frame)
        if self.open_orders - before != count:
            raise MeasureError(f"{self.open_orders - before} of {count} orders are tracked")

    def _take(self, frame: bytes) -> None:
        self._diff.apply(self._mapper.decode(frame, _RECEIVED_MS))  # type: ignore[arg-type]
