"""Work that ends with the stop, also while it waits for an answer, and waits that end with an event."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for ``event``, but at most ``seconds``; True as soon as it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def unless_stopped(work: Coroutine[object, object, None], stopping: asyncio.Event) -> bool:
    """Do ``work``, given up as soon as ``stopping`` is set (not begun when it is); True when it was done.

    What ``work`` raises is raised here. It must bear being cancelled.
    """
    if stopping.is_set():
        work.close()
        return False
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
