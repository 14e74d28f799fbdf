"""What the running program tells about itself; filled by the composition root, shown by the HTTP side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from msgspec import Struct


class Check(Struct, frozen=True):
    """One line of a health answer; ``text`` says what to do when ``ok`` is False."""

    name: str
    ok: bool
    text: str


class Health(Struct, frozen=True):
    """``ok``: everything fresh. ``degraded``: collecting, but something is stale, failed or behind. ``down``: not."""

    status: Literal["ok", "degraded", "down"]
    ready: bool
    checks: tuple[Check, ...]


class StatusSource(Protocol):
    """The running program, as the HTTP side sees it. Both answer from memory, at once."""

    def health(self) -> Health:
        """The state of health now."""

    def stats(self) -> Mapping[str, Any]:
        """Counters and freshness per connection, stream and stage; JSON-ready."""


class TraderControl(Protocol):
    """Adding and removing tracked traders while running. Addresses are lower-case ``0x`` + 40 hex."""

    async def add(self, addresses: list[str], *, source: str, tags: list[str]) -> int:
        """Track these; returns how many were new. Effective at once."""

    async def remove(self, addresses: list[str]) -> int:
        """Stop tracking these; returns how many were tracked."""
