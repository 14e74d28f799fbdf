"""What could keep the program from working, looked at beforehand: one line per check, each with its remedy.

Every check is a small function that gets what it needs and returns lines; `checks_for` lists those for given
settings, `run_checks` runs them side by side, each with its own deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from src.config import Settings, load_settings
from src.jobs.doctor.lines import CheckLine
from src.jobs.doctor.machine import check_data_directory, check_http_port, check_limits
from src.jobs.doctor.mongodb import check_embedded_mongodb, check_mongodb
from src.jobs.doctor.venue import check_leaderboard, check_rest, check_websocket
from src.models.clock import Clock
from src.models.errors import CollectorError, ConfigurationError

CHECK_TIMEOUT_S = 20.0
MONGODB_TIMEOUT_S = 90.0
"""The embedded server may have to be started, and to recover its files first."""


class Check(NamedTuple):
    """One thing to look at: its name, the look, and how long that may take."""

    name: str
    look: Callable[[], Awaitable[Sequence[CheckLine]]]
    timeout_s: float = CHECK_TIMEOUT_S


async def examine(*, clock: Clock, directory: Path | None = None) -> list[CheckLine]:
    """Read the settings and check everything they ask for; wrong settings are reported alone, all at once."""
    try:
        settings = load_settings(directory)
    except ConfigurationError as error:
        return list(settings_lines(error, ()))
    return [*settings_lines(None, settings.notices), *await run_checks(checks_for(settings, clock=clock))]


def settings_lines(problem: ConfigurationError | None, notices: Sequence[str]) -> Iterator[CheckLine]:
    """One line per wrong setting, or that all are right, and one per oddity."""
    if problem is None:
        yield CheckLine("settings", "ok", "read, all values usable")
    else:
        lines = [line.strip() for line in str(problem).splitlines()[1:]] or [str(problem)]
        for line in lines:
            yield CheckLine("settings", "FAIL", line, "correct it in .env.local or the environment")
    for notice in notices:
        yield CheckLine("settings", "warn", notice)


def checks_for(settings: Settings, *, clock: Clock) -> list[Check]:
    """The checks that matter with these settings."""
    return [
        Check("data", lambda: check_data_directory(settings.data_dir)),
        Check("mongodb", lambda: _look_at_mongodb(settings, clock), MONGODB_TIMEOUT_S),
        *_venue_checks(settings, clock),
        Check("http", lambda: check_http_port(settings.http_host, settings.http_port)),
        Check("limits", check_limits),
    ]


async def run_checks(checks: Sequence[Check]) -> list[CheckLine]:
    """Run all at once; lines come in the order of the checks. Nothing a check does ends the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_bounded(check), name=f"doctor {check.name}") for check in checks]
    return [line for task in tasks for line in task.result()]


def exit_code(lines: Sequence[CheckLine]) -> int:
    """0 when nothing failed; warnings do not count."""
    return 1 if any(line.state == "FAIL" for line in lines) else 0


def _venue_checks(settings: Settings, clock: Clock) -> list[Check]:
    if not settings.hyperliquid_enabled:
        return [Check("hyperliquid", _say_disabled)]
    secret = settings.hyperliquid_proxy
    proxy = None if secret is None else secret.get_secret_value()
    needs_leaderboard = settings.trader_ws_enabled and not settings.hyperliquid_traders
    return [
        Check("rest", lambda: check_rest(settings.hyperliquid_api_url, proxy=proxy, clock=clock)),
        Check("websocket", lambda: check_websocket(settings.hyperliquid_ws_url, proxy=proxy, clock=clock)),
        Check(
            "leaderboard",
            lambda: check_leaderboard(
                settings.hyperliquid_stats_url, proxy=proxy, clock=clock, needed=needs_leaderboard
            ),
        ),
    ]


async def _look_at_mongodb(settings: Settings, clock: Clock) -> list[CheckLine]:
    uri = settings.mongodb_uri.get_secret_value()
    if uri:
        return await check_mongodb(uri, settings.mongodb_database, clock=clock, timeout_s=settings.mongodb_timeout_s)
    return await check_embedded_mongodb(
        settings.data_dir,
        settings.mongodb_database,
        cache_gib=settings.mongodb_cache_gb,
        clock=clock,
        timeout_s=settings.mongodb_timeout_s,
    )


async def _say_disabled() -> list[CheckLine]:
    return [CheckLine("hyperliquid", "skip", "HYPERLIQUID_ENABLED is false")]


async def _bounded(check: Check) -> Sequence[CheckLine]:
    try:
        async with asyncio.timeout(check.timeout_s):
            return await check.look()
    except TimeoutError:
        text = f"no result within {check.timeout_s:g} s"
        return [CheckLine(check.name, "FAIL", text, "look at network, proxy and load, then try again")]
    except CollectorError as error:
        return [CheckLine(check.name, "FAIL", " ".join(str(error).split()), "see the text")]
    except Exception as error:  # noqa: BLE001 - a fault of one check must not hide what the others found
        text = f"the check itself failed: {type(error).__name__}: {error}"
        return [CheckLine(check.name, "FAIL", text, "report this as a fault of the program")]
