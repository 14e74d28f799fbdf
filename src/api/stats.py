"""Counters and freshness, from memory."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from src.api.parts import PartsOf
from src.api.responses import json_response

router = APIRouter(tags=["health"])


@router.get("/stats", response_model=dict[str, Any])
async def stats(parts: PartsOf) -> Response:
    """Counters and freshness per connection, stream and stage, since the start of the process."""
    return json_response(parts.status.stats())
