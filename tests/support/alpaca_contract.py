"""Alpaca's sample frames for the contract of feeds, in both encodings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from src.models.messages import RefusalKind
from src.models.streams import Subscription
from src.venues.alpaca.feed import AlpacaFeed, subscriptions_of
from src.venues.alpaca.simulator.frames import Encoding, Ns, decode, encode
from src.venues.alpaca.simulator.session import error, success

SUBSCRIPTIONS = tuple(subscriptions_of(["AAPL", "TSLA"], ["trades", "quotes", "statuses"]))
KINDS = {
    "trades": {"T": "t", "i": 7, "x": "V", "p": 1.5, "s": 10, "c": ["@"], "z": "C"},
    "quotes": {"T": "q", "bx": "V", "bp": 1.4, "bs": 1, "ax": "V", "ap": 1.6, "as": 2, "c": ["R"], "z": "C"},
    "statuses": {"T": "s", "sc": "H", "sm": "Halt", "rc": "T1", "rm": "News", "z": "C"},
}


def make_feed(encoding: Encoding) -> AlpacaFeed:
    return AlpacaFeed("wss://127.0.0.1", feed="sip", key="k", secret="s", encoding=encoding)


def greeting(encoding: Encoding) -> str | bytes:
    return encode([success("connected")], encoding)


def ack(encoding: Encoding, subscription: Subscription, subscribed: bool) -> str | bytes:
    key = subscription.key
    return encode([{"T": "subscription", key.channel: [key.subject] if subscribed else []}], encoding)


def data(encoding: Encoding, subscription: Subscription, venue_ms: int) -> str | bytes:
    key = subscription.key
    return encode([{**KINDS[key.channel], "S": key.subject, "t": Ns(venue_ms * 10**6)}], encoding)


def answers(encoding: Encoding, frame: str | bytes) -> Sequence[str | bytes]:
    """What a venue says that has taken no subscription before: let in, or the list and one message of each."""
    said: dict[str, Any] = decode(frame, encoding)
    if said["action"] == "auth":
        return [encode([success("authenticated")], encoding)]
    named = {(channel, name) for channel, names in said.items() if channel != "action" for name in names}
    wanted = [one for one in SUBSCRIPTIONS if (one.key.channel, one.key.subject) in named]
    lists = {channel: names for channel, names in said.items() if channel != "action"}
    acknowledged = encode([{"T": "subscription", **lists}], encoding)
    return [acknowledged, *(data(encoding, one, 1_700_000_000_000) for one in wanted)]


def refusals(encoding: Encoding) -> tuple[tuple[str | bytes, RefusalKind], ...]:
    return tuple(
        (encode([error(code)], encoding), kind)
        for code, kind in (
            (400, RefusalKind.INVALID),
            (405, RefusalKind.SUBSCRIPTION_CAP),
            (410, RefusalKind.UNKNOWN_TYPE),
        )
    )


def case(encoding: Encoding) -> dict[str, Any]:
    """The fields of a `FeedCase`."""
    return {
        "make": partial(make_feed, encoding),
        "subscriptions": SUBSCRIPTIONS,
        "ack": partial(ack, encoding),
        "data": partial(data, encoding),
        "pong": None,
        "refusals": refusals(encoding),
        "binary": encoding == "msgpack",
        "greeting": greeting(encoding),
        "answers": partial(answers, encoding),
    }
