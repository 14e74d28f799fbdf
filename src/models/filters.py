"""Conditions on the figures of an account, as people write them: ``month.roi>=0.1``. Pure."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping

from msgspec import Struct

WINDOWS = ("day", "week", "month", "allTime")
FIGURES = ("pnl", "roi", "vlm")
FIELDS = ("accountValue", *(f"{window}.{figure}" for window in WINDOWS for figure in FIGURES))

EXACT = 1e15

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
_WRITTEN = re.compile(r"\s*([A-Za-z.]+)\s*(>=|<=|>|<)\s*([-+0-9._eE]+)\s*")


class Filter(Struct, frozen=True):
    """One condition. PnL and volume are in USD, a return is a fraction (0.1 = 10 %)."""

    field: str
    operator: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read ``field`` ``>=``, ``>``, ``<=`` or ``<`` ``number``; upper and lower case of fields do not matter.

        Raises:
            ValueError: it is no such condition; the text says how to write one.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text[:60]}' is not a condition; write it as accountValue>=100000 or month.roi>0.1")
        field = next((known for known in FIELDS if known.lower() == match[1].lower()), None)
        if field is None:
            raise ValueError(f"'{match[1][:60]}' is not a figure; use one of {', '.join(FIELDS)}")
        try:
            value = float(match[3])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"'{match[3][:60]}' is not a number; write it as 100000, 0.1 or 1e6")
        return cls(field, match[2], value)

    def admits(self, figure: float | None) -> bool:
        """Whether this value of the field fulfils the condition; an unknown one never does."""
        return figure is not None and _OPERATORS[self.operator](figure, self.value)

    def __str__(self) -> str:
        whole = self.value.is_integer() and abs(self.value) < EXACT
        return f"{self.field}{self.operator}{int(self.value) if whole else repr(self.value)}"
