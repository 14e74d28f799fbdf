"""Opening what a program needs from its machine: the database, embedded or not, and the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import structlog

from src.config import Settings
from src.models.errors import ConfigurationError
from src.models.writes import Collection
from src.pipeline.journal import Journal
from src.store.embedded import EmbeddedServer, open_embedded
from src.store.lockfile import DataDirectoryLock
from src.store.mongo import MongoStore

log = structlog.get_logger(__name__)

JOURNAL_DIRECTORY = "journal"


@asynccontextmanager
async def open_database(
    settings: Settings, *, shared: bool
) -> AsyncIterator[tuple[MongoStore, EmbeddedServer | None]]:
    """The store the settings ask for, not prepared yet; an embedded server lives as long as the block.

    Args:
        settings: where to write.
        shared: join the embedded server of a running program instead of insisting on the data directory.

    Raises:
        DataDirectoryBusyError: another program runs on this data directory (and ``shared`` is False).
        EmbeddedServerError: there is no mongod for this machine, or it does not start.
    """
    keep_days = {
        Collection.ORDERBOOK_SNAPSHOTS: settings.orderbook_snapshot_days,
        Collection.DEAD_LETTERS: settings.dead_letter_days,
        Collection.LEADERBOARD_HISTORY: settings.hyperliquid_leaderboard_days,
    }
    async with AsyncExitStack() as stack:
        embedded: EmbeddedServer | None = None
        uri = settings.mongodb_uri.get_secret_value()
        if not uri:
            embedded = await stack.enter_async_context(
                open_embedded(settings.data_dir, cache_gib=settings.mongodb_cache_gb, shared=shared)
            )
            uri = embedded.uri
        elif not shared:
            stack.enter_context(DataDirectoryLock(settings.data_dir))
        store = MongoStore(uri, settings.mongodb_database, timeout_s=settings.mongodb_timeout_s, keep_days=keep_days)
        stack.push_async_callback(store.close)
        yield store, embedded


@contextmanager
def open_journal(settings: Settings) -> Iterator[Journal | None]:
    """The journal below ``DATA_DIR``, None when it is switched off. The data directory must be locked already.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    if not settings.journal_enabled:
        yield None
        return
    directory = settings.data_dir / JOURNAL_DIRECTORY
    journal = Journal(
        directory, limit_bytes=settings.journal_limit_mb * 1024 * 1024, sync_always=settings.journal_fsync_s == 0
    )
    try:
        journal.open()
    except OSError as error:
        raise ConfigurationError(
            f"the journal in {directory} cannot be used: {error}; free space there, make it writable, "
            "or set JOURNAL_ENABLED=false"
        ) from error
    try:
        yield journal
    finally:
        try:
            journal.close()
        except OSError as error:
            log.error("journal_not_closed", error=str(error))  # noqa: TRY400 - no trace needed
