"""The HTTP side: history with pages, snapshots, movers. Pure: a request in, an answer out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from src.venues.alpaca.simulator.config import Account, SimulatorConfig
from src.venues.alpaca.simulator.frames import json_bytes
from src.venues.alpaca.simulator.market import Market
from src.venues.alpaca.times import NS_PER_S, BadTimeError, time_ns

_WINDOW_S = 60.0
_MOST_LIMIT = 10_000
_FEEDS = frozenset({"sip", "iex", "otc", "boats"})


class Answer(NamedTuple):
    """Status, body and extra headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class RestService:
    """Answers GET requests; ``faults`` may be set by tests.

    Attributes:
        requests: targets of all requests so far.
        refuse_next: statuses of the next answers.
        retry_after_s: told with a 429, None = without.
        empty_pages: so many next pages are empty and have a token all the same.
    """

    def __init__(self, config: SimulatorConfig, market: Market) -> None:
        self._config = config
        self._market = market
        self._times: list[float] = []
        self.requests: list[str] = []
        self.refuse_next: list[int] = []
        self.retry_after_s: int | None = None
        self.empty_pages = 0

    def answer(self, target: str, headers: Mapping[str, str], *, now_s: float, now_ns: int) -> Answer:
        """What ``GET target`` is answered."""
        self.requests.append(target)
        account = self._account(headers)
        if account is None:
            return _problem(403, "forbidden.")
        refusal = self._refuse(now_s)
        if refusal is not None:
            return refusal
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        match parts.path:
            case "/v2/stocks/trades":
                return self._trades(query, account, now_ns)
            case "/v2/stocks/snapshots":
                return self._snapshots(query)
            case "/v1beta1/screener/stocks/movers":
                return self._movers(query)
        return _problem(404, "endpoint not found.")

    def _trades(self, query: Mapping[str, str], account: Account, now_ns: int) -> Answer:
        symbols = [symbol for symbol in query.get("symbols", "").split(",") if symbol]
        feed = query.get("feed", "sip")
        if not symbols or feed not in _FEEDS:
            return _problem(400, "invalid symbols or feed")
        try:
            limit = int(query.get("limit", "1000"))
            start_ns = _when(query["start"]) if "start" in query else now_ns - now_ns % (86_400 * NS_PER_S)
            end_ns = _when(query["end"]) if "end" in query else now_ns
            first = _offset(query.get("page_token", ""))
        except (ValueError, BadTimeError, binascii.Error) as error:
            return _problem(400, f"invalid parameter: {error}")
        if not 1 <= limit <= _MOST_LIMIT:
            return _problem(400, "limit must be between 1 and 10000")
        if account.plan == "free" and feed == "sip" and end_ns > now_ns - self._config.recent_sip_s * NS_PER_S:
            return _problem(403, "subscription does not permit querying recent SIP data")
        rows = [row for symbol in sorted(symbols) for row in self._rows(symbol, start_ns, end_ns)]
        if self.empty_pages:
            self.empty_pages -= 1
            return _ok({"trades": {}, "next_page_token": _token(first)})
        most = min(limit, self._config.page_most)
        page, after = rows[first : first + most], first + most
        trades: dict[str, list[Any]] = {}
        for symbol, row in page:
            trades.setdefault(symbol, []).append(row)
        return _ok({"trades": trades, "next_page_token": _token(after) if after < len(rows) else None})

    def _rows(self, symbol: str, start_ns: int, end_ns: int) -> list[tuple[str, Any]]:
        stock = self._market.stocks.get(symbol)
        rows = [] if stock is None else sorted(stock.history, key=lambda row: row["t"])
        return [(symbol, row) for row in rows if start_ns <= row["t"] <= end_ns]

    def _snapshots(self, query: Mapping[str, str]) -> Answer:
        symbols = [symbol for symbol in query.get("symbols", "").split(",") if symbol]
        if not symbols:
            return _problem(400, "symbols is required")
        found = {symbol: self._market.snapshot(symbol) for symbol in symbols}
        return _ok({symbol: snapshot for symbol, snapshot in found.items() if snapshot is not None})

    def _movers(self, query: Mapping[str, str]) -> Answer:
        gains: list[tuple[float, str, float, float]] = sorted(
            (
                (
                    round((stock.price / stock.previous_close - 1) * 100, 2),
                    stock.symbol,
                    stock.price,
                    stock.previous_close,
                )
                for stock in self._market.stocks.values()
            ),
            reverse=True,
        )
        rows = [
            {"symbol": symbol, "percent_change": gain, "change": round(price - close, 2), "price": price}
            for gain, symbol, price, close in gains
        ]
        top = int(query.get("top", "10"))
        return _ok({"gainers": rows[:top], "losers": rows[-top:], "market_type": "stocks"})

    def _account(self, headers: Mapping[str, str]) -> Account | None:
        pair = (headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY"))
        return next((one for one in self._config.accounts if (one.key, one.secret) == pair), None)

    def _refuse(self, now_s: float) -> Answer | None:
        if self.refuse_next:
            return self._refusal(self.refuse_next.pop(0))
        self._times = [time for time in self._times if now_s - time < _WINDOW_S]
        if len(self._times) >= self._config.rest_per_minute:
            return self._refusal(429)
        self._times.append(now_s)
        return None

    def _refusal(self, status: int) -> Answer:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return _problem(status, "too many requests." if status == 429 else "refused", headers)  # noqa: PLR2004


def _when(text: str) -> int:
    """A time as clients write it: with ``Z`` to the nanosecond, with an offset, or a date."""
    if text.endswith("Z"):
        return time_ns(text)
    moment = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped plus sign arrives as a space
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def _ok(value: Any) -> Answer:
    return Answer(200, json_bytes(value))


def _problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json_bytes({"message": text}), headers or {})


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"row|{offset}".encode()).decode()


def _offset(token: str) -> int:
    return int(base64.urlsafe_b64decode(token).decode().removeprefix("row|")) if token else 0
