"""An event loop whose time jumps to the next timer: hours of waiting in milliseconds, the same every time."""

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: tells the loop how long it would have waited."""

    def __init__(self):
        super().__init__()
        self.waited = lambda seconds: None

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that will never happen"
            self.waited(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code that waits by timers alone (no sockets, no threads)."""

    def __init__(self):
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.waited = self._jump
        self._now = 0.0

    def time(self):
        return self._now

    def _jump(self, seconds):
        self._now += max(0.0, seconds)


def run_virtually(coroutine):
    """Run to the end in virtual time; returns the result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
