"""What a simulator can be told: the market's size and speed, cadences, limits, and what is written down."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

DEFAULT_COINS = ("BTC", "ETH", "SOL", "HYPE", "DOGE", "kPEPE", "MATIC", "xyz:XYZ100", "xyz:TSLA")
POSITION_SIZE_BYTES = 352
ORDER_SIZE_BYTES = 344
"""Typical encoded sizes of one position and one order; turn wished payload sizes into counts."""


class MarketConfig(Struct, frozen=True, kw_only=True):
    """The market.

    Attributes:
        traders: simulated traders, all visible by their address.
        orders_per_trader, positions_per_trader: what traders start with and hover about.
        actions_per_s: decisions of traders per second, over all traders.
        trades_per_s: public trades per second, over all coins.
        filler_coins: extra coins so that a trader can hold many positions.
        volatility: standard deviation of the relative price change per second.
        tick_ms: length of one market step in venue time; events within a step share its time.
        mass_cancel_share: share of decisions that cancel every order of a trader at once.
        funding_every_s: seconds between fundings (an hour on the real venue).
        log_truth: keep every event in memory; switch it off where a simulator runs for long.
    """

    seed: int = 1
    traders: int = 10
    coins: tuple[str, ...] = DEFAULT_COINS
    orders_per_trader: int = 12
    positions_per_trader: int = 4
    actions_per_s: float = 20.0
    trades_per_s: float = 10.0
    filler_coins: int = 0
    volatility: float = 0.0003
    tick_ms: int = 50
    mass_cancel_share: float = 0.002
    funding_every_s: float = 30.0
    log_truth: bool = True


class Cadences(Struct, frozen=True, kw_only=True):
    """Seconds between frames of each kind of feed, as measured on the real venue in 2026."""

    trader_s: float = 5.0
    book_s: float = 5.0
    fast_book_s: float = 0.5
    mids_s: float = 5.0
    bbo_s: float = 0.1
    context_s: float = 1.0

    @classmethod
    def quick(cls, seconds: float = 0.2) -> Cadences:
        """Everything at the same short cadence, for tests."""
        return cls(trader_s=seconds, book_s=seconds, fast_book_s=seconds / 2, mids_s=seconds, context_s=seconds)


class Limits(Struct, frozen=True, kw_only=True):
    """Limits per client address; None switches one off. Values of the documentation of 2026."""

    connections: int | None = 10
    connects_per_minute: int | None = 30
    subscriptions: int | None = 1000
    users: int | None = 10
    messages_per_minute: int | None = 2000
    posts_in_flight: int | None = 100
    rest_weight_per_minute: int | None = 1200

    @classmethod
    def off(cls) -> Limits:
        """No limit at all, for benchmarks."""
        return cls(
            connections=None,
            connects_per_minute=None,
            subscriptions=None,
            users=None,
            messages_per_minute=None,
            posts_in_flight=None,
            rest_weight_per_minute=None,
        )


class SimulatorConfig(Struct, frozen=True, kw_only=True):
    """A whole simulator.

    Attributes:
        legacy: True speaks the protocol of 2025: ``webData2`` is accepted and the split feeds are unknown types.
        silence_close_s: a connection to which nothing was sent for so long is closed; None = never.
        users_freed: when a user no longer counts against the limit: with the last unsubscribe, or only with the end
            of the connection that subscribed.
        leaderboard_rows: rows of the leaderboard file; the simulated traders come first.
        compression: offer permessage-deflate.
        change_per_frame: change one order of a trader before each of its order frames (for benchmarks).
        log_deliveries: keep a copy of every state shown, in memory; switch it off where a simulator runs for long
            (`HyperliquidSimulator.settle` needs it).
        first_frame_rows: rows of past orders and of fills in the first frame of their feeds, at most; the real number
            is not documented.
        start_ms: venue time at the start; None = the wall clock.
        port, api_port: 0 = any free port.
    """

    market: MarketConfig = MarketConfig()
    cadences: Cadences = Cadences()
    limits: Limits = Limits()
    legacy: bool = False
    silence_close_s: float | None = 60.0
    users_freed: Literal["unsubscribe", "connection"] = "unsubscribe"
    leaderboard_rows: int = 200
    compression: bool = False
    change_per_frame: bool = False
    log_deliveries: bool = True
    first_frame_rows: int = 2_000
    start_ms: int | None = None
    host: str = "127.0.0.1"
    port: int = 0
    api_port: int = 0
    max_write_buffer_bytes: int = 8 * 1024 * 1024
