"""The pages for people: status, order books and the API's documentation. None loads anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse

STATUS_PAGE = Path(__file__).with_name("status.html")
ORDERBOOK_PAGE = Path(__file__).with_name("orderbook.html")
# The wheel carries Swagger UI 5, which understands the OpenAPI 3.1 that FastAPI writes.
SWAGGER_FILES = Path(fastapi_offline.__file__).parent / "static"
CACHED = {"cache-control": "max-age=86400"}
DOCS_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
}
DOCS_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Market collector API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
DOCS_SCRIPT = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset], validatorUrl: null});
"""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def status_page() -> HTMLResponse:
    """What is collected and how fresh it is; refreshes itself from /stats and /health."""
    return _page(STATUS_PAGE)


@router.get("/orderbook")
async def orderbook_page() -> HTMLResponse:
    """Order-book sessions: start, stop, statistics, depth; refreshes itself."""
    return _page(ORDERBOOK_PAGE)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The interactive description of the API."""
    return HTMLResponse(DOCS_PAGE, headers=DOCS_HEADERS)


@router.get("/docs/start.js")
async def docs_script() -> Response:
    """Starts the documentation page; a file of its own, as its policy allows no inline scripts."""
    return Response(DOCS_SCRIPT, media_type="text/javascript")


@router.get("/docs/swagger-ui-bundle.js")
async def swagger_script() -> FileResponse:
    """Swagger UI's script."""
    return FileResponse(SWAGGER_FILES / "swagger-ui-bundle.js", media_type="text/javascript", headers=CACHED)


@router.get("/docs/swagger-ui.css")
async def swagger_style() -> FileResponse:
    """Swagger UI's style."""
    return FileResponse(SWAGGER_FILES / "swagger-ui.css", media_type="text/css", headers=CACHED)


def _page(path: Path) -> HTMLResponse:
    text, policy = _text_and_policy(path)
    return HTMLResponse(text, headers={"content-security-policy": policy, "cache-control": "no-cache"})


@cache
def _text_and_policy(path: Path) -> tuple[str, str]:
    """The page and a policy that allows exactly its own script and style, by their hashes."""
    text = path.read_text(encoding="utf-8")
    sources = {tag: " ".join(_hashes(text, tag)) for tag in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hashes(text: str, tag: str) -> list[str]:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in found]
