"""One side of a Stockbit order book, from the bytes of its frame to a book, against parsing the same as JSON."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence

from benchmarks.rows import Effort, Goal, MeasureError, Row, ratio, spread
from src.models.messages import Book, Data
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.venues.stockbit.mapper import StockbitMapper
from src.venues.stockbit.simulator.frames import book_frame
from src.venues.stockbit.simulator.market import SimMarket

NAME = "stockbit-book"
GOAL = Goal(50.0)
LEVELS = 60
TICKER = "BBCA"

_START_MS = 1_770_177_942_000
_SIZES = {Effort.TINY: (2, 10), Effort.QUICK: (7, 400), Effort.FULL: (25, 1_000)}
_WARM_MESSAGES = 200


def measure(effort: Effort) -> Sequence[Row]:
    """Microseconds of CPU of a message of 60 levels: decoded, merged with the other side, and diffed."""
    rounds, count = _SIZES[effort]
    frames = _session(rounds * count + _WARM_MESSAGES)
    size = round(sum(map(len, frames)) / len(frames))
    mapper, diff = StockbitMapper(), Diff(metrics=Metrics())
    books = 0

    def ours(frame: bytes) -> None:
        nonlocal books
        data = mapper.decode(frame, _START_MS)
        assert isinstance(data, Data)
        books += sum(isinstance(message, Book) for message in data.messages)
        diff.apply(data)

    for frame in frames[:_WARM_MESSAGES]:
        ours(frame)
    cold = StockbitMapper()
    live, afresh, parsed = [], [], []
    for number in range(rounds):
        part = frames[_WARM_MESSAGES + number * count :][:count]
        live.append(_microseconds(ours, part))
        texts = [_as_json(frame) for frame in part]

        def one_off(frame: bytes) -> None:
            cold.opened()  # nothing is known of any side: every level is read anew
            cold.decode(frame, _START_MS)

        afresh.append(_microseconds(one_off, part))
        parsed.append(_microseconds(json.loads, texts))
    if books < rounds * count:
        raise MeasureError(f"{books} books from {rounds * count} messages")
    note = f"{LEVELS} levels, {size:,} bytes"
    return [
        Row("stockbit side, decode+merge+diff", spread(live), "µs", goal=GOAL, note=note),
        Row("stockbit side, first of a connection", spread(afresh), "µs", note=f"{note}, nothing known"),
        Row(
            "stockbit side, against JSON",
            spread(live),
            "µs",
            peer="json.loads of the same levels",
            peer_value=spread(parsed),
            ratio=ratio(live, parsed),
            note=note,
        ),
    ]


def _session(count: int) -> list[bytes]:
    """Frames of one share as they follow each other, both sides in turn as the market has it."""
    (book,) = SimMarket((TICKER,), seed=7, levels=LEVELS)
    frames: list[bytes] = []
    for side in ("BID", "OFFER"):
        frames.append(book_frame(TICKER, side, book.side(side), seq=len(frames) + 1, at_ms=_START_MS))
    while len(frames) < count:
        for side in book.change():
            at_ms = _START_MS + 100 * len(frames)
            frames.append(book_frame(TICKER, side, book.side(side), seq=len(frames) + 1, at_ms=at_ms))
    return frames[:count]


def _as_json(frame: bytes) -> bytes:
    data = StockbitMapper().decode(frame, _START_MS)
    assert isinstance(data, Data)
    mapper = StockbitMapper()
    mapper.decode(frame, _START_MS)
    state = next(iter(mapper.books))
    row = state.bid.row or state.offer.row
    return json.dumps([{"price": level.px, "shares": level.sz, "orders": level.n} for level in row]).encode()


def _microseconds(work: Callable[[bytes], object], frames: Sequence[bytes]) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.thread_time_ns()
        for frame in frames:
            work(frame)
        return (time.thread_time_ns() - began) / 1000 / len(frames)
    finally:
        gc.enable()
