"""What live clients want, told to the venues' sources, and how the venues answer.

The shell around `src.pipeline.demand.Demand`: it hands each source the symbols of its venue, asks how they stand, and
tells when that changes. Configuration, order-book sessions and clients of the gateway hold topics in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from src.models.changes import Change
from src.models.clock import Clock
from src.models.live import ACCEPTED, CLIENT_HOLDER, Standing, Topic, by_topic
from src.pipeline.demand import Demand

WAITING_EVERY_S = 0.05
"""While a client waits for a venue's answer, how often that is looked for."""

SETTLED_EVERY_S = 1.0
SHOWN_WAITING = 20


class LiveSource(Protocol):
    """What a source of one venue does for live clients. Every method returns at once."""

    @property
    def venue(self) -> str:
        """Name of the venue, the first part of its stream keys."""

    @property
    def is_connected(self) -> bool:
        """Whether the venue can be heard now."""

    def want(self, kinds_by_symbol: Mapping[str, frozenset[str]], /) -> None:
        """Collect these besides what is configured: symbol (or address, or ``*``) -> kinds of topics."""

    def standing(self, kind: str, symbol: str, /) -> Standing:
        """How one of them stands with the venue now."""


class Live:
    """Implements `src.models.live.Upstream`.

    Attributes:
        on_change: told of each topic whose standing changed.
        on_released: told of each topic that nobody wants any more.
        on_demand: told that something became wanted.
        remote: how a topic stands with another process that collects its venue, None when none does.
        remote_connected: which venues other processes collect, and whether they hear them.

    Args:
        demand: who wants what.
        sources: the venues collected here.
        clock: for the grace period.
        is_collecting: whether the sources of this process run now; else others may collect.
    """

    def __init__(
        self,
        *,
        demand: Demand,
        sources: Iterable[LiveSource],
        clock: Clock,
        is_collecting: Callable[[], bool] = lambda: True,
    ) -> None:
        self.on_change: Callable[[Topic], None] = lambda _: None
        self.on_released: Callable[[Topic], None] = lambda _: None
        self.on_demand: Callable[[], None] = lambda: None
        self.remote: Callable[[Topic], Standing | None] = lambda _: None
        self.remote_connected: Callable[[], Mapping[str, bool]] = dict
        self._demand = demand
        self._sources = {source.venue: source for source in sources}
        self._clock = clock
        self._is_collecting = is_collecting
        self._told: dict[Topic, Standing] = {}
        self._waiting: dict[Topic, None] = {}
        self._heard: set[Topic] = set()
        self._to_tell: dict[str, None] = {}
        self._woken = asyncio.Event()

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._demand

    # -- Upstream --------------------------------------------------------------------------------------------------

    def hold(self, holder: str, topic: Topic) -> Standing:
        """See `src.models.live.Upstream`. Beyond the bound on topics nothing is asked for on behalf of clients."""
        if holder.startswith(CLIENT_HOLDER) and not self._demand.has_room(topic):
            return self.standing(topic)
        if self._demand.hold(holder, topic):
            self._to_tell[topic.venue] = None
            self._woken.set()
            self.on_demand()
        standing = self._told[topic] = self.standing(topic)
        if standing.state == "wanted":
            self._waiting[topic] = None
            self._woken.set()
        return standing

    def release(self, holder: str, topic: Topic) -> None:
        """See `src.models.live.Upstream`."""
        self._demand.release(holder, topic, self._clock.monotonic())

    def standing(self, topic: Topic) -> Standing:
        """See `src.models.live.Upstream`. Data that arrives proves acceptance, whatever else is said."""
        if not self._demand.has_room(topic):
            return Standing("refused", "limit", "the limit on symbols of all clients together is reached")
        if not self._is_collecting() and topic.kind != "status" and topic not in self._heard:
            remote = self.remote(topic)
            if remote is not None:
                return remote
        return self.own_standing(topic)

    def connected(self) -> Mapping[str, bool]:
        """See `src.models.live.Upstream`."""
        own = self.own_connected()
        return own if self._is_collecting() else {**own, **self.remote_connected()}

    # -- other holders ---------------------------------------------------------------------------------------------

    def keep(self, holder: str, topics: Iterable[Topic]) -> None:
        """Let ``holder`` (a session, the configuration, other processes) hold exactly these."""
        wanted = set(topics)
        self._demand.keep(holder, [topic for topic in wanted if topic in self._demand], self._clock.monotonic())
        for topic in wanted:
            self.hold(holder, topic)

    def leave(self, holder: str) -> None:
        """Release everything of ``holder``."""
        self._demand.leave(holder, self._clock.monotonic())

    @property
    def topics(self) -> list[Topic]:
        """Everything wanted now."""
        return list(self._demand.topics)

    def topics_held_besides(self, holder: str) -> list[Topic]:
        """Everything that somebody else than ``holder`` wants now."""
        return [topic for topic in self._demand.topics if self._demand.is_held_besides(holder, topic)]

    def own_standing(self, topic: Topic) -> Standing:
        """How a topic stands with this process alone."""
        if topic.kind == "status" or topic in self._heard:
            return ACCEPTED
        source = self._sources.get(topic.venue)
        if source is None:
            return Standing("refused", "no_source", f"{topic.venue} is not collected here")
        return source.standing(topic.kind, topic.subject)

    def own_connected(self) -> dict[str, bool]:
        """Which venues this process hears now."""
        return {venue: source.is_connected for venue, source in self._sources.items()}

    # -- life ------------------------------------------------------------------------------------------------------

    def heard(self, changes: Sequence[Change]) -> None:
        """Listen to the hub: what arrives is accepted."""
        for topic in by_topic(changes):
            told = self._told.get(topic)
            if told is not None and told.state != "accepted" and topic not in self._heard:
                self._heard.add(topic)
                self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Tell sources what is wanted, and holders how it stands, until ``stopping``."""
        while not stopping.is_set():
            self.look()
            pause_s = WAITING_EVERY_S if self._waiting else SETTLED_EVERY_S
            await _either(self._woken, stopping, pause_s)
            self._woken.clear()

    def look(self) -> None:
        """Release what nobody wants any more, tell sources what is wanted now, tell how it stands."""
        released = self._demand.expire(self._clock.monotonic())
        for topic in released:
            self._told.pop(topic, None)
            self._waiting.pop(topic, None)
            self._heard.discard(topic)
            self.on_released(topic)
        self._tell_sources({topic.venue for topic in released})
        for topic in list(self._told):
            self.notice(topic)

    def notice(self, topic: Topic) -> None:
        """Look how a topic stands, and tell when that is news."""
        standing = self.standing(topic)
        if standing == self._told.get(topic, standing):
            return
        self._told[topic] = standing
        if standing.state == "wanted":
            self._waiting[topic] = None
        else:
            self._waiting.pop(topic, None)
        self.on_change(topic)

    def stats(self) -> dict[str, Any]:
        """What is wanted, for ``/stats``."""
        return {
            "topics": len(self._demand),
            "waiting": [str(topic) for topic in list(self._waiting)[:SHOWN_WAITING]],
        }

    def _tell_sources(self, venues: set[str]) -> None:
        venues |= self._to_tell.keys()
        self._to_tell.clear()
        if not venues:
            return
        wanted = self._demand.wanted()
        for venue in venues:
            source = self._sources.get(venue)
            if source is not None:
                source.want(wanted.get(venue, {}))


async def _either(one: asyncio.Event, other: asyncio.Event, timeout_s: float) -> None:
    """Return when one of two events is set, or after a while."""
    waits = {asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())}
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
