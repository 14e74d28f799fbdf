"""Money and positions of one trader on one dex. All money is in micro-dollars, so that every sum is exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import UNSET

from src.venues.hyperliquid.simulator.shapes import (
    AssetPosition,
    ClearinghouseState,
    CumFunding,
    Leverage,
    MarginSummary,
    PositionShape,
)
from src.venues.hyperliquid.simulator.units import Instrument, money_text, ratio_text, significant_text

Marks = Mapping[str, int]
"""Mark price by coin name, in price units."""

_ENTRY_FIGURES = 6
_LIQUIDATION_FIGURES = 12


class Funding:
    """Funding paid on one coin."""

    __slots__ = ("all_time", "since_change", "since_open")

    def __init__(self) -> None:
        self.all_time = 0
        self.since_open = 0
        self.since_change = 0


class SimPosition:
    """An open position. ``entry_px`` is an exact average in price units; ``raw_micro`` is None for cross margin."""

    __slots__ = ("_row", "coin", "entry_px", "funding", "leverage", "lots", "raw_micro")

    def __init__(self, coin: Instrument, leverage: int, funding: Funding) -> None:
        self.coin = coin
        self.lots = 0
        self.entry_px = 0.0
        self.leverage = leverage
        self.raw_micro: int | None = None
        self.funding = funding
        self._row: Mapping[str, Any] | None = None

    def touch(self) -> None:
        """Forget the cached copy after a change of size, entry or leverage."""
        self._row = None

    def value_micro(self, mark: int) -> int:
        """Signed value at this mark price."""
        return self.lots * mark

    def pnl_micro(self, mark: int) -> int:
        """Unrealised profit at this mark price."""
        return self.lots * mark - round(self.entry_px * self.lots)

    def margin_micro(self, mark: int) -> int:
        """Margin in use: a share of the value (cross), or the equity put aside (isolated)."""
        if self.raw_micro is not None:
            return self.raw_micro + self.lots * mark
        return abs(self.lots) * mark // self.leverage

    def maintenance_micro(self, mark: int) -> int:
        """Maintenance margin: half of the initial margin at maximal leverage."""
        return abs(self.lots) * mark // (2 * self.coin.max_leverage)

    def row(self) -> Mapping[str, Any]:
        """What the logs keep: signed size, entry and leverage. Never changed afterwards."""
        row = self._row
        if row is None:
            row = self._row = {
                "szi": self.coin.sz_text(self.lots),
                "entryPx": self._entry_text(),
                "leverageType": "cross" if self.raw_micro is None else "isolated",
                "leverageValue": self.leverage,
            }
        return row

    def shape(self, mark: int, cushion_micro: int) -> AssetPosition:
        """The element of ``assetPositions``; ``cushion_micro`` is the equity above maintenance behind it."""
        coin, lots = self.coin, self.lots
        pnl = self.pnl_micro(mark)
        stake = abs(self.entry_px * lots) / self.leverage
        raw = self.raw_micro
        leverage = Leverage("cross", self.leverage, UNSET) if raw is None else self._isolated(raw)
        return AssetPosition(
            "oneWay",
            PositionShape(
                coin.name,
                coin.sz_text(lots),
                leverage,
                self._entry_text(),
                money_text(abs(lots) * mark),
                money_text(pnl),
                ratio_text(pnl / stake if stake else 0.0),
                self._liquidation(mark, cushion_micro),
                money_text(self.margin_micro(mark)),
                coin.max_leverage,
                CumFunding(
                    money_text(self.funding.all_time),
                    money_text(self.funding.since_open),
                    money_text(self.funding.since_change),
                ),
            ),
        )

    def _isolated(self, raw_micro: int) -> Leverage:
        return Leverage("isolated", self.leverage, money_text(raw_micro))

    def _entry_text(self) -> str:
        return significant_text(self.entry_px, _ENTRY_FIGURES, self.coin.px_decimals)

    def _liquidation(self, mark: int, cushion_micro: int) -> str | None:
        side = 1 if self.lots > 0 else -1
        share = 1.0 - side / (2 * self.coin.max_leverage)
        px = mark - side * cushion_micro / abs(self.lots) / share
        return significant_text(px, _LIQUIDATION_FIGURES, self.coin.px_decimals) if px > 0 else None


class FillEffect(NamedTuple):
    """What a fill did to a position; ``kind`` is open, increase, decrease, flip or close."""

    kind: str
    start_lots: int
    closed_pnl_micro: int
    direction: str


class Account:
    """One trader on one dex."""

    def __init__(self, trader: str, dex: str, deposit_micro: int) -> None:
        self.trader = trader
        self.dex = dex
        self.raw_micro = deposit_micro
        self.deposits_micro = deposit_micro
        self.positions: dict[str, SimPosition] = {}
        self._leverages: dict[str, tuple[int, bool]] = {}
        self._funding: dict[str, Funding] = {}

    def deposit(self, micro: int) -> None:
        """Put money in."""
        self.raw_micro += micro
        self.deposits_micro += micro

    def leverage_of(self, coin: Instrument) -> tuple[int, bool]:
        """Chosen leverage and whether it is isolated."""
        default = (min(10, coin.max_leverage), coin.only_isolated)
        return self._leverages.get(coin.name, default)

    def set_leverage(self, coin: Instrument, value: int, *, isolated: bool, mark: int) -> bool:
        """Choose leverage and margin mode, also of the open position. True when a position changed."""
        self._leverages[coin.name] = (value, isolated)
        position = self.positions.get(coin.name)
        if position is None:
            return False
        before = (position.leverage, position.raw_micro is not None)
        if before == (value, isolated):
            return False
        position.leverage = value
        if position.raw_micro is not None:
            self.raw_micro += position.raw_micro
            position.raw_micro = None
        if isolated:
            self._isolate(position, mark)
        position.touch()
        return True

    def apply_fill(self, coin: Instrument, delta_lots: int, px: int, fee_micro: int) -> FillEffect:
        """Book an execution of signed size ``delta_lots``; positions that reach zero disappear."""
        self.raw_micro -= fee_micro
        position = self.positions.get(coin.name)
        start = position.lots if position is not None else 0
        end = start + delta_lots
        closing = min(abs(delta_lots), abs(start)) if start * delta_lots < 0 else 0
        pnl = 0
        if position is not None and closing:
            pnl = self._reduce(position, closing, px)
        opening = abs(delta_lots) - closing
        if opening:
            self._increase(coin, opening if delta_lots > 0 else -opening, px)
        if end == 0:
            del self.positions[coin.name]
        return FillEffect(_kind(start, end), start, pnl, _direction(start, end))

    def pay_funding(self, marks: Marks, rate: float) -> None:
        """Charge longs and pay shorts (for a positive rate) on every position."""
        for position in self.positions.values():
            micro = int(position.value_micro(marks[position.coin.name]) * rate)
            if position.raw_micro is None:
                self.raw_micro -= micro
            else:
                position.raw_micro -= micro
            position.funding.all_time += micro
            position.funding.since_open += micro
            position.funding.since_change += micro

    def equity_micro(self, marks: Marks) -> int:
        """Account value, isolated positions included."""
        return self.raw_micro + sum(
            p.value_micro(marks[p.coin.name]) + (p.raw_micro or 0) for p in self.positions.values()
        )

    def cross_equity_micro(self, marks: Marks) -> int:
        """Account value behind the cross positions."""
        return self.raw_micro + sum(
            p.value_micro(marks[p.coin.name]) for p in self.positions.values() if p.raw_micro is None
        )

    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Compact copy of all positions by coin."""
        return {name: position.row() for name, position in self.positions.items()}

    def state(self, marks: Marks, time_ms: int) -> ClearinghouseState:
        """The clearinghouseState at these mark prices."""
        cross_raw, cross_ntl, cross_used, maintenance, signed = self.raw_micro, 0, 0, 0, 0
        raw, ntl, used = 0, 0, 0
        for position in self.positions.values():
            mark = marks[position.coin.name]
            value, margin = position.lots * mark, position.margin_micro(mark)
            if position.raw_micro is None:
                signed += value
                cross_ntl += abs(value)
                cross_used += margin
                maintenance += position.maintenance_micro(mark)
            else:
                raw += position.raw_micro
                ntl += abs(value)
                used += margin
        cross_equity = cross_raw + signed
        cross_cushion = cross_equity - maintenance
        shapes = [
            p.shape(mark := marks[p.coin.name], _cushion(p, mark, cross_cushion)) for p in self.positions.values()
        ]
        return ClearinghouseState(
            _summary(cross_equity + used, cross_ntl + ntl, cross_raw + raw, cross_used + used),
            _summary(cross_equity, cross_ntl, cross_raw, cross_used),
            money_text(maintenance),
            money_text(max(0, cross_equity - cross_used)),
            shapes,
            time_ms,
        )

    def _increase(self, coin: Instrument, delta_lots: int, px: int) -> None:
        position = self.positions.get(coin.name)
        leverage, isolated = self.leverage_of(coin)
        if position is None or position.lots == 0:
            funding = self._funding.setdefault(coin.name, Funding())
            funding.since_open = funding.since_change = 0
            fresh = position is None
            position = position or SimPosition(coin, leverage, funding)
            if fresh:
                self.positions[coin.name] = position
                position.raw_micro = 0 if isolated else None
        total = position.lots + delta_lots
        position.entry_px = (position.entry_px * position.lots + px * delta_lots) / total
        position.lots = total
        position.funding.since_change = 0
        position.touch()
        if position.raw_micro is None:
            self.raw_micro -= delta_lots * px
        else:
            margin = abs(delta_lots) * px // position.leverage
            self.raw_micro -= margin
            position.raw_micro += margin - delta_lots * px

    def _reduce(self, position: SimPosition, closing: int, px: int) -> int:
        signed = closing if position.lots > 0 else -closing
        if position.raw_micro is None:
            self.raw_micro += signed * px
        else:
            released = position.raw_micro * closing // abs(position.lots)
            position.raw_micro -= released
            self.raw_micro += released + signed * px
        pnl = signed * px - round(position.entry_px * signed)
        position.lots -= signed
        if position.lots == 0:
            position.entry_px = 0.0
        position.funding.since_change = 0
        position.touch()
        return pnl

    def _isolate(self, position: SimPosition, mark: int) -> None:
        margin = abs(position.lots) * mark // position.leverage
        position.raw_micro = margin - position.lots * mark
        self.raw_micro -= position.raw_micro


def _cushion(position: SimPosition, mark: int, cross_cushion_micro: int) -> int:
    if position.raw_micro is None:
        return cross_cushion_micro
    return position.margin_micro(mark) - position.maintenance_micro(mark)


def _summary(equity: int, notional: int, raw: int, used: int) -> MarginSummary:
    return MarginSummary(money_text(equity), money_text(notional), money_text(raw), money_text(used))


def _kind(start: int, end: int) -> str:
    if start == 0:
        return "open"
    if end == 0:
        return "close"
    if (start > 0) != (end > 0):
        return "flip"
    return "increase" if abs(end) > abs(start) else "decrease"


def _direction(start: int, end: int) -> str:
    """The ``dir`` text of a fill."""
    if start == 0 or (start > 0) == (end > start):
        return f"Open {'Long' if end > start else 'Short'}"
    if start * end < 0:
        return "Long > Short" if start > 0 else "Short > Long"
    return f"Close {'Long' if start > 0 else 'Short'}"
