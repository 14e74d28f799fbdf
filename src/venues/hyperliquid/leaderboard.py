"""The venue's leaderboard file: about 25 MB and 30-39 thousand rows, read row by row and never held whole.

The file (``<stats url>/leaderboard``) is not documented and carries no promise; everything in a row but its address
and account value is therefore optional, and a row that cannot be read is counted and skipped.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import httpx
import ijson

from src.models.clock import Clock
from src.models.errors import VenueError, VenueRateLimitedError
from src.models.filters import Filter
from src.models.metrics import FRAMES_REJECTED, REST_REQUESTS, Metrics
from src.venues.hyperliquid.answers import error_of_status, error_of_transport, new_client, read_bounded
from src.venues.hyperliquid.ranking import LeaderboardRow, Ranking, WindowPerformance

VENUE = "hyperliquid"
MAX_FILE_BYTES = 256 * 1024 * 1024
"""Ten times the file of 2026: above this it is not the leaderboard any more."""

SLICE_BYTES = 32 * 1024
"""Parsed between two turns of the event loop; about a millisecond of work."""

DOWNLOAD_TIMEOUT_S = 180.0
ATTEMPTS = 3
RETRY_DELAY_S = 2.0
LONGEST_WAIT_S = 60.0
MIN_ACCOUNT_VALUE = 100_000.0
"""USD. Below it a month's profit says more about luck with a small stake than about trading."""

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_ERROR_BODY_BYTES = 64 * 1024
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_ROWS_PATH = "leaderboardRows.item"


async def stream_leaderboard(
    stats_url: str,
    *,
    clock: Clock,
    metrics: Metrics,
    client: httpx.AsyncClient | None = None,
    proxy: str | None = None,
    timeout_s: float = DOWNLOAD_TIMEOUT_S,
    max_bytes: int = MAX_FILE_BYTES,
) -> AsyncGenerator[LeaderboardRow, None]:
    """Rows of the leaderboard in the file's order, while it is being downloaded; close the iterator to stop early.

    Unreadable rows are skipped and counted. The event loop gets a turn after each 32 KiB. Without a client
    one is made that goes through ``proxy``; a client passed in stays the caller's to close.

    Raises:
        VenueError: out of reach, too slow, larger than ``max_bytes``, cut off, or not the leaderboard; rows may have
            been handed out before.
    """
    url = stats_url.rstrip("/") + "/leaderboard"
    own = client or new_client(url, timeout=_TIMEOUT, proxy=proxy)
    try:
        async with own.stream("GET", url, headers={"accept": "application/json"}) as response:
            if response.status_code != httpx.codes.OK:
                raise await _refusal(response, url, clock)
            # A deadline that is looked at, not a timeout scope: that would cancel whoever consumes this iterator.
            chunks = _slices(response, url, clock, deadline_s=clock.monotonic() + timeout_s, max_bytes=max_bytes)
            async with aclosing(chunks), aclosing(_parse(chunks, url)) as items:
                async for item in items:
                    row = read_row(item)
                    if row is None:
                        metrics.add(FRAMES_REJECTED, VENUE, "leaderboard_row")
                    else:
                        yield row
        metrics.add(REST_REQUESTS, VENUE, "ok")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        metrics.add(REST_REQUESTS, VENUE, "failed")
        raise error_of_transport(error, what=url) from error
    except VenueError:
        metrics.add(REST_REQUESTS, VENUE, "failed")
        raise
    finally:
        if client is None:
            await own.aclose()


async def top_traders(
    stats_url: str,
    n: int,
    *,
    clock: Clock,
    metrics: Metrics,
    min_account_value: float = MIN_ACCOUNT_VALUE,
    client: httpx.AsyncClient | None = None,
    proxy: str | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    timeout_s: float = DOWNLOAD_TIMEOUT_S,
) -> list[LeaderboardRow]:
    """The ``n`` best rows by `src.venues.hyperliquid.ranking.score`, best first; fewer when the file has fewer.

    Accounts worth less than ``min_account_value`` USD, or without volume in the last week (who does not trade gives
    nothing to collect), come after all others, so a small file still gives ``n`` traders. Memory is bounded by ``n``.

    Raises:
        VenueError: every attempt failed, or the file held no usable row.
    """
    filters = (Filter("accountValue", ">=", min_account_value), Filter("week.vlm", ">", 0.0))
    ranking = await read_ranking(
        stats_url,
        lambda: Ranking(n, filters=filters, admitted_only=False),
        clock=clock,
        metrics=metrics,
        client=client,
        proxy=proxy,
        sleep=sleep,
        timeout_s=timeout_s,
    )
    best = [ranked.row for ranked in ranking.best()]
    if not best:
        raise VenueError(f"{stats_url}/leaderboard holds no usable row; set HYPERLIQUID_TRADERS instead")
    return best


async def read_ranking(
    stats_url: str,
    begin: Callable[[], Ranking],
    *,
    clock: Clock,
    metrics: Metrics,
    client: httpx.AsyncClient | None = None,
    proxy: str | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    timeout_s: float = DOWNLOAD_TIMEOUT_S,
) -> Ranking:
    """Let every row of the file pass by a ranking; ``begin`` makes one for each attempt.

    A download that fails in a way that may pass is started again, a few times.

    Raises:
        VenueError: every attempt failed.
    """
    for attempt in range(1, ATTEMPTS + 1):
        rows = stream_leaderboard(
            stats_url, clock=clock, metrics=metrics, client=client, proxy=proxy, timeout_s=timeout_s
        )
        ranking = begin()
        try:
            async with aclosing(rows):
                async for row in rows:
                    ranking.take(row)
        except VenueError as error:
            if not error.retryable or attempt == ATTEMPTS:
                raise
            await sleep(_retry_delay_s(error, attempt))
        else:
            return ranking
    raise AssertionError("unreachable: the last attempt returns or raises")  # pragma: no cover


def read_row(item: object) -> LeaderboardRow | None:
    """One row of the file, or None when its address or account value cannot be read."""
    if not isinstance(item, Mapping):
        return None
    address = item.get("ethAddress")
    account_value = _number(item.get("accountValue"))
    if not isinstance(address, str) or account_value is None or not _ADDRESS.fullmatch(address.lower()):
        return None
    windows = _windows(item.get("windowPerformances"))
    name = item.get("displayName")
    return LeaderboardRow(
        address=address.lower(),
        account_value=account_value,
        day=windows.get("day"),
        week=windows.get("week"),
        month=windows.get("month"),
        all_time=windows.get("allTime"),
        display_name=name[:100] if isinstance(name, str) else None,
    )


def _retry_delay_s(error: VenueError, attempt: int) -> float:
    delay_s = RETRY_DELAY_S * attempt
    if isinstance(error, VenueRateLimitedError) and error.retry_after_s is not None:
        delay_s = max(delay_s, min(error.retry_after_s, LONGEST_WAIT_S))
    return delay_s * random.uniform(1.0, 1.5)  # noqa: S311 - spreads retries, guards nothing


async def _slices(
    response: httpx.Response, url: str, clock: Clock, *, deadline_s: float, max_bytes: int
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise VenueError(f"{url}: larger than {max_bytes:,} bytes, reading stopped")
        if clock.monotonic() > deadline_s:
            raise VenueError(f"{url}: not finished in time, stopped after {size:,} bytes")
        for start in range(0, len(chunk), SLICE_BYTES):
            yield chunk[start : start + SLICE_BYTES]
            await asyncio.sleep(0)


async def _parse(slices: AsyncIterator[bytes], url: str) -> AsyncGenerator[object, None]:
    """Parse while downloading; ``ijson`` pushes finished rows into ``ready`` as bytes are sent to it."""
    ready = ijson.sendable_list()
    parser = ijson.items_coro(ready, _ROWS_PATH, use_float=True)
    size = 0
    try:
        async for data in slices:
            parser.send(data)
            size += len(data)
            for item in ready:
                yield item
            ready.clear()
        parser.close()
    except (ijson.JSONError, ValueError, OverflowError, StopIteration) as error:
        detail = " ".join(str(error).split())[:120]
        raise VenueError(f"{url}: not the leaderboard, or cut off after {size:,} bytes: {detail}") from error


async def _refusal(response: httpx.Response, url: str, clock: Clock) -> VenueError:
    body = await read_bounded(response.aiter_bytes(), limit_bytes=_ERROR_BODY_BYTES, what=url)
    return error_of_status(response.status_code, response.headers, body.strip(), what=url, wall_ms=clock.wall_ms())


def _windows(value: object) -> dict[str, WindowPerformance]:
    found: dict[str, WindowPerformance] = {}
    if not isinstance(value, list):
        return found
    for pair in value:
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str):  # noqa: PLR2004 - [name, figures]
            figures = _performance(pair[1])
            if figures is not None:
                found[pair[0]] = figures
    return found


def _performance(value: object) -> WindowPerformance | None:
    if not isinstance(value, Mapping):
        return None
    pnl, roi, vlm = (_number(value.get(field)) for field in ("pnl", "roi", "vlm"))
    if pnl is None or vlm is None:
        return None
    return WindowPerformance(pnl=pnl, roi=0.0 if roi is None else roi, vlm=vlm)


def _number(value: Any) -> float | None:
    """A finite number written as text or as a number; None for anything else (NaN and infinity sort nowhere)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
