"""Bodies and query parameters. Field names of documents are those of the collections."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Path, Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from starlette.exceptions import HTTPException

from src.api.cursors import EPOCH, LONGEST_CURSOR

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
LARGEST_INT64 = 2**63 - 1
MILLISECONDS = re.compile(r"\d{1,15}")
LOST_PLUS = re.compile(r" (\d\d:?\d\d)$")


def parse_time(value: Any) -> datetime:
    """Milliseconds since 1970, or ISO 8601 text (without an offset it is UTC).

    Raises:
        ValueError: it is neither.
    """
    text = str(value).strip()
    try:
        if MILLISECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        # In a URL a plus sign that was not escaped arrives as a space.
        time = datetime.fromisoformat(LOST_PLUS.sub(r"+\1", text) if "T" in text else text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError("write a time as 2026-01-31T12:00:00Z or in milliseconds since 1970") from None
    return max(time, EPOCH)


Address = Annotated[
    str,
    StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$"),
    AfterValidator(str.lower),
    Field(description="address: 0x and 40 hexadecimal digits", examples=["0x" + "00" * 19 + "aa"]),
]
Oid = Annotated[int, Path(ge=0, le=LARGEST_INT64, description="order id of the exchange")]
Symbol = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9@#+/:._-]{1,64}$"),
    Field(description="BTC, @107, PURR/USDC, xyz:TSLA"),
]
Venue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$"), Field(description="for example hyperliquid")]
Dex = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{0,16}$"), Field(description="builder dex; empty = main")]
Tag = Annotated[str, StringConstraints(pattern=r"^[\w .:@-]{1,64}$")]
Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    WithJsonSchema({"type": "string", "description": "ISO 8601 (UTC if no offset), or ms since 1970"}),
]


async def one_value_each(request: Request) -> None:
    """Dependency: refuse a query parameter that is given twice, instead of using one of its values.

    Raises:
        HTTPException: 422, naming the parameter.
    """
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise HTTPException(422, f"query parameter '{name[:60]}' is given more than once; give it once")


class NoQuery(BaseModel):
    """A route without query parameters."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=LARGEST_LIMIT, description="most documents to return")
    cursor: str | None = Field(None, max_length=LONGEST_CURSOR, description="nextCursor of the page before")

    def filters(self) -> dict[str, Any]:
        """What narrows the result: everything given but the paging."""
        return self.model_dump(exclude={"limit", "cursor"}, exclude_none=True)

    def equals(self) -> dict[str, Any]:
        """The filters that ask for an exact value."""
        return {name: value for name, value in self.filters().items() if not isinstance(value, datetime)}


class TimeRangeQuery(PageQuery):
    """A list along time: ``from`` inclusive, ``to`` exclusive."""

    from_: Time | None = Field(None, alias="from")
    to: Time | None = None

    @model_validator(mode="after")
    def _in_order(self) -> TimeRangeQuery:
        if self.from_ is not None and self.to is not None and self.from_ >= self.to:
            raise ValueError("'from' has to be before 'to'")
        return self

    def at_least(self, field: str) -> dict[str, datetime]:
        """The lower bound for ``field``."""
        return {} if self.from_ is None else {field: self.from_}

    def below(self, field: str) -> dict[str, datetime]:
        """The upper bound for ``field``."""
        return {} if self.to is None else {field: self.to}


class OrderQuery(TimeRangeQuery):
    """Filters of orders; the time is when the order was placed."""

    ethAddress: Address | None = None  # noqa: N815 - the stored field's name
    coin: Symbol | None = None
    status: Literal["open", "closed", "untracked"] | None = None


class PositionQuery(TimeRangeQuery):
    """Filters of positions; the time is the last change."""

    ethAddress: Address | None = None  # noqa: N815
    coin: Symbol | None = None
    dex: Dex | None = None
    status: Literal["open", "closed", "untracked"] | None = None


class TradeQuery(TimeRangeQuery):
    """Filters of public trades."""

    venue: Venue = "hyperliquid"
    symbol: Symbol


class CandleQuery(TradeQuery):
    """Filters of candles; the time is when the candle began."""

    interval: str = Field("1m", pattern=r"^[0-9]{1,2}[smhdwM]$", description="1m, 5m, 1h, 1d, …")


class CoverageQuery(TimeRangeQuery):
    """Filters of holes; with a time range those that overlap it."""

    venue: Venue | None = None
    stream: str | None = Field(None, max_length=200, description="for example hyperliquid/l2Book/BTC")
    reason: str | None = Field(None, pattern=r"^[a-z_]{1,40}$")
    open: bool | None = Field(None, description="true: only holes that have not ended, false: only ended ones")


class TrustQuery(BaseModel):
    """Whose data, and between which two moments."""

    model_config = ConfigDict(extra="forbid")

    ethAddress: Address | None = None  # noqa: N815 - the stored field's name
    symbol: Symbol | None = None
    venue: Venue = "hyperliquid"
    from_: Time = Field(alias="from")
    to: Time

    @model_validator(mode="after")
    def _one_subject_in_order(self) -> TrustQuery:
        if (self.ethAddress is None) == (self.symbol is None):
            raise ValueError("give either 'ethAddress' or 'symbol'")
        if self.from_ >= self.to:
            raise ValueError("'from' has to be before 'to'")
        return self

    @property
    def subject(self) -> str:
        """What streams are about: an address or a symbol."""
        return self.ethAddress or self.symbol or ""


class TraderQuery(PageQuery):
    """Filters of followed traders."""

    enabled: bool | None = None
    source: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,40}$")


class TraderAddition(BaseModel):
    """Traders to follow from now on."""

    model_config = ConfigDict(extra="forbid")

    addresses: list[Address] = Field(min_length=1, max_length=1000)
    tags: list[Tag] = Field(default=[], max_length=20)


class TradersAdded(BaseModel):
    """How many of them were new."""

    added: int


class TradersRemoved(BaseModel):
    """How many were followed until now."""

    removed: int


class Document(BaseModel):
    """A stored document; ``docs/data-model.md`` names all fields."""

    model_config = ConfigDict(extra="allow")

    receivedAt: datetime | None = Field(None, description="when we received it")  # noqa: N815


class OrderDocument(Document):
    """The latest known state of an order."""

    ethAddress: str  # noqa: N815
    oid: int
    coin: str
    side: Literal["B", "A"]
    limitPx: float | None  # noqa: N815
    sz: float | None = Field(description="remaining size")
    origSz: float | None  # noqa: N815
    status: Literal["open", "closed", "untracked"]
    action: Literal["new", "updated", "closed", "untracked"]
    revision: int
    timestamp: datetime | None = Field(description="when the exchange accepted it")


class OrderEventDocument(OrderDocument):
    """One change of an order and its state after it."""

    changes: dict[str, Any]


class OrderWithHistory(BaseModel):
    """An order and its changes, oldest first; ``historyComplete`` is false when there are more than are shown."""

    order: OrderDocument
    history: list[OrderEventDocument]
    historyComplete: bool  # noqa: N815


class PositionDocument(Document):
    """The latest known state of a position."""

    ethAddress: str  # noqa: N815
    dex: str
    coin: str
    szi: float
    side: Literal["long", "short"]
    status: Literal["open", "closed", "untracked"]
    revision: int


class TradeDocument(Document):
    """A public trade."""

    venue: str
    symbol: str
    price: float
    size: float
    side: str | None
    timestamp: datetime


class CandleDocument(Document):
    """Open, high, low, close and volume of one interval."""

    venue: str
    symbol: str
    interval: str


class HoleDocument(Document):
    """A stretch of time in which a stream was not seen; ``to`` is null while it lasts."""

    venue: str
    stream: str
    reason: str


class StreamAnswer(BaseModel):
    """One stream between the two moments; shares are 0 to 1."""

    stream: str
    knownSince: datetime = Field(description="holes are recorded from then on")  # noqa: N815
    seenShare: float = Field(description="share of the time in which it was seen live")  # noqa: N815
    coveredShare: float = Field(description="the same, with holes that history filled")  # noqa: N815
    holes: int
    unrepaired: int
    longestGapS: float = Field(description="longest stretch that is not covered, in seconds")  # noqa: N815


class TrustAnswer(BaseModel):
    """Whether everything that happened between the two moments is stored.

    ``trusted`` is true only when at least one stream of the subject is known and all of them are covered
    throughout. ``unrepaired`` are the first 100 holes that speak against it.
    """

    trusted: bool
    text: str
    streams: list[StreamAnswer]
    unrepaired: list[HoleDocument]


class BookDocument(Document):
    """The latest order book, best level first; a level is ``[price, size, orders?]``."""

    venue: str
    symbol: str
    bids: list[list[float]]
    asks: list[list[float]]
    mid: float | None = None
    spread: float | None = None
    timestamp: datetime


class TraderNow(BaseModel):
    """How a trader is followed at this moment; null where this process does not follow him."""

    mode: Literal["live", "rotation", "poll"]
    lastLookAgeS: float | None = Field(description="seconds since the last whole look")  # noqa: N815
    lookWithinS: float | None = Field(description="a look can be this old at most; 0 = live, null = no bound")  # noqa: N815
    late: bool = Field(description="not looked at within that time")
    changesPerHour: float = Field(description="order and position changes per hour, lately")  # noqa: N815


class TraderDocument(Document):
    """A followed trader."""

    ethAddress: str  # noqa: N815
    enabled: bool
    source: str
    now: TraderNow | None = None


Item = TypeVar("Item", bound=Document)


class DocumentPage(BaseModel, Generic[Item]):
    """Documents, and the cursor of the next page (null on the last one)."""

    items: list[Item]
    nextCursor: str | None  # noqa: N815
