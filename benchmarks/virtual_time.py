"""An event loop whose time jumps to the next timer, and a clock that reads it: hours pass in seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

START_MS = 1_790_000_000_000
T = TypeVar("T")


class LoopClock:
    """The running loop's time as an `src.models.clock.Clock`."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return START_MS + round(asyncio.get_running_loop().time() * 1000)


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: tells the loop how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: Callable[[float], None] = lambda _: None

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that will never happen"
            self.waited(timeout)
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.waited = self._jump
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += max(0.0, seconds)


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; no sockets, no threads."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(coroutine)
