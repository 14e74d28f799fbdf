"""What clients may ask for: subscriptions with their checks and their normalised echo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from src.venues.hyperliquid.simulator.candles import INTERVALS_MS

USER_TYPES = frozenset(
    {
        "clearinghouseState",
        "openOrders",
        "allDexsClearinghouseState",
        "spotState",
        "webData2",
        "webData3",
        "orderUpdates",
        "userEvents",
        "userFills",
        "userHistoricalOrders",
    }
)
COIN_TYPES = frozenset({"l2Book", "trades", "bbo", "candle", "activeAssetCtx"})
SPLIT_TYPES = frozenset({"clearinghouseState", "openOrders", "allDexsClearinghouseState", "spotState", "webData3"})
"""Feeds that came in place of webData2; the protocol of 2025 does not know them."""
INCREMENTAL_TYPES = frozenset({"trades", "userFills", "userHistoricalOrders", "orderUpdates", "userEvents"})
"""Sent on change, not on a cadence."""
_DEX_TYPES = frozenset({"clearinghouseState", "openOrders", "allMids"})
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNIFICANT_FIGURES = frozenset({None, 2, 3, 4, 5})
_MANTISSAS = frozenset({None, 2, 5})
_MOST_FIGURES = 5


class UnknownTypeError(Exception):
    """The venue cannot parse this: no such type, or not JSON of the right shape."""


class InvalidSubscriptionError(Exception):
    """A known type with a bad parameter."""


class Subscription(Struct, frozen=True):
    """One subscription; equal when the venue would call it the same."""

    type: str
    user: str | None = None
    coin: str | None = None
    dex: str | None = None
    interval: str | None = None
    n_sig_figs: int | None = None
    mantissa: int | None = None
    fast: bool = False

    def echo(self) -> dict[str, Any]:
        """The normalised form the venue acknowledges with."""
        shown: dict[str, Any] = {"type": self.type}
        for name in ("user", "coin", "dex", "interval"):
            value = getattr(self, name)
            if value is not None:
                shown[name] = value
        if self.type == "l2Book":
            shown |= {"nSigFigs": self.n_sig_figs, "mantissa": self.mantissa, "fast": self.fast}
        elif self.type == "userFills":
            shown["aggregateByTime"] = False
        elif self.type == "spotState":
            shown["ignorePortfolioMargin"] = False
        return shown


def parse_subscription(raw: object, *, coins: Mapping[str, object], dexes: list[str], legacy: bool) -> Subscription:
    """Check a subscription object.

    Raises:
        UnknownTypeError: no such type in this version of the protocol, or a field is missing or of a wrong type.
        InvalidSubscriptionError: the type is known and a parameter is bad.
    """
    if not isinstance(raw, dict) or not isinstance(kind := raw.get("type"), str):
        raise UnknownTypeError
    known = kind in USER_TYPES or kind in COIN_TYPES or kind == "allMids"
    if not known or kind in (SPLIT_TYPES if legacy else {"webData2"}):
        raise UnknownTypeError
    return Subscription(
        type=kind,
        user=_user(raw) if kind in USER_TYPES else None,
        coin=_coin(raw, coins) if kind in COIN_TYPES else None,
        dex=_dex(raw, dexes) if kind in _DEX_TYPES else None,
        interval=_interval(raw) if kind == "candle" else None,
        **(_aggregation(raw) if kind == "l2Book" else {}),
    )


def is_address(value: object) -> bool:
    """True for ``0x`` and forty hex digits."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def _user(raw: Mapping[str, Any]) -> str:
    user = raw.get("user")
    if not isinstance(user, str):
        raise UnknownTypeError
    if not is_address(user):
        raise InvalidSubscriptionError
    return user.lower()


def _coin(raw: Mapping[str, Any], coins: Mapping[str, object]) -> str:
    coin = raw.get("coin")
    if not isinstance(coin, str):
        raise UnknownTypeError
    if coin not in coins:
        raise InvalidSubscriptionError
    return coin


def _dex(raw: Mapping[str, Any], dexes: list[str]) -> str | None:
    dex = raw.get("dex")
    if dex is not None and dex not in dexes:
        raise InvalidSubscriptionError
    return dex


def _interval(raw: Mapping[str, Any]) -> str:
    interval = raw.get("interval")
    if not isinstance(interval, str):
        raise UnknownTypeError
    if interval not in INTERVALS_MS:
        raise InvalidSubscriptionError
    return interval


def _aggregation(raw: Mapping[str, Any]) -> dict[str, Any]:
    figures, mantissa, fast = raw.get("nSigFigs"), raw.get("mantissa"), raw.get("fast")
    if figures not in _SIGNIFICANT_FIGURES or mantissa not in _MANTISSAS:
        raise InvalidSubscriptionError
    if mantissa is not None and figures != _MOST_FIGURES:
        raise InvalidSubscriptionError
    return {"n_sig_figs": figures, "mantissa": mantissa, "fast": bool(fast)}
