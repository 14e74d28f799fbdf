"""The universe: which perpetuals exist, on which dex, and the venue's description of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from src.venues.hyperliquid.simulator.units import Instrument

BUILDER_DEX = "xyz"

# name: (start price, size decimals, maximal leverage), as in a recorded universe of 2025 and 2026
_KNOWN: Mapping[str, tuple[str, int, int]] = {
    "BTC": ("85820", 5, 40),
    "ETH": ("3007.1", 4, 25),
    "SOL": ("119.19", 2, 20),
    "HYPE": ("32.515", 2, 10),
    "DOGE": ("0.16893", 0, 10),
    "XRP": ("2.1873", 0, 20),
    "kPEPE": ("0.010233", 0, 10),
    "ATOM": ("4.9552", 2, 5),
    "DYDX": ("0.66414", 1, 5),
    "ARB": ("0.20138", 1, 10),
    "AVAX": ("17.344", 2, 10),
    "BNB": ("645.52", 3, 10),
    "LINK": ("13.208", 1, 10),
    "MATIC": ("0.37621", 1, 20),
    "xyz:XYZ100": ("31169", 4, 25),
    "xyz:TSLA": ("402.15", 3, 10),
    "xyz:NVDA": ("188.91", 3, 10),
    "xyz:GOLD": ("4312.4", 4, 20),
}
_DELISTED = frozenset({"MATIC"})
_TIERS: Mapping[int, Sequence[tuple[str, int]]] = {
    40: (("0.0", 40), ("150000000.0", 20)),
    25: (("0.0", 25), ("100000000.0", 15)),
    20: (("0.0", 20), ("40000000.0", 10)),
    10: (("0.0", 10), ("3000000.0", 5)),
}
_TIER_IDS: Mapping[int, int] = {40: 56, 25: 55, 20: 53, 10: 51}


def build_universe(coins: Sequence[str], *, fillers: int = 0) -> list[Instrument]:
    """Instruments for these names, in order; unknown names get a plausible price.

    Args:
        coins: names as in the feeds; a prefix such as ``xyz:`` puts a coin on that builder dex.
        fillers: further main-dex coins ``ALT000…`` for accounts with many positions.
    """
    names = [*dict.fromkeys(coins), *(f"ALT{n:03d}" for n in range(fillers))]
    counts: dict[str, int] = {}
    universe: list[Instrument] = []
    for name in names:
        dex = name.split(":", 1)[0] if ":" in name else ""
        index = counts.get(dex, 0)
        counts[dex] = index + 1
        universe.append(_instrument(name, dex, index, len(universe)))
    return universe


def describe_meta(universe: Sequence[Instrument], dex: str) -> dict[str, Any]:
    """The ``meta`` answer of one dex: universe in index order and the margin tables it refers to."""
    rows: list[dict[str, Any]] = []
    for coin in universe:
        if coin.dex != dex:
            continue
        row: dict[str, Any] = {
            "szDecimals": coin.sz_decimals,
            "name": coin.name,
            "maxLeverage": coin.max_leverage,
            "marginTableId": coin.margin_table_id,
        }
        if coin.delisted:
            row["isDelisted"] = True
        if coin.only_isolated:
            row |= {"onlyIsolated": True, "marginMode": "strictIsolated"}
        rows.append(row)
    return {"universe": rows, "marginTables": [_margin_table(n) for n in _TIERS], "collateralToken": 0}


def describe_dexes(universe: Sequence[Instrument]) -> list[dict[str, Any] | None]:
    """The ``perpDexs`` answer: null for the main dex, then the builder dexes in order of appearance."""
    names = dict.fromkeys(coin.dex for coin in universe if coin.dex)
    return [None, *(_describe_dex(name, universe) for name in names)]


def _instrument(name: str, dex: str, index: int, serial: int) -> Instrument:
    known = _KNOWN.get(name)
    px_text, sz_decimals, leverage = known or (f"{1 + (serial * 37) % 97}.{(serial * 613) % 1000:03d}", 2, 10)
    whole, _, fraction = px_text.partition(".")
    px_decimals = 6 - sz_decimals
    start_px = int(whole + fraction.ljust(px_decimals, "0")[:px_decimals])
    return Instrument(
        name=name,
        dex=dex,
        index=index,
        sz_decimals=sz_decimals,
        max_leverage=leverage,
        margin_table_id=_TIER_IDS.get(leverage, leverage),
        start_px=start_px,
        only_isolated=bool(dex),
        delisted=name in _DELISTED,
    )


def _margin_table(leverage: int) -> list[Any]:
    tiers = [{"lowerBound": bound, "maxLeverage": value} for bound, value in _TIERS[leverage]]
    return [_TIER_IDS[leverage], {"description": f"tiered {leverage}x", "marginTiers": tiers}]


def _describe_dex(name: str, universe: Sequence[Instrument]) -> dict[str, Any]:
    return {
        "name": name,
        "fullName": name.upper(),
        "deployer": "0x" + "88" * 20,
        "oracleUpdater": None,
        "feeRecipient": "0x" + "97" * 20,
        "assetToStreamingOiCap": [[coin.name, "25000000.0"] for coin in universe if coin.dex == name],
        "subDeployers": [],
        "deployerFeeScale": "1.0",
        "lastDeployerFeeScaleChangeTime": "1970-01-01T00:00:00",
        "assetToFundingMultiplier": [],
    }
