"""Holes: when which stream was not seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from src.api.cursors import EPOCH, newest_first, scope_of
from src.api.models import CoverageQuery, DocumentPage, HoleDocument, TrustAnswer, TrustQuery
from src.api.parts import PartsOf
from src.api.reading import Document
from src.api.responses import json_response, page_response, problems
from src.api.trust import StreamTrust, judge_streams
from src.models.writes import Collection
from src.store.base import Query as StoreQuery

MOST_HOLES = 5_000
EARLIER_HOLES = 500
HOLES_SHOWN = 100

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


@router.get("/answer", response_model=TrustAnswer, responses=problems(422, 503))
async def answer_trust(parts: PartsOf, query: Annotated[TrustQuery, Query()]) -> Response:
    """Can I trust what is stored of a trader (or a symbol) between two moments? One answer per stream, and a verdict.

    The last minute is provisional: silence is noticed, and holes are stored, some seconds late.
    """
    equals = {"venue": query.venue, "subject": query.subject}
    before_end = {"from": query.to}
    lasting = StoreQuery(equals={**equals, "to": None}, below=before_end, limit=MOST_HOLES)
    ended = StoreQuery(equals=equals, below=before_end, at_least={"to": query.from_}, limit=MOST_HOLES)
    touching = [*await parts.reader.find(Collection.COVERAGE, lasting)]
    touching += await parts.reader.find(Collection.COVERAGE, ended)
    if len(touching) >= MOST_HOLES:
        raise HTTPException(422, f"{MOST_HOLES} holes or more between 'from' and 'to'; ask for a shorter time")
    # A stream without a hole in this time is known by its first one (of before it was ever asked for) or a later one.
    first = StoreQuery(equals={**equals, "from": EPOCH}, limit=MOST_HOLES)
    earlier = StoreQuery(equals=equals, below={"from": query.from_}, sort=(("from", True),), limit=EARLIER_HOLES)
    holes = {hole["_id"]: hole for hole in touching}
    for known in (first, earlier):
        holes |= {hole["_id"]: hole for hole in await parts.reader.find(Collection.COVERAGE, known)}
    now = EPOCH + timedelta(milliseconds=parts.clock.wall_ms())
    streams = judge_streams(holes.values(), query.from_, query.to, now)
    against = sorted((hole for hole in touching if not hole.get("repaired")), key=lambda hole: hole["from"])
    return json_response(_answer(streams, against))


def _answer(streams: Sequence[StreamTrust], against: Sequence[Document]) -> dict[str, Any]:
    incomplete = [stream.stream for stream in streams if stream.longest_s > 0]
    if not streams:
        text = "nothing of this was ever collected"
    elif incomplete:
        text = f"not everything is there: {', '.join(incomplete)}"
    else:
        text = "everything the streams showed in this time is stored"
    rows = [
        {
            "stream": stream.stream,
            "knownSince": stream.known_since,
            "seenShare": stream.seen,
            "coveredShare": stream.covered,
            "holes": stream.holes,
            "unrepaired": stream.unrepaired,
            "longestGapS": stream.longest_s,
        }
        for stream in streams
    ]
    trusted = bool(streams) and not incomplete
    return {"trusted": trusted, "text": text, "streams": rows, "unrepaired": against[:HOLES_SHOWN]}


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
