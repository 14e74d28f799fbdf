"""Subscriptions on their way from a client's wish to the venues' answers and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.api.gateway.board import Board
from src.api.gateway.frames import Frame
from src.api.gateway.messages import status_message
from src.api.gateway.session import Session, SubKey
from src.models.live import Topic, Upstream
from src.models.symbols import Directory


class Subscriptions:
    """What all sessions want: asks the venues for it, and lets a session hear it as soon as they have accepted.

    Attributes:
        symbols: how many subscriptions there are of each symbol, as clients spell it.
    """

    def __init__(self, board: Board, *, upstream: Upstream, directory: Directory) -> None:
        self.symbols: Counter[str] = Counter()
        self._board = board
        self._upstream = upstream
        self._directory = directory
        self._waiting: dict[Topic, dict[Session, None]] = {}

    def begin(self, session: Session, key: SubKey) -> None:
        """Ask the venues for what a client wants newly; what cannot be had is refused at once."""
        if key.venue and key.venue not in self._directory.venues:
            known = ", ".join(self._directory.venues)
            session.refuse(key, "unknown_venue", f"venue {key.venue[:40]!r} is not collected; there is: {known}")
            return
        topics = self._directory.resolve(key.kind, key.symbol, key.venue or None)
        if not topics:
            session.refuse(key, "bad_symbol", f"no venue has {key.kind} of {key.symbol!r}")
            return
        session.aim(key, topics)
        self.symbols[key.symbol] += 1
        for topic in topics:
            self._waiting.setdefault(topic, {})[session] = None
            self._upstream.hold(session.name, topic)
        self._judge(session, key, is_new=True)

    def stood(self, topic: Topic) -> None:
        """The venue has answered, or thinks differently now, about a topic somebody holds."""
        for session in dict.fromkeys([*self._waiting.get(topic, ()), *self._board.listeners(topic)]):
            for key in session.keys_on(topic):
                if session.is_confirmed(key):
                    self._tell_refusal(session, key, topic)
                else:
                    self._judge(session, key)
            session.wake()

    def let_go(self, session: Session, key: SubKey) -> None:
        """Give back what a client wants no longer. Without effect when it was refused."""
        if session.topics_of(key):
            self.symbols[key.symbol] -= 1
            if not self.symbols[key.symbol]:
                del self.symbols[key.symbol]
        topics = session.topics_of(key)
        for route in session.drop_routes(key):
            self._board.leave(session, route)
        self._forget_waiting(session, topics)
        for topic in topics:
            if not session.means(topic):
                self._upstream.release(session.name, topic)

    def _judge(self, session: Session, key: SubKey, *, is_new: bool = False) -> None:
        """Confirm or refuse a subscription as soon as its venues have answered."""
        topics = session.topics_of(key)
        standings = [self._upstream.standing(topic) for topic in topics]
        states = {standing.state for standing in standings}
        outside = any(
            standing.code == "no_source" and self._directory.is_pushed(topic)
            for topic, standing in zip(topics, standings, strict=True)
        )
        if "accepted" in states or ("wanted" not in states and outside):
            session.confirm(key)
            self._forget_waiting(session, topics)
            for route in session.add_routes(key):
                self._board.current(session, route)
                self._board.join(session, route)
        elif "wanted" in states:
            if is_new:
                self._tell_waiting(session, key, topics[0])
        else:
            standing = standings[0]
            session.refuse(key, standing.code or "upstream_refused", standing.text or "the venue refused it")
            self.let_go(session, key)

    def _tell_waiting(self, session: Session, key: SubKey, topic: Topic) -> None:
        session.connecting(key, topic.venue)
        if not self._upstream.connected().get(topic.venue, True):
            payload = status_message(key.symbol, topic, "reconnecting", reason="not connected")
            session.offer_state((topic, key.symbol), Frame(payload))

    def _tell_refusal(self, session: Session, key: SubKey, topic: Topic) -> None:
        standing = self._upstream.standing(topic)
        if standing.state == "refused" and standing.code != "no_source":
            payload = status_message(key.symbol, topic, "refused", reason=standing.text)
            session.offer_state((topic, key.symbol), Frame(payload))

    def _forget_waiting(self, session: Session, topics: Sequence[Topic]) -> None:
        """These topics of a session need no more word of the venue, unless another subscription waits for it."""
        for topic in topics:
            if any(session.is_confirmed(key) is False for key in session.keys_on(topic)):
                continue
            waiting = self._waiting.get(topic)
            if waiting is not None:
                waiting.pop(session, None)
                if not waiting:
                    del self._waiting[topic]
