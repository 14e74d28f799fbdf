"""Refused writes as bytes and back."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.models.writes import Collection, Insert, Patch, Upsert
from src.pipeline.kept_writes import pack_write, unpack_write

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
NESTED = {"a": {"b": [1, 2.5, None, True, "ü\ud800", NOW, b"\x00\xff"]}, "big": 2**80, "$date": 5}

DATES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - hypothesis wants naive bounds
    lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000, tzinfo=UTC)
)
KEYS = st.one_of(st.text(max_size=8), st.sampled_from(["$date", "$bytes", "$object", "", "a.b"]))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.binary(max_size=20),
        DATES,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "write",
    [
        Insert(Collection.TRADES, {"_id": "x", **NESTED}),
        Upsert(Collection.TRADER_ORDERS, "a:1", "revision", 3, {"nested": NESTED}, {"createdAt": NOW}),
        Upsert(Collection.ORDERBOOKS, "h:BTC", "timestamp", NOW, {"timestamp": NOW}),
        Patch(Collection.COVERAGE, "s:1", {"to": NOW}, {"to": None}),
    ],
    ids=["insert", "upsert", "upsert by date", "patch"],
)
def test_every_kind_of_write_comes_back_as_it_was(write):
    assert unpack_write(pack_write(write)) == write


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_document_comes_back_as_it_was(document):
    write = Insert(Collection.TRADES, document)
    assert unpack_write(pack_write(write)) == write


def test_tuples_become_lists_and_naive_dates_utc_as_mongodb_makes_them():
    packed = pack_write(Insert(Collection.TRADES, {"_id": 1, "t": (1, (2,)), "at": NOW.replace(tzinfo=None)}))
    assert unpack_write(packed).document == {"_id": 1, "t": [1, [2]], "at": NOW}


def endless():
    document = {}
    document["again"] = document
    return document


@pytest.mark.parametrize("document", [{"x": object()}, {"x": {1, 2}}, {1: "a number as key"}, endless()])
def test_what_cannot_be_kept_leaves_nothing(document):
    assert pack_write(Insert(Collection.TRADES, document)) == b""


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe\xfa",
        b"null",
        b'{"collection":"nowhere","kind":"insert","document":{}}',
        b'{"collection":"trades","kind":"delete"}',
        b'{"collection":"trades","kind":"insert"}',
        b'{"collection":"trades","kind":"insert","document":{"at":{"$date":"soon"}}}',
        b'{"collection":"trades","kind":"insert","document":{"at":{"$bytes":"?"}}}',
        json.dumps({"collection": "trades", "kind": "insert", "document": {"at": {"$date": 10**30}}}).encode(),
    ],
)
def test_anything_else_is_a_value_error(packed):
    with pytest.raises(ValueError):
        unpack_write(packed)
