"""The market as a whole: time, wandering prices, traders at work. Seeded, without I/O; time is an argument.

Venue time advances in steps of fixed length, so that the same seed gives the same events whatever the rhythm in
which `step` is called; only what is asked for (frames, answers) depends on the caller.
"""

from __future__ import annotations

import math
import random

from src.venues.hyperliquid.simulator.behaviour import (
    MAX_NOTIONAL,
    MIN_NOTIONAL,
    any_coin,
    decide,
    modify_one,
    place_far,
    place_near,
    place_parent,
    place_trigger,
)
from src.venues.hyperliquid.simulator.config import MarketConfig
from src.venues.hyperliquid.simulator.exchange import Exchange
from src.venues.hyperliquid.simulator.instruments import build_universe
from src.venues.hyperliquid.simulator.traders import SimTrader
from src.venues.hyperliquid.simulator.truth import TruthLog
from src.venues.hyperliquid.simulator.units import MICRO, Instrument

_COMMON_WEIGHT = 0.7
_OWN_WEIGHT = 0.7
_FUNDING_RATE = 0.0000125
_DEPOSIT_PER_POSITION = MAX_NOTIONAL
_SEEDED_NEAR_SHARE = 0.25
_LONGEST_CATCH_UP_STEPS = 2_000
_TRIES_FOR_MAKER = 4


class Market:
    """A seeded market.

    Attributes:
        truth: every event so far.
        now_ms: venue time of the last step; states read now are states of this time.
    """

    def __init__(self, config: MarketConfig, start_ms: int) -> None:
        self.config = config
        self.truth = TruthLog(enabled=config.log_truth)
        self.universe: list[Instrument] = build_universe(config.coins, fillers=config.filler_coins)
        self.now_ms = start_ms
        self.frozen = False
        self._rng = random.Random(config.seed)  # noqa: S311 - a reproducible market, not a secret
        self.exchange = Exchange(self.universe, self._rng, self.truth, config.seed)
        self.exchange.now_ms = start_ms
        self._due_actions = 0.0
        self._due_trades = 0.0
        self._until_funding_s = config.funding_every_s
        self._populate()

    @property
    def traders(self) -> dict[str, SimTrader]:
        """Traders by lower-case address, the best first."""
        return self.exchange.traders

    @property
    def dexes(self) -> list[str]:
        """Names of all dexes, the main one (empty) first."""
        return list(dict.fromkeys(["", *(coin.dex for coin in self.universe)]))

    def step(self, now_ms: int) -> int:
        """Run all whole steps up to ``now_ms``; returns how many. A frozen market only lets time pass.

        After a long pause (a suspended process) the time in between is skipped, not lived through.
        """
        tick_ms = self.config.tick_ms
        steps = (now_ms - self.now_ms) // tick_ms
        if steps > _LONGEST_CATCH_UP_STEPS:
            self.now_ms += (steps - _LONGEST_CATCH_UP_STEPS) * tick_ms
            steps = _LONGEST_CATCH_UP_STEPS
        for _ in range(steps):
            self.now_ms += tick_ms
            self.exchange.now_ms = self.now_ms
            if not self.frozen:
                self._tick(tick_ms / 1000)
        return max(0, steps)

    def freeze(self) -> None:
        """No more events: prices, orders and positions stay as they are while time goes on."""
        self.frozen = True

    def change_one_order(self, trader: SimTrader) -> None:
        """Change one order of a trader now; used by benchmarks."""
        if trader.orders:
            modify_one(self.exchange, trader)

    def _populate(self) -> None:
        config, rng = self.config, self._rng
        tradable = [coin for coin in self.universe if not coin.delisted]
        for number in range(config.traders):
            address = f"0x{rng.getrandbits(160):040x}"
            deposit = (config.positions_per_trader + 2) * _DEPOSIT_PER_POSITION + rng.randint(0, 10**12)
            trader = SimTrader(address, f"trader-{number + 1}", deposit)
            self.exchange.traders[address] = trader
            for coin in rng.sample(tradable, min(len(tradable), config.positions_per_trader)):
                lots = coin.lots_for(rng.randint(MIN_NOTIONAL, MAX_NOTIONAL), self.exchange.marks[coin.name])
                self.exchange.seed_position(trader, coin, lots if rng.random() < 0.5 else -lots)  # noqa: PLR2004
            while len(trader.orders) < config.orders_per_trader:
                self._place_first(trader)

    def _place_first(self, trader: SimTrader) -> None:
        draw = self._rng.random()
        if draw < _SEEDED_NEAR_SHARE:
            place_near(self.exchange, trader)
        elif draw < 2 * _SEEDED_NEAR_SHARE:
            place_parent(self.exchange, trader)
        elif draw < 3 * _SEEDED_NEAR_SHARE and self.config.positions_per_trader:
            place_trigger(self.exchange, trader)
        else:
            place_far(self.exchange, trader)

    def _tick(self, seconds: float) -> None:
        self._move_prices(seconds)
        self._due_trades += self.config.trades_per_s * seconds
        while self._due_trades >= 1:
            self._due_trades -= 1
            self._trade()
        self._due_actions += self.config.actions_per_s * seconds
        while self._due_actions >= 1:
            self._due_actions -= 1
            self._act()
        self._until_funding_s -= seconds
        if self._until_funding_s <= 0:
            self._until_funding_s += self.config.funding_every_s
            for trader in self.traders.values():
                for account in trader.accounts.values():
                    account.pay_funding(self.exchange.marks, _FUNDING_RATE)

    def _move_prices(self, seconds: float) -> None:
        sigma = self.config.volatility * math.sqrt(seconds)
        gauss = self._rng.gauss
        common = gauss(0.0, 1.0)
        for book in self.exchange.books.values():
            if not book.coin.delisted:
                drift = sigma * (_COMMON_WEIGHT * common + _OWN_WEIGHT * gauss(0.0, 1.0))
                self.exchange.move_price(book, book.level * (1.0 + drift))

    def _trade(self) -> None:
        rng = self._rng
        for _ in range(_TRIES_FOR_MAKER):
            coin = any_coin(self.exchange)
            is_buy = rng.random() < 0.5  # noqa: PLR2004 - a coin toss
            maker = self.exchange.books[coin.name].maker_for(taker_buys=is_buy)
            if maker is not None:
                lots = max(1, maker.lots * rng.randint(20, 120) // 100)
                break
        else:
            lots = coin.lots_for(rng.randint(20 * MICRO, MAX_NOTIONAL // 4), self.exchange.marks[coin.name])
        self.exchange.public_trade(coin, is_buy=is_buy, lots=lots)

    def _act(self) -> None:
        traders = list(self.traders.values())
        if traders:
            decide(
                self.exchange,
                self._rng.choice(traders),
                wanted_orders=self.config.orders_per_trader,
                wanted_positions=self.config.positions_per_trader,
                mass_cancel_share=self.config.mass_cancel_share,
            )
