"""The HTTP side: ``POST /info`` and the statistics files, with weights, 429 and 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from src.venues.hyperliquid.simulator.faults import Faults
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.leaderboard import leaderboard_chunks
from src.venues.hyperliquid.simulator.limits import LimitBook
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.shapes import encode
from src.venues.simulating import HttpSide

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
        self._http = HttpSide("simulator-rest")

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        return await self._http.start(
            host,
            port,
            [
                Route("/info", self._serve_info, methods=["POST"]),
                Route(f"{STATS_PATH}/leaderboard", self._serve_leaderboard),
                Route(f"{STATS_PATH}/vaults", self._serve_vaults),
            ],
        )

    async def stop(self) -> None:
        """Stop listening and wait for the end."""
        await self._http.stop()

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
