"""Queries as MongoDB filters; what they select is in the contract suite of the stores."""

from datetime import UTC, datetime

import pytest

from src.store.base import Query
from src.store.selection import (
    at,
    mongo_filter,
    mongo_projection,
    mongo_sort,
    not_before,
    place,
    project,
    same_value,
    select,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_an_empty_query_matches_everything() -> None:
    assert (mongo_filter(Query()), mongo_projection(Query()), mongo_sort(Query())) == ({}, None, [])


def test_every_value_stands_behind_an_operator_of_ours() -> None:
    query = Query(
        equals={"a": "x"}, one_of={"b": ("y", None)}, at_least={"t": NOON}, below={"t": NOON}, sort=[("t", True)]
    )
    assert mongo_filter(query) == {"a": {"$eq": "x"}, "b": {"$in": ["y", None]}, "t": {"$gte": NOON, "$lt": NOON}}
    assert mongo_sort(query) == [("t", -1)]


def test_several_conditions_on_one_field_are_all_kept() -> None:
    query = Query(equals={"a": 1}, one_of={"a": [1, 2]}, at_least={"a": 0})
    assert mongo_filter(query) == {"a": {"$eq": 1, "$in": [1, 2], "$gte": 0}}


def test_identity_comes_only_when_asked_for() -> None:
    assert mongo_projection(Query(fields=["coin"])) == {"_id": 0, "coin": 1}
    assert mongo_projection(Query(fields=["_id", "coin"])) == {"_id": 1, "coin": 1}
    assert mongo_projection(Query(fields=[])) == {"_id": 0}


@pytest.mark.parametrize("name", ["", "$where", "$or", "a\0"])
@pytest.mark.parametrize("part", ["equals", "one_of", "at_least", "below", "sort", "fields"])
def test_names_like_operators_are_refused_everywhere(name: str, part: str) -> None:
    value = {"sort": [(name, True)], "fields": [name], "one_of": {name: [1]}}.get(part, {name: 1})
    query = Query(**{part: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="field name"):
        (mongo_filter(query), mongo_sort(query), mongo_projection(query))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, None, False),
        (None, None, True),
        ("1", 1, False),
        (NOON, NOON.replace(tzinfo=None), True),
        ([1, "a"], [1.0, "a"], True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_equality(left: object, right: object, same: bool) -> None:
    assert same_value(left, right) is same


@pytest.mark.parametrize(
    ("stored", "version", "expected"),
    [
        (3, 3, True),
        (4, 3, True),
        (2, 3, False),
        (None, 0, False),
        ("9", 3, False),
        (NOON, NOON, True),
        (True, 0, False),
    ],
)
def test_versions(stored: object, version: object, expected: bool) -> None:
    assert not_before(stored, version) is expected


def test_placing_values_by_path() -> None:
    document = {"a": {"b": 1}}
    place(document, "a.c", 2)
    place(document, "x.y.z", 3)
    assert document == {"a": {"b": 1, "c": 2}, "x": {"y": {"z": 3}}}
    with pytest.raises(ValueError, match="cannot create field"):
        place(document, "a.b.c", 4)


def test_reading_by_path() -> None:
    assert at({"a": {"b": None}}, "a.b") is None
    assert at({"a": 1}, "a.b") is None
    assert at({"a": {"b": 5}}, "a.b") == 5


def test_projection_of_a_plain_document() -> None:
    document = {"_id": 1, "a": {"b": 1, "c": 2}}
    assert project(document, Query()) == document
    assert project(document, Query(fields=["a.b", "x"])) == {"a": {"b": 1}}


def test_sorting_is_stable_and_nested() -> None:
    documents = [{"n": 1, "s": {"k": 2}}, {"n": 2, "s": {"k": 1}}, {"n": 3, "s": {"k": 2}}]
    assert [d["n"] for d in select(documents, Query(sort=[("s.k", True)]))] == [1, 3, 2]
