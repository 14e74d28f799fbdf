"""Is it well? For a person, and for orchestrators."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from src.api.parts import PartsOf
from src.api.responses import json_response

router = APIRouter(tags=["health"])


class CheckBody(BaseModel):
    """One thing that was looked at; ``text`` says what to do when ``ok`` is false."""

    name: str
    ok: bool
    text: str


class HealthBody(BaseModel):
    """The state of the whole program."""

    status: Literal["ok", "degraded", "down"]
    ready: bool
    version: str
    checks: list[CheckBody]


class LiveBody(BaseModel):
    """The process answers."""

    status: Literal["ok"]


@router.get("/health", response_model=HealthBody, responses={503: {"model": HealthBody}})
async def health(parts: PartsOf) -> Response:
    """One look for a person: 200 when ok or degraded, 503 when down. Asks neither MongoDB nor a venue."""
    state = parts.status.health()
    body = {"status": state.status, "ready": state.ready, "version": parts.version, "checks": state.checks}
    return json_response(body, status=503 if state.status == "down" else 200)


@router.get("/health/live", response_model=LiveBody)
async def live() -> Response:
    """200 as long as the process answers; depends on nothing else, so that nobody restarts us for others' faults."""
    return json_response({"status": "ok"})


@router.get("/health/ready", response_model=HealthBody, responses={503: {"model": HealthBody}})
async def ready(parts: PartsOf) -> Response:
    """200 when the program is set up and collecting, else 503 with what is missing."""
    state = parts.status.health()
    body = {"status": state.status, "ready": state.ready, "version": parts.version, "checks": state.checks}
    return json_response(body, status=200 if state.ready else 503)
