"""What a venue can be asked about the past, in the program's own words: the seam between repair and the venues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from src.models.messages import Fill, OrderStatus, Trade


class Shown(StrEnum):
    """What a stream shows, and thus what a hole in it hides."""

    ORDERS = "orders"
    POSITIONS = "positions"
    FILLS = "fills"
    TRADES = "trades"
    BOOKS = "books"


class PastOrder(Struct, frozen=True):
    """One status an order has had, by the venue's own history.

    Attributes:
        status: the venue's word (``filled``, ``canceled``, ...), in effect since ``status_ms``.
        ended: False where the word means that the order lives.
        rested: the order could be seen in a list of open orders; False for what is executed or refused at once.
        row: the order itself with this status, where the history tells it.
    """

    oid: int
    status: str
    status_ms: int
    ended: bool
    rested: bool = True
    row: OrderStatus | None = None


class History(Protocol):
    """One venue's history. Every method may raise `VenueError` and waits until the venue's limits allow the request.

    Attributes:
        venue: whose streams it is about.
        shown: by channel of a stream, what it shows.
        most_orders: rows that `past_orders` returns at most; fewer = nothing older exists.
        weight_of_one: what `past_order` costs of the venue's limits.
        fills_page: rows that `fills` returns at most.
        fills_reach: fills of a trader that exist at all; older ones are gone.
    """

    venue: str
    shown: Mapping[str, frozenset[Shown]]
    most_orders: int
    weight_of_one: int
    fills_page: int
    fills_reach: int

    async def past_order(self, trader: str, oid: int) -> PastOrder | None:
        """The latest status of one order; None when the venue does not know it (any more)."""

    async def past_orders(self, trader: str, since_ms: int | None = None) -> Sequence[PastOrder]:
        """The newest statuses of all orders of a trader; an order may be there several times.

        All from ``since_ms`` on, as far as the venue knows them; None = however few come cheapest.
        """

    def weight_of_all(self, trader: str, rows: int) -> int:
        """What `past_orders` would cost now when it returns so many rows, or what it is worth where it is free."""

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """Fills from ``start_ms`` on (inclusive), oldest first, at most a page."""

    async def recent_trades(self, symbol: str) -> Sequence[Trade]:
        """The newest public trades, in any order; how many is up to the venue."""
