"""Orders of traders and their history."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from src.api.cursors import newest_first, scope_of
from src.api.models import Address, DocumentPage, NoQuery, Oid, OrderDocument, OrderQuery, OrderWithHistory
from src.api.parts import PartsOf
from src.api.responses import json_response, page_response, problems
from src.models.writes import Collection
from src.store.base import Query as StoreQuery

LONGEST_HISTORY = 1000

router = APIRouter(prefix="/api/orders", tags=["traders"])


@router.get("", response_model=DocumentPage[OrderDocument], responses=problems(422, 503))
async def list_orders(parts: PartsOf, query: Annotated[OrderQuery, Query()]) -> Response:
    """Latest known state of orders, the last placed first."""
    found = StoreQuery(equals=query.equals(), at_least=query.at_least("timestamp"), below=query.below("timestamp"))
    page = await newest_first(
        parts.reader,
        Collection.TRADER_ORDERS,
        [found],
        field="timestamp",
        limit=query.limit,
        scope=scope_of("orders", query.filters()),
        cursor=query.cursor,
    )
    return page_response(page)


@router.get("/{ethAddress}/{oid}", response_model=OrderWithHistory, responses=problems(404, 422, 503))
async def show_order(parts: PartsOf, ethAddress: Address, oid: Oid, _: Annotated[NoQuery, Query()]) -> Response:  # noqa: N803 - the documented name
    """One order with all its changes, oldest first."""
    order = await parts.reader.first(Collection.TRADER_ORDERS, {"ethAddress": ethAddress, "oid": oid})
    if order is None:
        raise HTTPException(404, f"no order {oid} of {ethAddress} is known; GET /api/orders?ethAddress=… lists them")
    # Keys of events begin with the order they belong to, and ';' is the character after ':'.
    events = StoreQuery(
        at_least={"_id": f"{ethAddress}:{oid}:"},
        below={"_id": f"{ethAddress}:{oid};"},
        sort=(("revision", False),),
        limit=LONGEST_HISTORY + 1,
    )
    history = await parts.reader.find(Collection.TRADER_ORDER_EVENTS, events)
    complete = len(history) <= LONGEST_HISTORY
    return json_response({"order": order, "history": history[:LONGEST_HISTORY], "historyComplete": complete})
