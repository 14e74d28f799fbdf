from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Board(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOARD_UNKNOWN: _ClassVar[Board]
    RG: _ClassVar[Board]
    TN: _ClassVar[Board]
    NG: _ClassVar[Board]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNKNOWN: _ClassVar[Source]
    ITCH: _ClassVar[Source]
    IMQ: _ClassVar[Source]
    CRYPTO: _ClassVar[Source]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNKNOWN: _ClassVar[Action]
    BUY: _ClassVar[Action]
    SELL: _ClassVar[Action]
BOARD_UNKNOWN: Board
RG: Board
TN: Board
NG: Board
SOURCE_UNKNOWN: Source
ITCH: Source
IMQ: Source
CRYPTO: Source
ACTION_UNKNOWN: Action
BUY: Action
SELL: Action

class Request(_message.Message):
    __slots__ = ("user_id", "channel", "key", "ping", "access_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    channel: Channel
    key: str
    ping: Ping
    access_token: str
    def __init__(self, user_id: _Optional[str] = ..., channel: _Optional[_Union[Channel, _Mapping]] = ..., key: _Optional[str] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., access_token: _Optional[str] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("watchlist", "order_book", "running_trade", "is_hotlist", "running_trade_batch", "liveprice", "iepiev", "intraday", "best_bid_offer")
    WATCHLIST_FIELD_NUMBER: _ClassVar[int]
    ORDER_BOOK_FIELD_NUMBER: _ClassVar[int]
    RUNNING_TRADE_FIELD_NUMBER: _ClassVar[int]
    IS_HOTLIST_FIELD_NUMBER: _ClassVar[int]
    RUNNING_TRADE_BATCH_FIELD_NUMBER: _ClassVar[int]
    LIVEPRICE_FIELD_NUMBER: _ClassVar[int]
    IEPIEV_FIELD_NUMBER: _ClassVar[int]
    INTRADAY_FIELD_NUMBER: _ClassVar[int]
    BEST_BID_OFFER_FIELD_NUMBER: _ClassVar[int]
    watchlist: _containers.RepeatedScalarFieldContainer[str]
    order_book: _containers.RepeatedScalarFieldContainer[str]
    running_trade: _containers.RepeatedScalarFieldContainer[str]
    is_hotlist: bool
    running_trade_batch: _containers.RepeatedScalarFieldContainer[str]
    liveprice: _containers.RepeatedScalarFieldContainer[str]
    iepiev: _containers.RepeatedScalarFieldContainer[str]
    intraday: _containers.RepeatedScalarFieldContainer[str]
    best_bid_offer: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, watchlist: _Optional[_Iterable[str]] = ..., order_book: _Optional[_Iterable[str]] = ..., running_trade: _Optional[_Iterable[str]] = ..., is_hotlist: _Optional[bool] = ..., running_trade_batch: _Optional[_Iterable[str]] = ..., liveprice: _Optional[_Iterable[str]] = ..., iepiev: _Optional[_Iterable[str]] = ..., intraday: _Optional[_Iterable[str]] = ..., best_bid_offer: _Optional[_Iterable[str]] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("running_trade", "ping", "top20", "watchlist", "orderbook_header", "orderbook_body", "error", "running_trade_batch", "liveprice", "orderbook", "iepiev", "intraday", "best_bid_offer", "market_mover_batch", "order_queue", "liveprice_v3", "orderbook_v3", "intraday_v3", "tradebook")
    RUNNING_TRADE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    TOP20_FIELD_NUMBER: _ClassVar[int]
    WATCHLIST_FIELD_NUMBER: _ClassVar[int]
    ORDERBOOK_HEADER_FIELD_NUMBER: _ClassVar[int]
    ORDERBOOK_BODY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RUNNING_TRADE_BATCH_FIELD_NUMBER: _ClassVar[int]
    LIVEPRICE_FIELD_NUMBER: _ClassVar[int]
    ORDERBOOK_FIELD_NUMBER: _ClassVar[int]
    IEPIEV_FIELD_NUMBER: _ClassVar[int]
    INTRADAY_FIELD_NUMBER: _ClassVar[int]
    BEST_BID_OFFER_FIELD_NUMBER: _ClassVar[int]
    MARKET_MOVER_BATCH_FIELD_NUMBER: _ClassVar[int]
    ORDER_QUEUE_FIELD_NUMBER: _ClassVar[int]
    LIVEPRICE_V3_FIELD_NUMBER: _ClassVar[int]
    ORDERBOOK_V3_FIELD_NUMBER: _ClassVar[int]
    INTRADAY_V3_FIELD_NUMBER: _ClassVar[int]
    TRADEBOOK_FIELD_NUMBER: _ClassVar[int]
    running_trade: RunningTrade
    ping: Ping
    top20: bytes
    watchlist: bytes
    orderbook_header: bytes
    orderbook_body: bytes
    error: Error
    running_trade_batch: RunningTradeBatch
    liveprice: LivePrice
    orderbook: Orderbook
    iepiev: bytes
    intraday: bytes
    best_bid_offer: bytes
    market_mover_batch: bytes
    order_queue: bytes
    liveprice_v3: bytes
    orderbook_v3: bytes
    intraday_v3: bytes
    tradebook: bytes
    def __init__(self, running_trade: _Optional[_Union[RunningTrade, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., top20: _Optional[bytes] = ..., watchlist: _Optional[bytes] = ..., orderbook_header: _Optional[bytes] = ..., orderbook_body: _Optional[bytes] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., running_trade_batch: _Optional[_Union[RunningTradeBatch, _Mapping]] = ..., liveprice: _Optional[_Union[LivePrice, _Mapping]] = ..., orderbook: _Optional[_Union[Orderbook, _Mapping]] = ..., iepiev: _Optional[bytes] = ..., intraday: _Optional[bytes] = ..., best_bid_offer: _Optional[bytes] = ..., market_mover_batch: _Optional[bytes] = ..., order_queue: _Optional[bytes] = ..., liveprice_v3: _Optional[bytes] = ..., orderbook_v3: _Optional[bytes] = ..., intraday_v3: _Optional[bytes] = ..., tradebook: _Optional[bytes] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Orderbook(_message.Message):
    __slots__ = ("stock_code", "body", "sequence_number", "order_book_id", "datetime", "source", "switch_reset", "board", "itch_incoming_time")
    STOCK_CODE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    DATETIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SWITCH_RESET_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    ITCH_INCOMING_TIME_FIELD_NUMBER: _ClassVar[int]
    stock_code: str
    body: str
    sequence_number: int
    order_book_id: int
    datetime: str
    source: Source
    switch_reset: SwitchReset
    board: Board
    itch_incoming_time: str
    def __init__(self, stock_code: _Optional[str] = ..., body: _Optional[str] = ..., sequence_number: _Optional[int] = ..., order_book_id: _Optional[int] = ..., datetime: _Optional[str] = ..., source: _Optional[_Union[Source, str]] = ..., switch_reset: _Optional[_Union[SwitchReset, _Mapping]] = ..., board: _Optional[_Union[Board, str]] = ..., itch_incoming_time: _Optional[str] = ...) -> None: ...

class SwitchReset(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Instant(_message.Message):
    __slots__ = ("seconds", "nanos")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

class RunningTrade(_message.Message):
    __slots__ = ("websocket_time", "stock", "price", "volume", "action", "is_global", "time", "trade_number", "market_board", "value")
    WEBSOCKET_TIME_FIELD_NUMBER: _ClassVar[int]
    STOCK_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    IS_GLOBAL_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TRADE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MARKET_BOARD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    websocket_time: Instant
    stock: str
    price: float
    volume: float
    action: Action
    is_global: bool
    time: Instant
    trade_number: int
    market_board: Board
    value: float
    def __init__(self, websocket_time: _Optional[_Union[Instant, _Mapping]] = ..., stock: _Optional[str] = ..., price: _Optional[float] = ..., volume: _Optional[float] = ..., action: _Optional[_Union[Action, str]] = ..., is_global: _Optional[bool] = ..., time: _Optional[_Union[Instant, _Mapping]] = ..., trade_number: _Optional[int] = ..., market_board: _Optional[_Union[Board, str]] = ..., value: _Optional[float] = ...) -> None: ...

class RunningTradeBatch(_message.Message):
    __slots__ = ("trades",)
    TRADES_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[RunningTrade]
    def __init__(self, trades: _Optional[_Iterable[_Union[RunningTrade, _Mapping]]] = ...) -> None: ...

class LivePrice(_message.Message):
    __slots__ = ("stock_code", "lastprice", "volume", "high", "low", "open", "frequency", "average", "date", "close", "prev", "value", "quantity", "sequence_number", "board", "source")
    STOCK_CODE_FIELD_NUMBER: _ClassVar[int]
    LASTPRICE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    PREV_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    stock_code: str
    lastprice: float
    volume: float
    high: float
    low: float
    open: float
    frequency: float
    average: float
    date: str
    close: float
    prev: float
    value: float
    quantity: int
    sequence_number: int
    board: Board
    source: Source
    def __init__(self, stock_code: _Optional[str] = ..., lastprice: _Optional[float] = ..., volume: _Optional[float] = ..., high: _Optional[float] = ..., low: _Optional[float] = ..., open: _Optional[float] = ..., frequency: _Optional[float] = ..., average: _Optional[float] = ..., date: _Optional[str] = ..., close: _Optional[float] = ..., prev: _Optional[float] = ..., value: _Optional[float] = ..., quantity: _Optional[int] = ..., sequence_number: _Optional[int] = ..., board: _Optional[_Union[Board, str]] = ..., source: _Optional[_Union[Source, str]] = ...) -> None: ...
