"""What the running program tells about itself; filled by the composition root, shown by the HTTP side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct
from pydantic import SecretStr


class Check(Struct, frozen=True):
    """One line of a health answer; ``text`` says what to do when ``ok`` is False."""

    name: str
    ok: bool
    text: str


class Health(Struct, frozen=True):
    """``ok``: everything fresh. ``degraded``: collecting, but something is stale, failed or behind. ``down``: not.

    ``facts`` stand beside these in the answer: ``uptime_s``, ``redis``, ``feed_connected``.
    """

    status: Literal["ok", "degraded", "down"]
    ready: bool
    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = {}


class StatusSource(Protocol):
    """The running program, as the HTTP side sees it. Both answer from memory, at once."""

    def health(self) -> Health:
        """The state of health now."""

    def stats(self) -> Mapping[str, Any]:
        """Counters and freshness per connection, stream and stage; JSON-ready."""


class TokenFacts(Struct, frozen=True):
    """What may be told about tokens of a venue that were handed in: nothing of the tokens themselves.

    Attributes:
        expires_ms: when the access token ends, ms since 1970.
        can_refresh: it will be renewed before that.
        kept: it is on disk for the next start.
    """

    expires_ms: int
    can_refresh: bool
    kept: bool


class TokenControl(Protocol):
    """Taking tokens of a venue while running."""

    def hand_in(self, access: SecretStr, refresh: SecretStr | None) -> TokenFacts:
        """Use these from now on.

        Raises:
            ConfigurationError: they cannot be used; the text says why, without any of them.
        """


class TraderControl(Protocol):
    """Adding and removing tracked traders while running. Addresses are lower-case ``0x`` + 40 hex."""

    async def add(self, addresses: list[str], *, source: str, tags: list[str]) -> int:
        """Track these; returns how many were new. Effective at once."""

    async def remove(self, addresses: list[str]) -> int:
        """Stop tracking these; returns how many were tracked."""

    def view(self, address: str) -> Mapping[str, Any] | None:
        """How this trader is followed now: mode, age of the last look, bound. None when he is not."""


class StreamControl(Protocol):
    """Order-book sessions, as the HTTP side sees them; answers are JSON-ready.

    What cannot be done raises `src.models.errors.StreamRefusedError` with a text for the person who asked.
    """

    async def start(self, tickers: Sequence[str], *, venue: str, session_id: str | None) -> Mapping[str, Any]:
        """Begin a session; ``session_id`` None = choose one."""

    async def stop(self, session_id: str) -> Mapping[str, Any]:
        """End a session."""

    async def refresh(self, session_id: str) -> Mapping[str, Any]:
        """Begin a session anew."""

    def sessions(self) -> Sequence[Mapping[str, Any]]:
        """Statistics of all sessions."""

    def session(self, session_id: str) -> Mapping[str, Any] | None:
        """Statistics of one session, None when there is none of this id."""

    def market_status(self) -> Mapping[str, Any]:
        """What the exchange with trading hours does now."""
