"""What the running program asks of a venue, whatever its name: collect, tell, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from src.jobs.live.live import LiveSource
from src.models.streams import StreamKey

Work = tuple[str, Callable[[], Awaitable[None]]]
"""A task to be supervised, with its name."""


class Source(LiveSource, Protocol):
    """One venue of the running program. Nothing is opened before its works run."""

    @property
    def off(self) -> str:
        """Why nothing is collected now (no credentials, switched off); empty when it is."""

    def streams(self) -> Sequence[StreamKey]:
        """Everything that is asked for; nothing while the source is off."""

    def works(self, stopping: asyncio.Event, /) -> Sequence[Work]:
        """The tasks to supervise; those with connections end with `close`, the others with ``stopping``."""

    async def close(self) -> None:
        """Say good-bye on all connections; safe to repeat."""

    def status(self) -> Mapping[str, Any]:
        """See `src.venues.report.pool_status`; with what the venue adds."""
