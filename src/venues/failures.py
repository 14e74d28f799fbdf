"""What an exception or a close means for the next attempt: one function says it for the whole program."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

from msgspec import Struct
from websockets import exceptions as ws

from src.models.errors import CollectorError, VenueRateLimitedError
from src.models.messages import LoginRefused

EXPECTED_ERRORS = (OSError, ssl.SSLError, ws.WebSocketException, CollectorError, EOFError, ImportError)
"""What opening and using a connection may raise; anything else is a fault of this program."""

TOO_BIG = "frame_too_big"
ABNORMAL = "closed_1006"
"""The socket ended without a closing handshake."""

_NORMAL_CLOSE = 1000
_TOO_BIG_CODE = 1009
_LAST_PROTOCOL_CODE = 1015
_DETAIL_CHARS = 300

_PACES: Mapping[str, Literal["usual", "slow", "never"]] = {"retry": "usual", "slow": "slow", "fatal": "never"}
_ADDRESS_REMEDY = "check the WebSocket URL and proxy settings of this venue"
_STATUS_REMEDY: Mapping[int, str] = {
    401: "the venue wants credentials or refuses these: check the key settings of this venue",
    403: "the venue's front end refuses this address or a header: check proxy, region and the WebSocket URL setting",
    404: "there is no WebSocket at this address: check the WebSocket URL setting",
    407: "the proxy wants credentials: put them into the proxy URL",
}


class Failure(Struct, frozen=True):
    """Why a connection could not be opened, or ended.

    Attributes:
        reason: short constant, a counter label.
        detail: the error's own words, cut to a loggable size.
        remedy: what a person can do; not empty means trying again alone will hardly help, so it is shown loudly.
        rate_limited: the venue said that we come too often.
        retry_after_s: what it asked us to wait, None when it did not say.
        rotation: an orderly close (code 1000), as venues do when a connection has lived its time.
        closed_by_venue: the peer ended it, in contrast to our own deadlines.
        size_bytes: of the message that was too big.
        pace: how to try again: ``usual`` back-off, ``slow`` every few minutes, ``never`` until somebody asks for it.
    """

    reason: str
    detail: str = ""
    remedy: str = ""
    rate_limited: bool = False
    retry_after_s: float | None = None
    rotation: bool = False
    closed_by_venue: bool = False
    size_bytes: int = 0
    pace: Literal["usual", "slow", "never"] = "usual"

    @property
    def loud(self) -> bool:
        """Whether a person has to act."""
        return bool(self.remedy)


class SocketEndedError(Exception):
    """Ends the tasks of one socket; carries why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def classify(error: BaseException, *, wall_ms: int = 0) -> Failure:
    """Say what ``error`` means; never raises. ``wall_ms`` is needed for a ``Retry-After`` that names a date."""
    detail = (str(error) or type(error).__name__)[:_DETAIL_CHARS]
    if isinstance(error, ws.ConnectionClosed):
        return _closed(error, detail)
    if isinstance(error, ws.WebSocketException):
        return _handshake(error, detail, wall_ms)
    if isinstance(error, CollectorError):
        return _venue(error, detail)
    if isinstance(error, EOFError):  # plain TCP knows no closing handshake
        return Failure(ABNORMAL, detail, closed_by_venue=True)
    return _network(error, detail)


def thrown_out(refused: LoginRefused) -> Failure:
    """The failure of a connection whose log-in the venue refused, or ended."""
    pace = _PACES[refused.kind]
    return Failure(refused.reason, refused.text[:_DETAIL_CHARS], refused.remedy, pace=pace)


def _handshake(error: ws.WebSocketException, detail: str, wall_ms: int) -> Failure:
    if isinstance(error, ws.InvalidStatus):
        return _status(error.response.status_code, error.response.headers.get("Retry-After"), detail, wall_ms)
    if isinstance(error, ws.InvalidProxyStatus):
        return _proxy_status(error.response.status_code, detail)
    if isinstance(error, (ws.InvalidURI, ws.InvalidProxy)):
        return Failure("address", detail, remedy=_ADDRESS_REMEDY)
    return Failure("proxy" if isinstance(error, ws.ProxyError) else "handshake", detail)


def _venue(error: CollectorError, detail: str) -> Failure:
    if isinstance(error, VenueRateLimitedError):
        return Failure("http_429", detail, rate_limited=True, retry_after_s=error.retry_after_s)
    if error.retryable:
        return Failure("venue_error", detail)
    return Failure("refused_by_venue", detail, remedy=detail)


def _network(error: BaseException, detail: str) -> Failure:
    if isinstance(error, ImportError):  # the library needs an extra package for SOCKS proxies
        return Failure("address", detail, remedy=_ADDRESS_REMEDY)
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = "the certificate does not fit the host: check the URL, this machine's clock and CA certificates"
        return Failure("tls_verification", detail, remedy)
    if isinstance(error, ssl.SSLError):
        return Failure("tls", detail)
    for kind, reason in ((socket.gaierror, "dns"), (TimeoutError, "timeout")):
        if isinstance(error, kind):
            return Failure(reason, detail)
    if isinstance(error, OSError):
        return Failure("refused" if _is_refused(error) else "network", detail)
    return Failure("unexpected", f"{type(error).__name__}: {detail}")


def _is_refused(error: OSError) -> bool:
    # A host with several addresses yields one OSError without errno that lists the single errors in its text.
    if error.errno is None:
        return f"[Errno {errno.ECONNREFUSED}]" in str(error) or os.strerror(errno.ECONNREFUSED) in str(error)
    return error.errno == errno.ECONNREFUSED


def _status(code: int, retry_after: str | None, detail: str, wall_ms: int) -> Failure:
    if code == 429:  # noqa: PLR2004 - HTTP's own number
        seconds = _retry_after_s(retry_after, wall_ms)
        return Failure("http_429", detail, rate_limited=True, retry_after_s=seconds)
    if code >= 500:  # noqa: PLR2004 - HTTP's own number
        return Failure(f"http_{code}" if code < 600 else "http_odd", detail)  # noqa: PLR2004 - HTTP's own number
    if code == 408:  # noqa: PLR2004 - HTTP's own number: the server got tired of waiting
        return Failure("http_408", detail)
    fallback = f"the venue answers HTTP {code} instead of a WebSocket: check the WebSocket URL setting"
    return Failure(f"http_{code}", detail, remedy=_STATUS_REMEDY.get(code, fallback))


def _proxy_status(code: int, detail: str) -> Failure:
    remedy = _STATUS_REMEDY[407] if code == 407 else ""  # noqa: PLR2004 - HTTP's own number
    return Failure("proxy", detail, remedy=remedy)


def _retry_after_s(header: str | None, wall_ms: int) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110, 10.2.3: a number or a date), None when it makes no sense."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall_ms / 1000.0)
    except (ValueError, OverflowError):
        return None


def _closed(error: ws.ConnectionClosed, detail: str) -> Failure:
    if error.sent is not None and error.sent.code == _TOO_BIG_CODE and not error.rcvd_then_sent:
        cause = error.__cause__
        size = cause.size or 0 if isinstance(cause, ws.PayloadTooBig) else 0
        return Failure(TOO_BIG, error.sent.reason[:_DETAIL_CHARS] or detail, size_bytes=size)
    if error.rcvd is None:
        return Failure(ABNORMAL, detail, closed_by_venue=True)
    code = error.rcvd.code
    label = f"closed_{code}" if code <= _LAST_PROTOCOL_CODE else "closed_by_application"
    return Failure(label, detail, rotation=code == _NORMAL_CLOSE, closed_by_venue=True)
