"""The ``_id`` of what is stored, of everything that is written in one place and looked for in another.

They are the contract of `docs/data-model.md`.
"""

from __future__ import annotations

from src.models.messages import Fill
from src.models.streams import StreamKey


def order_id(trader: str, oid: int) -> str:
    """Of an order's state."""
    return f"{trader}:{oid}"


def position_id(trader: str, dex: str, coin: str) -> str:
    """Of a position's state; never like that of an order."""
    return f"{trader}:{dex}:{coin}"


def event_id(state_id: str, revision: int) -> str:
    """Of the event that led an order or position to this revision."""
    return f"{state_id}:{revision}"


def state_id_of(event: str) -> str:
    """The reverse of `event_id`: of the order or position that an event is about."""
    return event.rpartition(":")[0]


def fill_id(fill: Fill) -> str:
    """Of an execution of a tracked trader."""
    return f"{fill.trader}:{fill.coin}:{fill.time_ms}:{fill.tid}:{fill.oid}"


def stored_trade_id(venue: str, symbol: str, trade_id: str) -> str:
    """Of a public trade; ``trade_id`` is the venue's."""
    return f"{venue}:{symbol}:{trade_id}"


def hole_id(stream: StreamKey | str, from_ms: int) -> str:
    """Of an interval that was not seen."""
    return f"{stream}:{from_ms}"
