"""What an Alpaca frame means: ``(frame, received_ms) -> Decoded``.

No I/O, no clock. The mapper remembers which channels are subscribed with a star, as only the acknowledgement tells
that; the rest depends on the frame alone. An element of an array that is wrong costs nothing but itself.

Trade ids are unique only with exchange and day, so ours are ``<New York date>-<exchange>-<id>``: the same for
a trade, its correction and its cancel on the stream, and its row in the REST history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from src.models.errors import WireError
from src.models.messages import (
    AckList,
    Bar,
    Data,
    Decoded,
    Ignored,
    LoggedIn,
    Quote,
    Several,
    Trade,
    TradeCancelled,
    TradeCorrected,
    TradingStatus,
    Unusable,
    Welcome,
)
from src.models.streams import StreamKey
from src.venues.alpaca import wire
from src.venues.alpaca.codes import EXCHANGES
from src.venues.alpaca.errors import meaning
from src.venues.alpaca.hours import new_york_date
from src.venues.alpaca.times import NS_PER_MS, BadTimeError, time_ns

VENUE = "alpaca"
CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses")
"""Channels that can be asked for; corrections and cancels come with trades."""

STAR = "*"
SHARES_SINCE_NS = 1_762_128_000 * 1_000_000_000
"""2025-11-03 UTC: from then on the tapes publish shares; what the vendor forwards since is not documented."""

MarketMessage = Trade | TradeCorrected | TradeCancelled | Quote | Bar | TradingStatus

_LEAST_PLAIN, _MOST_PLAIN = 1e-4, 1e16
"""Doubles that Python writes without an exponent."""

_SHOWN = 200
_SAMPLE_BYTES = 512
_MOST_KEYS = 50_000
_NOT_KEPT = {"l": "lulds", "i": "imbalances", "o": "crypto_books", "n": "news"}
_STATES: Mapping[str, Any] = {"canceled": "cancelled", "cancelled": "cancelled", "incorrect": "corrected"}

_decode_json = msgspec.json.Decoder(list[wire.Item]).decode
_decode_msgpack = msgspec.msgpack.Decoder(list[wire.Item]).decode
_JSON_ARRAYS = (b"[", b" ", b"\n", b"\r", b"\t", b"{")


class AlpacaMapper:
    """Translates frames in either encoding; see the module."""

    def __init__(self) -> None:
        self._explicit: dict[str, frozenset[str]] = {}
        self._keys: dict[str, dict[str, StreamKey]] = {channel: {} for channel in CHANNELS}
        self._hour = -1
        self._ids: dict[str, str] = {}
        self._texts: dict[float, str] = {}
        self._readers: Mapping[type, tuple[str, Callable[[Any, int], MarketMessage]]] = {
            wire.TradeMessage: ("trades", self._trade),
            wire.QuoteMessage: ("quotes", _quote),
            wire.MinuteBar: ("bars", lambda item, ms: _bar(item, ms, "1m")),
            wire.UpdatedBar: ("updatedBars", lambda item, ms: _bar(item, ms, "1m", updated=True)),
            wire.DailyBar: ("dailyBars", lambda item, ms: _bar(item, ms, "1d")),
            wire.StatusMessage: ("statuses", _status),
            wire.CorrectionMessage: ("trades", self._correction),
            wire.CancelMessage: ("trades", self._cancel),
        }

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """Say what a frame means.

        Raises:
            WireError: the frame is not an array, an empty one, or in neither encoding.
        """
        is_json = isinstance(frame, str) or frame[:1] in _JSON_ARRAYS
        try:
            items = _decode_json(frame) if is_json else _decode_msgpack(frame)  # type: ignore[arg-type]
        except msgspec.ValidationError:
            return self._one_by_one(frame, received_ms, is_json=is_json)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WireError("malformed_json" if is_json else "malformed_msgpack", str(error)[:_SHOWN]) from error
        if len(items) == 1 and type(items[0]) is wire.TradeMessage:  # what most frames of a quiet market are
            return self._alone(items[0], received_ms, len(frame))
        return self._together(items, received_ms, len(frame), [])

    def historical(self, symbol: str, row: wire.HistoricalTrade, received_ms: int) -> Trade:
        """A row of the REST history.

        Raises:
            WireError: it holds what cannot be a trade.
        """
        try:
            trade = self._trade(row, received_ms, symbol)
        except (_NoValueError, BadTimeError) as error:
            raise WireError("bad_value", str(error)[:_SHOWN]) from error
        if row.u is None or row.u not in _STATES:
            return trade
        return msgspec.structs.replace(trade, update=_STATES[row.u])

    # -- frames ----------------------------------------------------------------------------------------------------

    def _alone(self, item: wire.TradeMessage, received_ms: int, size_bytes: int) -> Decoded:
        try:
            trade = self._trade(item, received_ms)
            key = self._keys["trades"].get(item.S) or self._key("trades", item.S)
        except (_NoValueError, BadTimeError) as error:
            return _unusable("bad_value", error, item)
        return Data(key, trade.time_ms, (trade,), size_bytes, received_ms)

    def _together(self, items: list[Any], received_ms: int, size_bytes: int, others: list[Decoded]) -> Decoded:
        """One `Data` for each stream in the frame; ``others`` is what is known of the frame already."""
        groups: dict[StreamKey, list[MarketMessage]] = {}
        readers, keys = self._readers, self._keys
        for item in items:
            reader = readers.get(type(item))
            if reader is None:
                others.append(self._control(item))
                continue
            channel, read = reader
            try:
                message = read(item, received_ms)
                key = keys[channel].get(item.S) or self._key(channel, item.S)
            except (_NoValueError, BadTimeError) as error:
                others.append(_unusable("bad_value", error, item))
                continue
            group = groups.get(key)
            if group is None:
                groups[key] = [message]
            else:
                group.append(message)
        for key, messages in groups.items():
            newest_ms = messages[0].time_ms if len(messages) == 1 else max(message.time_ms for message in messages)
            others.append(Data(key, newest_ms, tuple(messages), size_bytes, received_ms))
            size_bytes = 0  # of the frame, told once
        if not others:
            raise WireError("empty_array")
        return others[0] if len(others) == 1 else Several(tuple(others))

    def _one_by_one(self, frame: str | bytes, received_ms: int, *, is_json: bool) -> Decoded:
        """An array of which some element has another shape."""
        decoder = _RAW_JSON if is_json else _RAW_MSGPACK
        item_decoder = _ITEM_JSON if is_json else _ITEM_MSGPACK
        probe = _PROBE_JSON if is_json else _PROBE_MSGPACK
        try:
            raws = decoder.decode(frame)  # type: ignore[arg-type]
        except msgspec.ValidationError as error:
            raise WireError("not_an_array", str(error)[:_SHOWN]) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WireError("malformed_json" if is_json else "malformed_msgpack", str(error)[:_SHOWN]) from error
        items: list[Any] = []
        others: list[Decoded] = []
        for raw in raws:
            try:
                items.append(item_decoder.decode(raw))
            except (msgspec.DecodeError, RecursionError) as error:
                others.append(_explain(raw, error, probe))
        return self._together(items, received_ms, len(frame), others)

    def _control(self, item: Any) -> Decoded:
        if isinstance(item, wire.Error):
            return meaning(item.code, item.msg)
        if isinstance(item, wire.Subscription):
            return self._subscriptions(item)
        if item.msg == "connected":
            return Welcome()
        return LoggedIn() if item.msg == "authenticated" else Ignored("success")

    def _subscriptions(self, said: wire.Subscription) -> AckList:
        lists = {channel: getattr(said, channel) for channel in CHANNELS}
        self._explicit = {channel: frozenset(symbols) for channel, symbols in lists.items() if STAR in symbols}
        for keys in self._keys.values():
            keys.clear()
        return AckList(
            frozenset(StreamKey(VENUE, channel, name) for channel, names in lists.items() for name in names)
        )

    def _key(self, channel: str, symbol: str) -> StreamKey:
        explicit = self._explicit.get(channel)
        key = StreamKey(VENUE, channel, symbol if explicit is None or symbol in explicit else STAR)
        if not symbol:
            raise _NoValueError("no symbol")
        keys = self._keys[channel]
        if len(keys) >= _MOST_KEYS:
            keys.clear()
        keys[symbol] = key
        return key

    # -- messages --------------------------------------------------------------------------------------------------

    def _trade(self, item: wire.TradeMessage | wire.HistoricalTrade, received_ms: int, symbol: str = "") -> Trade:
        ns = time_ns(item.t)
        ms = ns // NS_PER_MS
        exchange, texts = item.x, self._texts
        return Trade(
            VENUE,
            symbol or item.S,  # type: ignore[union-attr]
            self._trade_id(ms, exchange, item.i),
            texts.get(item.p) or self._text(item.p),
            texts.get(item.s) or self._text(item.s),
            None,
            ms,
            received_ms,
            exchange=exchange,
            conditions=item.c,
            exchange_name=EXCHANGES.get(exchange),
            tape=item.z,
            ts_ns=ns,
        )

    def _text(self, value: float) -> str:
        """`decimal`, remembered: prices and sizes come again and again."""
        text = decimal(value)
        if len(self._texts) >= _MOST_KEYS:
            self._texts.clear()
        self._texts[value] = text
        return text

    def _correction(self, item: wire.CorrectionMessage, received_ms: int) -> TradeCorrected:
        ns = time_ns(item.t)
        ms = ns // NS_PER_MS
        trade = Trade(
            VENUE,
            item.S,
            self._trade_id(ms, item.x, item.ci),
            decimal(item.cp),
            decimal(item.cs),
            None,
            ms,
            received_ms,
            exchange=item.x,
            conditions=item.cc,
            exchange_name=EXCHANGES.get(item.x),
            tape=item.z,
            ts_ns=ns,
        )
        return TradeCorrected(
            VENUE,
            item.S,
            self._trade_id(ms, item.x, item.oi),
            decimal(item.op),
            decimal(item.os),
            trade,
            ms,
            received_ms,
            original_conditions=item.oc,
            ts_ns=ns,
        )

    def _cancel(self, item: wire.CancelMessage, received_ms: int) -> TradeCancelled:
        ns = time_ns(item.t)
        ms = ns // NS_PER_MS
        return TradeCancelled(
            VENUE,
            item.S,
            self._trade_id(ms, item.x, item.i),
            decimal(item.p),
            decimal(item.s),
            ms,
            received_ms,
            action=item.a,
            exchange=item.x,
            exchange_name=EXCHANGES.get(item.x),
            tape=item.z,
            ts_ns=ns,
        )

    def _trade_id(self, time_ms: int, exchange: str, number: int) -> str:
        hour = time_ms // 3_600_000
        if hour != self._hour:
            self._hour = hour
            self._ids.clear()
        begin = self._ids.get(exchange)
        if begin is None:
            begin = self._ids[exchange] = f"{new_york_date(time_ms).isoformat()}-{exchange}-"
        return f"{begin}{number}"


class _NoValueError(ValueError):
    """A number that cannot be a price or size."""


def decimal(value: float) -> str:
    """A double in the fewest digits that mean it, without an exponent; whole numbers without a point.

    Raises:
        ValueError: it is negative or no number.
    """
    if type(value) is int and value >= 0:
        return str(value)
    if _LEAST_PLAIN <= value < _MOST_PLAIN:
        text = repr(value)
        return text[:-2] if text[-2:] == ".0" else text
    if not (value >= 0 and math.isfinite(value)):
        raise _NoValueError(f"{value!r} is no price or size")
    return format(Decimal(repr(value)), "f") if value else "0"


def _quote(item: wire.QuoteMessage, received_ms: int) -> Quote:
    ns = time_ns(item.t)
    return Quote(
        VENUE,
        item.S,
        decimal(item.bp),
        decimal(item.bs),
        decimal(item.ap),
        decimal(item.as_),
        ns // NS_PER_MS,
        received_ms,
        bid_exchange=(item.bx or "").strip() or None,
        ask_exchange=(item.ax or "").strip() or None,
        conditions=item.c,
        tape=item.z,
        ts_ns=ns,
        size_unit="round_lots" if ns < SHARES_SINCE_NS else None,
    )


def _bar(item: Any, received_ms: int, interval: str, *, updated: bool = False) -> Bar:
    return Bar(
        VENUE,
        item.S,
        interval,
        decimal(item.o),
        decimal(item.h),
        decimal(item.l),
        decimal(item.c),
        decimal(item.v),
        time_ns(item.t) // NS_PER_MS,
        received_ms,
        vwap=None if item.vw is None else decimal(item.vw),
        count=item.n,
        updated=updated,
    )


def _status(item: wire.StatusMessage, received_ms: int) -> TradingStatus:
    ns = time_ns(item.t)
    return TradingStatus(
        VENUE,
        item.S,
        item.sc,
        item.sm,
        ns // NS_PER_MS,
        received_ms,
        reason=item.rc or None,
        reason_text=item.rm or None,
        tape=item.z,
        ts_ns=ns,
    )


def _explain(raw: msgspec.Raw, error: Exception, probe: Any) -> Decoded:
    """An element that is not one of ours: of a type that is not kept, of an unknown one, or broken."""
    try:
        kind = probe.decode(raw).T
    except (msgspec.DecodeError, RecursionError):
        kind = None
    if kind in _NOT_KEPT:
        return Ignored(_NOT_KEPT[kind])
    if kind is not None and kind not in _KNOWN:
        return Ignored("unknown_type")
    return Unusable("unexpected_shape", str(error)[:_SHOWN], bytes(raw)[:_SAMPLE_BYTES])


def _unusable(reason: str, error: Exception, item: Any) -> Unusable:
    return Unusable(reason, str(error)[:_SHOWN], repr(item).encode("utf-8", "backslashreplace")[:_SAMPLE_BYTES])


_KNOWN = frozenset({"t", "q", "b", "u", "d", "s", "c", "x", "success", "error", "subscription"})
_RAW_JSON = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_MSGPACK = msgspec.msgpack.Decoder(list[msgspec.Raw])
_ITEM_JSON = msgspec.json.Decoder(wire.Item)
_ITEM_MSGPACK = msgspec.msgpack.Decoder(wire.Item)
_PROBE_JSON = msgspec.json.Decoder(wire.Probe)
_PROBE_MSGPACK = msgspec.msgpack.Decoder(wire.Probe)
