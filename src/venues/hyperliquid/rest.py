"""The venue's REST requests (``POST /info``), paid from one weight budget per egress address.

Public data only: no key, no signature. Answers that the mapper understands come back as the bytes the venue sent;
small answers that only this program's own decisions need are decoded here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from src.models.clock import Clock
from src.models.errors import VenueError, VenueFatalError, VenueRateLimitedError, VenueRequestError
from src.models.metrics import REST_REQUESTS, Metrics
from src.venues.hyperliquid.answers import error_of_status, error_of_transport, new_client, read_bounded, shown
from src.venues.hyperliquid.weight_budget import Hold, Priority, WeightBudget
from src.venues.hyperliquid.weights import base_weight, is_billed_by_row, most_weight, rows_weight

VENUE = "hyperliquid"
REQUEST_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024
ATTEMPTS = 4
BACKOFF_S = 0.5
BACKOFF_CAP_S = 8.0
LONGEST_WAIT_S = 60.0
"""A ``Retry-After`` above this is handed to the caller instead of being waited for."""

BAN_S = 60.0
"""Pause of the address after a 403: a ban may look like one. How long bans last is not documented."""

_encode = msgspec.json.Encoder().encode
_T = TypeVar("_T")


class ExchangeStatus(Struct, frozen=True):
    """Answer of ``exchangeStatus``; ``time`` is the venue's clock in ms."""

    time: int
    specialStatuses: Any = None  # noqa: N815 - the venue's field name


class Asset(Struct, frozen=True):
    """One perpetual of ``meta.universe``; its index in the list is its asset id, so the order matters."""

    name: str
    szDecimals: int = 0  # noqa: N815
    maxLeverage: int | None = None  # noqa: N815
    isDelisted: bool = False  # noqa: N815


class Meta(Struct, frozen=True):
    """Answer of ``meta``: the perpetuals of one dex."""

    universe: tuple[Asset, ...]


class OrderOutcome(Struct, frozen=True):
    """One status an order has had; ``order`` is the venue's JSON of the order, for the mapper.

    ``status`` is the venue's word (``filled``, ``canceled``, ...), ``status_ms`` when it took effect.
    """

    oid: int
    status: str
    status_ms: int
    order: bytes


class HyperliquidRest:
    """Typed access to ``/info`` that never spends more than the budget and maps every failure to the error tree.

    ``priority`` says whom the budget lets through first when it is short (see `WeightBudget`).

    Every method raises `VenueRateLimitedError` (429 outlasted the attempts), `VenueFatalError` (certificate, 403),
    `VenueRequestError` (the request itself is wrong) or `VenueError` (out of reach, or the answer is not understood;
    trying later may help). Without a client one is made that goes through ``proxy``; a client
    passed in stays the caller's to close.
    """

    def __init__(
        self,
        api_url: str,
        *,
        clock: Clock,
        metrics: Metrics,
        budget: WeightBudget,
        client: httpx.AsyncClient | None = None,
        proxy: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._url = api_url.rstrip("/") + "/info"
        self._clock = clock
        self._metrics = metrics
        self.budget = budget
        self._client = client or new_client(self._url, proxy=proxy)
        self._owns_client = client is None
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes

    async def close(self) -> None:
        """Let go of the connections; safe to repeat."""
        if self._owns_client:
            await self._client.aclose()

    async def info(self, payload: Mapping[str, Any], *, priority: Priority = Priority.POLL) -> bytes:
        """Ask ``/info`` and return the answer as the venue wrote it: valid JSON, not ``null``, not an error object.

        Retries what may pass (network, 429, 5xx) a few times with jitter; see the class for what is raised.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await self._attempt(payload, priority)
            except VenueError as error:
                wait_s = self._wait_before_retry(error, attempt)
                if wait_s is None:
                    raise
                await self._sleep(wait_s)
        raise AssertionError("unreachable: the last attempt returns or raises")  # pragma: no cover

    async def clearinghouse_state(self, user: str, dex: str = "", *, priority: Priority = Priority.POLL) -> bytes:
        """Positions and margin of a trader on one dex (weight 2)."""
        return await self.info({"type": "clearinghouseState", "user": user, **_dex(dex)}, priority=priority)

    async def frontend_open_orders(self, user: str, dex: str = "", *, priority: Priority = Priority.POLL) -> bytes:
        """Resting and untriggered orders with trigger fields (weight 20); spot orders come with the main dex."""
        return await self.info({"type": "frontendOpenOrders", "user": user, **_dex(dex)}, priority=priority)

    async def order_status(
        self, user: str, oid: int | str, *, priority: Priority = Priority.REASON
    ) -> OrderOutcome | None:
        """What became of one order, by id or cloid (weight 2); None when the venue does not know it for this user."""
        answer = await self.info({"type": "orderStatus", "user": user, "oid": oid}, priority=priority)
        row = _decode(_ORDER_STATUS, answer, "orderStatus").order
        return None if row is None else _outcome(row)

    async def historical_orders(self, user: str, *, priority: Priority = Priority.REASON) -> list[OrderOutcome]:
        """The newest (at most 2000) order outcomes of a trader, in the venue's order (weight 20 to 120)."""
        answer = await self.info({"type": "historicalOrders", "user": user}, priority=priority)
        return [_outcome(row) for row in _decode(_ORDER_ROWS, answer, "historicalOrders")]

    async def user_fills(self, user: str, *, priority: Priority = Priority.BACKFILL) -> bytes:
        """The newest (at most 2000) fills of a trader (weight 20 to 120)."""
        return await self.info({"type": "userFills", "user": user, "aggregateByTime": False}, priority=priority)

    async def user_fills_by_time(
        self, user: str, start_ms: int, end_ms: int | None = None, *, priority: Priority = Priority.BACKFILL
    ) -> bytes:
        """Fills from ``start_ms`` on, oldest first, both ends inclusive, at most 2000 (weight 20 to 120)."""
        payload = {"type": "userFillsByTime", "user": user, "startTime": start_ms, "aggregateByTime": False}
        if end_ms is not None:
            payload["endTime"] = end_ms
        return await self.info(payload, priority=priority)

    async def perp_dexs(self) -> list[str]:
        """Names of the perpetual exchanges; the main one is the empty string and comes first (weight 20)."""
        rows = _decode(_PERP_DEXS, await self.info({"type": "perpDexs"}), "perpDexs")
        return ["" if row is None else row.name for row in rows]

    async def meta(self, dex: str = "") -> Meta:
        """The perpetuals of one dex (weight 20)."""
        return _decode(_META, await self.info({"type": "meta", **_dex(dex)}), "meta")

    async def recent_trades(self, coin: str, *, priority: Priority = Priority.REPAIR) -> bytes:
        """The newest trades of a coin, newest first; not documented by the venue (weight 20 and a little)."""
        return await self.info({"type": "recentTrades", "coin": coin}, priority=priority)

    async def exchange_status(self) -> ExchangeStatus:
        """The venue's clock and special states (weight 2)."""
        return _decode(_EXCHANGE_STATUS, await self.info({"type": "exchangeStatus"}), "exchangeStatus")

    async def _attempt(self, payload: Mapping[str, Any], priority: Priority) -> bytes:
        request_type = str(payload.get("type", ""))
        hold = await self.budget.acquire(most_weight(request_type), priority)
        spent = base_weight(request_type)
        try:
            body = await self._post(payload, request_type)
            if is_billed_by_row(request_type):
                spent += rows_weight(request_type, _count_rows(body, request_type))
        except VenueError as error:
            self._metrics.add(REST_REQUESTS, VENUE, _outcome_label(error))
            self._tell_budget(hold, error)
            raise
        finally:
            self.budget.settle(hold, spent)
        self.budget.accepted()
        self._metrics.add(REST_REQUESTS, VENUE, "ok")
        return body

    def _tell_budget(self, hold: Hold, error: VenueError) -> None:
        """The limits are the address's: what one request learns, all others wait for."""
        if isinstance(error, VenueRateLimitedError):
            self.budget.refused(hold, error.retry_after_s)
        elif isinstance(error, VenueRequestError):
            self.budget.accepted()
        elif isinstance(error, VenueFatalError):
            self.budget.pause(BAN_S)
        else:
            self.budget.failed(hold)

    async def _post(self, payload: Mapping[str, Any], request_type: str) -> bytes:
        what = f"{self._url} {request_type}"
        headers = {"content-type": "application/json", "accept": "application/json"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._url, content=_encode(payload), headers=headers) as response,
            ):
                body = await read_bounded(response.aiter_bytes(), limit_bytes=self._max_answer_bytes, what=what)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise error_of_transport(error, what=what) from error
        if response.status_code != httpx.codes.OK:
            raise error_of_status(
                response.status_code, response.headers, body.strip(), what=what, wall_ms=self._clock.wall_ms()
            )
        _refuse_non_answers(body, what)
        return body

    def _wait_before_retry(self, error: VenueError, attempt: int) -> float | None:
        if isinstance(error, VenueRateLimitedError):
            if attempt + 1 < ATTEMPTS and (error.retry_after_s or 0) <= LONGEST_WAIT_S:
                return self._rng.uniform(0, BACKOFF_S)  # the budget waits for the rest
            return None
        if not error.retryable or attempt + 1 >= ATTEMPTS:
            return None
        return self._rng.uniform(0, min(BACKOFF_CAP_S, BACKOFF_S * 2**attempt))


class _AnswerProbe(Struct):
    type: Any = None
    message: Any = None
    status: Any = None
    response: Any = None


class _OrderRef(Struct):
    oid: int


class _OrderRow(Struct):
    order: msgspec.Raw
    status: str
    statusTimestamp: int  # noqa: N815


class _OrderStatus(Struct):
    status: str
    order: _OrderRow | None = None


class _PerpDex(Struct):
    name: str


_PROBE = msgspec.json.Decoder(_AnswerProbe)
_ANY_JSON = msgspec.json.Decoder(msgspec.Raw)
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_ORDER_REF = msgspec.json.Decoder(_OrderRef)
_ORDER_STATUS = msgspec.json.Decoder(_OrderStatus)
_ORDER_ROWS = msgspec.json.Decoder(list[_OrderRow])
_PERP_DEXS = msgspec.json.Decoder(list[_PerpDex | None])
_META = msgspec.json.Decoder(Meta)
_EXCHANGE_STATUS = msgspec.json.Decoder(ExchangeStatus)


def _dex(dex: str) -> dict[str, str]:
    return {"dex": dex} if dex else {}


def _refuse_non_answers(body: bytes, what: str) -> None:
    start = body.lstrip()[:1]
    try:
        if start != b"{":
            _ANY_JSON.decode(body)
            if body.strip() == b"null":
                raise VenueRequestError(f"{what}: null - the venue does not know what was asked for")
            return
        probe = _PROBE.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise VenueError(f"{what}: the answer is not JSON ({error}): {shown(body)}") from error
    if probe.type == "error":
        raise VenueRequestError(f"{what}: {shown(str(probe.message).encode())}")
    if probe.status == "err":
        raise VenueRequestError(f"{what}: {shown(str(probe.response).encode())}")


def _count_rows(body: bytes, request_type: str) -> int:
    return len(_decode(_ROWS, body, request_type))


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw, request_type: str) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise VenueError(f"{request_type}: the answer has another shape ({error}): {shown(bytes(body))}") from error


def _outcome(row: _OrderRow) -> OrderOutcome:
    oid = _decode(_ORDER_REF, row.order, "order").oid
    return OrderOutcome(oid=oid, status=row.status, status_ms=row.statusTimestamp, order=bytes(row.order))


def _outcome_label(error: VenueError) -> str:
    if isinstance(error, VenueRateLimitedError):
        return "rate_limited"
    if isinstance(error, VenueFatalError):
        return "refused"
    if isinstance(error, VenueRequestError):
        return "bad_request"
    return "failed"
