"""Writes as bytes, so that one which MongoDB refused can be kept and offered again. Pure.

Plain JSON, because it holds what BSON does not: integers of any size, lone surrogates, NaN. Dates and bytes are
objects with one key of ours (``{"$date": milliseconds}``, ``{"$bytes": base64}``).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from src.models.writes import Collection, Insert, Patch, Upsert, Write
from src.pipeline.documents import to_date, to_ms

DATE, BYTES, OBJECT = "$date", "$bytes", "$object"
_OURS = (DATE, BYTES, OBJECT)


def pack_write(write: Write) -> bytes:
    """The write as bytes; empty when something in it is of a type that cannot be kept."""
    try:
        return json.dumps(_parts(write), separators=(",", ":")).encode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return b""


def unpack_write(packed: bytes) -> Write:
    """The reverse of `pack_write`; dates have milliseconds.

    Raises:
        ValueError: this was not packed by `pack_write`.
    """
    try:
        parts = _unpacked(json.loads(packed))
        collection = Collection(parts["collection"])
        match parts["kind"]:
            case "insert":
                return Insert(collection, parts["document"])
            case "upsert":
                version = parts["version"]
                return Upsert(
                    collection, parts["id"], parts["versionField"], version, parts["values"], parts["onInsert"]
                )
            case "patch":
                return Patch(collection, parts["id"], parts["values"], parts["guard"])
            case kind:
                raise ValueError(f"no such kind of write: {kind!r}")
    except (KeyError, TypeError, RecursionError, binascii.Error, OverflowError) as error:
        raise ValueError(f"not a kept write: {error!r}") from error


def _parts(write: Write) -> dict[str, Any]:
    if isinstance(write, Insert):
        parts: dict[str, Any] = {"kind": "insert", "document": write.document}
    elif isinstance(write, Upsert):
        parts = {
            "kind": "upsert",
            "id": write.id,
            "versionField": write.version_field,
            "version": write.version,
            "values": write.values,
            "onInsert": write.on_insert,
        }
    else:
        parts = {"kind": "patch", "id": write.id, "values": write.values, "guard": write.guard}
    packed = {name: _packed(value) for name, value in parts.items()}
    return {"collection": write.collection.value, **packed}


def _packed(value: Any) -> Any:
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) for key in value):
            raise TypeError("a key is no text")
        packed = {key: _packed(item) for key, item in value.items()}
        return {OBJECT: packed} if len(packed) == 1 and next(iter(packed)) in _OURS else packed
    if isinstance(value, datetime):
        return {DATE: to_ms(value if value.tzinfo else value.replace(tzinfo=UTC))}
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_packed(item) for item in value]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        name, item = next(iter(value.items()))
        if name == DATE:
            return to_date(item)
        if name == BYTES:
            return base64.b64decode(item, validate=True)
        if name == OBJECT:
            value = item
    return {key: _unpacked(item) for key, item in value.items()}
