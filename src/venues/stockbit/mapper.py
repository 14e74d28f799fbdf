"""What a frame of the venue means, in the program's own words.

Prices and shares stay as the venue wrote them; times are milliseconds since 1970. See README.md for where the meaning
of each field comes from.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

from src.models.errors import WireError
from src.models.messages import (
    Bar,
    Data,
    Decoded,
    Ignored,
    LoginRefused,
    Pong,
    Refusal,
    RefusalKind,
    Several,
    Told,
    Trade,
)
from src.models.streams import StreamKey
from src.venues.stockbit.body import BAD_BODY
from src.venues.stockbit.books import VENUE, Books, Odd, symbol_of
from src.venues.stockbit.stockbit_pb2 import (
    BUY,
    SELL,
    Board,
    Error,
    Frame,
    LivePrice,
    Orderbook,
    RunningTrade,
)
from src.venues.stockbit.times import NS_PER_MS, day_start_ms, exchange_day, parse_time_ns, to_text
from src.venues.stockbit.wire import Codec, NestedCodec

ORDER_BOOK: Final = "order_book"
RUNNING_TRADE: Final = "running_trade"
LIVE_PRICE: Final = "liveprice"
CHANNELS = (ORDER_BOOK, RUNNING_TRADE, LIVE_PRICE)

TEXT_FRAME = "text_frame"
EMPTY_FRAME = "empty_frame"
BAD_TICKER = "bad_ticker"
BAD_TRADE = "bad_trade"
BAD_LIVE_PRICE = "bad_live_price"

NEEDS_LOGIN = "login_refused"
_UNAUTHORIZED = 401
_NOT_AUTHORIZED = re.compile(r"un-?authori[sz]ed|not authori[sz]ed", re.IGNORECASE)
_TICKER = re.compile(r"[A-Z0-9][A-Z0-9.\-]{0,23}", re.ASCII)
_SHOWN_CHARS = 120

_BOARDS = {0: "RG", **{number: name for name, number in Board.items() if number}}


class StockbitMapper:
    """Turns frames into messages; keeps the books of one connection together, nothing else."""

    def __init__(self, codec: Codec | None = None, odd: Odd | None = None) -> None:
        self._codec: Codec = codec or NestedCodec()
        self._odd: Odd = odd or _ignore
        self.books = Books(self._odd)

    def opened(self) -> None:
        """A new connection begins; the sides it will show have nothing to do with those of before."""
        self.books.forget_sides()

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """Say what a frame means.

        Raises:
            WireError: it is not what the venue promises.
        """
        if isinstance(frame, str):
            raise WireError(TEXT_FRAME, frame[:_SHOWN_CHARS])
        if not frame:
            raise WireError(EMPTY_FRAME)
        decoded = self._decode(self._codec.read_frame(frame), len(frame), received_ms)
        overdue = self.books.overdue(received_ms)
        if not overdue:
            return decoded
        late = (Data(_key(ORDER_BOOK, ticker), book.time_ms, (book,), 0, received_ms) for ticker, book in overdue)
        return Several((decoded, *late))

    def _decode(self, frame: Frame, size_bytes: int, received_ms: int) -> Decoded:
        channel = frame.WhichOneof("channel")
        if channel == "orderbook":
            return self._book(frame.orderbook, size_bytes, received_ms)
        if channel == "running_trade":
            return self._trades([frame.running_trade], size_bytes, received_ms)
        if channel == "running_trade_batch":
            return self._trades(list(frame.running_trade_batch.trades), size_bytes, received_ms)
        if channel == "liveprice":
            return _live_price(frame.liveprice, size_bytes, received_ms)
        return _other(frame, channel)

    def _book(self, message: Orderbook, size_bytes: int, received_ms: int) -> Decoded:
        board = _board(message.board)
        ticker = message.stock_code
        state = None
        if message.HasField("switch_reset"):
            self._odd("switch_reset", 1)
            state = self.books.state(_checked(ticker), board)
            self.books.reset(state)
            if not message.body:
                return Data(_key(ORDER_BOOK, ticker), None, (), size_bytes, received_ms)
        if state is None and ticker:
            state = self.books.state(_checked(ticker), board)
        known = None if state is None else {"BID": state.bid.levels, "OFFER": state.offer.levels}
        body = self._codec.read_body(message.body, known)  # type: ignore[arg-type] # a dict display is not narrowed
        if body.skipped:
            self._odd("level_skipped", body.skipped)
        if state is None:
            ticker = body.ticker
            state = self.books.state(_checked(ticker), board)
        elif body.ticker not in ("", ticker):
            raise WireError(BAD_BODY, f"a body of {body.ticker[:_SHOWN_CHARS]!r} in a message of {ticker!r}")
        told = _told(message, received_ms)
        book = self.books.take(state, body, told)
        return Data(_key(ORDER_BOOK, ticker), told.time_ms, () if book is None else (book,), size_bytes, received_ms)

    def _trades(self, rows: list[RunningTrade], size_bytes: int, received_ms: int) -> Decoded:
        """A batch may hold trades of several shares; one bad trade does not take the others down."""
        by_ticker: dict[str, list[Trade]] = {}
        first_error: WireError | None = None
        for row in rows:
            try:
                trade = _trade(row, received_ms)
                by_ticker.setdefault(row.stock, []).append(trade)
            except WireError as error:
                first_error = first_error or error
        parts = tuple(
            Data(_key(RUNNING_TRADE, ticker), max(t.time_ms for t in trades), tuple(trades), size_bytes, received_ms)
            for ticker, trades in by_ticker.items()
        )
        if parts:
            if first_error is not None:
                self._odd(BAD_TRADE, len(rows) - sum(len(trades) for trades in by_ticker.values()))
            return parts[0] if len(parts) == 1 else Several(parts)
        if first_error is not None:
            raise first_error
        return Ignored("empty_batch")


def _key(channel: str, ticker: str) -> StreamKey:
    return StreamKey(VENUE, channel, ticker)


def is_ticker(text: str) -> bool:
    """Whether this can be a ticker: it becomes part of names of files and documents, so characters are harmless."""
    return _TICKER.fullmatch(text) is not None


def _checked(ticker: str) -> str:
    if not is_ticker(ticker):
        raise WireError(BAD_TICKER, ticker[:_SHOWN_CHARS])
    return ticker


def _board(number: int) -> str:
    """An absent board is the regular one; one that this program does not know is kept apart under its number."""
    return _BOARDS.get(number) or f"B{number}"


def _told(message: Orderbook, received_ms: int) -> Told:
    """Event time, else the exchange feed's time, else our own; see README.md, "Times"."""
    for text in (message.datetime, message.itch_incoming_time):
        time_ns = parse_time_ns(text, received_ms) if text else None
        if time_ns is not None:
            return Told(time_ns // NS_PER_MS, text, received_ms, message.sequence_number or None)
    text = to_text(received_ms * NS_PER_MS)
    return Told(received_ms, text, received_ms, message.sequence_number or None)


def _trade(row: RunningTrade, received_ms: int) -> Trade:
    ticker = _checked(row.stock)
    if not (isfinite(row.price) and row.price > 0 and isfinite(row.volume) and row.volume > 0):
        raise WireError(BAD_TRADE, f"{ticker}: price {row.price}, volume {row.volume}")
    time_ms = received_ms
    for name in ("time", "websocket_time"):
        if row.HasField(name):
            instant = getattr(row, name)
            time_ms = instant.seconds * 1000 + instant.nanos // NS_PER_MS
            break
    if not 0 < time_ms < 1 << 52:
        raise WireError(BAD_TRADE, f"{ticker}: time {time_ms}")
    board = _board(row.market_board)
    number = str(row.trade_number) if row.trade_number else f"{time_ms}-{row.price:g}-{row.volume:g}"
    return Trade(
        venue=VENUE,
        symbol=symbol_of(ticker, board),
        # Trade numbers begin anew each day.
        trade_id=f"{exchange_day(time_ms)}-{number}",
        price=_decimal(row.price),
        size=_decimal(row.volume),
        side={BUY: "B", SELL: "A"}.get(row.action),
        time_ms=time_ms,
        received_ms=received_ms,
        board=board,
    )


def _other(frame: Frame, channel: str | None) -> Decoded:
    if channel == "ping":
        return Pong()
    if channel == "error":
        return _refusal(frame.error)
    return Ignored(channel or "unknown_channel")


def _live_price(row: LivePrice, size_bytes: int, received_ms: int) -> Decoded:
    """The figures of the day so far, as the candle of that day; nothing before the first trade."""
    ticker = _checked(row.stock_code)
    figures = (row.open, row.high, row.low, row.lastprice, row.volume, row.frequency)
    if not all(isfinite(figure) and figure >= 0 for figure in figures):
        raise WireError(BAD_LIVE_PRICE, f"{ticker}: {figures}")
    key = _key(LIVE_PRICE, ticker)
    if not all(figures[:4]):
        return Data(key, None, (), size_bytes, received_ms)
    time_ns = parse_time_ns(row.date, received_ms) if row.date else None
    time_ms = received_ms if time_ns is None else time_ns // NS_PER_MS
    bar = Bar(
        venue=VENUE,
        symbol=symbol_of(ticker, _board(row.board)),
        interval="1d",
        open=_decimal(row.open),
        high=_decimal(row.high),
        low=_decimal(row.low),
        close=_decimal(row.lastprice),
        volume=_decimal(row.volume),
        time_ms=day_start_ms(time_ms),
        received_ms=received_ms,
        vwap=_decimal(row.average) if isfinite(row.average) and row.average > 0 else None,
        count=int(row.frequency),
    )
    return Data(key, None, (bar,), size_bytes, received_ms)


def _refusal(error: Error) -> Decoded:
    text = f"{error.code}: {error.message[:_SHOWN_CHARS]}" if error.code else error.message[:_SHOWN_CHARS]
    if error.code == _UNAUTHORIZED or _NOT_AUTHORIZED.search(error.message):
        return LoginRefused("retry", text, reason=NEEDS_LOGIN)
    return Refusal(RefusalKind.OTHER, text)


def _decimal(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _ignore(reason: str, count: int) -> None:
    del reason, count
