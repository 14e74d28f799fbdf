"""Hands changes to whoever listens, right after the diff and before the flush."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from src.models.changes import Change
from src.models.metrics import TASK_FAILURES, Metrics

log = structlog.get_logger(__name__)

Listener = Callable[[Sequence[Change]], None]
"""Must return at once; what takes time goes into a bounded queue of the listener's own."""


class Hub:
    """A list of listeners. One that raises is removed, so that it cannot cost the others their data twice."""

    def __init__(self, *, metrics: Metrics) -> None:
        self._metrics = metrics
        self._listeners: list[tuple[str, Listener]] = []

    def listen(self, name: str, listener: Listener) -> None:
        """Add a listener; ``name`` appears in logs and counters."""
        self._listeners.append((name, listener))

    def publish(self, changes: Sequence[Change]) -> None:
        """Call every listener with these changes."""
        for name, listener in list(self._listeners):
            try:
                listener(changes)
            except Exception:  # a listener's fault must not stop the collection
                self._metrics.add(TASK_FAILURES, f"listener:{name}")
                log.exception("listener_removed", listener=name)
                self._listeners.remove((name, listener))
