"""How fresh each stream of a venue is, and what to do about those that are not: pure, time is handed in.

A connected socket can be dead for one stream and alive for the others, so every stream is watched by two ages: since
the last arrival (monotonic, no clock step can fool it) and since the venue's own time in the last message.
"""

from __future__ import annotations

from statistics import median

from msgspec import Struct

from src.models.messages import GapReason
from src.models.streams import StreamKey, Subscription

SKEW_LEAST_S = 5.0
"""Below this a difference between the venue's clock and ours is not worth a word."""

_SKEW_SPREAD_S = 10.0
_RECENT_S = 30.0
_AGAIN_LEAST_S = 60.0
_AGAIN_FACTOR = 5.0
_NEVER = float("-inf")


class Muted(Struct, frozen=True):
    """A stream fell silent or stale at ``at_ms``; told once per episode. ``age_s`` is the age that was too high."""

    key: StreamKey
    reason: GapReason
    at_ms: int
    age_s: float


class Resubscribe(Struct, frozen=True):
    """Ask for this stream afresh."""

    key: StreamKey


class Reconnect(Struct, frozen=True):
    """Asking afresh did not help: replace the connection ``home``."""

    home: int
    key: StreamKey


class ClockSkew(Struct, frozen=True):
    """All streams are displaced alike, so it is a clock: ours is ahead by ``offset_ms`` (0 = in order again)."""

    offset_ms: int


Verdict = Muted | Resubscribe | Reconnect | ClockSkew


class Track(Struct):
    """What is known of one stream; times in monotonic seconds unless the name says ms."""

    subscription: Subscription
    home: int = 0
    since: float | None = None  # confirmed on its present connection since; None = it is not
    arrived: float = _NEVER
    advanced: float = _NEVER  # when the venue's time in it last grew
    venue_ms: int | None = None
    messages: int = 0
    gap: bool = False  # a gap was told and no data came since
    mute: GapReason | None = None
    stage: int = 0  # 0 nothing done yet, 1 resubscribed, 2 reconnected
    acted_at: float = _NEVER
    acted_messages: int = 0  # messages seen when something was done last

    @property
    def spoke(self) -> bool:
        """Data came since something was done about it."""
        return self.messages > self.acted_messages


class Freshness:
    """All streams of one venue.

    ``silence_is_common``: a stream is silent only when every stream of its connection is.
    """

    def __init__(self, *, silence_is_common: bool = False) -> None:
        self._tracks: dict[StreamKey, Track] = {}
        self._skew_ms = 0.0
        self._common = silence_is_common
        self._home_arrived: dict[int, float] = {}
        self._resting = False
        self._awake_since = _NEVER

    @property
    def skew_ms(self) -> int:
        """How far our wall clock is ahead of the venue's, as far as it matters; 0 when in order."""
        return round(self._skew_ms)

    def track(self, key: StreamKey) -> Track | None:
        """What is known of ``key``, for status."""
        return self._tracks.get(key)

    def watch(self, subscription: Subscription, home: int) -> None:
        """Start to watch a stream that connection ``home`` is going to carry."""
        self._tracks[subscription.key] = Track(subscription, home)

    def forget(self, key: StreamKey) -> bool:
        """Stop to watch; returns whether its gap is still to be told."""
        return not self._tracks.pop(key).gap

    def confirmed(self, key: StreamKey, now: float) -> None:
        """The venue confirmed ``key``: from now on it is expected to speak."""
        track = self._tracks.get(key)
        if track is not None and track.since is None:
            track.since = now

    def seen(self, key: StreamKey, now: float, venue_ms: int | None) -> None:
        """Data of ``key`` arrived."""
        track = self._tracks.get(key)
        if track is None:
            return
        track.arrived = now
        self._home_arrived[track.home] = now
        track.messages += 1
        track.gap = False
        if venue_ms is not None and (track.venue_ms is None or venue_ms > track.venue_ms):
            track.venue_ms = venue_ms
            track.advanced = now

    def lost(self, keys: list[StreamKey]) -> list[StreamKey]:
        """These are no longer seen; returns those whose gap has not been told yet (and counts it as told)."""
        fresh = []
        for key in keys:
            track = self._tracks.get(key)
            if track is None:
                continue
            track.since = None
            if not track.gap:
                track.gap = True
                fresh.append(key)
        return fresh

    def rest(self, now: float) -> None:
        """Called instead of `check` while the venue has nothing to say: ages begin when it is over."""
        if not self._resting:
            for track in self._tracks.values():
                track.mute = None
        self._resting = True
        self._awake_since = now

    def check(self, now: float, wall_ms: int) -> list[Verdict]:
        """Look at all streams; to be called about every second or less often."""
        self._resting = False
        verdicts: list[Verdict] = []
        self._check_clock(now, wall_ms, verdicts)
        before = len(verdicts)
        for track in self._tracks.values():
            if track.since is not None:
                self._check_track(track, now, wall_ms, verdicts)
        if len(verdicts) > before:
            verdicts = self._one_reconnect_each(verdicts)
        return verdicts

    def state(self, key: StreamKey) -> str:
        """``fresh``, ``silent``, ``stale``, or ``pending`` when it is confirmed but nothing came yet."""
        track = self._tracks[key]
        if track.mute is not None:
            return "silent" if track.mute is GapReason.SILENCE else "stale"
        if track.since is None:
            return "pending"
        if track.arrived >= track.since or track.subscription.silent_after_s is None or self._resting:
            return "fresh"
        return "pending"

    def _check_clock(self, now: float, wall_ms: int, verdicts: list[Verdict]) -> None:
        lags = [
            # Counted from when the venue's time last grew: a frozen stream must not look like a clock that runs away.
            wall_ms - track.venue_ms - (now - track.advanced) * 1000.0
            for track in self._tracks.values()
            if track.venue_ms is not None
            and track.subscription.stale_after_s is not None
            and now - track.advanced <= _RECENT_S
        ]
        skew = _common_offset_ms(lags)
        if abs(skew - self._skew_ms) <= SKEW_LEAST_S * 1000.0:
            return
        if len(lags) < 2 and self._skew_ms:  # noqa: PLR2004 - one stream cannot contradict
            return
        self._skew_ms = skew
        verdicts.append(ClockSkew(round(skew)))

    def _check_track(self, track: Track, now: float, wall_ms: int, verdicts: list[Verdict]) -> None:
        reason, age_s, limit_s = self._judge(track, now, wall_ms)
        if reason is None:
            track.mute = None
            if track.spoke or self._common:
                track.stage = 0
            return
        if track.mute is not reason:
            self._mute(track, reason, age_s, wall_ms, verdicts)
        self._escalate(track, now, limit_s, verdicts)

    def _judge(self, track: Track, now: float, wall_ms: int) -> tuple[GapReason | None, float, float]:
        """The reason why ``track`` is not fresh (None = it is), its age and the limit it broke, in seconds."""
        silent_s, stale_s = track.subscription.silent_after_s, track.subscription.stale_after_s
        since = max(track.since or now, self._awake_since)
        if silent_s is not None:
            arrived = self._home_arrived.get(track.home, _NEVER) if self._common else track.arrived
            age_s = now - max(since, arrived)
            # A resubscribe starts the clock of the confirmation anew, but only data ends a silence.
            still = track.mute is GapReason.SILENCE and not track.spoke and arrived <= track.acted_at
            if still or age_s > silent_s:
                return GapReason.SILENCE, age_s, silent_s
        if stale_s is not None and track.venue_ms is not None and track.arrived >= since:
            age_s = (wall_ms - track.venue_ms - self._skew_ms) / 1000.0
            if age_s > stale_s:
                return GapReason.STALE, age_s, stale_s
        return None, 0.0, 0.0

    def _mute(self, track: Track, reason: GapReason, age_s: float, wall_ms: int, verdicts: list[Verdict]) -> None:
        track.mute = reason
        if track.gap:
            return
        track.gap = True
        if reason is GapReason.STALE and track.venue_ms is not None:
            at_ms = track.venue_ms
        else:
            at_ms = wall_ms - round(age_s * 1000.0)
        verdicts.append(Muted(track.subscription.key, reason, at_ms, age_s))

    def _escalate(self, track: Track, now: float, limit_s: float, verdicts: list[Verdict]) -> None:
        key = track.subscription.key
        waited_s = now - track.acted_at
        if track.stage == 0:
            track.stage = 1
            verdicts.append(Resubscribe(key))
        elif track.stage == 1 and waited_s > limit_s:
            track.stage = 2
            verdicts.append(Reconnect(track.home, key))
        elif track.stage > 1 and waited_s > max(_AGAIN_LEAST_S, _AGAIN_FACTOR * limit_s):
            # One stream that never speaks must not take its neighbours down again and again.
            verdicts.append(Resubscribe(key) if self._speaks(track.home) else Reconnect(track.home, key))
        else:
            return
        track.acted_at = now
        track.acted_messages = track.messages

    def _speaks(self, home: int) -> bool:
        """Whether a stream of this connection that must not be silent is fresh."""
        return any(
            track.home == home and track.since is not None and track.mute is None
            for track in self._tracks.values()
            if track.subscription.silent_after_s is not None
        )

    @staticmethod
    def _one_reconnect_each(verdicts: list[Verdict]) -> list[Verdict]:
        homes: set[int] = set()
        kept: list[Verdict] = []
        for verdict in verdicts:
            if isinstance(verdict, Reconnect):
                if verdict.home in homes:
                    continue
                homes.add(verdict.home)
            kept.append(verdict)
        return kept


def _common_offset_ms(lags: list[float]) -> float:
    """The offset all lags share, 0.0 when they do not share one or it is small."""
    if len(lags) < 2:  # noqa: PLR2004 - one stream cannot tell a clock from a delay
        return 0.0
    least, most = min(lags), max(lags)
    if most - least > _SKEW_SPREAD_S * 1000.0:
        return 0.0
    displaced = least > SKEW_LEAST_S * 1000.0 or most < -SKEW_LEAST_S * 1000.0
    return median(lags) if displaced else 0.0
