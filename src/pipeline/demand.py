"""Who wants which topic: counting with a grace period. Pure, time is handed in.

Static configuration, user sessions and clients of the gateway all hold topics in the same way. A topic is wanted from
its first holder until a while after its last one, so that a page that is reloaded does not make the venue unsubscribe
and subscribe again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from src.models.live import Topic

Wanted = Mapping[str, Mapping[str, frozenset[str]]]
"""``{venue: {symbol or address: kinds}}``."""


class Demand:
    """Holders by topic. ``grace_s``: seconds a topic stays wanted after its last holder has let go."""

    def __init__(self, *, grace_s: float, most_topics: int | None = None) -> None:
        self._grace_s = grace_s
        self._most_topics = most_topics
        self._holders: dict[Topic, set[str]] = {}
        self._held: dict[str, set[Topic]] = {}
        self._ends_at: dict[Topic, float] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._holders

    @property
    def topics(self) -> Iterable[Topic]:
        """Everything wanted, also what is in its grace period."""
        return self._holders.keys()

    def has_room(self, topic: Topic) -> bool:
        """Whether one more holder of this topic stays within the bound on topics."""
        return topic in self._holders or self._most_topics is None or len(self._holders) < self._most_topics

    def count(self, topic: Topic) -> int:
        """How many hold it."""
        return len(self._holders.get(topic, ()))

    def is_held_besides(self, holder: str, topic: Topic) -> bool:
        """Whether somebody else than ``holder`` holds it."""
        return bool(self._holders.get(topic, set()) - {holder})

    def hold(self, holder: str, topic: Topic) -> bool:
        """Want a topic; True when nobody did. Safe to repeat."""
        holders = self._holders.get(topic)
        is_new = holders is None
        if holders is None:
            holders = self._holders[topic] = set()
        holders.add(holder)
        self._held.setdefault(holder, set()).add(topic)
        self._ends_at.pop(topic, None)
        return is_new

    def release(self, holder: str, topic: Topic, now: float) -> None:
        """Want it no longer; the last one's release starts the grace period. Without effect when it was not held."""
        held = self._held.get(holder)
        if held is None or topic not in held:
            return
        held.discard(topic)
        if not held:
            del self._held[holder]
        holders = self._holders[topic]
        holders.discard(holder)
        if not holders:
            self._ends_at[topic] = now + self._grace_s

    def keep(self, holder: str, topics: Iterable[Topic], now: float) -> bool:
        """Let ``holder`` hold exactly these; True when something became wanted that was not."""
        wanted = set(topics)
        for topic in self._held.get(holder, set()) - wanted:
            self.release(holder, topic, now)
        fresh = [topic for topic in wanted if self.hold(holder, topic)]
        return bool(fresh)

    def leave(self, holder: str, now: float) -> None:
        """Release everything of ``holder``."""
        for topic in list(self._held.get(holder, ())):
            self.release(holder, topic, now)

    def expire(self, now: float) -> list[Topic]:
        """Drop the topics whose grace period is over; returns them."""
        ended = [topic for topic, at in self._ends_at.items() if at <= now]
        for topic in ended:
            del self._ends_at[topic]
            del self._holders[topic]
        return ended

    def wanted(self) -> Wanted:
        """Everything wanted, by venue and symbol."""
        found: dict[str, dict[str, set[str]]] = {}
        for topic in self._holders:
            found.setdefault(topic.venue, {}).setdefault(topic.subject, set()).add(topic.kind)
        return {
            venue: {subject: frozenset(kinds) for subject, kinds in subjects.items()}
            for venue, subjects in found.items()
        }
