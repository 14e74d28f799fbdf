"""Order-book sessions: list, start, statistics, stop; with the bodies that clients of such sessions expect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Struct
from starlette.exceptions import HTTPException

from src.api.models import NoQuery
from src.api.parts import Parts, PartsOf
from src.api.responses import json_response, problems
from src.api.security import may_change
from src.models.errors import StreamRefusedError
from src.models.status import StreamControl

DEFAULT_VENUE = "stockbit"
SESSION_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LONGEST_ECHO = 64
_SEPARATORS = re.compile(r"[\s,;]+")
_FIELDS = ("tickers", "venue", "session_id", "max_retries")
_START_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["tickers"],
                    "properties": {
                        "tickers": {
                            "description": "a list, or text with one ticker per line",
                            "oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}],
                        },
                        "venue": {"type": "string", "default": DEFAULT_VENUE},
                        "session_id": {"type": "string", "pattern": f"^{SESSION_ID.pattern}$"},
                    },
                },
                "example": {"tickers": ["BBCA", "TLKM"]},
            },
            "text/plain": {"schema": {"type": "string", "description": "one ticker per line"}},
        },
    }
}

router = APIRouter(prefix="/api/orderbook", tags=["order book sessions"])


class StartRequest(Struct, frozen=True):
    """What a request to start a session asks for; ``venue`` None = not named."""

    tickers: Sequence[str]
    venue: str | None = None
    session_id: str | None = None


@router.get("/streams", response_model=dict[str, Any], responses=problems(409, 503))
async def list_streams(parts: PartsOf, _: Annotated[NoQuery, Query()]) -> Response:
    """All sessions with their statistics, the first started first."""
    try:
        return json_response({"success": True, "sessions": _control(parts).sessions()})
    except StreamRefusedError as error:
        return _refusal(error)


@router.post(
    "/streams",
    response_model=dict[str, Any],
    responses=problems(401, 403, 409, 413, 503),
    dependencies=[Depends(may_change)],
    openapi_extra=_START_BODY,
)
async def start_stream(request: Request, parts: PartsOf, _: Annotated[NoQuery, Query()]) -> Response:
    """Begin to collect tickers: JSON, or text with one ticker per line."""
    control = _control(parts)
    try:
        wish = parse_start(await request.body(), request.headers.get("content-type", ""))
        started = await control.start(wish.tickers, venue=wish.venue or DEFAULT_VENUE, session_id=wish.session_id)
    except StreamRefusedError as error:
        return _refusal(error)
    named = {} if wish.venue is None else {"venue": wish.venue}
    return json_response({"success": True, **started, **named})


@router.get("/streams/{session_id}", response_model=dict[str, Any], responses=problems(404, 409, 503))
async def show_stream(parts: PartsOf, session_id: str, _: Annotated[NoQuery, Query()]) -> Response:
    """Statistics of one session."""
    try:
        stats = _control(parts).session(session_id)
    except StreamRefusedError as error:
        return _refusal(error)
    if stats is None:
        return _refusal(StreamRefusedError(f"Session {session_id[:LONGEST_ECHO]} not found"), status=404)
    return json_response({"success": True, "stats": stats})


@router.post(
    "/streams/{session_id}/stop",
    response_model=dict[str, Any],
    responses=problems(401, 403, 409, 503),
    dependencies=[Depends(may_change)],
)
async def stop_stream(parts: PartsOf, session_id: str, _: Annotated[NoQuery, Query()]) -> Response:
    """End a session; what was collected stays."""
    try:
        return json_response({"success": True, **await _control(parts).stop(session_id[:LONGEST_ECHO])})
    except StreamRefusedError as error:
        return _refusal(error)


@router.post(
    "/streams/{session_id}/refresh",
    response_model=dict[str, Any],
    responses=problems(401, 403, 409, 503),
    dependencies=[Depends(may_change)],
)
async def refresh_stream(parts: PartsOf, session_id: str, _: Annotated[NoQuery, Query()]) -> Response:
    """Begin a session anew, also one that was stopped."""
    try:
        return json_response({"success": True, **await _control(parts).refresh(session_id[:LONGEST_ECHO])})
    except StreamRefusedError as error:
        return _refusal(error)


@router.get("/market-status", response_model=dict[str, Any], responses=problems(409))
async def show_market_status(parts: PartsOf, _: Annotated[NoQuery, Query()]) -> Response:
    """What the Indonesian exchange does now, and until when."""
    return json_response({"success": True, **_control(parts).market_status()})


def parse_start(body: bytes, content_type: str) -> StartRequest:
    """What the body asks for: a JSON object, a JSON list of tickers, a form, or lines of text.

    Raises:
        StreamRefusedError: it is not understood; the text says what is wrong.
    """
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise StreamRefusedError("The body is not UTF-8 text") from None
    if "json" in content_type.lower() or text[:1] in {"{", "["}:
        return _from_json(text)
    if "=" in text and "\n" not in text:
        return _from_object({name: values[-1] for name, values in parse_qs(text).items()})
    return StartRequest(_words(text))


def _from_json(text: str) -> StartRequest:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise StreamRefusedError('The body is not JSON; send {"tickers": ["BBCA", "TLKM"]}') from None
    if isinstance(value, list):
        value = {"tickers": value}
    if not isinstance(value, dict):
        raise StreamRefusedError('The body is no object; send {"tickers": ["BBCA", "TLKM"]}')
    return _from_object(value)


def _from_object(value: Mapping[str, Any]) -> StartRequest:
    unknown = [str(name)[:LONGEST_ECHO] for name in value if name not in _FIELDS]
    if unknown:
        raise StreamRefusedError(f"Not known: {', '.join(unknown[:5])}; known are tickers, venue and session_id")
    if value.get("max_retries") is not None:
        raise StreamRefusedError("max_retries is not available: a session goes on until it is stopped")
    tickers = value.get("tickers") or []
    if isinstance(tickers, str):
        tickers = _words(tickers)
    if not isinstance(tickers, list) or not all(isinstance(ticker, str) for ticker in tickers):
        raise StreamRefusedError("tickers is a list of texts, or one text with a ticker per line")
    session_id = _text(value, "session_id")
    if session_id is not None and not SESSION_ID.fullmatch(session_id):
        raise StreamRefusedError("session_id takes 1 to 64 letters, digits, '_', '.' and '-'")
    return StartRequest(tickers, _text(value, "venue"), session_id)


def _text(value: Mapping[str, Any], name: str) -> str | None:
    found = value.get(name)
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise StreamRefusedError(f"{name} is a text")
    return found.strip()


def _words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _refusal(error: StreamRefusedError, *, status: int = 400) -> Response:
    needs = {"requires_login": True} if error.requires_login else {}
    if error.later:
        status = 503
    return json_response({"success": False, "error": str(error), **needs}, status=status)


def _control(parts: Parts) -> StreamControl:
    if parts.streams is None:
        raise HTTPException(409, "this process holds no order book sessions")
    return parts.streams
