"""Positions and account values of a trader."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

PositionKind = Literal["open", "increase", "decrease", "flip", "close", "leverage", "entry", "untracked", "resumed"]
"""``untracked``: out of sight because the trader was let go; ``resumed``: seen again, unchanged."""

Multiplier = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""A leverage; bounded, so that every position can be packed and stored."""


class Leverage(Struct, frozen=True, gc=False):
    """Margin mode (``cross`` or ``isolated``) and multiplier; ``rawUsd`` exists for isolated positions only."""

    type: str
    value: Multiplier
    rawUsd: str | None = None  # noqa: N815 - the venue's field name


class CumFunding(Struct, frozen=True, gc=False):
    """Funding paid (positive) or received in USD, as decimal text."""

    allTime: str | None = None  # noqa: N815
    sinceOpen: str | None = None  # noqa: N815
    sinceChange: str | None = None  # noqa: N815


class Position(Struct, frozen=True, gc=False):
    """One open position; ``szi`` is the signed size (negative = short), decimals are the venue's own text."""

    coin: str
    szi: str
    leverage: Leverage | None = None
    entryPx: str | None = None  # noqa: N815
    positionValue: str | None = None  # noqa: N815
    unrealizedPnl: str | None = None  # noqa: N815
    returnOnEquity: str | None = None  # noqa: N815
    liquidationPx: str | None = None  # noqa: N815
    marginUsed: str | None = None  # noqa: N815
    maxLeverage: Multiplier | None = None  # noqa: N815
    cumFunding: CumFunding | None = None  # noqa: N815


class MarginSummary(Struct, frozen=True, gc=False):
    """Account totals in USD, as decimal text."""

    accountValue: str | None = None  # noqa: N815
    totalNtlPos: str | None = None  # noqa: N815
    totalRawUsd: str | None = None  # noqa: N815
    totalMarginUsed: str | None = None  # noqa: N815


class Account(Struct, frozen=True, gc=False):
    """Account value and margin of one trader on one dex."""

    margin: MarginSummary | None = None
    cross: MarginSummary | None = None
    maintenance: str | None = None
    withdrawable: str | None = None
