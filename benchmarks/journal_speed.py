"""What the journal costs: an append beside its parts, opening a large journal, and draining it into a real mongod.

Batches of five order changes, as a busy trader's frame makes them. The appends are judged by the CPU time of the
thread (the kernel's part included), the rest by wall time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from benchmarks.rows import Effort, MeasureError, Row, Spread, ratio, spread
from src.models.changes import Change, OrderChange
from src.models.metrics import Metrics
from src.models.orders import Order
from src.pipeline.flush import Flusher
from src.pipeline.journal import Journal
from src.pipeline.journal_files import encode_record
from src.pipeline.pending import Pending
from src.store.embedded import open_embedded
from src.store.mongo import MongoStore
from src.venues.clock import SystemClock

NAME = "journal-speed"

MIB = 1024 * 1024
_PER_BATCH = 5
_BATCHES = {Effort.TINY: 200, Effort.QUICK: 4_000, Effort.FULL: 20_000}
_ROUNDS = {Effort.TINY: 1, Effort.QUICK: 5, Effort.FULL: 11}
_LARGE_BYTES = {Effort.TINY: 2 * MIB, Effort.QUICK: 128 * MIB, Effort.FULL: 1024 * MIB}
_OPENINGS = {Effort.TINY: 1, Effort.QUICK: 3, Effort.FULL: 5}
_DRAINED = {Effort.TINY: 1_000, Effort.QUICK: 20_000, Effort.FULL: 100_000}
_NO_LIMIT = 1 << 40
_TIMEOUT_S = 60.0
_FIRST_MS = 1_791_280_000_000
_FIRST_OID = 566_617_880_000


def measure(effort: Effort) -> Sequence[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        return [
            *_appends(Path(folder), effort),
            _opening(Path(folder), effort),
            asyncio.run(_draining(folder, effort)),
        ]


def batches(count: int) -> Iterator[list[Change]]:
    """Batches of order changes, no two alike."""
    for number in range(count):
        yield [_change(number * _PER_BATCH + place) for place in range(_PER_BATCH)]


# -- one append ------------------------------------------------------------------------------------------------------


def _appends(folder: Path, effort: Effort) -> list[Row]:
    ready = list(batches(_BATCHES[effort]))
    records = [encode_record(seq, changes) for seq, changes in enumerate(ready, 1)]
    times: dict[str, list[float]] = {"append": [], "encode": [], "write": []}
    for number in range(_ROUNDS[effort] + 1):  # the first round warms up
        with _journal(folder / f"append-{number}") as journal:
            found = {"append": _us_per_change(ready, journal.append)}
            if journal.size_bytes != sum(map(len, records)) or journal.changes != len(ready) * _PER_BATCH:
                raise MeasureError("not everything was appended")
        found["encode"] = _us_per_change(ready, lambda changes: encode_record(1, changes))
        with (folder / f"plain-{number}").open("wb") as file:
            found["write"] = _us_per_change(records, file.write, at_end=file.flush)
        for name, value in found.items():
            times[name] += [value] if number else []
    note = f"{sum(map(len, records)) / len(ready) / _PER_BATCH:.0f} bytes per change, {_PER_BATCH} changes per append"
    return [
        _compared("journal append", times["append"], "encoding alone", times["encode"], note),
        _compared("journal append", times["append"], "buffered write of the same bytes", times["write"], ""),
    ]


def _compared(name: str, values: Sequence[float], peer: str, peers: Sequence[float], note: str) -> Row:
    unit = "µs CPU per change"
    return Row(name, spread(values), unit, peer=peer, peer_value=spread(peers), ratio=ratio(values, peers), note=note)


def _us_per_change(
    items: Sequence[Any], work: Callable[[Any], object], *, at_end: Callable[[], None] | None = None
) -> float:
    start = time.thread_time()
    for item in items:
        work(item)
    if at_end is not None:
        at_end()
    return (time.thread_time() - start) * 1e6 / len(items) / _PER_BATCH


# -- a large one -----------------------------------------------------------------------------------------------------


def _opening(folder: Path, effort: Effort) -> Row:
    directory, size, number = folder / "large", _LARGE_BYTES[effort], 0
    with _journal(directory) as journal:
        while journal.size_bytes < size:
            for changes in batches(1_000):
                journal.append(changes)
            number += 1_000 * _PER_BATCH
    times: list[float] = []
    for _ in range(_OPENINGS[effort]):
        start = time.perf_counter()
        with _journal(directory) as journal:
            times.append(time.perf_counter() - start)
            if journal.changes != number:
                raise MeasureError(f"{journal.changes} of {number} changes were found")
    note = f"{number:,} changes in {number // _PER_BATCH:,} records; the files are in the system's cache"
    return Row(f"opening a journal of {size // MIB:,} MiB", spread(times), "s", note=note)


async def _draining(folder: str, effort: Effort) -> Row:
    """From disk into MongoDB, and the same changes from memory, each into a database of its own."""
    wanted = _DRAINED[effort]
    rates: dict[str, float] = {}
    async with open_embedded(Path(folder) / "data", cache_gib=0.5) as server:
        for name in ("memory", "journal"):
            store = MongoStore(server.uri, f"bench_{name}", timeout_s=_TIMEOUT_S)
            try:
                await store.prepare()
                with _journal(Path(folder) / "drained") as journal:
                    rates[name] = await _drain(store, wanted, journal if name == "journal" else None)
            finally:
                await store.close()
    disk, memory = (Spread(rate, rate, rate) for rate in (rates["journal"], rates["memory"]))
    return Row(
        f"draining {wanted:,} changes into MongoDB", disk, "changes/s",
        peer="the same from memory", peer_value=memory, ratio=ratio([disk.median], [memory.median]),
        note="one run each; each change is an event and a state, majority and journaled",
    )  # fmt: skip


async def _drain(store: MongoStore, count: int, journal: Journal | None) -> float:
    """Changes per second."""
    clock, metrics = SystemClock(), Metrics()
    # With room for one change nearly all of them wait on disk.
    pending = Pending(1 if journal else count, clock=clock, metrics=metrics, journal=journal)
    for changes in batches(count // _PER_BATCH):
        pending.add(changes)
    if journal is not None and pending.on_disk < count - _PER_BATCH:
        raise MeasureError("the changes did not go through the disk")
    flusher = Flusher(store=store, pending=pending, metrics=metrics, clock=clock, interval_s=1.0)
    start = time.perf_counter()
    while len(pending):
        if not await flusher.flush_once():
            raise MeasureError("MongoDB did not take a batch")
    return count / (time.perf_counter() - start)


@contextmanager
def _journal(directory: Path) -> Iterator[Journal]:
    journal = Journal(directory, limit_bytes=_NO_LIMIT)
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


def _change(number: int) -> OrderChange:
    oid = _FIRST_OID + number
    return structs.replace(
        _SAMPLE,
        trader=f"0x{number % 100:040x}",
        order=structs.replace(_SAMPLE.order, oid=oid, limitPx=f"{80_000 + number}.5", cloid=f"0x{oid:032x}"),
        received_ms=_FIRST_MS + number,
    )


_SAMPLE = OrderChange(
    venue="hyperliquid",
    trader="",
    dex="",
    action="new",
    order=Order(
        oid=0, coin="BTC", side="B", limitPx="", sz="0.5", origSz="1.0", timestamp=_FIRST_MS, orderType="Limit",
        tif="Gtc", reduceOnly=False, isTrigger=False, triggerPx="0.0", triggerCondition="N/A", isPositionTpsl=False,
    ),
    revision=1,
    changes={},
    venue_ms=_FIRST_MS,
    received_ms=_FIRST_MS,
)  # fmt: skip
