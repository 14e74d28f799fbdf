"""Checks of Hyperliquid: REST, WebSocket, leaderboard, clock."""

from __future__ import annotations

from contextlib import aclosing
from typing import Literal

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from src.jobs.doctor.lines import CheckLine, clock_line
from src.models.clock import Clock
from src.models.errors import VenueError, VenueFatalError
from src.models.metrics import Metrics
from src.venues.hyperliquid.answers import is_loopback
from src.venues.hyperliquid.leaderboard import stream_leaderboard
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import WeightBudget

CLOCK_WARN_MS = 2000.0
_PING = '{"method":"ping"}'
_MOST_FRAMES_BEFORE_PONG = 20
_NETWORK = "check the network, the proxy (HYPERLIQUID_EGRESS) and whether the venue is up"


async def check_rest(api_url: str, *, proxy: str | None, clock: Clock) -> list[CheckLine]:
    """Ask ``exchangeStatus``, and compare our clock with the venue's."""
    rest = HyperliquidRest(api_url, clock=clock, metrics=Metrics(), budget=WeightBudget(clock=clock), proxy=proxy)
    try:
        started = clock.monotonic()
        status = await rest.exchange_status()
        round_trip_s = clock.monotonic() - started
        middle_ms = clock.wall_ms() - round_trip_s * 500
    except VenueError as error:
        remedy = "see the text" if isinstance(error, VenueFatalError) else f"{_NETWORK}; HYPERLIQUID_API_URL"
        return [CheckLine("rest", "FAIL", str(error), remedy)]
    finally:
        await rest.close()
    lines = [CheckLine("rest", "ok", f"{api_url} answered in {round_trip_s * 1000:.0f} ms")]
    if status.specialStatuses:
        lines.append(
            CheckLine("venue", "warn", f"special status: {status.specialStatuses}", "wait: it is the venue's")
        )
    remedy = "set the clock of this machine by NTP: receipt times and freshness depend on it"
    offset_ms = status.time - middle_ms
    lines.append(clock_line("clock", "the venue", offset_ms, warn_above_ms=CLOCK_WARN_MS, remedy=remedy))
    return lines


async def check_websocket(
    ws_url: str, *, proxy: str | None, clock: Clock, timeout_s: float = 10.0
) -> list[CheckLine]:
    """Open a connection, send the venue's ping, wait for its pong."""
    through: str | Literal[True] | None = None if is_loopback(ws_url) else (proxy or True)
    try:
        async with connect(
            ws_url, open_timeout=timeout_s, close_timeout=1, proxy=through, compression=None
        ) as socket:
            started = clock.monotonic()
            await socket.send(_PING)
            for _ in range(_MOST_FRAMES_BEFORE_PONG):
                if _is_pong(await socket.recv()):
                    text = f"{ws_url} answered the ping in {(clock.monotonic() - started) * 1000:.0f} ms"
                    return [CheckLine("websocket", "ok", text)]
    except (OSError, WebSocketException, ValueError, TimeoutError) as error:
        text = f"{ws_url}: {type(error).__name__}: {' '.join(str(error).split())}"
        return [CheckLine("websocket", "FAIL", text, f"{_NETWORK}; HYPERLIQUID_WS_URL")]
    remedy = "check that HYPERLIQUID_WS_URL is the address of a Hyperliquid WebSocket"
    return [CheckLine("websocket", "FAIL", f"{ws_url} is open but does not answer a ping", remedy)]


async def check_leaderboard(
    stats_url: str, *, proxy: str | None, clock: Clock, needed: bool, timeout_s: float = 10.0
) -> list[CheckLine]:
    """Read the first row of the leaderboard; only a start without traders of one's own ``needed`` it."""
    rows = stream_leaderboard(stats_url, clock=clock, metrics=Metrics(), proxy=proxy, timeout_s=timeout_s)
    try:
        async with aclosing(rows):
            async for _ in rows:
                return [CheckLine("leaderboard", "ok", f"{stats_url}/leaderboard is readable")]
        problem = f"{stats_url}/leaderboard holds no rows"
    except VenueError as error:
        problem = str(error)
    remedy = "set HYPERLIQUID_TRADERS, or check HYPERLIQUID_STATS_URL and the network"
    if needed:
        return [CheckLine("leaderboard", "FAIL", problem, remedy)]
    return [CheckLine("leaderboard", "warn", problem, "not needed while HYPERLIQUID_TRADERS names traders")]


def _is_pong(frame: str | bytes) -> bool:
    try:
        message = msgspec.json.decode(frame)
    except msgspec.DecodeError:
        return False
    return isinstance(message, dict) and message.get("channel") == "pong"
