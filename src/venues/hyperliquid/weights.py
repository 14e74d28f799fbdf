"""What REST requests cost at the venue, and the budget they are paid from. Pure: time comes from an injected clock.

The venue grants each address 1200 weight per minute, shared by ``/info``, ``/exchange``, the explorer and posts over
the WebSocket (rate-limits-and-user-limits page); no endpoint tells what is left. Rows beyond the base weight cost one
per started group of 20 (60 for candles); whether the venue rounds a partial group up is not documented, so we do.
"""

from __future__ import annotations

import math
from collections import deque

from msgspec import Struct

from src.models.clock import Clock

WEIGHT_PER_MINUTE = 1200
WINDOW_S = 60.0
USABLE_SHARE = 0.9
"""Part of the published limit that we spend: the venue's minute is not ours, and another program may share it."""

HELD_POLL_S = 0.05
"""How soon to look again when only requests without an answer yet are in the way."""

_DEFAULT_WEIGHT = 20
_BASE_WEIGHT = {
    "l2Book": 2,
    "allMids": 2,
    "clearinghouseState": 2,
    "orderStatus": 2,
    "spotClearinghouseState": 2,
    "exchangeStatus": 2,
    "userRole": 60,
}
_ROWS_PER_WEIGHT = dict.fromkeys(
    (
        "recentTrades",
        "historicalOrders",
        "userFills",
        "userFillsByTime",
        "fundingHistory",
        "userFunding",
        "nonUserFundingUpdates",
        "userNonFundingLedgerUpdates",
        "twapHistory",
        "userTwapSliceFills",
        "userTwapSliceFillsByTime",
        "delegatorHistory",
        "delegatorRewards",
        "validatorStats",
    ),
    20,
) | {"candleSnapshot": 60}
_MOST_ROWS = {"recentTrades": 200, "candleSnapshot": 5000}
_DEFAULT_MOST_ROWS = 2000


def base_weight(request_type: str) -> int:
    """Weight of an info request before its answer is known."""
    return _BASE_WEIGHT.get(request_type, _DEFAULT_WEIGHT)


def rows_weight(request_type: str, rows: int) -> int:
    """Weight added for ``rows`` returned rows; 0 for requests that are not billed by row."""
    group = _ROWS_PER_WEIGHT.get(request_type)
    return 0 if group is None else math.ceil(rows / group)


def is_billed_by_row(request_type: str) -> bool:
    """Whether the number of rows in the answer changes the price."""
    return request_type in _ROWS_PER_WEIGHT


def most_weight(request_type: str) -> int:
    """Weight of the fullest answer the venue is known to give; what a request sets aside until it is answered."""
    return base_weight(request_type) + rows_weight(request_type, _MOST_ROWS.get(request_type, _DEFAULT_MOST_ROWS))


class Hold(Struct):
    """Weight set aside for one request in flight; give it back with `WeightBudget.settle`, once."""

    weight: int


class WeightBudget:
    """A sliding minute that never holds more weight than the usable share of the limit.

    A request first takes a `Hold` for the most it can cost, which counts until it is settled with what it did cost;
    that price then counts for a minute from the settling. So the sum over any minute stays within ``usable`` unless
    an answer costs more than was held for it. One instance per egress address; memory is bounded by the limit.
    """

    def __init__(
        self, *, clock: Clock, per_minute: int = WEIGHT_PER_MINUTE, usable_share: float = USABLE_SHARE
    ) -> None:
        self._clock = clock
        self.usable = max(1, int(per_minute * usable_share))
        self._spent: deque[tuple[float, int]] = deque()
        self._spent_sum = 0
        self._held_sum = 0
        self._paused_until = -math.inf

    def in_use(self) -> int:
        """Weight spent in the last minute plus weight held for requests in flight."""
        self._forget()
        return self._spent_sum + self._held_sum

    def delay(self, weight: int) -> float:
        """Seconds until ``weight`` fits, 0 when it fits now.

        Requests in flight may delay it further, so ask again after waiting. A weight above the whole budget counts
        as the whole budget: it waits for an empty minute instead of for ever.
        """
        self._forget()
        now = self._clock.monotonic()
        pause = max(0.0, self._paused_until - now)
        excess = self._spent_sum + self._held_sum + min(weight, self.usable) - self.usable
        if excess <= 0:
            return pause
        for spent_at, spent in self._spent:
            excess -= spent
            if excess <= 0:
                return max(pause, spent_at + WINDOW_S - now, HELD_POLL_S)
        return max(pause, HELD_POLL_S)

    def take(self, weight: int) -> Hold | None:
        """Set ``weight`` aside, or None when it does not fit now."""
        if self.delay(weight) > 0:
            return None
        hold = Hold(min(weight, self.usable))
        self._held_sum += hold.weight
        return hold

    def settle(self, hold: Hold, spent: int) -> None:
        """Replace ``hold`` by what the request cost; to settle a hold again only adds to what was spent."""
        self._held_sum -= hold.weight
        hold.weight = 0
        if spent > 0:
            self._spent.append((self._clock.monotonic(), spent))
            self._spent_sum += spent

    def pause(self, seconds: float) -> None:
        """Let nothing through for ``seconds``: the venue said 429, for the whole address."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def _forget(self) -> None:
        horizon = self._clock.monotonic() - WINDOW_S
        while self._spent and self._spent[0][0] <= horizon:
            self._spent_sum -= self._spent.popleft()[1]
