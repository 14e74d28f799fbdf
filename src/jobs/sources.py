"""All venues of one program, as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from src.jobs.source import Source, Work
from src.models.streams import StreamKey

SHARED = ("connections", "streams", "states")
"""What is told of all venues together; the rest of a venue's status stands under its own name."""


class Sources:
    """The venues in the order in which they are told; the first one is the program's main one."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def collecting(self) -> list[Source]:
        """Those that are not off."""
        return [source for source in self._sources if not source.off]

    def streams(self) -> tuple[StreamKey, ...]:
        """Everything that is asked for, of all venues."""
        return tuple(stream for source in self._sources for stream in source.streams())

    def works(self, stopping: asyncio.Event) -> list[Work]:
        """The tasks to supervise, of all venues."""
        return [work for source in self._sources for work in source.works(stopping)]

    async def close(self) -> None:
        """Say good-bye to all venues."""
        await asyncio.gather(*(source.close() for source in self._sources))

    def statuses(self) -> list[Mapping[str, Any]]:
        """The status of each venue that is not off."""
        return [source.status() for source in self.collecting]

    def status(self) -> dict[str, Any]:
        """Connections, streams and states of all venues together, and each venue's own under ``venues``.

        What the main venue says of itself stands on top as well: programs of before there were others read it there.
        """
        told = {source.venue: source.status() for source in self._sources}
        states: Counter[str] = Counter()
        for source in self.collecting:
            states.update(told[source.venue]["states"])
        running = [told[source.venue] for source in self.collecting]
        main = told[self._sources[0].venue] if self._sources else {}
        return {
            **main,
            "connections": [connection for one in running for connection in one["connections"]],
            "streams": {name: row for one in running for name, row in one["streams"].items()},
            "states": dict(states),
            "venues": {
                source.venue: {
                    "off": source.off,
                    "connected": source.is_connected,
                    **{name: value for name, value in told[source.venue].items() if name not in SHARED},
                }
                for source in self._sources
            },
        }
