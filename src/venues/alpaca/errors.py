"""What the stream's error codes mean to us.

Source: docs.alpaca.markets "WebSocket Stream" (400 to 413, 500), official Go client (411). A code that is not in the
table is told and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from src.models.messages import Decoded, Ignored, LoggedIn, LoginRefused, Refusal, RefusalKind

_WRONG_KEY = (
    "Alpaca refuses ALPACA_API_KEY and ALPACA_SECRET_KEY: write the key of this account into .env.local "
    "(a paper key works too) and restart"
)
_NOT_IN_PLAN = "the account's plan does not contain this feed: set ALPACA_FEED=iex, or subscribe to Algo Trader Plus"
_NO_SCOPE = "the OAuth token lacks the scope for market data: authorise the application again with it"
_SLOT_TAKEN = (
    "another program of this account holds the one connection Alpaca allows per feed: stop it, or give this one "
    "another account; tried again every few minutes"
)
_MSGPACK_ONLY = "this feed speaks MessagePack only: set ALPACA_ENCODING=msgpack"


def meaning(code: int, text: str) -> Decoded:
    """The message for an error of the stream."""
    words = f"{code} {text}"[:200]
    if code in _ENDS:
        kind, reason, remedy = _ENDS[code]
        return LoginRefused(kind, words, remedy, reason)
    if code in _REFUSALS:
        return Refusal(_REFUSALS[code], words)
    if code == ALREADY_AUTHENTICATED:
        return LoggedIn()
    return Refusal(RefusalKind.OTHER, words) if code >= FIRST_ERROR else Ignored("odd_error_code")


FIRST_ERROR = 400
ALREADY_AUTHENTICATED = 403

_ENDS: Mapping[int, tuple[Literal["retry", "slow", "fatal"], str, str]] = {
    401: ("retry", "not_authenticated", ""),
    402: ("fatal", "auth_failed", _WRONG_KEY),
    404: ("retry", "auth_timeout", ""),
    406: ("slow", "connection_limit", _SLOT_TAKEN),
    407: ("retry", "slow_client", ""),
    409: ("fatal", "insufficient_subscription", _NOT_IN_PLAN),
    411: ("fatal", "insufficient_scope", _NO_SCOPE),
    412: ("fatal", "msgpack_only", _MSGPACK_ONLY),
    500: ("retry", "venue_internal_error", ""),
}
_REFUSALS = {
    400: RefusalKind.INVALID,
    405: RefusalKind.SUBSCRIPTION_CAP,
    410: RefusalKind.UNKNOWN_TYPE,
    413: RefusalKind.INVALID,
}
