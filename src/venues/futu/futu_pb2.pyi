from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Security(_message.Message):
    __slots__ = ("market", "code")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    market: int
    code: str
    def __init__(self, market: _Optional[int] = ..., code: _Optional[str] = ...) -> None: ...

class InitConnect(_message.Message):
    __slots__ = ()
    class C2S(_message.Message):
        __slots__ = ("clientVer", "clientID", "recvNotify", "packetEncAlgo", "pushProtoFmt", "programmingLanguage")
        CLIENTVER_FIELD_NUMBER: _ClassVar[int]
        CLIENTID_FIELD_NUMBER: _ClassVar[int]
        RECVNOTIFY_FIELD_NUMBER: _ClassVar[int]
        PACKETENCALGO_FIELD_NUMBER: _ClassVar[int]
        PUSHPROTOFMT_FIELD_NUMBER: _ClassVar[int]
        PROGRAMMINGLANGUAGE_FIELD_NUMBER: _ClassVar[int]
        clientVer: int
        clientID: str
        recvNotify: bool
        packetEncAlgo: int
        pushProtoFmt: int
        programmingLanguage: str
        def __init__(self, clientVer: _Optional[int] = ..., clientID: _Optional[str] = ..., recvNotify: _Optional[bool] = ..., packetEncAlgo: _Optional[int] = ..., pushProtoFmt: _Optional[int] = ..., programmingLanguage: _Optional[str] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ("serverVer", "loginUserID", "connID", "connAESKey", "keepAliveInterval", "aesCBCiv")
        SERVERVER_FIELD_NUMBER: _ClassVar[int]
        LOGINUSERID_FIELD_NUMBER: _ClassVar[int]
        CONNID_FIELD_NUMBER: _ClassVar[int]
        CONNAESKEY_FIELD_NUMBER: _ClassVar[int]
        KEEPALIVEINTERVAL_FIELD_NUMBER: _ClassVar[int]
        AESCBCIV_FIELD_NUMBER: _ClassVar[int]
        serverVer: int
        loginUserID: int
        connID: int
        connAESKey: str
        keepAliveInterval: int
        aesCBCiv: str
        def __init__(self, serverVer: _Optional[int] = ..., loginUserID: _Optional[int] = ..., connID: _Optional[int] = ..., connAESKey: _Optional[str] = ..., keepAliveInterval: _Optional[int] = ..., aesCBCiv: _Optional[str] = ...) -> None: ...
    class Request(_message.Message):
        __slots__ = ("c2s",)
        C2S_FIELD_NUMBER: _ClassVar[int]
        c2s: InitConnect.C2S
        def __init__(self, c2s: _Optional[_Union[InitConnect.C2S, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: InitConnect.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[InitConnect.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class GetGlobalState(_message.Message):
    __slots__ = ()
    class C2S(_message.Message):
        __slots__ = ("userID",)
        USERID_FIELD_NUMBER: _ClassVar[int]
        userID: int
        def __init__(self, userID: _Optional[int] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ("marketHK", "marketUS", "marketSH", "marketSZ", "marketHKFuture", "qotLogined", "trdLogined", "serverVer", "serverBuildNo", "time", "localTime", "connID")
        MARKETHK_FIELD_NUMBER: _ClassVar[int]
        MARKETUS_FIELD_NUMBER: _ClassVar[int]
        MARKETSH_FIELD_NUMBER: _ClassVar[int]
        MARKETSZ_FIELD_NUMBER: _ClassVar[int]
        MARKETHKFUTURE_FIELD_NUMBER: _ClassVar[int]
        QOTLOGINED_FIELD_NUMBER: _ClassVar[int]
        TRDLOGINED_FIELD_NUMBER: _ClassVar[int]
        SERVERVER_FIELD_NUMBER: _ClassVar[int]
        SERVERBUILDNO_FIELD_NUMBER: _ClassVar[int]
        TIME_FIELD_NUMBER: _ClassVar[int]
        LOCALTIME_FIELD_NUMBER: _ClassVar[int]
        CONNID_FIELD_NUMBER: _ClassVar[int]
        marketHK: int
        marketUS: int
        marketSH: int
        marketSZ: int
        marketHKFuture: int
        qotLogined: bool
        trdLogined: bool
        serverVer: int
        serverBuildNo: int
        time: int
        localTime: float
        connID: int
        def __init__(self, marketHK: _Optional[int] = ..., marketUS: _Optional[int] = ..., marketSH: _Optional[int] = ..., marketSZ: _Optional[int] = ..., marketHKFuture: _Optional[int] = ..., qotLogined: _Optional[bool] = ..., trdLogined: _Optional[bool] = ..., serverVer: _Optional[int] = ..., serverBuildNo: _Optional[int] = ..., time: _Optional[int] = ..., localTime: _Optional[float] = ..., connID: _Optional[int] = ...) -> None: ...
    class Request(_message.Message):
        __slots__ = ("c2s",)
        C2S_FIELD_NUMBER: _ClassVar[int]
        c2s: GetGlobalState.C2S
        def __init__(self, c2s: _Optional[_Union[GetGlobalState.C2S, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: GetGlobalState.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[GetGlobalState.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class Notify(_message.Message):
    __slots__ = ()
    class GatewayEvent(_message.Message):
        __slots__ = ("eventType", "desc")
        EVENTTYPE_FIELD_NUMBER: _ClassVar[int]
        DESC_FIELD_NUMBER: _ClassVar[int]
        eventType: int
        desc: str
        def __init__(self, eventType: _Optional[int] = ..., desc: _Optional[str] = ...) -> None: ...
    class ConnectStatus(_message.Message):
        __slots__ = ("qotLogined", "trdLogined")
        QOTLOGINED_FIELD_NUMBER: _ClassVar[int]
        TRDLOGINED_FIELD_NUMBER: _ClassVar[int]
        qotLogined: bool
        trdLogined: bool
        def __init__(self, qotLogined: _Optional[bool] = ..., trdLogined: _Optional[bool] = ...) -> None: ...
    class APIQuota(_message.Message):
        __slots__ = ("subQuota", "historyKLQuota")
        SUBQUOTA_FIELD_NUMBER: _ClassVar[int]
        HISTORYKLQUOTA_FIELD_NUMBER: _ClassVar[int]
        subQuota: int
        historyKLQuota: int
        def __init__(self, subQuota: _Optional[int] = ..., historyKLQuota: _Optional[int] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ("type", "event", "connectStatus", "apiQuota")
        TYPE_FIELD_NUMBER: _ClassVar[int]
        EVENT_FIELD_NUMBER: _ClassVar[int]
        CONNECTSTATUS_FIELD_NUMBER: _ClassVar[int]
        APIQUOTA_FIELD_NUMBER: _ClassVar[int]
        type: int
        event: Notify.GatewayEvent
        connectStatus: Notify.ConnectStatus
        apiQuota: Notify.APIQuota
        def __init__(self, type: _Optional[int] = ..., event: _Optional[_Union[Notify.GatewayEvent, _Mapping]] = ..., connectStatus: _Optional[_Union[Notify.ConnectStatus, _Mapping]] = ..., apiQuota: _Optional[_Union[Notify.APIQuota, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: Notify.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[Notify.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class KeepAlive(_message.Message):
    __slots__ = ()
    class C2S(_message.Message):
        __slots__ = ("time",)
        TIME_FIELD_NUMBER: _ClassVar[int]
        time: int
        def __init__(self, time: _Optional[int] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ("time",)
        TIME_FIELD_NUMBER: _ClassVar[int]
        time: int
        def __init__(self, time: _Optional[int] = ...) -> None: ...
    class Request(_message.Message):
        __slots__ = ("c2s",)
        C2S_FIELD_NUMBER: _ClassVar[int]
        c2s: KeepAlive.C2S
        def __init__(self, c2s: _Optional[_Union[KeepAlive.C2S, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: KeepAlive.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[KeepAlive.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class Sub(_message.Message):
    __slots__ = ()
    class C2S(_message.Message):
        __slots__ = ("securityList", "subTypeList", "isSubOrUnSub", "isRegOrUnRegPush", "isFirstPush", "isUnsubAll", "isSubOrderBookDetail")
        SECURITYLIST_FIELD_NUMBER: _ClassVar[int]
        SUBTYPELIST_FIELD_NUMBER: _ClassVar[int]
        ISSUBORUNSUB_FIELD_NUMBER: _ClassVar[int]
        ISREGORUNREGPUSH_FIELD_NUMBER: _ClassVar[int]
        ISFIRSTPUSH_FIELD_NUMBER: _ClassVar[int]
        ISUNSUBALL_FIELD_NUMBER: _ClassVar[int]
        ISSUBORDERBOOKDETAIL_FIELD_NUMBER: _ClassVar[int]
        securityList: _containers.RepeatedCompositeFieldContainer[Security]
        subTypeList: _containers.RepeatedScalarFieldContainer[int]
        isSubOrUnSub: bool
        isRegOrUnRegPush: bool
        isFirstPush: bool
        isUnsubAll: bool
        isSubOrderBookDetail: bool
        def __init__(self, securityList: _Optional[_Iterable[_Union[Security, _Mapping]]] = ..., subTypeList: _Optional[_Iterable[int]] = ..., isSubOrUnSub: _Optional[bool] = ..., isRegOrUnRegPush: _Optional[bool] = ..., isFirstPush: _Optional[bool] = ..., isUnsubAll: _Optional[bool] = ..., isSubOrderBookDetail: _Optional[bool] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Request(_message.Message):
        __slots__ = ("c2s",)
        C2S_FIELD_NUMBER: _ClassVar[int]
        c2s: Sub.C2S
        def __init__(self, c2s: _Optional[_Union[Sub.C2S, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: Sub.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[Sub.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class GetSubInfo(_message.Message):
    __slots__ = ()
    class SubInfo(_message.Message):
        __slots__ = ("subType", "securityList")
        SUBTYPE_FIELD_NUMBER: _ClassVar[int]
        SECURITYLIST_FIELD_NUMBER: _ClassVar[int]
        subType: int
        securityList: _containers.RepeatedCompositeFieldContainer[Security]
        def __init__(self, subType: _Optional[int] = ..., securityList: _Optional[_Iterable[_Union[Security, _Mapping]]] = ...) -> None: ...
    class ConnSubInfo(_message.Message):
        __slots__ = ("subInfoList", "usedQuota", "isOwnConnData")
        SUBINFOLIST_FIELD_NUMBER: _ClassVar[int]
        USEDQUOTA_FIELD_NUMBER: _ClassVar[int]
        ISOWNCONNDATA_FIELD_NUMBER: _ClassVar[int]
        subInfoList: _containers.RepeatedCompositeFieldContainer[GetSubInfo.SubInfo]
        usedQuota: int
        isOwnConnData: bool
        def __init__(self, subInfoList: _Optional[_Iterable[_Union[GetSubInfo.SubInfo, _Mapping]]] = ..., usedQuota: _Optional[int] = ..., isOwnConnData: _Optional[bool] = ...) -> None: ...
    class C2S(_message.Message):
        __slots__ = ("isReqAllConn",)
        ISREQALLCONN_FIELD_NUMBER: _ClassVar[int]
        isReqAllConn: bool
        def __init__(self, isReqAllConn: _Optional[bool] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ("connSubInfoList", "totalUsedQuota", "remainQuota")
        CONNSUBINFOLIST_FIELD_NUMBER: _ClassVar[int]
        TOTALUSEDQUOTA_FIELD_NUMBER: _ClassVar[int]
        REMAINQUOTA_FIELD_NUMBER: _ClassVar[int]
        connSubInfoList: _containers.RepeatedCompositeFieldContainer[GetSubInfo.ConnSubInfo]
        totalUsedQuota: int
        remainQuota: int
        def __init__(self, connSubInfoList: _Optional[_Iterable[_Union[GetSubInfo.ConnSubInfo, _Mapping]]] = ..., totalUsedQuota: _Optional[int] = ..., remainQuota: _Optional[int] = ...) -> None: ...
    class Request(_message.Message):
        __slots__ = ("c2s",)
        C2S_FIELD_NUMBER: _ClassVar[int]
        c2s: GetSubInfo.C2S
        def __init__(self, c2s: _Optional[_Union[GetSubInfo.C2S, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: GetSubInfo.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[GetSubInfo.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class OrderBookDetail(_message.Message):
    __slots__ = ("orderID", "volume")
    ORDERID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    orderID: int
    volume: int
    def __init__(self, orderID: _Optional[int] = ..., volume: _Optional[int] = ...) -> None: ...

class OrderBookLevel(_message.Message):
    __slots__ = ("price", "volume", "orederCount", "detailList", "hpVolume")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    OREDERCOUNT_FIELD_NUMBER: _ClassVar[int]
    DETAILLIST_FIELD_NUMBER: _ClassVar[int]
    HPVOLUME_FIELD_NUMBER: _ClassVar[int]
    price: float
    volume: int
    orederCount: int
    detailList: _containers.RepeatedCompositeFieldContainer[OrderBookDetail]
    hpVolume: float
    def __init__(self, price: _Optional[float] = ..., volume: _Optional[int] = ..., orederCount: _Optional[int] = ..., detailList: _Optional[_Iterable[_Union[OrderBookDetail, _Mapping]]] = ..., hpVolume: _Optional[float] = ...) -> None: ...

class OrderBook(_message.Message):
    __slots__ = ()
    class C2S(_message.Message):
        __slots__ = ("security", "num", "orderBookType")
        SECURITY_FIELD_NUMBER: _ClassVar[int]
        NUM_FIELD_NUMBER: _ClassVar[int]
        ORDERBOOKTYPE_FIELD_NUMBER: _ClassVar[int]
        security: Security
        num: int
        orderBookType: int
        def __init__(self, security: _Optional[_Union[Security, _Mapping]] = ..., num: _Optional[int] = ..., orderBookType: _Optional[int] = ...) -> None: ...
    class S2C(_message.Message):
        __slots__ = ("security", "orderBookAskList", "orderBookBidList", "svrRecvTimeBid", "svrRecvTimeBidTimestamp", "svrRecvTimeAsk", "svrRecvTimeAskTimestamp", "name", "orderBookType")
        SECURITY_FIELD_NUMBER: _ClassVar[int]
        ORDERBOOKASKLIST_FIELD_NUMBER: _ClassVar[int]
        ORDERBOOKBIDLIST_FIELD_NUMBER: _ClassVar[int]
        SVRRECVTIMEBID_FIELD_NUMBER: _ClassVar[int]
        SVRRECVTIMEBIDTIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        SVRRECVTIMEASK_FIELD_NUMBER: _ClassVar[int]
        SVRRECVTIMEASKTIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        ORDERBOOKTYPE_FIELD_NUMBER: _ClassVar[int]
        security: Security
        orderBookAskList: _containers.RepeatedCompositeFieldContainer[OrderBookLevel]
        orderBookBidList: _containers.RepeatedCompositeFieldContainer[OrderBookLevel]
        svrRecvTimeBid: str
        svrRecvTimeBidTimestamp: float
        svrRecvTimeAsk: str
        svrRecvTimeAskTimestamp: float
        name: str
        orderBookType: int
        def __init__(self, security: _Optional[_Union[Security, _Mapping]] = ..., orderBookAskList: _Optional[_Iterable[_Union[OrderBookLevel, _Mapping]]] = ..., orderBookBidList: _Optional[_Iterable[_Union[OrderBookLevel, _Mapping]]] = ..., svrRecvTimeBid: _Optional[str] = ..., svrRecvTimeBidTimestamp: _Optional[float] = ..., svrRecvTimeAsk: _Optional[str] = ..., svrRecvTimeAskTimestamp: _Optional[float] = ..., name: _Optional[str] = ..., orderBookType: _Optional[int] = ...) -> None: ...
    class Request(_message.Message):
        __slots__ = ("c2s",)
        C2S_FIELD_NUMBER: _ClassVar[int]
        c2s: OrderBook.C2S
        def __init__(self, c2s: _Optional[_Union[OrderBook.C2S, _Mapping]] = ...) -> None: ...
    class Response(_message.Message):
        __slots__ = ("retType", "retMsg", "errCode", "s2c")
        RETTYPE_FIELD_NUMBER: _ClassVar[int]
        RETMSG_FIELD_NUMBER: _ClassVar[int]
        ERRCODE_FIELD_NUMBER: _ClassVar[int]
        S2C_FIELD_NUMBER: _ClassVar[int]
        retType: int
        retMsg: str
        errCode: int
        s2c: OrderBook.S2C
        def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ..., s2c: _Optional[_Union[OrderBook.S2C, _Mapping]] = ...) -> None: ...
    def __init__(self) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("retType", "retMsg", "errCode")
    RETTYPE_FIELD_NUMBER: _ClassVar[int]
    RETMSG_FIELD_NUMBER: _ClassVar[int]
    ERRCODE_FIELD_NUMBER: _ClassVar[int]
    retType: int
    retMsg: str
    errCode: int
    def __init__(self, retType: _Optional[int] = ..., retMsg: _Optional[str] = ..., errCode: _Optional[int] = ...) -> None: ...
