"""What the running program asks of a venue, whatever its name: collect, tell, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from src.models.live import Standing
from src.models.streams import StreamKey

Work = tuple[str, Callable[[], Awaitable[None]]]
"""A task to be supervised, with its name."""


class Source(Protocol):
    """One venue of the running program. Nothing is opened before its works run."""

    @property
    def venue(self) -> str:
        """Name of the venue, the first part of its stream keys."""

    @property
    def off(self) -> str:
        """Why nothing is collected now (no credentials, switched off); empty when it is."""

    @property
    def is_connected(self) -> bool:
        """Whether the venue can be heard now."""

    def want(self, kinds_by_symbol: Mapping[str, frozenset[str]], /) -> None:
        """Collect these besides what is configured: kinds of topics by symbol."""

    def standing(self, kind: str, symbol: str, /) -> Standing:
        """How the venue answered to what a live client wants."""

    def streams(self) -> Sequence[StreamKey]:
        """Everything that is asked for; nothing while the source is off."""

    def works(self, stopping: asyncio.Event, /) -> Sequence[Work]:
        """The tasks to supervise; those with connections end with `close`, the others with ``stopping``."""

    async def close(self) -> None:
        """Say good-bye on all connections; safe to repeat."""

    def status(self) -> Mapping[str, Any]:
        """See `src.venues.report.pool_status`; with what the venue adds."""
