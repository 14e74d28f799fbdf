"""Checks of the database, embedded or the user's own."""

from __future__ import annotations

from pathlib import Path

from src.jobs.doctor.lines import CheckLine, clock_line
from src.models.clock import Clock
from src.models.errors import (
    ConfigurationError,
    DataDirectoryBusyError,
    EmbeddedServerError,
    StoreError,
    StoreFatalError,
)
from src.store.embedded import open_embedded
from src.store.inspection import Inspection, inspect_database

CLOCK_WARN_MS = 2000.0
SLOW_WRITE_MS = 500.0
_SHOWN_INDEXES = 3


async def check_embedded_mongodb(
    data_dir: Path, database: str, *, cache_gib: float, clock: Clock, timeout_s: float
) -> list[CheckLine]:
    """Use the running embedded server, or start one for the time of the check, and look at it."""
    try:
        async with open_embedded(data_dir, shared=True, cache_gib=cache_gib) as server:
            where = "embedded, running" if server.was_running else "embedded, started for this check"
            return await check_mongodb(server.uri, database, clock=clock, timeout_s=timeout_s, where=where)
    except (EmbeddedServerError, ConfigurationError, DataDirectoryBusyError) as error:
        return [
            CheckLine("mongodb", "FAIL", _one_line(error), "see the text, or set MONGODB_URI to a MongoDB of yours")
        ]


async def check_mongodb(
    uri: str, database: str, *, clock: Clock, timeout_s: float, where: str = "MONGODB_URI"
) -> list[CheckLine]:
    """Reach it, write to it with majority acknowledgement, and compare indexes, schema version and clock."""
    try:
        found = await inspect_database(uri, database, clock=clock, timeout_s=timeout_s)
    except StoreFatalError as error:
        return [CheckLine("mongodb", "FAIL", _one_line(error), "correct MONGODB_URI or MONGODB_DATABASE")]
    except StoreError as error:
        remedy = "start MongoDB and check host, port and firewall in MONGODB_URI; empty = the embedded server"
        return [CheckLine("mongodb", "FAIL", _one_line(error), remedy)]
    remedy = "set the clock of both machines by NTP"
    clock_found = clock_line("db clock", "MongoDB", found.clock_offset_ms, warn_above_ms=CLOCK_WARN_MS, remedy=remedy)
    return [_server_line(found, where), _write_line(found), _index_line(found), clock_found]


def _server_line(found: Inspection, where: str) -> CheckLine:
    text = f"{found.version} {found.topology} at {found.uri} ({where})"
    if found.topology == "standalone":
        remedy = "works, but start mongod with --replSet: only then are interrupted writes retried"
        return CheckLine("mongodb", "warn", text, remedy)
    return CheckLine("mongodb", "ok", text)


def _write_line(found: Inspection) -> CheckLine:
    text = f"a majority-acknowledged write took {found.write_ms:.0f} ms"
    if found.write_ms > SLOW_WRITE_MS:
        return CheckLine("db write", "warn", text, "look at the load and the disk of MongoDB")
    return CheckLine("db write", "ok", text)


def _index_line(found: Inspection) -> CheckLine:
    version = found.schema_version
    if version is None:
        return CheckLine("indexes", "ok", "a new database: collections and indexes are created at the first start")
    if version > found.known_schema_version:
        text = f"the database has schema version {version}, this program knows {found.known_schema_version}"
        return CheckLine("indexes", "FAIL", text, "start the newer program, or set MONGODB_DATABASE to another name")
    if found.missing_indexes:
        shown = ", ".join(found.missing_indexes[:_SHOWN_INDEXES])
        more = len(found.missing_indexes) - _SHOWN_INDEXES
        text = f"missing: {shown}{f' and {more} more' if more > 0 else ''}"
        return CheckLine("indexes", "warn", text, "start the program once: it creates what is missing")
    return CheckLine("indexes", "ok", "complete")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
