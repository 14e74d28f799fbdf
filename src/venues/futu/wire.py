"""Messages of the gateway: protocol ids, requests as bodies, bodies as messages. Pure.

Bodies are protobuf; a JSON body of the same fields is read too (the format byte says which).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from src.models.errors import WireError
from src.models.market_symbols import MARKETS, split
from src.venues.futu import futu_pb2 as pb
from src.venues.futu.codec import FORMAT_JSON, FORMAT_PROTOBUF, Frame

INIT_CONNECT = 1001
GLOBAL_STATE = 1002
NOTIFY = 1003
KEEP_ALIVE = 1004
SUB = 3001
SUB_INFO = 3003
ORDER_BOOK = 3012
ORDER_BOOK_PUSH = 3013

TYPE_ORDER_BOOK = 2
"""``SubType`` of order books."""

WHOLE_LOTS = 0
"""``orderBookType`` of the usual book; the other one holds odd lots."""

RET_OK = 0
CLIENT_VERSION = 300
CLIENT_ID = "PyNormal"
LANGUAGE = "Python"
NO_ENCRYPTION = -1

NOTIFY_EVENT = 1
NOTIFY_CONNECTION = 3
NOTIFY_QUOTA = 6

_JSON_DEPTH = 8
_PREFIXES = {number: prefix for prefix, number in MARKETS.items()}

M = TypeVar("M", bound=Message)


class Verdict(NamedTuple):
    """The head of every answer: ``code`` 0 is success, else ``text`` says why not."""

    code: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return self.code == RET_OK


def init_connect(serial: int) -> Frame:
    """The first frame: who we are, that we take notices, and that bodies are plain protobuf."""
    c2s = pb.InitConnect.C2S(
        clientVer=CLIENT_VERSION,
        clientID=CLIENT_ID,
        recvNotify=True,
        packetEncAlgo=NO_ENCRYPTION,
        pushProtoFmt=FORMAT_PROTOBUF,
        programmingLanguage=LANGUAGE,
    )
    return _request(INIT_CONNECT, serial, pb.InitConnect.Request(c2s=c2s))


def global_state(serial: int) -> Frame:
    """Ask how the gateway itself is; the user number is no longer looked at."""
    return _request(GLOBAL_STATE, serial, pb.GetGlobalState.Request(c2s=pb.GetGlobalState.C2S(userID=0)))


def keep_alive(serial: int, time_s: int) -> Frame:
    """The heartbeat."""
    return _request(KEEP_ALIVE, serial, pb.KeepAlive.Request(c2s=pb.KeepAlive.C2S(time=time_s)))


def subscribe(serial: int, symbols: Iterable[str]) -> Frame:
    """Order books of these with pushes, beginning with the one the gateway has."""
    c2s = pb.Sub.C2S(
        securityList=[security(symbol) for symbol in symbols],
        subTypeList=[TYPE_ORDER_BOOK],
        isSubOrUnSub=True,
        isRegOrUnRegPush=True,
        isFirstPush=True,
    )
    return _request(SUB, serial, pb.Sub.Request(c2s=c2s))


def unsubscribe(serial: int, symbols: Iterable[str]) -> Frame:
    """No longer order books of these."""
    c2s = pb.Sub.C2S(
        securityList=[security(symbol) for symbol in symbols], subTypeList=[TYPE_ORDER_BOOK], isSubOrUnSub=False
    )
    return _request(SUB, serial, pb.Sub.Request(c2s=c2s))


def sub_info(serial: int) -> Frame:
    """What this and the gateway's other connections have subscribed, and what is left of the quota."""
    return _request(SUB_INFO, serial, pb.GetSubInfo.Request(c2s=pb.GetSubInfo.C2S(isReqAllConn=True)))


def order_book(serial: int, symbol: str, levels: int) -> Frame:
    """The book as the gateway has it now; needs the subscription, costs no quota."""
    c2s = pb.OrderBook.C2S(security=security(symbol), num=levels)
    return _request(ORDER_BOOK, serial, pb.OrderBook.Request(c2s=c2s))


def security(symbol: str) -> pb.Security:
    """``HK.00700`` as the gateway names it."""
    market, code = split(symbol)
    return pb.Security(market=MARKETS[market], code=code)


def symbol_of(named: pb.Security) -> str:
    """The reverse of `security`, in the gateway's own spelling.

    Raises:
        WireError: ``unknown_market``, or no code.
    """
    prefix = _PREFIXES.get(named.market)
    if prefix is None or not named.code:
        raise WireError("unknown_market", f"market {named.market}, code {named.code[:40]!r}")
    return f"{prefix}.{named.code}"


def verdict(frame: Frame) -> Verdict:
    """Whether a request was carried out; a failure may lack everything else.

    Raises:
        WireError: as `read`.
    """
    head = read(pb.Verdict, frame)
    return Verdict(head.retType, head.retMsg)


def read(kind: type[M], frame: Frame) -> M:
    """The body of ``frame`` as a message; unknown fields are skipped.

    Raises:
        WireError: ``malformed_body``, ``unknown_format``.
    """
    message = kind()
    try:
        if frame.format == FORMAT_PROTOBUF:
            message.ParseFromString(frame.body)
        elif frame.format == FORMAT_JSON:
            json_format.Parse(frame.body, message, ignore_unknown_fields=True, max_recursion_depth=_JSON_DEPTH)
        else:
            raise WireError("unknown_format", str(frame.format))
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("malformed_body", f"protocol {frame.protocol}: {error}"[:200]) from error
    if not message.IsInitialized():
        raise WireError("malformed_body", f"protocol {frame.protocol}: required fields are missing")
    return message


def _request(protocol: int, serial: int, message: Message) -> Frame:
    return Frame(protocol, serial, message.SerializeToString())
