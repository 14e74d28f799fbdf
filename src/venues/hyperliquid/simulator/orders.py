"""Orders of simulated traders: their state, their wire forms and their compact copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from src.venues.hyperliquid.simulator.shapes import BasicOrder, OrderShape, encode
from src.venues.hyperliquid.simulator.units import Instrument

TRIGGER_TYPES = ("Stop Market", "Stop Limit", "Take Profit Market", "Take Profit Limit")


class SimOrder:
    """One order. Change it through its methods or call `touch`, so that cached texts are renewed.

    Attributes:
        lots / orig_lots: remaining size and size when placed; both 0 for a position take-profit or stop-loss.
        resting: True while it stands in the book (not for triggers and waiting children).
        parent: the order this one waits for; None once it is an order of its own.
        sibling: the other leg of a take-profit/stop-loss pair.
    """

    __slots__ = (
        "_basic",
        "_raw",
        "_row",
        "children",
        "cloid",
        "coin",
        "is_buy",
        "is_tpsl",
        "limit_px",
        "lots",
        "oid",
        "order_type",
        "orig_lots",
        "parent",
        "reduce_only",
        "resting",
        "sibling",
        "tif",
        "timestamp",
        "trader",
        "trigger_above",
        "trigger_px",
        "triggered",
    )

    def __init__(
        self,
        *,
        oid: int,
        trader: str,
        coin: Instrument,
        is_buy: bool,
        limit_px: int,
        lots: int,
        timestamp: int,
        order_type: str = "Limit",
        tif: str | None = "Gtc",
        cloid: str | None = None,
        reduce_only: bool = False,
        trigger_px: int = 0,
        trigger_above: bool = False,
        is_tpsl: bool = False,
    ) -> None:
        self.oid = oid
        self.trader = trader
        self.coin = coin
        self.is_buy = is_buy
        self.limit_px = limit_px
        self.lots = lots
        self.orig_lots = lots
        self.timestamp = timestamp
        self.order_type = order_type
        self.tif = tif
        self.cloid = cloid
        self.reduce_only = reduce_only
        self.trigger_px = trigger_px
        self.trigger_above = trigger_above
        self.is_tpsl = is_tpsl
        self.triggered = False
        self.resting = False
        self.children: list[SimOrder] = []
        self.parent: SimOrder | None = None
        self.sibling: SimOrder | None = None
        self.touch()

    @property
    def is_trigger(self) -> bool:
        """True for stop and take-profit orders, before and after they triggered."""
        return self.trigger_px > 0

    @property
    def side(self) -> str:
        """``B`` or ``A``."""
        return "B" if self.is_buy else "A"

    def touch(self) -> None:
        """Forget the cached texts of this order and of the parent that lists it."""
        self._raw: Raw | None = None
        self._basic: BasicOrder | None = None
        self._row: Mapping[str, Any] | None = None
        if getattr(self, "parent", None) is not None and self.parent is not None:
            self.parent._raw = None  # noqa: SLF001 - the same class

    def resize(self, lots: int, orig_lots: int | None = None) -> None:
        """Set the remaining size (and the original one)."""
        self.lots = lots
        if orig_lots is not None:
            self.orig_lots = orig_lots
        self.touch()

    def family(self) -> Iterator[SimOrder]:
        """This order and the children it lists."""
        yield self
        yield from self.children

    def shape(self) -> OrderShape:
        """The FrontendOpenOrder."""
        coin = self.coin
        return OrderShape(
            coin=coin.name,
            side=self.side,
            limitPx=coin.px_text(self.limit_px),
            sz=coin.sz_text(self.lots),
            oid=self.oid,
            timestamp=self.timestamp,
            triggerCondition=self._condition(),
            isTrigger=self.is_trigger,
            triggerPx=coin.px_text(self.trigger_px),
            children=[child.shape() for child in self.children],
            isPositionTpsl=self.is_tpsl,
            reduceOnly=self.reduce_only,
            orderType=self.order_type,
            origSz=coin.sz_text(self.orig_lots),
            tif=self.tif,
            cloid=self.cloid,
        )

    def raw(self) -> Raw:
        """`shape` as JSON bytes, made once per change."""
        raw = self._raw
        if raw is None:
            raw = self._raw = Raw(encode(self.shape()))
        return raw

    def basic(self) -> BasicOrder:
        """The short form, made once per change."""
        basic = self._basic
        if basic is None:
            basic = self._basic = BasicOrder(
                coin=self.coin.name,
                side=self.side,
                limitPx=self.coin.px_text(self.limit_px),
                sz=self.coin.sz_text(self.lots),
                oid=self.oid,
                timestamp=self.timestamp,
                origSz=self.coin.sz_text(self.orig_lots),
                cloid=self.cloid if self.cloid is not None else UNSET,
                reduceOnly=True if self.reduce_only else UNSET,
            )
        return basic

    def row(self) -> Mapping[str, Any]:
        """All fields but the children, and the parent's oid: what the logs keep. Never changed afterwards."""
        row = self._row
        if row is None:
            built: dict[str, Any] = msgspec.structs.asdict(self.shape())
            del built["children"]
            built["parentOid"] = self.parent.oid if self.parent is not None else None
            row = self._row = built
        return row

    def _condition(self) -> str:
        if not self.is_trigger:
            return "N/A"
        if self.triggered:
            return "Triggered"
        price = self.coin.px_text(self.trigger_px).removesuffix(".0")
        return f"Price {'above' if self.trigger_above else 'below'} {price}"
