"""The simulator: a WebSocket server and a REST server around one market."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Coroutine, Sequence
from http import HTTPStatus

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from src.models.clock import Clock
from src.venues.clock import SystemClock
from src.venues.hyperliquid.simulator.config import SimulatorConfig
from src.venues.hyperliquid.simulator.faults import FaultPlan, Faults
from src.venues.hyperliquid.simulator.feeds import Publisher
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.limits import LimitBook
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.requests import RequestHandler
from src.venues.hyperliquid.simulator.rest import BAD_GATEWAY_PAGE, STATS_PATH, RestServer
from src.venues.hyperliquid.simulator.sessions import Session
from src.venues.hyperliquid.simulator.truth import DeliveryLog, TruthLog
from src.venues.simulating import Startable

_log = structlog.get_logger(__name__)

WS_PATH = "/ws"
_MAX_CLIENT_FRAME_BYTES = 1024 * 1024
_LONGEST_PUMP_S = 0.05
_SHORTEST_PUMP_S = 0.005
_SETTLED_FRAMES = 2
"""Frames after the freeze: a collector may put the first one aside until the second agrees."""
_SETTLE_POLL_S = 0.02

Stream = tuple[str, str, str]
"""(channel, trader, dex) of a state feed that shows orders or positions."""


class HyperliquidSimulator(Startable):
    """A loopback venue; use as ``async with HyperliquidSimulator(config) as sim``.

    Attributes:
        ws_url, api_url, stats_url: where to connect, known after the start.
        market: the market; its ``truth`` holds every event.
        deliveries: every state sent.
        faults: switches for misbehaviour.
        limits: limits per client address; assign ``limits.limits`` to change them.
        sessions: live connections by number.
        failure: the error that stopped the simulator, if one did.
    """

    def __init__(
        self, config: SimulatorConfig | None = None, *, clock: Clock | None = None, plan: FaultPlan | None = None
    ) -> None:
        self.config = config or SimulatorConfig()
        self._clock = clock or SystemClock()
        self._plan = plan
        wall_ms = self._clock.wall_ms()
        start_ms = self.config.start_ms if self.config.start_ms is not None else wall_ms
        self._offset_ms = wall_ms - start_ms
        self.market = Market(self.config.market, start_ms)
        self.deliveries = DeliveryLog(enabled=self.config.log_deliveries)
        self.limits = LimitBook(self.config.limits)
        self.sessions: dict[int, Session] = {}
        self.faults = Faults(lambda: list(self.sessions.values()), self._clock.monotonic)
        payloads = Payloads(self.market)
        self._publisher = Publisher(self.config, payloads, self.faults, self.deliveries)
        info = InfoService(payloads)
        self._requests = RequestHandler(self.config, self.market, self._publisher, self.faults, info)
        self._rest = RestServer(
            market=self.market,
            info=info,
            limits=self.limits,
            faults=self.faults,
            leaderboard_rows=self.config.leaderboard_rows,
            monotonic=self._clock.monotonic,
        )
        self.failure: BaseException | None = None
        self.ws_url = self.api_url = self.stats_url = ""
        self.connects = 0
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._plan_task: asyncio.Task[None] | None = None

    @property
    def truth(self) -> TruthLog:
        """Every event of the market."""
        return self.market.truth

    @property
    def traders(self) -> list[str]:
        """Addresses of the simulated traders, the best first."""
        return list(self.market.traders)

    async def start(self) -> None:
        """Listen on loopback and let the market run."""
        config = self.config
        self._server = await serve(
            self._serve_client,
            config.host,
            config.port,
            process_request=self._check_handshake,
            compression="deflate" if config.compression else None,
            ping_interval=None,
            max_size=_MAX_CLIENT_FRAME_BYTES,
            server_header=None,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        api_port = await self._rest.start(config.host, config.api_port)
        self.ws_url = f"ws://{config.host}:{port}{WS_PATH}"
        self.api_url = f"http://{config.host}:{api_port}"
        self.stats_url = f"{self.api_url}{STATS_PATH}"
        self._spawn(self._pump(), "simulator-pump")
        if self._plan is not None:
            self._plan_task = self._spawn(self.faults.run(self._plan), "simulator-faults")

    async def stop(self) -> None:
        """Close everything; raises what made a part of the simulator fail."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in list(self.sessions.values()):
            if session.muted:
                session.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await self._rest.stop()
        if self.failure is not None:
            raise self.failure

    async def settle(self, timeout_s: float = 30.0, streams: Sequence[Stream] | None = None) -> None:
        """End all faults, freeze the market and show every subscriber the final state.

        Returns when each stream of orders or positions that was ever subscribed and not unsubscribed (or each of
        ``streams``) has reached a client twice after the freeze.

        Raises:
            ValueError: the simulator keeps no delivery log.
            TimeoutError: some streams were not delivered (their client did not come back); the text names them.
        """
        if not self.deliveries.enabled:
            raise ValueError("settle needs the delivery log: set log_deliveries=True")
        if self._plan_task is not None:
            self._plan_task.cancel()
            await asyncio.gather(self._plan_task, return_exceptions=True)
        self.faults.clear()
        for session in list(self.sessions.values()):
            if session.muted:
                session.abort()
        self.market.freeze()
        self._publisher.hurry(self._clock.monotonic())
        first = len(self.deliveries.items)
        deadline_s = self._clock.monotonic() + timeout_s
        while missing := self._undelivered(first, streams):
            if self.failure is not None:
                raise self.failure
            if self._clock.monotonic() > deadline_s:
                raise TimeoutError(f"not delivered after the freeze: {missing[:5]} ({len(missing)} streams)")
            await asyncio.sleep(_SETTLE_POLL_S)

    def _undelivered(self, first: int, streams: Sequence[Stream] | None) -> list[Stream]:
        counts: dict[Stream, int] = {}
        for item in self.deliveries.items[first:]:
            if item.settled and item.delivered:
                key = (item.channel, item.trader, item.dex)
                counts[key] = counts.get(key, 0) + 1
        wanted = streams if streams is not None else self._requests.wanted_streams()
        return [stream for stream in wanted if counts.get(stream, 0) < _SETTLED_FRAMES]

    # --- connections ----------------------------------------------------------------------------------------------

    def _check_handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.faults.is_down():
            return connection.respond(HTTPStatus.BAD_GATEWAY, BAD_GATEWAY_PAGE)
        if request.path != WS_PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, "not found\n")
        usage = self.limits.of(_address(connection))
        if self.faults.is_rate_limited() or not usage.may_connect(self._clock.monotonic()):
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "null")
        return None

    async def _serve_client(self, ws: ServerConnection) -> None:
        self.connects += 1
        if self.faults.take_accept_then_close():
            ws.transport.abort()
            return
        usage = self.limits.of(_address(ws))
        session = Session(
            self.connects,
            ws,
            usage,
            now_s=self._clock.monotonic(),
            max_write_buffer_bytes=self.config.max_write_buffer_bytes,
        )
        usage.connections += 1
        self.sessions[session.number] = session
        confirmer = asyncio.create_task(session.confirm_forever(), name=f"simulator-confirm-{session.number}")
        try:
            async for message in ws:
                self._requests.handle(session, message, self._clock.monotonic())
        except ConnectionClosed:
            pass  # the client is gone without a closing handshake, or a fault cut it
        finally:
            confirmer.cancel()
            await asyncio.gather(confirmer, return_exceptions=True)
            del self.sessions[session.number]
            usage.connections -= 1
            self._requests.forget(session)

    # --- the pump -------------------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        cadences = self.config.cadences
        shortest_s = min(cadences.trader_s, cadences.book_s, cadences.fast_book_s, cadences.mids_s)
        interval_s = min(_LONGEST_PUMP_S, max(_SHORTEST_PUMP_S, shortest_s / 4))
        while True:
            now_s = self._clock.monotonic()
            self.market.step(self._clock.wall_ms() - self._offset_ms)
            self._publisher.publish(now_s)
            await self._look_after_sessions(now_s)
            await asyncio.sleep(interval_s)

    async def _look_after_sessions(self, now_s: float) -> None:
        silence_s = self.config.silence_close_s
        for session in list(self.sessions.values()):
            if session.abort_at_s is not None and now_s >= session.abort_at_s:
                session.abort()
            elif silence_s is not None and session.is_open and now_s - session.last_sent_s >= silence_s:
                session.muted = True
                self._spawn(session.ws.close(1000, "Inactive"), f"simulator-close-{session.number}")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(functools.partial(self._note_end, name))
        self._tasks.add(task)
        return task

    def _note_end(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if error is not None:
                self.failure = error
                _log.error("simulator_task_failed", task=name, error=repr(error))


def _address(connection: ServerConnection) -> str:
    remote = connection.remote_address
    return str(remote[0]) if remote else ""
