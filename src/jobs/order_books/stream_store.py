"""Where order-book sessions are kept: the collection ``streams``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from src.jobs.order_books.stream_sessions import Session, SessionState, from_document, session_write
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.metrics import Metrics
from src.models.writes import Collection, WriteBatch
from src.store.base import Query, Store
from src.store.counting import count_written

ANSWER_WITHIN_S = 3.0

_log = structlog.get_logger(__name__)


class KeptSessions:
    """Reads and writes sessions; an outage of the database is an answer, not an error."""

    def __init__(self, store: Store, *, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._seq = 0

    async def read(self, most_stopped: int) -> list[Session] | None:
        """The sessions to go on with and the last stopped ones; None while the database is away.

        Raises:
            StoreFatalError: the database refuses for good.
        """
        to_resume = Query(one_of={"status": [SessionState.RUNNING.value, SessionState.INTERRUPTED.value]})
        stopped = Query(equals={"status": SessionState.STOPPED.value}, sort=[("stoppedAt", True)], limit=most_stopped)
        found = []
        try:
            for query in (to_resume, stopped):
                async for document in self._store.find(Collection.STREAMS, query):
                    session = from_document(document)
                    if session is None:
                        _log.warning("stream_not_understood", id=str(document.get("_id"))[:64])
                    else:
                        found.append(session)
        except StoreError as error:
            if not error.retryable:
                raise
            _log.warning("streams_not_read", error=str(error))
            return None
        return found

    async def write(self, sessions: Sequence[Session]) -> bool:
        """Store these; False when the database does not take them now.

        Raises:
            StoreFatalError: the database refuses for good.
        """
        if not sessions:
            return True
        now_ms = self._clock.wall_ms()
        writes = [session_write(session, now_ms) for session in sessions]
        self._seq += 1
        try:
            result = await self._store.write(WriteBatch(self._seq, [writes]))
        except StoreError as error:
            if not error.retryable:
                raise
            _log.debug("streams_stored_later", error=str(error))
            return False
        count_written(self._metrics, result)
        for rejected in result.rejected:
            _log.error("stream_rejected", reason=rejected.reason, detail=rejected.detail)
        return True

    async def has(self, session_id: str) -> bool:
        """Whether a session of this id was ever stored.

        Raises:
            StoreError: the database does not answer in time.
        """
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._store.count(Collection.STREAMS, Query(equals={"_id": session_id}, limit=1)) > 0
        except TimeoutError:
            raise StoreError("MongoDB did not answer in time") from None
