"""Holes: when which stream was not seen."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from src.api.cursors import EPOCH, newest_first, scope_of
from src.api.models import CoverageQuery, DocumentPage, HoleDocument
from src.api.parts import PartsOf
from src.api.responses import page_response, problems
from src.models.writes import Collection
from src.store.base import Query as StoreQuery

router = APIRouter(prefix="/api/coverage", tags=["market"])


@router.get("", response_model=DocumentPage[HoleDocument], responses=problems(422, 503))
async def list_holes(parts: PartsOf, query: Annotated[CoverageQuery, Query()]) -> Response:
    """Stretches of time in which a stream was not seen, the last begun first.

    With ``from`` and ``to``: those that overlap this range, also when they began before it or have not ended.
    """
    page = await newest_first(
        parts.reader,
        Collection.COVERAGE,
        _queries(query),
        field="from",
        limit=query.limit,
        scope=scope_of("coverage", query.filters()),
        cursor=query.cursor,
    )
    return page_response(page)


def _queries(query: CoverageQuery) -> list[StoreQuery]:
    """Ended and lasting holes apart, since the end of a lasting one is null and no bound finds it."""
    equals = {name: value for name, value in query.equals().items() if name != "open"}
    below = query.below("from")
    lasting = StoreQuery(equals={**equals, "to": None}, below=below)
    # Every ended hole ended after 1970.
    ended = StoreQuery(equals=equals, below=below, at_least=query.at_least("to") or {"to": EPOCH})
    if query.open is None:
        return [lasting, ended]
    return [lasting] if query.open else [ended]
