"""The followed traders: list, add, remove. A change takes effect at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from msgspec import structs
from starlette.exceptions import HTTPException

from src.api.cursors import by_key, scope_of
from src.api.models import (
    Address,
    DocumentPage,
    NoQuery,
    TraderAddition,
    TraderDocument,
    TraderQuery,
    TradersAdded,
    TradersRemoved,
)
from src.api.parts import Parts, PartsOf
from src.api.responses import json_response, page_response, problems
from src.api.security import may_change
from src.models.status import TraderControl
from src.models.writes import Collection
from src.store.base import Query as StoreQuery

router = APIRouter(prefix="/api/traders", tags=["traders"])


@router.get("", response_model=DocumentPage[TraderDocument], responses=problems(422, 503))
async def list_traders(parts: PartsOf, query: Annotated[TraderQuery, Query()]) -> Response:
    """Followed traders, in the order of their addresses; ``now`` says how each is followed at this moment."""
    page = await by_key(
        parts.reader,
        Collection.TRADERS,
        StoreQuery(equals=query.equals()),
        key="ethAddress",
        limit=query.limit,
        scope=scope_of("traders", query.filters()),
        cursor=query.cursor,
    )
    if parts.traders is not None:
        view = parts.traders.view
        page = structs.replace(page, items=[{**item, "now": view(item["ethAddress"])} for item in page.items])
    return page_response(page)


@router.post(
    "",
    response_model=TradersAdded,
    responses=problems(401, 403, 409, 413, 422, 503),
    dependencies=[Depends(may_change)],
)
async def add_traders(parts: PartsOf, body: TraderAddition, _: Annotated[NoQuery, Query()]) -> Response:
    """Follow these traders from now on; those already followed are not counted."""
    addresses = list(dict.fromkeys(body.addresses))
    added = await _control(parts).add(addresses, source="manual", tags=list(dict.fromkeys(body.tags)))
    return json_response({"added": added})


@router.delete(
    "/{ethAddress}",
    response_model=TradersRemoved,
    responses=problems(401, 403, 404, 409, 422, 503),
    dependencies=[Depends(may_change)],
)
async def remove_trader(parts: PartsOf, ethAddress: Address, _: Annotated[NoQuery, Query()]) -> Response:  # noqa: N803 - the documented name
    """Stop following this trader; what was collected stays."""
    removed = await _control(parts).remove([ethAddress])
    if not removed:
        raise HTTPException(404, f"{ethAddress} is not followed; GET /api/traders lists who is")
    return json_response({"removed": removed})


def _control(parts: Parts) -> TraderControl:
    if parts.traders is None:
        raise HTTPException(409, "this process follows no traders; set TRADER_WS_ENABLED=true and start it again")
    return parts.traders
