"""What we say on one connection: the log-in, subscriptions and pings, within the budget of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from src.venues.failures import EXPECTED_ERRORS, Failure, SocketEndedError, classify
from src.venues.feed import BatchFeed
from src.venues.ledger import Ledger
from src.venues.ledger_entry import Send
from src.venues.login import Login
from src.venues.parts import Parts
from src.venues.pulse import Pulse
from src.venues.transport import Transport


class Speaker:
    """Says what the ledger has to say; every method may raise `SocketEndedError`."""

    def __init__(self, parts: Parts, ledger: Ledger, login: Login) -> None:
        self._parts = parts
        self._ledger = ledger
        self._login = login
        self._batches = parts.feed if isinstance(parts.feed, BatchFeed) else None
        self._news = asyncio.Event()

    def news(self) -> None:
        """There may be something to say."""
        self._news.set()

    async def log_in(self, transport: Transport) -> None:
        """Return when the venue has let us in."""
        try:
            async with asyncio.timeout(self._parts.timing.login_deadline_s):
                await self._send_all(transport, await self._login.frames())
                await self._login.answer()
        except TimeoutError as error:
            raise SocketEndedError(Failure("login_timeout", "the venue did not answer our log-in")) from error

    async def subscribe(self, transport: Transport) -> None:
        """Say what the ledger wants said, for ever."""
        parts, ledger = self._parts, self._ledger
        while True:
            sends = ledger.next_sends()
            if not sends:
                await self._news.wait()
                self._news.clear()
                continue
            wait_s = parts.budget.acquire_message()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, parts.timing.tick_s))
                continue
            now = parts.clock.monotonic()
            for send in sends:
                ledger.sent(send, now)
            await self._send_all(transport, self._frames(sends), paid=1)
            await asyncio.sleep(0)

    async def ping(self, transport: Transport, pulse: Pulse, now: float) -> None:
        """Ping when it is time for it."""
        if not pulse.ping_due(now) or self._parts.budget.acquire_message(urgent=True) > 0:
            return
        pulse.pinged(now)
        await self._send(transport, self._parts.feed.ping_frame())

    def _frames(self, sends: Sequence[Send]) -> Sequence[str | bytes]:
        """What tells the venue of ``sends``; they are noted as sent already."""
        feed, batches = self._parts.feed, self._batches
        subscribing = sends[0].verb == "subscribe"
        members = [send.subscription for send in sends]
        if batches is None:
            frame_of = feed.subscribe_frame if subscribing else feed.unsubscribe_frame
            return [frame_of(member) for member in members]
        if batches.batching.whole:
            listed = self._ledger.listed()
            members, subscribing = listed or members, bool(listed)
        return batches.subscribe_frames(members) if subscribing else batches.unsubscribe_frames(members)

    async def _send_all(self, transport: Transport, frames: Sequence[str | bytes], *, paid: int = 0) -> None:
        """Send these; ``paid`` messages of the budget are taken already."""
        parts = self._parts
        for number, frame in enumerate(frames, start=1):
            wait_s = 0.0 if number <= paid else parts.budget.acquire_message()
            while wait_s > 0:
                await asyncio.sleep(min(wait_s, parts.timing.tick_s))
                wait_s = parts.budget.acquire_message()
            await self._send(transport, frame)

    async def _send(self, transport: Transport, frame: str | bytes | None) -> None:
        """Send ``frame``, or the protocol's ping for None."""
        try:
            async with asyncio.timeout(self._parts.timing.send_timeout_s):
                await (transport.ping() if frame is None else transport.send(frame))
        except EXPECTED_ERRORS as error:
            failure = Failure("send_timeout") if isinstance(error, TimeoutError) else classify(error)
            raise SocketEndedError(failure) from error
