"""Looks over REST, within the weight that others leave: the same streams and snapshots as over the WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import structlog
from msgspec import Struct, structs

from src.jobs.following.looks import Looks
from src.jobs.following.planner import Turn
from src.jobs.following.rings import Carousel
from src.jobs.following.rotation import NO_BOUND_S
from src.jobs.stoppable import is_set_within
from src.models.clock import Clock
from src.models.errors import VenueError, WireError
from src.models.messages import Data
from src.models.streams import StreamKey
from src.venues.feed import Feed, Sink
from src.venues.hyperliquid.rest import HyperliquidRest
from src.venues.hyperliquid.weight_budget import Priority
from src.venues.hyperliquid.weights import base_weight

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 4
IDLE_S = 1.0
FAILURE_LOG_EVERY_S = 300.0
_REQUESTS = {"openOrders": "frontendOpenOrders"}
"""Streams whose request has another name."""

_FIELDS = {"openOrders": "orders", "clearinghouseState": "clearinghouseState"}


class Request(Struct, frozen=True):
    """What to ask ``/info`` for to get the state of one stream."""

    stream: StreamKey

    @property
    def type(self) -> str:
        """Name of the request."""
        return _REQUESTS.get(self.stream.channel, self.stream.channel)

    def payload(self) -> dict[str, str]:
        """Body of the request."""
        dex = {"dex": self.stream.dex} if self.stream.dex else {}
        return {"type": self.type, "user": self.stream.subject, **dex}

    def frame(self, answer: bytes) -> bytes:
        """The answer as the WebSocket would have sent it, so that the same mapper reads it."""
        stream = self.stream
        field = _FIELDS.get(stream.channel)
        if field is None:
            return b'{"channel":"' + stream.channel.encode() + b'","data":' + answer + b"}"
        head = f'{{"channel":"{stream.channel}","data":{{"dex":"{stream.dex}","user":"{stream.subject}","{field}":'
        return head.encode() + answer + b"}}"


def poll_weight(streams: Sequence[StreamKey]) -> int:
    """Weight of one look at these streams."""
    return sum(base_weight(Request(stream).type) for stream in streams)


class Polling:
    """Asks for the traders of one ring, one after the other."""

    def __init__(
        self,
        *,
        streams: Callable[[str], Sequence[StreamKey]],
        rest: HyperliquidRest,
        feed: Feed,
        sink: Sink,
        looks: Looks,
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._rest = rest
        self._feed = feed
        self._sink = sink
        self._looks = looks
        self._clock = clock
        self._carousel = Carousel()
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._next_at = float("-inf")
        self._logged_at = float("-inf")

    @property
    def has_gone_round(self) -> bool:
        """Whether everybody had a turn since the ring was replaced."""
        return self._carousel.has_gone_round(self._clock.monotonic())

    def follow(self, turn: Turn) -> None:
        """Ask for these from now on, in this order and at this pace."""
        self._carousel.replace(turn.ring, turn.spacing_s, self._clock.monotonic())
        self._news.set()

    def hurry(self, trader: str) -> None:
        """Look at ``trader`` sooner than the order says."""
        self._carousel.hurry(trader)

    async def run(self, closing: asyncio.Event) -> None:
        """Ask until ``closing``; what is under way then is cut."""
        try:
            while not closing.is_set():
                await is_set_within(self._news, self._step())
                self._news.clear()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _step(self) -> float:
        """Begin what is due; returns seconds until there may be more."""
        now = self._clock.monotonic()
        if not len(self._carousel):
            return IDLE_S
        if now < self._next_at:
            return min(IDLE_S, self._next_at - now)
        if len(self._busy) >= MOST_AT_ONCE:
            return IDLE_S
        trader = self._carousel.next(now, self._looks.looked_at, self._busy)
        spacing_s = self._carousel.spacing_s
        self._next_at = max(self._next_at, now - spacing_s) + spacing_s
        if trader is not None:
            self._busy.add(trader)
            self._start(self._look(trader))
        return min(IDLE_S, max(0.0, self._next_at - now))

    def _start(self, look: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(look, name="poll")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, trader: str) -> None:
        """One whole look; what fails is told once in a while and repeated sooner than its turn."""
        try:
            for stream in self._streams(trader):
                self._hand_on(await self._ask(Request(stream)))
        except (VenueError, WireError) as error:
            self._looks.failed("poll", "failed")
            self._carousel.hurry(trader)
            now = self._clock.monotonic()
            if now - self._logged_at >= FAILURE_LOG_EVERY_S:
                self._logged_at = now
                log.warning("poll_failed", error=str(error)[:200])
        except Exception:  # a fault in one look must not end the others; told with its trace
            self._looks.failed("poll", "fault")
            log.exception("poll_fault")
        else:
            self._looks.looked(trader, "poll")
        finally:
            self._busy.discard(trader)
            self._news.set()

    async def _ask(self, request: Request) -> Data:
        body = await self._rest.info(request.payload(), priority=Priority.POLL)
        decoded = self._feed.decode(request.frame(body), self._clock.wall_ms())
        if not isinstance(decoded, Data) or decoded.stream != request.stream:
            raise WireError("unexpected_answer", f"{request.type}: {type(decoded).__name__}")
        return decoded

    def _hand_on(self, data: Data) -> None:
        trader = data.stream.subject
        if trader not in self._looks:
            return
        self._looks.saw(data)
        assignment = self._looks[trader].assignment
        if assignment is None or assignment.mode == "live":
            return  # seen all the time meanwhile
        within_s = NO_BOUND_S if assignment.within_s is None else assignment.within_s
        self._sink.data(structs.replace(data, within_s=within_s))
