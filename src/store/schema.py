"""Collections and indexes as plain data: the contract with users' queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from src.models.writes import Collection

SCHEMA_ID = "market_collector"
SCHEMA_VERSION = 1
"""Raised when stored documents change their meaning; a program never touches data of a newer version."""

SECONDS_PER_DAY = 86_400
MAX_KEEP_DAYS = 24_800
"""MongoDB holds ``expireAfterSeconds`` in 31 bits."""


class Index(NamedTuple):
    """One index: fields with their direction (1 or -1).

    ``expires`` marks the index on which documents are removed when the collection has a number of days to be kept.
    """

    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    expires: bool = False

    @property
    def name(self) -> str:
        """The name MongoDB itself would give, such as ``ethAddress_1_oid_1``."""
        return "_".join(f"{field}_{direction}" for field, direction in self.keys)


def _by(*fields: str, unique: bool = False, expires: bool = False) -> Index:
    """An index over ``fields``; a leading minus means descending."""
    keys = tuple((field.lstrip("-"), -1 if field.startswith("-") else 1) for field in fields)
    return Index(keys, unique=unique, expires=expires)


INDEXES: Mapping[Collection, tuple[Index, ...]] = {
    Collection.TRADER_ORDERS: (
        _by("ethAddress", "oid", unique=True),
        _by("oid"),
        _by("ethAddress", "-timestamp"),
        _by("coin", "-timestamp"),
        _by("ethAddress", "status"),
    ),
    Collection.TRADER_ORDER_EVENTS: (
        _by("ethAddress", "-receivedAt"),
        _by("coin", "-receivedAt"),
        _by("receivedAt", expires=True),
    ),
    Collection.TRADER_POSITIONS: (
        _by("ethAddress", "dex", "coin", unique=True),
        _by("coin", "status"),
    ),
    Collection.TRADER_POSITION_EVENTS: (
        _by("ethAddress", "-receivedAt"),
        _by("coin", "-receivedAt"),
        _by("receivedAt", expires=True),
    ),
    Collection.TRADER_ACCOUNTS: (_by("ethAddress", "-timestamp"),),
    Collection.TRADER_FILLS: (_by("ethAddress", "-timestamp"), _by("ethAddress", "oid"), _by("coin", "-timestamp")),
    Collection.TRADERS: (_by("ethAddress", unique=True),),
    Collection.ORDERBOOKS: (_by("venue", "symbol", unique=True),),
    Collection.ORDERBOOK_SNAPSHOTS: (_by("venue", "symbol", "-timestamp"), _by("receivedAt", expires=True)),
    Collection.TRADES: (_by("venue", "symbol", "-timestamp"),),
    Collection.QUOTES: (_by("venue", "symbol"),),
    Collection.BARS: (_by("venue", "symbol", "interval", "-timestamp"),),
    Collection.TRADING_STATUS: (_by("venue", "symbol", "-timestamp"),),
    Collection.CANDLES: (_by("venue", "symbol", "interval", "-timestamp"),),
    Collection.COVERAGE: (_by("stream", "from"), _by("subject", "from"), _by("to")),
    Collection.STREAMS: (),
    Collection.ALERTS: (),
    Collection.DEAD_LETTERS: (_by("receivedAt"), _by("keptAt", expires=True)),
    Collection.SCHEMA: (),
    Collection.BACKFILLS: (_by("kind", "subject"),),
    Collection.LEADERBOARD_HISTORY: (_by("ethAddress", "-day"), _by("day", expires=True)),
}


def check_keep_days(keep_days: Mapping[Collection, int]) -> None:
    """Raise `ValueError` for a collection whose documents cannot expire, or for an impossible number of days."""
    for collection, days in keep_days.items():
        if not any(index.expires for index in INDEXES[collection]):
            raise ValueError(f"documents of {collection} cannot expire")
        if days < 0 or days > MAX_KEEP_DAYS:
            raise ValueError(f"days to keep {collection} must be from 0 (for ever) to {MAX_KEEP_DAYS}, not {days}")


def expire_seconds(collection: Collection, index: Index, keep_days: Mapping[Collection, int]) -> int | None:
    """Seconds after which documents expire by this index; None = never."""
    days = keep_days.get(collection, 0) if index.expires else 0
    return days * SECONDS_PER_DAY if days else None
