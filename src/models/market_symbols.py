"""Two spellings of one share: with its market (``US.AAPL``, ``HK.00700``) and without (``AAPL``, ``00700``). Pure.

Order-book sources name the market, browsers mostly do not; whoever compares symbols of both worlds asks here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MARKETS: Mapping[str, int] = {
    "HK": 1,
    "HK_FUTURE": 2,
    "US": 11,
    "SH": 21,
    "SZ": 22,
    "SG": 31,
    "JP": 41,
    "AU": 51,
    "MY": 61,
    "CA": 71,
    "FX": 81,
    "CC": 91,
    "EC": 101,
}
"""Prefixes and numbers of the markets, as the Futu gateway counts them."""

LONGEST_SYMBOL = 64

_CODE = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9.^/@#:_-]{1,48}")
_DIGITS = re.compile(r"[0-9]+")
_HK_DIGITS = 5
_MAINLAND_DIGITS = 6
_SHANGHAI_FIRST = "69"


def canonical(text: str) -> str:
    """The spelling with a market.

    The market is what stands before the first dot, when that is a market (``US..DJI`` is the code ``.DJI``). Without
    one, five digits or fewer are Hong Kong, six digits are Shanghai (first digit 6 or 9) or Shenzhen, all else is US
    (``BRK.B``). Hong Kong codes get their leading zeros, US codes upper case.

    Raises:
        ValueError: it is no symbol; the text says what to write.
    """
    market, code = split(text)
    return f"{market}.{code}"


def split(text: str) -> tuple[str, str]:
    """Market prefix and code of either spelling.

    Raises:
        ValueError: as `canonical`.
    """
    text = text.strip()
    head, dot, tail = text.partition(".")
    prefix = head.upper()
    if dot and prefix in MARKETS:
        market, code = prefix, tail
    else:
        market, code = _market_of(text), text
    if len(text) > LONGEST_SYMBOL or not _CODE.fullmatch(code):
        raise ValueError(f"'{text[:40]}' is not a symbol; write US.AAPL, HK.00700, AAPL or 00700")
    return market, _normal(market, code)


def bare(text: str) -> str:
    """The spelling without a market, where that names the same share; else the one with it.

    Raises:
        ValueError: as `canonical`.
    """
    market, code = split(text)
    return code if canonical_or_none(code) == f"{market}.{code}" else f"{market}.{code}"


def canonical_or_none(text: str) -> str | None:
    """`canonical`, None for what is no symbol."""
    try:
        return canonical(text)
    except ValueError:
        return None


def same_share(one: str, other: str) -> bool:
    """Whether two spellings name the same share; text that is no symbol equals only itself."""
    return one == other or (canonical_or_none(one) or one) == (canonical_or_none(other) or other)


def _market_of(code: str) -> str:
    if not code.isascii() or not _DIGITS.fullmatch(code):
        return "US"
    if len(code) <= _HK_DIGITS:
        return "HK"
    if len(code) == _MAINLAND_DIGITS:
        return "SH" if code[0] in _SHANGHAI_FIRST else "SZ"
    return "US"


def _normal(market: str, code: str) -> str:
    if market == "HK" and _DIGITS.fullmatch(code):
        return code.zfill(_HK_DIGITS)
    return code.upper() if market == "US" else code
