"""The live side around a venue that does what it is told, served on a real port."""

import asyncio
import json
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from src.api.app import create_app
from src.api.server import serve
from src.config import Settings
from src.core import build_core
from src.live import LiveSide
from src.models.live import ACCEPTED, WANTED, Standing
from src.models.messages import Book, Data, Gap, GapReason, Level, Trade
from src.models.metrics import Metrics
from src.models.status import Health
from src.models.streams import StreamKey
from src.store.memory import MemoryStore
from src.venues.clock import SystemClock

PATIENCE_S = 20.0


async def until(condition, timeout_s=30.0):
    """Wait until something is true."""
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class ScriptedSource:
    """A venue that accepts what is in ``accepts`` (None = everything) and tells what it was asked for."""

    def __init__(self, venue="hyperliquid", accepts=None):
        self.venue = venue
        self.accepts = accepts
        self.refuses = {}
        self.wanted = {}
        self.history = []
        self.is_connected = True

    def want(self, kinds_by_symbol):
        self.wanted = dict(kinds_by_symbol)
        self.history.append(self.wanted)

    def standing(self, kind, symbol):
        if symbol in self.refuses:
            return Standing("refused", "upstream_refused", self.refuses[symbol])
        if symbol not in self.wanted and symbol != "*":
            return WANTED
        return ACCEPTED if self.accepts is None or symbol in self.accepts else WANTED


class GatewayWorld:
    """What a test of the running gateway needs."""

    def __init__(self, source, core, side, clock, metrics, collecting):
        self.source, self.core, self.side, self.clock, self.metrics = source, core, side, clock, metrics
        self.collecting = collecting
        self.url = ""
        self._n = 0

    @property
    def gateway(self):
        return self.side.gateway

    def socket_url(self, path):
        return self.url.replace("http", "ws", 1) + path

    def book(self, symbol, price="100.5", *, venue="hyperliquid", time_ms=None, levels=1):
        """A newer book arrives from the venue."""
        self._n += 1
        now = self.clock.wall_ms()
        bids = tuple(Level(price, f"{i + 1}.0", 1) for i in range(levels))
        book = Book(venue, symbol, time_ms or now + self._n, now, bids, (Level("200.0", "2.5", 3),))
        self.core.pipeline.data(Data(StreamKey(venue, "l2Book", symbol), book.time_ms, (book,)))

    def trade(self, symbol, price="100.5", *, venue="hyperliquid", number=None):
        """A trade arrives from the venue."""
        self._n += 1
        now = self.clock.wall_ms()
        trade = Trade(venue, symbol, str(number or self._n), price, "3", "B", now, now)
        self.core.pipeline.data(Data(StreamKey(venue, "trades", symbol), now, (trade,)))

    def gap(self, symbol, reason=GapReason.DISCONNECT, channel="l2Book"):
        """A stream is no longer seen."""
        self.core.pipeline.gap(Gap((StreamKey("hyperliquid", channel, symbol),), reason, self.clock.wall_ms()))


class Status:
    def __init__(self, side):
        self.side = side

    def health(self):
        return Health("ok", ready=True, checks=())

    def stats(self):
        return {"gateway": self.side.stats()}


@asynccontextmanager
async def gateway_world(*, source=None, port=0, collecting=True, **settings):
    """The live side with these settings (in lower case), served and running."""
    clock, metrics, stopping = SystemClock(), Metrics(), asyncio.Event()
    settings = Settings(**{"gateway_batch_interval_ms": 20, **settings})
    core = build_core(settings, store=MemoryStore(), metrics=metrics, clock=clock)
    source = source or ScriptedSource()
    state = {"collecting": collecting}
    side = LiveSide(
        settings,
        sources=[source],
        hub=core.hub,
        pipeline=core.pipeline,
        clock=clock,
        metrics=metrics,
        is_collecting=lambda: state["collecting"],
    )
    app = create_app(
        status=Status(side),
        store=MemoryStore(),
        metrics=metrics,
        traders=None,
        token=settings.api_token,
        allowed_origins=settings.allowed_origins,
        clock=clock,
        version="1",
    )
    world = GatewayWorld(source, core, side, clock, metrics, state)
    faults = []
    async with serve(app, "127.0.0.1", port, socket_of=side.socket_of) as world.url, side.kept(faults.append):
        drain = asyncio.create_task(core.pipeline.run_drain(stopping))
        try:
            yield world
        finally:
            stopping.set()
            await drain
    assert faults == []


class Speaker:
    """A client that reads everything into ``messages``."""

    def __init__(self, socket):
        self.socket = socket
        self.messages = []
        self.frames = []
        self.closed = None
        self._new = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def say(self, **command):
        await self.socket.send(json.dumps(command))

    async def until(self, kind=None, count=1, **fields):
        """The ``count``-th message of this type with these fields, as soon as it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.found(kind, **fields)) < count:
                assert self.closed is None, f"closed with {self.closed}; had {self.messages}"
                self._new.clear()
                await self._new.wait()
        return found[count - 1]

    def found(self, kind=None, **fields):
        return [
            message
            for message in self.messages
            if (kind is None or message["type"] == kind) and fields.items() <= message.items()
        ]

    async def until_closed(self):
        """Close code and reason, once the server has closed."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(self._reader)
        return self.closed

    async def settled(self):
        """Everything that was on its way when this was called has arrived."""
        count = len(self.found("pong")) + 1
        await self.say(action="ping")
        await self.until("pong", count)

    async def close(self):
        await self.socket.close()
        self._reader.cancel()

    async def _read(self):
        try:
            async for frame in self.socket:
                self.frames.append(frame)
                parts = json.loads(frame)
                self.messages.extend(parts if isinstance(parts, list) else [parts])
                self._new.set()
        except ConnectionClosed:
            pass
        self.closed = (self.socket.close_code, self.socket.close_reason)
        self._new.set()


@asynccontextmanager
async def speaker(world, path="/ws", **options):
    """A connected client."""
    options = {"proxy": None, "compression": None, **options}
    async with connect(world.socket_url(path), **options) as socket:
        made = Speaker(socket)
        try:
            yield made
        finally:
            await made.close()
