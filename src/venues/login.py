"""Whether the venue has let one connection in: what the log-in waits for, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from src.models.messages import LoggedIn, LoginRefused, Welcome
from src.venues.feed import Feed, LoginFeed


class Login:
    """The log-in of one connection, anew for every socket; through at once for a venue that wants none."""

    def __init__(self, feed: Feed, *, on_refused: Callable[[], None]) -> None:
        """``on_refused`` is called when the venue refuses or ends it."""
        self.needed = isinstance(feed, LoginFeed)
        self.refused: LoginRefused | None = None
        self._feed = feed if isinstance(feed, LoginFeed) else None
        self._on_refused = on_refused
        self._greeted = asyncio.Event()
        self._through = asyncio.Event()

    @property
    def through(self) -> bool:
        """Whether subscriptions may be sent."""
        return not self.needed or self._through.is_set()

    def opened(self) -> None:
        """A new socket is open, and nobody has said anything on it."""
        self.refused = None
        self._greeted.clear()
        self._through.clear()

    def take(self, said: Welcome | LoggedIn | LoginRefused) -> None:
        """What the venue says about it."""
        match said:
            case Welcome():
                self._greeted.set()
            case LoggedIn():
                self._greeted.set()
                self._through.set()
            case LoginRefused():
                self.refused = said
                self._on_refused()

    async def frames(self) -> Sequence[str | bytes]:
        """What to send, once the venue is ready for it."""
        if self._feed is None:
            return ()
        if self._feed.greets:
            await self._greeted.wait()
        return () if self._through.is_set() else self._feed.login_frames()

    async def answer(self) -> None:
        """Wait until the venue let us in; a refusal ends the connection meanwhile."""
        if self.needed:
            await self._through.wait()
