"""The HTTP side: ``POST /info`` and the statistics files, with weights, 429 and 5xx."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from src.venues.hyperliquid.simulator.faults import Faults
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.leaderboard import leaderboard_chunks
from src.venues.hyperliquid.simulator.limits import LimitBook
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.shapes import encode

BAD_GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
STATS_PATH = "/Mainnet"
_JSON = "application/json"


class RestServer:
    """Serves on a socket of its own until `stop`."""

    def __init__(
        self,
        *,
        market: Market,
        info: InfoService,
        limits: LimitBook,
        faults: Faults,
        leaderboard_rows: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._market = market
        self._monotonic = monotonic
        self._info = info
        self._limits = limits
        self._faults = faults
        self._leaderboard_rows = leaderboard_rows
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        sock = socket.create_server((host, port))
        app = Starlette(
            routes=[
                Route("/info", self._serve_info, methods=["POST"]),
                Route(f"{STATS_PATH}/leaderboard", self._serve_leaderboard),
                Route(f"{STATS_PATH}/vaults", self._serve_vaults),
            ]
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", loop="none")
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="simulator-rest")
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)
        return int(sock.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and wait for the end."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await self._task

    async def _serve_info(self, request: Request) -> Response:
        if self._faults.is_down():
            return HTMLResponse(BAD_GATEWAY_PAGE, HTTPStatus.BAD_GATEWAY)
        try:
            body = msgspec.json.decode(await request.body())
        except msgspec.DecodeError:
            body = None
        usage = self._limits.of(request.client.host if request.client else "")
        if self._faults.is_rate_limited() or not usage.may_spend(self._monotonic(), self._info.weight(body)):
            return Response(b"null", HTTPStatus.TOO_MANY_REQUESTS, media_type=_JSON)
        answer = self._info.answer(body)
        usage.spend(self._monotonic(), answer.extra_weight)
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return Response(str(answer.value), answer.status, media_type="text/plain")
        return Response(encode(answer.value), answer.status, media_type=_JSON)

    async def _serve_leaderboard(self, _: Request) -> Response:
        if self._faults.is_down():
            return HTMLResponse(BAD_GATEWAY_PAGE, HTTPStatus.BAD_GATEWAY)
        return StreamingResponse(self._chunks(), media_type=_JSON)

    async def _serve_vaults(self, _: Request) -> Response:
        return Response(b"[]", media_type=_JSON)

    async def _chunks(self) -> AsyncIterator[bytes]:
        for chunk in leaderboard_chunks(self._market, self._leaderboard_rows):
            yield chunk
            await asyncio.sleep(0)


class _QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield
