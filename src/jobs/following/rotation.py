"""Slots that go round: subscribe one trader's feeds, wait for the first whole state of each, let him go, next.

Where the venue frees a user only with the end of the connection, a batch of traders is looked at on one connection,
which is closed and opened anew for the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from src.jobs.following.looks import Looks
from src.jobs.following.past_looks import PastLooks
from src.jobs.following.planner import LOOK_DEADLINE_S, Turn
from src.jobs.following.rings import Carousel
from src.jobs.stoppable import is_set_within
from src.models.changes import DeadLetter
from src.models.clock import Clock
from src.models.messages import Data, Gap, Refusal, RefusalKind
from src.models.streams import StreamKey, Subscription
from src.venues.feed import Sink
from src.venues.pool import Pool

STEP_S = 0.03
IDLE_S = 0.5
SMOOTHING = 0.1
CAUTION = 2.0
"""A look is planned to take its mean and this many mean deviations."""

REFUSED_PAUSE_S = 1.0
REFUSED_PAUSE_MOST_S = 30.0
"""After a look was refused for want of a user's slot (whoever holds it may just be leaving); doubles with each."""

NO_BOUND_S = 86_400.0
"""What stands in for a promise where none can be made."""


class _Look(Struct):
    """A look under way: its streams, those of them it only takes along, and those that have not told anything."""

    began: float
    keys: frozenset[StreamKey]
    along: frozenset[StreamKey]
    missing: set[StreamKey]


class Rotation:
    """Looks at the traders of one ring through one pool of its own. ``sink`` is where that pool has to deliver.

    Attributes:
        by_connection: users are freed with their connection; may be changed at any time.
        let_go: traders unsubscribed so far.
    """

    def __init__(
        self,
        *,
        subscriptions: Callable[[str], Sequence[Subscription]],
        looks: Looks,
        clock: Clock,
        sink: Sink,
        past: PastLooks,
        has_room: Callable[[str], bool],
        on_refused: Callable[[Refusal, tuple[Subscription, ...]], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._looks = looks
        self._clock = clock
        self._sink = sink
        self._past = past
        self._has_room = has_room
        self._on_refused = on_refused
        self._carousel = Carousel()
        self._batch = 0
        self._under_way: dict[str, _Look] = {}
        self._finished: dict[str, frozenset[StreamKey]] = {}
        self._next_at = float("-inf")
        self._batch_began = float("-inf")
        self._news = asyncio.Event()
        self._mean_s, self._deviation_s = 0.5, 0.25
        self._refused_pause_s = REFUSED_PAUSE_S
        self._occupied_s, self._held, self._counted_at = 0.0, 0, clock.monotonic()
        self._pool: Pool | None = None
        self.by_connection = False
        self.let_go = 0

    @property
    def look_s(self) -> float:
        """How long a look occupies a slot, cautiously."""
        return min(2 * LOOK_DEADLINE_S, self._mean_s + CAUTION * self._deviation_s)

    @property
    def under_way(self) -> int:
        """Looks that are under way."""
        return len(self._under_way)

    def use(self, pool: Pool) -> None:
        """The pool that carries the looks; its sink is this object."""
        self._pool = pool

    @property
    def has_gone_round(self) -> bool:
        """Whether everybody had a turn since the ring was replaced."""
        return self._carousel.has_gone_round(self._clock.monotonic())

    def follow(self, turn: Turn) -> None:
        """Look at these from now on, in this order and at this pace."""
        self._carousel.replace(turn.ring, turn.spacing_s, self._clock.monotonic())
        self._batch = turn.batch
        for trader in [trader for trader in self._under_way if trader not in self._carousel]:
            self._drop(trader)
        self._news.set()

    def pause(self, seconds: float) -> None:
        """Begin no look for so long: somebody else needs the slots now."""
        self._next_at = max(self._next_at, self._clock.monotonic() + seconds)

    def hurry(self, trader: str) -> None:
        """Look at ``trader`` sooner than the order says."""
        self._carousel.hurry(trader)

    def looks_at(self, trader: str) -> bool:
        """Whether this trader has turns."""
        return trader in self._carousel

    async def run(self, closing: asyncio.Event) -> None:
        """Go round until ``closing``."""
        while not closing.is_set():
            self.step()
            await is_set_within(self._news, self._pause_s())
            self._news.clear()

    def _pause_s(self) -> float:
        """How long nothing can be due; what arrives meanwhile wakes us."""
        if self._under_way or self._held or self._finished:
            return STEP_S
        if not len(self._carousel):
            return IDLE_S
        return min(IDLE_S, max(STEP_S, self._next_at - self._clock.monotonic()))

    def step(self) -> None:
        """Do what is due now."""
        assert self._pool is not None, "a rotation needs its pool"
        self._pool.settle()
        self._count_occupation(self._pool)
        self._expire()
        if self.by_connection:
            self._step_batches(self._pool)
        else:
            self._step_slots(self._pool)

    # -- Sink of the pool ------------------------------------------------------------------------------------------

    def data(self, data: Data) -> None:
        """A frame of a look: hand it on with what is promised, and see whether the look is whole now."""
        trader = data.stream.subject
        look = self._under_way.get(trader)
        if look is None or trader not in self._looks:
            return
        if data.stream not in look.along:
            assignment = self._looks[trader].assignment
            within_s = assignment.within_s if assignment is not None else None
            self._looks.saw(data)
            self._sink.data(structs.replace(data, within_s=NO_BOUND_S if within_s is None else within_s))
        elif not self._past.took(data):
            return
        look.missing.discard(data.stream)
        if not look.missing:
            self._complete(trader)

    def gap(self, gap: Gap) -> None:
        """Between two looks nothing is seen anyway; a look that is cut runs into its deadline."""

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """Looks that were refused end; why is for the owner to judge."""
        if refusal.kind is RefusalKind.UNKNOWN_TYPE:
            for subscription in failed:
                self._past.unknown(subscription.key.channel)
        for trader in {subscription.user for subscription in failed} - {None}:
            if trader in self._under_way:
                self._looks.failed("rotation", "refused")
                self._drop(trader)
                self._carousel.hurry(trader)
        if refusal.kind is RefusalKind.USER_CAP:
            self.pause(self._refused_pause_s)
            self._refused_pause_s = min(2 * self._refused_pause_s, REFUSED_PAUSE_MOST_S)
        self._on_refused(refusal, failed)

    def rejected(self, letter: DeadLetter) -> None:
        """As from any other connection."""
        self._sink.rejected(letter)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _step_slots(self, pool: Pool) -> None:
        now, spacing_s = self._clock.monotonic(), self._carousel.spacing_s
        while len(self._carousel) and now >= self._next_at and pool.users_held < self._batch:
            if not self._begin(pool, now):
                self._next_at = now + min(IDLE_S, spacing_s)
                return
            self._next_at = max(self._next_at, now - 2 * spacing_s) + spacing_s

    def _step_batches(self, pool: Pool) -> None:
        """A batch at once; when it is through, the connection goes, and with it the users."""
        now = self._clock.monotonic()
        if self._under_way:
            return
        if pool.users_held:
            for trader in list(self._finished):
                self._release(trader)
            pool.recycle()
            return
        if not len(self._carousel) or now < self._batch_began + self._carousel.spacing_s * self._batch:
            return
        if now < self._next_at:
            return
        self._batch_began = now
        for _ in range(self._batch):
            if not self._begin(pool, now):
                return

    def _begin(self, pool: Pool, now: float) -> bool:
        """Begin the next look; False when nobody's is due or there is no room for one."""
        trader = self._carousel.next(now, self._looks.looked_at, self._under_way)
        if trader is None or trader in self._finished:
            return False
        if not self._has_room(trader):  # somebody live is just leaving
            self._carousel.hurry(trader)
            return False
        wanted = [structs.replace(s, silent_after_s=None, stale_after_s=None) for s in self._subscriptions(trader)]
        if not wanted:
            return False
        along = self._past.subscriptions(trader)
        keys = frozenset(subscription.key for subscription in (*wanted, *along))
        pool.add([*wanted, *along])
        if pool.is_waiting(keys):
            pool.remove(keys)
            self._carousel.hurry(trader)
            return False
        self._under_way[trader] = _Look(now, keys, frozenset(subscription.key for subscription in along), set(keys))
        return True

    def _count_occupation(self, pool: Pool) -> None:
        """Slots are occupied from the subscribe until the venue has confirmed the unsubscribe (or the end)."""
        now = self._clock.monotonic()
        self._occupied_s += self._held * (now - self._counted_at)
        self._counted_at, self._held = now, pool.users_held

    def _complete(self, trader: str) -> None:
        took_s, self._occupied_s = self._occupied_s, 0.0
        self._deviation_s += SMOOTHING * (abs(took_s - self._mean_s) - self._deviation_s)
        self._mean_s += SMOOTHING * (took_s - self._mean_s)
        self._looks.looked(trader, "rotation")
        self._refused_pause_s = REFUSED_PAUSE_S
        self._drop(trader)
        if self._past.subscriptions(trader):  # asked for meanwhile
            self._carousel.hurry(trader)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        for trader, look in list(self._under_way.items()):
            if now - look.began <= LOOK_DEADLINE_S:
                continue
            if look.missing <= look.along:
                self._complete(trader)
            else:
                self._looks.failed("rotation", "timeout")
                self._drop(trader)
                self._carousel.hurry(trader)

    def _drop(self, trader: str) -> None:
        """End a look; where users leave only with the connection, they are let go together."""
        look = self._under_way.pop(trader, None)
        if look is None:
            return
        self._past.ended(look.missing & look.along)
        self._finished[trader] = look.keys
        if not self.by_connection:
            self._release(trader)
        self._news.set()

    def _release(self, trader: str) -> None:
        assert self._pool is not None
        self._pool.remove(self._finished.pop(trader))
        self.let_go += 1
