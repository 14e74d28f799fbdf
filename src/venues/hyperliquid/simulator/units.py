"""Exact integers for prices, sizes and money, and their texts on the wire.

A price is counted in units of ``10**-px_decimals`` and a size in lots of ``10**-sz_decimals``. For perpetuals the two
add up to six decimals (the venue's tick rule), so price times size is always a whole number of micro-dollars and
every sum of money in the simulator is exact.
"""

from __future__ import annotations

from msgspec import Struct

MICRO = 1_000_000
MICRO_DECIMALS = 6
_SIGNIFICANT_FIGURES = 5
_POWERS: tuple[int, ...] = tuple(10**n for n in range(32))


class Instrument(Struct, frozen=True, eq=False):
    """One perpetual.

    Attributes:
        index: position in the universe of its dex.
        start_px: price at the start, in the instrument's price units.
        only_isolated: True for markets without cross margin (as on builder dexes).
    """

    name: str
    dex: str
    index: int
    sz_decimals: int
    max_leverage: int
    margin_table_id: int
    start_px: int
    only_isolated: bool = False
    delisted: bool = False

    @property
    def px_decimals(self) -> int:
        """Decimals of a price unit."""
        return MICRO_DECIMALS - self.sz_decimals

    def px_text(self, px: int) -> str:
        """A price as the venue writes it."""
        return decimal_text(px, MICRO_DECIMALS - self.sz_decimals)

    def sz_text(self, lots: int) -> str:
        """A size as the venue writes it."""
        return decimal_text(lots, self.sz_decimals)

    def tick(self, px: int) -> int:
        """Smallest price step at this price: five significant figures, whole dollars always allowed."""
        return min(_POWERS[max(0, len(str(px)) - _SIGNIFICANT_FIGURES)], _POWERS[self.px_decimals])

    def snap(self, px: float) -> int:
        """The nearest allowed price, at least one tick above zero."""
        rough = max(1, int(px))
        tick = self.tick(rough)
        return max(tick, int(px / tick + 0.5) * tick)

    def lots_for(self, notional_micro: int, px: int) -> int:
        """How many lots are worth about this much money, at least one."""
        return max(1, notional_micro // px)


def decimal_text(value: int, decimals: int) -> str:
    """``value * 10**-decimals`` as the venue writes it: no trailing zeros, but at least one decimal."""
    if value < 0:
        return "-" + decimal_text(-value, decimals)
    whole, fraction = divmod(value, _POWERS[decimals])
    if not fraction:
        return f"{whole}.0"
    return f"{whole}.{fraction:0{decimals}d}".rstrip("0")


def money_text(micro: int) -> str:
    """Micro-dollars as dollars."""
    return decimal_text(micro, MICRO_DECIMALS)


def ratio_text(value: float) -> str:
    """A ratio with at most ten decimals."""
    text = f"{value:.10f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def significant_text(value: float, figures: int, decimals: int) -> str:
    """``value * 10**-decimals`` rounded to so many significant figures, never coarser than whole numbers."""
    whole_digits = len(str(int(abs(value)))) if value else 1
    step = min(_POWERS[max(0, whole_digits - figures)], _POWERS[decimals])
    return decimal_text(int(value / step + (0.5 if value >= 0 else -0.5)) * step, decimals)
