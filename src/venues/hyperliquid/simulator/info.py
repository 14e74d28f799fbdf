"""Answers of ``POST /info`` (and of info requests posted over the socket), with their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from msgspec import UNSET, Struct

from src.venues.hyperliquid.simulator.candles import INTERVALS_MS
from src.venues.hyperliquid.simulator.instruments import describe_dexes
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.subscriptions import Subscription, is_address
from src.venues.hyperliquid.simulator.traders import HISTORY_ROWS, SimTrader
from src.venues.hyperliquid.simulator.units import Instrument

UNPARSABLE = "Failed to deserialize the JSON body into the target type"
_LIGHT_WEIGHT = 2
_WEIGHT = 20
_ROLE_WEIGHT = 60
_ROWS_PER_WEIGHT = 20
_CANDLES_PER_WEIGHT = 60
_NEVER_MS = 1 << 62
_VENUE_FIGURES = frozenset({None, 2, 3, 4, 5})
_VENUE_MANTISSAS = frozenset({None, 2, 5})

_LIGHT_TYPES = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
_ROW_TYPES = frozenset({"recentTrades", "historicalOrders", "userFills", "userFillsByTime"})


class Answer(Struct, frozen=True):
    """What to answer: a status, a JSON value or a text, and what it costs beyond the base weight."""

    status: HTTPStatus
    value: Any
    extra_weight: int = 0


class BadRequestError(Exception):
    """A field is missing or of a wrong type (422)."""


class BadParameterError(Exception):
    """A parameter that the venue's own code falls over (500, ``null``)."""


class InfoService:
    """The public reads."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._handlers: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "clearinghouseState": self._clearinghouse_state,
            "spotClearinghouseState": self._spot_state,
            "openOrders": self._open_orders,
            "frontendOpenOrders": self._frontend_open_orders,
            "orderStatus": self._order_status,
            "historicalOrders": self._historical_orders,
            "userFills": self._user_fills,
            "userFillsByTime": self._user_fills_by_time,
            "userRole": self._user_role,
            "webData2": self._web_data2,
            "l2Book": self._l2_book,
            "recentTrades": self._recent_trades,
            "candleSnapshot": self._candles,
            "allMids": self._all_mids,
            "meta": self._meta,
            "metaAndAssetCtxs": self._meta_and_contexts,
            "perpDexs": lambda _: describe_dexes(payloads.market.universe),
            "exchangeStatus": lambda _: {"time": payloads.market.now_ms, "specialStatuses": None},
        }

    def weight(self, request: object) -> int:
        """Base weight of a request; what cannot be parsed costs like an ordinary one."""
        kind = request.get("type") if isinstance(request, dict) else None
        if kind == "userRole":
            return _ROLE_WEIGHT
        return _LIGHT_WEIGHT if kind in _LIGHT_TYPES else _WEIGHT

    def answer(self, request: object) -> Answer:
        """Answer one request; never raises."""
        kind = request.get("type") if isinstance(request, dict) else None
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None or not isinstance(request, dict):
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, UNPARSABLE)
        try:
            value = handler(request)
        except BadRequestError:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, UNPARSABLE)
        except BadParameterError:
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, None)
        rows = len(value) if isinstance(value, list) else 0
        extra = math.ceil(rows / _ROWS_PER_WEIGHT) if kind in _ROW_TYPES else 0
        if kind == "candleSnapshot":
            extra = math.ceil(rows / _CANDLES_PER_WEIGHT)
        return Answer(HTTPStatus.OK, value, extra)

    # --- a trader -------------------------------------------------------------------------------------------------

    def _clearinghouse_state(self, request: Mapping[str, Any]) -> Any:
        return self._payloads.clearinghouse(_user(request), self._dex(request))

    def _spot_state(self, request: Mapping[str, Any]) -> Any:
        return self._payloads.spot_state(_user(request))

    def _open_orders(self, request: Mapping[str, Any]) -> Any:
        return [order.basic() for order in self._payloads.orders(_user(request), self._dex(request))]

    def _frontend_open_orders(self, request: Mapping[str, Any]) -> Any:
        return [order.raw() for order in self._payloads.orders(_user(request), self._dex(request))]

    def _order_status(self, request: Mapping[str, Any]) -> Any:
        trader = self._trader(request)
        wanted = request.get("oid")
        if isinstance(wanted, bool) or not isinstance(wanted, int | str):
            raise BadRequestError
        entry = None
        if trader is not None and isinstance(wanted, int):
            entry = trader.statuses.get(wanted)
        elif trader is not None:
            entry = next((e for e in reversed(trader.statuses.values()) if e.order.cloid == wanted), None)
        return {"status": "order", "order": entry} if entry is not None else {"status": "unknownOid"}

    def _historical_orders(self, request: Mapping[str, Any]) -> Any:
        trader = self._trader(request)
        return list(reversed(trader.history))[:HISTORY_ROWS] if trader is not None else []

    def _user_fills(self, request: Mapping[str, Any]) -> Any:
        trader = self._trader(request)
        return list(reversed(trader.fills))[:HISTORY_ROWS] if trader is not None else []

    def _user_fills_by_time(self, request: Mapping[str, Any]) -> Any:
        trader = self._trader(request)
        start_ms, end_ms = _time(request, "startTime", None), _time(request, "endTime", _NEVER_MS)
        if trader is None:
            return []
        return [fill for fill in trader.fills if start_ms <= fill.time <= end_ms][:HISTORY_ROWS]

    def _user_role(self, request: Mapping[str, Any]) -> Any:
        return {"role": "user" if self._trader(request) is not None else "missing"}

    def _web_data2(self, request: Mapping[str, Any]) -> Any:
        return self._payloads.web_data2(_user(request))

    # --- the market -----------------------------------------------------------------------------------------------

    def _l2_book(self, request: Mapping[str, Any]) -> Any:
        if not isinstance(request.get("coin"), str):
            raise BadRequestError
        figures, mantissa = request.get("nSigFigs"), request.get("mantissa")
        if figures not in _VENUE_FIGURES or mantissa not in _VENUE_MANTISSAS:
            raise BadParameterError
        if self._payloads.coin(request["coin"]) is None:
            return None
        return self._payloads.book(
            Subscription(type="l2Book", coin=request["coin"], n_sig_figs=figures, mantissa=mantissa)
        )

    def _recent_trades(self, request: Mapping[str, Any]) -> Any:
        return list(reversed(self._payloads.market.exchange.recent_trades[self._coin(request).name]))

    def _candles(self, request: Mapping[str, Any]) -> Any:
        inner = request.get("req")
        if not isinstance(inner, dict) or inner.get("interval") not in INTERVALS_MS:
            raise BadRequestError
        start_ms, end_ms = _time(inner, "startTime", None), _time(inner, "endTime", _NEVER_MS)
        return self._payloads.candles.snapshot(self._coin(inner).name, inner["interval"], start_ms, end_ms)

    def _all_mids(self, request: Mapping[str, Any]) -> Any:
        return self._payloads.mids(self._dex(request))

    def _meta(self, request: Mapping[str, Any]) -> Any:
        return self._payloads.meta(self._dex(request))

    def _meta_and_contexts(self, request: Mapping[str, Any]) -> Any:
        dex = self._dex(request)
        return (self._payloads.meta(dex), self._payloads.contexts(dex))

    # --- fields ---------------------------------------------------------------------------------------------------

    def _trader(self, request: Mapping[str, Any]) -> SimTrader | None:
        return self._payloads.market.traders.get(_user(request))

    def _dex(self, request: Mapping[str, Any]) -> str:
        dex = request.get("dex") or ""
        if dex not in self._payloads.market.dexes:
            raise BadParameterError
        return str(dex)

    def _coin(self, request: Mapping[str, Any]) -> Instrument:
        name = request.get("coin")
        if not isinstance(name, str):
            raise BadRequestError
        coin = self._payloads.coin(name)
        if coin is None:
            raise BadParameterError
        return coin


def _user(request: Mapping[str, Any]) -> str:
    user = request.get("user")
    if not is_address(user):
        raise BadRequestError
    return str(user).lower()


def _time(request: Mapping[str, Any], name: str, default: int | None) -> int:
    value = request.get(name, UNSET)
    if value is UNSET or value is None:
        if default is None:
            raise BadRequestError
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequestError
    return value
