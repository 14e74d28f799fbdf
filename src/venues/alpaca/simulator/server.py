"""The simulator's sockets: the stream and the HTTP side on one port, and the market that feeds both."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from src.models.clock import Clock
from src.venues.alpaca.simulator.config import Account, SimulatorConfig
from src.venues.alpaca.simulator.frames import Encoding, encode
from src.venues.alpaca.simulator.market import Market, Message
from src.venues.alpaca.simulator.rest import RestService
from src.venues.alpaca.simulator.session import ENDING, PATHS, Session, error
from src.venues.alpaca.times import NS_PER_MS
from src.venues.clock import SystemClock
from src.venues.simulating import Startable

PUMP_S = 0.02
MESSAGES_PER_FRAME = 100
_CLOSE_S = 0.2


class Client:
    """A session with its socket and what waits to be sent to it."""

    def __init__(self, session: Session, socket: ServerConnection, *, queue_frames: int) -> None:
        self.session = session
        self.socket = socket
        self.said: list[str | bytes] = []
        self._queue: deque[str | bytes] = deque()
        self._queue_frames = queue_frames
        self._news = asyncio.Event()
        self._ending = False

    def offer(self, messages: Sequence[Message]) -> None:
        """Send an array of messages, or 407 where too much waits already."""
        if self._ending or not messages:
            return
        if len(self._queue) >= self._queue_frames:
            self._queue.clear()
            messages = [error(407)]
        self.put([encode(messages, self.session.encoding)])
        if any(message["T"] == "error" and message["code"] in ENDING for message in messages):
            self._ending = True

    def put(self, frames: Iterable[str | bytes]) -> None:
        """Send these as they are, however many wait."""
        self._queue.extend(frames)
        self._news.set()

    async def run(self) -> None:
        """Send what waits until the socket ends; hang up after a word that ends the session."""
        while True:
            while self._queue:
                await self.socket.send(self._queue.popleft())
            if self._ending:
                await self.socket.close()
                return
            await self._news.wait()
            self._news.clear()


class AlpacaSimulator(Startable):
    """A loopback venue; use as ``async with AlpacaSimulator(config) as sim``.

    Attributes:
        ws_url, api_url: where to connect, known after the start.
        market, rest: what goes on, and the HTTP side with its faults.
        clients: connections that are open.
        accepted: handshakes so far; ``logins`` = sessions let in.
        refuse_handshakes: HTTP status for every handshake, None = let in.
        stalled: nothing but pongs is sent.
        repeats: so many of the last trades are sent again to who subscribes.
        prepared: frames for everybody at the first subscription, sent as fast as the client reads.
    """

    def __init__(self, config: SimulatorConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or SimulatorConfig()
        self._clock = clock or SystemClock()
        wall_ms = self._clock.wall_ms()
        self._offset_ms = 0 if self.config.start_ms is None else self.config.start_ms - wall_ms
        self.market = Market(self.config, self.now_ns())
        self.rest = RestService(self.config, self.market)
        self.clients: list[Client] = []
        self.accepted = 0
        self.logins = 0
        self.refuse_handshakes: int | None = None
        self.stalled = False
        self.repeats = 0
        self.prepared: Callable[[Encoding], Sequence[str | bytes]] | None = None
        self.ws_url = self.api_url = ""
        self._slots: dict[tuple[str, str], Session] = {}
        self._sent: deque[Message] = deque(maxlen=1_000)
        self._server: Server | None = None
        self._pump: asyncio.Task[None] | None = None

    def now_ns(self) -> int:
        """The market's time."""
        return (self._clock.wall_ms() + self._offset_ms) * NS_PER_MS

    async def start(self) -> None:
        """Listen on loopback and let the market run."""
        self._server = await serve(
            self._serve_client,
            self.config.host,
            self.config.port,
            process_request=self._answer,
            compression=None,
            ping_interval=None,
            close_timeout=_CLOSE_S,
            server_header=None,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.ws_url = f"ws://{self.config.host}:{port}"
        self.api_url = f"http://{self.config.host}:{port}"
        self._pump = asyncio.create_task(self._run_market(), name="alpaca-simulator")

    async def stop(self) -> None:
        """Close everything; raises what made the market fail."""
        assert self._server is not None
        assert self._pump is not None
        self._pump.cancel()
        self.drop_all()
        self._server.close()
        await self._server.wait_closed()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump

    # -- for tests -------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Let everybody who wants them hear these messages."""
        self._sent.extend(message for message in messages if message["T"] == "t")
        if self.stalled:
            return
        for client in list(self.clients):
            mine = [message for message in messages if client.session.wants(message)]
            for start in range(0, len(mine), MESSAGES_PER_FRAME):
                client.offer(mine[start : start + MESSAGES_PER_FRAME])

    def say(self, *messages: Message) -> None:
        """Send one array to everybody, whatever they want."""
        for client in list(self.clients):
            client.offer(messages)

    def say_error(self, code: int) -> None:
        """Send an error to everybody."""
        self.say(error(code))

    def drop_all(self) -> None:
        """All connections end without a word."""
        for client in list(self.clients):
            client.socket.transport.abort()

    def subscribed(self, channel: str = "trades") -> list[str]:
        """What all clients together want."""
        return sorted({name for client in self.clients for name in client.session.sets.get(channel, ())})

    # -- Door ------------------------------------------------------------------------------------------------------

    def account(self, key: str, secret: str) -> Account | None:
        """See `Door`."""
        return next((one for one in self.config.accounts if (one.key, one.secret) == (key, secret)), None)

    def take_slot(self, session: Session) -> bool:
        """See `Door`."""
        assert session.account is not None
        slot = (session.path, session.account.key)
        if slot in self._slots:
            return False
        self._slots[slot] = session
        self.logins += 1
        return True

    # -- sockets ---------------------------------------------------------------------------------------------------

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        del connection
        if request.headers.get("Upgrade", "").lower() != "websocket":
            answer = self.rest.answer(
                request.path, request.headers, now_s=self._clock.monotonic(), now_ns=self.now_ns()
            )
            headers = {
                **answer.headers,
                "Connection": "close",
                "Content-Type": "application/json",
                "Content-Length": str(len(answer.body)),
            }
            return Response(answer.status, HTTPStatus(answer.status).phrase, Headers(headers), answer.body)
        status = self.refuse_handshakes or (None if request.path in PATHS else 404)
        if status is None:
            return None
        return Response(status, HTTPStatus(status).phrase, Headers({"Content-Length": "0"}), b"")

    async def _serve_client(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        headers = socket.request.headers
        encoding: Encoding = "msgpack" if headers.get("Content-Type") == "application/msgpack" else "json"
        session = Session(socket.request.path, encoding, self)
        client = Client(session, socket, queue_frames=self.config.queue_frames)
        self.accepted += 1
        self.clients.append(client)
        sender = asyncio.create_task(client.run())
        timer = asyncio.get_running_loop().call_later(self.config.auth_timeout_s, self._time_out, client)
        try:
            for message in session.greeting(headers):
                client.offer([message])
            async for frame in socket:
                self._hear(client, frame)
        except ConnectionClosed:
            pass  # gone without good-bye, as clients may
        finally:
            timer.cancel()
            sender.cancel()
            self.clients.remove(client)
            self._free_slot(session, held_s=0.0 if socket.close_code in (1000, 1001) else self.config.slot_hold_s)
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await sender

    def _hear(self, client: Client, frame: str | bytes) -> None:
        client.said.append(frame)
        before = set(client.session.sets["trades"])
        answers = client.session.take(frame)
        for answer in answers:
            client.offer([answer])  # control messages come alone
        if client.session.sets["trades"] - before:
            client.offer([message for message in list(self._sent)[-self.repeats :] if self.repeats])
            if self.prepared is not None and not before:
                client.put(self.prepared(client.session.encoding))

    def _time_out(self, client: Client) -> None:
        if client.session.account is None:
            client.offer([error(404)])

    def _free_slot(self, session: Session, *, held_s: float) -> None:
        if held_s:
            asyncio.get_running_loop().call_later(held_s, self._free_slot_now, session)
        else:
            self._free_slot_now(session)

    def _free_slot_now(self, session: Session) -> None:
        self._slots = {slot: holder for slot, holder in self._slots.items() if holder is not session}

    async def _run_market(self) -> None:
        while True:
            await asyncio.sleep(PUMP_S)
            self.publish(self.market.step(self.now_ns()))


def prepared_trades(count: int, symbols: Sequence[str], *, per_frame: int, seed: int = 1) -> list[list[Message]]:
    """So many different trades, in arrays of ``per_frame``."""
    config = SimulatorConfig(symbols=dict.fromkeys(symbols, 100.0), seed=seed)
    start_ns = SystemClock().wall_ms() * NS_PER_MS
    market = Market(config, start_ns)
    trades: list[dict[str, Any]] = []
    for number in range(count):
        name = symbols[number % len(symbols)]
        trades += [one for one in market.trade(name, start_ns + number * 1_000) if one["T"] == "t"]
    return [trades[start : start + per_frame] for start in range(0, count, per_frame)]
