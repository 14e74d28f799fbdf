"""What a venue must be able to tell of the past: the seam between the backfill and the venues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from src.models.messages import Fill, OrderHistory, Trade


class PastOrders(Struct, frozen=True):
    """What a venue told of a trader's orders.

    Attributes:
        is_all: everything the venue still knows; False = only what was asked for is sure to be there.
    """

    history: OrderHistory
    is_all: bool = True


class TraderPast(Protocol):
    """The past of traders at one venue. Methods raise `VenueError` and wait until the limits allow the request.

    Attributes:
        venue: whose.
        most_orders: statuses the venue knows at most; when it told all it knows, fewer = nothing older exists.
        fills_page: rows that `fills` returns at most; fewer = nothing newer exists.
        fills_reach: fills of a trader that exist at all.
    """

    venue: str
    most_orders: int
    fills_page: int
    fills_reach: int

    async def orders(self, trader: str, since_ms: int) -> PastOrders:
        """The newest statuses of all orders of a trader; those from ``since_ms`` on are all that is asked for."""

    async def fills(self, trader: str, start_ms: int) -> Sequence[Fill]:
        """Fills from ``start_ms`` on (inclusive), oldest first, at most a page."""


class TradesPage(Struct, frozen=True):
    """Some trades of a symbol; ``next`` is what to ask for the following page with, None = this was the last one."""

    trades: Sequence[Trade]
    next: str | None = None


class TradesPast(Protocol):
    """The history of public trades at one venue.

    Attributes:
        venue: whose.
        reach: in one sentence for people, how far back it goes.
        is_complete: the pages hold every trade of the time asked for; else the venue tells only some of it.
    """

    venue: str
    reach: str
    is_complete: bool

    async def page(self, symbol: str, from_ms: int, to_ms: int, token: str | None) -> TradesPage:
        """A page of trades from ``from_ms`` on, before ``to_ms``; ``token`` is ``next`` of the page before.

        Raises:
            VenueError: it could not be read; the same call may be repeated.
        """
