"""Corrections, cancels, quotes, bars and halts as documents; see `src.pipeline.documents`. Pure."""

from __future__ import annotations

from typing import Any

from src.models.changes import (
    BarSeen,
    QuoteSeen,
    TradeCancelledSeen,
    TradeCorrectedSeen,
    TradeSeen,
    TradingStatusSeen,
)
from src.models.messages import TradeCancelled, TradeCorrected
from src.models.writes import Collection, Insert, Upsert, Write
from src.pipeline.documents import present, to_date, to_double, write_of_trade
from src.pipeline.identities import stored_trade_id

_NS_PER_MS = 1_000_000
AMENDED = "amendedNs"
"""When a stored trade was last corrected or cancelled, by the venue: of two amendments the later one counts."""


def writes_of_correction(seen: TradeCorrectedSeen) -> tuple[Write, ...]:
    """The trade that counts from now on, and a mark on the one it replaces (which keeps its price and size).

    Where both have the same id there is one document: it takes the new values and keeps the old ones in ``original``.
    """
    correction = seen.correction
    trade = correction.trade
    insert = write_of_trade(TradeSeen(trade))
    version = _version(correction.ts_ns, correction.time_ms)
    when = to_date(correction.time_ms)
    if trade.trade_id == correction.original_id:
        original = {"price": to_double(correction.original_price), "size": to_double(correction.original_size)}
        values: dict[str, Any] = {
            "price": insert.document["price"],
            "size": insert.document["size"],
            "conditions": insert.document.get("conditions"),
            "original": original | _conditions(correction.original_conditions),
            "correctedAt": when,
        }
        return (Upsert(Collection.TRADES, insert.document["_id"], AMENDED, version, values, _without_id(insert)),)
    corrected = {**insert.document, "corrects": correction.original_id}
    values = {"corrected": True, "correctedBy": trade.trade_id, "correctedAt": when}
    mark = Upsert(
        Collection.TRADES,
        stored_trade_id(correction.venue, correction.symbol, correction.original_id),
        AMENDED,
        version,
        values,
        _unseen_original(correction),
    )
    return (Insert(Collection.TRADES, corrected), mark)


def write_of_cancel(seen: TradeCancelledSeen) -> Upsert:
    """A mark on the trade that was taken back; one that was never stored is made of what the cancel tells."""
    cancel = seen.cancel
    values = {"cancelled": True, "cancelledAt": to_date(cancel.time_ms), "cancelAction": cancel.action}
    return Upsert(
        Collection.TRADES,
        stored_trade_id(cancel.venue, cancel.symbol, cancel.trade_id),
        AMENDED,
        _version(cancel.ts_ns, cancel.time_ms),
        values,
        _unseen(cancel, cancel.trade_id, cancel.price, cancel.size)
        | present(exchange=cancel.exchange, exchangeName=cancel.exchange_name, tape=cancel.tape),
    )


def write_of_quote(seen: QuoteSeen) -> Upsert:
    """The latest quote of a symbol; quotes have no history."""
    quote = seen.quote
    timestamp = to_date(quote.time_ms)
    assert timestamp is not None
    values = {
        "venue": quote.venue,
        "symbol": quote.symbol,
        "bid": to_double(quote.bid),
        "bidSize": to_double(quote.bid_size),
        "ask": to_double(quote.ask),
        "askSize": to_double(quote.ask_size),
        "bidExchange": quote.bid_exchange,
        "askExchange": quote.ask_exchange,
        "conditions": None if quote.conditions is None else list(quote.conditions),
        "tape": quote.tape,
        "sizeUnit": quote.size_unit,
        "timeNs": quote.ts_ns,
        "receivedAt": to_date(quote.received_ms),
    }
    return Upsert(Collection.QUOTES, f"{quote.venue}:{quote.symbol}", "timestamp", timestamp, values)


def write_of_bar(seen: BarSeen) -> Upsert:
    """A candle of the venue's own making; a newer state of it replaces the older."""
    bar = seen.bar
    received = to_date(bar.received_ms)
    assert received is not None
    values = {
        "venue": bar.venue,
        "symbol": bar.symbol,
        "interval": bar.interval,
        "timestamp": to_date(bar.time_ms),
        "open": to_double(bar.open),
        "high": to_double(bar.high),
        "low": to_double(bar.low),
        "close": to_double(bar.close),
        "volume": to_double(bar.volume),
        "vwap": to_double(bar.vwap),
        "count": bar.count,
        **present(updated=bar.updated or None),
    }
    identity = f"{bar.venue}:{bar.symbol}:{bar.interval}:{bar.time_ms}"
    return Upsert(Collection.BARS, identity, "receivedAt", received, values)


def write_of_status(seen: TradingStatusSeen) -> Insert:
    """A halt, a resumption or the like."""
    status = seen.status
    when = status.time_ms * _NS_PER_MS if status.ts_ns is None else status.ts_ns
    document = {
        "_id": f"{status.venue}:{status.symbol}:{when}:{status.code}:{status.reason or ''}",
        "venue": status.venue,
        "symbol": status.symbol,
        "code": status.code,
        "text": status.text,
        "reason": status.reason,
        "reasonText": status.reason_text,
        "tape": status.tape,
        "timestamp": to_date(status.time_ms),
        "timeNs": status.ts_ns,
        "receivedAt": to_date(status.received_ms),
    }
    return Insert(Collection.TRADING_STATUS, document)


def _unseen_original(correction: TradeCorrected) -> dict[str, Any]:
    trade = correction.trade
    known = _unseen(correction, correction.original_id, correction.original_price, correction.original_size)
    known |= _conditions(correction.original_conditions)
    return known | present(exchange=trade.exchange, exchangeName=trade.exchange_name, tape=trade.tape)


def _unseen(amendment: TradeCorrected | TradeCancelled, trade_id: str, price: str, size: str) -> dict[str, Any]:
    """A trade known only from its amendment: its own time is not known, that of the amendment stands for it."""
    return {
        "venue": amendment.venue,
        "symbol": amendment.symbol,
        "tradeId": trade_id,
        "price": to_double(price),
        "size": to_double(size),
        "side": None,
        "timestamp": to_date(amendment.time_ms),
        "receivedAt": to_date(amendment.received_ms),
        "unseen": True,
    }


def _version(ts_ns: int | None, time_ms: int) -> int:
    return time_ms * _NS_PER_MS if ts_ns is None else ts_ns


def _without_id(insert: Insert) -> dict[str, Any]:
    return {name: value for name, value in insert.document.items() if name != "_id"}


def _conditions(conditions: tuple[str, ...] | None) -> dict[str, Any]:
    return {} if conditions is None else {"conditions": list(conditions)}
