"""Frames of the simulated venue, good and bad ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from src.models.messages import Level
from src.venues.stockbit.body import Side, write_body, write_trailer
from src.venues.stockbit.flat import write_update
from src.venues.stockbit.simulator.market import SimTrade
from src.venues.stockbit.stockbit_pb2 import (
    BUY,
    ITCH,
    RG,
    SELL,
    Error,
    Frame,
    Instant,
    LivePrice,
    Orderbook,
    Ping,
    RunningTrade,
    RunningTradeBatch,
    SwitchReset,
)
from src.venues.stockbit.times import NS_PER_MS, to_text
from src.venues.stockbit.varints import FIXED32, FIXED64, write_bytes, write_number, write_varint

PONG = Frame(ping=Ping(message="pong")).SerializeToString()
REFUSAL = Frame(error=Error(code=401, message="you are not authorized")).SerializeToString()
_MICROSECONDS_IN_FIELD_5 = 6


class Bad(StrEnum):
    """What may be wrong with a frame, or merely look so."""

    TRUNCATED = "truncated"
    UNKNOWN_FIELDS = "unknown fields and wire types"
    NO_MARK = "no mark"
    UNKNOWN_SIDE = "unknown side"
    BAD_LEVELS = "bad levels"
    TEXT = "text"


def book_frame(
    ticker: str,
    side: Side,
    levels: Sequence[Level],
    *,
    seq: int,
    at_ms: int,
    board: int = RG,
    layout: str = "nested",
) -> bytes:
    """One side of a book; ``at_ms`` is the venue's time."""
    body = write_body(ticker, side, levels, write_trailer(levels, at_ms // 1000))
    time = to_text(at_ms * NS_PER_MS, digits=_MICROSECONDS_IN_FIELD_5)
    itch = to_text(at_ms * NS_PER_MS + NS_PER_MS, digits=9)
    if layout == "flat":
        return write_update(ticker, body.split("|", 2)[2], time, itch)
    message = Orderbook(
        stock_code=ticker,
        body=body,
        sequence_number=seq,
        order_book_id=sum(ticker.encode()),
        datetime=time,
        source=ITCH,
        board=board,  # type: ignore[arg-type] # a number of the enum
        itch_incoming_time=itch,
    )
    return Frame(orderbook=message).SerializeToString()


def reset_frame(ticker: str, at_ms: int) -> bytes:
    """The venue's source changed: the book begins anew."""
    message = Orderbook(stock_code=ticker, datetime=to_text(at_ms * NS_PER_MS), switch_reset=SwitchReset(), board=RG)
    return Frame(orderbook=message).SerializeToString()


def trade_frame(trade: SimTrade) -> bytes:
    """One running trade."""
    return Frame(running_trade=_trade(trade)).SerializeToString()


def trades_frame(trades: Sequence[SimTrade]) -> bytes:
    """Several at once."""
    return Frame(running_trade_batch=RunningTradeBatch(trades=map(_trade, trades))).SerializeToString()


def live_price_frame(trade: SimTrade, *, volume: int, count: int) -> bytes:
    """The figures of the day after a trade."""
    price = LivePrice(
        stock_code=trade.ticker,
        lastprice=trade.price,
        volume=volume,
        high=trade.price,
        low=trade.price,
        open=trade.price,
        frequency=count,
        average=trade.price,
        close=trade.price,
        prev=trade.price,
        quantity=trade.shares,
        board=RG,
        source=ITCH,
    )
    return Frame(liveprice=price).SerializeToString()


def spoiled(frame: bytes, how: Bad) -> bytes | str:
    """A frame of this kind of misfortune, made of a good one."""
    return _SPOILS[how](frame)


def _trade(trade: SimTrade) -> RunningTrade:
    seconds, ms = divmod(trade.at_ms, 1000)
    instant = Instant(seconds=seconds, nanos=ms * NS_PER_MS)
    return RunningTrade(
        websocket_time=instant,
        stock=trade.ticker,
        price=trade.price,
        volume=trade.shares,
        action=None if trade.in_auction else BUY if trade.is_buy else SELL,
        time=instant,
        trade_number=trade.number,
        market_board=RG,
        value=trade.price * trade.shares,
    )


def _with_unknown_fields(frame: bytes) -> bytes:
    """The same message with fields nobody knows around it, of every wire type that may come."""
    fixed64 = write_varint(90 << 3 | FIXED64) + bytes(8)
    fixed32 = write_varint(91 << 3 | FIXED32) + bytes(4)
    return fixed64 + write_number(92, 7) + frame + fixed32 + write_bytes(93, b"\xff\x00")


def _with_body(frame: bytes, change: Callable[[str], str]) -> bytes:
    message = Frame.FromString(frame)
    message.orderbook.body = change(message.orderbook.body)
    return message.SerializeToString()


_SPOILS: dict[Bad, Callable[[bytes], bytes | str]] = {
    Bad.TRUNCATED: lambda frame: frame[:-3] + b"\xff",
    Bad.UNKNOWN_FIELDS: _with_unknown_fields,
    Bad.NO_MARK: lambda frame: _with_body(frame, lambda body: body.removeprefix("#O|")),
    Bad.UNKNOWN_SIDE: lambda frame: _with_body(frame, lambda body: body.replace("|BID|", "|ASK|")),
    Bad.BAD_LEVELS: lambda frame: _with_body(
        frame, lambda body: "|".join([*body.split("|")[:3], "x;y;z", "", "12;1", "0;1;100", *body.split("|")[3:]])
    ),
    Bad.TEXT: lambda _: '{"error": "no text is expected here"}',
}
