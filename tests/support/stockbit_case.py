"""Stockbit's sample frames for the contract that every venue's feed keeps."""

from __future__ import annotations

from collections.abc import Sequence

from src.models.messages import RefusalKind
from src.models.streams import Subscription
from src.venues.stockbit.feed import StockbitFeed, subscription
from src.venues.stockbit.stockbit_pb2 import Error, Frame, Instant, Request, RunningTrade
from tests.support.stockbit_frames import CREDENTIALS, PING, book

SUBSCRIPTIONS = (
    subscription("order_book", "BBCA"),
    subscription("order_book", "TLKM"),
    subscription("running_trade", "BBCA"),
)
PONG = b"\x12\x06\x0a\x04pong"
REFUSALS = ((Frame(error=Error(code=400, message="bad request")).SerializeToString(), RefusalKind.OTHER),)


class Account:
    """Has nothing to say."""

    def refused(self, why: str) -> None:
        del why

    def accepted(self) -> None:
        pass


class AlwaysOpen:
    def expects_data(self, wall_ms: int) -> bool:
        del wall_ms
        return True


def make_feed() -> StockbitFeed:
    feed = StockbitFeed("wss://127.0.0.1/ws", session=Account(), hours=AlwaysOpen())
    feed.credentials = CREDENTIALS
    return feed


def data(subscription: Subscription, venue_ms: int) -> bytes:
    ticker = subscription.key.subject
    if subscription.key.channel == "order_book":
        return book(ticker, "BID", 100, 99, at_ms=venue_ms)
    time = Instant(seconds=venue_ms // 1000, nanos=venue_ms % 1000 * 1_000_000)
    trade = RunningTrade(stock=ticker, price=100.0, volume=500.0, time=time, trade_number=7)
    return Frame(running_trade=trade).SerializeToString()


def answers(frame: str | bytes) -> Sequence[bytes]:
    """What the venue says to one of our frames: a message of each stream that is asked for, or a pong."""
    if frame == PING:
        return [PONG]
    assert isinstance(frame, bytes)
    channel = Request.FromString(frame).channel
    named = [one for one in SUBSCRIPTIONS if one.key.subject in getattr(channel, one.key.channel)]
    return [data(one, 1_700_000_000_000) for one in named]
