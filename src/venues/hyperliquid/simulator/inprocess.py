"""The same venue without sockets: for code that runs in virtual time, where hours pass in seconds.

Market, protocol, limits and refusals are those of `HyperliquidSimulator`. Client addresses are names, so one process
can come from several; frames and answers take ``latency_s`` each way. Faults are not simulated here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from http import HTTPStatus

import httpx
import msgspec
from msgspec import Struct
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from src.models.clock import Clock
from src.venues.feed import Endpoint
from src.venues.hyperliquid.simulator.config import SimulatorConfig
from src.venues.hyperliquid.simulator.faults import Faults
from src.venues.hyperliquid.simulator.feeds import Publisher
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.limits import ClientUsage, LimitBook
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.requests import RequestHandler
from src.venues.hyperliquid.simulator.sessions import Session
from src.venues.hyperliquid.simulator.shapes import encode
from src.venues.hyperliquid.simulator.truth import DeliveryLog
from src.venues.timing import Timing
from src.venues.transport import Transport

PUMP_S = 0.1
_GOODBYE = Close(1000, "")


class Peaks(Struct):
    """The most that one address ever used at once."""

    connections: int = 0
    users: int = 0
    subscriptions: int = 0


class InProcessVenue:
    """A venue without sockets; `run` is its life.

    Attributes:
        market: the market; its ``truth`` holds every event.
        limits: limits and their use by client address.
        peaks: most ever used, by client address.
    """

    def __init__(self, config: SimulatorConfig, *, clock: Clock, latency_s: float = 0.05) -> None:
        self.config = config
        self.clock = clock
        self.latency_s = latency_s
        self.market = Market(config.market, clock.wall_ms())
        self.limits = LimitBook(config.limits)
        self.peaks: dict[str, Peaks] = {}
        self.sessions: dict[int, _MemorySession] = {}
        self.connects = 0
        payloads = Payloads(self.market)
        faults = Faults(list, clock.monotonic)
        self.info = InfoService(payloads)
        self._publisher = Publisher(config, payloads, faults, DeliveryLog(enabled=False))
        self._requests = RequestHandler(config, self.market, self._publisher, faults, self.info)

    @property
    def traders(self) -> list[str]:
        """Addresses of the simulated traders, the best first."""
        return list(self.market.traders)

    async def run(self) -> None:
        """Let the market live and send what is due, until cancelled."""
        while True:
            self.market.step(self.clock.wall_ms())
            self._publisher.publish(self.clock.monotonic())
            await asyncio.sleep(PUMP_S)

    async def connect(self, address: str, timing: Timing) -> Transport:
        """Open a WebSocket from this client address.

        Raises:
            InvalidStatus: 429, too many or too often.
        """
        del timing
        await asyncio.sleep(2 * self.latency_s)
        usage, now_s = self.limits.of(address), self.clock.monotonic()
        if not usage.may_connect(now_s):
            raise InvalidStatus(Response(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests", Headers(), b"null"))
        self.connects += 1
        usage.connections += 1
        session = _MemorySession(self.connects, usage, now_s)
        self.sessions[session.number] = session
        self.note_peaks(address, usage)
        return _MemoryTransport(self, session, address)

    def take(self, session: _MemorySession, address: str, frame: str | bytes) -> None:
        """A frame of a client arrives."""
        if session.number in self.sessions:
            self.market.step(self.clock.wall_ms())
            self._requests.handle(session, frame, self.clock.monotonic())
            self.note_peaks(address, session.usage)

    def drop(self, session: _MemorySession) -> None:
        """A connection has ended."""
        if self.sessions.pop(session.number, None) is not None:
            session.usage.connections -= 1
            self._requests.forget(session)

    def note_peaks(self, address: str, usage: ClientUsage) -> None:
        """Remember the most that is used at once."""
        peaks = self.peaks.setdefault(address, Peaks())
        peaks.connections = max(peaks.connections, usage.connections)
        peaks.users = max(peaks.users, len(usage.users))
        peaks.subscriptions = max(peaks.subscriptions, usage.subscriptions)


class InProcessRest(httpx.AsyncBaseTransport):
    """``POST /info`` of an `InProcessVenue`, asked from one client address."""

    def __init__(self, venue: InProcessVenue, address: str) -> None:
        self._venue = venue
        self._address = address

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer within two latencies, or with 429."""
        venue = self._venue
        await asyncio.sleep(venue.latency_s)
        body = msgspec.json.decode(await request.aread())
        usage, now_s = venue.limits.of(self._address), venue.clock.monotonic()
        if not usage.may_spend(now_s, venue.info.weight(body)):
            await asyncio.sleep(venue.latency_s)
            return httpx.Response(HTTPStatus.TOO_MANY_REQUESTS, content=b"null")
        venue.market.step(venue.clock.wall_ms())
        answer = venue.info.answer(body)
        usage.spend(now_s, answer.extra_weight)
        content = encode(answer.value)
        await asyncio.sleep(venue.latency_s)
        return httpx.Response(answer.status, content=content)


class InProcessOpener:
    """Opens transports from one client address; an `src.venues.transport.Opener`."""

    def __init__(self, venue: InProcessVenue, address: str) -> None:
        self._venue = venue
        self._address = address

    async def __call__(self, endpoint: Endpoint, timing: Timing) -> Transport:
        """Connect; where to is known already."""
        del endpoint
        return await self._venue.connect(self._address, timing)


class _MemorySession(Session):
    """A connection whose frames go into a queue."""

    def __init__(self, number: int, usage: ClientUsage, now_s: float) -> None:
        self.number = number
        self.usage = usage
        self.feeds = {}
        self.left_users = []
        self.muted = False
        self.abort_at_s = None
        self.last_sent_s = now_s
        self.posts = 0
        self.skipped = 0
        self.frames: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    @property
    def is_open(self) -> bool:
        """True while frames can be sent."""
        return not self.muted

    def send(self, data: bytes, now_s: float, *, binary: bool = False) -> bool:
        """Put a frame on its way."""
        del binary
        if self.muted:
            return False
        self.frames.put_nowait((now_s, data))
        self.last_sent_s = now_s
        return True

    def note(self, deliveries: object) -> None:
        """Nothing gets lost here."""

    def abort(self) -> None:
        """Cut the connection."""
        self.muted = True
        self.frames.put_nowait(None)


class _MemoryTransport:
    def __init__(self, venue: InProcessVenue, session: _MemorySession, address: str) -> None:
        self._venue = venue
        self._session = session
        self._address = address
        self._ended = False
        self._heard = 0

    @property
    def heard(self) -> int:
        return self._heard

    @property
    def closing(self) -> bool:
        return self._ended

    async def recv(self) -> tuple[bytes, bool]:
        item = None if self._ended else await self._session.frames.get()
        if item is None:
            self._end()
            raise ConnectionClosedOK(_GOODBYE, _GOODBYE, rcvd_then_sent=True)
        sent_at, data = item
        wait_s = sent_at + self._venue.latency_s - self._venue.clock.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._heard += 1
        return data, False

    async def send(self, frame: str | bytes) -> None:
        if self._ended:
            raise ConnectionClosedOK(_GOODBYE, _GOODBYE, rcvd_then_sent=True)
        loop = asyncio.get_running_loop()
        loop.call_later(self._venue.latency_s, self._venue.take, self._session, self._address, frame)

    async def ping(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        await asyncio.sleep(self._venue.latency_s)
        self._end()

    def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._venue.drop(self._session)
            self._session.abort()


def usage_of(venue: InProcessVenue) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Client addresses and how often each of their limits was hit."""
    for address in venue.peaks:
        yield address, dict(venue.limits.of(address).refused)
