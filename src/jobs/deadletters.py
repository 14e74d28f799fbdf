"""Dead letters: what could not be used, looked at and tried again by hand; never by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from src.jobs.recordings.recorded_frames import RecordedFrame
from src.jobs.recordings.replay import Replay
from src.models.clock import Clock
from src.models.errors import ConfigurationError, StoreError, WireError
from src.models.writes import Collection, Patch, Write, WriteBatch
from src.pipeline.documents import to_date, to_ms
from src.pipeline.kept_writes import unpack_write
from src.store.base import Query, Scalar, Store
from src.venues.feed import Feed

DECODE, STORE = "decode", "store"
ERROR_CHARS = 500

Outcome = Literal["stored", "outdated", "not kept", "failed", "cannot be tried"]
DONE: frozenset[Outcome] = frozenset({"stored", "outdated", "not kept"})


class Letter(Struct, frozen=True):
    """One stored dead letter; ``payload`` is empty when too little was kept to try again."""

    id: str
    received: datetime
    venue: str
    stage: str
    reason: str
    detail: str
    sample: str
    size_bytes: int
    payload: bytes
    attempts: int
    last_error: str


class Tried(Struct, frozen=True):
    """What became of one letter; ``error`` says why it is still there."""

    letter: Letter
    outcome: Outcome
    error: str = ""


class DeadLetters:
    """Reads and retries the unresolved ones; resolved ones stay, marked, until they expire."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def listed(
        self,
        *,
        reason: str | None = None,
        identities: Sequence[str] | None = None,
        limit: int | None = None,
        oldest_first: bool = False,
    ) -> list[Letter]:
        """Unresolved letters, the newest first.

        Args:
            reason: only those with this reason.
            identities: only these.
            limit: at most so many.
            oldest_first: the other way round.
        """
        equals: dict[str, Scalar] = {"resolved": None}
        if reason is not None:
            equals["reason"] = reason
        query = Query(
            equals=equals,
            one_of={} if identities is None else {"_id": list(identities)},
            sort=(("receivedAt", not oldest_first),),
            limit=limit,
        )
        return [_letter(document) async for document in self._store.find(Collection.DEAD_LETTERS, query)]

    async def chosen(self, *, reason: str | None, identities: Sequence[str]) -> list[Letter]:
        """Letters to try again, the oldest first.

        Raises:
            ConfigurationError: one of the ids is not that of an unresolved letter.
        """
        letters = await self.listed(reason=reason, identities=identities or None, oldest_first=True)
        missing = sorted(set(identities) - {letter.id for letter in letters})
        if missing:
            raise ConfigurationError(f"no unresolved dead letter with this id: {', '.join(missing)}")
        return letters

    async def retry_write(self, letter: Letter) -> Tried:
        """Offer the write of a ``store`` letter again; harmless beside a running collector.

        Raises:
            StoreError: MongoDB is away; nothing was noted.
        """
        try:
            write = unpack_write(letter.payload)
        except ValueError as error:
            return Tried(letter, "cannot be tried", str(error) if letter.payload else _not_kept(letter))
        if await self._is_outdated(write):
            return await self._note(Tried(letter, "outdated"))
        result = await self._store.write(WriteBatch(0, [[write]]))
        if result.rejected:
            rejected = result.rejected[0]
            return await self._note(Tried(letter, "failed", f"{rejected.reason}: {rejected.detail}"))
        return await self._note(Tried(letter, "stored"))

    async def retry_frame(self, letter: Letter, feed: Feed, replay: Replay) -> Tried:
        """Feed the frame of a ``decode`` letter through mapper and pipeline; only for the one writer.

        Raises:
            StoreError: MongoDB is away; nothing was noted.
        """
        if not letter.payload or letter.venue != feed.venue:
            why = _not_kept(letter) if not letter.payload else f"no such venue: {letter.venue}"
            return Tried(letter, "cannot be tried", why)
        recv_ms = to_ms(letter.received)
        assert recv_ms is not None
        try:
            feed.decode(letter.payload, recv_ms)  # looked at first: a second failure must not make a second letter
        except WireError as error:
            return await self._note(Tried(letter, "failed", str(error)))
        except Exception as error:  # noqa: BLE001 - a fault in a mapper, as at the first time, is what letters are for
            return await self._note(Tried(letter, "failed", f"{type(error).__name__}: {error}"))
        before = replay.dead_letters()
        result = await replay.run([RecordedFrame(recv_ms, letter.venue, letter.payload)])
        if result.rejected or replay.dead_letters() > before:
            return await self._note(Tried(letter, "failed", "put aside again, see the newer dead letter"))
        outcome: Outcome = "stored" if result.data else "outdated" if result.older_than_stored else "not kept"
        return await self._note(Tried(letter, outcome))

    async def _note(self, tried: Tried) -> Tried:
        now = to_date(self._clock.wall_ms())
        values: dict[str, Any] = {"attempts": tried.letter.attempts + 1, "retriedAt": now}
        if tried.outcome in DONE:
            values |= {"resolved": True, "outcome": tried.outcome}
        else:
            text = tried.error[:ERROR_CHARS].encode("utf-8", "backslashreplace").decode()
            values["lastError"] = text.replace("\0", " ")
        result = await self._store.write(WriteBatch(0, [[Patch(Collection.DEAD_LETTERS, tried.letter.id, values)]]))
        if result.rejected:
            raise StoreError(f"the dead letter {tried.letter.id} could not be marked: {result.rejected[0].detail}")
        return tried

    async def _is_outdated(self, write: Write) -> bool:
        """A patch has no version: one that is older than the document must not be applied to it any more."""
        ours = write.values.get("receivedAt") if isinstance(write, Patch) else None
        if not isinstance(write, Patch) or not isinstance(ours, datetime):
            return False
        query = Query(equals={"_id": write.id}, fields=("receivedAt",), limit=1)
        async for document in self._store.find(write.collection, query):
            stored = document.get("receivedAt")
            return isinstance(stored, datetime) and stored > ours
        return False


def _letter(document: Mapping[str, Any]) -> Letter:
    return Letter(
        id=str(document["_id"]),
        received=document["receivedAt"],
        venue=str(document.get("venue") or ""),
        stage=str(document.get("stage") or ""),
        reason=str(document.get("reason") or ""),
        detail=str(document.get("detail") or ""),
        sample=str(document.get("sample") or ""),
        size_bytes=int(document.get("sizeBytes") or 0),
        payload=bytes(document.get("payload") or b""),
        attempts=int(document.get("attempts") or 0),
        last_error=str(document.get("lastError") or ""),
    )


def _not_kept(letter: Letter) -> str:
    return f"only a sample of its {letter.size_bytes} bytes was kept"
