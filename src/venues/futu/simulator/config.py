"""What a simulated gateway can be told."""

from __future__ import annotations

from msgspec import Struct

DEFAULT_SYMBOLS = ("US.AAPL", "US.TSLA", "HK.00700", "HK.09988")


class GatewayConfig(Struct, frozen=True, kw_only=True):
    """A whole simulator.

    Attributes:
        symbols: what exists, in canonical spelling; others are refused as unknown.
        quota: subscriptions over all connections (one per security and data type).
        push_every_s: seconds between two books of a symbol; 0 = only `FutuSimulator.push`.
        depth: levels on each side.
        keep_alive_s: the interval the gateway names when it lets a client in.
        minimum_hold_s: how long a subscription must live before it may be cancelled (a minute on the real one).
        expiry_s: how long subscriptions outlive their connection (a minute on the real one).
        server_times: fill the vendor's times; a cached first push has none of them either way.
        port: 0 = any free one.
    """

    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    seed: int = 1
    quota: int = 100
    push_every_s: float = 1.0
    depth: int = 10
    keep_alive_s: int = 10
    minimum_hold_s: float = 60.0
    expiry_s: float = 60.0
    server_times: bool = True
    host: str = "127.0.0.1"
    port: int = 0
