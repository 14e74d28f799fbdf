"""Contents of frames and answers: reads the market, changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, Raw

from src.venues.hyperliquid.simulator.accounts import Account
from src.venues.hyperliquid.simulator.book import Level
from src.venues.hyperliquid.simulator.candles import CandleBook
from src.venues.hyperliquid.simulator.instruments import describe_meta
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.shapes import BookShape, ClearinghouseState, LevelShape, WebData2, encode
from src.venues.hyperliquid.simulator.subscriptions import Subscription
from src.venues.hyperliquid.simulator.truth import Row
from src.venues.hyperliquid.simulator.units import Instrument, decimal_text, money_text

FAST_DEPTH = 5
_CONTEXTS_LIVE_MS = 1_000
_AT_CAP = ("CANTO", "FTM")


class Payloads:
    """Builds what the venue says about the market as it is now."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.candles = CandleBook()
        self._coins: Mapping[str, Instrument] = {coin.name: coin for coin in market.universe}
        self._metas = {dex: Raw(encode(describe_meta(market.universe, dex))) for dex in market.dexes}
        self._spot_holders = frozenset(list(market.traders)[::2])
        self._contexts: dict[str, tuple[int, Raw]] = {}

    def meta(self, dex: str) -> Raw:
        """``meta`` of a dex, encoded once."""
        return self._metas[dex]

    def clearinghouse(self, user: str, dex: str) -> ClearinghouseState:
        """Positions and margin; all zero for an address without account."""
        trader = self.market.traders.get(user)
        account = trader.accounts.get(dex) if trader is not None else None
        return (account or Account(user, dex, 0)).state(self.market.exchange.marks, self.market.now_ms)

    def position_rows(self, user: str, dex: str) -> dict[str, Row]:
        """What `clearinghouse` shows, as the delivery log keeps it."""
        trader = self.market.traders.get(user)
        account = trader.accounts.get(dex) if trader is not None else None
        return account.rows() if account is not None else {}

    def orders(self, user: str, dex: str) -> list[SimOrder]:
        """Open orders of a user on a dex, newest first as on the venue."""
        trader = self.market.traders.get(user)
        return trader.orders_on(dex)[::-1] if trader is not None else []

    def web_data2(self, user: str) -> WebData2:
        """The legacy message: the user's part and the whole market's."""
        trader = self.market.traders.get(user)
        spot = self.spot_state(user)
        return WebData2(
            clearinghouseState=self.clearinghouse(user, ""),
            leadingVaults=(),
            totalVaultEquity="0.0",
            openOrders=[order.raw() for order in self.orders(user, "")],
            agentAddress=None,
            agentValidUntil=None,
            cumLedger=money_text(trader.account("").deposits_micro) if trader is not None else "0.0",
            meta=self.meta(""),
            assetCtxs=self.contexts(""),
            serverTime=self.market.now_ms,
            isVault=False,
            user=user,
            twapStates=(),
            spotState=spot if spot["balances"] else UNSET,
            spotAssetCtxs=Raw(encode([self._spot_context()])),
            perpsAtOpenInterestCap=_AT_CAP,
        )

    def web_data3(self, user: str) -> dict[str, Any]:
        """State of the user without positions and orders."""
        trader = self.market.traders.get(user)
        ledger = sum(a.deposits_micro for a in trader.accounts.values()) if trader is not None else 0
        return {
            "userState": {
                "agentAddress": None,
                "agentValidUntil": None,
                "cumLedger": money_text(ledger),
                "serverTime": self.market.now_ms,
                "isVault": False,
                "user": user,
            },
            "perpDexStates": [{"totalVaultEquity": "0.0"} for _ in self.market.dexes],
        }

    def spot_state(self, user: str) -> dict[str, Any]:
        """Spot balances: every other simulated trader holds some dollars."""
        if user not in self._spot_holders:
            return {"balances": []}
        return {"balances": [{"coin": "USDC", "token": 0, "total": "1019.92", "hold": "0.0", "entryNtl": "0.0"}]}

    def book(self, request: Subscription) -> BookShape:
        """A whole book, aggregated as asked."""
        assert request.coin is not None, "a book is always of a coin"
        coin = self._coins[request.coin]
        bids, asks = self.market.exchange.books[coin.name].levels()
        spread: Any = UNSET
        if request.n_sig_figs is not None:
            bids, asks = _aggregate(coin, (bids, asks), request.n_sig_figs, request.mantissa or 1)
            spread = coin.px_text(asks[0].px - bids[0].px) if bids and asks else "0.0"
        depth = FAST_DEPTH if request.fast else None
        return BookShape(
            coin=coin.name,
            time=self.market.now_ms,
            levels=(_levels(coin, bids[:depth]), _levels(coin, asks[:depth])),
            spread=spread,
            fast=True if request.fast else UNSET,
        )

    def bbo(self, coin_name: str) -> dict[str, Any]:
        """Best bid and offer; null where a side is empty."""
        book = self.book(Subscription(type="bbo", coin=coin_name))
        best = [side[0] if side else None for side in book.levels]
        return {"coin": coin_name, "time": self.market.now_ms, "bbo": best}

    def mids(self, dex: str) -> dict[str, str]:
        """Mid prices of a dex by coin."""
        return {
            coin.name: self._mid(coin) or coin.px_text(coin.start_px)
            for coin in self.market.universe
            if coin.dex == dex
        }

    def contexts(self, dex: str) -> Raw:
        """``assetCtxs`` of a dex in the order of its universe; renewed at most once a second."""
        cached = self._contexts.get(dex)
        if cached is None or self.market.now_ms - cached[0] >= _CONTEXTS_LIVE_MS:
            rows = [self.context(coin) for coin in self.market.universe if coin.dex == dex]
            cached = self._contexts[dex] = (self.market.now_ms, Raw(encode(rows)))
        return cached[1]

    def context(self, coin: Instrument) -> dict[str, Any]:
        """Context of one perpetual."""
        book = self.market.exchange.books[coin.name]
        mark = coin.px_text(book.mark)
        mid = self._mid(coin)
        return {
            "funding": "0.0" if coin.delisted else "0.0000125",
            "openInterest": "0.0" if coin.delisted else coin.sz_text(coin.lots_for(10**15, book.mark)),
            "prevDayPx": coin.px_text(coin.start_px),
            "dayNtlVlm": "0.0" if coin.delisted else "1821282705.4506571293",
            "premium": None if coin.delisted else "-0.0001864194",
            "oraclePx": mark,
            "markPx": mark,
            "midPx": mid,
            "impactPxs": None if mid is None else [coin.px_text(book.best_bid()), coin.px_text(book.best_ask())],
            "dayBaseVlm": "0.0" if coin.delisted else "21229.55909",
        }

    def coin(self, name: str) -> Instrument | None:
        """The instrument of this name."""
        return self._coins.get(name)

    def _mid(self, coin: Instrument) -> str | None:
        if coin.delisted:
            return None
        book = self.market.exchange.books[coin.name]
        return decimal_text((book.best_bid() + book.best_ask()) * 5, coin.px_decimals + 1)

    def _spot_context(self) -> dict[str, Any]:
        return {
            "prevDayPx": "0.21071",
            "dayNtlVlm": "10849298.9866199978",
            "markPx": "0.19143",
            "midPx": "0.19146",
            "circulatingSupply": "596659739.0078200102",
            "coin": "PURR/USDC",
            "totalSupply": "596659745.5305999517",
            "dayBaseVlm": "52994929.0",
        }


def _levels(coin: Instrument, levels: Sequence[Level]) -> list[LevelShape]:
    return [LevelShape(coin.px_text(level.px), coin.sz_text(level.lots), level.n) for level in levels]


def _aggregate(
    coin: Instrument, sides: tuple[list[Level], list[Level]], figures: int, mantissa: int
) -> tuple[list[Level], list[Level]]:
    """Bids rounded down and asks rounded up to so many significant figures times the mantissa."""
    if not sides[0] or not sides[1]:
        return sides
    step = max(coin.tick(sides[0][0].px), 10 ** max(0, len(str(sides[0][0].px)) - figures)) * mantissa
    rounded: list[list[Level]] = []
    for levels, up in ((sides[0], 0), (sides[1], step - 1)):
        merged: dict[int, Level] = {}
        for level in levels:
            px = (level.px + up) // step * step
            there = merged.get(px, Level(px, 0, 0))
            merged[px] = Level(px, there.lots + level.lots, there.n + level.n)
        rounded.append(list(merged.values()))
    return rounded[0], rounded[1]
