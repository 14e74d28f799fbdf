"""Work that ends with the stop, and waits that end with an event."""

import asyncio

import pytest

from src.jobs.stoppable import is_set_within, unless_stopped


async def test_an_event_that_is_set_needs_no_time():
    event = asyncio.Event()
    event.set()
    assert await is_set_within(event, 0)


async def test_an_event_that_gets_set_ends_the_wait():
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await asyncio.wait_for(is_set_within(event, 60), 5)


async def test_an_event_that_nobody_sets_is_waited_for_so_long_only():
    event = asyncio.Event()
    assert not await asyncio.wait_for(is_set_within(event, 0.01), 5)
    assert not event.is_set()


async def test_a_wait_for_an_event_can_be_cancelled():
    waiting = asyncio.create_task(is_set_within(asyncio.Event(), 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting], timeout=5)
    assert waiting.cancelled()


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
