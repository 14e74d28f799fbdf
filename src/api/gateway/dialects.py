"""The two protocols spoken: time and sales at ``/ws``, order-book middleware at ``/ws/{client_id}``. Pure.

They share their commands and their data messages; they differ in what a symbol alone means and in how a subscription
is confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from src.api.gateway.messages import TOPIC_NAMES, plain


class Dialect(Protocol):
    """How one protocol confirms."""

    name: str
    usual: str
    """The kind of topic that is meant when none is named."""

    def connecting(self, kind: str, symbol: str, venue: str) -> bytes | None:
        """The venue has to be asked first; None where the dialect has no word for that."""

    def confirmed(self, kind: str, symbol: str) -> bytes:
        """The venue sends it."""

    def ended(self, kind: str, symbol: str) -> bytes:
        """It is sent no longer."""


class TimeAndSales:
    """``connecting``, ``subscribed``, ``unsubscribed``; a symbol alone means its trades."""

    name = "time_and_sales"
    usual = "trade"

    def connecting(self, kind: str, symbol: str, venue: str) -> bytes | None:
        """See `Dialect`."""
        return plain(
            "connecting", symbol=symbol, topic=self._named(kind), message=f"Connecting to {venue.title()} stream..."
        )

    def confirmed(self, kind: str, symbol: str) -> bytes:
        """See `Dialect`."""
        text = f"Subscribed to {symbol} {TOPIC_NAMES[kind]}"
        return plain("subscribed", symbol=symbol, topic=self._named(kind), message=text)

    def ended(self, kind: str, symbol: str) -> bytes:
        """See `Dialect`."""
        text = f"Unsubscribed from {symbol} {TOPIC_NAMES[kind]}"
        return plain("unsubscribed", symbol=symbol, topic=self._named(kind), message=text)

    def _named(self, kind: str) -> str | None:
        return None if kind == self.usual else kind


class Middleware:
    """``subscription_confirmed``, ``unsubscription_confirmed``; a symbol alone means its order book."""

    name = "middleware"
    usual = "book"

    def connecting(self, kind: str, symbol: str, venue: str) -> bytes | None:
        """See `Dialect`."""
        del kind, symbol, venue
        return None

    def confirmed(self, kind: str, symbol: str) -> bytes:
        """See `Dialect`."""
        return plain("subscription_confirmed", symbol=symbol, topic=None if kind == self.usual else kind)

    def ended(self, kind: str, symbol: str) -> bytes:
        """See `Dialect`."""
        return plain("unsubscription_confirmed", symbol=symbol, topic=None if kind == self.usual else kind)


def pong(connected: Mapping[str, bool]) -> bytes:
    """Answer to ``ping``."""
    return plain("pong", alpaca_connected=connected.get("alpaca", False), connected=dict(connected))


def health(connected: Mapping[str, bool], symbols: list[str], clients: int) -> bytes:
    """Answer to ``health``."""
    return plain(
        "health",
        alpaca_connected=connected.get("alpaca", False),
        connected=dict(connected),
        active_symbols=symbols,
        total_clients=clients,
    )
