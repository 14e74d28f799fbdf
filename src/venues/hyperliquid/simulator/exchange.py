"""The rules of the exchange: placing, cancelling, matching, triggering, and what follows from a fill.

Pure and deterministic: randomness and time come from outside. Everything that happens is written to the truth log
and offered to the feeds through the `Outbox`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping

from msgspec import UNSET

from src.venues.hyperliquid.simulator.accounts import FillEffect
from src.venues.hyperliquid.simulator.book import CoinMarket
from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.shapes import FillShape, HistoricalOrder, OrderUpdate, TradeShape
from src.venues.hyperliquid.simulator.traders import SimTrader
from src.venues.hyperliquid.simulator.truth import EventKind, TruthLog
from src.venues.hyperliquid.simulator.units import Instrument, money_text

ZERO_HASH = "0x" + "0" * 64
REPLAYED_TRADES = 30
"""Trades sent again at every subscribe."""
_OUTBOX_LIMIT = 10_000
_TAKER_FEE_PER_100K = 45
_MAKER_FEE_PER_100K = 15
_ZERO_HASH_SHARE = 0.2
_TID_BITS = 50
_FIRST_OID = 566_617_880_000


class Outbox:
    """What the feeds have not yet sent; bounded, oldest dropped, because a feed may not be looked at."""

    def __init__(self) -> None:
        self.trades: deque[TradeShape] = deque(maxlen=_OUTBOX_LIMIT)
        self.fills: deque[tuple[str, FillShape]] = deque(maxlen=_OUTBOX_LIMIT)
        self.updates: deque[tuple[str, OrderUpdate]] = deque(maxlen=_OUTBOX_LIMIT)
        self.statuses: deque[tuple[str, HistoricalOrder]] = deque(maxlen=_OUTBOX_LIMIT)
        self.system_cancels: deque[tuple[str, str, int]] = deque(maxlen=_OUTBOX_LIMIT)


class Exchange:
    """Books, traders and the rules between them. `now_ms` is set by `Market` at each step."""

    def __init__(self, universe: list[Instrument], rng: random.Random, truth: TruthLog, seed: int) -> None:
        self.rng = rng
        self.truth = truth
        self.now_ms = 0
        self.outbox = Outbox()
        self.books: dict[str, CoinMarket] = {coin.name: CoinMarket(coin, seed) for coin in universe}
        self.marks: dict[str, int] = {name: book.mark for name, book in self.books.items()}
        self.traders: dict[str, SimTrader] = {}
        self.recent_trades: dict[str, deque[TradeShape]] = {
            name: deque(maxlen=REPLAYED_TRADES) for name in self.books
        }
        self._strangers = [f"0x{rng.getrandbits(160):040x}" for _ in range(50)]
        self._last_oid = _FIRST_OID

    # --- orders ---------------------------------------------------------------------------------------------------

    def next_oid(self) -> int:
        """A new order id; ids grow, with gaps."""
        self._last_oid += self.rng.randint(1, 9)
        return self._last_oid

    def place(self, order: SimOrder, children: tuple[SimOrder, ...] = (), *, replaces: int | None = None) -> None:
        """Accept an order that does not cross the book; trigger orders wait outside it."""
        trader = self.traders[order.trader]
        order.children = list(children)
        for child in children:
            child.parent = order
        order.touch()
        trader.orders[order.oid] = order
        book = self.books[order.coin.name]
        if order.is_trigger:
            book.triggers[order.oid] = order
        else:
            book.add(order)
        self._log_order("placed", order, detail={"replaces": replaces} if replaces is not None else None)
        self._announce(order, "open")
        for child in children:
            child.touch()
            self._log_order("placed", child)
            self._announce(child, "open")

    def cancel(self, order: SimOrder, status: str = "canceled", *, replaced_by: int | None = None) -> None:
        """End an order and the children it lists, all at the same time."""
        self._detach(order)
        for member in list(order.family()):
            detail = {"replacedBy": replaced_by} if replaced_by is not None and member is order else None
            self._log_order("canceled", member, reason=status, detail=detail)
            self._announce(member, status)
        if status != "canceled":
            self.outbox.system_cancels.append((order.trader, order.coin.name, order.oid))
        if order.sibling is not None:
            order.sibling.sibling = None

    def modify(self, order: SimOrder, limit_px: int, lots: int) -> SimOrder:
        """Cancel and place anew: new oid, same client order id; the new order is announced first."""
        fresh = SimOrder(
            oid=self.next_oid(),
            trader=order.trader,
            coin=order.coin,
            is_buy=order.is_buy,
            limit_px=limit_px,
            lots=lots,
            timestamp=self.now_ms,
            order_type=order.order_type,
            tif=order.tif,
            cloid=order.cloid,
            reduce_only=order.reduce_only,
            trigger_px=order.trigger_px,
            trigger_above=order.trigger_above,
            is_tpsl=order.is_tpsl,
        )
        self.place(fresh, replaces=order.oid)
        self.cancel(order, replaced_by=fresh.oid)
        return fresh

    def take(self, order: SimOrder) -> None:
        """Execute a market order at once against whatever rests; it never stands in the book."""
        self._log_order("placed", order)
        self._announce(order, "open")
        self._execute(order, order.lots)

    def public_trade(self, coin: Instrument, *, is_buy: bool, lots: int) -> None:
        """A stranger trades against the best of the book."""
        book = self.books[coin.name]
        stranger = self.rng.choice(self._strangers)
        maker = book.maker_for(taker_buys=is_buy)
        if maker is not None:
            lots = min(lots, maker.lots)
            self._trade_with_maker(maker, lots, stranger)
            return
        px = book.background_ask if is_buy else book.background_bid
        other = self.rng.choice(self._strangers)
        self._print_trade(coin, px, lots, is_buy=is_buy, buyer=stranger, seller=other, swap=not is_buy)

    # --- prices ---------------------------------------------------------------------------------------------------

    def move_price(self, book: CoinMarket, level: float) -> None:
        """Let a price wander: orders in its way are filled, triggers it touches go off."""
        book.move(level)
        self.marks[book.coin.name] = book.mark
        for order in book.run_over():
            self._trade_with_maker(order, order.lots, self.rng.choice(self._strangers))
        for order in [o for o in book.triggers.values() if _is_touched(o, book.mark)]:
            if order.oid in book.triggers:
                self._trigger(order)

    def set_leverage(self, trader: SimTrader, coin: Instrument, value: int, *, isolated: bool) -> None:
        """Change leverage and margin mode of a coin."""
        account = trader.account(coin.dex)
        if account.set_leverage(coin, value, isolated=isolated, mark=self.marks[coin.name]):
            row = account.positions[coin.name].row()
            self.truth.add(self.now_ms, "leverage", coin.name, coin.dex, trader=trader.address, position=row)

    def seed_position(self, trader: SimTrader, coin: Instrument, lots: int) -> None:
        """Give a trader a position to start with, without a trade."""
        account = trader.account(coin.dex)
        effect = account.apply_fill(coin, lots, self.marks[coin.name], 0)
        self._log_position(trader, coin, effect)

    # --- what follows ---------------------------------------------------------------------------------------------

    def _execute(self, order: SimOrder, lots: int) -> None:
        book = self.books[order.coin.name]
        remaining = lots
        while remaining > 0:
            maker = book.maker_for(taker_buys=order.is_buy)
            if maker is None:
                px = book.background_ask if order.is_buy else book.background_bid
                self._trade_with_background(order, remaining, px)
                break
            if maker.trader == order.trader:
                self.cancel(maker, "selfTradeCanceled")
                continue
            chunk = min(remaining, maker.lots)
            remaining -= chunk
            self._trade_with_maker(maker, chunk, order.trader, taker=order)
        self._finish(order)
        self._rein_in(self.traders[order.trader], order.coin)

    def _trade_with_background(self, order: SimOrder, lots: int, px: int) -> None:
        stranger = self.rng.choice(self._strangers)
        trade = self._print_trade(
            order.coin,
            px,
            lots,
            is_buy=order.is_buy,
            buyer=order.trader if order.is_buy else stranger,
            seller=stranger if order.is_buy else order.trader,
        )
        self._fill(order, lots, px, trade, crossed=True)

    def _trade_with_maker(self, maker: SimOrder, lots: int, taker_user: str, taker: SimOrder | None = None) -> None:
        px = maker.limit_px
        trade = self._print_trade(
            maker.coin,
            px,
            lots,
            is_buy=not maker.is_buy,
            buyer=maker.trader if maker.is_buy else taker_user,
            seller=taker_user if maker.is_buy else maker.trader,
        )
        if taker is not None:
            self._fill(taker, lots, px, trade, crossed=True)
        self._fill(maker, lots, px, trade, crossed=False)
        if maker.lots == 0:
            self._detach(maker)
            self._finish(maker)
        else:
            self._log_order("partiallyFilled", maker)
            self._announce(maker, "open")
        self._rein_in(self.traders[maker.trader], maker.coin)

    def _fill(self, order: SimOrder, lots: int, px: int, trade: TradeShape, *, crossed: bool) -> None:
        trader, coin = self.traders[order.trader], order.coin
        account = trader.account(coin.dex)
        fee = lots * px * (_TAKER_FEE_PER_100K if crossed else _MAKER_FEE_PER_100K) // 100_000
        effect = account.apply_fill(coin, lots if order.is_buy else -lots, px, fee)
        if order.lots:
            order.resize(order.lots - lots)
        fill = FillShape(
            coin=coin.name,
            px=trade.px,
            sz=trade.sz,
            side=order.side,
            time=self.now_ms,
            startPosition=coin.sz_text(effect.start_lots),
            dir=effect.direction,
            closedPnl=money_text(effect.closed_pnl_micro),
            hash=trade.hash,
            oid=order.oid,
            crossed=crossed,
            fee=money_text(fee),
            tid=trade.tid,
            cloid=order.cloid if order.cloid is not None else UNSET,
        )
        trader.fills.append(fill)
        self.outbox.fills.append((trader.address, fill))
        self._log_position(trader, coin, effect)

    def _finish(self, order: SimOrder) -> None:
        """A fully executed order: its children become orders of their own, its sibling is cancelled."""
        self._log_order("filled", order)
        self._announce(order, "filled")
        if order.sibling is not None:
            self.cancel(order.sibling, "siblingFilledCanceled")
        children, order.children = order.children, []
        if len(children) == 2:  # noqa: PLR2004 - a take-profit and a stop-loss: one ends the other
            children[0].sibling, children[1].sibling = children[1], children[0]
        for child in children:
            child.parent = None
            child.touch()
            self.traders[order.trader].orders[child.oid] = child
            self.books[child.coin.name].triggers[child.oid] = child
            self._log_order("activated", child)

    def _trigger(self, order: SimOrder) -> None:
        """A trigger was touched: a market type executes now, a limit type goes into the book or executes."""
        trader, coin = self.traders[order.trader], order.coin
        book = self.books[coin.name]
        del book.triggers[order.oid]
        position = trader.account(coin.dex).positions.get(coin.name)
        held = -position.lots if position is not None else 0
        lots = min(abs(held), order.lots or abs(held)) if (held > 0) == order.is_buy else 0
        if lots == 0:
            self.cancel(order, "reduceOnlyCanceled")
            return
        order.triggered = True
        if not order.is_tpsl:
            order.resize(lots)
        order.touch()
        self._log_order("triggered", order)
        self._announce(order, "triggered")
        best = book.best_ask() if order.is_buy else book.best_bid()
        crosses = order.limit_px >= best if order.is_buy else order.limit_px <= best
        if order.order_type.endswith("Limit") and not crosses and not order.is_tpsl:
            book.add(order)
            return
        del trader.orders[order.oid]
        self._execute(order, lots)

    def _rein_in(self, trader: SimTrader, coin: Instrument) -> None:
        """Shrink or cancel reduce-only orders that would no longer reduce."""
        position = trader.account(coin.dex).positions.get(coin.name)
        held = position.lots if position is not None else 0
        for order in [o for o in trader.orders.values() if o.reduce_only and o.coin is coin]:
            if order.oid not in trader.orders:
                continue
            if held == 0 or (held > 0) == order.is_buy:
                self.cancel(order, "reduceOnlyCanceled")
            elif order.resting and order.lots > abs(held):
                order.resize(abs(held))
                self._log_order("amended", order)
                self._announce(order, "open")

    def _detach(self, order: SimOrder) -> None:
        self.traders[order.trader].orders.pop(order.oid, None)
        book = self.books[order.coin.name]
        book.triggers.pop(order.oid, None)
        if order.resting:
            book.remove(order)

    def _print_trade(
        self, coin: Instrument, px: int, lots: int, *, is_buy: bool, buyer: str, seller: str, swap: bool = False
    ) -> TradeShape:
        zero = self.rng.random() < _ZERO_HASH_SHARE
        trade = TradeShape(
            coin=coin.name,
            side="B" if is_buy else "A",
            px=coin.px_text(px),
            sz=coin.sz_text(lots),
            time=self.now_ms,
            hash=ZERO_HASH if zero else f"0x{self.rng.getrandbits(256):064x}",
            tid=self.rng.getrandbits(_TID_BITS) or 1,
            users=(seller, buyer) if swap else (buyer, seller),
        )
        self.outbox.trades.append(trade)
        self.recent_trades[coin.name].append(trade)
        detail: Mapping[str, object] = {
            "side": trade.side, "px": trade.px, "sz": trade.sz, "tid": trade.tid, "users": trade.users
        }  # fmt: skip
        self.truth.add(self.now_ms, "trade", coin.name, coin.dex, detail=detail)
        return trade

    def _log_order(
        self,
        kind: EventKind,
        order: SimOrder,
        *,
        reason: str | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        if self.truth.enabled:
            coin = order.coin
            self.truth.add(
                self.now_ms,
                kind,
                coin.name,
                coin.dex,
                trader=order.trader,
                oid=order.oid,
                reason=reason,
                order=order.row(),
                detail=detail,
            )

    def _log_position(self, trader: SimTrader, coin: Instrument, effect: FillEffect) -> None:
        position = trader.account(coin.dex).positions.get(coin.name)
        kind: EventKind = effect.kind  # type: ignore[assignment] # FillEffect names the same five kinds
        row = position.row() if position is not None else None
        self.truth.add(self.now_ms, kind, coin.name, coin.dex, trader=trader.address, position=row)

    def _announce(self, order: SimOrder, status: str) -> None:
        trader = self.traders[order.trader]
        self.outbox.updates.append((trader.address, OrderUpdate(order.basic(), status, self.now_ms)))
        entry = HistoricalOrder(order.shape(), status, self.now_ms)
        self.outbox.statuses.append((trader.address, entry))
        trader.remember(entry)


def _is_touched(order: SimOrder, mark: int) -> bool:
    return mark >= order.trigger_px if order.trigger_above else mark <= order.trigger_px


Decide = Callable[[Exchange, SimTrader], None]
"""One decision of a trader."""
