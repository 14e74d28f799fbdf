"""Write operations translated for the driver, and the server's answers translated back. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from msgspec import Struct
from pymongo import InsertOne, UpdateOne

from src.models.writes import Collection, Insert, Patch, Rejected, Upsert, Write
from src.store import rejections

Operation = InsertOne[Any] | UpdateOne

MAX_OPERATIONS_PER_BULK = 500
"""Larger bulks hold the event loop: encoding runs under the interpreter lock."""

MIN_OPERATIONS_PER_BULK = 100
"""Smaller bulks are not worth sending side by side."""

MAX_BYTES_PER_BULK = 4 * 1024 * 1024
"""Bounds the encoding time of large documents, and keeps a bulk in one message, so that its counts are exact."""

_ENCODING_ERRORS = (BSONError, OverflowError, UnicodeError, RecursionError, TypeError, ValueError)
_MAX_DETAIL_CHARS = 300

_DUPLICATE_KEY_CODES = frozenset({11000, 11001, 12582})
_TOO_LARGE_CODES = frozenset({10334, 17280, 17419, 17420})
REFUSED_WHOLE_CODES = frozenset({2, 9, 14, 15, 22, 10334, 17280, 17419, 17420})
"""Errors by which the server refuses a whole bulk because of one document (too large, nested too deeply).

Another code for a whole bulk is trouble of the server: no document goes to the dead letters for that.
"""
_FIELD_NAME_CODES = frozenset({52, 55, 56, 57})
# The server or the network is in trouble, whatever the document says.
_RETRYABLE_CODES = frozenset(
    {1, 6, 7, 8, 24, 46, 50, 64, 89, 91, 100, 112, 117, 134, 146, 189, 202, 251, 262, 290, 314, 365, 391, 412}
    | {8000, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031}
)
# Rights, authentication, a server that does not know what we ask for.
_FATAL_CODES = frozenset({13, 18, 20, 26, 31, 33, 59, 115, 323, 13297})


class Verdict(Enum):
    """What an error code of the server says about trying again."""

    CONTENT = "content"
    RETRY = "retry"
    FATAL = "fatal"


class Encoded(Struct):
    """A write ready to be sent, with the size of its documents in bytes."""

    write: Write
    operation: Operation
    size_bytes: int


class BulkAnswer(Struct):
    """One bulk as the server saw it; every write is in exactly one of the four.

    Attributes:
        contested: upserts that met an existing document: either the stored version is at or above theirs, or
            another writer inserted it at the same moment. A second look without inserting tells.
    """

    inserted: int
    modified: int
    repeated: int
    rejected: list[Rejected]
    contested: list[Upsert]

    def merged(self, other: BulkAnswer) -> BulkAnswer:
        """Both answers as one."""
        return BulkAnswer(
            self.inserted + other.inserted,
            self.modified + other.modified,
            self.repeated + other.repeated,
            self.rejected + other.rejected,
            self.contested + other.contested,
        )


class EnvironmentTroubleError(Exception):
    """The answer to a bulk names an error that is not about the documents; carries the code and the words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def encode(write: Write) -> Encoded | Rejected:
    """Translate one write; its documents are encoded here, so that one that cannot be encoded harms no other."""
    try:
        return _encode(write)
    except _ENCODING_ERRORS as error:
        return Rejected(write, rejections.NOT_ENCODABLE, f"{type(error).__name__}: {error}"[:_MAX_DETAIL_CHARS])


def chunks(group: Sequence[Write], *, parallel: int) -> list[list[Write]]:
    """Cut a group into pieces for one bulk each: one collection, at most 500 writes, shared among ``parallel``."""
    parts: dict[Collection, list[Write]] = {}
    for write in group:
        parts.setdefault(write.collection, []).append(write)
    pieces: list[list[Write]] = []
    for writes in parts.values():
        share = -(-len(writes) // parallel)
        size = min(MAX_OPERATIONS_PER_BULK, max(MIN_OPERATIONS_PER_BULK, share))
        pieces.extend(writes[start : start + size] for start in range(0, len(writes), size))
    return pieces


def slices(encoded: Sequence[Encoded]) -> Iterator[Sequence[Encoded]]:
    """Cut into pieces of at most `MAX_BYTES_PER_BULK` (a single larger write stays alone)."""
    start, size_bytes = 0, 0
    for position, item in enumerate(encoded):
        if position > start and size_bytes + item.size_bytes > MAX_BYTES_PER_BULK:
            yield encoded[start:position]
            start, size_bytes = position, 0
        size_bytes += item.size_bytes
    if start < len(encoded):
        yield encoded[start:]


def without_insert(write: Upsert) -> Operation:
    """The same update for a document that exists; nothing happens when its version is at or above ours."""
    return UpdateOne(_older_than(write), {"$set": {**write.values, write.version_field: write.version}})


def read_answer(writes: Sequence[Write], details: Mapping[str, Any]) -> BulkAnswer:
    """Sort the writes of one bulk by what became of them.

    Raises:
        EnvironmentTroubleError: the write concern was not met, or an error is not about the document; the bulk may
            be repeated as a whole.
    """
    for trouble in details.get("writeConcernErrors", ()):
        raise EnvironmentTroubleError(int(trouble.get("code", 64)), str(trouble.get("errmsg", trouble)))
    answer = BulkAnswer(details["nInserted"] + details["nUpserted"], details["nModified"], 0, [], [])
    for error in details["writeErrors"]:
        _sort_error(answer, writes[error["index"]], error)
    answer.repeated = len(writes) - answer.inserted - answer.modified - len(answer.rejected) - len(answer.contested)
    return answer


def verdict(code: int | None) -> Verdict:
    """What the error code of a single write says; an unknown code is about the content."""
    if code in _FATAL_CODES:
        return Verdict.FATAL
    return Verdict.RETRY if code in _RETRYABLE_CODES else Verdict.CONTENT


def rejection(write: Write, code: int | None, text: str) -> Rejected:
    """A refused write with the constant that fits the server's error code."""
    if code in _DUPLICATE_KEY_CODES:
        reason = rejections.DUPLICATE_KEY
    elif code in _TOO_LARGE_CODES:
        reason = rejections.TOO_LARGE
    elif code in _FIELD_NAME_CODES:
        reason = rejections.BAD_FIELD_NAME
    else:
        reason = rejections.REFUSED
    return Rejected(write, reason, f"{code}: {text}"[:_MAX_DETAIL_CHARS])


def _encode(write: Write) -> Encoded | Rejected:
    if isinstance(write, Upsert):
        return _encode_upsert(write)
    if isinstance(write, Insert):
        return _encode_insert(write)
    return _encode_patch(write)


def _encode_upsert(write: Upsert) -> Encoded | Rejected:
    write.id.encode()  # the condition is encoded later, with the whole bulk: a lone surrogate must be found here
    values = bson.encode({**write.values, write.version_field: write.version})
    update: dict[str, Any] = {"$set": RawBSONDocument(values)}
    size_bytes = len(values)
    if write.on_insert:
        # A field in both would be a conflict to the server; what is set now wins.
        first = {name: value for name, value in write.on_insert.items() if name not in write.values}
        on_insert = bson.encode(first)
        size_bytes += len(on_insert)
        if first:
            update["$setOnInsert"] = RawBSONDocument(on_insert)
    return _checked(write, UpdateOne(_older_than(write), update, upsert=True), size_bytes, write.values)


def _encode_insert(write: Insert) -> Encoded | Rejected:
    if write.document.get("_id") is None:
        return Rejected(write, rejections.MISSING_ID, "the document has no _id")
    document = bson.encode(write.document)
    return _checked(write, InsertOne(RawBSONDocument(document)), len(document), write.document)


def _encode_patch(write: Patch) -> Encoded | Rejected:
    values = bson.encode(write.values)
    condition = {"_id": write.id} | {field: {"$eq": value} for field, value in write.guard.items()}
    bson.encode(condition)
    return _checked(write, UpdateOne(condition, {"$set": RawBSONDocument(values)}), len(values), write.values)


def _older_than(write: Upsert) -> dict[str, Any]:
    """Matches the document unless its version is at or above; then the upsert runs into the ``_id`` that is there.

    The upsert therefore fails with E11000 on ``_id``, which costs nothing in the usual case; a condition inside an
    update pipeline would cost every write.
    """
    return {"_id": write.id, write.version_field: {"$not": {"$gte": write.version}}}


def _checked(write: Write, operation: Operation, size_bytes: int, document: Mapping[str, Any]) -> Encoded | Rejected:
    if size_bytes > rejections.MAX_DOCUMENT_BYTES:
        return Rejected(write, rejections.TOO_LARGE, f"{size_bytes} bytes")
    if "" in document or "$" in "".join(document):  # one quick look; most documents end here
        for name in document:
            if not name or name[0] == "$":
                return Rejected(write, rejections.BAD_FIELD_NAME, f"field name {name!r}")
    return Encoded(write, operation, size_bytes)


def _sort_error(answer: BulkAnswer, write: Write, error: Mapping[str, Any]) -> None:
    code, text = int(error.get("code", 8)), str(error.get("errmsg", ""))
    if code in _DUPLICATE_KEY_CODES and list(error.get("keyPattern", ())) == ["_id"]:
        if isinstance(write, Upsert):
            answer.contested.append(write)
        # An Insert that is already there is done: it stays in the remainder, which counts as repeated.
    elif verdict(code) is not Verdict.CONTENT:
        raise EnvironmentTroubleError(code, text)
    else:
        answer.rejected.append(rejection(write, code, text))
