"""What a simulated gateway answers to each request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from src.models.errors import WireError
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire
from src.venues.futu.codec import Frame
from src.venues.futu.simulator.client import GatewayClient
from src.venues.futu.simulator.market import push_body

if TYPE_CHECKING:
    from src.venues.futu.simulator.server import FutuSimulator

SERVER_VERSION = 1011
USER = 1_000_001
AES_KEY = "0123456789ABCDEF"
FAILED = -1
_MORNING = 3


class Answers:
    """Answers frames of clients; pure but for what it tells the simulator to remember and send."""

    def __init__(self, gateway: FutuSimulator) -> None:
        self._gateway = gateway

    def answer(self, client: GatewayClient, frame: Frame) -> None:
        """Answer one request; unknown ones are refused."""
        known = {
            wire.INIT_CONNECT: self._init,
            wire.GLOBAL_STATE: self._state,
            wire.KEEP_ALIVE: self._keep_alive,
            wire.SUB: self._sub,
            wire.SUB_INFO: self._sub_info,
            wire.ORDER_BOOK: self._order_book,
        }.get(frame.protocol)
        try:
            said = _refusal(f"unknown protocol {frame.protocol}") if known is None else known(client, frame)
        except WireError as error:
            said = _refusal(f"malformed request: {error}")
        if said is not None:
            client.send(frame.protocol, frame.serial, said)
        if frame.protocol == wire.SUB and isinstance(said, pb.Sub.Response):
            self._after_sub(client, frame)

    def _init(self, client: GatewayClient, frame: Frame) -> Message:
        wire.read(pb.InitConnect.Request, frame)
        if self._gateway.faults.refuse_login:
            return _refusal(self._gateway.faults.refuse_login)
        client.logged_in = True
        s2c = pb.InitConnect.S2C(
            serverVer=SERVER_VERSION,
            loginUserID=USER,
            connID=client.number,
            connAESKey=AES_KEY,
            keepAliveInterval=self._gateway.config.keep_alive_s,
        )
        return pb.InitConnect.Response(retType=wire.RET_OK, retMsg="", s2c=s2c)

    def _state(self, _: GatewayClient, frame: Frame) -> Message:
        wire.read(pb.GetGlobalState.Request, frame)
        gateway = self._gateway
        s2c = pb.GetGlobalState.S2C(
            marketHK=_MORNING,
            marketUS=_MORNING,
            marketSH=_MORNING,
            marketSZ=_MORNING,
            marketHKFuture=_MORNING,
            qotLogined=not gateway.faults.logged_out,
            trdLogined=False,
            serverVer=SERVER_VERSION,
            serverBuildNo=1,
            time=gateway.clock.wall_ms() // 1000,
        )
        return pb.GetGlobalState.Response(retType=wire.RET_OK, retMsg="", s2c=s2c)

    def _keep_alive(self, _: GatewayClient, frame: Frame) -> Message | None:
        wire.read(pb.KeepAlive.Request, frame)
        if self._gateway.faults.no_keep_alive:
            return None
        s2c = pb.KeepAlive.S2C(time=self._gateway.clock.wall_ms() // 1000)
        return pb.KeepAlive.Response(retType=wire.RET_OK, retMsg="", s2c=s2c)

    def _sub(self, client: GatewayClient, frame: Frame) -> Message:
        c2s = wire.read(pb.Sub.Request, frame).c2s
        gateway, now = self._gateway, self._gateway.clock.monotonic()
        symbols = [wire.symbol_of(security) for security in c2s.securityList]
        if c2s.isUnsubAll:
            symbols = gateway.subscriptions.of(client.number)
        elif not symbols or list(c2s.subTypeList) != [wire.TYPE_ORDER_BOOK]:
            return _refusal("only order books are simulated")
        if not c2s.isSubOrUnSub:
            why = gateway.subscriptions.unsubscribe(client.number, symbols, now)
            return _refusal(why) if why else _done()
        refused = next((words for symbol in symbols if (words := gateway.faults.refused.get(symbol))), "")
        pushes = c2s.isRegOrUnRegPush
        why = refused or gateway.subscriptions.subscribe(client.number, symbols, now, pushes=pushes)
        return _refusal(why) if why else _done()

    def _after_sub(self, client: GatewayClient, frame: Frame) -> None:
        """After an accepted subscription: the first push, and a fault that forgets it."""
        c2s = wire.read(pb.Sub.Request, frame).c2s
        if not c2s.isSubOrUnSub:
            return
        symbols = [wire.symbol_of(security) for security in c2s.securityList]
        for symbol in symbols:
            if symbol in self._gateway.faults.forgetful:
                self._gateway.subscriptions.drop(client.number, symbol)
        first = not c2s.HasField("isFirstPush") or c2s.isFirstPush
        if first and c2s.isRegOrUnRegPush:
            self._gateway.first_push(client, symbols)

    def _sub_info(self, client: GatewayClient, frame: Frame) -> Message:
        asked = wire.read(pb.GetSubInfo.Request, frame).c2s
        gateway, now = self._gateway, self._gateway.clock.monotonic()
        numbers: Iterable[int] = gateway.clients if asked.isReqAllConn else (client.number,)
        s2c = pb.GetSubInfo.S2C(
            totalUsedQuota=gateway.subscriptions.used(now),
            remainQuota=gateway.subscriptions.left(now),
            connSubInfoList=[self._connection(number, own=number == client.number) for number in numbers],
        )
        return pb.GetSubInfo.Response(retType=wire.RET_OK, retMsg="", s2c=s2c)

    def _connection(self, number: int, *, own: bool) -> pb.GetSubInfo.ConnSubInfo:
        symbols = self._gateway.subscriptions.of(number)
        books = pb.GetSubInfo.SubInfo(
            subType=wire.TYPE_ORDER_BOOK, securityList=[wire.security(symbol) for symbol in symbols]
        )
        return pb.GetSubInfo.ConnSubInfo(subInfoList=[books], usedQuota=len(symbols), isOwnConnData=own)

    def _order_book(self, client: GatewayClient, frame: Frame) -> Message:
        c2s = wire.read(pb.OrderBook.Request, frame).c2s
        symbol = wire.symbol_of(c2s.security)
        if symbol not in self._gateway.subscriptions.of(client.number):
            return _refusal("subscribe first")
        body = push_body(self._gateway.market.books[symbol], times=self._gateway.config.server_times)
        del body.s2c.orderBookBidList[c2s.num :]
        del body.s2c.orderBookAskList[c2s.num :]
        return body


def _refusal(text: str) -> Message:
    return pb.Verdict(retType=FAILED, retMsg=text, errCode=0)


def _done() -> pb.Sub.Response:
    return pb.Sub.Response(retType=wire.RET_OK, retMsg="", s2c=pb.Sub.S2C())
