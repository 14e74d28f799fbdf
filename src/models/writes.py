"""Write operations in the program's own words; only the store translates them for the driver.

Every operation is keyed so that repeating it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Collection(StrEnum):
    """Names of the collections, the contract with users' queries."""

    TRADER_ORDERS = "trader_orders"
    TRADER_ORDER_EVENTS = "trader_order_events"
    TRADER_POSITIONS = "trader_positions"
    TRADER_POSITION_EVENTS = "trader_position_events"
    TRADER_ACCOUNTS = "trader_accounts"
    TRADER_FILLS = "trader_fills"
    TRADERS = "traders"
    ORDERBOOKS = "orderbooks"
    ORDERBOOK_SNAPSHOTS = "orderbook_snapshots"
    TRADES = "trades"
    QUOTES = "quotes"
    BARS = "bars"
    TRADING_STATUS = "trading_status"
    CANDLES = "candles"
    COVERAGE = "coverage"
    STREAMS = "streams"
    ALERTS = "alerts"
    DEAD_LETTERS = "dead_letters"
    SCHEMA = "schema"
    BACKFILLS = "backfills"
    LEADERBOARD_HISTORY = "leaderboard_history"


class Insert(Struct, frozen=True):
    """Store ``document`` (it has a deterministic ``_id``); already there = done."""

    collection: Collection
    document: Mapping[str, Any]


class Upsert(Struct, frozen=True):
    """Bring the document ``id`` to a newer version.

    Sets ``values`` (and ``on_insert`` when it did not exist) unless the stored ``version_field`` is already at or
    above ``version``; then nothing happens.
    """

    collection: Collection
    id: str
    version_field: str
    version: int | datetime
    values: Mapping[str, Any]
    on_insert: Mapping[str, Any] = {}


class Patch(Struct, frozen=True):
    """Set ``values`` on the existing document ``id`` where ``guard`` (plain equalities) holds; else nothing."""

    collection: Collection
    id: str
    values: Mapping[str, Any]
    guard: Mapping[str, Any] = {}


Write = Insert | Upsert | Patch


class WriteBatch(Struct, frozen=True):
    """Writes in the order in which they must become visible; ``seq`` counts batches of this run from 1.

    Groups are stored one after the other, the writes within a group in any order: events come before the states
    they lead to, so that a state never claims a revision whose event is missing.
    """

    seq: int
    groups: Sequence[Sequence[Write]]

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)


class Rejected(Struct, frozen=True):
    """A write MongoDB refused for its content; it goes to ``dead_letters`` and is not tried again.

    ``reason`` is one of a few constants (`src.store.rejections`), ``detail`` says it in words.
    """

    write: Write
    reason: str
    detail: str = ""


class WriteResult(Struct, frozen=True):
    """What became of a batch that was acknowledged.

    Attributes:
        inserted: documents that did not exist before, per collection.
        modified: documents that changed, per collection.
        repeated: writes that found their work already done.
        rejected: writes refused for their content.
    """

    inserted: Mapping[str, int]
    modified: Mapping[str, int]
    repeated: int
    rejected: Sequence[Rejected]
