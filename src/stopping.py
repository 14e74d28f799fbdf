"""What a signal means: the first one stops the program in order and in time, the second one at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import structlog

from src.store.embedded import EmbeddedServer

log = structlog.get_logger(__name__)

EXIT_AT_ONCE = 130

ECHO_S = 1.0
"""A signal so soon after the first is its echo: ``uv run`` hands on a Ctrl-C that the terminal told us already."""


class Stop:
    """The program's wish to stop, and the time by which it has to be over.

    Attributes:
        event: set by the first signal, or by a fault that leaves nothing else to do.
        opening: the task that opens the database, while it does; a signal cancels it.
        embedded: the embedded server, once it runs; asked to stop when everything ends at once.
        unstored: how many changes would be lost now.
        ends_at: time of the event loop by which the stop has to be over; infinite before `begin`.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.opening: asyncio.Task[object] | None = None
        self.embedded: EmbeddedServer | None = None
        self.unstored: Callable[[], int] = lambda: 0
        self.ends_at = float("inf")
        self._first_at = 0.0

    def install(self) -> None:
        """Take over SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    def begin(self, timeout_s: float) -> None:
        """From now on the stop may take ``timeout_s``."""
        self.ends_at = asyncio.get_running_loop().time() + timeout_s

    def time_left_s(self) -> float:
        """What is left of that; negative when it is over."""
        return self.ends_at - asyncio.get_running_loop().time()

    def _on_signal(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self.event.is_set():
            self._first_at = now
            log.info("stopping", hint="storing what is pending; once more to stop at once")
            self.event.set()
            if self.opening is not None:
                self.opening.cancel()
            return
        if now - self._first_at < ECHO_S:
            return
        log.warning("stopped_at_once", changes_not_stored=self.unstored())
        if self.embedded is not None:
            with contextlib.suppress(OSError):  # it may be dead already
                os.kill(self.embedded.pid, signal.SIGTERM)  # it stops cleanly by itself; another user starts it again
        sys.stderr.flush()
        os._exit(EXIT_AT_ONCE)
