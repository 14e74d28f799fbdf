"""Who may open a socket: path, token, ``Origin`` and ``Host``. Pure.

A refusal is told in words: the socket is accepted and then closed with 1008 and the reason, since a browser shows
nothing of a handshake that failed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

from src.api.security import is_local_host

POLICY_VIOLATION = 1008
SUBPROTOCOL = "market-collector.v1"
TOKEN_PREFIX = "bearer."  # noqa: S105 - what stands before a token
_CLIENT_ID = re.compile(r"[\w.~:@=+-]{1,128}")
_PATH = re.compile(r"/ws(?:/([^/]*))?/?")


class Rules(Struct, frozen=True):
    """Who is let in.

    Attributes:
        token: needed by everybody; empty = by nobody.
        allowed_origins: browser origins let in besides our own, lower case.
        check_host: the ``Host`` has to name this machine or an allowed origin's host (against DNS rebinding).
    """

    token: str = ""
    allowed_origins: Sequence[str] = ()
    check_host: bool = True


class Handshake(Struct, frozen=True):
    """What a client said when it opened the socket."""

    target: str
    host: str = ""
    origin: str | None = None
    authorization: str = ""
    subprotocols: Sequence[str] = ()

    @property
    def query(self) -> Mapping[str, Sequence[str]]:
        """Query parameters by name."""
        try:
            return parse_qs(urlsplit(self.target).query, max_num_fields=20)
        except ValueError:
            return {}


class Entry(Struct, frozen=True):
    """A client that is let in.

    Attributes:
        client_id: as it named itself, None for an anonymous one.
        middleware: speaks the dialect of the order-book middleware, else that of time and sales.
        batch: takes several messages in one frame, as a JSON array.
        resume: wants the subscriptions back that are remembered for its id.
        subprotocol: to be answered, None when it offered none.
    """

    client_id: str | None
    middleware: bool
    batch: bool
    resume: bool
    subprotocol: str | None


class Refusal(Struct, frozen=True):
    """Not let in; ``code`` is a short constant, ``reason`` fits into a close frame."""

    code: str
    reason: str


def is_gateway_path(target: str) -> bool:
    """Whether there is a socket at this address at all."""
    return _PATH.fullmatch(urlsplit(target).path) is not None


def admit(handshake: Handshake, rules: Rules) -> Entry | Refusal:
    """Decide; ``handshake.target`` is a gateway path."""
    refusal = _check_origin(handshake, rules) or _check_token(handshake, rules)
    if refusal is not None:
        return refusal
    match = _PATH.fullmatch(urlsplit(handshake.target).path)
    written = None if match is None else match[1]
    middleware = bool(written)
    client_id = unquote(written) if written else handshake.query.get("client_id", [None])[0]
    if client_id is not None and not _CLIENT_ID.fullmatch(client_id):
        return Refusal("client_id", "Client id: use up to 128 letters, digits and . _ ~ : @ = + -")
    return Entry(
        client_id,
        middleware,
        batch=_is_on(handshake.query, "batch", default=False),
        resume=_is_on(handshake.query, "resume", default=True),
        subprotocol=_chosen(handshake.subprotocols),
    )


def _check_origin(handshake: Handshake, rules: Rules) -> Refusal | None:
    host, origin = handshake.host.lower(), handshake.origin
    allowed_hosts = {urlsplit(one).netloc for one in rules.allowed_origins}
    if rules.check_host and not rules.token and host not in allowed_hosts and not is_local_host(host):
        return Refusal("host", "Host not served without a token: use 127.0.0.1 or ALLOWED_ORIGINS")
    if origin is None or origin.lower() in rules.allowed_origins:
        return None
    if origin == "null" or urlsplit(origin.lower()).netloc != host:
        return Refusal("origin", "Origin not allowed: name it in ALLOWED_ORIGINS")
    return None


def _check_token(handshake: Handshake, rules: Rules) -> Refusal | None:
    if not rules.token:
        return None
    offered = [one.removeprefix(TOKEN_PREFIX) for one in handshake.subprotocols if one.startswith(TOKEN_PREFIX)]
    offered += handshake.query.get("token", [])
    scheme, _, credentials = handshake.authorization.partition(" ")
    if scheme.lower() == "bearer":
        offered.append(credentials.strip())
    wanted = rules.token.encode()
    if any(hmac.compare_digest(one.encode(), wanted) for one in offered):
        return None
    required = "Token required: header, ?token= or subprotocol bearer.<token>"
    return Refusal("token", "Token wrong" if offered else required)


def _chosen(offered: Sequence[str]) -> str | None:
    """A browser that offers subprotocols insists on one of them."""
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    return offered[0] if offered else None


def _is_on(query: Mapping[str, Sequence[str]], name: str, *, default: bool) -> bool:
    value = query.get(name, [""])[0].lower()
    return default if not value else value in ("1", "true", "yes", "on")
