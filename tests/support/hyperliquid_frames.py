"""Frames of Hyperliquid, whole and damaged, for property tests."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.support.hyperliquid_recordings import RECORDED, recorded_frames

USER = "0x00000000000000000000000000000000000000Aa"

_ORDER = {
    "coin": "BTC",
    "side": "B",
    "limitPx": "84000.0",
    "sz": "0.15",
    "oid": 566617880209,
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
}
_CHILD = {
    **_ORDER,
    "oid": 566617880210,
    "parentOid": 1,
    "isTrigger": True,
    "triggerPx": "82000.0",
    "cloid": None,
    "tif": None,
}
_STATE = {
    "marginSummary": {"accountValue": "10.5", "totalNtlPos": "3.0", "totalRawUsd": "-4.5", "totalMarginUsed": "1.0"},
    "crossMarginSummary": None,
    "crossMaintenanceMarginUsed": "431.25",
    "withdrawable": "8525.5",
    "assetPositions": [
        {
            "type": "oneWay",
            "position": {
                "coin": "BTC",
                "szi": "-0.4",
                "leverage": {"type": "isolated", "value": 20, "rawUsd": "1.5"},
                "entryPx": "86100.0",
                "positionValue": "34500.0",
                "unrealizedPnl": "-60.0",
                "returnOnEquity": "-0.03",
                "liquidationPx": None,
                "marginUsed": "1725.0",
                "maxLeverage": 40,
                "cumFunding": {"allTime": "12.5", "sinceOpen": "-0.41", "sinceChange": "-0.41"},
            },
        },
        {"type": "oneWay", "position": {"coin": "xyz:TSLA", "szi": "7"}},
    ],
    "time": 1791279140401,
}
_FILL = {
    "coin": "BTC",
    "px": "86006.0",
    "sz": "0.07905",
    "side": "B",
    "time": 1791280942711,
    "startPosition": "-0.14136",
    "dir": "Close Short",
    "closedPnl": "-2.600745",
    "hash": "0x0d",
    "oid": 566617233807,
    "crossed": True,
    "fee": "2.106",
    "tid": 669583051366496,
    "feeToken": "USDC",
    "twapId": None,
    "liquidation": {"liquidatedUser": USER, "markPx": "1.0", "method": "market"},
}
_TRADE = {
    "coin": "BTC",
    "side": "B",
    "px": "85827.0",
    "sz": "0.02721",
    "time": 1791278878126,
    "hash": "0xe7",
    "tid": 188095306343783,
    "users": ["0x04", "0x05"],
}
_LEVELS = [
    [{"px": "85821.0", "sz": "0.9", "n": 4}, {"px": "85818.0", "sz": "0.8"}],
    [{"px": "85822.0", "sz": "2", "n": 1}],
]
_MARKET = {"universe": [{"szDecimals": 5, "name": "BTC"}], "marginTables": [[56, {"marginTiers": []}]]}
_SUBSCRIPTION = {"type": "openOrders", "user": USER, "dex": "xyz"}


def _envelope(channel: str, data: Any) -> dict[str, Any]:
    return {"channel": channel, "data": data}


COMPOSED: list[Any] = [
    _envelope(
        "openOrders", {"dex": "", "user": USER, "orders": [{**_ORDER, "children": [_CHILD]}, {**_ORDER, "oid": 7}]}
    ),
    _envelope("openOrders", {"dex": "xyz", "user": USER, "orders": []}),
    _envelope("clearinghouseState", {"dex": "", "user": USER, "clearinghouseState": _STATE}),
    _envelope("allDexsClearinghouseState", {"user": USER, "clearinghouseStates": [["", _STATE], ["xyz", _STATE]]}),
    _envelope(
        "webData2",
        {
            "clearinghouseState": _STATE,
            "leadingVaults": [],
            "totalVaultEquity": "0.0",
            "openOrders": [_ORDER, _CHILD],
            "agentAddress": None,
            "cumLedger": "49.92",
            "meta": _MARKET,
            "assetCtxs": [{"funding": "0.1", "impactPxs": ["1.0", "2.0"]}],
            "serverTime": 1791279140401,
            "isVault": False,
            "user": USER,
            "twapStates": [],
            "spotState": {"balances": [{"coin": "USDC", "token": 0}]},
            "spotAssetCtxs": [{"coin": "PURR/USDC", "markPx": "0.19"}],
            "perpsAtOpenInterestCap": ["CANTO"],
        },
    ),
    _envelope("webData2", {"user": USER, "clearinghouseState": _STATE}),
    _envelope("l2Book", {"coin": "BTC", "time": 1791278882097, "levels": _LEVELS, "fast": True}),
    _envelope("trades", [_TRADE, {**_TRADE, "tid": 2}]),
    _envelope("userFills", {"user": USER, "isSnapshot": True, "fills": [_FILL]}),
    _envelope(
        "userHistoricalOrders",
        {
            "user": USER,
            "orderHistory": [
                {"order": {**_ORDER, "children": [_CHILD]}, "status": "open", "statusTimestamp": 1791280999484},
                {"order": {**_ORDER, "oid": 9}, "status": "marginCanceled", "statusTimestamp": 1791280999485},
            ],
        },
    ),
    _envelope("subscriptionResponse", {"method": "subscribe", "subscription": _SUBSCRIPTION}),
    _envelope("error", "Already subscribed: " + json.dumps(_SUBSCRIPTION)),
    _envelope("webData3", {"userState": {"user": USER}}),
    {"channel": "pong"},
]

_KEPT_OF_MARKET = 3


def _cut(frame: Any) -> Any:
    """A recorded webData2 with little of the market left, so that damage hits the rest of it."""
    data = frame.get("data") if isinstance(frame, dict) else None
    if not isinstance(data, dict):
        return frame
    for name in ("assetCtxs", "spotAssetCtxs"):
        if name in data:
            data[name] = data[name][:_KEPT_OF_MARKET]
    if "meta" in data:
        data["meta"]["universe"] = data["meta"]["universe"][:_KEPT_OF_MARKET]
    return frame


def corpus() -> list[Any]:
    """Parsed frames: composed ones and, where they are here, the recorded ones."""
    recorded = [_cut(json.loads(raw)) for _, raw in recorded_frames()] if RECORDED.is_dir() else []
    small = [frame for frame in recorded if len(json.dumps(frame)) < 20_000]
    return [*COMPOSED, *small[::3]]


NUMBER_TEXTS = st.sampled_from(
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e5",
        "1e-7",
        "9" * 400,
        "1_0",
        " 1",
        "",
        "-",
        "0",
        "-0.0",
        "0.1",
        "007",
        "\u0661",
    ]
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 253_402_300_799_999, 253_402_300_800_000, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    NUMBER_TEXTS,
    st.text(max_size=80),
    st.sampled_from(["\u0000", "$set", "a.b", "x" * 5_000, USER.upper(), "0x" + "f" * 40, "👻", "\ud800"]),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["", "$a", "a.b", "k", "\u0000"]), inner, max_size=3),
        ),
        max_leaves=8,
    ),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


@st.composite
def damaged_trees(draw: st.DrawFn, frames: list[Any]) -> bytes:
    """A frame with up to three of its values replaced, removed or repeated."""
    tree = copy.deepcopy(draw(st.sampled_from(frames)))
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(_places(tree)[1:] or [("channel",)]))
        holder = tree
        for key in parents:
            holder = holder[key]
        if not isinstance(holder, dict | list) or (isinstance(holder, dict) and last not in holder):
            continue
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat"]))
        if action == "replace":
            holder[last] = draw(JUNK)
        elif action == "remove":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[f"{last}2"] = holder[last]
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def damaged_bytes(draw: st.DrawFn, frames: list[Any]) -> bytes:
    """A frame with bytes flipped, cut out, put in, or missing at the end."""
    raw = bytearray(json.dumps(draw(st.sampled_from(frames)), separators=(",", ":")).encode())
    for _ in range(draw(st.integers(1, 4))):
        if not raw:
            break
        at = draw(st.integers(0, len(raw) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "truncate", "repeat"])):
            case "flip":
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del raw[at : at + draw(st.integers(1, 40))]
            case "insert":
                raw[at:at] = draw(
                    st.one_of(st.binary(max_size=8), st.sampled_from([b'"', b"}", b"]", b",null", b"\\u0000"]))
                )
            case "truncate":
                del raw[at:]
            case "repeat":
                raw[at:at] = raw[at : at + draw(st.integers(1, 200))]
    return bytes(raw)
