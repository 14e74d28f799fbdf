"""The order in which traders are looked at: a ring, in which the busy ones stand more often. Pure.

A ring is cut into four rounds. Who weighs 4 stands in each of them, who weighs 2 in every other one, who weighs 1 in
one. So the distance between two places of a trader is known beforehand, and with it how old a look at him can become.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

ROUNDS = 4
WEIGHTS = (4, 2, 1)

SETTLES_S = 30.0
"""A ring stays for so long, and at least for one of its rounds, however many come and go."""

RETRY_EVERY = 5
"""One place in so many may go to somebody outside of the order: a look that failed, a trader who is new."""

EARLY_SHARE = 0.5
"""A place is skipped when less than this part of the trader's usual distance has passed since his last look."""


class Ring(Struct, frozen=True):
    """Places in the order in which they come up, again and again.

    Attributes:
        places: addresses; the busy ones several times.
        distances: the most places from one of a trader's to his next.
    """

    places: tuple[str, ...] = ()
    distances: Mapping[str, int] = {}


def build_ring(traders: Iterable[str], weights: Mapping[str, int]) -> Ring:
    """A ring of these traders, the most overdue first; a weight is one of `WEIGHTS`, 1 where none is given."""
    by_weight: dict[int, list[str]] = {weight: [] for weight in WEIGHTS}
    for trader in traders:
        by_weight[weights.get(trader, 1)].append(trader)
    rounds: list[list[str]] = [[] for _ in range(ROUNDS)]
    for weight, members in by_weight.items():
        apart = ROUNDS // weight
        for first, part in enumerate(_parts(members, apart)):
            for index in range(first, ROUNDS, apart):
                rounds[index].extend(part)
    places = tuple(address for part in rounds for address in part)
    return Ring(places, _distances(places))


def _parts(members: Sequence[str], count: int) -> list[Sequence[str]]:
    """Cut into ``count`` parts of (almost) equal length, in order."""
    length, longer = divmod(len(members), count)
    parts, start = [], 0
    for index in range(count):
        end = start + length + (index < longer)
        parts.append(members[start:end])
        start = end
    return parts


def _distances(places: Sequence[str]) -> dict[str, int]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    most: dict[str, int] = {}
    for position, address in enumerate(places):
        if address in last:
            most[address] = max(most[address], position - last[address])
        else:
            first[address], most[address] = position, 0
        last[address] = position
    return {address: max(most[address], first[address] + len(places) - last[address]) for address in first}


class Carousel:
    """Where one ring has got to: whose look is next.

    A new ring begins at its beginning, where the busy ones stand, so it takes the place of the old one only now and
    then: between two changes come and go is done by hand. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.ring = Ring()
        self.spacing_s = 0.0
        self._members: frozenset[str] = frozenset()
        self._position = 0
        self._replaced_at = -math.inf
        self._urgent: deque[str] = deque()
        self._turns = 0

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, trader: str) -> bool:
        return trader in self._members

    def has_gone_round(self, now: float) -> bool:
        """Whether everybody had a turn since the ring was replaced; before that weights had better stay."""
        return now - self._replaced_at >= len(self.ring.places) * self.spacing_s

    def replace(self, ring: Ring, spacing_s: float, now: float) -> None:
        """Go on with this ring as soon as that does not make anybody wait longer.

        ``spacing_s``, the time from one place to the next, holds at once. Until the ring is taken, new ones are
        looked at out of the order and those who are gone are passed over.
        """
        self.spacing_s = spacing_s
        members = frozenset(ring.distances)
        fresh, self._members = members - self._members, members
        self._urgent = deque(trader for trader in self._urgent if trader in members)
        same = members == self.ring.distances.keys()
        if same and not self.has_gone_round(now):
            return
        settles_s = max(SETTLES_S, len(self.ring.places) * spacing_s / ROUNDS)
        if not self.ring.places or now - self._replaced_at >= settles_s:
            if Counter(ring.places) == Counter(self.ring.places):
                return
            self.ring, self._position, self._replaced_at = ring, 0, now
        else:
            for trader in fresh:
                self.hurry(trader)

    def hurry(self, trader: str) -> None:
        """Let ``trader`` have one of the places outside of the order."""
        if trader in self and trader not in self._urgent:
            self._urgent.append(trader)

    def next(self, now: float, looked_at: Mapping[str, float], busy: Iterable[str] = ()) -> str | None:
        """Whose look is next, None when nobody's is due.

        Args:
            now: monotonic seconds.
            looked_at: when each was looked at last; who is missing never was.
            busy: who is being looked at already.
        """
        self._turns += 1
        if self._urgent and self._turns % RETRY_EVERY == 0:
            trader = self._urgent.popleft()
            if trader not in busy:
                return trader
        places = self.ring.places
        for _ in range(len(places)):
            trader = places[self._position]
            self._position = (self._position + 1) % len(places)
            if trader in self._members and trader not in busy and self._is_due(trader, now, looked_at):
                if trader in self._urgent:
                    self._urgent.remove(trader)
                return trader
        return self._urgent.popleft() if self._urgent and self._urgent[0] not in busy else None

    def _is_due(self, trader: str, now: float, looked_at: Mapping[str, float]) -> bool:
        last = looked_at.get(trader)
        if last is None:
            return True
        return now - last >= EARLY_SHARE * self.ring.distances[trader] * self.spacing_s
