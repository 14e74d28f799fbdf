"""What clients send: subscribe, unsubscribe, ping, post; and the venue's answers and refusals, word for word."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from src.venues.hyperliquid.simulator.config import SimulatorConfig
from src.venues.hyperliquid.simulator.faults import Faults
from src.venues.hyperliquid.simulator.feeds import Publisher
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.limits import TOO_MANY_POSTS
from src.venues.hyperliquid.simulator.market import Market
from src.venues.hyperliquid.simulator.sessions import FeedState, Session
from src.venues.hyperliquid.simulator.shapes import Frame, encode
from src.venues.hyperliquid.simulator.subscriptions import (
    InvalidSubscriptionError,
    Subscription,
    UnknownTypeError,
    parse_subscription,
)

PONG = b'{"channel":"pong"}'
UNPARSABLE_REQUEST = "Error parsing JSON into valid websocket request: {}"
_SHOWS_STATE = frozenset({"clearinghouseState", "openOrders", "allDexsClearinghouseState", "webData2"})


class RequestHandler:
    """Answers the frames of all sessions."""

    def __init__(
        self, config: SimulatorConfig, market: Market, publisher: Publisher, faults: Faults, info: InfoService
    ) -> None:
        self._legacy = config.legacy
        self._keeps_users = config.users_freed == "connection"
        self._market = market
        self._coins = {coin.name: coin for coin in market.universe}
        self._publisher = publisher
        self._faults = faults
        self._info = info
        self._wanted: dict[Subscription, None] = {}

    def handle(self, session: Session, message: str | bytes, now_s: float) -> None:
        """Answer one frame of a client."""
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        refusal = session.usage.refuse_message(now_s)
        if refusal is not None:
            self._error(session, refusal, now_s)
            return
        try:
            request = msgspec.json.decode(text)
        except msgspec.DecodeError:
            request = None
        method = request.get("method") if isinstance(request, dict) else None
        if method == "ping":
            session.send(PONG, now_s)
        elif method in ("subscribe", "unsubscribe"):
            self._change_subscription(session, method, request, text, now_s)
        elif method == "post" and self._is_post(request):
            self._post(session, request, now_s)
        else:
            self._error(session, UNPARSABLE_REQUEST.format(text), now_s)

    def forget(self, session: Session) -> None:
        """A connection ended: give back what it used."""
        for sub in list(session.feeds):
            self._drop(session, sub)
        for user in session.left_users:
            session.usage.freed(user)

    def wanted_streams(self) -> list[tuple[str, str, str]]:
        """(channel, trader, dex) of state feeds that were subscribed and never unsubscribed by the client."""
        streams: list[tuple[str, str, str]] = []
        for sub in self._wanted:
            if sub.type == "allDexsClearinghouseState":
                streams += [(sub.type, sub.user or "", dex) for dex in self._market.dexes]
            elif sub.type in _SHOWS_STATE:
                streams.append((sub.type, sub.user or "", sub.dex or ""))
        return streams

    def _change_subscription(self, session: Session, method: str, request: Any, text: str, now_s: float) -> None:
        raw = request.get("subscription")
        try:
            sub = parse_subscription(raw, coins=self._coins, dexes=self._market.dexes, legacy=self._legacy)
        except UnknownTypeError:
            self._error(session, UNPARSABLE_REQUEST.format(text), now_s)
            return
        except InvalidSubscriptionError:
            self._error(session, f"Invalid subscription {_json_text(raw)}", now_s)
            return
        if method == "subscribe":
            self._subscribe(session, sub, now_s)
        else:
            self._unsubscribe(session, sub, now_s)

    def _subscribe(self, session: Session, sub: Subscription, now_s: float) -> None:
        if sub in session.feeds:
            self._error(session, f"Already subscribed: {_json_text(sub.echo())}", now_s)
            return
        refusal = self._faults.take_refusal(sub) or session.usage.refuse_subscription(sub.user)
        if refusal is not None:
            self._error(session, refusal, now_s)
            return
        session.usage.subscribed(sub.user)
        session.feeds[sub] = FeedState(sub, now_s)
        self._wanted[sub] = None
        self._acknowledge(session, "subscribe", sub, now_s)
        self._publisher.started(session, sub, now_s)

    def _unsubscribe(self, session: Session, sub: Subscription, now_s: float) -> None:
        if sub not in session.feeds:
            self._error(session, f"Already unsubscribed: {_json_text(sub.echo())}", now_s)
            return
        self._drop(session, sub)
        self._wanted.pop(sub, None)
        self._acknowledge(session, "unsubscribe", sub, now_s)

    def _drop(self, session: Session, sub: Subscription) -> None:
        self._publisher.stopped(session, sub)
        del session.feeds[sub]
        session.usage.unsubscribed(sub.user, frees_user=not self._keeps_users)
        if self._keeps_users and sub.user is not None:
            session.left_users.append(sub.user)

    def _post(self, session: Session, request: Any, now_s: float) -> None:
        limit = session.usage.limits.posts_in_flight
        if limit is not None and session.posts >= limit:
            self._error(session, TOO_MANY_POSTS.format(request["id"]), now_s)
            return
        payload = request["request"]["payload"]
        if self._faults.is_rate_limited() or not session.usage.may_spend(now_s, self._info.weight(payload)):
            response: dict[str, Any] = {"type": "error", "payload": "429 Too Many Requests"}
        else:
            answer = self._info.answer(payload)
            session.usage.spend(now_s, answer.extra_weight)
            if answer.status == HTTPStatus.OK:
                response = {"type": "info", "payload": {"type": payload["type"], "data": answer.value}}
            else:
                response = {"type": "error", "payload": f"{answer.status.value} {answer.status.phrase}"}
        session.send(encode(Frame("post", {"id": request["id"], "response": response})), now_s)

    @staticmethod
    def _is_post(request: Any) -> bool:
        inner = request.get("request")
        return isinstance(request.get("id"), int) and isinstance(inner, dict) and inner.get("type") == "info"

    @staticmethod
    def _acknowledge(session: Session, method: str, sub: Subscription, now_s: float) -> None:
        data = {"method": method, "subscription": sub.echo()}
        session.send(encode(Frame("subscriptionResponse", data)), now_s)

    @staticmethod
    def _error(session: Session, text: str, now_s: float) -> None:
        session.send(encode(Frame("error", text)), now_s)


def _json_text(value: object) -> str:
    return encode(value).decode()
