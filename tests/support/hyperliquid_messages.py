"""Messages of Hyperliquid, composed field by field, and what the mapper makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from src.models.errors import WireError
from src.models.messages import OrdersSnapshot
from src.models.orders import Order, unpack_order
from src.venues.hyperliquid.mapper import HyperliquidMapper

USER = "0x00000000000000000000000000000000000000aa"
RECEIVED_MS = 1_791_280_999_999


def order(oid: int = 566617880209, **fields: Any) -> dict[str, Any]:
    return {
        "coin": "BTC",
        "side": "B",
        "limitPx": "84000.0",
        "sz": "0.15",
        "oid": oid,
        "timestamp": 1791280999484,
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": False,
        "orderType": "Limit",
        "origSz": "0.2",
        "tif": "Gtc",
        "cloid": "0x000000000000000000065d291ba7c026",
        **fields,
    }


def position(**fields: Any) -> dict[str, Any]:
    known = {
        "coin": "BTC",
        "szi": "-0.4",
        "leverage": {"type": "cross", "value": 20},
        "entryPx": "86100.0",
        "positionValue": "34500.0",
        "unrealizedPnl": "-60.0",
        "returnOnEquity": "-0.0348432",
        "liquidationPx": "109871.2",
        "marginUsed": "1725.0",
        "maxLeverage": 40,
        "cumFunding": {"allTime": "12.5", "sinceOpen": "-0.41", "sinceChange": "-0.41"},
    }
    return {"type": "oneWay", "position": {**known, **fields}}


def state(*positions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    margin = {
        "accountValue": "10250.5",
        "totalNtlPos": "34500.0",
        "totalRawUsd": "-44750.5",
        "totalMarginUsed": "1.0",
    }
    return {
        "marginSummary": margin,
        "crossMarginSummary": {**margin, "accountValue": "9.0"},
        "crossMaintenanceMarginUsed": "431.25",
        "withdrawable": "8525.5",
        "assetPositions": list(positions),
        "time": 1791279140401,
        **fields,
    }


def frame(channel: str, data: Any) -> bytes:
    return json.dumps({"channel": channel, "data": data}).encode()


def open_orders(*orders: Any, user: str = USER, **fields: Any) -> bytes:
    return frame("openOrders", {"dex": "", "user": user, "orders": list(orders), **fields})


def clearinghouse(inner: Any, **fields: Any) -> bytes:
    return frame("clearinghouseState", {"dex": "", "user": USER, "clearinghouseState": inner, **fields})


def web_data2(**fields: Any) -> bytes:
    return frame("webData2", {"user": USER, "serverTime": 1750912503968, "meta": {"universe": []}, **fields})


def trade(**fields: Any) -> dict[str, Any]:
    known = {
        "coin": "BTC",
        "side": "B",
        "px": "85827.0",
        "sz": "0.02721",
        "time": 1791278878126,
        "hash": "0x" + "0" * 64,
        "tid": 188095306343783,
        "users": ["0x04", "0x05"],
    }
    return {**known, **fields}


def fill(**fields: Any) -> dict[str, Any]:
    known = {
        "coin": "BTC",
        "px": "86006.0",
        "sz": "0.07905",
        "side": "B",
        "time": 1791280942711,
        "startPosition": "-0.14136",
        "dir": "Close Short",
        "closedPnl": "-2.600745",
        "hash": "0x" + "a" * 64,
        "oid": 566617233807,
        "crossed": True,
        "fee": "2.106",
        "tid": 669583051366496,
        "feeToken": "USDC",
        "twapId": None,
    }
    return {**known, **fields}


def book(**fields: Any) -> bytes:
    levels = [[{"px": "85821.0", "sz": "0.96592", "n": 4}], [{"px": "85822.0", "sz": "26.98831"}]]
    return frame("l2Book", {"coin": "BTC", "time": 1791278882097, "levels": levels, **fields})


def decode(raw: bytes | str) -> Any:
    return HyperliquidMapper().decode(raw, RECEIVED_MS)


def reason_of(raw: bytes | str) -> str:
    with pytest.raises(WireError) as caught:
        decode(raw)
    assert len(caught.value.detail) <= 300
    return caught.value.reason


def rows_of(data: Any) -> dict[int, Order]:
    [snapshot] = [message for message in data.messages if isinstance(message, OrdersSnapshot)]
    return {oid: unpack_order(row) for oid, row in snapshot.rows.items()}
