"""Who has subscribed what at a simulated gateway: quota over all connections, minimum hold, expiry. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from src.venues.futu.simulator.config import GatewayConfig

QUOTA_EXCEEDED = "subscription quota exceeded"
HELD_TOO_SHORT = "a subscription must be held for one minute before it can be cancelled"
UNKNOWN = "unknown stock"


class _Subscribed(Struct):
    since: float
    pushes: bool
    gone_at: float | None = None  # its connection ended then


class SubscriptionBook:
    """Subscriptions by (connection number, symbol). Times are monotonic seconds."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._held: dict[tuple[int, str], _Subscribed] = {}

    def used(self, now: float) -> int:
        """Units taken."""
        self._expire(now)
        return len(self._held)

    def left(self, now: float) -> int:
        """Units left."""
        return max(0, self._config.quota - self.used(now))

    def of(self, connection: int) -> list[str]:
        """What a connection has subscribed."""
        return [symbol for number, symbol in self._held if number == connection]

    def receivers(self, symbol: str) -> list[int]:
        """Connections that get pushes of ``symbol``."""
        return [n for (n, s), held in self._held.items() if s == symbol and held.pushes and held.gone_at is None]

    def subscribe(self, connection: int, symbols: Iterable[str], now: float, *, pushes: bool) -> str:
        """All or none of these; returns why not, empty when done."""
        wanted = list(dict.fromkeys(symbols))
        self._expire(now)
        if any(symbol not in self._config.symbols for symbol in wanted):
            return UNKNOWN
        new = [symbol for symbol in wanted if (connection, symbol) not in self._held]
        if len(new) > self.left(now):
            return QUOTA_EXCEEDED
        for symbol in new:
            self._held[connection, symbol] = _Subscribed(now, pushes)
        for symbol in wanted:
            self._held[connection, symbol].pushes |= pushes
        return ""

    def unsubscribe(self, connection: int, symbols: Iterable[str], now: float) -> str:
        """All or none of these; returns why not, empty when done."""
        found = [key for key in ((connection, symbol) for symbol in symbols) if key in self._held]
        if any(now - self._held[key].since < self._config.minimum_hold_s for key in found):
            return HELD_TOO_SHORT
        for key in found:
            del self._held[key]
        return ""

    def drop(self, connection: int, symbol: str) -> None:
        """Lose a subscription without a word (a fault)."""
        self._held.pop((connection, symbol), None)

    def disconnected(self, connection: int, now: float) -> None:
        """The connection ended; its subscriptions take quota for a while."""
        for (number, _), held in self._held.items():
            if number == connection:
                held.gone_at = now

    def _expire(self, now: float) -> None:
        expiry_s = self._config.expiry_s
        for key, held in list(self._held.items()):
            if held.gone_at is not None and now - held.gone_at >= expiry_s:
                del self._held[key]
