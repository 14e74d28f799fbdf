"""Wire material: messages of the venue's real shapes whose times and sizes can be moved on cheaply."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from msgspec import Struct

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "hyperliquid" / "recorded"
SESSION = "gareth_webSocketDataSample_4-webData2-openPosition-all.json"

FIRST_MS = 1_791_280_000_000
STEP_MS = 5_000
"""Time between two messages of one trader, as on the venue."""

_COINS = ("BTC", "ETH", "SOL", "HYPE", "DOGE", "kPEPE", "AVAX", "LINK", "SUI", "XRP", "ARB", "OP")
_FIRST_OID = 566_617_880_000
_FILL_STEPS = 90
_SLOT = re.compile(r'"\[\[(\w+)\]\]"')


class Template:
    """A JSON text with slots: every string ``[[name]]`` in the document is replaced by whatever `fill` is given."""

    def __init__(self, document: Any) -> None:
        pieces = _SLOT.split(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
        self._fixed = [piece.encode() for piece in pieces[0::2]]
        self._names = pieces[1::2]

    def fill(self, values: Mapping[str, str]) -> bytes:
        parts = [self._fixed[0]]
        for name, fixed in zip(self._names, self._fixed[1:], strict=True):
            parts.append(values[name].encode())
            parts.append(fixed)
        return b"".join(parts)


class Voice:
    """One trader's messages, one after the other: time moves on, and an order changes where asked for."""

    def __init__(self, template: Template, orders: int) -> None:
        self._template = template
        self._orders = orders
        self._changes = 0
        self._values = {f"sz{number}": '"1.0"' for number in range(orders)}
        self._time_ms = FIRST_MS

    def same(self) -> bytes:
        """The same state, `STEP_MS` later."""
        self._time_ms += STEP_MS
        self._values["time"] = str(self._time_ms)
        return self._template.fill(self._values)

    def changed(self) -> bytes:
        """One order partly filled, `STEP_MS` later."""
        number, step = self._changes % self._orders, 1 + self._changes // self._orders % _FILL_STEPS
        self._values[f"sz{number}"] = f'"0.{99 - step:02d}"'
        self._changes += 1
        return self.same()


class Session(Struct, frozen=True):
    """A legacy session to play: where it comes from, and its voice."""

    source: str
    size_bytes: int
    voice: Voice


def legacy_session(*, orders: int, positions: int) -> Session:
    """The recorded webData2 message with orders and positions put in, or a composed one of the same structure."""
    path = RECORDED / SESSION
    if path.exists():
        source = "recorded session"
        frame = next(f for f in json.loads(path.read_bytes()) if f["channel"] == "webData2")
    else:
        source = "composed message (the recorded session is not there)"
        frame = _composed_web_data2()
    data = frame["data"]
    data["openOrders"] = _orders(Random(1), _FIRST_OID, orders)
    state = data["clearinghouseState"]
    state["assetPositions"] = _positions(Random(2), [coin["name"] for coin in data["meta"]["universe"]][:positions])
    data["serverTime"] = state["time"] = "[[time]]"
    voice = Voice(Template(frame), orders)
    return Session(source, len(voice.same()), voice)


def address(number: int) -> str:
    return f"0x{number + 1:040x}"


def orders_voice(number: int, *, orders: int) -> Voice:
    """``openOrders`` of trader ``number``."""
    rows = _orders(Random(number), _FIRST_OID + number * orders, orders)
    frame = {"channel": "openOrders", "data": {"dex": "", "user": address(number), "orders": rows}}
    return Voice(Template(frame), orders)


def positions_voice(number: int, *, positions: int) -> Voice:
    """``clearinghouseState`` of trader ``number``."""
    coins = [f"ALT{position:03d}" if position >= len(_COINS) else _COINS[position] for position in range(positions)]
    state = {**_margins(), "assetPositions": _positions(Random(number), coins), "time": "[[time]]"}
    data = {"dex": "", "user": address(number), "clearinghouseState": state}
    return Voice(Template({"channel": "clearinghouseState", "data": data}), 0)


class VariedOrders:
    """``openOrders`` of many traders, no two orders alike: half with a client id, some triggers, some with children.

    Made for a million of them: only what differs between orders is written anew.
    """

    def __init__(self, orders: int) -> None:
        self._orders = orders
        rows = _orders(Random(1), 0, orders)
        for number, row in enumerate(rows):
            row |= {"oid": f"[[oid{number}]]", "limitPx": f"[[px{number}]]", "origSz": f"[[sz{number}]]"}
            if row["cloid"] is not None:
                row["cloid"] = f"[[cloid{number}]]"
        for parent in rows[: orders // 20]:
            child = rows.pop()
            child |= {"isTrigger": True, "isPositionTpsl": True, "reduceOnly": True, "orderType": "Stop Market"}
            parent["children"] = [child]
        data = {"dex": "", "user": "[[user]]", "orders": rows}
        self._template = Template({"channel": "openOrders", "data": data})

    def two_lists(self, trader: int) -> tuple[bytes, bytes]:
        """Two lists of one trader; in the second one of the orders changed."""
        rng, values = Random(trader), {"user": f'"{address(trader)}"'}
        for number in range(self._orders):
            bits = rng.getrandbits(128)
            values[f"oid{number}"] = str(_FIRST_OID + trader * self._orders + number)
            values[f"px{number}"] = f'"{80_000 + bits % 15_000}.{bits % 9}"'
            values[f"sz{number}"] = f'"{bits % 97}.{bits % 99_991:05d}"'
            values[f"cloid{number}"] = f'"0x{bits:032x}"'
        first = self._template.fill(values)
        values["sz0"] = '"0.001"'
        return first, self._template.fill(values)


def _orders(rng: Random, first_oid: int, count: int) -> list[dict[str, Any]]:
    return [_order(rng, first_oid + number, number) for number in range(count)]


def _order(rng: Random, oid: int, number: int) -> dict[str, Any]:
    price = f"{rng.randint(80_000, 95_000)}.{rng.randint(0, 9)}"
    is_trigger = number % 10 == 9
    return {
        "coin": rng.choice(_COINS),
        "side": rng.choice("AB"),
        "limitPx": price,
        "sz": f"[[sz{number}]]",
        "oid": oid,
        "timestamp": FIRST_MS - rng.randint(1, 86_400_000),
        "triggerCondition": f"Price above {price}" if is_trigger else "N/A",
        "isTrigger": is_trigger,
        "triggerPx": price if is_trigger else "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": is_trigger,
        "orderType": "Take Profit Limit" if is_trigger else "Limit",
        "origSz": "1.0",
        "tif": None if is_trigger else "Gtc",
        "cloid": f"0x{rng.getrandbits(128):032x}" if number % 2 else None,
    }


def _positions(rng: Random, coins: list[str]) -> list[dict[str, Any]]:
    return [{"type": "oneWay", "position": _position(rng, coin)} for coin in coins]


def _position(rng: Random, coin: str) -> dict[str, Any]:
    value = f"{rng.randint(1_000, 99_999)}.{rng.randint(1, 999_999):06d}"
    return {
        "coin": coin,
        "szi": f"{rng.choice(('-', ''))}{rng.randint(1, 99)}.{rng.randint(1, 999):03d}",
        "leverage": {"type": "cross", "value": rng.randint(1, 20)},
        "entryPx": f"{rng.randint(10, 99_999)}.{rng.randint(0, 9)}",
        "positionValue": value,
        "unrealizedPnl": f"-{value[1:]}",
        "returnOnEquity": f"0.{rng.randint(1, 9_999_999_999):010d}",
        "liquidationPx": f"{rng.randint(10, 99_999)}.{rng.randint(1, 9_999_999_999):010d}",
        "marginUsed": value,
        "maxLeverage": 40,
        "cumFunding": {"allTime": "12.071594", "sinceOpen": "-0.408021", "sinceChange": "0.0"},
    }


def _margins() -> dict[str, Any]:
    summary = {
        "accountValue": "2999.996247",
        "totalNtlPos": "1078.40001",
        "totalRawUsd": "4078.024702",
        "totalMarginUsed": "107.84",
    }
    return {
        "marginSummary": summary,
        "crossMarginSummary": summary,
        "crossMaintenanceMarginUsed": "53.48",
        "withdrawable": "1921.247",
    }


def _composed_web_data2() -> dict[str, Any]:
    """The structure and about the size of a message of summer 2025: 199 perpetuals, 188 spot pairs."""
    rng = Random(3)

    def decimal(digits: int) -> str:
        return f"{rng.randint(1, 99_999)}.{rng.randint(10 ** (digits - 1), 10**digits - 1)}"

    universe = [{"szDecimals": 5, "name": f"COIN{n:03d}", "maxLeverage": 40, "marginTableId": 56} for n in range(199)]
    contexts = [
        {
            "funding": "0.0000125",
            "openInterest": decimal(5),
            "prevDayPx": decimal(2),
            "dayNtlVlm": decimal(10),
            "premium": "-0.0002503059",
            "oraclePx": decimal(2),
            "markPx": decimal(2),
            "midPx": decimal(2),
            "impactPxs": [decimal(2), decimal(2)],
            "dayBaseVlm": decimal(5),
        }
        for _ in universe
    ]
    spot = [
        {
            "prevDayPx": decimal(4),
            "dayNtlVlm": decimal(10),
            "markPx": decimal(4),
            "midPx": decimal(4),
            "circulatingSupply": decimal(10),
            "coin": f"@{number}",
            "totalSupply": decimal(10),
            "dayBaseVlm": decimal(4),
        }
        for number in range(188)
    ]
    data = {
        "clearinghouseState": {**_margins(), "assetPositions": [], "time": 0},
        "leadingVaults": [],
        "totalVaultEquity": "0.0",
        "openOrders": [],
        "agentAddress": None,
        "agentValidUntil": None,
        "cumLedger": "49.92",
        "meta": {"universe": universe, "marginTables": []},
        "assetCtxs": contexts,
        "serverTime": 0,
        "isVault": False,
        "user": address(0),
        "twapStates": [],
        "spotState": {"balances": [{"coin": "USDC", "token": 0, "total": "19.92", "hold": "0.0", "entryNtl": "0.0"}]},
        "spotAssetCtxs": spot,
        "perpsAtOpenInterestCap": ["CANTO", "FTM"],
    }
    return {"channel": "webData2", "data": data}
