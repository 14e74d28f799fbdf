"""What a simulated Alpaca is like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

FREE_SYMBOLS = 30
DEFAULT_SYMBOLS: Mapping[str, float] = {"AAPL": 230.0, "MSFT": 480.0, "TSLA": 440.0, "NVDA": 180.0, "AMD": 210.0}
TEST_SYMBOL = "FAKEPACA"


class Account(Struct, frozen=True):
    """A key pair and what its plan allows: ``free`` has IEX and 30 symbols, ``plus`` everything without a limit."""

    key: str = "PKSIMULATED000000001"
    secret: str = "not-a-real-secret"  # noqa: S105 - as it says
    plan: Literal["free", "plus"] = "plus"

    @property
    def symbols(self) -> int | None:
        """Symbols its stream may have."""
        return FREE_SYMBOLS if self.plan == "free" else None


class SimulatorConfig(Struct, frozen=True):
    """One simulator.

    Attributes:
        accounts: who may come in.
        symbols: name -> price of the previous day's close.
        trades_per_s: over all symbols together.
        correction_share, cancel_share: how many trades are corrected or cancelled soon after.
        seed: the same seed trades the same.
        start_ms: the market's time at the start; None = now.
        auth_timeout_s: after the greeting, then 404.
        slot_hold_s: how long a connection that ended without a word still holds the account's slot.
        queue_frames: frames that wait for a client that does not read; with more it is slow: 407.
        rest_per_minute: requests, then 429.
        page_most: rows of a page at most, whatever is asked for.
        recent_sip_s: history of the SIP that the free plan does not show.
    """

    accounts: tuple[Account, ...] = (Account(),)
    symbols: Mapping[str, float] = msgspec.field(default_factory=lambda: DEFAULT_SYMBOLS)
    trades_per_s: float = 50.0
    correction_share: float = 0.0
    cancel_share: float = 0.0
    seed: int = 1
    start_ms: int | None = None
    auth_timeout_s: float = 10.0
    slot_hold_s: float = 0.0
    queue_frames: int = 1_000
    rest_per_minute: int = 200
    page_most: int = 10_000
    recent_sip_s: float = 900.0
    host: str = "127.0.0.1"
    port: int = 0
