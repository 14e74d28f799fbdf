"""Short ways for tests to say what a venue's history of orders tells."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from src.models.messages import Data, OrderHistory, OrderStatus
from src.models.orders import Order
from src.models.streams import StreamKey
from tests.support.trader_states import START_MS, TRADER, VENUE, Watcher, an_order

CHANNEL = "userHistoricalOrders"


def a_status(order: Order | int, status: str = "filled", at_ms: int = START_MS, **more: Any) -> OrderStatus:
    """One row; an order given by its number had a size of 0.2, of which nothing remains."""
    if isinstance(order, int):
        order = an_order(order, sz="0.0")
    is_end = status not in {"open", "triggered", "whatever"}
    return OrderStatus(order, status, at_ms, **{"ended": is_end, "lived": not status.endswith("ejected"), **more})


def history_data(
    *rows: OrderStatus, received_ms: int, is_snapshot: bool = False, trader: str = TRADER, source: str = CHANNEL
) -> Data:
    """A frame of the feed as the mapper would hand it on."""
    message = OrderHistory(VENUE, trader, received_ms, rows, source, is_snapshot)
    newest = max((row.status_ms for row in rows), default=None)
    return Data(StreamKey(VENUE, CHANNEL, trader), newest, (message,), received_ms=received_ms)


def tells(watcher: Watcher, *rows: OrderStatus, **more: Any) -> list[Any]:
    """Let the feed tell this now; returns the changes it made."""
    return watcher.applies(history_data(*rows, received_ms=watcher.now_ms, **more))


def remaining(oid: int, sz: str, **fields: Any) -> Order:
    """An order of which this much remains."""
    return structs.replace(an_order(oid, **fields), sz=sz)
