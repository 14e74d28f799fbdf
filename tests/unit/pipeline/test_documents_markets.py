"""Accounts, books, trades, fills, holes and dead letters as stored documents."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from src.models.changes import (
    AccountSample,
    BookChange,
    DeadLetter,
    FillSeen,
    HoleClosed,
    HoleOpened,
    TradeSeen,
)
from src.models.messages import Book, Fill, Level, Trade
from src.models.positions import Account, MarginSummary
from src.models.writes import Collection, Insert, Patch, Upsert
from src.pipeline import documents as d
from tests.support.trader_states import TRADER

VENUE_MS = 1_791_280_000_123
RECEIVED_MS = 1_791_280_001_456
VENUE_DATE = datetime(2026, 10, 6, 9, 46, 40, 123_000, tzinfo=UTC)
RECEIVED_DATE = datetime(2026, 10, 6, 9, 46, 41, 456_000, tzinfo=UTC)


# -- accounts, markets ---------------------------------------------------------------------------------------------


def test_account_values_are_named_by_trader_dex_and_minute():
    account = Account(MarginSummary("10250.5", "1.0", "-2.0", "3.0"), MarginSummary("9.0"), "4.0", "5.0")
    write = d.write_of_account(AccountSample("hyperliquid", TRADER, "", account, VENUE_MS, RECEIVED_MS))
    minute_ms = VENUE_MS - VENUE_MS % 60_000
    assert write.document == {
        "_id": f"{TRADER}::{minute_ms}",
        "ethAddress": TRADER,
        "dex": "",
        "accountValue": 10250.5,
        "totalNtlPos": 1.0,
        "totalRawUsd": -2.0,
        "totalMarginUsed": 3.0,
        "crossAccountValue": 9.0,
        "crossTotalNtlPos": None,
        "crossTotalRawUsd": None,
        "crossTotalMarginUsed": None,
        "maintenanceMarginUsed": 4.0,
        "withdrawable": 5.0,
        "timestamp": VENUE_DATE,
        "receivedAt": RECEIVED_DATE,
    }


def test_an_account_without_margin_has_what_is_left():
    write = d.write_of_account(AccountSample("hyperliquid", TRADER, "", Account(), None, RECEIVED_MS))
    assert write.document["timestamp"] == RECEIVED_DATE
    assert "accountValue" not in write.document


def a_book(bids, asks) -> BookChange:
    levels = [tuple(Level(*level) for level in side) for side in (bids, asks)]
    return BookChange(Book("hyperliquid", "BTC", VENUE_MS, RECEIVED_MS, *levels), changed=True)


def test_a_changed_book_is_history_and_the_latest():
    history, latest = d.writes_of_book(a_book([("10.0", "3.0", 2), ("9.5", "1.0")], [("11.0", "1.0", 1)]))
    assert isinstance(history, Insert)
    assert history.document == {
        "_id": f"hyperliquid:BTC:{VENUE_MS}",
        "venue": "hyperliquid",
        "symbol": "BTC",
        "bids": [[10.0, 3.0, 2], [9.5, 1.0]],
        "asks": [[11.0, 1.0, 1]],
        "mid": 10.5,
        "spread": 1.0,
        "imbalance": 0.6,
        "timestamp": VENUE_DATE,
        "receivedAt": RECEIVED_DATE,
    }
    assert (latest.collection, latest.id, latest.version_field, latest.version) == (
        Collection.ORDERBOOKS,
        "hyperliquid:BTC",
        "timestamp",
        VENUE_DATE,
    )
    assert latest.values == {name: value for name, value in history.document.items() if name != "_id"}


def test_an_unchanged_book_is_only_the_latest():
    from msgspec import structs

    [latest] = d.writes_of_book(structs.replace(a_book([], []), changed=False))
    assert isinstance(latest, Upsert)


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [
        ([], [], (None, None, None)),
        ([("10.0", "1.0")], [], (None, None, 1.0)),
        ([], [("10.0", "1.0")], (None, None, -1.0)),
        ([("10.0", "0.0")], [("11.0", "0.0")], (10.5, 1.0, None)),
        ([("0.1", "1.0")], [("0.3", "1.0")], (0.2, 0.2, 0.0)),
        ([("0.00001234", "1")], [("0.00001236", "1")], (0.00001235, 2e-08, 0.0)),
    ],
)
def test_mid_spread_and_imbalance(bids, asks, expected):
    document = d.writes_of_book(a_book(bids, asks))[0].document
    assert (document["mid"], document["spread"], document["imbalance"]) == expected


def test_a_trade_has_the_fields_users_rely_on():
    trade = Trade("hyperliquid", "BTC", "5-6", "10.5", "0.5", "A", VENUE_MS, RECEIVED_MS, ("0xa", "0xb"), "0xh")
    document = d.write_of_trade(TradeSeen(trade)).document
    assert document == {
        "_id": "hyperliquid:BTC:5-6",
        "venue": "hyperliquid",
        "symbol": "BTC",
        "tradeId": "5-6",
        "price": 10.5,
        "size": 0.5,
        "side": "A",
        "timestamp": VENUE_DATE,
        "receivedAt": RECEIVED_DATE,
        "users": ["0xa", "0xb"],
        "hash": "0xh",
    }
    other = Trade("alpaca", "AAPL", "7", "1", "2", None, 1, 2, exchange="V", conditions=("@", "T"))
    document = d.write_of_trade(TradeSeen(other)).document
    assert (document["exchange"], document["conditions"], document["side"]) == ("V", ["@", "T"], None)


def test_a_fill_is_named_by_its_identity():
    fill = Fill(
        "hyperliquid", TRADER, "BTC", "10.5", "0.5", "A", VENUE_MS, RECEIVED_MS, 7, 9, True, "Sell", "1.0", "2.0", "0.1", "USDC",
        "0.01", "0xc", 3, "0xh", {"method": "market"},
    )  # fmt: skip
    document = d.write_of_fill(FillSeen(fill)).document
    assert document == {
        "_id": f"{TRADER}:BTC:{VENUE_MS}:9:7",
        "ethAddress": TRADER,
        "coin": "BTC",
        "px": 10.5,
        "sz": 0.5,
        "side": "A",
        "oid": 7,
        "tid": 9,
        "crossed": True,
        "dir": "Sell",
        "startPosition": 1.0,
        "closedPnl": 2.0,
        "fee": 0.1,
        "feeToken": "USDC",
        "timestamp": VENUE_DATE,
        "receivedAt": RECEIVED_DATE,
        "builderFee": 0.01,
        "cloid": "0xc",
        "twapId": 3,
        "hash": "0xh",
        "liquidation": {"method": "market"},
    }


def test_a_fill_of_2023_has_nulls_and_leaves_out_what_is_optional():
    fill = Fill("hyperliquid", TRADER, "BTC", "10.5", "0.5", "A", VENUE_MS, RECEIVED_MS, 7)
    document = d.write_of_fill(FillSeen(fill)).document
    assert document["_id"] == f"{TRADER}:BTC:{VENUE_MS}:None:7"
    assert document["tid"] is None
    assert not {"builderFee", "cloid", "twapId", "hash", "liquidation"} & set(document)


# -- holes, letters ------------------------------------------------------------------------------------------------


def test_a_hole_begins_open_and_ends_once():
    opened = HoleOpened("hyperliquid/l2Book/BTC", "hyperliquid", VENUE_MS, "disconnect", "code 1006")
    document = d.write_of_hole(opened).document
    assert document == {
        "_id": f"hyperliquid/l2Book/BTC:{VENUE_MS}",
        "venue": "hyperliquid",
        "stream": "hyperliquid/l2Book/BTC",
        "subject": "BTC",
        "from": VENUE_DATE,
        "to": None,
        "reason": "disconnect",
        "detail": "code 1006",
        "repaired": False,
    }
    end = d.write_of_hole_end(HoleClosed(opened.stream, opened.venue, VENUE_MS, RECEIVED_MS, "disconnect"))
    assert end == Patch(Collection.COVERAGE, document["_id"], {"to": RECEIVED_DATE}, {"to": None})


def test_a_dead_letter_shows_what_it_was_whatever_it_was():
    letter = DeadLetter("hyperliquid", "decode", "malformed_json", "at byte 0", b"\xff\x00[", 3, RECEIVED_MS)
    document = d.write_of_dead_letter(letter).document
    assert document["sample"] == "\\xff\x00["
    assert (document["stage"], document["reason"], document["sizeBytes"]) == ("decode", "malformed_json", 3)
    assert document["receivedAt"] == RECEIVED_DATE


def test_the_same_letter_in_the_same_millisecond_is_one_document():
    letters = [DeadLetter("v", "decode", "r", "", sample, 1, RECEIVED_MS) for sample in (b"a", b"a", b"b")]
    assert len({d.write_of_dead_letter(letter).document["_id"] for letter in letters}) == 2
