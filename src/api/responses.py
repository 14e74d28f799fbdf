"""JSON answers and the one shape of errors: ``{"detail": "what is wrong and what to change"}``."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from src.api.cursors import CursorError, Page
from src.models.errors import CollectorError, ConfigurationError, StoreError

RETRY_AFTER_S = 5
LONGEST_ECHO = 60
PLACES = {"query": "query parameter", "path": "path parameter", "body": "body field", "header": "header"}

_log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """An error: what is wrong and what to change."""

    detail: str


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with ``value`` as JSON; times become RFC 3339 text in UTC, numbers that JSON cannot hold become null."""
    body = msgspec.json.encode(value, enc_hook=_plain)
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, "application/json")


def page_response(page: Page) -> Response:
    """Answer with one page of documents."""
    return json_response({"items": page.items, "nextCursor": page.next_cursor})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with an error."""
    return json_response({"detail": detail}, status=status, headers=headers)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same for the OpenAPI description of a route."""
    return {status: {"model": Problem} for status in statuses}


def install_error_handlers(app: FastAPI) -> None:
    """Make every error that leaves a route an answer in the one shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(CursorError, _wrong_cursor)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(StoreError, _store_away)
    app.add_exception_handler(CollectorError, _refused)
    app.add_exception_handler(Exception, _unexpected)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = dict.fromkeys(_describe(request, item) for item in error.errors())
    return problem(422, "; ".join(lines))


async def _wrong_cursor(_: Request, error: Exception) -> Response:
    return problem(422, str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if detail == "Not Found":
        detail = f"no such path: {request.url.path[:LONGEST_ECHO]}; /docs lists what there is"
    elif detail == "Method Not Allowed":
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method} is not possible here; use {allowed}"
    return problem(error.status_code, detail, error.headers)


async def _store_away(_: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    if error.retryable:
        return problem(
            503,
            "MongoDB does not answer in time; collecting goes on, try again in a few seconds",
            {"retry-after": str(RETRY_AFTER_S)},
        )
    return problem(503, "MongoDB refuses this program; run the doctor command for the reason")


async def _refused(_: Request, error: Exception) -> Response:
    return problem(422 if isinstance(error, ConfigurationError) else 409, str(error))


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("http_request_failed", method=request.method, path=request.url.path, error=type(error).__name__)
    return problem(500, "this is a fault of the program; its log has the details")


def _describe(request: Request, item: Mapping[str, Any]) -> str:
    """One sentence about one thing that is wrong with a request; echoes no more than a few characters of it."""
    where, *rest = item["loc"]
    name = ".".join(str(part) for part in rest)
    place = PLACES.get(where, where)
    if item["type"] == "extra_forbidden":
        known = ", ".join(_known_parameters(request)) if where == "query" else ""
        return f"{place} '{name[:LONGEST_ECHO]}' is not known" + (
            f"; known here: {known}" if known else "; remove it"
        )
    if item["type"] == "json_invalid":
        return f"the body is not JSON: {item.get('ctx', {}).get('error', 'malformed')} at character {name}"
    reason = item["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if item["type"] == "missing" or not rest:
        return f"{place} '{name}': {reason}" if name else f"the {where} is wrong: {reason}; send JSON as /docs shows"
    if "token" in name.lower():
        return f"{place} {name}: {reason}"
    echo = str(item.get("input"))
    return f"{place} {name}='{echo[:LONGEST_ECHO]}{'…' if len(echo) > LONGEST_ECHO else ''}': {reason}"


def _known_parameters(request: Request) -> Iterable[str]:
    """Names of the query parameters of the route that serves this request."""
    for hint in typing.get_type_hints(request.scope["route"].endpoint).values():
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            return [field.alias or name for name, field in hint.model_fields.items()]
    return []


def _plain(value: Any) -> Any:
    """The driver's 64-bit integers are a subclass of int; anything else unknown is shown as text."""
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)
