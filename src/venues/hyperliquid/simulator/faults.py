"""Misbehaviour on demand: what a real venue and a real network do on bad days."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum

from msgspec import Struct

from src.venues.hyperliquid.simulator.sessions import Session
from src.venues.hyperliquid.simulator.subscriptions import Subscription

ROTATION_REASON = "Expired"
"""Reason of the venue's routine closes."""


class FaultKind(StrEnum):
    """What can go wrong."""

    ACCEPT_THEN_CLOSE = "accept_then_close"
    SILENCE = "silence"
    HALF_OPEN = "half_open"
    LATE = "late"
    DUPLICATE = "duplicate"
    PARTIAL = "partial"
    GLITCH = "glitch"
    MALFORMED = "malformed"
    REFUSE = "refuse"
    UPGRADE = "upgrade"
    RATE_LIMIT = "rate_limit"
    RESET = "reset"
    DROP = "drop"
    EXPIRE = "expire"


FRAME_FAULTS = (
    FaultKind.LATE,
    FaultKind.DUPLICATE,
    FaultKind.PARTIAL,
    FaultKind.GLITCH,
    FaultKind.MALFORMED,
    FaultKind.RESET,
)
"""Faults of a single state frame; they are armed and strike the next frame that fits."""


class FaultPlan(Struct, frozen=True, kw_only=True):
    """Faults by a seeded schedule.

    Attributes:
        rate: faults per minute on average.
        kinds: which ones; repeat a kind to make it likelier.
        duration_s: shortest and longest duration of faults that last.
    """

    seed: int
    rate: float
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)
    duration_s: tuple[float, float] = (0.5, 3.0)


class _Armed(Struct):
    kind: FaultKind
    channel: str | None
    user: str | None
    left: int


class _Silence(Struct, frozen=True):
    until_s: float
    channel: str | None
    user: str | None


class Faults:
    """Switches for every fault. ``struck`` counts how often each kind really took effect.

    Args:
        sessions: the live connections.
        now_s: monotonic seconds.
    """

    def __init__(self, sessions: Callable[[], Sequence[Session]], now_s: Callable[[], float]) -> None:
        self.struck: Counter[FaultKind] = Counter()
        self._sessions = sessions
        self._now_s = now_s
        self._armed: list[_Armed] = []
        self._silences: list[_Silence] = []
        self._accept_then_close = 0
        self._refusals: list[str] = []
        self._down_until_s = 0.0
        self._limited_until_s = 0.0

    # --- switches -------------------------------------------------------------------------------------------------

    def arm(self, kind: FaultKind, *, channel: str | None = None, user: str | None = None, count: int = 1) -> None:
        """Let the next ``count`` state frames (of this channel, of this user) suffer a fault of `FRAME_FAULTS`."""
        if kind not in FRAME_FAULTS:
            raise ValueError(f"{kind} is not a fault of a frame; use its own method")
        self._armed.append(_Armed(kind, channel, user.lower() if user else None, count))

    def silence(self, seconds: float, *, channel: str | None = None, user: str | None = None) -> None:
        """Send nothing for a while: on one channel, to the subscriptions of one user, or at all."""
        self.struck[FaultKind.SILENCE] += 1
        self._silences.append(_Silence(self._now_s() + seconds, channel, user.lower() if user else None))

    def accept_then_close(self, count: int = 1) -> None:
        """Accept the next ``count`` connections and close them at once."""
        self._accept_then_close += count

    def refuse_subscriptions(self, count: int = 1, text: str = "Cannot track more than 10 total users.") -> None:
        """Answer the next ``count`` subscriptions of a user's feed with this error, whatever the limits."""
        self._refusals.extend([text] * count)

    def rate_limit(self, seconds: float) -> None:
        """Answer REST requests and handshakes with 429 for a while."""
        self.struck[FaultKind.RATE_LIMIT] += 1
        self._limited_until_s = self._now_s() + seconds

    async def upgrade(self, seconds: float) -> None:
        """Drop all connections at once, then answer 502 for a while."""
        self.struck[FaultKind.UPGRADE] += 1
        self._down_until_s = self._now_s() + seconds
        await self._end_known(self._sessions(), Session.abort)
        self._down_until_s = self._now_s() + seconds

    async def drop(self, session: Session | None = None) -> None:
        """Cut one connection (or all) without a closing handshake."""
        self.struck[FaultKind.DROP] += 1
        await self._end_known([session] if session else self._sessions(), Session.abort)

    async def expire(self, session: Session | None = None) -> None:
        """Close one connection (or all) as the venue's routine rotation does."""
        self.struck[FaultKind.EXPIRE] += 1
        victims = [session] if session else list(self._sessions())
        await self._end_known(victims, lambda _: None)
        await asyncio.gather(*(victim.ws.close(1000, ROTATION_REASON) for victim in victims))

    async def half_open(self, seconds: float, session: Session | None = None) -> None:
        """Leave the TCP connection open and answer nothing; cut it after a while."""
        self.struck[FaultKind.HALF_OPEN] += 1
        victims = [session] if session else list(self._sessions())
        await self._end_known(victims, Session.stop_reading)
        for victim in victims:
            victim.abort_at_s = self._now_s() + seconds

    def clear(self) -> None:
        """Behave again: forget everything armed or lasting (connections already cut stay cut)."""
        self._armed.clear()
        self._silences.clear()
        self._refusals.clear()
        self._accept_then_close = 0
        self._down_until_s = self._limited_until_s = 0.0

    async def run(self, plan: FaultPlan) -> None:
        """Strike by the plan until cancelled."""
        rng = random.Random(plan.seed)  # noqa: S311 - a reproducible schedule, not a secret
        while True:
            await asyncio.sleep(rng.expovariate(plan.rate / 60.0))
            await self.strike(rng.choice(plan.kinds), rng, plan.duration_s)

    async def strike(self, kind: FaultKind, rng: random.Random, duration_s: tuple[float, float]) -> None:
        """One fault of this kind with parameters drawn at random."""
        seconds = rng.uniform(*duration_s)
        sessions = list(self._sessions())
        victim = rng.choice(sessions) if sessions else None
        if kind in FRAME_FAULTS:
            self.arm(kind)
        elif kind is FaultKind.ACCEPT_THEN_CLOSE:
            self.accept_then_close(rng.randint(1, 3))
            if victim is not None:
                await self.drop(victim)
        elif kind is FaultKind.SILENCE:
            channel = rng.choice((None, "openOrders", "clearinghouseState", "webData2", "l2Book"))
            self.silence(seconds, channel=channel)
        elif kind is FaultKind.REFUSE:
            self.refuse_subscriptions()
        elif kind is FaultKind.UPGRADE:
            await self.upgrade(seconds)
        elif kind is FaultKind.RATE_LIMIT:
            self.rate_limit(seconds)
        elif victim is not None:
            await self._end_one(kind, victim, seconds)

    # --- questions of the server ----------------------------------------------------------------------------------

    def is_down(self) -> bool:
        """True during an upgrade."""
        return self._now_s() < self._down_until_s

    def is_rate_limited(self) -> bool:
        """True while 429 is the answer to everything."""
        return self._now_s() < self._limited_until_s

    def take_accept_then_close(self) -> bool:
        """True when this new connection must be closed at once."""
        if self._accept_then_close <= 0:
            return False
        self._accept_then_close -= 1
        self.struck[FaultKind.ACCEPT_THEN_CLOSE] += 1
        return True

    def take_refusal(self, subscription: Subscription) -> str | None:
        """The error text with which this subscription must be refused, None when it may pass."""
        if subscription.user is None or not self._refusals:
            return None
        self.struck[FaultKind.REFUSE] += 1
        return self._refusals.pop(0)

    def is_silent(self, subscription: Subscription) -> bool:
        """True when nothing may be sent on this subscription now."""
        if not self._silences:
            return False
        now_s = self._now_s()
        self._silences = [silence for silence in self._silences if silence.until_s > now_s]
        return any(_fits(silence.channel, silence.user, subscription) for silence in self._silences)

    def armed_for(self, subscription: Subscription, possible: Collection[FaultKind]) -> FaultKind | None:
        """The fault the next frame of this subscription should suffer; call `struck_by` when it did."""
        for armed in self._armed:
            if armed.kind in possible and _fits(armed.channel, armed.user, subscription):
                return armed.kind
        return None

    def struck_by(self, kind: FaultKind, subscription: Subscription) -> None:
        """Note that an armed fault took effect."""
        self.struck[kind] += 1
        for armed in self._armed:
            if armed.kind is kind and _fits(armed.channel, armed.user, subscription):
                armed.left -= 1
                if armed.left <= 0:
                    self._armed.remove(armed)
                return

    async def _end_one(self, kind: FaultKind, victim: Session, seconds: float) -> None:
        if kind is FaultKind.HALF_OPEN:
            await self.half_open(seconds, victim)
        elif kind is FaultKind.EXPIRE:
            await self.expire(victim)
        else:
            await self.drop(victim)

    async def _end_known(self, sessions: Sequence[Session], end: Callable[[Session], None]) -> None:
        """Stop sending, find out what had arrived, then end: nobody has to guess what the client saw."""
        victims = list(sessions)
        for victim in victims:
            victim.muted = True
        await asyncio.gather(*(victim.confirm() for victim in victims))
        for victim in victims:
            end(victim)


def _fits(channel: str | None, user: str | None, subscription: Subscription) -> bool:
    return (channel is None or channel == subscription.type) and (user is None or user == subscription.user)
