"""What a frame about the history of a trader's orders means, and what the venue's words for statuses do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.models.messages import Data, OrderHistory
from src.models.streams import StreamKey
from src.venues.hyperliquid.statuses import LIVE_STATUSES, is_end, is_refusal
from tests.support.hyperliquid_messages import RECEIVED_MS, USER, decode, frame, order, reason_of

RECORDED = Path(__file__).parents[5] / "shared/data/hyperliquid/recorded"
SPECIFIED = [
    "filled",
    "canceled",
    "rejected",
    "scheduledCancel",
    "internalCancel",
    "marginCanceled",
    "vaultWithdrawalCanceled",
    "openInterestCapCanceled",
    "selfTradeCanceled",
    "reduceOnlyCanceled",
    "siblingFilledCanceled",
    "delistedCanceled",
    "liquidatedCanceled",
    "outcomeSettledCanceled",
    "tickRejected",
    "minTradeNtlRejected",
    "perpMarginRejected",
    "reduceOnlyRejected",
    "badAloPxRejected",
    "iocCancelRejected",
    "badTriggerPxRejected",
    "marketOrderNoLiquidityRejected",
    "positionIncreaseAtOpenInterestCapRejected",
    "positionFlipAtOpenInterestCapRejected",
    "tooAggressiveAtOpenInterestCapRejected",
    "openInterestIncreaseRejected",
    "insufficientSpotBalanceRejected",
    "oracleRejected",
    "perpMaxPositionRejected",
    "tooManyOpenOrdersRejected",
]


def row(status: str = "filled", at_ms: int = 1_791_280_999_500, **fields: Any) -> dict[str, Any]:
    return {"order": order(**fields), "status": status, "statusTimestamp": at_ms}


def history(*rows: Any, user: str = USER, **fields: Any) -> bytes:
    return frame("userHistoricalOrders", {"user": user, "orderHistory": list(rows), **fields})


def test_a_history_names_its_trader_and_every_status():
    raw = history(
        row("canceled", oid=7, children=[order(oid=8)]), row("open", 5, oid=9), user=USER.upper()[:2] + USER[2:]
    )
    data = decode(raw)
    assert isinstance(data, Data)
    assert data.stream == StreamKey("hyperliquid", "userHistoricalOrders", USER)
    assert (data.venue_ms, data.received_ms, data.size_bytes) == (1_791_280_999_500, RECEIVED_MS, len(raw))
    [message] = data.messages
    assert isinstance(message, OrderHistory)
    assert (message.trader, message.source, message.is_snapshot) == (USER, "userHistoricalOrders", False)
    first, second = message.rows
    assert (first.order.oid, first.status, first.status_ms) == (7, "canceled", 1_791_280_999_500)
    assert (first.ended, first.lived, first.children) == (True, True, (8,))
    assert (first.order.limitPx, first.order.origSz, first.order.tif) == ("84000.0", "0.2", "Gtc")
    assert (second.order.oid, second.ended, second.children) == (9, False, ())


def test_a_snapshot_says_so_and_an_empty_one_is_a_sign_of_life():
    data = decode(history(isSnapshot=True))
    [message] = data.messages
    assert message.is_snapshot
    assert message.rows == ()
    assert (data.venue_ms, data.arrived_ms) == (None, RECEIVED_MS)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (history(row(sz="x")), "bad_number"),
        (history(row(side="Q")), "bad_side"),
        (history(row(), user="0x12"), "bad_address"),
        (history(row(status="a" * 65)), "bad_name"),
        (history({"order": order(), "status": "filled"}), "wrong_type"),
        (history({"order": None, "status": "filled", "statusTimestamp": 5}), "wrong_type"),
        (history(row(at_ms=-1)), "wrong_type"),
        (history(row(at_ms=2**70)), "wrong_type"),
        (frame("userHistoricalOrders", {"user": USER}), "wrong_type"),
    ],
)
def test_what_is_no_history_is_refused(raw, reason):
    assert reason_of(raw) == reason


@pytest.mark.parametrize("status", SPECIFIED)
def test_every_specified_end_is_one(status):
    assert is_end(status)
    assert is_refusal(status) is status.lower().endswith("rejected")


def test_live_and_unknown_words_are_no_ends():
    assert not any(
        is_end(status) for status in (*LIVE_STATUSES, "activated", "waitingForTrigger", "", "somethingNew")
    )
    assert is_end("somethingNewCanceled")


def test_statuses_recorded_by_a_node_are_all_understood():
    path = RECORDED / "gareth_node_order_statuses_20250716.jsonl"
    if not path.exists():
        pytest.skip(f"recorded data is not here: {path.name}")
    told = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for one in entry if isinstance(entry, list) else [entry]:
            status = one.get("status")
            if isinstance(status, str):
                told.add(status)
    assert told
    assert all(status in LIVE_STATUSES or is_end(status) for status in told), told
