"""Who may do what over HTTP.

Reading is open to whoever reaches the port. Changing needs the bearer token. Without a token the program listens on
loopback only, and then three things keep the pages a person visits from using that person's loopback: the ``Host``
header has to name this machine (DNS rebinding), a foreign ``Origin`` is refused, and a request that came through a
proxy does not count as local.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.api.parts import PartsOf
from src.api.responses import problem

LARGEST_BODY_BYTES = 128 * 1024
LARGEST_DRAIN_BYTES = 8 * 1024 * 1024
BODY_DEADLINE_S = 10.0
OPEN_TO_ANY_HOST = ("/health", "/metrics")
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


BEARER = HTTPBearer(
    auto_error=False, description="the API_TOKEN setting; not needed on this machine when it is empty"
)


async def may_change(
    request: Request, parts: PartsOf, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> None:
    """Dependency of every changing route.

    Raises:
        HTTPException: 401 without the right token, 403 when the request comes from where it must not.
    """
    _refuse_foreign_origin(request.headers, parts.allowed_origins)
    if parts.token is not None and parts.token.get_secret_value():
        _require_token("" if given is None else given.credentials, parts.token.get_secret_value())
        return
    client = request.client.host if request.client else ""
    if not is_local_address(client) or any(header in request.headers for header in PROXY_HEADERS):
        raise HTTPException(403, "changes are accepted from this machine only; set API_TOKEN to allow others")


def is_local_address(text: str) -> bool:
    """Whether this is a loopback address; IPv4 addresses may be written as IPv6 ones."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_local_host(host: str) -> bool:
    """Whether a ``Host`` header names this machine itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_local_address(name)


class HostCheck:
    """Refuses requests whose ``Host`` is neither this machine nor one of the allowed origins' hosts.

    A page that rebinds its own name to 127.0.0.1 still sends its own name. Not applied to health and metrics, which
    probes ask by whatever name they know.
    """

    def __init__(self, app: ASGIApp, *, allowed_origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(urlsplit(origin).netloc for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and not scope["path"].startswith(OPEN_TO_ANY_HOST):
            host = Headers(scope=scope).get("host", "").lower()
            if host not in self._hosts and not is_local_host(host):
                detail = "this Host is not served without a token; use 127.0.0.1, or name it in ALLOWED_ORIGINS"
                await problem(403, detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Reads the whole body before the application sees it, so that size and time have one bound each."""

    def __init__(self, app: ASGIApp, *, largest_bytes: int = LARGEST_BODY_BYTES) -> None:
        self._app = app
        self._largest_bytes = largest_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or answer 408 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                body = await self._read(Headers(scope=scope), receive)
        except TimeoutError:
            await problem(408, f"the body did not arrive within {BODY_DEADLINE_S:g} s")(scope, receive, send)
            return
        if body is None:
            detail = f"the body is larger than {self._largest_bytes} bytes; send it in parts"
            await problem(413, detail, {"connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body, None when it is too large. Then it is read on for a while without keeping it.

        A client that is still sending when the connection closes would not see the answer.
        """
        announced = headers.get("content-length", "0")
        acceptable = announced.isdecimal() and int(announced[:20]) <= self._largest_bytes
        body = bytearray()
        read_bytes = 0
        more = acceptable or announced.isdecimal()
        while more and read_bytes <= LARGEST_DRAIN_BYTES:
            message = await receive()
            piece = message.get("body", b"")
            read_bytes += len(piece)
            acceptable = acceptable and read_bytes <= self._largest_bytes
            if acceptable:
                body += piece
            more = message["type"] == "http.request" and message.get("more_body", False)
        return bytes(body) if acceptable else None


class SecurityHeaders:
    """Adds headers that keep browsers from doing more with an answer than they should."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the headers of its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _refuse_foreign_origin(headers: Headers, allowed: Iterable[str]) -> None:
    origin = headers.get("origin")
    if origin is None or origin.lower() in allowed:
        return
    if origin == "null" or urlsplit(origin.lower()).netloc != headers.get("host", "").lower():
        raise HTTPException(403, "pages of this Origin may not make changes; name it in ALLOWED_ORIGINS to allow it")


def _require_token(given: str, token: str) -> None:
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise HTTPException(
            401, "send the header 'Authorization: Bearer <API_TOKEN>'", {"www-authenticate": "Bearer"}
        )


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` once and then what the connection says next (its end)."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
