"""How the simulated venue behaves."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

DEFAULT_TICKERS = ("BBCA", "TLKM", "BBRI", "BMRI", "ASII")


class StockbitSimulatorConfig(Struct, frozen=True, kw_only=True):
    """Settings of one simulator; the defaults are a venue in good order.

    Attributes:
        host, port, api_port: where to listen; port 0 = any free one.
        tickers: shares that are traded.
        seed: the same seed makes the same market.
        updates_per_s: changes of the book of one share in a second of real time; half of them of either side.
            4.25 makes the documented rate of two shares (169 messages in 20 s).
        trades_per_s: running trades of one share in a second of real time.
        levels: price levels of a side.
        always_open: trade around the clock instead of keeping the hours of the exchange.
        token_life_s, refresh_life_s: of issued tokens, in the venue's time.
        refuses_by: what wrong credentials get: an ``error`` frame and then silence, or a ``close`` after it.
        ping_deadline_s: a connection without a ping of the application for so many seconds is dropped; None = never.
        adds: a subscribe adds to the set instead of replacing it; an empty set clears it in both cases.
        layout: ``nested`` (true) or ``flat`` (of older documents) updates; requests are understood in both.
        keeps_log: remember everything that was sent, for comparisons; a demo may run for days.
    """

    host: str = "127.0.0.1"
    port: int = 0
    api_port: int = 0
    tickers: tuple[str, ...] = DEFAULT_TICKERS
    seed: int = 1
    updates_per_s: float = 4.25
    trades_per_s: float = 0.5
    levels: int = 60
    always_open: bool = False
    token_life_s: float = 86_400.0
    refresh_life_s: float = 7 * 86_400.0
    refuses_by: Literal["error", "close"] = "error"
    ping_deadline_s: float | None = None
    adds: bool = False
    layout: Literal["nested", "flat"] = "nested"
    keeps_log: bool = True
