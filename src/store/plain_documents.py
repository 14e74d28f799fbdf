"""What MongoDB makes of a document, without MongoDB: checked and copied for the in-memory store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from src.store import rejections

_MAX_DEPTH = 180  # MongoDB allows 200 levels, a few of which are taken by the command around the document
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class UnfitDocumentError(Exception):
    """The document cannot be stored; ``reason`` is one of the constants of `src.store.rejections`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def stored_form(document: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy as it would be read back: lists for tuples, UTC datetimes in milliseconds, own nested documents.

    Raises:
        UnfitDocumentError: something in it cannot be stored, or it is too large.
    """
    copy, size_bytes = _copied(document, 0)
    if size_bytes > rejections.MAX_DOCUMENT_BYTES:
        raise UnfitDocumentError(rejections.TOO_LARGE, f"{size_bytes} bytes")
    for name in copy:
        if not name or name[0] == "$":
            raise UnfitDocumentError(rejections.BAD_FIELD_NAME, f"field name {name!r}")
    result: dict[str, Any] = copy
    return result


def stored_value(value: object) -> Any:
    """The same for a single value."""
    return _copied(value, 0)[0]


def _copied(value: Any, depth: int) -> tuple[Any, int]:  # noqa: C901, PLR0911 - one line per type
    """The copy and its size in BSON bytes, without the field's name."""
    if depth > _MAX_DEPTH:
        raise UnfitDocumentError(rejections.NOT_ENCODABLE, f"nested deeper than {_MAX_DEPTH}")
    if value is None:
        return None, 0
    if isinstance(value, bool):
        return value, 1
    if isinstance(value, int):
        return _integer(value), 4 if _INT32_MIN <= value <= _INT32_MAX else 8
    if isinstance(value, float):
        return value, 8
    if isinstance(value, str):
        return value, _text_bytes(value) + 5
    if isinstance(value, datetime):
        return _utc_milliseconds(value), 8
    if isinstance(value, bytes):
        return value, len(value) + 5
    if isinstance(value, Mapping):
        return _document(value, depth)
    if isinstance(value, list | tuple):
        return _array(value, depth)
    raise UnfitDocumentError(rejections.NOT_ENCODABLE, f"type {type(value).__name__}")


def _document(value: Mapping[Any, Any], depth: int) -> tuple[dict[str, Any], int]:
    copy: dict[str, Any] = {}
    size_bytes = 5
    for name, item in value.items():
        if not isinstance(name, str) or "\0" in name:
            raise UnfitDocumentError(rejections.NOT_ENCODABLE, f"field name {name!r}")
        copy[name], item_bytes = _copied(item, depth + 1)
        size_bytes += item_bytes + _text_bytes(name) + 2
    return copy, size_bytes


def _array(value: list[Any] | tuple[Any, ...], depth: int) -> tuple[list[Any], int]:
    copied = [_copied(item, depth + 1) for item in value]
    return [item for item, _ in copied], 5 + sum(size + len(str(place)) + 2 for place, (_, size) in enumerate(copied))


def _integer(value: int) -> int:
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise UnfitDocumentError(rejections.NOT_ENCODABLE, "an integer beyond 64 bits")
    return value


def _text_bytes(value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError as error:
        raise UnfitDocumentError(rejections.NOT_ENCODABLE, str(error)) from error


def _utc_milliseconds(value: datetime) -> datetime:
    utc = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)
