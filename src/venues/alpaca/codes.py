"""Letters and codes of US stock trading: exchanges, and which trades count for price and volume.

Sources: exchange and condition tables of github.com/alpacahq/user-docs (d37aa7f6), rules of the consolidated tapes as
in github.com/alpacahq/marketstore (00758656, ``models/bar.go``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXCHANGES: Mapping[str, str] = {
    "A": "NYSE American",
    "B": "Nasdaq BX",
    "C": "NYSE National",
    "D": "FINRA",
    "E": "Market Independent",
    "H": "MIAX",
    "I": "ISE",
    "J": "Cboe EDGA",
    "K": "Cboe EDGX",
    "L": "Long-Term Stock Exchange",
    "M": "NYSE Chicago",
    "N": "NYSE",
    "P": "NYSE Arca",
    "Q": "Nasdaq",
    "S": "Nasdaq Small Cap",
    "T": "Nasdaq International",
    "U": "MEMX",
    "V": "IEX",
    "W": "Cboe",
    "X": "Nasdaq PSX",
    "Y": "Cboe BYX",
    "Z": "Cboe BZX",
}
"""Letters that are not in here are data as well: venues that trade around the clock keep adding new ones."""

_NO_VOLUME = frozenset("MQ9")
_NO_LAST = frozenset("CHIMNQRTUVW7")
_CTA_NO_LAST = _NO_LAST | {"B"}
_CTA_TAPES = frozenset("AB")


def counts_as_last(conditions: Sequence[str] | None, tape: str | None) -> bool:
    """Whether a trade may set the last price of the consolidated day; any condition that forbids it wins.

    Conditions that allow it only sometimes (only trade of the day, the market's own centre) count as allowed.
    """
    forbidden = _CTA_NO_LAST if tape in _CTA_TAPES else _NO_LAST
    return forbidden.isdisjoint(conditions or ())


def counts_as_volume(conditions: Sequence[str] | None) -> bool:
    """Whether a trade belongs to the volume of the consolidated day."""
    return _NO_VOLUME.isdisjoint(conditions or ())
