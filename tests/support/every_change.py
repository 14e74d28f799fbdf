"""One change of every kind with every field filled, and small ones by number."""

from __future__ import annotations

import msgspec

from src.models.changes import (
    AccountSample,
    BarSeen,
    BookChange,
    Change,
    DeadLetter,
    FillSeen,
    HoleClosed,
    HoleOpened,
    OrderChange,
    OrderEnded,
    OrderLink,
    PositionChange,
    PositionMarks,
    QuoteSeen,
    TradeCancelledSeen,
    TradeCorrectedSeen,
    TradeSeen,
    TradingStatusSeen,
)
from src.models.messages import Bar, Book, Fill, Level, Quote, Trade, TradeCancelled, TradeCorrected, TradingStatus
from src.models.positions import Account, CumFunding, Leverage, MarginSummary
from tests.support.trader_states import START_MS, TRADER, VENUE, a_position, an_order

STREAM = f"{VENUE}/openOrders/{TRADER}"


def every_change() -> list[Change]:
    """All kinds, with nulls, negative numbers, 64-bit integers, odd text and bytes in them."""
    order = an_order(2**63 + 5, cloid="0x" + "f" * 32, parentOid=2**40, triggerPx="0.000001", coin="xyz:TŞLA/☃")
    position = a_position(
        "ETH",
        "-0.0001",
        leverage=Leverage("isolated", 2**31 - 1, "-1234.5"),
        cumFunding=CumFunding("1", None, "-3"),
        liquidationPx=None,
    )
    summary = MarginSummary("1.5", "2", None, "-0.0")
    book = Book(VENUE, "BTC", START_MS, START_MS + 1, (Level("1", "2", 3), Level("0.9", "2")), ())
    trade = Trade(VENUE, "BTC", "77", "1", "2", "B", START_MS, START_MS, ("0xa", "0xb"), "0xh", "X", ("@", "F"))
    fill = Fill(
        VENUE, TRADER, "BTC", "1", "2", "A", START_MS, START_MS + 9, 2**63, 2**52, crossed=True,
        liquidation={"markPx": "1", "method": "market", "deep": [1, None, {"a": 0.1}]}, is_snapshot=True,
    )  # fmt: skip
    fields = {
        "sz": {"from": 1.0, "to": 0.5},
        "tif": {"from": None, "to": "Gtc"},
        "reduceOnly": {"from": False, "to": True},
    }
    return [
        OrderChange(VENUE, TRADER, "", "new", order, 1, {}, None, START_MS),
        OrderChange(VENUE, TRADER, "xyz", "updated", order, 2, fields, START_MS, START_MS, None, 5, 6, reopened=True),
        OrderChange(VENUE, TRADER, "", "closed", an_order(1), 3, {}, START_MS, START_MS, "late"),
        OrderChange(
            VENUE,
            TRADER,
            "",
            "closed",
            an_order(1),
            2,
            {},
            None,
            START_MS,
            "live",
            reason="filled",
            ended_ms=START_MS,
            source="history",
        ),
        OrderEnded(VENUE, TRADER, 2**40, 3, "siblingFilledCanceled", START_MS, START_MS + 1),
        OrderLink(VENUE, TRADER, 2**40, 2**41, None),
        PositionChange(VENUE, TRADER, "", "updated", "flip", position, 7, fields, START_MS, START_MS),
        PositionMarks(VENUE, TRADER, "", position, 7, None, START_MS),
        AccountSample(VENUE, TRADER, "", Account(summary, None, "1", "2"), START_MS, START_MS),
        BookChange(book, changed=True),
        TradeSeen(trade),
        TradeSeen(msgspec.structs.replace(trade, exchange_name="IEX", tape="C", ts_ns=2**62, update="cancelled")),
        TradeCorrectedSeen(
            TradeCorrected(VENUE, "BTC", "76", "0.9", "2", trade, START_MS, START_MS + 1, ("@",), START_MS * 10**6)
        ),
        TradeCancelledSeen(
            TradeCancelled(VENUE, "BTC", "76", "0.9", "2", START_MS, START_MS, "C", "V", "IEX", "C", 2**62)
        ),
        QuoteSeen(
            Quote(VENUE, "BTC", "1", "2", "0", "0", START_MS, START_MS, "Q", " ", ("R",), "A", 2**62, "shares")
        ),
        BarSeen(Bar(VENUE, "BTC", "1m", "1", "2", "0.5", "1.5", "9", START_MS, START_MS, "1.2", 3, updated=True)),
        TradingStatusSeen(TradingStatus(VENUE, "BTC", "H", "halt", START_MS, START_MS, "T1", "news", "C", 2**62)),
        FillSeen(fill),
        HoleOpened(STREAM, VENUE, START_MS, "disconnect", "code 1006"),
        HoleClosed(STREAM, VENUE, START_MS, START_MS + 5, "disconnect"),
        DeadLetter(VENUE, "decode", "malformed_json", "at 5", b"\x00\xff[", 3, START_MS),
    ]


def numbered(*numbers: int) -> list[Change]:
    """Small changes that carry a number."""
    return [OrderLink(VENUE, TRADER, number) for number in numbers]


def numbers(changes: list[Change]) -> list[int]:
    """The numbers of `numbered` changes."""
    return [change.oid for change in changes if isinstance(change, OrderLink)]
