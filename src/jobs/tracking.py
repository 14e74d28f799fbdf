"""Who is followed: the ``traders`` collection, and the running program's copy of it.

The collection is the truth. The command line and the HTTP interface write to it, the running program looks at it
every few seconds, so that a change takes effect without a restart whichever way it was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from src.jobs.following.planner import Profile
from src.jobs.stoppable import is_set_within
from src.models.clock import Clock
from src.models.errors import StoreError
from src.models.metrics import Metrics
from src.models.writes import Collection, Patch, Upsert, Write, WriteBatch
from src.pipeline.documents import to_date
from src.store.base import Query, Store
from src.store.counting import count_written

log = structlog.get_logger(__name__)

POLL_S = 2.0
LOOKS_EVERY_S = 30.0
_SOURCE_RANK = {"manual": 0, "settings": 1}


class Candidate(Struct, frozen=True):
    """Somebody worth following; ``score`` orders candidates of one source, higher first.

    ``tier`` (1 = the most wanted), ``tags`` and ``standing`` (what the leaderboard says) are stored with the trader.
    """

    address: str
    score: float | None = None
    tier: int | None = None
    tags: tuple[str, ...] = ()
    standing: Mapping[str, Any] | None = None


OnChange = Callable[[Sequence[str]], Awaitable[None]]
View = Callable[[str], Mapping[str, Any] | None]
"""How a trader is followed now, None when he is not; see `src.jobs.following.looks.Looks.view`."""


class TraderRegistry:
    """Reads and changes the ``traders`` collection; used by commands as well as by the running program."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics | None = None) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics or Metrics()

    async def enabled(self) -> list[str]:
        """Addresses followed, the most wanted first: by hand, from settings, then by score."""
        return [document["ethAddress"] for document in await self.followed()]

    async def followed(self) -> list[Mapping[str, Any]]:
        """Documents of the followed, in that order."""
        documents = [
            document async for document in self._store.find(Collection.TRADERS, Query(equals={"enabled": True}))
        ]
        return sorted(documents, key=_wanted)

    async def listed(self) -> list[Mapping[str, Any]]:
        """All documents, followed or not, by address."""
        query = Query(sort=(("ethAddress", False),))
        return [document async for document in self._store.find(Collection.TRADERS, query)]

    async def enable(self, candidates: Sequence[Candidate], *, source: str, tags: Sequence[str] = ()) -> int:
        """Follow these; returns how many were not followed before. Who is wanted by hand stays by hand."""
        known = await self._known([candidate.address for candidate in candidates])
        now = to_date(self._clock.wall_ms())
        writes: list[Upsert] = []
        taken_over: list[Upsert] = []
        for candidate in {candidate.address: candidate for candidate in candidates}.values():
            before = known.get(candidate.address, {})
            if before.get("enabled"):
                if source == "manual" and before.get("source") == "leaderboard":
                    taken_over.append(_upsert(candidate.address, before, {"source": source, "updatedAt": now}, {}))
                continue
            values = {
                "ethAddress": candidate.address,
                "enabled": True,
                "source": source,
                "score": candidate.score,
                "tags": sorted({*before.get("tags", ()), *tags, *candidate.tags}),
                "tier": candidate.tier,
                "leaderboard": candidate.standing,
                "removedBy": None,
                "mode": "live",
                "updatedAt": now,
            }
            on_insert = {"createdAt": now, "lastLookAt": None}
            writes.append(_upsert(candidate.address, before, values, on_insert))
        await self._write([*writes, *taken_over])
        return len(writes)

    async def disable(self, addresses: Sequence[str], *, by: str = "manual") -> int:
        """Stop following these; returns how many were followed. What was collected stays.

        ``by`` is who wants it: whom a person removed, the leaderboard does not bring back.
        """
        known = await self._known(addresses)
        now = to_date(self._clock.wall_ms())
        writes = [
            _upsert(address, before, {"enabled": False, "removedBy": by, "updatedAt": now}, {})
            for address, before in known.items()
            if before.get("enabled")
        ]
        await self._write(writes)
        return len(writes)

    async def note_standings(self, candidates: Sequence[Candidate], *, managed_tags: str) -> None:
        """Store score, tier and standing of traders who are followed; replaces their tags that begin so."""
        known = await self._known([candidate.address for candidate in candidates])
        writes: list[Upsert] = []
        for candidate in candidates:
            before = known.get(candidate.address, {})
            own = [tag for tag in before.get("tags") or () if not tag.startswith(managed_tags)]
            values: dict[str, Any] = {
                "score": candidate.score,
                "tier": candidate.tier,
                "tags": sorted({*own, *candidate.tags}),
                "leaderboard": candidate.standing,
            }
            if before.get("enabled") and any(before.get(name) != value for name, value in values.items()):
                values["updatedAt"] = to_date(self._clock.wall_ms())
                writes.append(_upsert(candidate.address, before, values, {}))
        await self._write(writes)

    async def note_looks(self, looks: Mapping[str, int]) -> None:
        """Store when each trader was last seen (address -> ms)."""
        patches = [
            Patch(Collection.TRADERS, address, {"lastLookAt": to_date(seen_ms)}) for address, seen_ms in looks.items()
        ]
        await self._write(patches)

    async def note_modes(self, modes: Mapping[str, tuple[str, float | None]]) -> None:
        """Store how each trader is followed now: mode, and the seconds within which the next look comes."""
        patches = [
            Patch(Collection.TRADERS, address, {"mode": mode, "lookWithinS": within_s})
            for address, (mode, within_s) in modes.items()
        ]
        await self._write(patches)

    async def _known(self, addresses: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        query = Query(one_of={"ethAddress": list(addresses)})
        return {document["ethAddress"]: document async for document in self._store.find(Collection.TRADERS, query)}

    async def _write(self, writes: Sequence[Write]) -> None:
        if writes:
            count_written(self._metrics, await self._store.write(WriteBatch(0, [writes])))


class Tracking:
    """The running program's side: notices changes, tells who is followed now. A `TraderControl` for the API."""

    def __init__(
        self,
        registry: TraderRegistry,
        *,
        clock: Clock,
        on_change: OnChange,
        looks: Callable[[], Mapping[str, int]],
        view: View = lambda _: None,
        poll_s: float = POLL_S,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._on_change = on_change
        self._looks = looks
        self._view = view
        self._noted_modes: dict[str, tuple[str, float | None]] = {}
        self.profiles: Mapping[str, Profile] = {}
        self._poll_s = poll_s
        self._changing = asyncio.Lock()
        self._noted_looks: dict[str, int] = {}
        self.addresses: tuple[str, ...] = ()
        self.is_active = True

    async def add(self, addresses: list[str], *, source: str, tags: list[str]) -> int:
        """Follow these; effective when this returns."""
        added = await self._registry.enable([Candidate(address) for address in addresses], source=source, tags=tags)
        await self.refresh()
        return added

    async def remove(self, addresses: list[str]) -> int:
        """Stop following these; effective when this returns."""
        removed = await self._registry.disable(addresses)
        await self.refresh()
        return removed

    def view(self, address: str) -> Mapping[str, Any] | None:
        """How this trader is followed now; see `Looks.view`."""
        return self._view(address)

    async def refresh(self) -> None:
        """Look at the collection and pass on what changed."""
        if not self.is_active:
            return
        async with self._changing:
            documents = await self._registry.followed()
            self.profiles = {document["ethAddress"]: profile_of(document) for document in documents}
            wanted = tuple(document["ethAddress"] for document in documents)
            if wanted != self.addresses:
                await self._on_change(wanted)
                self.addresses = wanted

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every few seconds, and note every half minute when each trader was last seen."""
        looks_due = self._clock.monotonic() + LOOKS_EVERY_S
        while not await is_set_within(stopping, self._poll_s):
            try:
                await self.refresh()
                if self._clock.monotonic() >= looks_due:
                    looks_due = self._clock.monotonic() + LOOKS_EVERY_S
                    await self._note_looks()
            except StoreError as error:  # MongoDB is away; the flush says so, here the next look will do
                log.debug("traders_not_read", error=str(error))

    async def _note_looks(self) -> None:
        looks = {address: seen for address, seen in self._looks().items() if self._noted_looks.get(address) != seen}
        await self._registry.note_looks(looks)
        self._noted_looks.update(looks)
        views = {address: self._view(address) for address in self.addresses}
        modes = {address: (told["mode"], told["lookWithinS"]) for address, told in views.items() if told is not None}
        changed = {address: mode for address, mode in modes.items() if self._noted_modes.get(address) != mode}
        await self._registry.note_modes(changed)
        self._noted_modes = modes


async def seed(registry: TraderRegistry, configured: Sequence[str]) -> None:
    """Make the configured traders followed; those that only an earlier configuration named are let go."""
    stale = [
        document["ethAddress"]
        for document in await registry.listed()
        if document.get("source") == "settings" and document["enabled"] and document["ethAddress"] not in configured
    ]
    if configured and stale:
        await registry.disable(stale, by="settings")
        log.info("traders_no_longer_configured", addresses=stale)
    await registry.enable([Candidate(address) for address in configured], source="settings")


def profile_of(document: Mapping[str, Any]) -> Profile:
    """What speaks for a trader, as stored."""
    tier, score = document.get("tier"), document.get("score")
    return Profile(
        manual=document.get("source") in _SOURCE_RANK,
        tier=tier if isinstance(tier, int) else None,
        score=float(score) if isinstance(score, int | float) else None,
    )


def _upsert(
    address: str, before: Mapping[str, Any], values: Mapping[str, Any], on_insert: Mapping[str, Any]
) -> Upsert:
    revision = int(before.get("revision", 0)) + 1
    return Upsert(Collection.TRADERS, address, "revision", revision, {**values, "revision": revision}, on_insert)


def _wanted(document: Mapping[str, Any]) -> tuple[int, float, str]:
    score = document.get("score")
    rank = _SOURCE_RANK.get(document.get("source", ""), 2)
    return rank, -(score if isinstance(score, int | float) else 0.0), document["ethAddress"]
