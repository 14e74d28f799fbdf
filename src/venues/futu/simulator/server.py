"""The simulated gateway: accepts, answers requests, pushes books."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import structlog

from src.models.clock import Clock
from src.models.errors import WireError
from src.venues.clock import SystemClock
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire
from src.venues.futu.codec import FORMAT_PROTOBUF, Frame, Splitter, pack, unpack
from src.venues.futu.simulator.answers import Answers
from src.venues.futu.simulator.client import GatewayClient
from src.venues.futu.simulator.config import GatewayConfig
from src.venues.futu.simulator.faults import GatewayFaults
from src.venues.futu.simulator.market import GatewayMarket, SimulatedBook, push_body
from src.venues.futu.simulator.subscriptions import SubscriptionBook

_READ_BYTES = 65_536

KICKED_OUT = 7
REMEMBERED_REQUESTS = 10_000

log = structlog.get_logger(__name__)


class FutuSimulator:
    """``async with FutuSimulator(config) as gateway``: serves on ``gateway.host``, ``gateway.port``.

    Attributes:
        faults: switched at any time.
        connects: connections accepted so far.
        requests: (connection number, frame) of what was received last.
        failure: what ended the pushing task, None while all is well.
    """

    def __init__(self, config: GatewayConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or GatewayConfig()
        self.faults = GatewayFaults()
        self.clock = clock or SystemClock()
        self.market = GatewayMarket(self.config.symbols, seed=self.config.seed, depth=self.config.depth)
        self.subscriptions = SubscriptionBook(self.config)
        self.clients: dict[int, GatewayClient] = {}
        self.connects = 0
        self.requests: deque[tuple[int, Frame]] = deque(maxlen=REMEMBERED_REQUESTS)
        self.failure: BaseException | None = None
        self._answers = Answers(self)
        self._server: asyncio.Server | None = None
        self._pusher: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        for symbol in self.config.symbols:
            self.market.step(symbol, 0)  # what a gateway has from before its start carries no time
        self._server = await asyncio.start_server(self._serve, self.config.host, self.config.port)
        self._pusher = asyncio.create_task(self._push_forever(), name="futu-simulator-pusher")
        self._pusher.add_done_callback(self._note_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        assert self._server is not None
        assert self._pusher is not None
        self._server.close()
        self._pusher.cancel()
        for client in list(self.clients.values()):
            client.reset()
        await asyncio.gather(self._pusher, *self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.config.host

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    # -- what a test or the demo can make happen ---------------------------------------------------------------------

    def push(self, symbol: str, book: SimulatedBook | None = None) -> SimulatedBook:
        """Let ``symbol`` move (or set ``book``) and push it to whoever is registered."""
        if book is None:
            book = self.market.step(symbol, self.clock.wall_ms())
        else:
            self.market.put(book)
        if not self.faults.logged_out and symbol not in self.faults.mute:
            self._push_to(self.subscriptions.receivers(symbol), book)
        return book

    def notify_event(self, event: int, text: str = "") -> None:
        """Tell every client of a gateway event."""
        said = pb.Notify.S2C(type=wire.NOTIFY_EVENT, event=pb.Notify.GatewayEvent(eventType=event, desc=text))
        self._notify(said)

    def kick_out(self) -> None:
        """Another login took the session over: a notice, then nothing is pushed any more while TCP lives."""
        self.faults.logged_out = True
        self.notify_event(KICKED_OUT, "kicked out by another login")

    def lose_login(self) -> None:
        """The session with the vendor is gone; told as a state of the connection."""
        self.faults.logged_out = True
        self._notify_login()

    def log_in_again(self) -> None:
        """The session with the vendor is back."""
        self.faults.logged_out = False
        self._notify_login()

    def cut_inside_a_frame(self) -> None:
        """Every client gets half of a push, then the end."""
        symbol = self.config.symbols[0]
        body = push_body(self.market.books[symbol]).SerializeToString()
        for client in list(self.clients.values()):
            client.cut_inside(pack(Frame(wire.ORDER_BOOK_PUSH, 0, body, FORMAT_PROTOBUF)))

    def reset_all(self) -> None:
        """Every connection ends without a word."""
        for client in list(self.clients.values()):
            client.reset()

    def send_unknown_protocol(self) -> None:
        """Every client gets a push of a kind it never heard of."""
        for client in self.clients.values():
            client.send(3452, 0, pb.Verdict(retType=0))

    def first_push(self, client: GatewayClient, symbols: Iterable[str]) -> None:
        """What the gateway has already, sent right after a subscription."""
        if self.faults.logged_out:
            return
        for symbol in symbols:
            book = self.market.books.get(symbol)
            if book is not None:
                self._push_to([client.number], book)

    # -- connections -------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        if self.faults.accept_then_close:
            writer.close()
            return
        client = GatewayClient(self.connects, writer, self.faults)
        self.clients[client.number] = client
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        sender = asyncio.create_task(client.write_forever(), name=f"futu-simulator-sender-{client.number}")
        try:
            await self._read(client, reader)
        except (ConnectionError, WireError) as error:
            log.debug("simulated_gateway_lost_client", client=client.number, error=str(error))
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            del self.clients[client.number]
            self.subscriptions.disconnected(client.number, self.clock.monotonic())
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, client: GatewayClient, reader: asyncio.StreamReader) -> None:
        splitter = Splitter()
        while piece := await reader.read(_READ_BYTES):
            splitter.feed(piece)
            while (raw := splitter.take()) is not None:
                frame = unpack(raw)
                self.requests.append((client.number, frame))
                if not client.logged_in and frame.protocol != wire.INIT_CONNECT:
                    await client.flush()
                    return
                self._answers.answer(client, frame)

    async def _push_forever(self) -> None:
        while True:
            await asyncio.sleep(self.config.push_every_s or 3600.0)
            for symbol in self.config.symbols:
                self.push(symbol)

    def _push_to(self, numbers: Iterable[int], book: SimulatedBook) -> None:
        body = push_body(book, times=self.config.server_times)
        for number in numbers:
            client = self.clients.get(number)
            if client is not None:
                client.send(wire.ORDER_BOOK_PUSH, 0, body)

    def _notify_login(self) -> None:
        logged_in = not self.faults.logged_out
        status = pb.Notify.ConnectStatus(qotLogined=logged_in, trdLogined=False)
        self._notify(pb.Notify.S2C(type=wire.NOTIFY_CONNECTION, connectStatus=status))

    def _notify(self, said: pb.Notify.S2C) -> None:
        for client in self.clients.values():
            client.send(wire.NOTIFY, 0, pb.Notify.Response(retType=wire.RET_OK, s2c=said))

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = error
            log.error("futu_simulator_failed", error=repr(error))
