"""What the diff found out: the values between pipeline stages. Pure data, times in ms since 1970 UTC.

They are tagged, so that the journal can write them down as they are and read them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from src.models.messages import Bar, Book, Fill, Quote, Trade, TradeCancelled, TradeCorrected, TradingStatus
from src.models.orders import Action, CloseObserved, Order
from src.models.positions import Account, Position, PositionKind

FieldChanges = Mapping[str, Mapping[str, Any]]
"""``{field: {"from": old, "to": new}}`` with the stored (double, str, bool, None) values."""


class OrderChange(Struct, frozen=True, tag=True):
    """An order appeared, changed or vanished.

    Attributes:
        order: the order after the change; for ``closed`` its last known state.
        revision: 1 for new, +1 per change; with (trader, oid) the identity of the event.
        observed: for ``closed`` only: ``live`` = seen to vanish, ``late`` = vanished while we were not looking.
        replaces / replaced_by: oid on the other side of a modify (cancel plus place with the same cloid).
        reopened: the order had been closed in our eyes and is back; its closing fields are cleared.
        venue_ms: the venue's time of the state that showed the change, None when the feed carries none.
        reason, ended_ms: for ``closed`` where the venue told already why and when; else `OrderEnded` may follow.
        source: what told of an order that no list of open orders has shown; None where a list did.
    """

    venue: str
    trader: str
    dex: str
    action: Action
    order: Order
    revision: int
    changes: FieldChanges
    venue_ms: int | None
    received_ms: int
    observed: CloseObserved | None = None
    replaces: int | None = None
    replaced_by: int | None = None
    reopened: bool = False
    reason: str | None = None
    ended_ms: int | None = None
    source: str | None = None


class OrderEnded(Struct, frozen=True, tag=True):
    """Why and when an order ended that was found closed, as of ``revision``, before anybody told."""

    venue: str
    trader: str
    oid: int
    revision: int
    reason: str
    ended_ms: int
    received_ms: int


class OrderLink(Struct, frozen=True, tag=True):
    """One side of a modify that was found out later: only ``replacedBy`` or ``replaces`` of its document is set."""

    venue: str
    trader: str
    oid: int
    replaced_by: int | None = None
    replaces: int | None = None


class PositionChange(Struct, frozen=True, tag=True):
    """A position opened, changed or closed. ``position`` is the state after it; for ``close`` the last known one."""

    venue: str
    trader: str
    dex: str
    action: Action
    kind: PositionKind
    position: Position
    revision: int
    changes: FieldChanges
    venue_ms: int | None
    received_ms: int
    observed: CloseObserved | None = None


class PositionMarks(Struct, frozen=True, tag=True):
    """Value, PnL and the like of an unchanged position, refreshed in place at most once a minute."""

    venue: str
    trader: str
    dex: str
    position: Position
    revision: int
    venue_ms: int | None
    received_ms: int


class AccountSample(Struct, frozen=True, tag=True):
    """Account values of a trader, the first of each minute."""

    venue: str
    trader: str
    dex: str
    account: Account
    venue_ms: int | None
    received_ms: int


class BookChange(Struct, frozen=True, tag=True):
    """A newer book; ``changed`` is False when only its time moved (then no history document is written)."""

    book: Book
    changed: bool


class TradeSeen(Struct, frozen=True, tag=True, gc=False):
    """A trade not seen before in this run."""

    trade: Trade


class TradeCorrectedSeen(Struct, frozen=True, tag=True):
    """A trade was replaced by another; see `TradeCorrected`."""

    correction: TradeCorrected


class TradeCancelledSeen(Struct, frozen=True, tag=True):
    """A trade was taken back; see `TradeCancelled`."""

    cancel: TradeCancelled


class QuoteSeen(Struct, frozen=True, tag=True):
    """A newer best bid and offer."""

    quote: Quote


class BarSeen(Struct, frozen=True, tag=True):
    """A candle of the venue's own making, or a newer state of it."""

    bar: Bar


class TradingStatusSeen(Struct, frozen=True, tag=True):
    """A halt, a resumption or the like that was not seen before in this run."""

    status: TradingStatus


class FillSeen(Struct, frozen=True, tag=True):
    """A fill not seen before in this run."""

    fill: Fill


class HoleOpened(Struct, frozen=True, tag=True):
    """A stream stopped being seen. Identity: (stream, from_ms).

    ``within_s`` is given where it is looked at now and then: the most seconds from one look to the next.
    """

    stream: str
    venue: str
    from_ms: int
    reason: str
    detail: str = ""
    within_s: float | None = None


class HoleClosed(Struct, frozen=True, tag=True):
    """A stream is seen again; ends the hole that began at ``from_ms``."""

    stream: str
    venue: str
    from_ms: int
    to_ms: int
    reason: str


KEPT_BYTES = 64 * 1024
"""Largest original kept whole beside the sample of a dead letter."""


class DeadLetter(Struct, frozen=True, tag=True):
    """Something that could not be used, kept as a sample.

    ``sample`` is at most a few KiB of the original; ``stage`` is ``decode`` or ``store``.
    ``payload`` is what is needed to try again: the whole frame (``decode``) or the packed write (``store``, see
    `src.pipeline.kept_writes`); empty when it would be larger than `KEPT_BYTES` or cannot be kept.
    ``kept_ms`` is when it was put aside, where that is not when it was received: a replay brings letters of long ago.
    """

    venue: str
    stage: str
    reason: str
    detail: str
    sample: bytes
    size_bytes: int
    received_ms: int
    payload: bytes = b""
    kept_ms: int | None = None


def kept(original: bytes) -> bytes:
    """The payload of a dead letter: the original when it is small enough, else nothing."""
    return original if len(original) <= KEPT_BYTES else b""


Change = (
    OrderChange
    | OrderLink
    | OrderEnded
    | PositionChange
    | PositionMarks
    | AccountSample
    | BookChange
    | TradeSeen
    | TradeCorrectedSeen
    | TradeCancelledSeen
    | QuoteSeen
    | BarSeen
    | TradingStatusSeen
    | FillSeen
    | HoleOpened
    | HoleClosed
    | DeadLetter
)
