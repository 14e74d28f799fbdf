"""What the gateway says, as JSON bytes. Pure.

Prices and sizes are numbers with exactly the digits the venue wrote. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from src.models.changes import Change, OrderChange, PositionChange, TradeCancelledSeen, TradeCorrectedSeen, TradeSeen
from src.models.live import Topic
from src.models.messages import Book, Level, Trade, TradeCancelled, TradeCorrected

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode

TOPIC_NAMES = {
    "book": "order book",
    "trade": "trades",
    "order": "orders",
    "position": "positions",
    "status": "status",
}


def plain(kind: str, **fields: Any) -> bytes:
    """``{"type": kind, ...}`` without the fields that are None."""
    return _encode({"type": kind, **{name: value for name, value in fields.items() if value is not None}})


def error(code: str, message: str, symbol: str | None = None, topic: str | None = None) -> bytes:
    """An error reply; ``code`` is a short constant."""
    return plain("error", code=code, message=message, symbol=symbol, topic=topic)


def book_data(book: Book) -> bytes:
    """The ``data`` of an order book update: the shape in which books are handed in at ``/broadcast/orderbook``."""
    bids, asks = ",".join(map(_level, book.bids)), ",".join(map(_level, book.asks))
    extra = _extra(book, "board")
    return f'{{"bids":[{bids}],"asks":[{asks}],"timestamp":"{iso_time(book.time_ms)}"{extra}}}'.encode()


def book_update(symbol: str, venue: str, data: bytes) -> bytes:
    """An ``orderbook_update`` around encoded `book_data`."""
    return b'{"type":"orderbook_update","symbol":%b,"venue":%b,"data":%b}' % (_encode(symbol), _encode(venue), data)


def event_message(symbol: str, change: Change) -> bytes:
    """A message about one trade, order or position (or what became of it)."""
    if isinstance(change, TradeSeen):
        return trade_message(symbol, change.trade)
    if isinstance(change, TradeCorrectedSeen):
        return _correction_message(symbol, change.correction)
    if isinstance(change, TradeCancelledSeen):
        return _cancel_message(symbol, change.cancel)
    if isinstance(change, OrderChange):
        return _order_message(symbol, change)
    if isinstance(change, PositionChange):
        return _position_message(symbol, change)
    raise TypeError(f"{type(change).__name__} is no event of a topic")


def trade_message(symbol: str, trade: Trade, *, history: bool = False) -> bytes:
    """A ``trade``; ``history`` marks one from before the subscription."""
    mark = ',"history":true' if history else ""
    return (
        f'{{"type":"trade","symbol":{_text(symbol)},"venue":{_text(trade.venue)}{mark},"data":{_trade_data(trade)}}}'
    ).encode()


def status_message(symbol: str, topic: Topic, state: str, *, reason: str = "", since_ms: int | None = None) -> bytes:
    """How fresh a topic is: ``live``, ``stale``, ``reconnecting`` or ``refused``."""
    since = None if since_ms is None else iso_time(since_ms)
    return plain(
        "status",
        symbol=symbol,
        venue=topic.venue,
        topic=topic.kind,
        state=state,
        reason=reason or None,
        since=since,
    )


def iso_time(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def number(text: str) -> str:
    """Decimal text as a JSON number; what is none becomes null."""
    if _NUMBER.fullmatch(text):
        return text
    try:
        value = float(text)
    except ValueError:
        return "null"
    return _encode(value).decode()


def _level(level: Level) -> str:
    orders = "" if level.n is None else f',"orders":{level.n}'
    return f'{{"price":{number(level.px)},"volume":{number(level.sz)}{orders}}}'


def _trade_data(trade: Trade) -> str:
    parts = [
        f'"timestamp":"{iso_time(trade.time_ms)}"',
        f'"price":{number(trade.price)}',
        f'"size":{number(trade.size)}',
        f'"id":{_text(trade.trade_id)}',
    ]
    if trade.exchange is not None:
        parts.append(f'"exchange":{_text(trade.exchange)}')
    if trade.conditions is not None:
        parts.append(f'"conditions":{_encode(trade.conditions).decode()}')
    if trade.side is not None:
        parts.append(f'"side":{_text(trade.side)}')
    return f"{{{','.join(parts)}{_extra(trade, 'exchange_name', 'tape', 'ts_ns')}}}"


def _correction_message(symbol: str, correction: TradeCorrected) -> bytes:
    """A ``correction``: ``data`` is the trade that counts now, ``original`` the one it replaces."""
    original = (
        f'{{"id":{_text(correction.original_id)},"price":{number(correction.original_price)},'
        f'"size":{number(correction.original_size)}}}'
    )
    return (
        f'{{"type":"correction","symbol":{_text(symbol)},"venue":{_text(correction.venue)},'
        f'"original":{original},"data":{_trade_data(correction.trade)}}}'
    ).encode()


def _cancel_message(symbol: str, cancel: TradeCancelled) -> bytes:
    """A ``cancel``: ``data`` names the trade that counts no longer."""
    action = "" if cancel.action is None else f',"action":{_text(cancel.action)}'
    exchange = "" if cancel.exchange is None else f',"exchange":{_text(cancel.exchange)}'
    data = (
        f'{{"timestamp":"{iso_time(cancel.time_ms)}","price":{number(cancel.price)},"size":{number(cancel.size)},'
        f'"id":{_text(cancel.trade_id)}{exchange}{action}{_extra(cancel, "exchange_name", "tape", "ts_ns")}}}'
    )
    return f'{{"type":"cancel","symbol":{_text(symbol)},"venue":{_text(cancel.venue)},"data":{data}}}'.encode()


def _extra(message: Book | Trade | TradeCancelled, *names: str) -> str:
    """Optional fields of some venues, where the message has them."""
    found: Mapping[str, Any] = {name: value for name in names if (value := getattr(message, name, None)) is not None}
    return "".join(f',"{name}":{_encode(value).decode()}' for name, value in found.items())


def _order_message(symbol: str, change: OrderChange) -> bytes:
    data = {
        **{name: value for name, value in msgspec.structs.asdict(change.order).items() if value is not None},
        "action": change.action,
        "revision": change.revision,
        "changes": change.changes,
        "observed": change.observed,
    }
    return plain("order", symbol=symbol, venue=change.venue, dex=change.dex or None, data=_timed(data, change))


def _position_message(symbol: str, change: PositionChange) -> bytes:
    data = {
        **{name: value for name, value in msgspec.to_builtins(change.position).items() if value is not None},
        "action": change.action,
        "kind": change.kind,
        "revision": change.revision,
        "changes": change.changes,
        "observed": change.observed,
    }
    return plain("position", symbol=symbol, venue=change.venue, dex=change.dex or None, data=_timed(data, change))


def _timed(data: dict[str, Any], change: OrderChange | PositionChange) -> dict[str, Any]:
    data["receivedAt"] = iso_time(change.received_ms)
    data["venueTime"] = None if change.venue_ms is None else iso_time(change.venue_ms)
    return data


def _text(value: str) -> str:
    return _encode(value).decode()
