"""Every long-lived task runs here: its death is logged once, counted, and answered with a restart or a stop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from src.models.clock import Clock
from src.models.errors import CollectorError
from src.models.metrics import TASK_FAILURES, Metrics

log = structlog.get_logger(__name__)

RESTART_DELAY_S = 1.0
MAX_FAILURES = 5
WINDOW_S = 300.0
"""More than `MAX_FAILURES` deaths within `WINDOW_S` and the program stops in order rather than limp on."""


class TaskDiedTooOftenError(CollectorError):
    """A supervised task kept dying; restarting it does not help."""


async def supervise(
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    metrics: Metrics,
    clock: Clock,
    restart_delay_s: float = RESTART_DELAY_S,
) -> None:
    """Run ``work`` until it returns; when it raises, start it again after a pause.

    Raises:
        TaskDiedTooOftenError: it raised more than `MAX_FAILURES` times within `WINDOW_S`.
    """
    deaths: deque[float] = deque()
    while True:
        try:
            await work()
        except Exception as error:  # the supervised boundary: whatever kills a task ends up here
            metrics.add(TASK_FAILURES, name)
            now = clock.monotonic()
            deaths.append(now)
            while deaths and now - deaths[0] > WINDOW_S:
                deaths.popleft()
            log.exception("task_died", task=name, deaths=len(deaths))
            if len(deaths) > MAX_FAILURES:
                raise TaskDiedTooOftenError(f"task {name} died {len(deaths)} times in {WINDOW_S:.0f} s") from error
            await asyncio.sleep(restart_delay_s)
        else:
            return
