"""The HTTP side of the simulated venue: keys, new tokens, order-book and running-trade pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from src.models.clock import Clock
from src.venues.simulating import HttpSide
from src.venues.stockbit.simulator.accounts import Accounts
from src.venues.stockbit.simulator.market import SimMarket, SimTrade
from src.venues.stockbit.times import NS_PER_MS, to_text

MOST_ROWS = 500


class RestFaults:
    """Switches for misbehaviour.

    Attributes:
        is_down: everything answers 502.
        challenges: everything answers 403 with a bot challenge.
        requests: paths asked for, in order.
    """

    def __init__(self) -> None:
        self.is_down = False
        self.challenges = False
        self.requests: list[str] = []


class RestServer:
    """Serves on a socket of its own until `stop`."""

    def __init__(self, *, accounts: Accounts, market: SimMarket, clock: Clock) -> None:
        self._accounts = accounts
        self._market = market
        self._clock = clock
        self.faults = RestFaults()
        self._http = HttpSide("stockbit-simulator-rest")

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        return await self._http.start(
            host,
            port,
            [
                Route("/auth/websocket/key", self._key),
                Route("/login/refresh", self._refresh, methods=["POST"]),
                Route("/company-price-feed/v2/orderbook/companies/{ticker}", self._order_book),
                Route("/order-trade/running-trade", self._running_trades),
            ],
        )

    async def stop(self) -> None:
        """Stop listening and wait for the end."""
        await self._http.stop()

    async def _key(self, request: Request) -> Response:
        refused = self._refuse(request)
        if refused is not None:
            return refused
        key = self._accounts.key(_bearer(request), self._clock.wall_ms())
        return JSONResponse({"message": "Success", "data": {"key": key}})

    async def _refresh(self, request: Request) -> Response:
        trouble = self._trouble(request)
        if trouble is not None:
            return trouble
        renewed = self._accounts.renew(_bearer(request), self._clock.wall_ms())
        if renewed is None:
            return _unauthorized()
        access, refresh = ({"token": token} for token in renewed)
        return JSONResponse({"message": "Success", "data": {"access": access, "refresh": refresh}})

    async def _order_book(self, request: Request) -> Response:
        refused = self._refuse(request)
        if refused is not None:
            return refused
        book = self._market.books.get(request.path_params["ticker"])
        if book is None:
            return JSONResponse({"message": "company not found"}, HTTPStatus.NOT_FOUND)
        data: dict[str, Any] = {"symbol": book.ticker, "total_bid_offer": {}}
        for name, side in (("bid", book.side("BID")), ("offer", book.side("OFFER"))):
            data[name] = [
                {"price": level.px, "que_num": str(level.n), "volume": level.sz, "change_percentage": ""}
                for level in side
            ]
            orders, shares = sum(level.n or 0 for level in side), sum(int(level.sz) for level in side)
            data["total_bid_offer"][name] = {
                "freq": f"{orders:,}",
                "lot": f"{shares:,}",
                "raw_lot": str(shares),
                "raw_freq": str(orders),
            }
        return JSONResponse({"message": "Success", "data": data})

    async def _running_trades(self, request: Request) -> Response:
        """Pages go back from the newest trade; ``trade_number`` is the cursor."""
        refused = self._refuse(request)
        if refused is not None:
            return refused
        query = request.query_params
        limit = min(int(query.get("limit", "50")), MOST_ROWS)
        below = int(query.get("trade_number", "0")) or 1 << 31
        rows: list[SimTrade] = []
        for ticker in query.getlist("symbols[]"):
            if ticker in self._market.books:
                rows += [trade for trade in self._market.books[ticker].trades if trade.number < below]
        rows.sort(key=lambda trade: trade.number, reverse=query.get("sort", "DESC") != "ASC")
        return JSONResponse({"message": "Success", "data": {"running_trade": [_row(row) for row in rows[:limit]]}})

    def _trouble(self, request: Request) -> Response | None:
        self.faults.requests.append(request.url.path)
        if self.faults.is_down:
            return Response("<html>502 Bad Gateway</html>", HTTPStatus.BAD_GATEWAY)
        if self.faults.challenges:
            return Response("<html>challenge</html>", HTTPStatus.FORBIDDEN, {"cf-mitigated": "challenge"})
        return None

    def _refuse(self, request: Request) -> Response | None:
        trouble = self._trouble(request)
        if trouble is not None:
            return trouble
        return None if self._accounts.is_good(_bearer(request), self._clock.wall_ms()) else _unauthorized()


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _unauthorized() -> Response:
    return JSONResponse({"message": "unauthorized", "error": "AUTH_FAILED"}, HTTPStatus.UNAUTHORIZED)


def _row(trade: SimTrade) -> dict[str, Any]:
    return {
        "id": str(trade.number),
        "time": to_text(trade.at_ms * NS_PER_MS)[11:19],
        "action": "buy" if trade.is_buy else "sell",
        "code": trade.ticker,
        "price": f"{trade.price:,}",
        "change": "0",
        "lot": f"{trade.shares // 100:,}",
        "trade_number": str(trade.number),
        "market_board": "RG",
    }
