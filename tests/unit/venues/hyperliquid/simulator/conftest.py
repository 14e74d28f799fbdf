"""A small exchange under full control, and the recordings where they are present."""

import json
import random
from pathlib import Path

import pytest

from src.venues.hyperliquid.simulator.exchange import Exchange
from src.venues.hyperliquid.simulator.instruments import build_universe
from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.traders import SimTrader
from src.venues.hyperliquid.simulator.truth import TruthLog
from src.venues.hyperliquid.simulator.units import MICRO

START_MS = 1_791_280_000_000
ALICE = "0x" + "a1" * 20
BOB = "0x" + "b0" * 20


class Bench:
    """An exchange with two traders, and shorthands to act on it."""

    def __init__(self):
        coins = build_universe(("BTC", "SOL", "MATIC", "xyz:TSLA"))
        self.exchange = Exchange(coins, random.Random(7), TruthLog(), 7)
        self.exchange.now_ms = START_MS
        for address in (ALICE, BOB):
            self.exchange.traders[address] = SimTrader(address, "trader", 1_000_000 * MICRO)
        self.alice = self.exchange.traders[ALICE]
        self.bob = self.exchange.traders[BOB]
        self.coin = coins[1]  # SOL: 2 size decimals, 4 price decimals
        self.book = self.exchange.books["SOL"]

    def order(self, *, is_buy=True, px=None, lots=100, trader=ALICE, **fields):
        if px is None:
            tick = self.coin.tick(self.book.mark)
            px = self.book.best_bid() - 5 * tick if is_buy else self.book.best_ask() + 5 * tick
        return SimOrder(
            oid=self.exchange.next_oid(),
            trader=trader,
            coin=self.coin,
            is_buy=is_buy,
            limit_px=px,
            lots=lots,
            timestamp=self.exchange.now_ms,
            **fields,
        )

    def place(self, **fields):
        order = self.order(**fields)
        self.exchange.place(order)
        return order

    def take(self, *, is_buy=True, lots=100, trader=ALICE, **fields):
        order = self.order(
            is_buy=is_buy, lots=lots, trader=trader, px=1, order_type="Market", tif="FrontendMarket", **fields
        )
        self.exchange.take(order)
        return order

    def trigger(self, *, is_buy, above, px, lots, order_type="Stop Market", limit_px=None, **fields):
        return self.order(
            is_buy=is_buy,
            px=limit_px or (px * 2 if is_buy else px // 2),
            lots=lots,
            order_type=order_type,
            tif=None,
            reduce_only=True,
            trigger_px=px,
            trigger_above=above,
            **fields,
        )

    def position(self, trader=None):
        position = (trader or self.alice).account("").positions.get("SOL")
        return position.lots if position else 0

    def events(self, oid):
        return [(event.kind, event.reason) for event in self.exchange.truth.events if event.oid == oid]


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture(scope="session")
def recorded():
    """Loads a recorded file: JSON, or the frames of JSON lines."""
    folder = Path(__file__).parents[5].parent / "shared" / "data" / "hyperliquid" / "recorded"

    def load(name):
        path = folder / name
        if not path.exists():
            pytest.skip(f"recorded data not present: {path}")
        text = path.read_text()
        if name.endswith(".jsonl"):
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text)

    return load
