"""The client for browsers: one module and its type declarations, served as they are."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

MODULE = Path(__file__).with_name("client.js")
DECLARATIONS = Path(__file__).with_name("client.d.ts")
# Pages of other (allowed) origins import it too; without the header of the whole server they could not.
HEADERS = {"cache-control": "no-cache", "cross-origin-resource-policy": "cross-origin"}

router = APIRouter(include_in_schema=False)


@router.get("/client.js")
async def client_module() -> FileResponse:
    """The ES module with `MarketClient`."""
    return FileResponse(MODULE, media_type="text/javascript", headers=HEADERS)


@router.get("/client.d.ts")
async def client_declarations() -> FileResponse:
    """Its types, for TypeScript and editors."""
    return FileResponse(DECLARATIONS, media_type="text/plain; charset=utf-8", headers=HEADERS)
