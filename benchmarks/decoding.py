"""Shared by the two measures of legacy messages: time decoders on the same bytes, message by message in turn."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from benchmarks.messages import Session, legacy_session
from benchmarks.rows import Effort, Goal, MeasureError, Row, ratio, spread
from src.models.changes import OrderChange
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.venues.hyperliquid.mapper import HyperliquidMapper

OPEN_ORDERS = 40
OPEN_POSITIONS = 12
PEER = "json.loads"
OURS = "decode+map+diff"

_RECEIVED_MS = 1_791_280_000_000
_WARM_MESSAGES = 20
_SIZES = {Effort.TINY: (2, 3), Effort.QUICK: (7, 40), Effort.FULL: (25, 60)}

Take = Callable[[bytes], None]
Kind = Literal["changed", "same", "identical"]


class Timing(Struct, frozen=True):
    """Microseconds of CPU per message of each contender, one figure per round."""

    source: str
    size_bytes: int
    rounds: Mapping[str, list[float]]


class Collected:
    """Our path from bytes to changes, with a count of the order changes found."""

    def __init__(self) -> None:
        self.order_changes = 0
        self._mapper = HyperliquidMapper()
        self._diff = Diff(metrics=Metrics())

    def take(self, frame: bytes) -> None:
        changes = self._diff.apply(self._mapper.decode(frame, _RECEIVED_MS))  # type: ignore[arg-type]
        for change in changes:
            if type(change) is OrderChange:
                self.order_changes += 1


def time_messages(effort: Effort, kind: Kind) -> Timing:
    """Time all contenders, each in its turn on a block of messages, in an order that turns with each round.

    Everybody gets the same messages. Each is composed right before it is handed over, so it lies in the cache, as one
    does that has just been received. Only CPU time of this thread counts.

    Args:
        effort: how many rounds and messages.
        kind: ``changed``: one order differs from message to message; ``same``: only the venue's times do;
            ``identical``: not a byte does.

    Raises:
        MeasureError: ours did not find exactly one order change in each changed message and none in the others.
    """
    rounds, messages = _SIZES[effort]
    ours = Collected()
    takes: dict[str, Take] = {
        OURS: ours.take,
        PEER: _json_loads,
        "msgspec to dicts": _msgspec_to_dicts,
        **_other_parsers(),
    }
    session, _ = _messages(kind)
    turns = [(name, take, _messages(kind)[1]) for name, take in takes.items()]
    for _, take, advance in turns:
        _block(take, advance, _WARM_MESSAGES)
    ours.order_changes = 0
    figures: dict[str, list[float]] = {name: [] for name in takes}
    for _ in range(rounds):
        for name, take, advance in turns:
            figures[name].append(_block(take, advance, messages) / messages / 1000)
        turns.append(turns.pop(0))
    if ours.order_changes != (rounds * messages if kind == "changed" else 0):
        raise MeasureError(f"{ours.order_changes} order changes in {rounds * messages} messages")
    return Timing(session.source, session.size_bytes, figures)


def judged_row(name: str, timing: Timing, goal: Goal | None) -> Row:
    """Ours against `PEER`."""
    ours, peer = timing.rounds[OURS], timing.rounds[PEER]
    return Row(
        name,
        spread(ours),
        "µs CPU",
        peer=PEER,
        peer_value=spread(peer),
        ratio=ratio(ours, peer),
        goal=goal,
        note=f"{timing.source}, {timing.size_bytes:,} bytes, {OPEN_ORDERS} orders, {OPEN_POSITIONS} positions",
    )


def other_rows(timing: Timing) -> list[Row]:
    """The other contenders against `PEER`, for orientation: they only parse."""
    peer = timing.rounds[PEER]
    return [
        Row(f"  for orientation: {name}", spread(figures), "µs CPU", PEER, spread(peer), ratio(figures, peer))
        for name, figures in timing.rounds.items()
        if name not in (OURS, PEER)
    ]


def _messages(kind: Kind) -> tuple[Session, Callable[[], bytes]]:
    session = legacy_session(orders=OPEN_ORDERS, positions=OPEN_POSITIONS)
    first = session.voice.same()
    advances: dict[Kind, Callable[[], bytes]] = {
        "changed": session.voice.changed,
        "same": session.voice.same,
        "identical": lambda: bytes(bytearray(first)),
    }
    return session, advances[kind]


def _block(take: Take, advance: Callable[[], bytes], messages: int) -> int:
    """Nanoseconds spent in ``take``."""
    gc.collect()
    clock, spent_ns = time.thread_time_ns, 0
    for _ in range(messages):
        frame = advance()
        start = clock()
        take(frame)
        spent_ns += clock() - start
    return spent_ns


def _other_parsers() -> dict[str, Take]:
    """orjson where it is installed; only the dependency group ``bench`` has it."""
    try:
        import orjson  # noqa: PLC0415 - optional
    except ImportError:
        return {}

    def take(frame: bytes) -> None:
        orjson.loads(frame)

    return {"orjson.loads": take}


def _json_loads(frame: bytes) -> None:
    json.loads(frame)


def _msgspec_to_dicts(frame: bytes) -> None:
    msgspec.json.decode(frame)
