"""One client of the stream: what it may say, and what it is answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from src.venues.alpaca.simulator.config import Account
from src.venues.alpaca.simulator.frames import Encoding, decode

Message = dict[str, Any]

CHANNEL_OF = {
    "t": "trades",
    "c": "trades",
    "x": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
}
_ALL = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
_TEST = ("trades", "quotes", "bars")
_COUNTED = ("trades", "quotes")
_TEXTS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    500: "internal error",
}
ENDING = frozenset({404, 406, 407, 500})
"""After these the server hangs up."""

FREE_PATHS = frozenset({"/v2/iex", "/v2/delayed_sip", "/v2/test"})
PATHS = FREE_PATHS | {"/v2/sip", "/v1beta1/boats", "/v1beta1/overnight"}


class Door(Protocol):
    """Who comes in: accounts, and the one slot of each on every path."""

    def account(self, key: str, secret: str) -> Account | None:
        """The account of a key pair, None when it is wrong."""

    def take_slot(self, session: Session) -> bool:
        """Whether the account's slot on this path is free; it is the session's then."""


class Session:
    """A connection from its greeting to its end.

    Attributes:
        account: who it is; None before it is authenticated.
        sets: by channel, what it is subscribed to.
    """

    def __init__(self, path: str, encoding: Encoding, door: Door) -> None:
        self.path = path
        self.encoding = encoding
        self.account: Account | None = None
        self.sets: dict[str, set[str]] = {name: set() for name in self.channels}
        self._door = door

    @property
    def channels(self) -> Sequence[str]:
        """What its feed has."""
        return _TEST if self.path == "/v2/test" else _ALL

    def greeting(self, headers: Mapping[str, str]) -> list[Message]:
        """What it hears first; with the key in the handshake it is let in at once."""
        said = [success("connected")]
        key, secret = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
        return said if key is None or secret is None else [*said, self._let_in(key, secret)]

    def take(self, frame: str | bytes) -> list[Message]:
        """The answers to what the client says."""
        try:
            said = decode(frame, self.encoding)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [error(400)]
        if not isinstance(said, dict):
            return [error(400)]
        match said.get("action"):
            case "auth":
                if self.account is not None:
                    return [error(403)]
                return [self._let_in(said.get("key"), said.get("secret"))]
            case "subscribe" | "unsubscribe":
                return [self._change(said)]
        return [error(400)]

    def wants(self, message: Message) -> bool:
        """Whether a message is for it."""
        names = self.sets.get(CHANNEL_OF.get(message["T"], ""), ())
        return message["S"] in names or "*" in names

    def _let_in(self, key: Any, secret: Any) -> Message:
        account = self._door.account(str(key), str(secret))
        if account is None:
            return error(402)
        if account.plan == "free" and self.path not in FREE_PATHS:
            return error(409)
        self.account = account
        if not self._door.take_slot(self):
            self.account = None
            return error(406)
        return success("authenticated")

    def _change(self, said: Message) -> Message:
        if self.account is None:
            return error(401)
        lists = {name: value for name, value in said.items() if name != "action"}
        for name, value in lists.items():
            if not isinstance(value, list) or not all(isinstance(symbol, str) and symbol for symbol in value):
                return error(400)
            if name not in self.channels:
                return error(410)
        wanted = {name: set(names) for name, names in self.sets.items()}
        for name, value in lists.items():
            wanted[name] = wanted[name] | set(value) if said["action"] == "subscribe" else wanted[name] - set(value)
        limit = self.account.symbols
        counted = set().union(*(wanted[name] for name in _COUNTED))
        if limit is not None and said["action"] == "subscribe" and ("*" in counted or len(counted) > limit):
            return error(405)
        self.sets = wanted
        return self._current()

    def _current(self) -> Message:
        lists: Message = {name: sorted(names) for name, names in self.sets.items()}
        if self.path != "/v2/test":
            lists |= {"corrections": lists["trades"], "cancelErrors": lists["trades"]}
        return {"T": "subscription", **lists}


def success(text: str) -> Message:
    """A control message."""
    return {"T": "success", "msg": text}


def error(code: int) -> Message:
    """An error with the venue's text."""
    return {"T": "error", "code": code, "msg": _TEXTS[code]}
