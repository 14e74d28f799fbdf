"""Who is looked at how, and how old a look at somebody can become: pure arithmetic over published limits.

A venue lets one address follow a few users at once. Some of these slots are pinned: their traders are seen live. The
other slots go round: each takes a whole look at one trader after the other. What the slots do not manage in time is
asked for over REST, within the weight that is left over. Nothing here waits or sends; the same input gives the same
plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from src.jobs.following.rings import WEIGHTS, Ring, build_ring

Mode = Literal["live", "rotation", "poll"]
Freed = Literal["unsubscribe", "connection", "never"]
"""When the venue stops counting a user: with the unsubscribe, with the end of the connection, or we do not rotate."""

WINDOW_S = 60.5
"""A minute and some slack, as the budget counts it."""

LOOK_DEADLINE_S = 10.0
"""A look that is not complete by then has failed."""

POLL_DEADLINE_S = 30.0
SLACK_S = 5.0
"""Looks stand still for a moment when traders become live, and a new order takes over from the old one."""

HEADROOM = 1.25
"""A bound promises this much more time than the arithmetic says: places outside of the order take a fifth of all."""

LEAST_AGAIN_S = 10.0
"""Nobody is looked at more often than this, however few there are."""

STICKY = 1.5
"""Activity of those who are live counts this much more: a slot that changes hands for little helps nobody."""

BOOSTS = ((0.10, 0.25), (0.05, 0.10))
"""Shares of a ring that stand in it four times and twice, the busiest first; the second where time is short."""

STEPS_S = (15, 20, 30, 45, 60, 75, 90, 105, 120, 150, 180, 210, 240, 300, 360, 420, 480, 600, 720, 900)
"""Bounds are rounded up to these, then to whole five minutes, so that they do not change with every breath."""


class Tracked(Struct, frozen=True):
    """One trader to follow.

    Attributes:
        manual: added by hand or by settings: first to be seen live.
        tier: 1 = the most wanted; None = after all others.
        score: of the leaderboard, higher first.
        activity: changes per hour, as seen lately.
        looked_at: monotonic time of the last whole look, None = never.
        mode, egress, weight: as they are now; kept where nothing speaks against it.
    """

    address: str
    manual: bool = False
    tier: int | None = None
    score: float | None = None
    activity: float = 0.0
    looked_at: float | None = None
    mode: Mode | None = None
    egress: int | None = None
    weight: int = 0


class Profile(Struct, frozen=True):
    """What speaks for one trader; see `Tracked`."""

    manual: bool = False
    tier: int | None = None
    score: float | None = None


class Room(Struct, frozen=True):
    """What one egress address may spend on traders now: published limits, less what others use and what was learned.

    Attributes:
        users: unique users.
        subscriptions: for traders; market data is taken off already.
        messages_per_minute: for looks.
        connects_per_minute: for looks, where users are freed with the connection.
        weight_per_minute: REST weight for polls.
        freed: when a user's slot becomes free.
        look_s: how long a look occupies a slot, a cautious mean.
        connect_s: the same for opening a connection.
        reweigh: who is busy may be judged anew; False while a ring has not gone round once.
    """

    users: int
    subscriptions: int = 1_000
    messages_per_minute: float = 1_500.0
    connects_per_minute: float = 20.0
    weight_per_minute: float = 600.0
    freed: Freed = "unsubscribe"
    look_s: float = 1.0
    connect_s: float = 1.0
    reweigh: bool = True


class Costs(Struct, frozen=True):
    """What following costs: subscriptions of a live trader and of a look, REST weight of a poll."""

    live_streams: int = 3
    look_streams: int = 2
    poll_weight: int = 22


class Wishes(Struct, frozen=True):
    """What is wanted: slots pinned per address, and the age that nobody's look should exceed (polls help then)."""

    pinned: int = 5
    within_s: float = 120.0


class Assignment(Struct, frozen=True):
    """How one trader is followed; ``within_s`` None = no bound can be promised (nothing is left to look with)."""

    mode: Mode
    egress: int
    within_s: float | None = 0.0
    weight: int = 0


class Turn(Struct, frozen=True):
    """How one address goes round: ``batch`` looks at once, then a pause until ``spacing_s`` per look has passed."""

    ring: Ring = Ring()
    spacing_s: float = 0.0
    batch: int = 0


class AddressPlan(Struct, frozen=True):
    """What one egress address does."""

    live: tuple[str, ...] = ()
    rotation: Turn = Turn()
    poll: Turn = Turn()


class Plan(Struct, frozen=True):
    """The whole plan: by trader, and by egress address."""

    assignments: Mapping[str, Assignment] = {}
    addresses: tuple[AddressPlan, ...] = ()


class _Speed(Struct, frozen=True):
    """How fast an address can go round: seconds per look, looks at once, seconds a look takes at most."""

    spacing_s: float
    batch: int
    deadline_s: float

    @property
    def rate(self) -> float:
        return 0.0 if math.isinf(self.spacing_s) else 1.0 / self.spacing_s


_IDLE = _Speed(math.inf, 0, 0.0)


def make_plan(traders: Sequence[Tracked], rooms: Sequence[Room], costs: Costs, wishes: Wishes) -> Plan:
    """Share out slots, looks and polls.

    Args:
        traders: everybody to follow, in any order.
        rooms: the egress addresses; at least one.
        costs: of following one trader.
        wishes: what is wanted.
    """
    ranked = sorted(traders, key=_rank)
    slots = [_slots(room, costs, wishes, everybody=len(ranked), rooms=rooms) for room in rooms]
    live, others = ranked[: sum(pins for pins, _ in slots)], ranked[sum(pins for pins, _ in slots) :]
    turning = [_rotation_speed(room, count, costs) for room, (_, count) in zip(rooms, slots, strict=True)]
    asking = [_poll_speed(room, costs) for room in rooms]
    polled = _polled(len(others), turning, asking, wishes)
    least_wanted = others[::-1]
    by_poll = [t for t in least_wanted if t.mode == "poll"] + [t for t in least_wanted if t.mode != "poll"]
    asked = {trader.address for trader in by_poll[:polled]}
    rotated = [trader for trader in others if trader.address not in asked]
    shares = [
        _shared_out(live, [float(pins) for pins, _ in slots]),
        _shared_out(rotated, [speed.rate for speed in turning]),
        _shared_out([trader for trader in others if trader.address in asked], [speed.rate for speed in asking]),
    ]
    assignments: dict[str, Assignment] = {}
    addresses = []
    for egress in range(len(rooms)):
        for trader in shares[0][egress]:
            assignments[trader.address] = Assignment("live", egress)
        addresses.append(
            AddressPlan(
                tuple(trader.address for trader in shares[0][egress]),
                _turn("rotation", egress, shares[1][egress], turning[egress], wishes, rooms, assignments),
                _turn("poll", egress, shares[2][egress], asking[egress], wishes, rooms, assignments),
            )
        )
    return Plan(assignments, tuple(addresses))


# -- who is live -----------------------------------------------------------------------------------------------------


def _rank(trader: Tracked) -> tuple[bool, float, float, float, str]:
    activity = trader.activity * (STICKY if trader.mode == "live" else 1.0)
    tier = math.inf if trader.tier is None else trader.tier
    score = -math.inf if trader.score is None else trader.score
    return not trader.manual, tier, -score, -activity, trader.address


def _slots(room: Room, costs: Costs, wishes: Wishes, *, everybody: int, rooms: Sequence[Room]) -> tuple[int, int]:
    """Pinned slots and slots that go round."""
    users = max(0, min(room.users, room.subscriptions // max(1, costs.live_streams)))
    if everybody <= sum(min(r.users, r.subscriptions // max(1, costs.live_streams)) for r in rooms):
        return users, 0
    if room.freed == "never":
        return users, 0
    pins = max(0, min(wishes.pinned, users - max(1, math.ceil(users / 4))))
    left = room.subscriptions - pins * costs.live_streams
    return pins, max(0, min(users - pins, left // max(1, costs.look_streams)))


# -- how fast --------------------------------------------------------------------------------------------------------


def _rotation_speed(room: Room, slots: int, costs: Costs) -> _Speed:
    messages = 2 * costs.look_streams  # each is subscribed and unsubscribed
    if slots < 1 or room.messages_per_minute < messages:
        return _IDLE
    by_messages_s = WINDOW_S * messages / room.messages_per_minute
    if room.freed == "unsubscribe":
        return _Speed(max(by_messages_s, room.look_s / slots), slots, LOOK_DEADLINE_S)
    if room.connects_per_minute < 1:
        return _IDLE
    cycle_s = max(WINDOW_S / room.connects_per_minute, room.connect_s + room.look_s, by_messages_s * slots)
    return _Speed(cycle_s / slots, slots, LOOK_DEADLINE_S + cycle_s)


def _poll_speed(room: Room, costs: Costs) -> _Speed:
    if room.weight_per_minute < costs.poll_weight:
        return _IDLE
    return _Speed(WINDOW_S * costs.poll_weight / room.weight_per_minute, 1, POLL_DEADLINE_S)


def _polled(count: int, turning: Sequence[_Speed], asking: Sequence[_Speed], wishes: Wishes) -> int:
    """How many to ask for over REST: none while the slots are quick enough, else as many as evens both out."""
    turn_rate, ask_rate = sum(s.rate for s in turning), sum(s.rate for s in asking)
    if not turn_rate:
        return count
    if HEADROOM * count / turn_rate + LOOK_DEADLINE_S <= wishes.within_s:
        return 0
    return int(count * ask_rate / (turn_rate + ask_rate))


# -- which address, which order --------------------------------------------------------------------------------------


def _shared_out(traders: Sequence[Tracked], shares: Sequence[float]) -> list[list[Tracked]]:
    """Traders by egress address in proportion to the shares; who has an address with room left stays there."""
    counts = _proportional(len(traders), shares)
    groups: list[list[Tracked]] = [[] for _ in shares]
    moving = []
    for trader in traders:
        home = trader.egress
        if home is not None and home < len(groups) and len(groups[home]) < counts[home]:
            groups[home].append(trader)
        else:
            moving.append(trader)
    for trader in moving:
        room = max(range(len(groups)), key=lambda egress: counts[egress] - len(groups[egress]))
        groups[room].append(trader)
    return groups


def _proportional(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to ``count``, in proportion to ``shares``; all alike when they are all zero."""
    total = sum(shares) or float(len(shares))
    wanted = [count * (share if sum(shares) else 1.0) / total for share in shares]
    bounds = [0, *(round(sum(wanted[: index + 1])) for index in range(len(wanted)))]
    bounds[-1] = count
    return [end - start for start, end in pairwise(bounds)]


def _turn(
    mode: Mode,
    egress: int,
    traders: Sequence[Tracked],
    speed: _Speed,
    wishes: Wishes,
    rooms: Sequence[Room],
    assignments: dict[str, Assignment],
) -> Turn:
    """One ring, the most overdue first, and what it promises everybody in it."""
    if not traders:
        return Turn()
    if not speed.rate:
        for trader in traders:
            assignments[trader.address] = Assignment(mode, egress, None, 1)
        return Turn()
    overdue = [t.address for t in sorted(traders, key=lambda t: -math.inf if t.looked_at is None else t.looked_at)]
    for boost in BOOSTS:
        weights = _weights(traders, boost, reweigh=rooms[egress].reweigh)
        ring = build_ring(overdue, weights)
        spacing_s = max(speed.spacing_s, LEAST_AGAIN_S / min(ring.distances.values()))
        bounds = {a: _bound_s(distance, spacing_s, speed) for a, distance in ring.distances.items()}
        if max(bounds.values()) <= wishes.within_s:
            break
    for address, within_s in bounds.items():
        assignments[address] = Assignment(mode, egress, within_s, weights.get(address, 1))
    return Turn(ring, spacing_s, speed.batch)


def _weights(traders: Sequence[Tracked], boost: tuple[float, float], *, reweigh: bool) -> dict[str, int]:
    """Who stands in the ring more than once."""
    if not reweigh:
        return {t.address: t.weight for t in traders if t.weight in WEIGHTS}
    busy = sorted((t for t in traders if t.activity > 0), key=lambda t: (-t.activity, t.address))
    four = int(len(traders) * boost[0])
    two = four + int(len(traders) * boost[1])
    return {t.address: 4 for t in busy[:four]} | {t.address: 2 for t in busy[four:two]}


def _bound_s(distance: int, spacing_s: float, speed: _Speed) -> float:
    """The age a look can reach: the way to the next place, a batch that has to be waited for, and the look itself."""
    exact_s = HEADROOM * (distance + speed.batch) * spacing_s + speed.deadline_s + SLACK_S
    for step in STEPS_S:
        if exact_s <= step:
            return float(step)
    return math.ceil(exact_s / 300.0) * 300.0
