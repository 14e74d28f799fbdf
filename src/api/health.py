"""Is it well? For a person, and for orchestrators."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from src.api.parts import PartsOf
from src.api.responses import json_response
from src.models.status import Health

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
    uptime_s: float | None = None
    redis: Literal["ok", "down", "connecting", "off"] | None = Field(None, description="what processes share data by")
    feed_connected: bool | None = Field(None, description="whether any venue can be heard")


class LiveBody(BaseModel):
    """The process answers."""

    status: Literal["ok"]


@router.get("/health", response_model=HealthBody, responses={503: {"model": HealthBody}})
async def health(parts: PartsOf) -> Response:
    """One look for a person: 200 when ok or degraded, 503 when down. Asks neither MongoDB nor a venue."""
    state = parts.status.health()
    return json_response(_body(state, parts.version), status=503 if state.status == "down" else 200)


@router.get("/health/live", response_model=LiveBody)
async def live() -> Response:
    """200 as long as the process answers; depends on nothing else, so that nobody restarts us for others' faults."""
    return json_response({"status": "ok"})


@router.get("/health/ready", response_model=HealthBody, responses={503: {"model": HealthBody}})
async def ready(parts: PartsOf) -> Response:
    """200 when the program is set up and collecting, else 503 with what is missing."""
    state = parts.status.health()
    return json_response(_body(state, parts.version), status=200 if state.ready else 503)


def _body(state: Health, version: str) -> dict[str, Any]:
    return {
        "status": state.status,
        "ready": state.ready,
        "version": version,
        "checks": state.checks,
        **state.facts,
    }
