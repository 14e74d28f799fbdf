"""The two requests this program makes over HTTP: the key of a socket, and new tokens.

An error text holds the address and the status, never what was sent or answered: both may hold tokens.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from pydantic import SecretStr

from src.models.clock import Clock
from src.models.errors import VenueError, VenueFatalError, VenueRateLimitedError
from src.models.metrics import REST_REQUESTS, Metrics
from src.venues.stockbit.books import VENUE
from src.venues.stockbit.tokens import TokenError, Tokens, check_refresh, clean, read_claims

KEY_PATH = "/auth/websocket/key"
REFRESH_PATH = "/login/refresh"
TIMEOUT_S = 15.0
LARGEST_ANSWER_BYTES = 256 * 1024
HEADERS: Mapping[str, str] = {
    "accept": "application/json",
    "origin": "https://stockbit.com",
    "referer": "https://stockbit.com/",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0 Safari/537.36",
    "x-platform": "web",
}
_KEY = re.compile(r"[!-~]{1,1024}", re.ASCII)
_DEEPEST = 6
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_TOO_MANY = 429


class TokenRefusedError(VenueFatalError):
    """The venue answered 401: this token is dead, whatever its time of expiry says."""


class StockbitRest:
    """Requests of the account. Every method raises `TokenRefusedError`, `VenueRateLimitedError`, `VenueFatalError`
    (the front end refuses this machine) or `VenueError` (trying later may help).
    """  # noqa: D205 - the summary needs two lines

    def __init__(
        self,
        api_url: str,
        *,
        clock: Clock,
        metrics: Metrics,
        proxy: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._url = api_url.rstrip("/")
        self._clock = clock
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._proxy = None if _is_loopback(api_url) else proxy
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Let go of the connections; safe to repeat."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def key(self, access: SecretStr) -> SecretStr:
        """The key a WebSocket connection shows; a new one for each connection."""
        answer = await self._ask("GET", KEY_PATH, access)
        data = answer.get("data")
        key = data.get("key") if isinstance(data, dict) else None
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            raise VenueError(f"{self._url}{KEY_PATH}: the answer holds no key")
        return SecretStr(key)

    async def refresh(self, refresh: SecretStr) -> Tokens:
        """New tokens; the old refresh token is dead from then on."""
        answer = await self._ask("POST", REFRESH_PATH, refresh, body=b"{}")
        access = _find(answer, "access")
        new_refresh = _find(answer, "refresh")
        if access is None:
            raise VenueError(f"{self._url}{REFRESH_PATH}: the answer holds no access token")
        try:
            read_claims(access)
            return Tokens(SecretStr(access), None if new_refresh is None else check_refresh(new_refresh))
        except TokenError as error:
            raise VenueError(f"{self._url}{REFRESH_PATH}: {error}") from None

    async def _ask(self, method: str, path: str, bearer: SecretStr, body: bytes | None = None) -> dict[str, Any]:
        what = f"{self._url}{path}"
        headers = {**HEADERS, "authorization": f"Bearer {bearer.get_secret_value()}"}
        if body is not None:
            headers["content-type"] = "application/json"
        if self._client is None:
            trust = not _is_loopback(self._url) and self._proxy is None
            self._client = httpx.AsyncClient(
                timeout=self._timeout_s, follow_redirects=False, proxy=self._proxy, trust_env=trust
            )
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream(method, what, headers=headers, content=body) as response,
            ):
                content = await _read(response, what)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._metrics.add(REST_REQUESTS, VENUE, "failed")
            # Not the error's own words: some of them repeat the headers.
            raise VenueError(f"{what}: no answer ({type(error).__name__})") from None
        self._metrics.add(REST_REQUESTS, VENUE, _outcome(response.status_code))
        _raise_for(response, what)
        try:
            answer = msgspec.json.decode(content)
        except (msgspec.MsgspecError, RecursionError):
            raise VenueError(f"{what}: the answer is not JSON ({len(content)} bytes)") from None
        if not isinstance(answer, dict):
            raise VenueError(f"{what}: the answer is no JSON object")
        return answer


async def _read(response: httpx.Response, what: str) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > LARGEST_ANSWER_BYTES:
            raise VenueError(f"{what}: the answer is larger than {LARGEST_ANSWER_BYTES:,} bytes")
    return bytes(content)


def _raise_for(response: httpx.Response, what: str) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status == _UNAUTHORIZED:
        raise TokenRefusedError(f"{what}: HTTP 401, the token is not accepted (any more)")
    if status == _FORBIDDEN and response.headers.get("cf-mitigated") == "challenge":
        raise VenueFatalError(
            f"{what}: HTTP 403 with a bot challenge; the token is not the reason. "
            "Open stockbit.com in a browser on this network once, or use another egress (STOCKBIT_PROXY)"
        )
    if status == _FORBIDDEN:
        raise VenueFatalError(f"{what}: HTTP 403, the venue's front end refuses this machine or this account")
    if status == _TOO_MANY:
        after = response.headers.get("retry-after", "").strip()
        raise VenueRateLimitedError(f"{what}: HTTP 429", float(after[:9]) if after.isdigit() else None)
    raise VenueError(f"{what}: HTTP {status}")


def _outcome(status: int) -> str:
    if status == httpx.codes.OK:
        return "ok"
    return "rate_limited" if status == _TOO_MANY else "refused" if status in (401, 403) else "failed"


def _find(answer: object, kind: str, depth: int = 0) -> str | None:
    """The token of this kind, wherever the answer has it: its exact place is not known.

    Seen in the sources: ``access_token`` as text, and ``access`` as an object that holds ``token``.
    """
    if not isinstance(answer, dict) or depth > _DEEPEST:
        return None
    for name in (f"{kind}_token", f"{kind}Token", kind):
        value = answer.get(name)
        if isinstance(value, dict):
            value = value.get("token")
        if isinstance(value, str) and value:
            return clean(value)
    found: Iterator[str | None] = (_find(value, kind, depth + 1) for value in answer.values())
    return next((token for token in found if token is not None), None)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
