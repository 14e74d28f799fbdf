"""Writes to driver operations, and the server's answers back; without a server."""

from typing import Any

import bson
import pytest
from pymongo import InsertOne, UpdateOne

from src.models.writes import Collection, Insert, Patch, Upsert, Write
from src.store import bulk, rejections
from src.store.bulk import Encoded, EnvironmentTroubleError, Verdict

ORDERS, EVENTS, TRADES = Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS, Collection.TRADES


def upsert(oid: int = 1, **values: Any) -> Upsert:
    return Upsert(ORDERS, f"x:{oid}", "revision", 3, {"oid": oid, **values}, {"createdAt": None, "oid": 0})


def insert(number: int, **values: Any) -> Insert:
    return Insert(TRADES, {"_id": number, **values})


def encoded(write: Write) -> Encoded:
    result = bulk.encode(write)
    assert isinstance(result, Encoded)
    return result


def plain(document: Any) -> Any:
    """The document as the server would read it."""
    return bson.decode(bson.encode(document))


def answer(writes: list[Write], **details: Any) -> bulk.BulkAnswer:
    empty = {
        "nInserted": 0,
        "nUpserted": 0,
        "nModified": 0,
        "nMatched": 0,
        "writeErrors": [],
        "writeConcernErrors": [],
    }
    return bulk.read_answer(writes, empty | details)


def duplicate(index: int, *fields: str) -> dict[str, Any]:
    return {"index": index, "code": 11000, "errmsg": "E11000", "keyPattern": dict.fromkeys(fields, 1)}


class TestOperations:
    def test_an_upsert_is_guarded_by_its_version(self) -> None:
        operation = encoded(upsert(coin="BTC")).operation
        assert isinstance(operation, UpdateOne)
        assert operation._filter == {"_id": "x:1", "revision": {"$not": {"$gte": 3}}}
        assert operation._upsert
        assert plain(operation._doc) == {
            "$set": {"oid": 1, "coin": "BTC", "revision": 3},
            "$setOnInsert": {"createdAt": None},
        }

    def test_an_upsert_with_nothing_left_for_the_first_time(self) -> None:
        write = Upsert(ORDERS, "x", "revision", 1, {"a": 1}, {"a": 2})
        assert plain(encoded(write).operation._doc) == {"$set": {"a": 1, "revision": 1}}

    def test_the_second_look_never_inserts(self) -> None:
        operation = bulk.without_insert(upsert())
        assert not operation._upsert
        assert operation._filter == {"_id": "x:1", "revision": {"$not": {"$gte": 3}}}
        assert operation._doc == {"$set": {"oid": 1, "revision": 3}}

    def test_an_insert(self) -> None:
        operation = encoded(insert(7, a=1)).operation
        assert isinstance(operation, InsertOne)
        assert plain(operation._doc) == {"_id": 7, "a": 1}

    def test_a_patch_compares_its_guard_literally(self) -> None:
        operation = encoded(Patch(ORDERS, "x", {"a": 1}, {"status": "open", "b": {"$gt": 1}})).operation
        assert operation._filter == {"_id": "x", "status": {"$eq": "open"}, "b": {"$eq": {"$gt": 1}}}
        assert plain(operation._doc) == {"$set": {"a": 1}}
        assert not operation._upsert

    def test_the_size_is_that_of_the_documents(self) -> None:
        assert encoded(insert(1, note="x" * 5000)).size_bytes == len(bson.encode({"_id": 1, "note": "x" * 5000}))

    def test_what_is_encoded_no_longer_changes(self) -> None:
        document = {"_id": 1, "levels": [1]}
        operation = encoded(Insert(TRADES, document)).operation
        document["levels"].append(2)  # type: ignore[attr-defined]
        assert plain(operation._doc)["levels"] == [1]

    @pytest.mark.parametrize(
        ("write", "reason"),
        [
            (insert(1, a=2**64), rejections.NOT_ENCODABLE),
            (insert(1, a="\ud800"), rejections.NOT_ENCODABLE),
            (insert(1, a=object()), rejections.NOT_ENCODABLE),
            (insert(2**64), rejections.NOT_ENCODABLE),
            (insert(1, a="x" * (16 * 2**20)), rejections.TOO_LARGE),
            (insert(1, **{"$a": 1}), rejections.BAD_FIELD_NAME),
            (insert(1, **{"": 1}), rejections.BAD_FIELD_NAME),
            (Insert(TRADES, {}), rejections.MISSING_ID),
            (Insert(TRADES, {"_id": None}), rejections.MISSING_ID),
            (upsert(a=2**64), rejections.NOT_ENCODABLE),
            (Upsert(ORDERS, "\ud800", "revision", 1, {}), rejections.NOT_ENCODABLE),
            (Upsert(ORDERS, "x", "revision", 2**64, {}), rejections.NOT_ENCODABLE),
            (Upsert(ORDERS, "x", "revision", 1, {}, {"a": 2**64}), rejections.NOT_ENCODABLE),
            (Patch(ORDERS, "x", {"a": 2**64}), rejections.NOT_ENCODABLE),
            (Patch(ORDERS, "x", {"a": 1}, {"b": 2**64}), rejections.NOT_ENCODABLE),
            (Patch(ORDERS, "\ud800", {"a": 1}), rejections.NOT_ENCODABLE),
        ],
    )
    def test_what_cannot_be_sent_is_refused_alone(self, write: Write, reason: str) -> None:
        result = bulk.encode(write)
        assert not isinstance(result, Encoded)
        assert (result.write, result.reason) == (write, reason)
        assert 0 < len(result.detail) <= 300

    def test_a_dollar_inside_a_name_is_allowed(self) -> None:
        assert plain(encoded(insert(1, **{"a$": 1})).operation._doc)["a$"] == 1


class TestCutting:
    def test_each_chunk_has_one_collection_in_the_order_given(self) -> None:
        writes = [insert(1), upsert(1), insert(2), upsert(2)]
        assert bulk.chunks(writes, parallel=2) == [[writes[0], writes[2]], [writes[1], writes[3]]]

    @pytest.mark.parametrize(
        ("writes", "sizes"),
        [
            (0, []),
            (1, [1]),
            (100, [100]),
            (150, [100, 50]),
            (500, [250, 250]),
            (1000, [500, 500]),
            (1203, [500, 500, 203]),
        ],
    )
    def test_sizes(self, writes: int, sizes: list[int]) -> None:
        cut = bulk.chunks([insert(number) for number in range(writes)], parallel=2)
        assert [len(chunk) for chunk in cut] == sizes
        assert [write.document["_id"] for chunk in cut for write in chunk] == list(range(writes))  # type: ignore[union-attr]

    def test_slices_are_bounded_in_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk, "MAX_BYTES_PER_BULK", 10)
        items = [encoded(insert(number)) for number in range(6)]
        for item, size in zip(items, [4, 6, 1, 30, 5, 5], strict=True):
            item.size_bytes = size
        assert [[item.size_bytes for item in part] for part in bulk.slices(items)] == [[4, 6], [1], [30], [5, 5]]
        assert list(bulk.slices([])) == []


class TestAnswers:
    def test_every_write_is_in_exactly_one_place(self) -> None:
        writes: list[Write] = [upsert(1), upsert(2), upsert(3), insert(4), insert(5), insert(6)]
        errors = [
            duplicate(1, "_id"),
            duplicate(2, "ethAddress", "oid"),
            duplicate(4, "_id"),
            {"index": 5, "code": 121, "errmsg": "Document failed validation"},
        ]
        got = answer(writes, nInserted=1, nUpserted=1, writeErrors=errors)
        assert (got.inserted, got.modified, got.repeated) == (2, 0, 1)
        assert got.contested == [writes[1]]
        assert [(item.write, item.reason) for item in got.rejected] == [
            (writes[2], rejections.DUPLICATE_KEY),
            (writes[5], rejections.REFUSED),
        ]

    def test_matched_but_unchanged_counts_as_repeated(self) -> None:
        got = answer([Patch(ORDERS, "x", {"a": 1}), upsert(2)], nMatched=2, nModified=1)
        assert (got.modified, got.repeated) == (1, 1)

    def test_a_write_concern_that_was_not_met_is_trouble(self) -> None:
        with pytest.raises(EnvironmentTroubleError) as trouble:
            answer([insert(1)], nInserted=1, writeConcernErrors=[{"code": 64, "errmsg": "timed out"}])
        assert trouble.value.code == 64

    @pytest.mark.parametrize("code", [10107, 11600, 50, 262, 14031, 13])
    def test_trouble_of_the_server_rejects_nothing(self, code: int) -> None:
        with pytest.raises(EnvironmentTroubleError) as trouble:
            answer([insert(1), insert(2)], writeErrors=[{"index": 1, "code": code, "errmsg": "no"}])
        assert trouble.value.code == code

    def test_answers_of_two_halves_add_up(self) -> None:
        one = answer([upsert(1), upsert(2)], nUpserted=1, writeErrors=[duplicate(1, "_id")])
        other = answer([insert(1), insert(2)], nInserted=1, writeErrors=[duplicate(1, "other")])
        both = one.merged(other)
        assert (both.inserted, both.modified, both.repeated) == (2, 0, 0)
        assert (len(both.contested), len(both.rejected)) == (1, 1)

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (11000, rejections.DUPLICATE_KEY),
            (10334, rejections.TOO_LARGE),
            (17420, rejections.TOO_LARGE),
            (56, rejections.BAD_FIELD_NAME),
            (28, rejections.REFUSED),
            (None, rejections.REFUSED),
        ],
    )
    def test_reasons_are_few_constants(self, code: int | None, reason: str) -> None:
        refused = bulk.rejection(insert(1), code, "words of the server" * 100)
        assert refused.reason == reason
        assert str(code) in refused.detail
        assert len(refused.detail) <= 300


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (13, Verdict.FATAL),
        (18, Verdict.FATAL),
        (91, Verdict.RETRY),
        (189, Verdict.RETRY),
        (8000, Verdict.RETRY),
        (121, Verdict.CONTENT),
        (987_654, Verdict.CONTENT),
        (None, Verdict.CONTENT),
    ],
)
def test_what_a_code_says_about_trying_again(code: int | None, expected: Verdict) -> None:
    assert bulk.verdict(code) is expected
