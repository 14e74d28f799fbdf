"""The venue's messages as typed shapes, with the field order of recorded frames. Decimals are texts."""
# ruff: noqa: N815 - these are the venue's field names

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

encode = msgspec.json.Encoder().encode
decode = msgspec.json.decode


class MarginSummary(Struct, frozen=True):
    """Account totals in dollars."""

    accountValue: str
    totalNtlPos: str
    totalRawUsd: str
    totalMarginUsed: str


class Leverage(Struct, frozen=True, omit_defaults=True):
    """``rawUsd`` is present for isolated positions only."""

    type: str
    value: int
    rawUsd: str | UnsetType = UNSET


class CumFunding(Struct, frozen=True):
    """Funding paid (positive) in dollars."""

    allTime: str
    sinceOpen: str
    sinceChange: str


class PositionShape(Struct, frozen=True):
    """One open position."""

    coin: str
    szi: str
    leverage: Leverage
    entryPx: str
    positionValue: str
    unrealizedPnl: str
    returnOnEquity: str
    liquidationPx: str | None
    marginUsed: str
    maxLeverage: int
    cumFunding: CumFunding


class AssetPosition(Struct, frozen=True):
    """A position in its wrapper."""

    type: str
    position: PositionShape


class ClearinghouseState(Struct, frozen=True):
    """Positions and margin of one account on one dex; ``assetPositions`` is unset only by a fault."""

    marginSummary: MarginSummary
    crossMarginSummary: MarginSummary
    crossMaintenanceMarginUsed: str
    withdrawable: str
    assetPositions: Sequence[AssetPosition] | UnsetType
    time: int


class OrderShape(Struct, frozen=True):
    """A FrontendOpenOrder."""

    coin: str
    side: str
    limitPx: str
    sz: str
    oid: int
    timestamp: int
    triggerCondition: str
    isTrigger: bool
    triggerPx: str
    children: Sequence[OrderShape]
    isPositionTpsl: bool
    reduceOnly: bool
    orderType: str
    origSz: str
    tif: str | None
    cloid: str | None


class BasicOrder(Struct, frozen=True):
    """The short form of ``orderUpdates`` and of the plain ``openOrders`` request."""

    coin: str
    side: str
    limitPx: str
    sz: str
    oid: int
    timestamp: int
    origSz: str
    cloid: str | UnsetType = UNSET
    reduceOnly: bool | UnsetType = UNSET


class OrderUpdate(Struct, frozen=True):
    """One status change of an order."""

    order: BasicOrder
    status: str
    statusTimestamp: int


class HistoricalOrder(Struct, frozen=True):
    """One status of an order in the history."""

    order: OrderShape
    status: str
    statusTimestamp: int


class FillShape(Struct, frozen=True):
    """One execution."""

    coin: str
    px: str
    sz: str
    side: str
    time: int
    startPosition: str
    dir: str
    closedPnl: str
    hash: str
    oid: int
    crossed: bool
    fee: str
    tid: int
    cloid: str | UnsetType = UNSET
    feeToken: str = "USDC"
    twapId: int | None = None


class TradeShape(Struct, frozen=True):
    """One public trade; ``users`` = buyer, seller."""

    coin: str
    side: str
    px: str
    sz: str
    time: int
    hash: str
    tid: int
    users: tuple[str, str]


class LevelShape(Struct, frozen=True):
    """One price level."""

    px: str
    sz: str
    n: int


class BookShape(Struct, frozen=True):
    """A whole book, bids then asks, best first."""

    coin: str
    time: int
    levels: tuple[Sequence[LevelShape], Sequence[LevelShape]]
    spread: str | UnsetType = UNSET
    fast: bool | UnsetType = UNSET


class Frame(Struct, frozen=True):
    """A message of the server."""

    channel: str
    data: Any


class UserState(Struct, frozen=True):
    """Data of ``clearinghouseState``."""

    dex: str
    user: str
    clearinghouseState: ClearinghouseState | Raw


class UserOrders(Struct, frozen=True):
    """Data of ``openOrders``; each order may be encoded already."""

    dex: str
    user: str
    orders: Sequence[Raw]


class WebData2(Struct, frozen=True):
    """Data of ``webData2``; ``spotState`` is absent for an account without spot balance."""

    clearinghouseState: ClearinghouseState
    leadingVaults: Sequence[Any]
    totalVaultEquity: str
    openOrders: Sequence[Raw] | UnsetType
    agentAddress: str | None
    agentValidUntil: int | None
    cumLedger: str
    meta: Raw
    assetCtxs: Raw
    serverTime: int
    isVault: bool
    user: str
    twapStates: Sequence[Any]
    spotState: Mapping[str, Any] | UnsetType
    spotAssetCtxs: Raw
    perpsAtOpenInterestCap: Sequence[str]
