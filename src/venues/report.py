"""What a pool tells about itself, JSON-ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from src.models.metrics import CONNECTIONS_OPEN, SUBSCRIPTIONS, SUBSCRIPTIONS_OVER_LIMIT, Metrics
from src.models.streams import SubscriptionState
from src.venues.connection import Connection
from src.venues.freshness import Track
from src.venues.ledger_entry import Entry
from src.venues.parts import Parts
from src.venues.placement import Placement


class PoolNumbers(Struct, frozen=True):
    """What of a pool can be added up: subscriptions by state, those beyond the limits, open connections."""

    states: Mapping[SubscriptionState, int]
    over_limit: int
    connections: int


def put_gauges(metrics: Metrics, venue: str, pools: Sequence[PoolNumbers]) -> None:
    """Set the gauges of a venue to the sums over its pools."""
    for state in SubscriptionState:
        metrics.put(SUBSCRIPTIONS, venue, state.value, value=sum(pool.states[state] for pool in pools))
    metrics.put(SUBSCRIPTIONS_OVER_LIMIT, venue, value=sum(pool.over_limit for pool in pools))
    metrics.put(CONNECTIONS_OPEN, venue, value=sum(pool.connections for pool in pools))


def pool_status(parts: Parts, connections: Iterable[Connection], placement: Placement) -> dict[str, Any]:
    """Connections, streams and budget.

    Returns:
        ``venue``; ``connections``: see `Connection.status`; ``streams``: by stream name ``{state, why, connection,
        arrival_age_ms, venue_age_ms, messages}`` with ``state`` one of ``fresh``, ``silent``, ``stale``, ``pending``,
        ``failed``; ``states``: how many streams are in each; ``over_limit``: streams not asked for because of the
        venue's limits; ``budget``: see `Budget.usage`; ``clock_skew_ms``: how far our clock is ahead of the venue's.
    """
    now, wall_ms = parts.clock.monotonic(), parts.clock.wall_ms()
    listed, streams = list(connections), {}
    for connection in listed:
        for entry in connection.ledger.entries():
            track = parts.freshness.track(entry.subscription.key)
            if track is not None:
                streams[str(entry.subscription.key)] = _stream(parts, connection, entry, track, now, wall_ms)
    waiting = placement.waiting
    for beyond in waiting:
        streams[str(beyond.subscription.key)] = _row("failed", beyond.why)
    return {
        "venue": parts.feed.venue,
        "connections": [connection.status() for connection in listed],
        "streams": streams,
        "states": dict(Counter(row["state"] for row in streams.values())),
        "over_limit": len(waiting),
        "budget": parts.budget.usage(),
        "clock_skew_ms": parts.freshness.skew_ms,
    }


def _stream(
    parts: Parts, connection: Connection, entry: Entry, track: Track, now: float, wall_ms: int
) -> dict[str, Any]:
    seen = track.messages > 0
    state = parts.freshness.state(entry.subscription.key)
    if entry.state is SubscriptionState.FAILED:
        state = "failed"
    return _row(
        state,
        _why(state, connection, entry, seen=seen),
        connection=connection.name,
        arrival_age_ms=round((now - track.arrived) * 1000.0) if seen else None,
        venue_age_ms=None if track.venue_ms is None else wall_ms - track.venue_ms,
        messages=track.messages,
    )


def _why(state: str, connection: Connection, entry: Entry, *, seen: bool) -> str:
    if state in ("failed", "fresh"):
        return entry.why if state == "failed" or seen else "confirmed; a stream that may be quiet, nothing came yet"
    if not connection.open:
        return "not connected"
    if state == "silent":
        return f"nothing came for more than {entry.subscription.silent_after_s:g} s"
    if state == "stale":
        return f"the venue's own time is more than {entry.subscription.stale_after_s:g} s old"
    if entry.state is SubscriptionState.CONFIRMED:
        return "confirmed, nothing came yet"
    return "not acknowledged yet" if entry.sent_at is not None else "not sent yet"


def _row(
    state: str,
    why: str,
    *,
    connection: str | None = None,
    arrival_age_ms: int | None = None,
    venue_age_ms: int | None = None,
    messages: int = 0,
) -> dict[str, Any]:
    return {
        "state": state,
        "why": why,
        "connection": connection,
        "arrival_age_ms": arrival_age_ms,
        "venue_age_ms": venue_age_ms,
        "messages": messages,
    }
