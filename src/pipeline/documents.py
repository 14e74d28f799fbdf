"""Changes as documents: the one place that knows the stored fields, in both directions. Pure.

Field names and types are the contract of `docs/data-model.md`. Times become UTC datetimes, decimals doubles.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite
from typing import Any
from zlib import crc32

from src.models.changes import (
    AccountSample,
    BookChange,
    DeadLetter,
    FillSeen,
    HoleClosed,
    HoleOpened,
    OrderChange,
    OrderEnded,
    OrderLink,
    PositionChange,
    PositionMarks,
    TradeSeen,
)
from src.models.messages import Book, Level
from src.models.orders import Order
from src.models.positions import MarginSummary, Position
from src.models.streams import StreamKey
from src.models.writes import Collection, Insert, Patch, Upsert, Write
from src.pipeline.identities import event_id, fill_id, hole_id, order_id, position_id, stored_trade_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_MS = timedelta(milliseconds=1)
_MINUTE_MS = 60_000
_STATUS = {"closed": "closed", "untracked": "untracked"}
"""By action; everything else is open."""


def to_date(time_ms: int | None) -> datetime | None:
    """Milliseconds since 1970 as an aware datetime; exact, unlike a float of seconds."""
    return None if time_ms is None else _EPOCH + timedelta(milliseconds=time_ms)


def to_ms(date: datetime | None) -> int | None:
    """The reverse of `to_date`."""
    return None if date is None else (date - _EPOCH) // _ONE_MS


def to_double(text: str | None) -> float | None:
    """The stored number of a decimal text; None for what is no finite number (a mark the venue could not compute)."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def writes_of_order(change: OrderChange) -> tuple[Write, ...]:
    """The event and the new state of one order."""
    order = _order_fields(change.order)
    received = to_date(change.received_ms)
    status = _STATUS.get(change.action, "open")
    identity = order_id(change.trader, change.order.oid)
    links = present(replaces=change.replaces, replacedBy=change.replaced_by)
    common = {
        "ethAddress": change.trader,
        "dex": change.dex,
        **order,
        "status": status,
        "action": change.action,
        "revision": change.revision,
        "receivedAt": received,
        **links,
        **present(closeObserved=change.observed, source=change.source),
    }
    if change.reason is not None:
        common.update(_ending(change.reason, change.ended_ms, change.received_ms))
    event = {
        "_id": event_id(identity, change.revision),
        **common,
        "changes": change.changes,
        "venueTime": to_date(change.venue_ms),
    }
    state = {**common, "updatedAt": received}
    if change.action == "closed" and change.reason is None:
        closed_ms = change.received_ms if change.venue_ms is None else change.venue_ms
        placed_ms = change.order.timestamp or closed_ms
        state["closedAt"] = to_date(max(closed_ms, placed_ms))  # our clock may have been set back meanwhile
        state["closeReason"] = "unknown"
    elif change.reopened:
        state.update(closedAt=None, closeReason=None, closeObserved=None)
    note_sight(state, change.action, change.changes, received)
    keep_parent(state, change.changes)
    return (
        Insert(Collection.TRADER_ORDER_EVENTS, event),
        Upsert(
            Collection.TRADER_ORDERS,
            identity,
            "revision",
            change.revision,
            state,
            {"createdAt": received},
        ),
    )


def writes_of_ending(ended: OrderEnded) -> tuple[Patch, Patch]:
    """Why a closed order ended; without effect on one that is open again, or closed anew."""
    identity = order_id(ended.trader, ended.oid)
    values = _ending(ended.reason, ended.ended_ms, ended.received_ms)
    guard = {"revision": ended.revision, "status": "closed"}
    return (
        Patch(Collection.TRADER_ORDERS, identity, values, guard),
        Patch(Collection.TRADER_ORDER_EVENTS, event_id(identity, ended.revision), values, {"action": "closed"}),
    )


def write_of_link(link: OrderLink) -> Patch:
    """The late-found side of a modify."""
    values = present(replacedBy=link.replaced_by, replaces=link.replaces)
    return Patch(Collection.TRADER_ORDERS, order_id(link.trader, link.oid), values)


def writes_of_position(change: PositionChange) -> tuple[Write, ...]:
    """The event and the new state of one position."""
    received = to_date(change.received_ms)
    closed = change.action == "closed"
    identity = position_id(change.trader, change.dex, change.position.coin)
    common = {
        "ethAddress": change.trader,
        "dex": change.dex,
        "coin": change.position.coin,
        **_position_fields(change.position),
        **_marks(change.position),
        "status": _STATUS.get(change.action, "open"),
        "action": change.action,
        "kind": change.kind,
        "revision": change.revision,
        "timestamp": to_date(change.venue_ms) or received,
        "receivedAt": received,
        **present(closeObserved=change.observed),
    }
    if closed:
        common["szi"] = 0.0
    event = {"_id": event_id(identity, change.revision), **common, "changes": change.changes}
    state: dict[str, Any] = {**common, "updatedAt": received}
    if closed:
        state["closedAt"] = to_date(change.venue_ms) or received
    elif change.kind == "open":
        state.update(openedAt=to_date(change.venue_ms) or received, closedAt=None, closeObserved=None)
    note_sight(state, change.action, change.changes, received)
    return (
        Insert(Collection.TRADER_POSITION_EVENTS, event),
        Upsert(
            Collection.TRADER_POSITIONS,
            identity,
            "revision",
            change.revision,
            state,
            {"createdAt": received},
        ),
    )


def write_of_marks(marks: PositionMarks) -> Patch:
    """Fresh marks of a position that did not change; without effect once it has."""
    received = to_date(marks.received_ms)
    values = {
        **_marks(marks.position),
        "timestamp": to_date(marks.venue_ms) or received,
        "receivedAt": received,
    }
    identity = position_id(marks.trader, marks.dex, marks.position.coin)
    return Patch(Collection.TRADER_POSITIONS, identity, values, {"revision": marks.revision})


def write_of_account(sample: AccountSample) -> Insert:
    """Account values of one minute."""
    time_ms = sample.venue_ms if sample.venue_ms is not None else sample.received_ms
    minute_ms = time_ms - time_ms % _MINUTE_MS
    account = sample.account
    document = {
        "_id": f"{sample.trader}:{sample.dex}:{minute_ms}",
        "ethAddress": sample.trader,
        "dex": sample.dex,
        **_margin_fields(account.margin, ""),
        **_margin_fields(account.cross, "cross"),
        "maintenanceMarginUsed": to_double(account.maintenance),
        "withdrawable": to_double(account.withdrawable),
        "timestamp": to_date(time_ms),
        "receivedAt": to_date(sample.received_ms),
    }
    return Insert(Collection.TRADER_ACCOUNTS, document)


def writes_of_book(change: BookChange) -> tuple[Write, ...]:
    """The latest book and, when it changed, its place in the history."""
    book = change.book
    timestamp, received = to_date(book.time_ms), to_date(book.received_ms)
    assert timestamp is not None
    bids, asks = [_level(level) for level in book.bids], [_level(level) for level in book.asks]
    document = {
        "venue": book.venue,
        "symbol": book.symbol,
        "bids": bids,
        "asks": asks,
        **_top_of_book(bids, asks),
        "timestamp": timestamp,
        "receivedAt": received,
        **_sides_apart(book),
    }
    identity = f"{book.venue}:{book.symbol}"
    latest = Upsert(Collection.ORDERBOOKS, identity, "timestamp", timestamp, document)
    if not change.changed:
        return (latest,)
    history = Insert(Collection.ORDERBOOK_SNAPSHOTS, {"_id": f"{identity}:{book.time_ms}", **document})
    return (history, latest)


def write_of_trade(seen: TradeSeen) -> Insert:
    """One public trade."""
    trade = seen.trade
    document = {
        "_id": stored_trade_id(trade.venue, trade.symbol, trade.trade_id),
        "venue": trade.venue,
        "symbol": trade.symbol,
        "tradeId": trade.trade_id,
        "price": to_double(trade.price),
        "size": to_double(trade.size),
        "side": trade.side,
        "timestamp": to_date(trade.time_ms),
        "receivedAt": to_date(trade.received_ms),
        **present(
            users=None if trade.users is None else list(trade.users),
            hash=trade.hash,
            exchange=trade.exchange,
            conditions=None if trade.conditions is None else list(trade.conditions),
            exchangeName=trade.exchange_name,
            tape=trade.tape,
            timeNs=trade.ts_ns,
            cancelled=trade.update == "cancelled" or None,
            corrected=trade.update == "corrected" or None,
            board=trade.board,
        ),
    }
    return Insert(Collection.TRADES, document)


def write_of_fill(seen: FillSeen) -> Insert:
    """One execution of a tracked trader."""
    fill = seen.fill
    document = {
        "_id": fill_id(fill),
        "ethAddress": fill.trader,
        "coin": fill.coin,
        "px": to_double(fill.px),
        "sz": to_double(fill.sz),
        "side": fill.side,
        "oid": fill.oid,
        "tid": fill.tid,
        "crossed": fill.crossed,
        "dir": fill.dir,
        "startPosition": to_double(fill.start_position),
        "closedPnl": to_double(fill.closed_pnl),
        "fee": to_double(fill.fee),
        "feeToken": fill.fee_token,
        "timestamp": to_date(fill.time_ms),
        "receivedAt": to_date(fill.received_ms),
        **present(
            builderFee=to_double(fill.builder_fee),
            cloid=fill.cloid,
            twapId=fill.twap_id,
            hash=fill.hash,
            liquidation=fill.liquidation,
        ),
    }
    return Insert(Collection.TRADER_FILLS, document)


def write_of_hole(hole: HoleOpened) -> Insert:
    """The beginning of an interval in which a stream was not seen."""
    document = {
        "_id": hole_id(hole.stream, hole.from_ms),
        "venue": hole.venue,
        "stream": hole.stream,
        "subject": StreamKey.parse(hole.stream).subject,
        "from": to_date(hole.from_ms),
        "to": None,
        "reason": hole.reason,
        "detail": hole.detail,
        **present(withinS=hole.within_s),
        "repaired": False,
    }
    return Insert(Collection.COVERAGE, document)


def write_of_hole_end(hole: HoleClosed) -> Patch:
    """The end of such an interval."""
    return Patch(Collection.COVERAGE, hole_id(hole.stream, hole.from_ms), {"to": to_date(hole.to_ms)}, {"to": None})


def write_of_dead_letter(letter: DeadLetter) -> Insert:
    """A sample of something that could not be used; the same thing in the same millisecond is kept once."""
    checksum = crc32(letter.payload, crc32(letter.sample))
    document = {
        "_id": f"{letter.stage}:{letter.received_ms}:{letter.reason}:{checksum:08x}",
        "venue": letter.venue,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "sample": letter.sample.decode("utf-8", "backslashreplace"),
        "sizeBytes": letter.size_bytes,
        "receivedAt": to_date(letter.received_ms),
        "keptAt": to_date(letter.received_ms if letter.kept_ms is None else letter.kept_ms),
        **present(payload=letter.payload or None),
    }
    return Insert(Collection.DEAD_LETTERS, document)


def present(**fields: Any) -> dict[str, Any]:
    """Those of these fields that have a value; the others are left out of documents."""
    return {name: value for name, value in fields.items() if value is not None}


def note_sight(state: dict[str, Any], action: str, changes: Mapping[str, Any], received: datetime | None) -> None:
    """Since when nobody looks at it because its trader was let go; nothing once it is seen open again."""
    if action == "untracked":
        state["untrackedAt"] = received
    elif changes.get("status") == {"from": "untracked", "to": "open"}:
        state["untrackedAt"] = None


def keep_parent(state: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Let an activated child keep the name of its parent in the state, marked as no longer waiting for it."""
    if "parentOid" in changes:
        state["activated"] = state["parentOid"] is None
    if state.get("parentOid") is None:
        state.pop("parentOid", None)


def _ending(reason: str, ended_ms: int | None, told_ms: int) -> dict[str, Any]:
    return {"closeReason": reason, "closedAt": to_date(ended_ms), "closeResolvedAt": to_date(told_ms)}


def _order_fields(order: Order) -> dict[str, Any]:
    return {
        "oid": order.oid,
        "coin": order.coin,
        "side": order.side,
        "limitPx": to_double(order.limitPx),
        "sz": to_double(order.sz),
        "origSz": to_double(order.origSz),
        "orderType": order.orderType,
        "tif": order.tif,
        "timestamp": to_date(order.timestamp),
        "cloid": order.cloid,
        "reduceOnly": order.reduceOnly,
        "isTrigger": order.isTrigger,
        "triggerPx": to_double(order.triggerPx),
        "triggerCondition": order.triggerCondition,
        "isPositionTpsl": order.isPositionTpsl,
        "parentOid": order.parentOid,
    }


def _position_fields(position: Position) -> dict[str, Any]:
    size = to_double(position.szi) or 0.0
    leverage = position.leverage
    return {
        "szi": size,
        "side": "short" if size < 0 else "long",
        "entryPx": to_double(position.entryPx),
        "leverage": None if leverage is None else {"type": leverage.type, "value": leverage.value},
        "maxLeverage": position.maxLeverage,
    }


def _marks(position: Position) -> dict[str, Any]:
    funding = position.cumFunding
    return {
        "positionValue": to_double(position.positionValue),
        "unrealizedPnl": to_double(position.unrealizedPnl),
        "returnOnEquity": to_double(position.returnOnEquity),
        "liquidationPx": to_double(position.liquidationPx),
        "marginUsed": to_double(position.marginUsed),
        "cumFunding": None
        if funding is None
        else {
            "allTime": to_double(funding.allTime),
            "sinceOpen": to_double(funding.sinceOpen),
            "sinceChange": to_double(funding.sinceChange),
        },
    }


def _margin_fields(margin: MarginSummary | None, prefix: str) -> dict[str, Any]:
    if margin is None:
        return {}
    names = ("accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed")
    return {
        (prefix + name[0].upper() + name[1:] if prefix else name): to_double(getattr(margin, name)) for name in names
    }


@lru_cache(maxsize=4096)
def _level(level: Level) -> list[float | int | None]:
    """One level as it is stored. From book to book most levels stay as they were, so documents share them."""
    price, size = to_double(level.px), to_double(level.sz)
    return [price, size] if level.n is None else [price, size, level.n]


def _sides_apart(book: Book) -> dict[str, Any]:
    """Of a venue with boards and sides that arrive apart: the board, and when each side was told."""
    bids, asks = book.bids_told, book.asks_told
    return present(
        board=book.board,
        bidsAt=None if bids is None else to_date(bids.time_ms),
        asksAt=None if asks is None else to_date(asks.time_ms),
    )


def _top_of_book(bids: list[list[Any]], asks: list[list[Any]]) -> dict[str, float | None]:
    """Mid and spread in price units; imbalance = (bid size - ask size) / (bid size + ask size) over all levels."""
    depth_bid, depth_ask = sum(level[1] for level in bids), sum(level[1] for level in asks)
    depth = depth_bid + depth_ask
    imbalance = (depth_bid - depth_ask) / depth if depth else None
    if not bids or not asks:
        return {"mid": None, "spread": None, "imbalance": imbalance}
    bid, ask = bids[0][0], asks[0][0]
    # Ten decimals are finer than any tick and hide the noise of binary subtraction.
    return {"mid": round((bid + ask) / 2, 10), "spread": round(ask - bid, 10), "imbalance": imbalance}
