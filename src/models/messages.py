"""What a venue says, in the program's own words. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from src.models.positions import Account, Position
from src.models.streams import StreamKey


class OrdersSnapshot(Struct, frozen=True):
    """The complete list of resting and untriggered orders of one trader on one dex.

    Attributes:
        time_ms: the venue's time of this state, None when the feed does not carry one.
        rows: order id -> packed `Order`. The mapper hands out the very same object when nothing changed.
    """

    venue: str
    trader: str
    dex: str
    time_ms: int | None
    received_ms: int
    rows: Mapping[int, bytes]


class PositionsSnapshot(Struct, frozen=True):
    """The complete list of non-zero positions of one trader on one dex, and the account values with it."""

    venue: str
    trader: str
    dex: str
    time_ms: int | None
    received_ms: int
    positions: Mapping[str, Position]
    account: Account | None = None


class Level(Struct, frozen=True, gc=False):
    """One price level; ``n`` = number of orders where the venue tells it."""

    px: str
    sz: str
    n: int | None = None


class Book(Struct, frozen=True):
    """A whole order book (never a delta), best level first on both sides."""

    venue: str
    symbol: str
    time_ms: int
    received_ms: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Trade(Struct, frozen=True):
    """One public trade. ``trade_id`` is unique within (venue, symbol); ``side`` is the aggressor's, if known."""

    venue: str
    symbol: str
    trade_id: str
    price: str
    size: str
    side: str | None
    time_ms: int
    received_ms: int
    users: tuple[str, ...] | None = None
    hash: str | None = None
    exchange: str | None = None
    conditions: tuple[str, ...] | None = None


class Fill(Struct, frozen=True):
    """One execution of a tracked trader; identity is (trader, coin, time, tid, oid). Decimals are venue text."""

    venue: str
    trader: str
    coin: str
    px: str
    sz: str
    side: str
    time_ms: int
    received_ms: int
    oid: int
    tid: int | None = None
    crossed: bool | None = None
    dir: str | None = None
    start_position: str | None = None
    closed_pnl: str | None = None
    fee: str | None = None
    fee_token: str | None = None
    builder_fee: str | None = None
    cloid: str | None = None
    twap_id: int | None = None
    hash: str | None = None
    liquidation: Mapping[str, object] | None = None
    is_snapshot: bool = False


Message = OrdersSnapshot | PositionsSnapshot | Book | Trade | Fill


class Data(Struct, frozen=True):
    """A frame that carried data of one stream.

    Attributes:
        venue_ms: the newest venue time in it, None if it has none.
        messages: what it said; may be empty (a trader without fills), which is still a sign of life.
        received_ms: when it arrived; of a frame with messages they tell the same.
    """

    stream: StreamKey
    venue_ms: int | None
    messages: tuple[Message, ...]
    size_bytes: int = 0
    received_ms: int | None = None

    @property
    def arrived_ms(self) -> int | None:
        """When this frame arrived, None when it does not say."""
        return self.messages[0].received_ms if self.messages else self.received_ms


class Ack(Struct, frozen=True):
    """The venue confirmed a subscribe (or unsubscribe) of this stream."""

    stream: StreamKey
    subscribed: bool


class Pong(Struct, frozen=True):
    """Answer to our ping. Not data: it does not make a stream fresh."""


class RefusalKind(StrEnum):
    """Why a venue refused something, already translated from its text by the venue's mapper."""

    ALREADY_SUBSCRIBED = "already_subscribed"
    ALREADY_UNSUBSCRIBED = "already_unsubscribed"
    INVALID = "invalid_subscription"
    UNKNOWN_TYPE = "unknown_type"
    USER_CAP = "user_cap"
    SUBSCRIPTION_CAP = "subscription_cap"
    MESSAGE_RATE = "message_rate"
    POST_CAP = "post_cap"
    OTHER = "other"


class Refusal(Struct, frozen=True):
    """An error frame. ``stream`` is None when the venue does not say what it refused."""

    kind: RefusalKind
    text: str
    stream: StreamKey | None = None


class Ignored(Struct, frozen=True):
    """A well-formed frame that this program does not keep; ``reason`` is a counter label."""

    reason: str


Decoded = Data | Ack | Pong | Refusal | Ignored


class GapReason(StrEnum):
    """Why a stream was not seen for a while."""

    DISCONNECT = "disconnect"
    SILENCE = "silence"
    STALE = "stale"
    REFUSED = "refused"
    PROCESS_DOWN = "process_down"
    OVERFLOW = "overflow"
    UNSUBSCRIBED = "unsubscribed"
    NOT_COLLECTED = "not_collected"
    """Before the first time a stream was asked for at all; its hole begins in 1970."""
    JOURNAL_FULL = "journal_full"


class Gap(Struct, frozen=True):
    """These streams stopped being seen at ``at_ms``. It ends, per stream, with the next `Data` of that stream."""

    streams: tuple[StreamKey, ...]
    reason: GapReason
    at_ms: int
    detail: str = ""
