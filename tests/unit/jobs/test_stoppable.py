"""Work that ends with the stop."""

import asyncio

import pytest

from src.jobs.stoppable import unless_stopped


async def test_work_that_ends_is_done():
    done = []

    async def work():
        done.append(1)

    assert await unless_stopped(work(), asyncio.Event())
    assert done == [1]


async def test_work_that_waits_for_ever_ends_with_the_stop():
    stopping, seen = asyncio.Event(), []

    async def work():
        stopping.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    assert not await asyncio.wait_for(unless_stopped(work(), stopping), 5)
    assert seen == ["ended"]


async def test_after_the_stop_nothing_is_begun():
    stopping, done = asyncio.Event(), []
    stopping.set()

    async def work():
        done.append(1)

    assert not await unless_stopped(work(), stopping)
    assert done == []


async def test_what_work_raises_is_raised():
    async def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await unless_stopped(work(), asyncio.Event())


async def test_being_cancelled_ends_the_work_too():
    started, ended = asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(unless_stopped(work(), asyncio.Event()))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert ended.is_set()
    assert task.cancelled()
