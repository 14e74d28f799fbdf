"""Order books, trades and candles."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from src.api.cursors import newest_first, scope_of
from src.api.models import (
    BookDocument,
    CandleDocument,
    CandleQuery,
    DocumentPage,
    NoQuery,
    Symbol,
    TradeDocument,
    TradeQuery,
    Venue,
)
from src.api.parts import Parts, PartsOf
from src.api.responses import json_response, page_response, problems
from src.models.symbols import native_symbol
from src.models.writes import Collection
from src.store.base import Query as StoreQuery

router = APIRouter(prefix="/api", tags=["market"])


@router.get("/trades", response_model=DocumentPage[TradeDocument], responses=problems(422, 503))
async def list_trades(parts: PartsOf, query: Annotated[TradeQuery, Query()]) -> Response:
    """Public trades of one symbol, newest first."""
    return await _along_time(parts, Collection.TRADES, query)


@router.get("/candles", response_model=DocumentPage[CandleDocument], responses=problems(422, 503))
async def list_candles(parts: PartsOf, query: Annotated[CandleQuery, Query()]) -> Response:
    """Candles of one symbol and interval, newest first."""
    return await _along_time(parts, Collection.CANDLES, query)


@router.get("/orderbook/{venue}/{symbol:path}", response_model=BookDocument, responses=problems(404, 422, 503))
async def show_book(parts: PartsOf, venue: Venue, symbol: Symbol, _: Annotated[NoQuery, Query()]) -> Response:
    """The latest order book of one symbol, in the venue's spelling or another; symbols may contain '/' and ':'."""
    native = native_symbol(venue, symbol)
    book = await parts.reader.first(Collection.ORDERBOOKS, {"venue": venue, "symbol": native})
    if book is None:
        raise HTTPException(404, f"no order book of {symbol} at {venue} has been collected; /stats lists the streams")
    return json_response(book)


async def _along_time(parts: Parts, collection: Collection, query: TradeQuery) -> Response:
    found = StoreQuery(equals=query.equals(), at_least=query.at_least("timestamp"), below=query.below("timestamp"))
    page = await newest_first(
        parts.reader,
        collection,
        [found],
        field="timestamp",
        limit=query.limit,
        scope=scope_of(collection, query.filters()),
        cursor=query.cursor,
    )
    return page_response(page)
