"""Brings a database to the schema this program knows; safe to repeat, and by several processes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from src.models.errors import StoreFatalError
from src.models.writes import Collection
from src.store.schema import INDEXES, SCHEMA_ID, SCHEMA_VERSION, Index, expire_seconds

if TYPE_CHECKING:
    from src.store.mongo import Database

_DUPLICATE_KEY = 11000
_NAMESPACE_EXISTS = 48
# What a user may have put on an index of the same fields, and what we do not use: it changes what the index covers.
_FOREIGN_OPTIONS = ("partialFilterExpression", "sparse", "collation", "hidden")

_log = structlog.get_logger(__name__)


async def apply_schema(database: Database, keep_days: Mapping[Collection, int]) -> None:
    """Check the schema version, then create what is missing.

    Args:
        database: where to.
        keep_days: days after which documents of a collection expire; 0 or missing = never.

    Raises:
        StoreFatalError: a newer program wrote here, or an index of the user stands in the way.
    """
    await _check_version(database)
    present = set(await database.list_collection_names())
    for collection in INDEXES:
        if collection.value not in present:
            await _create_collection(database, collection)
        await _prepare_indexes(database, collection, keep_days)


async def _check_version(database: Database) -> None:
    schema = database[Collection.SCHEMA.value]
    known = await schema.find_one({"_id": SCHEMA_ID})
    if known is None:
        await schema.update_one({"_id": SCHEMA_ID}, {"$setOnInsert": {"version": SCHEMA_VERSION}}, upsert=True)
        return
    version = known.get("version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StoreFatalError(
            f"database {database.name!r} has schema version {version!r}, this program knows {SCHEMA_VERSION}: "
            "start the newer program again, or set MONGODB_DATABASE to another name"
        )


async def _prepare_indexes(database: Database, collection: Collection, keep_days: Mapping[Collection, int]) -> None:
    existing = await database[collection.value].index_information()
    missing = []
    for index in INDEXES[collection]:
        expire_s = expire_seconds(collection, index, keep_days)
        if await _is_missing(database, collection, index, existing, expire_s):
            missing.append(_model(index, expire_s))
    if missing:
        await _create_indexes(database, collection, missing)


async def _create_collection(database: Database, collection: Collection) -> None:
    try:
        await database.create_collection(collection.value, check_exists=False)
    except CollectionInvalid:
        return
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:  # another process was faster
            raise


async def _is_missing(
    database: Database, collection: Collection, index: Index, existing: Mapping[str, Any], expire_s: int | None
) -> bool:
    """Whether the index has to be created; one that exists is checked and its expiry brought to the setting."""
    for name, options in existing.items():
        if list(options["key"]) == list(index.keys):
            _check_options(collection, index, name, options)
            return await _drop_or_match(
                database, collection, index, name, options.get("expireAfterSeconds"), expire_s
            )
    if index.name in existing:
        raise StoreFatalError(_conflict(collection, f"index {index.name!r} has other fields", index.name))
    return True


def _check_options(collection: Collection, index: Index, name: str, options: Mapping[str, Any]) -> None:
    foreign = [option for option in _FOREIGN_OPTIONS if options.get(option)]
    if bool(options.get("unique")) != index.unique:
        wrong = "is not unique, but must be" if index.unique else "is unique, but must not be"
    elif foreign:
        wrong = f"has {', '.join(foreign)}, but must cover every document"
    else:
        return
    raise StoreFatalError(_conflict(collection, f"index {name!r} {wrong}", name))


async def _drop_or_match(
    database: Database, collection: Collection, index: Index, name: str, found_s: int | None, expire_s: int | None
) -> bool:
    """Bring the expiry of an existing index to the setting; True when it had to be dropped for that."""
    if found_s == expire_s:
        return False
    if not index.expires:
        wrong = f"index {name!r} removes documents after {found_s} s"
        raise StoreFatalError(_conflict(collection, f"{wrong}, but the program needs one that does not", name))
    _log.info("expiry_changed", collection=collection.value, before_s=found_s, after_s=expire_s)
    if found_s is not None and expire_s is not None:
        change = {"name": name, "expireAfterSeconds": expire_s}
        await database.command("collMod", collection.value, index=change)
        return False
    # Between "for ever" and a number of days only a new index helps: collMod cannot end an expiry.
    await database[collection.value].drop_index(name)
    return True


def _model(index: Index, expire_s: int | None) -> IndexModel:
    options: dict[str, Any] = {"name": index.name}
    if index.unique:
        options["unique"] = True
    if expire_s is not None:
        options["expireAfterSeconds"] = expire_s
    return IndexModel(list(index.keys), **options)


async def _create_indexes(database: Database, collection: Collection, models: list[IndexModel]) -> None:
    try:
        await database[collection.value].create_indexes(models)
    except OperationFailure as error:
        if error.code == _DUPLICATE_KEY:
            fields = ", ".join((error.details or {}).get("keyPattern", {"a unique index": 1}))
            raise StoreFatalError(
                f"collection {collection.value!r} of database {database.name!r} has several documents with the same "
                f"({fields}), so its unique index cannot be built: remove the duplicates, or set MONGODB_DATABASE "
                f"to another name"
            ) from error
        raise


def _conflict(collection: Collection, wrong: str, name: str) -> str:
    return (
        f"collection {collection.value!r}: {wrong}: drop it with db.{collection.value}.dropIndex({name!r}) and start "
        f"again, or set MONGODB_DATABASE to another name"
    )
