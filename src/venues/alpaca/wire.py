"""What Alpaca's stock stream (protocol v2) sends, in JSON or MessagePack.

Every frame is an array; ``T`` tells the type of each message. Only what is kept is named, unknown keys are skipped.
Prices are IEEE doubles. Times are RFC 3339 text with up to nine digits of a second, in MessagePack the timestamp
extension (type -1) with nanoseconds.

Source: docs.alpaca.markets, pages "Real-time Stock Data" and "WebSocket Stream"; samples printed there.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

Time = str | msgspec.msgpack.Ext


class Success(Struct, tag_field="T", tag="success", gc=False):
    """``msg`` is ``connected`` or ``authenticated``."""

    msg: str


class Error(Struct, tag_field="T", tag="error", gc=False):
    """See the table of codes in the mapper."""

    code: int
    msg: str = ""


class Subscription(Struct, tag_field="T", tag="subscription"):
    """The whole current set after each subscribe or unsubscribe; a feed leaves out what it does not have."""

    trades: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    updatedBars: tuple[str, ...] = ()  # noqa: N815 - the venue's field names
    dailyBars: tuple[str, ...] = ()  # noqa: N815
    statuses: tuple[str, ...] = ()
    lulds: tuple[str, ...] = ()


class TradeMessage(Struct, tag_field="T", tag="t", gc=False):
    """A trade; ``i`` is unique together with symbol, exchange ``x`` and day."""

    S: str
    i: int
    p: float
    s: int | float
    t: Time
    x: str = ""
    c: tuple[str, ...] | None = None
    z: str | None = None


class QuoteMessage(Struct, tag_field="T", tag="q", gc=False):
    """Best bid and offer; a side without a quote has price 0, size 0 and a blank exchange."""

    S: str
    t: Time
    bp: float = 0.0
    bs: int | float = 0
    ap: float = 0.0
    # ``as`` is a word of the language.
    as_: int | float = msgspec.field(default=0, name="as")
    bx: str | None = None
    ax: str | None = None
    c: tuple[str, ...] | None = None
    z: str | None = None


class _Bar(Struct, gc=False):
    """``t`` is the start of the bar."""

    S: str
    o: float
    h: float
    l: float  # noqa: E741 - the venue's field name
    c: float
    v: int | float
    t: Time
    n: int | None = None
    vw: float | None = None


class MinuteBar(_Bar, tag_field="T", tag="b", gc=False):
    """Just after the minute ended."""


class UpdatedBar(_Bar, tag_field="T", tag="u", gc=False):
    """Late trades changed a minute, half a minute after it ended."""


class DailyBar(_Bar, tag_field="T", tag="d", gc=False):
    """The running day, once a minute."""


class StatusMessage(Struct, tag_field="T", tag="s", gc=False):
    """Halt, resumption and the like; what the codes mean depends on the tape."""

    S: str
    sc: str
    t: Time
    sm: str = ""
    rc: str | None = None
    rm: str | None = None
    z: str | None = None


class CorrectionMessage(Struct, tag_field="T", tag="c", gc=False):
    """A trade (``o...``) replaced by another (``c...``); ``t`` is the time of the correction."""

    S: str
    x: str
    oi: int
    op: float
    os: int | float
    ci: int
    cp: float
    cs: int | float
    t: Time
    oc: tuple[str, ...] | None = None
    cc: tuple[str, ...] | None = None
    z: str | None = None


class CancelMessage(Struct, tag_field="T", tag="x", gc=False):
    """A trade taken back; ``a`` is ``C`` cancelled or ``E`` entered in error."""

    S: str
    i: int
    x: str
    p: float
    s: int | float
    t: Time
    a: str | None = None
    z: str | None = None


Item = (
    TradeMessage
    | QuoteMessage
    | MinuteBar
    | UpdatedBar
    | DailyBar
    | StatusMessage
    | CorrectionMessage
    | CancelMessage
    | Success
    | Error
    | Subscription
)


class Probe(Struct, gc=False):
    """The type of a message that was not understood."""

    T: str


class HistoricalTrade(Struct, gc=False):
    """A row of ``/v2/stocks/trades``; ``u`` is its state where it was amended (``canceled`` was seen)."""

    i: int
    p: float
    s: int | float
    t: str
    x: str = ""
    c: tuple[str, ...] | None = None
    z: str | None = None
    u: str | None = None


class TradesPage(Struct):
    """``trades`` by symbol, null or ``{}`` without any; a page may hold the tail of one and the head of another."""

    trades: dict[str, tuple[HistoricalTrade, ...]] | None = None
    next_page_token: str | None = None


class SnapshotBar(Struct, gc=False):
    """A bar of a snapshot; ``t`` is its start."""

    t: str
    o: float
    h: float
    l: float  # noqa: E741 - the venue's field name
    c: float
    v: int | float


class Snapshot(Struct, gc=False):
    """Latest state of a symbol; a part that does not exist is null or absent."""

    latestTrade: HistoricalTrade | None = None  # noqa: N815 - the venue's field names
    minuteBar: SnapshotBar | None = None  # noqa: N815
    dailyBar: SnapshotBar | None = None  # noqa: N815
    prevDailyBar: SnapshotBar | None = None  # noqa: N815


class Gainer(Struct, gc=False):
    """A row of the screener's movers."""

    symbol: str
    percent_change: float = 0.0
    price: float = 0.0


class Movers(Struct):
    """Answer of ``/v1beta1/screener/stocks/movers``."""

    gainers: tuple[Gainer, ...] = ()
