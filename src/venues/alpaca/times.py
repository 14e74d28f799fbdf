"""The venue's times as nanoseconds since 1970: RFC 3339 text, or MessagePack's timestamp extension. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

TIMESTAMP = -1
NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
LATEST_NS = 2**63 - 1
"""Nanoseconds are stored in 64 bits: until 2262."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_CHARS = 19
_DIGITS = 9
_unpack_32: Callable[[bytes], tuple[int]] = struct.Struct(">I").unpack
_from_bytes: Callable[[bytes], int] = int.from_bytes  # big-endian
_unpack_96: Callable[[bytes], tuple[int, int]] = struct.Struct(">Iq").unpack


class BadTimeError(ValueError):
    """This is no time, or none of this age of the world."""


def time_ns(value: str | msgspec.msgpack.Ext) -> int:
    """Nanoseconds since 1970.

    Raises:
        BadTimeError: it is no time between 1970 and 2262.
    """
    if type(value) is str:
        ns = _text_ns(value)
    else:
        data: bytes = value.data  # type: ignore[union-attr, assignment]  # what the decoder makes is bytes
        if len(data) == 8 and value.code == TIMESTAMP:  # type: ignore[union-attr]  # noqa: PLR2004 - the usual size
            packed = _from_bytes(data)
            ns = (packed & 0x3FFFFFFFF) * NS_PER_S + (packed >> 34)
        else:
            ns = _ext_ns(value)  # type: ignore[arg-type]
    if not 0 < ns <= LATEST_NS:
        raise BadTimeError(f"{ns} ns")
    return ns


def rfc3339(ns: int) -> str:
    """The time as the venue writes it: nine digits at most, trailing zeros cut, ``Z``."""
    seconds, fraction = divmod(ns, NS_PER_S)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def _text_ns(text: str) -> int:
    if text[-1:] != "Z":
        raise BadTimeError(text[:40])
    seconds = _seconds(text[:_SECONDS_CHARS])
    if len(text) == _SECONDS_CHARS + 1:
        return seconds * NS_PER_S
    fraction = text[_SECONDS_CHARS + 1 : -1]
    if text[_SECONDS_CHARS] != "." or not fraction.isdecimal() or len(fraction) > _DIGITS or not fraction.isascii():
        raise BadTimeError(text[:40])
    return seconds * NS_PER_S + int(fraction.ljust(_DIGITS, "0"))


@lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    """Whole seconds; in a busy stream many messages share one."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadTimeError(text[:40]) from error
    return (moment - _EPOCH) // timedelta(seconds=1)


def _ext_ns(value: msgspec.msgpack.Ext) -> int:
    data: bytes = value.data  # type: ignore[assignment]  # what the decoder makes is bytes
    if value.code == TIMESTAMP:
        if len(data) == 4:  # noqa: PLR2004 - the other sizes of the format
            return _unpack_32(data)[0] * NS_PER_S
        if len(data) == 12:  # noqa: PLR2004
            nanoseconds, seconds = _unpack_96(data)
            return seconds * NS_PER_S + nanoseconds
    raise BadTimeError(f"extension {value.code} of {len(data)} bytes")
