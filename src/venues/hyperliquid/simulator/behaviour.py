"""What traders do: small decisions drawn at random, each a call to the exchange."""

from __future__ import annotations

from src.venues.hyperliquid.simulator.exchange import Decide, Exchange
from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.traders import SimTrader
from src.venues.hyperliquid.simulator.units import MICRO, Instrument

MIN_NOTIONAL = 500 * MICRO
MAX_NOTIONAL = 40_000 * MICRO
_NEAR_TICKS = 6
_FAR_SHARE = 0.08
_TRIGGER_SHARE = 0.0007
_LEVERAGES = (1, 2, 3, 5, 10, 20, 25, 40)


def decide(
    exchange: Exchange, trader: SimTrader, *, wanted_orders: int, wanted_positions: int, mass_cancel_share: float
) -> None:
    """Draw one decision; the more orders or positions a trader has, the likelier it ends some.

    Args:
        exchange: where it is carried out.
        trader: who decides.
        wanted_orders: open orders the trader hovers about.
        wanted_positions: positions the trader hovers about.
        mass_cancel_share: share of decisions that cancel every order at once.
    """
    rng = exchange.rng
    keep_solvent(exchange, trader)
    if rng.random() < mass_cancel_share:
        for order in list(trader.orders.values()):
            exchange.cancel(order)
        return
    few_orders = rng.random() * 2.5 * max(1, wanted_orders) > len(trader.orders)
    held = sum(len(account.positions) for account in trader.accounts.values())
    few_positions = rng.random() * 2 * max(1, wanted_positions) > held
    choices: tuple[tuple[Decide, int], ...] = (
        (place_near, 22 * few_orders),
        (place_far, 8 * few_orders),
        (place_parent, 8 * few_orders),
        (place_trigger, 8 * few_orders),
        (cancel_one, 8 + 22 * (not few_orders)),
        (modify_one, 16),
        (trade_more, 4 + 8 * few_positions),
        (trade_less, 4 + 6 * (not few_positions)),
        (flip, 2),
        (change_leverage, 3),
    )
    actions, weights = zip(*choices, strict=True)
    rng.choices(actions, weights)[0](exchange, trader)


def keep_solvent(exchange: Exchange, trader: SimTrader) -> None:
    """Deposit before an account runs dry: nobody is liquidated here."""
    for account in trader.accounts.values():
        used = sum(p.margin_micro(exchange.marks[p.coin.name]) for p in account.positions.values())
        if account.cross_equity_micro(exchange.marks) < used + trader.deposit_micro // 20:
            account.deposit(used + trader.deposit_micro)


def place_near(exchange: Exchange, trader: SimTrader) -> None:
    """A limit order near the touch, likely to be filled."""
    coin = any_coin(exchange)
    is_buy = exchange.rng.random() < 0.5  # noqa: PLR2004 - a coin toss
    px = _passive_px(exchange, coin, is_buy=is_buy, ticks=exchange.rng.randint(0, _NEAR_TICKS))
    exchange.place(_limit(exchange, trader, coin, is_buy=is_buy, px=px))


def place_far(exchange: Exchange, trader: SimTrader) -> None:
    """A limit order some per cent away, likely to stay; sometimes it may only reduce."""
    coin = any_coin(exchange)
    rng = exchange.rng
    position = trader.account(coin.dex).positions.get(coin.name)
    reduce_only = position is not None and rng.random() < 0.5  # noqa: PLR2004 - a coin toss
    is_buy = position.lots < 0 if position is not None and reduce_only else rng.random() < 0.5  # noqa: PLR2004
    distance = rng.uniform(0.005, _FAR_SHARE)
    px = _passive_px(exchange, coin, is_buy=is_buy, share=distance)
    order = _limit(exchange, trader, coin, is_buy=is_buy, px=px)
    if position is not None and reduce_only:
        order.reduce_only = True
        lots = max(1, abs(position.lots) * rng.randint(3, 10) // 10)
        order.resize(lots, lots)
    exchange.place(order)


def place_parent(exchange: Exchange, trader: SimTrader) -> None:
    """A limit order with a take-profit and a stop-loss waiting for it."""
    rng = exchange.rng
    coin = any_coin(exchange)
    is_buy = rng.random() < 0.5  # noqa: PLR2004 - a coin toss
    ticks = rng.randint(0, _NEAR_TICKS)
    px = _passive_px(exchange, coin, is_buy=is_buy, ticks=ticks)
    parent = _limit(exchange, trader, coin, is_buy=is_buy, px=px)
    profit = _trigger(exchange, trader, coin, is_buy=not is_buy, lots=parent.lots, takes_profit=True, reference=px)
    stop = _trigger(exchange, trader, coin, is_buy=not is_buy, lots=parent.lots, takes_profit=False, reference=px)
    exchange.place(parent, (profit, stop) if rng.random() < 0.8 else (stop,))  # noqa: PLR2004 - most have both


def place_trigger(exchange: Exchange, trader: SimTrader) -> None:
    """A stop-loss or take-profit for a position, of a size or of the whole position (then its size is zero)."""
    held = _held(trader)
    if not held:
        return
    rng = exchange.rng
    coin, lots = rng.choice(held)
    whole = rng.random() < 0.5  # noqa: PLR2004 - a coin toss
    order = _trigger(
        exchange,
        trader,
        coin,
        is_buy=lots < 0,
        lots=0 if whole else max(1, abs(lots) * rng.randint(3, 10) // 10),
        takes_profit=rng.random() < 0.5,  # noqa: PLR2004 - a coin toss
        reference=exchange.marks[coin.name],
        may_be_limit=not whole,
    )
    order.is_tpsl = whole
    exchange.place(order)


def cancel_one(exchange: Exchange, trader: SimTrader) -> None:
    """Cancel any order, with the children it lists."""
    if trader.orders:
        exchange.cancel(exchange.rng.choice(list(trader.orders.values())))


def modify_one(exchange: Exchange, trader: SimTrader) -> None:
    """Move a plain resting order: a new oid under the same client order id."""
    plain = [o for o in trader.orders.values() if o.resting and not o.children and not o.is_trigger]
    if not plain:
        return
    order = exchange.rng.choice(plain)
    px = _passive_px(exchange, order.coin, is_buy=order.is_buy, ticks=exchange.rng.randint(0, 40))
    lots = order.lots if order.reduce_only else max(1, order.lots * exchange.rng.randint(7, 13) // 10)
    exchange.modify(order, px, lots)


def trade_more(exchange: Exchange, trader: SimTrader) -> None:
    """Open or increase a position with a market order."""
    rng = exchange.rng
    held = _held(trader)
    if held and rng.random() < 0.5:  # noqa: PLR2004 - a coin toss
        coin, lots = rng.choice(held)
        is_buy = lots > 0
    else:
        coin, is_buy = any_coin(exchange), rng.random() < 0.5  # noqa: PLR2004
    exchange.take(_market(exchange, trader, coin, is_buy=is_buy, lots=_some_lots(exchange, coin)))


def trade_less(exchange: Exchange, trader: SimTrader) -> None:
    """Decrease or close a position with a market order."""
    rng = exchange.rng
    held = _held(trader)
    if held:
        coin, lots = rng.choice(held)
        part = abs(lots) if rng.random() < 0.4 else max(1, abs(lots) * rng.randint(1, 9) // 10)  # noqa: PLR2004
        exchange.take(_market(exchange, trader, coin, is_buy=lots < 0, lots=part, reduce_only=True))


def flip(exchange: Exchange, trader: SimTrader) -> None:
    """Turn a long into a short or back."""
    held = _held(trader)
    if held:
        coin, lots = exchange.rng.choice(held)
        exchange.take(_market(exchange, trader, coin, is_buy=lots < 0, lots=2 * abs(lots)))


def change_leverage(exchange: Exchange, trader: SimTrader) -> None:
    """Choose another leverage or margin mode for a position."""
    held = _held(trader)
    if held:
        rng = exchange.rng
        coin, _ = rng.choice(held)
        value = rng.choice([n for n in _LEVERAGES if n <= coin.max_leverage])
        isolated = coin.only_isolated or rng.random() < 0.3  # noqa: PLR2004 - most use cross margin
        exchange.set_leverage(trader, coin, value, isolated=isolated)


def any_coin(exchange: Exchange) -> Instrument:
    """A coin that trades; those listed first are more popular."""
    coins = [book.coin for book in exchange.books.values() if not book.coin.delisted]
    return coins[int(len(coins) * exchange.rng.random() ** 1.5)]


def _held(trader: SimTrader) -> list[tuple[Instrument, int]]:
    return [(p.coin, p.lots) for account in trader.accounts.values() for p in account.positions.values()]


def _some_lots(exchange: Exchange, coin: Instrument) -> int:
    return coin.lots_for(exchange.rng.randint(MIN_NOTIONAL, MAX_NOTIONAL), exchange.marks[coin.name])


def _passive_px(exchange: Exchange, coin: Instrument, *, is_buy: bool, ticks: int = 0, share: float = 0.0) -> int:
    """A price that does not cross the book: so many ticks or such a share behind the best of its own side."""
    book = exchange.books[coin.name]
    base = book.best_bid() if is_buy else book.best_ask()
    offset = ticks * coin.tick(base) + base * share
    px = coin.snap(base - offset if is_buy else base + offset)
    tick = coin.tick(px)
    return min(px, book.best_ask() - tick) if is_buy else max(px, book.best_bid() + tick)


def _cloid(exchange: Exchange) -> str | None:
    rng = exchange.rng
    return f"0x{rng.getrandbits(128):032x}" if rng.random() < 0.6 else None  # noqa: PLR2004 - programs give one


def _limit(exchange: Exchange, trader: SimTrader, coin: Instrument, *, is_buy: bool, px: int) -> SimOrder:
    return SimOrder(
        oid=exchange.next_oid(),
        trader=trader.address,
        coin=coin,
        is_buy=is_buy,
        limit_px=px,
        lots=_some_lots(exchange, coin),
        timestamp=exchange.now_ms,
        tif=exchange.rng.choice(("Gtc", "Alo")),
        cloid=_cloid(exchange),
    )


def _market(
    exchange: Exchange, trader: SimTrader, coin: Instrument, *, is_buy: bool, lots: int, reduce_only: bool = False
) -> SimOrder:
    mark = exchange.marks[coin.name]
    return SimOrder(
        oid=exchange.next_oid(),
        trader=trader.address,
        coin=coin,
        is_buy=is_buy,
        limit_px=coin.snap(mark * (1.08 if is_buy else 0.92)),
        lots=lots,
        timestamp=exchange.now_ms,
        order_type="Market",
        tif="FrontendMarket",
        reduce_only=reduce_only,
    )


def _trigger(
    exchange: Exchange,
    trader: SimTrader,
    coin: Instrument,
    *,
    is_buy: bool,
    lots: int,
    takes_profit: bool,
    reference: int,
    may_be_limit: bool = True,
) -> SimOrder:
    rng = exchange.rng
    above = takes_profit != is_buy
    distance = rng.uniform(_TRIGGER_SHARE / 4, 4 * _TRIGGER_SHARE)
    trigger_px = coin.snap(reference * (1 + distance if above else 1 - distance))
    is_limit = may_be_limit and rng.random() < 0.3  # noqa: PLR2004 - most are market types
    slip = 0.001 if is_limit else 0.08
    return SimOrder(
        oid=exchange.next_oid(),
        trader=trader.address,
        coin=coin,
        is_buy=is_buy,
        limit_px=coin.snap(trigger_px * (1 + slip if is_buy else 1 - slip)),
        lots=lots,
        timestamp=exchange.now_ms,
        order_type=f"{'Take Profit' if takes_profit else 'Stop'} {'Limit' if is_limit else 'Market'}",
        tif=None,
        cloid=_cloid(exchange),
        reduce_only=True,
        trigger_px=trigger_px,
        trigger_above=above,
    )
