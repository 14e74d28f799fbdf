"""Hyperliquid's sample frames for the contract that every venue's feed keeps."""

from __future__ import annotations

import json
from typing import Any

from src.models.messages import RefusalKind
from src.models.streams import Subscription
from src.venues.hyperliquid.feed import HyperliquidFeed, TraderStreams, market_subscriptions

TRADER = "0x00000000000000000000000000000000000000aa"

SUBSCRIPTIONS: tuple[Subscription, ...] = (
    *TraderStreams("split", orders=True, positions=True, fills=True, dexes=("xyz",)).subscriptions(TRADER),
    *TraderStreams("webData2", orders=True, positions=True, fills=False).subscriptions(TRADER),
    *market_subscriptions(["BTC", "PURR/USDC"], books=True, trades=True, fast_books=False),
)

REFUSALS = tuple(
    (json.dumps({"channel": "error", "data": text}), kind)
    for text, kind in (
        ('Already subscribed: {"type":"trades","coin":"ETH"}', RefusalKind.ALREADY_SUBSCRIBED),
        ("Cannot track more than 10 total users.", RefusalKind.USER_CAP),
        ('Invalid subscription {"type":"l2Book","coin":"NOPE"}', RefusalKind.INVALID),
    )
)

PONG = '{"channel":"pong"}'


def make_feed() -> HyperliquidFeed:
    return HyperliquidFeed("wss://127.0.0.1/ws", max_users=10)


def ack(subscription: Subscription, subscribed: bool) -> str:
    method = "subscribe" if subscribed else "unsubscribe"
    return _frame("subscriptionResponse", {"method": method, "subscription": dict(subscription.args)})


def data(subscription: Subscription, venue_ms: int) -> str:
    key = subscription.key
    order = {"coin": "BTC", "side": "B", "limitPx": "84000.0", "sz": "0.15", "oid": 7, "timestamp": venue_ms}
    state = {"assetPositions": [{"type": "oneWay", "position": {"coin": "BTC", "szi": "-0.4"}}], "time": venue_ms}
    fill = {"coin": "BTC", "px": "1.0", "sz": "1.0", "side": "B", "time": venue_ms, "oid": 7, "tid": 9}
    trade = {"coin": key.subject, "side": "B", "px": "1.0", "sz": "1.0", "time": venue_ms, "tid": 9}
    level = [{"px": "1.0", "sz": "2.0", "n": 3}]
    user = {"user": key.subject, "dex": key.dex}
    payloads: dict[str, Any] = {
        "openOrders": {**user, "orders": [order]},
        "clearinghouseState": {**user, "clearinghouseState": state},
        "webData2": {**user, "serverTime": venue_ms, "openOrders": [order], "clearinghouseState": state},
        "userFills": {**user, "fills": [fill]},
        "l2Book": {"coin": key.subject, "time": venue_ms, "levels": [level, level]},
        "trades": [trade],
    }
    return _frame(key.channel, payloads[key.channel])


def _frame(channel: str, payload: Any) -> str:
    return json.dumps({"channel": channel, "data": payload}, separators=(",", ":"))
