"""Order books from producers outside this program."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException

from src.api.models import Symbol, Time, Venue
from src.api.parts import PartsOf
from src.api.responses import RETRY_AFTER_S, json_response, problems
from src.api.security import may_change
from src.models.messages import Book, Level
from src.models.symbols import OUTSIDE as OUTSIDE_SYMBOLS
from src.models.symbols import native_symbol

OUTSIDE = OUTSIDE_SYMBOLS.venue
"""The venue under which a book is filed when its producer names none."""

MOST_LEVELS = 1_000
"""Per side."""

AHEAD_MOST_MS = 5 * 60_000
MOST_ORDERS = 2**31 - 1

router = APIRouter(prefix="/broadcast", tags=["live"])


def _named(value: Any) -> Any:
    """A level may be written ``[price, volume]`` or ``[price, volume, orders]`` too."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (2, 3):
        return dict(zip(("price", "volume", "orders"), value, strict=False))
    return value


Number = Annotated[Decimal, Field(allow_inf_nan=False, max_digits=30, decimal_places=15)]


class BroadcastLevel(BaseModel):
    """One price level."""

    model_config = ConfigDict(json_schema_extra={"example": {"price": 180.2, "volume": 15, "orders": 3}})

    price: Number
    volume: Annotated[Number, Field(ge=0)]
    orders: int | None = Field(None, ge=0, le=MOST_ORDERS, description="number of orders, where it is known")

    def level(self) -> Level:
        """As the rest of the program knows it."""
        return Level(_text(self.price), _text(self.volume), self.orders)


Side = Annotated[list[Annotated[BroadcastLevel, BeforeValidator(_named)]], Field(max_length=MOST_LEVELS)]


class BroadcastBook(BaseModel):
    """A whole order book; both sides have to be there, and may be empty. Other fields are not kept."""

    bids: Side
    asks: Side
    timestamp: Time | None = Field(None, description="when it was so; default: now")


class BroadcastQuery(BaseModel):
    """Of what it is."""

    model_config = ConfigDict(extra="forbid")

    symbol: Symbol
    venue: Venue = OUTSIDE


class BroadcastAnswer(BaseModel):
    """``symbol`` as it was given; ``subscribers``: clients subscribed to it in any spelling."""

    status: Literal["ok"]
    symbol: str
    subscribers: int


@router.post(
    "/orderbook",
    response_model=BroadcastAnswer,
    responses=problems(401, 403, 409, 413, 422, 503),
    dependencies=[Depends(may_change)],
)
async def broadcast_order_book(
    parts: PartsOf, body: BroadcastBook, query: Annotated[BroadcastQuery, Query()]
) -> Response:
    """Hand in an order book: it is sent to subscribers and stored like every other one.

    It replaces the one before, whatever its timestamp says. The answer does not wait for MongoDB.
    """
    if parts.books is None:
        raise HTTPException(409, "this process takes no order books")
    received_ms = parts.clock.wall_ms()
    book = Book(
        query.venue,
        native_symbol(query.venue, query.symbol),
        _time_ms(body.timestamp, received_ms),
        received_ms,
        _best_first(body.bids, falling=True),
        _best_first(body.asks, falling=False),
    )
    subscribers = parts.books.publish_book(book)
    if subscribers is None:
        raise HTTPException(
            503,
            "this process is not collecting yet; /health/ready tells when",
            {"retry-after": str(RETRY_AFTER_S)},
        )
    return json_response({"status": "ok", "symbol": query.symbol, "subscribers": subscribers})


def _best_first(side: list[BroadcastLevel], *, falling: bool) -> tuple[Level, ...]:
    return tuple(level.level() for level in sorted(side, key=lambda level: level.price, reverse=falling))


def _time_ms(time: datetime | None, received_ms: int) -> int:
    if time is None:
        return received_ms
    time_ms = round(time.timestamp() * 1000)
    if time_ms > received_ms + AHEAD_MOST_MS:
        raise HTTPException(
            422, "body field timestamp lies in the future; check the producer's clock or leave it out"
        )
    return time_ms


def _text(value: Decimal) -> str:
    """Without exponent and trailing zeros: 180.20 -> ``180.2``."""
    return f"{value.normalize():f}" if value else "0"
