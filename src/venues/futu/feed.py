"""The gateway's answers to the connection machinery: where, log-in, subscriptions, keep-alive, meaning of a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from src.models.clock import Clock
from src.models.errors import WireError
from src.models.market_symbols import canonical
from src.models.messages import (
    Ack,
    AckList,
    Data,
    Decoded,
    Ignored,
    LoggedIn,
    LoginRefused,
    Pong,
    Refusal,
    RefusalKind,
    Several,
)
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Batching, Endpoint, Heartbeat, VenueLimits
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import mapper, wire
from src.venues.futu.codec import HEAD_BYTES, LARGEST_BODY_BYTES, Frame, pack, unpack
from src.venues.futu.mapper import VENUE
from src.venues.futu.sequence import BookSequence
from src.venues.futu.session import Asked, Quota, Session

CHANNEL = "orderBook"

KEEP_ALIVE_S = 10
"""Until the gateway names its own interval."""

KEEP_ALIVE_SHARE = 0.8
DEADLINE_S = 25.0
"""After a ping without any frame; with the ping that is the 33 s after which the official client gives up."""

KEEP_ALIVE_LONGEST_S = 60
CODES_AT_ONCE = 100
MESSAGES_PER_MINUTE = 120
"""How often one may subscribe is not documented; this is far more than is needed in lists of `CODES_AT_ONCE`."""

PINGS_PER_LOOK = 4
"""The gateway's list of subscriptions and its own state are asked for with every fourth ping."""

AUDIT_LEVELS = 10

_LOGIN_REMEDY = "look at the gateway's log; encrypted connections (an RSA key in its settings) are not spoken here"


class FutuFeed:
    """One connection's worth of state besides the answers: `login_frames` begins a new connection."""

    venue = VENUE
    greets = False
    batching = Batching(most=CODES_AT_ONCE)

    def __init__(self, host: str, port: int, *, quota: int, clock: Clock, heartbeat: Heartbeat | None = None) -> None:
        """``quota``: subscriptions the plan allows. ``heartbeat`` replaces the gateway's own, for simulations."""
        self.limits = VenueLimits(connections=1, subscriptions=quota, messages_per_minute=MESSAGES_PER_MINUTE)
        self._endpoint = Endpoint(
            f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}",
            max_size_bytes=HEAD_BYTES + LARGEST_BODY_BYTES,
            binary=True,
        )
        self._clock = clock
        self._given_heartbeat = heartbeat
        self._interval_s = KEEP_ALIVE_S
        self._books = BookSequence()
        self._session = Session()
        self._gateway: dict[str, Any] = {}
        self._pings = 0
        self._asked_state = False
        self._answers: Mapping[int, Callable[[Frame, int], Decoded]] = {
            wire.INIT_CONNECT: self._on_init,
            wire.GLOBAL_STATE: self._on_global_state,
            wire.NOTIFY: _on_notice,
            wire.KEEP_ALIVE: _on_keep_alive,
            wire.SUB: self._on_sub,
            wire.SUB_INFO: self._on_sub_info,
            wire.ORDER_BOOK: self._on_audit,
        }

    @property
    def heartbeat(self) -> Heartbeat:
        """Four fifths of the interval the gateway named when it last let us in."""
        return self._given_heartbeat or Heartbeat(self._interval_s * KEEP_ALIVE_SHARE, DEADLINE_S)

    def endpoint(self) -> Endpoint:
        """``tcp://host:port``; the transport is this venue's own."""
        return self._endpoint

    def login_frames(self) -> Sequence[bytes]:
        """Introduce ourselves; anything else before the answer might end the connection."""
        self._session, self._pings, self._asked_state = Session(), 0, False
        return (pack(wire.init_connect(self._session.next_serial())),)

    def subscribe_frame(self, subscription: Subscription) -> bytes:
        """`subscribe_frames` for one."""
        return self.subscribe_frames([subscription])[0]

    def unsubscribe_frame(self, subscription: Subscription) -> bytes:
        """`unsubscribe_frames` for one."""
        return self.unsubscribe_frames([subscription])[0]

    def subscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[bytes]:
        """One request for all of these; the gateway takes all or none of a list.

        The first one asks before whether the gateway itself is logged in: it lets us in even when it is not.
        """
        session, frames = self._session, []
        if not self._asked_state:
            self._asked_state = True
            frames.append(wire.global_state(session.next_serial()))
        keys = [subscription.key for subscription in subscriptions]
        frames.append(wire.subscribe(session.ask("subscribe", keys), _symbols(keys)))
        return (b"".join(pack(frame) for frame in frames),)

    def unsubscribe_frames(self, subscriptions: Sequence[Subscription]) -> Sequence[bytes]:
        """One request for all of these."""
        keys = [subscription.key for subscription in subscriptions]
        serial = self._session.ask("unsubscribe", keys)
        self._session.let_go(keys)
        for key in keys:
            self._books.forget(key.subject)
        return (pack(wire.unsubscribe(serial, _symbols(keys))),)

    def ping_frame(self) -> bytes:
        """Keep alive, and look after what the gateway does not tell by itself: all frames in one piece."""
        session, now = self._session, self._clock.monotonic()
        frames = [wire.keep_alive(session.next_serial(), self._clock.wall_ms() // 1000)]
        if self._pings % PINGS_PER_LOOK == PINGS_PER_LOOK - 1:
            frames.append(wire.global_state(session.next_serial()))
            frames.append(wire.sub_info(session.ask_info()))
        elif session.wants_info:
            frames.append(wire.sub_info(session.ask_info()))
        self._pings += 1
        strays = session.take_strays(now, CODES_AT_ONCE)
        if strays:
            frames.append(wire.unsubscribe(session.ask("cancel_stray", strays), _symbols(strays)))
        audited = session.to_audit(now)
        frames += [wire.order_book(session.ask("audit", [key]), key.subject, AUDIT_LEVELS) for key in audited]
        return b"".join(pack(frame) for frame in frames)

    def held_since(self, key: StreamKey) -> float | None:
        """Since when (monotonic seconds) the gateway has ``key`` subscribed for us, None when it has not."""
        return self._session.held_since(key, self._clock.monotonic())

    def decode(self, frame: str | bytes, received_ms: int) -> Decoded:
        """Say what one whole frame, head and body, means.

        Raises:
            WireError: it is not what the gateway promises.
        """
        if isinstance(frame, str):
            raise WireError("text_frame", f"{len(frame)} characters")
        said = unpack(frame)
        if said.protocol == wire.ORDER_BOOK_PUSH:
            return self._on_push(said, received_ms)
        answer = self._answers.get(said.protocol)
        return Ignored("unknown_protocol") if answer is None else answer(said, received_ms)

    def status(self) -> dict[str, Any]:
        """What the gateway tells of itself and of the quota; JSON-ready."""
        return {**self._session.status(), "quota_plan": self.limits.subscriptions, "gateway": dict(self._gateway)}

    @property
    def quota(self) -> Quota | None:
        """What the gateway says of the quota, None before it has."""
        return self._session.quota

    # -- frames ------------------------------------------------------------------------------------------------------

    def _on_push(self, said: Frame, received_ms: int) -> Decoded:
        body = wire.read(pb.OrderBook.Response, said)
        if body.retType != wire.RET_OK or not body.HasField("s2c"):
            raise WireError("failed_push", body.retMsg[:200])
        reading = mapper.read_book(body.s2c, received_ms)
        if reading is None:
            return Ignored("odd_lots")
        key = stream_of(reading.symbol)
        self._session.pushed(key, self._clock.monotonic())
        book = self._books.place(reading, received_ms)
        size_bytes = HEAD_BYTES + len(said.body)
        return Data(key, reading.server_ms, () if book is None else (book,), size_bytes, received_ms)

    def _on_init(self, said: Frame, _: int) -> Decoded:
        verdict = wire.verdict(said)
        if not verdict.ok:
            return LoginRefused("slow", f"{verdict.code}: {verdict.text[:200]}", _LOGIN_REMEDY, "login_refused")
        answer = wire.read(pb.InitConnect.Response, said)
        if not answer.HasField("s2c"):
            raise WireError("malformed_body", "an accepted InitConnect without an answer")
        if answer.s2c.keepAliveInterval > 0:
            self._interval_s = min(answer.s2c.keepAliveInterval, KEEP_ALIVE_LONGEST_S)
        self._gateway["version"] = answer.s2c.serverVer
        return LoggedIn()

    def _on_global_state(self, said: Frame, _: int) -> Decoded:
        if not wire.verdict(said).ok:
            return Ignored("global_state_failed")
        answer = wire.read(pb.GetGlobalState.Response, said)
        if not answer.HasField("s2c"):
            return Ignored("global_state_failed")
        state = answer.s2c
        self._gateway |= {
            "logged_in": state.qotLogined,
            "markets": {"HK": state.marketHK, "US": state.marketUS, "SH": state.marketSH, "SZ": state.marketSZ},
        }
        return Ignored("global_state") if state.qotLogined else mapper.login_lost()

    def _on_sub(self, said: Frame, _: int) -> Decoded:
        asked = self._session.answered(said.serial)
        if asked is None:
            return Ignored("unasked_answer")
        verdict = wire.verdict(said)
        if asked.verb == "cancel_stray":
            return Ignored("stray_cancelled" if verdict.ok else "stray_kept")
        if not verdict.ok:
            text = f"{verdict.text[:200]} ({', '.join(_symbols(asked.keys[:3]))})"
            return Refusal(_kind_for(asked, verdict.text), text, asked.keys[0] if len(asked.keys) == 1 else None)
        subscribed = asked.verb == "subscribe"
        if subscribed:
            self._session.took(asked.keys, self._clock.monotonic())
        acks = tuple(Ack(key, subscribed) for key in asked.keys)
        return acks[0] if len(acks) == 1 else Several(acks)

    def _on_sub_info(self, said: Frame, _: int) -> Decoded:
        verdict = wire.verdict(said)
        if not verdict.ok:
            return Ignored("sub_info_failed")
        answer = wire.read(pb.GetSubInfo.Response, said).s2c
        listed = {
            stream_of(canonical(wire.symbol_of(security)))
            for connection in answer.connSubInfoList
            if connection.isOwnConnData
            for info in connection.subInfoList
            if info.subType == wire.TYPE_ORDER_BOOK
            for security in info.securityList
        }
        quota = Quota(max(0, answer.totalUsedQuota), max(0, answer.remainQuota))
        held = self._session.on_info(said.serial, listed, quota)
        return Ignored("sub_info") if held is None else AckList(held)

    def _on_audit(self, said: Frame, received_ms: int) -> Decoded:
        asked = self._session.answered(said.serial)
        if asked is None or not wire.verdict(said).ok:
            return Ignored("audit_failed")
        reading = mapper.read_book(wire.read(pb.OrderBook.Response, said).s2c, received_ms)
        pushed = self._books.last(asked.keys[0].subject)
        if reading is None or pushed is None:
            return Ignored("audit_failed")
        depth = AUDIT_LEVELS
        agrees = reading.bids[:depth] == pushed.bids[:depth] and reading.asks[:depth] == pushed.asks[:depth]
        if self._session.audited(asked.keys[0], self._clock.monotonic(), agrees=agrees):
            return AckList(self._session.held)  # without the mute one, which is thereby asked for anew
        return Ignored("audit_agrees" if agrees else "audit_differs")


def stream_of(symbol: str) -> StreamKey:
    """The stream of a symbol in canonical spelling."""
    return StreamKey(VENUE, CHANNEL, symbol)


def book_subscriptions(symbols: Iterable[str]) -> list[Subscription]:
    """Order books of symbols in canonical spelling.

    No age makes one silent: outside trading hours nothing is pushed. The audits find pushes that stopped.
    """
    return [Subscription(stream_of(symbol), {"symbol": symbol, "type": wire.TYPE_ORDER_BOOK}) for symbol in symbols]


def _on_notice(said: Frame, _: int) -> Decoded:
    return mapper.read_notice(wire.read(pb.Notify.Response, said).s2c)


def _on_keep_alive(said: Frame, _: int) -> Decoded:
    return Pong() if wire.verdict(said).ok else Ignored("keep_alive_failed")


def _symbols(keys: Iterable[StreamKey]) -> list[str]:
    return [key.subject for key in keys]


def _kind_for(asked: Asked, text: str) -> RefusalKind:
    kind = mapper.refusal_kind(text)
    # A refused cancellation says nothing about what is subscribed.
    return kind if asked.verb == "subscribe" or kind is RefusalKind.MESSAGE_RATE else RefusalKind.OTHER
