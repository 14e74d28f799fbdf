"""A supervised task that dies is started again; one that keeps dying stops the program in order."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from src.models.clock import ManualClock
from src.models.metrics import TASK_FAILURES, Metrics
from src.pipeline.supervise import MAX_FAILURES, WINDOW_S, TaskDiedTooOftenError, supervise


class Work:
    """Raises what ``script`` says, one per run; None means it returns."""

    def __init__(self, *script: BaseException | None, clock: ManualClock | None = None, takes_s: float = 0.0) -> None:
        self.runs = 0
        self._script = list(script)
        self._clock = clock
        self._takes_s = takes_s

    async def __call__(self) -> None:
        self.runs += 1
        if self._clock is not None:
            self._clock.advance(self._takes_s)
        error = self._script.pop(0) if self._script else None
        if error is not None:
            raise error


async def run(work: Work, metrics: Metrics, clock: ManualClock | None = None) -> None:
    with capture_logs():
        await supervise("task", work, metrics=metrics, clock=clock or ManualClock(), restart_delay_s=0)


async def test_a_task_that_returns_is_not_started_again():
    work, metrics = Work(), Metrics()
    await run(work, metrics)
    assert work.runs == 1
    assert metrics.total(TASK_FAILURES) == 0


async def test_a_task_that_dies_is_started_again_and_counted():
    work, metrics = Work(RuntimeError("one"), ValueError("two")), Metrics()
    await run(work, metrics)
    assert work.runs == 3
    assert metrics.value(TASK_FAILURES, "task") == 2


async def test_each_death_is_logged_once_with_its_cause():
    work = Work(RuntimeError("one"))
    with capture_logs() as logs:
        await supervise("task", work, metrics=Metrics(), clock=ManualClock(), restart_delay_s=0)
    assert [(entry["event"], entry["task"], entry["deaths"]) for entry in logs] == [("task_died", "task", 1)]


async def test_a_task_that_dies_too_often_ends_it():
    work, metrics = Work(*[RuntimeError("again")] * 20), Metrics()
    with pytest.raises(TaskDiedTooOftenError, match="task died 6 times"):
        await run(work, metrics)
    assert work.runs == MAX_FAILURES + 1


async def test_deaths_long_ago_are_forgiven():
    clock = ManualClock()
    work = Work(*[RuntimeError("again")] * 20, clock=clock, takes_s=WINDOW_S / MAX_FAILURES + 1)
    await run(work, Metrics(), clock)
    assert work.runs == 21


async def test_deaths_of_a_task_group_count_like_any_other():
    work, metrics = Work(ExceptionGroup("two", [RuntimeError("a"), ValueError("b")])), Metrics()
    await run(work, metrics)
    assert metrics.value(TASK_FAILURES, "task") == 1


async def test_a_cancelled_task_is_not_started_again():
    started, metrics = asyncio.Event(), Metrics()

    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(supervise("task", endless, metrics=metrics, clock=ManualClock()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metrics.total(TASK_FAILURES) == 0
