"""Typed wire messages of the Hyperliquid WebSocket: only the parts that are kept; the rest is skipped unparsed.

Field names and shapes follow the venue's pages *websocket/subscriptions* and *info-endpoint*; recordings from 2023
on must decode, so everything but the identifying fields is optional.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from src.models.positions import MarginSummary, Position

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""An integer that MongoDB can hold; the venue's identities need 50 bits."""

Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]  # the end of the year 9999, the last BSON date we accept


class WireOrder(Struct, gc=False):
    """FrontendOpenOrder. All fields but the last stand in the order of `src.models.orders.Order`.

    ``parentOid`` is not on the wire; the mapper fills it in for the children of an order.
    """

    oid: Id
    coin: str
    side: str
    limitPx: str  # noqa: N815 - wire name
    sz: str
    origSz: str | None = None  # noqa: N815
    timestamp: Millis | None = None
    orderType: str | None = None  # noqa: N815
    tif: str | None = None
    cloid: str | None = None
    reduceOnly: bool | None = None  # noqa: N815
    isTrigger: bool | None = None  # noqa: N815
    triggerPx: str | None = None  # noqa: N815
    triggerCondition: str | None = None  # noqa: N815
    isPositionTpsl: bool | None = None  # noqa: N815
    parentOid: Id | None = None  # noqa: N815
    children: list[WireOrder] | None = None


class WireClearinghouse(Struct, gc=False):
    """clearinghouseState; a missing ``assetPositions`` is unknown, an empty one means flat."""

    assetPositions: list[WireAssetPosition] | UnsetType | None = UNSET  # noqa: N815
    time: Millis | None = None
    marginSummary: MarginSummary | None = None  # noqa: N815
    crossMarginSummary: MarginSummary | None = None  # noqa: N815
    crossMaintenanceMarginUsed: str | None = None  # noqa: N815
    withdrawable: str | None = None


class WireAssetPosition(Struct, gc=False):
    """Element of ``assetPositions``; ``type`` is ``oneWay`` and not kept. `Position` has the wire's own names."""

    position: Position


class WireLevel(Struct, gc=False):
    """Price level of a book."""

    px: str
    sz: str
    n: Id | None = None


class WireTrade(Struct, gc=False):
    """Element of ``trades``; ``side`` is the aggressor's."""

    coin: str
    px: str
    sz: str
    time: Millis
    tid: Id
    side: str | None = None
    hash: str | None = None
    users: tuple[str, ...] | None = None


class WireFill(Struct, gc=False):
    """Element of ``userFills``; 2023 recordings lack ``tid``, ``feeToken``, ``cloid`` and ``twapId``."""

    coin: str
    px: str
    sz: str
    side: str
    time: Millis
    oid: Id
    tid: Id | None = None
    crossed: bool | None = None
    dir: str | None = None
    startPosition: str | None = None  # noqa: N815
    closedPnl: str | None = None  # noqa: N815
    fee: str | None = None
    feeToken: str | None = None  # noqa: N815
    builderFee: str | None = None  # noqa: N815
    cloid: str | None = None
    twapId: Id | None = None  # noqa: N815
    hash: str | None = None
    liquidation: dict[str, Any] | None = None


class OpenOrdersData(Struct):
    """``orders`` stays undecoded until it is known to differ from the previous one."""

    user: str
    orders: Raw
    dex: str = ""


class ClearinghouseData(Struct):
    """Payload of ``clearinghouseState``."""

    user: str
    clearinghouseState: Raw  # noqa: N815
    dex: str = ""


class AllDexsData(Struct):
    """Payload of ``allDexsClearinghouseState``: pairs of dex name and state."""

    user: str
    clearinghouseStates: list[tuple[str, WireClearinghouse]]  # noqa: N815


class WebData2Data(Struct):
    """The user's part of ``webData2``; market data, nine tenths of the message, is skipped."""

    user: str
    serverTime: Millis | None = None  # noqa: N815
    clearinghouseState: Raw | UnsetType = UNSET  # noqa: N815
    openOrders: Raw | UnsetType = UNSET  # noqa: N815


class L2BookData(Struct):
    """Payload of ``l2Book``: ``levels`` = (bids, asks), best first."""

    coin: str
    time: Millis
    levels: tuple[list[WireLevel], list[WireLevel]]


class UserFillsData(Struct):
    """Payload of ``userFills``; ``isSnapshot`` is absent on increments."""

    user: str
    fills: list[WireFill]
    isSnapshot: bool = False  # noqa: N815


class WireOrderStatus(Struct, gc=False):
    """Element of ``userHistoricalOrders`` and ``historicalOrders``."""

    order: WireOrder
    status: str
    statusTimestamp: Millis  # noqa: N815


class UserHistoricalOrdersData(Struct):
    """Payload of ``userHistoricalOrders``; ``isSnapshot`` is absent on increments."""

    user: str
    orderHistory: list[WireOrderStatus]  # noqa: N815
    isSnapshot: bool = False  # noqa: N815


class WireSubscription(Struct):
    """The identifying fields of a subscription; an acknowledgement echoes them, normalised."""

    type: str
    coin: str | None = None
    user: str | None = None
    dex: str | None = None


class SubscriptionResponseData(Struct):
    """Payload of ``subscriptionResponse``."""

    method: str
    subscription: WireSubscription


class OpenOrdersFrame(Struct, tag="openOrders", tag_field="channel"):
    """The complete list of a trader's open orders."""

    data: OpenOrdersData


class ClearinghouseFrame(Struct, tag="clearinghouseState", tag_field="channel"):
    """Positions and margin of a trader on one dex."""

    data: ClearinghouseData


class AllDexsFrame(Struct, tag="allDexsClearinghouseState", tag_field="channel"):
    """Positions and margin of a trader on every dex."""

    data: AllDexsData


class WebData2Frame(Struct, tag="webData2", tag_field="channel"):
    """Everything of a trader on the main dex; legacy."""

    data: WebData2Data


class L2BookFrame(Struct, tag="l2Book", tag_field="channel"):
    """A whole order book."""

    data: L2BookData


class TradesFrame(Struct, tag="trades", tag_field="channel"):
    """Public trades of one coin."""

    data: list[WireTrade]


class UserFillsFrame(Struct, tag="userFills", tag_field="channel"):
    """Executions of a trader."""

    data: UserFillsData


class UserHistoricalOrdersFrame(Struct, tag="userHistoricalOrders", tag_field="channel"):
    """Statuses of a trader's orders, of all dexes and spot."""

    data: UserHistoricalOrdersData


class SubscriptionResponseFrame(Struct, tag="subscriptionResponse", tag_field="channel"):
    """Acknowledgement of subscribe or unsubscribe."""

    data: SubscriptionResponseData


class ErrorFrame(Struct, tag="error", tag_field="channel"):
    """A refusal in words."""

    data: str


class PongFrame(Struct, tag="pong", tag_field="channel"):
    """Answer to a ping; the only frame without data."""


Frame = (
    OpenOrdersFrame
    | ClearinghouseFrame
    | AllDexsFrame
    | WebData2Frame
    | L2BookFrame
    | TradesFrame
    | UserFillsFrame
    | UserHistoricalOrdersFrame
    | SubscriptionResponseFrame
    | ErrorFrame
    | PongFrame
)


class Envelope(Struct):
    """Any frame, for finding out why the typed decoder refused it."""

    channel: str


KNOWN_BUT_NOT_KEPT = frozenset(
    {
        "activeAssetCtx",
        "activeAssetData",
        "activeSpotAssetCtx",
        "allDexsAssetCtxs",
        "allMids",
        "assetCtxs",
        "bbo",
        "candle",
        "fastAssetCtxs",
        "notification",
        "orderUpdates",
        "outcomeMetaUpdates",
        "post",
        "spotAssetCtxs",
        "spotState",
        "twapStates",
        "user",
        "userFundings",
        "userNonFundingLedgerUpdates",
        "userTwapHistory",
        "userTwapSliceFills",
        "webData3",
    }
)
