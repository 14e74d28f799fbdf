"""The store on a real MongoDB. With its neighbours in this folder the only user of the driver (motor)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC
from typing import Any

import pymongo
import structlog
from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from msgspec import Struct
from pymongo.errors import BulkWriteError, ConfigurationError, OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

from src.models.errors import StoreError, StoreFatalError
from src.models.writes import Collection, Rejected, Upsert, Write, WriteBatch, WriteResult
from src.store import bulk
from src.store.base import Query, ServerFacts
from src.store.bulk import EnvironmentTroubleError
from src.store.driver_errors import store_error
from src.store.migrations import apply_schema
from src.store.schema import check_keep_days
from src.store.selection import mongo_filter, mongo_projection, mongo_sort
from src.store.tally import Tally
from src.store.uri import mask_uri

APP_NAME = "market-collector"
DEFAULT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
PREPARE_TIMEOUT_S = 600.0
"""Building an index over a large collection takes minutes; everything else has the timeout per operation."""

PARALLEL_BULKS = 2
"""While the server works on one bulk the next one is encoded. More gains nothing: measured with 1, 2 and 3."""

ENCODE_SLICE = 100
"""Writes encoded before the event loop has its turn: about a millisecond."""

FIND_BATCH_DOCUMENTS = 500

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Database = AsyncIOMotorDatabase[Document]

_log = structlog.get_logger(__name__)


def open_client(uri: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Client:
    """A client with this program's options; nothing is sent yet. The caller closes it with `close_client`.

    Raises:
        StoreFatalError: the connection string is wrong; the text has no password in it.
    """
    timeout_ms = max(1, round(timeout_s * 1000))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # how the driver speaks of options it does not understand
            return AsyncIOMotorClient(
                uri,
                appname=APP_NAME,
                tz_aware=True,
                tzinfo=UTC,
                retryWrites=True,  # the driver leaves it out on a standalone server
                timeoutMS=timeout_ms,
                serverSelectionTimeoutMS=timeout_ms,
                connectTimeoutMS=timeout_ms,  # closing waits for a look at a frozen server to end
            )
    except (ConfigurationError, ValueError, TypeError, UserWarning) as error:
        secret_free = type(error).__name__ if "@" in str(error) else str(error)
        raise StoreFatalError(f"MONGODB_URI {mask_uri(uri)!r} is not a connection string: {secret_free}") from None


async def close_client(client: Client) -> None:
    """Close without holding the event loop; what a frozen server delays is left to a thread that nobody waits for."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def close() -> None:
        client.close()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, name="mongodb-close", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), CLOSE_TIMEOUT_S)


class MongoStore:
    """`src.store.base.Store` on MongoDB: majority and journaled writes, an explicit timeout for every operation."""

    def __init__(
        self,
        uri: str,
        database: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        keep_days: Mapping[Collection, int] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            uri: connection string; only its masked form is ever shown.
            database: name of the database.
            timeout_s: longest time one operation may take.
            keep_days: days after which documents expire, for collections that can (order book history, dead
                letters, events); 0 or missing = for ever.

        Raises:
            StoreFatalError: the connection string or the name of the database is wrong.
        """
        self._keep_days = dict(keep_days or {})
        check_keep_days(self._keep_days)
        self._uri = uri
        self._client = open_client(uri, timeout_s=timeout_s)
        try:
            self._database: Database = self._client.get_database(
                database,
                codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
                write_concern=WriteConcern(w="majority", j=True),
            )
        except PyMongoError as error:
            raise StoreFatalError(f"MONGODB_DATABASE {database!r} is not a name for a database: {error}") from error
        self._unfinished: _Progress | None = None
        self._closed = False

    async def prepare(self) -> ServerFacts:
        """Create what is missing and check the schema; see `Store.prepare`."""
        try:
            hello = await self._client.admin.command("hello")
            version = str((await self._client.admin.command("buildInfo"))["version"])
            with pymongo.timeout(PREPARE_TIMEOUT_S):
                await apply_schema(self._database, self._keep_days)
        except PyMongoError as error:
            raise store_error(error, "preparing the database", at_start=True) from error
        facts = ServerFacts(mask_uri(self._uri), version, _topology(hello), self._database.name)
        if facts.topology == "standalone":
            _log.warning(
                "standalone_mongodb",
                uri=facts.uri,
                effect="writes are not retried by the driver and change streams do not exist",
                remedy="start mongod with --replSet, also with a single node",
            )
        return facts

    async def write(self, batch: WriteBatch) -> WriteResult:
        """Store a batch; see `Store.write`.

        After a `StoreError` the same batch object may be offered again: what was acknowledged is not sent twice.
        """
        progress = self._unfinished
        if progress is None or progress.batch is not batch:
            progress = _Progress(batch, Tally())
        self._unfinished = progress
        for number, group in enumerate(batch.groups):
            if number >= progress.groups_done:
                await self._write_group(group, progress)
                progress.groups_done, progress.chunks_done = number + 1, set()
        self._unfinished = None
        return progress.tally.result()

    async def find(self, collection: Collection, query: Query) -> AsyncIterator[Mapping[str, Any]]:
        """Documents that match, streamed; see `Store.find`.

        Raises:
            ValueError: a field name of the query could be read as an operator.
            StoreError: MongoDB is away.
        """
        if query.limit is not None and query.limit <= 0:
            return
        cursor = self._collection(collection).find(
            mongo_filter(query), mongo_projection(query), limit=query.limit or 0, batch_size=FIND_BATCH_DOCUMENTS
        )
        if query.sort:
            cursor = cursor.sort(mongo_sort(query)).allow_disk_use(allow_disk_use=True)
        try:
            async for document in cursor:
                yield document
        except PyMongoError as error:
            raise store_error(error, f"reading {collection.value}") from error
        finally:
            await cursor.close()

    async def count(self, collection: Collection, query: Query) -> int:
        """How many documents match, counted exactly; on large collections only quick where an index fits."""
        try:
            return await self._collection(collection).count_documents(mongo_filter(query))
        except PyMongoError as error:
            raise store_error(error, f"counting {collection.value}") from error

    async def ping(self) -> float:
        """Round trip in milliseconds; see `Store.ping`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            await self._client.admin.command("ping")
        except PyMongoError as error:
            raise store_error(error, "ping") from error
        return (loop.time() - started) * 1000.0

    async def close(self) -> None:
        """Let go of all connections; safe to repeat."""
        if not self._closed:
            self._closed = True
            await close_client(self._client)

    def _collection(self, collection: Collection) -> AsyncIOMotorCollection[Document]:
        return self._database[collection.value]

    async def _write_group(self, group: Sequence[Write], progress: _Progress) -> None:
        """Store the chunks of a group, a few at a time; the first failure lets those under way finish."""
        todo = [
            chunk
            for chunk in enumerate(bulk.chunks(group, parallel=PARALLEL_BULKS))
            if chunk[0] not in progress.chunks_done
        ]
        chunks = iter(todo)  # one iterator for all workers: each chunk is taken once
        failures: list[StoreError] = []

        async def work() -> None:
            for number, chunk in chunks:
                try:
                    await self._write_chunk(chunk, progress.tally)
                except StoreError as error:
                    failures.append(error)
                else:
                    progress.chunks_done.add(number)
                if failures:
                    return

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(PARALLEL_BULKS, len(todo))):
                workers.create_task(work())
        if failures:
            raise min(failures, key=lambda failure: failure.retryable)

    async def _write_chunk(self, chunk: Sequence[Write], tally: Tally) -> None:
        """Store at most 500 writes of one collection; counts only when all of them have been answered."""
        collection = chunk[0].collection
        encoded: list[bulk.Encoded | Rejected] = []
        for start in range(0, len(chunk), ENCODE_SLICE):
            if start:
                await asyncio.sleep(0)
            encoded.extend(bulk.encode(write) for write in chunk[start : start + ENCODE_SLICE])
        good = [item for item in encoded if isinstance(item, bulk.Encoded)]
        answers = [await self._send(collection, part) for part in bulk.slices(good)]
        contested = [write for answer in answers for write in answer.contested]
        if contested:
            answers.append(await self._look_again(collection, contested))
        for answer in answers:
            tally.add(collection, inserted=answer.inserted, modified=answer.modified, repeated=answer.repeated)
            for rejected in answer.rejected:
                tally.reject(rejected)
        for item in encoded:
            if isinstance(item, Rejected):
                tally.reject(item)

    async def _look_again(self, collection: Collection, contested: list[Upsert]) -> bulk.BulkAnswer:
        """Settle upserts that met an existing document: with the same or a newer version nothing happens."""
        return await self._send(
            collection, [bulk.Encoded(write, bulk.without_insert(write), 0) for write in contested]
        )

    async def _send(self, collection: Collection, items: Sequence[bulk.Encoded]) -> bulk.BulkAnswer:
        """One bulk. A bulk refused as a whole for its content is halved until the guilty document stands alone."""
        try:
            details = await self._bulk_write(collection, [item.operation for item in items])
            return bulk.read_answer([item.write for item in items], details)
        except OperationFailure as error:
            if error.code not in bulk.REFUSED_WHOLE_CODES or error.has_error_label("RetryableWriteError"):
                raise store_error(error, f"writing {collection.value}") from error
            if len(items) == 1:
                return bulk.BulkAnswer(0, 0, 0, [bulk.rejection(items[0].write, error.code, str(error))], [])
        except (PyMongoError, EnvironmentTroubleError) as error:
            raise store_error(error, f"writing {collection.value}") from error
        middle = len(items) // 2
        first = await self._send(collection, items[:middle])
        second = await self._send(collection, items[middle:])
        return first.merged(second)

    async def _bulk_write(self, collection: Collection, operations: list[bulk.Operation]) -> Mapping[str, Any]:
        try:
            result = await self._collection(collection).bulk_write(operations, ordered=False)
        except BulkWriteError as error:
            return error.details
        return result.bulk_api_result


class _Progress(Struct):
    """How far a batch has come; kept after a failure so that its repetition goes on from there."""

    batch: WriteBatch
    tally: Tally
    groups_done: int = 0
    chunks_done: set[int] = set()


def _topology(hello: Mapping[str, Any]) -> str:
    if hello.get("msg") == "isdbgrid":
        return "sharded"
    return "replica set" if "setName" in hello else "standalone"
