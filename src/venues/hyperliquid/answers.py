"""What an HTTP exchange with the venue means when it is not a plain answer; shared by REST and the leaderboard file.

The venue documents no error format. Seen: 422 with a text for a request it cannot parse, 429 with ``null`` or
nothing, 500 with ``null`` for a bad parameter, HTML from the front end while it is upgraded, and once
``{"type":"error","message":...}`` with status 200.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from src.models.errors import (
    VenueError,
    VenueFatalError,
    VenueRateLimitedError,
    VenueRequestError,
)

DEFAULT_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
SHOWN_CHARS = 200
"""How much of an unexpected body an error text repeats."""

_TOO_MANY_REQUESTS = 429
_RETRYABLE_4XX = frozenset({408, 425})
_REFUSED = frozenset({401, 403, 407, 451})


def new_client(url: str, *, timeout: httpx.Timeout = DEFAULT_TIMEOUT, proxy: str | None = None) -> httpx.AsyncClient:
    """A client for ``url`` that follows no redirects; the caller closes it.

    It goes through ``proxy``, without one through the proxy of the environment, to loopback directly then.
    """
    if is_loopback(url) and proxy is None:
        return httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)
    return httpx.AsyncClient(timeout=timeout, follow_redirects=False, proxy=proxy, trust_env=proxy is None)


def is_loopback(url: str) -> bool:
    """Whether ``url`` points at this machine, where a proxy of the environment has no business."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def read_bounded(chunks: AsyncIterator[bytes], *, limit_bytes: int, what: str) -> bytes:
    """The whole body, as long as it stays within ``limit_bytes``.

    Raises:
        VenueError: the body is larger.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            raise VenueError(f"{what}: the answer is larger than {limit_bytes:,} bytes, reading stopped")
    return bytes(body)


def error_of_status(status: int, headers: httpx.Headers, body: bytes, *, what: str, wall_ms: int) -> VenueError:
    """The error that a status other than 200 stands for. ``what`` names the request in the text."""
    said = f"{what}: HTTP {status} {shown(body)}".rstrip()
    if status == _TOO_MANY_REQUESTS:
        return VenueRateLimitedError(said, retry_after_s(headers.get("retry-after"), wall_ms=wall_ms))
    if status in _REFUSED:
        return VenueFatalError(
            f"{said} - the venue or something in front of it refuses this machine; check proxy, region and address"
        )
    if status >= 500:  # noqa: PLR2004 - the class of server errors
        hint = " - the venue also answers so to a bad parameter such as an unknown coin" if body == b"null" else ""
        return VenueError(said + hint)
    if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
        target = headers.get("location", "elsewhere")[:SHOWN_CHARS]
        return VenueFatalError(
            f"{what}: HTTP {status} sends us to {target!r}; redirects are not followed, set the URL itself"
        )
    if status in _RETRYABLE_4XX or status < 400:  # noqa: PLR2004
        return VenueError(said)
    return VenueRequestError(said)


def error_of_transport(error: httpx.HTTPError | httpx.InvalidURL | TimeoutError, *, what: str) -> VenueError:
    """The error that a failed connection stands for: a bad certificate or address is fatal, the rest may pass."""
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return VenueFatalError(f"{what}: not a usable address: {error}")
    if _is_certificate_error(error):
        return VenueFatalError(f"{what}: the server's certificate is not accepted: {error}")
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return VenueError(f"{what}: no answer in time ({type(error).__name__})")
    return VenueError(f"{what}: {type(error).__name__}: {error}")


def retry_after_s(value: str | None, *, wall_ms: int) -> float | None:
    """Seconds a ``Retry-After`` header asks for, a number or an HTTP date; None when absent or unreadable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at_ms = parsedate_to_datetime(value).timestamp() * 1000
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at_ms - wall_ms) / 1000)


def shown(body: bytes) -> str:
    """The beginning of a body, fit for one line of an error text."""
    text = body[: SHOWN_CHARS * 4].decode("utf-8", errors="replace")
    text = " ".join(text.split())
    return repr(text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…") if text else ""


def _is_certificate_error(error: BaseException | None) -> bool:
    for _ in range(8):
        if error is None:
            return False
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
