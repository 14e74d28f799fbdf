"""Positions of traders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from src.api.cursors import by_key, scope_of
from src.api.models import DocumentPage, PositionDocument, PositionQuery
from src.api.parts import PartsOf
from src.api.responses import page_response, problems
from src.models.writes import Collection
from src.store.base import Query as StoreQuery

router = APIRouter(prefix="/api/positions", tags=["traders"])


@router.get("", response_model=DocumentPage[PositionDocument], responses=problems(422, 503))
async def list_positions(parts: PartsOf, query: Annotated[PositionQuery, Query()]) -> Response:
    """Latest known state of positions, in the order of trader, dex and coin."""
    page = await by_key(
        parts.reader,
        Collection.TRADER_POSITIONS,
        StoreQuery(equals=query.equals(), at_least=query.at_least("updatedAt"), below=query.below("updatedAt")),
        key="_id",
        limit=query.limit,
        scope=scope_of("positions", query.filters()),
        cursor=query.cursor,
    )
    return page_response(page)
