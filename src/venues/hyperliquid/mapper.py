"""What a Hyperliquid frame means: ``(frame, received_ms) -> Decoded``.

The result depends on the arguments alone. What the mapper remembers between frames only spares work: an
``orders`` section with the same bytes as the last one of that stream yields the same mapping object again, and number
texts already checked are not checked twice. The only error that leaves it is `WireError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, structs

from src.models.errors import WireError
from src.models.messages import (
    Ack,
    Book,
    Data,
    Decoded,
    Fill,
    Ignored,
    Level,
    Message,
    OrderHistory,
    OrdersSnapshot,
    OrderStatus,
    Pong,
    PositionsSnapshot,
    Refusal,
    RefusalKind,
    Trade,
)
from src.models.orders import Order, pack_order
from src.models.positions import Account, Position
from src.models.streams import StreamKey
from src.venues.hyperliquid import wire
from src.venues.hyperliquid.legacy import without_market
from src.venues.hyperliquid.statuses import is_end, is_refusal

VENUE = "hyperliquid"
GREETING = b"Websocket connection established."

MAX_NAME_LENGTH = 64
MAX_MEMO_STREAMS = 20_000
MAX_MEMO_TEXTS = 100_000
_DETAIL_LENGTH = 300

_DECIMAL = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_ORDER_WIDTH = len(Order.__struct_fields__)
_SIDES = frozenset({"A", "B"})
_ZERO_SIZES = frozenset(f"{sign}0{'.' if places else ''}{'0' * places}" for sign in ("", "-") for places in range(31))

# Texts of the venue's `error` channel (spec section 11.1 of the protocol notes; nktkas/hyperliquid #78).
_REFUSAL_PREFIXES: tuple[tuple[str, RefusalKind], ...] = (
    ("Already subscribed", RefusalKind.ALREADY_SUBSCRIBED),
    ("Already unsubscribed", RefusalKind.ALREADY_UNSUBSCRIBED),
    ("Invalid subscription", RefusalKind.INVALID),
    ("Error parsing JSON into valid websocket request", RefusalKind.UNKNOWN_TYPE),
    ("Cannot track more than", RefusalKind.USER_CAP),
    ("Cannot subscribe to more than", RefusalKind.SUBSCRIPTION_CAP),
    ("Cannot send more than", RefusalKind.MESSAGE_RATE),
    ("too many pending post requests", RefusalKind.POST_CAP),
)


class HyperliquidMapper:
    """Decodes frames of one connection pool. Not thread-safe; cheap enough to make one per replay."""

    def __init__(self) -> None:
        self._frame = msgspec.json.Decoder(wire.Frame)
        self._orders = msgspec.json.Decoder(list[wire.WireOrder])
        self._clearinghouse = msgspec.json.Decoder(wire.WireClearinghouse)
        self._sections: dict[tuple[str, str], tuple[int, dict[int, bytes]]] = {}
        self._decimals: set[str | None] = {None}
        self._checked: dict[tuple[str, str], int] = {}
        self._addresses: dict[str, str] = {}
        self._handlers: Mapping[type, Callable[[Any, int, int], Decoded]] = {
            wire.OpenOrdersFrame: self._open_orders,
            wire.ClearinghouseFrame: self._clearinghouse_state,
            wire.AllDexsFrame: self._all_dexs,
            wire.WebData2Frame: self._web_data2,
            wire.L2BookFrame: self._book,
            wire.TradesFrame: self._trades,
            wire.UserFillsFrame: self._fills,
            wire.UserHistoricalOrdersFrame: self._order_history,
            wire.SubscriptionResponseFrame: self._ack,
            wire.ErrorFrame: self._refusal,
            wire.PongFrame: lambda *_: Pong(),
        }

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """Say what a frame means.

        Raises:
            WireError: malformed JSON, an unknown channel, a wrong type, or a number that is none.
        """
        try:
            message = self._shortened(frame) or self._frame.decode(frame)
        except msgspec.ValidationError as error:
            return self._explain(frame, error)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if _as_bytes(frame).strip() == GREETING:
                return Ignored("greeting")
            raise WireError("malformed_json", str(error)[:_DETAIL_LENGTH]) from error
        try:
            return self._handlers[type(message)](message, received_ms, len(frame))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise WireError("wrong_type", str(error)[:_DETAIL_LENGTH]) from error

    # -- traders -------------------------------------------------------------------------------------------------

    def _open_orders(self, frame: wire.OpenOrdersFrame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        trader, dex = self._address(data.user), _name(data.dex)
        rows = self._rows(trader, dex, data.orders)
        if rows is None:
            return Ignored("section_missing")
        snapshot = OrdersSnapshot(VENUE, trader, dex, None, received_ms, rows)
        return Data(StreamKey(VENUE, "openOrders", trader, dex), None, (snapshot,), size)

    def _clearinghouse_state(self, frame: wire.ClearinghouseFrame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        trader, dex = self._address(data.user), _name(data.dex)
        if _is_null(data.clearinghouseState):
            return Ignored("section_missing")
        state = self._clearinghouse.decode(data.clearinghouseState)
        snapshot = self._positions(trader, dex, state, state.time, received_ms)
        if snapshot is None:
            return Ignored("section_missing")
        return Data(StreamKey(VENUE, "clearinghouseState", trader, dex), state.time, (snapshot,), size)

    def _all_dexs(self, frame: wire.AllDexsFrame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        trader = self._address(data.user)
        snapshots = [
            self._positions(trader, _name(dex), state, state.time, received_ms)
            for dex, state in data.clearinghouseStates
        ]
        times = [state.time for _, state in data.clearinghouseStates if state.time is not None]
        kept = tuple(snapshot for snapshot in snapshots if snapshot is not None)
        if not kept:
            return Ignored("section_missing")
        return Data(StreamKey(VENUE, "allDexsClearinghouseState", trader), max(times, default=None), kept, size)

    def _web_data2(self, frame: wire.WebData2Frame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        trader, time_ms = self._address(data.user), data.serverTime
        messages: list[Message] = []
        if data.clearinghouseState is not UNSET and not _is_null(data.clearinghouseState):
            state = self._clearinghouse.decode(data.clearinghouseState)
            positions = self._positions(trader, "", state, time_ms or state.time, received_ms)
            if positions is not None:
                messages.append(positions)
        if data.openOrders is not UNSET:
            rows = self._rows(trader, "", data.openOrders)
            if rows is not None:
                messages.append(OrdersSnapshot(VENUE, trader, "", time_ms, received_ms, rows))
        if not messages:
            return Ignored("section_missing")
        return Data(StreamKey(VENUE, "webData2", trader), time_ms, tuple(messages), size)

    def _shortened(self, frame: str | bytes) -> wire.Frame | None:
        """A legacy frame decoded without its market parts; None where the frame itself has to be decoded."""
        short = without_market(frame)
        if short is None:
            return None
        try:
            message: wire.Frame = self._frame.decode(short)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        data = message.data if isinstance(message, wire.WebData2Frame) else None
        if data is None or data.serverTime is None or UNSET in (data.clearinghouseState, data.openOrders):
            return None
        return message

    def _rows(self, trader: str, dex: str, section: Raw) -> Mapping[int, bytes] | None:
        """Order id -> packed order; the same object as last time if the section's bytes are the same."""
        if _is_null(section):
            return None
        # 64 bits, keyed per process: two different sections of one stream are taken for equal once in 1.8e19.
        fingerprint = hash(bytes(memoryview(section)))
        key = (trader, dex)
        seen = self._sections.get(key)
        if seen is not None and seen[0] == fingerprint:
            return seen[1]
        rows = self._decode_rows(section, seen[1] if seen is not None else {})
        if len(self._sections) >= MAX_MEMO_STREAMS:
            self._sections.clear()
        self._sections[key] = (fingerprint, rows)
        return rows

    def _decode_rows(self, section: Raw, before: Mapping[int, bytes]) -> dict[int, bytes]:
        rows: dict[int, bytes] = {}
        waiting = self._orders.decode(section)
        while waiting:
            nested: list[wire.WireOrder] = []
            for order in waiting:
                oid = order.oid
                row = pack_order(structs.astuple(order)[:_ORDER_WIDTH])
                known = before.get(oid)
                if known == row:
                    row = known  # keep one copy in memory
                else:
                    self._check_order(order)
                rows[oid] = row
                if order.children:
                    nested.extend(_adopt(child, oid) for child in order.children)
            waiting = nested
        return rows

    def _check_order(self, order: wire.WireOrder) -> None:
        _name(order.coin)
        if order.side not in _SIDES:
            raise WireError("bad_side", order.side[:_DETAIL_LENGTH])
        _check_once(order.limitPx, order.sz, order.origSz, order.triggerPx)

    def _positions(
        self, trader: str, dex: str, state: wire.WireClearinghouse, time_ms: int | None, received_ms: int
    ) -> PositionsSnapshot | None:
        listed = state.assetPositions
        if listed is UNSET or listed is None:
            return None
        # A size of zero was never seen on the wire, where a close is an absence; it would mean the same.
        positions = {item.position.coin: item.position for item in listed if item.position.szi not in _ZERO_SIZES}
        self._check_positions((trader, dex), positions.values())
        account = Account(
            state.marginSummary, state.crossMarginSummary, state.crossMaintenanceMarginUsed, state.withdrawable
        )
        return PositionsSnapshot(VENUE, trader, dex, time_ms, received_ms, positions, account)

    def _check_positions(self, key: tuple[str, str], positions: Collection[Position]) -> None:
        """Check names and numbers, unless they are those of the last list of this trader and dex."""
        fingerprint = hash(tuple([text for p in positions for text in (p.coin, p.szi, p.entryPx)]))  # as in `_rows`
        if self._checked.get(key) == fingerprint:
            return
        for position in positions:
            _name(position.coin)
            _check_once(position.szi, position.entryPx)
        if len(self._checked) >= MAX_MEMO_STREAMS:
            self._checked.clear()
        self._checked[key] = fingerprint

    def _fills(self, frame: wire.UserFillsFrame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        trader = self._address(data.user)
        fills = tuple(self._fill(trader, fill, received_ms, data.isSnapshot) for fill in data.fills)
        newest = max((fill.time_ms for fill in fills), default=None)
        return Data(StreamKey(VENUE, "userFills", trader), newest, fills, size, received_ms)

    def _fill(self, trader: str, fill: wire.WireFill, received_ms: int, is_snapshot: bool) -> Fill:  # noqa: FBT001
        self._check_decimals(fill.px, fill.sz, fill.startPosition, fill.closedPnl, fill.fee, fill.builderFee)
        return Fill(
            venue=VENUE,
            trader=trader,
            coin=_name(fill.coin),
            px=fill.px,
            sz=fill.sz,
            side=fill.side,
            time_ms=fill.time,
            received_ms=received_ms,
            oid=fill.oid,
            tid=fill.tid,
            crossed=fill.crossed,
            dir=fill.dir,
            start_position=fill.startPosition,
            closed_pnl=fill.closedPnl,
            fee=fill.fee,
            fee_token=fill.feeToken,
            builder_fee=fill.builderFee,
            cloid=fill.cloid,
            twap_id=fill.twapId,
            hash=fill.hash,
            liquidation=fill.liquidation,
            is_snapshot=is_snapshot,
        )

    def _order_history(self, frame: wire.UserHistoricalOrdersFrame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        trader = self._address(data.user)
        rows = tuple(self._order_status(row) for row in data.orderHistory)
        history = OrderHistory(VENUE, trader, received_ms, rows, "userHistoricalOrders", data.isSnapshot)
        newest = max((row.status_ms for row in rows), default=None)
        return Data(StreamKey(VENUE, "userHistoricalOrders", trader), newest, (history,), size, received_ms)

    def _order_status(self, row: wire.WireOrderStatus) -> OrderStatus:
        self._check_order(row.order)
        return OrderStatus(
            order=Order(*structs.astuple(row.order)[:_ORDER_WIDTH]),
            status=_name(row.status),
            status_ms=row.statusTimestamp,
            ended=is_end(row.status),
            lived=not is_refusal(row.status),
            children=tuple(child.oid for child in row.order.children or ()),
        )

    # -- markets -------------------------------------------------------------------------------------------------

    def _book(self, frame: wire.L2BookFrame, received_ms: int, size: int) -> Decoded:
        data = frame.data
        coin = _name(data.coin)
        bids, asks = (self._side(levels) for levels in data.levels)
        book = Book(VENUE, coin, data.time, received_ms, bids, asks)
        return Data(StreamKey(VENUE, "l2Book", coin), data.time, (book,), size)

    def _side(self, levels: list[wire.WireLevel]) -> tuple[Level, ...]:
        checked = self._decimals
        for level in levels:
            if level.px not in checked or level.sz not in checked:
                self._check_decimals(level.px, level.sz)
        return tuple(Level(level.px, level.sz, level.n) for level in levels)

    def _trades(self, frame: wire.TradesFrame, received_ms: int, size: int) -> Decoded:
        rows = frame.data
        if not rows:
            return Ignored("empty_trades")
        coin = _name(rows[0].coin)
        trades = tuple(self._trade(row, received_ms) for row in rows)
        return Data(StreamKey(VENUE, "trades", coin), max(row.time for row in rows), trades, size)

    def _trade(self, row: wire.WireTrade, received_ms: int) -> Trade:
        self._check_decimals(row.px, row.sz)
        return Trade(
            venue=VENUE,
            symbol=_name(row.coin),
            # tid is a hash of both order ids, unique only within one coin and one time
            trade_id=f"{row.time}-{row.tid}",
            price=row.px,
            size=row.sz,
            side=row.side,
            time_ms=row.time,
            received_ms=received_ms,
            users=row.users,
            hash=row.hash,
        )

    # -- control -------------------------------------------------------------------------------------------------

    def _ack(self, frame: wire.SubscriptionResponseFrame, _received_ms: int, _size: int) -> Decoded:
        return Ack(self._stream(frame.data.subscription), subscribed=frame.data.method == "subscribe")

    def _refusal(self, frame: wire.ErrorFrame, _received_ms: int, _size: int) -> Decoded:
        text = frame.data
        kind = next((k for prefix, k in _REFUSAL_PREFIXES if text.startswith(prefix)), RefusalKind.OTHER)
        return Refusal(kind, text[:_DETAIL_LENGTH], self._echoed_stream(text))

    def _echoed_stream(self, text: str) -> StreamKey | None:
        """The stream named in the JSON that some refusals repeat, None where there is none."""
        start = text.find("{")
        if start < 0:
            return None
        try:
            echo: Any = msgspec.json.decode(text[start:])
            request = echo.get("subscription", echo)
            return self._stream(msgspec.convert(request, wire.WireSubscription))
        except (msgspec.MsgspecError, UnicodeError, AttributeError, RecursionError, WireError):
            return None

    def _stream(self, subscription: wire.WireSubscription) -> StreamKey:
        if subscription.user is not None:
            subject = self._address(subscription.user)
        else:
            subject = _name(subscription.coin or "")
        return StreamKey(VENUE, _name(subscription.type), subject, _name(subscription.dex or ""))

    def _explain(self, frame: str | bytes, error: msgspec.ValidationError) -> Decoded:
        """Say why a well-formed frame does not fit: not ours, unknown, or a known channel with a wrong type."""
        detail = str(error)[:_DETAIL_LENGTH]
        try:
            channel = msgspec.json.decode(frame, type=wire.Envelope).channel
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as cause:
            raise WireError("no_channel", detail) from cause
        if channel in wire.KNOWN_BUT_NOT_KEPT:
            return Ignored(channel)
        if not any(channel == kept.__struct_config__.tag for kept in wire.Frame.__args__):
            raise WireError("unknown_channel", channel[:_DETAIL_LENGTH]) from error
        raise WireError("wrong_type", detail) from error

    # -- values --------------------------------------------------------------------------------------------------

    def _check_decimals(self, *texts: str | None) -> None:
        for text in texts:
            if text is None or text in self._decimals:
                continue
            if len(self._decimals) >= MAX_MEMO_TEXTS:
                self._decimals = {None}
            self._decimals.add(_decimal(text))

    def _address(self, text: str) -> str:
        known = self._addresses.get(text)
        if known is not None:
            return known
        address = text.lower()
        if _ADDRESS.fullmatch(address) is None:
            raise WireError("bad_address", text[:_DETAIL_LENGTH])
        if len(self._addresses) >= MAX_MEMO_STREAMS:
            self._addresses.clear()
        self._addresses[text] = address
        return address


def _adopt(child: wire.WireOrder, parent: int) -> wire.WireOrder:
    child.parentOid = parent
    return child


def _check_once(*texts: str | None) -> None:
    """Check numbers without remembering them: what rarely comes again would only fill the memory."""
    for text in texts:
        if text is not None:
            _decimal(text)


def _decimal(text: str) -> str:
    if _DECIMAL.fullmatch(text) is None:
        raise WireError("bad_number", text[:_DETAIL_LENGTH])
    return text


def _name(text: str) -> str:
    if len(text) > MAX_NAME_LENGTH or "\x00" in text:
        raise WireError("bad_name", text[:_DETAIL_LENGTH])
    return text


def _is_null(section: Raw) -> bool:
    return bytes(memoryview(section)[:5]) == b"null"


def _as_bytes(frame: str | bytes) -> bytes:
    return frame.encode("utf-8", "replace") if isinstance(frame, str) else frame
