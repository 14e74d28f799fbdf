"""What a venue says, in the program's own words. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from src.models.orders import Order
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


class OrderStatus(Struct, frozen=True, gc=False):
    """One status an order has had, by the venue's own history.

    Attributes:
        order: as it was then; ``sz`` is what remained.
        status: the venue's word (``filled``, ``canceled``, ...), in effect since ``status_ms``.
        ended: False where the word means that the order lives.
        lived: False for an order that was refused when it was placed.
        children: orders that wait for this one.
    """

    order: Order
    status: str
    status_ms: int
    ended: bool
    lived: bool = True
    children: tuple[int, ...] = ()


class OrderHistory(Struct, frozen=True):
    """Statuses of orders of one trader, in any order; an order may be there several times.

    Attributes:
        source: what told it, as stored with orders that nothing else told of.
        is_snapshot: what the venue still knows of the time before, not news.
    """

    venue: str
    trader: str
    received_ms: int
    rows: tuple[OrderStatus, ...]
    source: str
    is_snapshot: bool = False


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


class Told(Struct, frozen=True):
    """When one side of a book was last told, where the sides arrive apart.

    Attributes:
        time_ms: the venue's time of it.
        text: the same as the venue wrote it, with all its digits; our receipt time where it wrote none.
        received_ms: when it arrived.
        seq: the venue's number of the message, None where it gives none.
    """

    time_ms: int
    text: str
    received_ms: int
    seq: int | None = None


class Book(Struct, frozen=True):
    """A whole order book (never a delta), best level first on both sides.

    Attributes:
        board: of a venue that trades one share on several boards (IDX: RG regular, TN cash, NG negotiated). A symbol
            is of one board: ``BBCA`` is the regular one, ``TN.BBCA`` and ``NG.BBCA`` are the others.
        bids_told, asks_told: of a venue that tells the sides apart: when each was told last; None for a side of which
            nothing is known yet. Both None = the sides came together.
    """

    venue: str
    symbol: str
    time_ms: int
    received_ms: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    board: str | None = None
    bids_told: Told | None = None
    asks_told: Told | None = None


class Trade(Struct, frozen=True, gc=False):
    """One public trade. ``trade_id`` is unique within (venue, symbol); ``side`` is the aggressor's, if known.

    Attributes:
        exchange, exchange_name: where it was made: the venue's code (``V``) and its name (``IEX``).
        tape: of US stocks the consolidated tape: A, B, C, O or N.
        ts_ns: the venue's time in ns since 1970, where it tells more than ms.
        update: the venue's history says that it does not count any more: it was cancelled, or another one counts in
            its place (corrected).
    """

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
    board: str | None = None
    exchange_name: str | None = None
    tape: str | None = None
    ts_ns: int | None = None
    update: Literal["cancelled", "corrected"] | None = None


class TradeCorrected(Struct, frozen=True):
    """The venue replaced a trade: ``original_id`` counts no longer, ``trade`` counts in its place.

    Both may have the same id. The original may never have been seen here. ``time_ms`` is when it was corrected.
    """

    venue: str
    symbol: str
    original_id: str
    original_price: str
    original_size: str
    trade: Trade
    time_ms: int
    received_ms: int
    original_conditions: tuple[str, ...] | None = None
    ts_ns: int | None = None


class TradeCancelled(Struct, frozen=True):
    """The venue took a trade back; it may never have been seen here. ``time_ms`` is when it was taken back.

    ``action`` is the venue's word for why (Alpaca: ``C`` cancelled, ``E`` entered in error).
    """

    venue: str
    symbol: str
    trade_id: str
    price: str
    size: str
    time_ms: int
    received_ms: int
    action: str | None = None
    exchange: str | None = None
    exchange_name: str | None = None
    tape: str | None = None
    ts_ns: int | None = None


class Quote(Struct, frozen=True):
    """Best bid and offer; a side without a quote has price and size ``0``.

    ``size_unit`` says what sizes count: ``round_lots``, ``shares``, or None where the venue leaves it open.
    """

    venue: str
    symbol: str
    bid: str
    bid_size: str
    ask: str
    ask_size: str
    time_ms: int
    received_ms: int
    bid_exchange: str | None = None
    ask_exchange: str | None = None
    conditions: tuple[str, ...] | None = None
    tape: str | None = None
    ts_ns: int | None = None
    size_unit: str | None = None


class Bar(Struct, frozen=True):
    """A candle as the venue made it. ``time_ms`` is its start; ``updated``: late trades changed it afterwards."""

    venue: str
    symbol: str
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    time_ms: int
    received_ms: int
    vwap: str | None = None
    count: int | None = None
    updated: bool = False


class TradingStatus(Struct, frozen=True):
    """A symbol was halted, resumed or the like; the meaning of the codes is the tape's."""

    venue: str
    symbol: str
    code: str
    text: str
    time_ms: int
    received_ms: int
    reason: str | None = None
    reason_text: str | None = None
    tape: str | None = None
    ts_ns: int | None = None


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


Message = (
    OrdersSnapshot
    | PositionsSnapshot
    | Book
    | Trade
    | Fill
    | OrderHistory
    | TradeCorrected
    | TradeCancelled
    | Quote
    | Bar
    | TradingStatus
)


class Data(Struct, frozen=True, gc=False):
    """A frame that carried data of one stream.

    Attributes:
        venue_ms: the newest venue time in it, None if it has none.
        messages: what it said; may be empty (a trader without fills), which is still a sign of life.
        received_ms: when it arrived; of a frame with messages they tell the same.
        within_s: of a stream that is only looked at now and then: the next look comes within so many seconds. None =
            the stream is seen all the time.
    """

    stream: StreamKey
    venue_ms: int | None
    messages: tuple[Message, ...]
    size_bytes: int = 0
    received_ms: int | None = None
    within_s: float | None = None

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
    LOGIN = "login_refused"
    OTHER = "other"


class Refusal(Struct, frozen=True):
    """An error frame. ``stream`` is None when the venue does not say what it refused."""

    kind: RefusalKind
    text: str
    stream: StreamKey | None = None


class Ignored(Struct, frozen=True):
    """A well-formed frame that this program does not keep; ``reason`` is a counter label."""

    reason: str


class Welcome(Struct, frozen=True):
    """The venue speaks first and now waits for our log-in."""


class LoggedIn(Struct, frozen=True):
    """The venue let us in: from now on it takes subscriptions."""


class LoginRefused(Struct, frozen=True):
    """The venue did not let us in, or throws us out of a session that was in order. The connection ends.

    Attributes:
        kind: ``retry`` = again with the usual back-off; ``slow`` = again every few minutes; ``fatal`` = not again
            until somebody asks for it.
        text: the venue's words.
        remedy: what a person can do; shown loudly where it is not empty.
        reason: a short constant, the label of the counter of lost connections.
    """

    kind: Literal["retry", "slow", "fatal"]
    text: str
    remedy: str = ""
    reason: str = "login_refused"


class AckList(Struct, frozen=True):
    """The complete list of streams the venue sends on this connection; what is not in it is not subscribed."""

    subscribed: frozenset[StreamKey]


class Unusable(Struct, frozen=True):
    """A part of a frame that is not what the venue promises; the other parts are in order. As `WireError`."""

    reason: str
    detail: str
    sample: bytes = b""


class Several(Struct, frozen=True):
    """One frame that said several things; they count in this order."""

    parts: tuple[Decoded, ...]


Decoded = Data | Ack | AckList | Pong | Refusal | Welcome | LoggedIn | LoginRefused | Ignored | Unusable | Several


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
    SAMPLED = "sampled"
    """Only looked at now and then: what lived and ended between two looks was not seen."""
    LOOK_LATE = "look_late"
    """Looked at later than promised."""


class Gap(Struct, frozen=True):
    """These streams stopped being seen at ``at_ms``. It ends, per stream, with the next `Data` of that stream."""

    streams: tuple[StreamKey, ...]
    reason: GapReason
    at_ms: int
    detail: str = ""
