"""A simulated trader: accounts, open orders, and the histories the venue can be asked for."""

from __future__ import annotations

from collections import deque

from src.venues.hyperliquid.simulator.accounts import Account
from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.shapes import FillShape, HistoricalOrder

HISTORY_ROWS = 2_000
"""Rows of ``historicalOrders`` and ``userFills``."""
FILLS_REACH = 10_000
"""How many fills ``userFillsByTime`` can reach back."""
_STATUSES_KEPT = 5_000


class SimTrader:
    """One address and everything it has.

    Attributes:
        orders: oid -> orders of its own (children are inside their parents).
        statuses: oid -> last status of an order, live or not, of the newest few thousand.
    """

    def __init__(self, address: str, name: str, deposit_micro: int) -> None:
        self.address = address
        self.name = name
        self.deposit_micro = deposit_micro
        self.accounts: dict[str, Account] = {"": Account(address, "", deposit_micro)}
        self.orders: dict[int, SimOrder] = {}
        self.fills: deque[FillShape] = deque(maxlen=FILLS_REACH)
        self.history: deque[HistoricalOrder] = deque(maxlen=HISTORY_ROWS)
        self.statuses: dict[int, HistoricalOrder] = {}

    def account(self, dex: str) -> Account:
        """The account on this dex, opened with money when it is first used."""
        account = self.accounts.get(dex)
        if account is None:
            account = self.accounts[dex] = Account(self.address, dex, self.deposit_micro // 4)
        return account

    def orders_on(self, dex: str) -> list[SimOrder]:
        """Orders of its own on this dex, newest last."""
        return [order for order in self.orders.values() if order.coin.dex == dex]

    def remember(self, entry: HistoricalOrder) -> None:
        """Note a status of one of its orders."""
        self.history.append(entry)
        self.statuses.pop(entry.order.oid, None)
        self.statuses[entry.order.oid] = entry
        if len(self.statuses) > _STATUSES_KEPT:
            del self.statuses[next(iter(self.statuses))]
