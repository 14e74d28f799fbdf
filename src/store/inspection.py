"""A look at a MongoDB without changing its collections: for ``doctor``, before and beside a running program."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from motor.motor_asyncio import AsyncIOMotorDatabase
from msgspec import Struct
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from src.models.clock import Clock
from src.models.writes import Collection
from src.store.driver_errors import store_error
from src.store.mongo import Client, close_client, open_client
from src.store.schema import INDEXES, SCHEMA_ID, SCHEMA_VERSION
from src.store.uri import mask_uri

PROBE_ID = "doctor"
"""Document of the collection ``schema`` that the write test replaces."""

_CLOCK_READINGS = 3

Database = AsyncIOMotorDatabase[dict[str, Any]]


class Inspection(Struct, frozen=True):
    """What was found.

    Attributes:
        uri: with its password masked.
        topology: ``standalone``, ``replica set`` or ``sharded``.
        clock_offset_ms: the server's clock minus ours, as of the quickest of a few readings.
        write_ms: how long a majority-acknowledged, journaled write took.
        schema_version: None in a database this program has not prepared yet.
        known_schema_version: what this program writes.
        missing_indexes: ``collection.index`` of each that is not there.
    """

    uri: str
    version: str
    topology: str
    clock_offset_ms: float
    write_ms: float
    schema_version: int | None
    known_schema_version: int
    missing_indexes: tuple[str, ...]


async def inspect_database(uri: str, database: str, *, clock: Clock, timeout_s: float) -> Inspection:
    """Connect, look around, write one probe document, and disconnect.

    Raises:
        StoreError: MongoDB is out of reach, too slow, or did not acknowledge the write.
        StoreFatalError: the connection string or the rights are wrong.
    """
    client = open_client(uri, timeout_s=timeout_s)
    try:
        hello = await client.admin.command("hello")
        version = str((await client.admin.command("buildInfo"))["version"])
        target: Database = client.get_database(database, write_concern=WriteConcern(w="majority", j=True))
        schema_version = await _schema_version(target)
        return Inspection(
            uri=mask_uri(uri),
            version=version,
            topology=_topology(hello),
            clock_offset_ms=await _clock_offset_ms(client, clock),
            write_ms=await _timed_write(target, clock),
            schema_version=schema_version,
            known_schema_version=SCHEMA_VERSION,
            missing_indexes=await _missing_indexes(target),
        )
    except PyMongoError as error:
        raise store_error(error, "looking at the database", at_start=True) from error
    finally:
        await close_client(client)


async def _schema_version(database: Database) -> int | None:
    found = await database[Collection.SCHEMA.value].find_one({"_id": SCHEMA_ID})
    version = found.get("version") if found else None
    return version if isinstance(version, int) else None


async def _clock_offset_ms(client: Client, clock: Clock) -> float:
    readings: list[tuple[float, float]] = []
    for _ in range(_CLOCK_READINGS):
        started = clock.monotonic()
        before_ms = clock.wall_ms()
        hello = await client.admin.command("hello")
        round_trip_s = clock.monotonic() - started
        server_time: datetime = hello["localTime"]
        middle_ms = before_ms + round_trip_s * 500
        readings.append((round_trip_s, server_time.timestamp() * 1000 - middle_ms))
    return min(readings)[1]


async def _timed_write(database: Database, clock: Clock) -> float:
    started = clock.monotonic()
    await database[Collection.SCHEMA.value].update_one(
        {"_id": PROBE_ID}, {"$set": {"checkedAt": clock.wall_ms()}}, upsert=True
    )
    return (clock.monotonic() - started) * 1000


async def _missing_indexes(database: Database) -> tuple[str, ...]:
    missing: list[str] = []
    present = set(await database.list_collection_names())
    for collection, indexes in INDEXES.items():
        existing: Mapping[str, Any] = {}
        if collection.value in present:
            existing = await database[collection.value].index_information()
        found = {tuple(tuple(pair) for pair in options["key"]) for options in existing.values()}
        missing += [f"{collection.value}.{index.name}" for index in indexes if index.keys not in found]
    return tuple(missing)


def _topology(hello: Mapping[str, Any]) -> str:
    if hello.get("msg") == "isdbgrid":
        return "sharded"
    return "replica set" if "setName" in hello else "standalone"
