"""Alpaca's market data over HTTP: historical trades with their pages, snapshots, gainers.

Every request is paid from a budget per minute. Keys travel in headers and never appear in texts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
from pydantic import SecretStr

from src.models.clock import Clock
from src.models.errors import VenueError, VenueRateLimitedError, VenueRequestError, WireError
from src.models.messages import Trade
from src.models.metrics import FRAMES_REJECTED, REST_REQUESTS, Metrics
from src.venues.alpaca import wire
from src.venues.alpaca.mapper import VENUE, AlpacaMapper
from src.venues.alpaca.times import rfc3339
from src.venues.budget import Budget
from src.venues.feed import VenueLimits
from src.venues.hyperliquid.answers import error_of_status, error_of_transport, new_client, read_bounded, shown

# docs.alpaca.markets, "About Market Data API": 200 requests a minute on the free plan, 10,000 on the paid one.
FREE_REQUESTS_PER_MINUTE = 200
PAGE_ROWS = 10_000
SYMBOLS_PER_REQUEST = 100
RECENT_SIP_S = 900.0
"""The free plan does not show the last 15 minutes of the SIP."""

REQUEST_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
ATTEMPTS = 4
BACKOFF_S, BACKOFF_CAP_S = 0.5, 8.0
LONGEST_WAIT_S = 60.0
"""A longer wait that the venue asks for is handed to the caller."""

_FORBIDDEN = 403
_RECENT_SIP = b"recent sip"
_T = TypeVar("_T")

_PAGE = msgspec.json.Decoder(wire.TradesPage)
_SNAPSHOTS = msgspec.json.Decoder(dict[str, wire.Snapshot | None])
_MOVERS = msgspec.json.Decoder(wire.Movers)


class RecentSipError(VenueRateLimitedError):
    """The free plan shows this part of the SIP only when it is 15 minutes old; ``retry_after_s`` says so."""


class AlpacaRest:
    """Typed access that never asks more often than allowed and maps every failure to the error tree.

    Every method raises `VenueRateLimitedError` (429 outlasted the attempts; `RecentSipError`), `VenueFatalError`
    (wrong key, certificate), `VenueRequestError` (the request itself is wrong) or `VenueError` (out of reach, or the
    answer is not understood). Without a client one is made; one passed in stays the caller's to close.
    """

    def __init__(
        self,
        api_url: str,
        *,
        key: SecretStr,
        secret: SecretStr,
        clock: Clock,
        metrics: Metrics,
        requests_per_minute: int = FREE_REQUESTS_PER_MINUTE,
        client: httpx.AsyncClient | None = None,
        proxy: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._url = api_url.rstrip("/")
        self._key, self._secret = key, secret
        self._clock = clock
        self._metrics = metrics
        self._budget = Budget(VenueLimits(messages_per_minute=requests_per_minute), clock=clock)
        self._client = client or new_client(self._url, proxy=proxy)
        self._owns_client = client is None
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._mapper = AlpacaMapper()

    async def close(self) -> None:
        """Let go of the connections; safe to repeat."""
        if self._owns_client:
            await self._client.aclose()

    async def trades(
        self, symbols: Sequence[str], start_ns: int, end_ns: int, *, feed: str, token: str | None = None
    ) -> tuple[Sequence[Trade], str | None]:
        """A page of trades between two times, both inclusive: by symbol, then by time; and the token of the next one.

        Amended rows are marked in `Trade.update`; rows that cannot be trades are left out and counted.
        """
        query = {
            "symbols": ",".join(symbols),
            "start": rfc3339(start_ns),
            "end": rfc3339(end_ns),
            "limit": str(PAGE_ROWS),
            "feed": feed,
            "sort": "asc",
        }
        if token is not None:
            query["page_token"] = token
        page = await self._get("/v2/stocks/trades", query, _PAGE)
        if page.next_page_token and page.next_page_token == token:
            raise VenueError("the history does not get on: a page names itself as the next one")
        return self._trades(page), page.next_page_token or None

    async def snapshots(self, symbols: Sequence[str], *, feed: str) -> dict[str, wire.Snapshot]:
        """The latest state of each symbol that the venue knows; more symbols are asked in several requests."""
        found: dict[str, wire.Snapshot] = {}
        for start in range(0, len(symbols), SYMBOLS_PER_REQUEST):
            query = {"symbols": ",".join(symbols[start : start + SYMBOLS_PER_REQUEST]), "feed": feed}
            answer = await self._get("/v2/stocks/snapshots", query, _SNAPSHOTS)
            found |= {symbol: snapshot for symbol, snapshot in answer.items() if snapshot is not None}
        return found

    async def gainers(self, most: int) -> Sequence[wire.Gainer]:
        """Stocks that gained most since the previous close, the best first (at most 50)."""
        query = {"top": str(max(1, min(most, 50)))}
        return (await self._get("/v1beta1/screener/stocks/movers", query, _MOVERS)).gainers

    def _trades(self, page: wire.TradesPage) -> list[Trade]:
        now_ms = self._clock.wall_ms()
        trades = []
        for symbol, rows in (page.trades or {}).items():
            for row in rows:
                try:
                    trades.append(self._mapper.historical(symbol, row, now_ms))
                except WireError as error:  # one odd row must not hide all others for ever
                    self._metrics.add(FRAMES_REJECTED, VENUE, error.reason)
        return trades

    async def _get(self, path: str, query: Mapping[str, str], decoder: msgspec.json.Decoder[_T]) -> _T:
        for attempt in range(ATTEMPTS):
            try:
                body = await self._attempt(path, query)
            except VenueError as error:
                wait_s = self._wait_before_retry(error, attempt)
                if wait_s is None:
                    raise
                await self._sleep(wait_s)
                continue
            try:
                return decoder.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise VenueError(f"{path}: the answer has another shape ({error}): {shown(body)}") from error
        raise AssertionError("unreachable: the last attempt returns or raises")  # pragma: no cover

    async def _attempt(self, path: str, query: Mapping[str, str]) -> bytes:
        while (wait_s := self._budget.acquire_message()) > 0:
            await self._sleep(min(wait_s, LONGEST_WAIT_S))
        try:
            body = await self._request(path, query)
        except VenueError as error:
            self._metrics.add(REST_REQUESTS, VENUE, _outcome(error))
            if isinstance(error, VenueRateLimitedError) and not isinstance(error, RecentSipError):
                self._budget.pause_messages(min(error.retry_after_s or BACKOFF_CAP_S, LONGEST_WAIT_S))
            raise
        self._metrics.add(REST_REQUESTS, VENUE, "ok")
        return body

    async def _request(self, path: str, query: Mapping[str, str]) -> bytes:
        what = f"{self._url}{path}"
        headers = {
            "APCA-API-KEY-ID": self._key.get_secret_value(),
            "APCA-API-SECRET-KEY": self._secret.get_secret_value(),
            "accept": "application/json",
        }
        try:
            async with (
                asyncio.timeout(REQUEST_TIMEOUT_S),
                self._client.stream("GET", f"{what}?{urlencode(query)}", headers=headers) as response,
            ):
                body = await read_bounded(response.aiter_bytes(), limit_bytes=MAX_ANSWER_BYTES, what=what)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise error_of_transport(error, what=what) from error
        if response.status_code == httpx.codes.OK:
            return body
        if response.status_code == _FORBIDDEN and _RECENT_SIP in body.lower():
            raise RecentSipError(f"{what}: {shown(body)}", RECENT_SIP_S)
        raise error_of_status(
            response.status_code, response.headers, body.strip(), what=what, wall_ms=self._clock.wall_ms()
        )

    def _wait_before_retry(self, error: VenueError, attempt: int) -> float | None:
        if attempt + 1 >= ATTEMPTS or not error.retryable:
            return None
        if isinstance(error, VenueRateLimitedError):
            wait_s = error.retry_after_s or 0.0
            return None if wait_s > LONGEST_WAIT_S else wait_s + self._rng.uniform(0, BACKOFF_S)
        return self._rng.uniform(0, min(BACKOFF_CAP_S, BACKOFF_S * 2**attempt))


def _outcome(error: VenueError) -> str:
    if isinstance(error, RecentSipError):
        return "too_recent"
    if isinstance(error, VenueRateLimitedError):
        return "rate_limited"
    if isinstance(error, VenueRequestError):
        return "bad_request"
    return "failed" if error.retryable else "refused"
