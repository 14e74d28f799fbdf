"""What a `Query` means: as a MongoDB filter, and as plain Python for the in-memory store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from src.store.base import Query

_MISSING = object()
# MongoDB's order between types, as far as documents of this program have them.
_NULL, _NUMBER, _TEXT, _OBJECT, _ARRAY, _BINARY, _BOOL, _DATE = range(8)


def mongo_filter(query: Query) -> dict[str, Any]:
    """The filter document; values stand behind operators of ours, so none of them can act as one.

    Raises:
        ValueError: a field name is empty or could be read as an operator.
    """
    parts = (
        ("$eq", query.equals),
        ("$in", {field: list(values) for field, values in query.one_of.items()}),
        ("$gte", query.at_least),
        ("$lt", query.below),
    )
    conditions: dict[str, Any] = {}
    for operator, by_field in parts:
        for field, value in by_field.items():
            conditions.setdefault(_checked_name(field), {})[operator] = value
    return conditions


def mongo_projection(query: Query) -> dict[str, int] | None:
    """The projection document; ``_id`` only where it was asked for. None = all fields."""
    if query.fields is None:
        return None
    return {"_id": 0} | {_checked_name(field): 1 for field in query.fields}


def mongo_sort(query: Query) -> list[tuple[str, int]]:
    """Pairs of field and direction."""
    return [(_checked_name(field), -1 if descending else 1) for field, descending in query.sort]


def select(documents: Iterable[Mapping[str, Any]], query: Query) -> list[Mapping[str, Any]]:
    """The same query over plain documents: matching, sorted, limited; fields are left as they are."""
    mongo_filter(query)
    found = [document for document in documents if _matches(document, query)]
    for field, descending in reversed(mongo_sort(query)):
        found.sort(key=lambda document: _order_key(_at(document, field)), reverse=descending < 0)
    return found if query.limit is None else found[: query.limit]


def project(document: Mapping[str, Any], query: Query) -> dict[str, Any]:
    """Only the fields asked for; dotted names reach into nested documents."""
    if query.fields is None:
        return dict(document)
    result: dict[str, Any] = {}
    for field in query.fields:
        value = _at(document, field)
        if value is not _MISSING:
            place(result, field, value)
    return result


def place(document: dict[str, Any], path: str, value: object) -> None:
    """Set ``path`` (dots reach into nested documents, which are made where missing), as MongoDB's ``$set`` does.

    Raises:
        ValueError: something on the way is not a document.
    """
    *parents, last = path.split(".")
    for parent in parents:
        nested = document.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise ValueError(f"cannot create field {last!r} in element {parent!r}")  # noqa: TRY004 - a wrong document
        document = nested
    document[last] = value


def same_value(left: object, right: object) -> bool:
    """MongoDB's equality: numbers by value, never a bool with a number; missing equals null."""
    return _order_key(left) == _order_key(right)


def at(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value = _at(document, path)
    return None if value is _MISSING else value


def holds(stored: object, value: object) -> bool:
    """Equal, or a list one of whose members is equal: what MongoDB's equality means for arrays."""
    return same_value(stored, value) or (isinstance(stored, list) and any(same_value(item, value) for item in stored))


def not_before(stored: object, version: object) -> bool:
    """Whether a stored version is at or above ``version``; another type or nothing is below every version."""
    kind, rank = _order_key(version)
    stored_kind, stored_rank = _order_key(stored)
    return stored_kind == kind and bool(stored_rank >= rank)


def _checked_name(field: str) -> str:
    if not field or field.startswith("$") or "\0" in field:
        raise ValueError(f"not a field name: {field!r}")
    return field


def _matches(document: Mapping[str, Any], query: Query) -> bool:
    return (
        all(holds(_at(document, field), value) for field, value in query.equals.items())
        and all(any(holds(_at(document, field), value) for value in values) for field, values in query.one_of.items())
        and all(not_before(_at(document, field), bound) for field, bound in query.at_least.items())
        and all(_is_below(_at(document, field), bound) for field, bound in query.below.items())
    )


def _is_below(stored: object, bound: object) -> bool:
    kind, rank = _order_key(bound)
    stored_kind, stored_rank = _order_key(stored)
    return stored_kind == kind and bool(stored_rank < rank)


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _order_key(value: Any) -> tuple[int, Any]:  # noqa: PLR0911 - one line per type
    if value is None or value is _MISSING:
        return _NULL, 0
    if isinstance(value, bool):
        return _BOOL, value
    if isinstance(value, int | float):
        return _NUMBER, value
    if isinstance(value, str):
        return _TEXT, value.encode("utf-8", "surrogatepass")
    if isinstance(value, datetime):
        return _DATE, value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, bytes):
        return _BINARY, value
    if isinstance(value, Mapping):
        return _OBJECT, [(name, _order_key(item)) for name, item in value.items()]
    return _ARRAY, [_order_key(item) for item in value]
