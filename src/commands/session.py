"""What every command begins with: settings, logging, an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from src.config import Settings, load_settings
from src.logs import configure_logging


def read_settings(*, quiet: bool = False) -> Settings:
    """The settings, with logging set up; ``quiet`` leaves out what is not a warning unless asked for."""
    settings = load_settings()
    level = "warning" if quiet and settings.log_level == "info" else settings.log_level
    configure_logging(level=level, log_format=settings.log_format)
    return settings


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - optional: absent on Windows
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
