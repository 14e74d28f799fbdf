"""What REST requests cost at the venue. Pure; the budget they are paid from is in `weight_budget`.

Rows beyond the base weight cost one per started group of 20 (60 for candles). Whether the venue rounds a partial
group up is not documented, so we do (rate-limits-and-user-limits page).
"""

from __future__ import annotations

import math

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
