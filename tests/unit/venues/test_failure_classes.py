from __future__ import annotations

import errno
import socket
import ssl

import pytest
from websockets import exceptions as ws
from websockets.datastructures import Headers
from websockets.frames import Close
from websockets.http11 import Response

from src.models.errors import VenueError, VenueFatalError, VenueRateLimitedError
from src.venues.failures import classify


def status(code: int, **headers: str) -> ws.InvalidStatus:
    return ws.InvalidStatus(Response(code, "", Headers({k.replace("_", "-"): v for k, v in headers.items()})))


def closed(code: int, reason: str = "") -> ws.ConnectionClosed:
    close = Close(code, reason)
    return ws.ConnectionClosedError(close, close, rcvd_then_sent=True)


@pytest.mark.parametrize(
    ("error", "reason", "loud"),
    [
        (status(429), "http_429", False),
        (status(500), "http_500", False),
        (status(502), "http_502", False),
        (status(503), "http_503", False),
        (status(599), "http_599", False),
        (status(999), "http_odd", False),
        (status(408), "http_408", False),
        (status(401), "http_401", True),
        (status(403), "http_403", True),
        (status(404), "http_404", True),
        (status(200), "http_200", True),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), "tls_verification", True),
        (ssl.SSLError(1, "wrong version number"), "tls", False),
        (socket.gaierror(-2, "Name or service not known"), "dns", False),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused", False),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] again"), "refused", False),
        (OSError(errno.ENETUNREACH, "unreachable"), "network", False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "network", False),
        (TimeoutError("timed out during opening handshake"), "timeout", False),
        (ws.InvalidURI("nonsense", "scheme"), "address", True),
        (ws.InvalidProxy("nonsense", "scheme"), "address", True),
        (ImportError("python-socks is required"), "address", True),
        (ws.InvalidProxyStatus(Response(407, "", Headers())), "proxy", True),
        (ws.InvalidProxyStatus(Response(502, "", Headers())), "proxy", False),
        (ws.ProxyError("failed"), "proxy", False),
        (ws.InvalidMessage("did not receive a valid HTTP response"), "handshake", False),
        (ws.ConnectionClosedError(None, None), "closed_1006", False),
        (closed(1000, "Expired"), "closed_1000", False),
        (closed(1012), "closed_1012", False),
        (closed(4321), "closed_by_application", False),
        (VenueError("away"), "venue_error", False),
        (VenueFatalError("wrong key: check ALPACA_KEY"), "refused_by_venue", True),
        (VenueRateLimitedError("slow down", 7.0), "http_429", False),
        (RuntimeError("?"), "unexpected", False),
    ],
)
def test_every_kind_has_a_label_and_the_right_loudness(error: Exception, reason: str, *, loud: bool) -> None:
    failure = classify(error)
    assert (failure.reason, failure.loud) == (reason, loud)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30.0), (" 5 ", 5.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0), ("soon", None), ("-3", None), ("", None)],
)
def test_retry_after_is_a_number_or_a_date(header: str, seconds: float | None) -> None:
    failure = classify(status(429, Retry_After=header), wall_ms=60_000)
    assert failure.rate_limited
    assert failure.retry_after_s == seconds


def test_a_date_that_is_past_means_now() -> None:
    failure = classify(status(429, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT"), wall_ms=60_000)
    assert failure.retry_after_s == 0.0


def test_only_a_normal_close_is_a_rotation() -> None:
    assert classify(closed(1000, "Expired")).rotation
    assert not classify(closed(1001)).rotation
    assert not classify(ws.ConnectionClosedError(None, None)).rotation


def test_our_own_refusal_of_a_big_frame_is_told_with_its_size() -> None:
    error = ws.ConnectionClosedError(None, Close(1009, "frame with 99 bytes exceeds limit of 10 bytes"))
    error.__cause__ = ws.PayloadTooBig(99, 10)
    failure = classify(error)
    assert (failure.reason, failure.size_bytes, failure.closed_by_venue) == ("frame_too_big", 99, False)


def test_a_1009_that_the_venue_sent_is_not_our_refusal() -> None:
    assert classify(closed(1009)).reason == "closed_1009"


def test_detail_is_cut() -> None:
    assert len(classify(OSError("x" * 10_000)).detail) <= 300
