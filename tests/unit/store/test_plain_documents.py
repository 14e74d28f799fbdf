"""The in-memory store treats documents as BSON does: same form, same size, same refusals."""

import math
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st

from src.store import rejections
from src.store.plain_documents import UnfitDocumentError, _copied, stored_form, stored_value

AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6).filter(
    lambda name: not name.startswith("$")
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=20)
    | st.datetimes(timezones=st.just(UTC), min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1))  # noqa: DTZ001 - hypothesis wants naive bounds
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=15
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=6)


@given(DOCUMENTS)
def test_the_form_is_the_one_bson_gives_back(document: dict[str, Any]) -> None:
    assert stored_form(document) == bson.decode(bson.encode(document), AWARE)


@given(DOCUMENTS)
def test_the_copy_shares_nothing_that_can_change(document: dict[str, Any]) -> None:
    copy = stored_form(document)
    assert copy is not document
    for name, value in document.items():
        if isinstance(value, list | dict):
            assert copy[name] is not value


@given(DOCUMENTS)
def test_the_size_is_the_one_bson_takes(document: dict[str, Any]) -> None:
    assert _copied(document, 0)[1] == len(bson.encode(document))


def test_the_limit_is_that_of_mongodb() -> None:
    room = rejections.MAX_DOCUMENT_BYTES - len(bson.encode({"_id": 1, "text": ""}))
    assert stored_form({"_id": 1, "text": "x" * room})
    with pytest.raises(UnfitDocumentError) as refused:
        stored_form({"_id": 1, "text": "x" * (room + 1)})
    assert refused.value.reason == rejections.TOO_LARGE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2,)), [1, [2]]),
        (OrderedDict(a=1), {"a": 1}),
        (datetime(2026, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)),
        (datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9))), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),  # noqa: DTZ001 - the driver takes naive for UTC
        (True, True),
    ],
)
def test_single_values(value: object, expected: object) -> None:
    assert stored_value(value) == expected


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"a": 2**63}, rejections.NOT_ENCODABLE),
        ({"a": -(2**63) - 1}, rejections.NOT_ENCODABLE),
        ({"a": "\ud800"}, rejections.NOT_ENCODABLE),
        ({"\ud800": 1}, rejections.NOT_ENCODABLE),
        ({"a": Decimal(1)}, rejections.NOT_ENCODABLE),
        ({"a": {1, 2}}, rejections.NOT_ENCODABLE),
        ({"a": {1: 2}}, rejections.NOT_ENCODABLE),
        ({1: 2}, rejections.NOT_ENCODABLE),
        ({"a\0": 1}, rejections.NOT_ENCODABLE),
        ({"": 1}, rejections.BAD_FIELD_NAME),
        ({"$a": 1}, rejections.BAD_FIELD_NAME),
    ],
)
def test_refusals(document: dict[Any, Any], reason: str) -> None:
    with pytest.raises(UnfitDocumentError) as refused:
        stored_form(document)
    assert refused.value.reason == reason


def test_endless_nesting_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnfitDocumentError):
        stored_value(endless)


def test_nan_stays_nan() -> None:
    assert math.isnan(stored_form({"a": math.nan})["a"])
