"""The simulator's messages as bytes on the wire, in both encodings. Times are kept as nanoseconds until then."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from src.venues.alpaca.times import NS_PER_S, rfc3339

Encoding = Literal["json", "msgpack"]
_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_TIMESTAMP = -1


class Ns(int):
    """A time in nanoseconds since 1970, to be told apart from numbers that are none."""


def encode(messages: Sequence[dict[str, Any]], encoding: Encoding) -> str | bytes:
    """An array of messages: text for JSON, bytes for MessagePack."""
    if encoding == "json":
        return _encode_json([_plain(message) for message in messages]).decode()
    return _encode_msgpack([_packed(message) for message in messages])


def json_bytes(value: Any) -> bytes:
    """Any JSON, with times as text."""
    return _encode_json(_deep(value))


def decode(frame: str | bytes, encoding: Encoding) -> Any:
    """What a client said; in the encoding it chose. Raises `msgspec.DecodeError`."""
    return msgspec.json.decode(frame) if encoding == "json" else msgspec.msgpack.decode(_as_bytes(frame))


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    return {name: rfc3339(value) if type(value) is Ns else value for name, value in message.items()}


def _packed(message: dict[str, Any]) -> dict[str, Any]:
    return {name: _timestamp(value) if type(value) is Ns else value for name, value in message.items()}


def _timestamp(ns: int) -> msgspec.msgpack.Ext:
    seconds, nanoseconds = divmod(ns, NS_PER_S)
    if nanoseconds == 0 and seconds < 2**32:
        return msgspec.msgpack.Ext(_TIMESTAMP, struct.pack(">I", seconds))
    return msgspec.msgpack.Ext(_TIMESTAMP, struct.pack(">Q", nanoseconds << 34 | seconds))


def _deep(value: Any) -> Any:
    if type(value) is Ns:
        return rfc3339(value)
    if isinstance(value, dict):
        return {name: _deep(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(item) for item in value]
    return value


def _as_bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame
