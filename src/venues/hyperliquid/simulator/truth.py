"""What happened (truth log) and what was shown to whom (delivery log), in memory and as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

Row = Mapping[str, Any]
EventKind = Literal[
    "placed",
    "amended",
    "activated",
    "partiallyFilled",
    "filled",
    "canceled",
    "triggered",
    "open",
    "increase",
    "decrease",
    "flip",
    "close",
    "leverage",
    "trade",
]
"""``amended``: the venue changed the size of a resting order (a modify by the trader is ``canceled`` of the old oid,
with ``replacedBy``, and ``placed`` of the new one, with ``replaces``). ``activated``: a child became an order of its
own. ``open`` to ``leverage`` speak of positions."""

ShownAs = Literal["normal", "late", "duplicate", "glitch", "partial"]


class Event(Struct, frozen=True, omit_defaults=True):
    """One thing that happened in the market.

    Attributes:
        seq: counts from 1 without holes.
        reason: final status of a cancelled order as the venue names it (``canceled``, ``reduceOnlyCanceled``, …).
        order: the order after the event (see `SimOrder.row`).
        position: the position after it (see `SimPosition.row`), None after a close.
        detail: the rest: ``replaces``, ``replacedBy``, price, size and users of a trade.
    """

    seq: int
    time_ms: int
    kind: EventKind
    coin: str
    dex: str
    trader: str = ""
    oid: int | None = None
    reason: str | None = None
    order: Row | None = None
    position: Row | None = None
    detail: Row | None = None


class TruthLog:
    """Every event, in order. ``enabled=False`` keeps nothing, for benchmarks."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.events: list[Event] = []

    def add(self, time_ms: int, kind: EventKind, coin: str, dex: str, **fields: Any) -> None:
        """Write down an event."""
        if self.enabled:
            self.events.append(Event(len(self.events) + 1, time_ms, kind, coin, dex, **fields))

    def of(self, *kinds: EventKind) -> Iterator[Event]:
        """Events of these kinds."""
        return (event for event in self.events if event.kind in kinds)

    def __len__(self) -> int:
        return len(self.events)

    def write(self, path: Path) -> None:
        """Write JSON lines."""
        _write_lines(path, self.events)


class Delivery(Struct):
    """One state of one trader on one dex that was sent to a client.

    Attributes:
        seq: order of sending over all connections.
        session: number of the connection.
        time_ms: venue time in the frame, None where the channel carries none.
        shown: ``normal``; ``late`` = an older state again; ``duplicate``; ``glitch`` = list cut short by a fault;
            ``partial`` = a section was left out.
        orders: oid -> row, children included; None = the frame said nothing about orders.
        positions: coin -> row; None = the frame said nothing about positions.
        delivered: True = known to have reached the client; False = known to be lost; None = unknown.
        settled: sent after the market was frozen.
    """

    seq: int
    session: int
    channel: str
    trader: str
    dex: str
    time_ms: int | None
    sent_ms: int
    shown: ShownAs = "normal"
    orders: Mapping[int, Row] | None = None
    positions: Mapping[str, Row] | None = None
    delivered: bool | None = None
    settled: bool = False


class DeliveryLog:
    """Every state shown, in order of sending."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.items: list[Delivery] = []

    def add(self, delivery: Delivery) -> Delivery:
        """Write down a delivery; its ``seq`` is given here."""
        if self.enabled:
            delivery.seq = len(self.items) + 1
            self.items.append(delivery)
        return delivery

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def write(self, path: Path) -> None:
        """Write JSON lines."""
        _write_lines(path, self.items)


def replay(events: Iterable[Event]) -> tuple[dict[int, Row], dict[tuple[str, str, str], Row]]:
    """Final state by the truth log alone: live orders by oid, positions by (trader, dex, coin)."""
    orders: dict[int, Row] = {}
    positions: dict[tuple[str, str, str], Row] = {}
    for event in events:
        if event.oid is not None:
            if event.kind in ("filled", "canceled"):
                orders.pop(event.oid, None)
            elif event.order is not None:
                orders[event.oid] = event.order
        elif event.kind == "close":
            positions.pop((event.trader, event.dex, event.coin), None)
        elif event.position is not None:
            positions[event.trader, event.dex, event.coin] = event.position
    return orders, positions


def _write_lines(path: Path, items: Iterable[Struct]) -> None:
    with path.open("wb") as file:
        for item in items:
            file.write(msgspec.json.encode(item) + b"\n")
