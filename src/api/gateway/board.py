"""Who listens to what, and what goes out when. Pure, time is handed in.

An update is encoded once for each spelling in which somebody asked for its symbol. Time is cut into windows of one
interval, the same for all topics, and a topic goes out at most once in each: at once when it has not gone out in the
present one, else at the beginning of the next, with the latest book and all events. Fixed windows, and not a least
distance, since with a distance one late update would make all later ones of a steady feed late. Beginning all at the
same moment, busy topics share writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from src.api.gateway.frames import Frame
from src.api.gateway.messages import book_data, book_update, event_message, status_message, trade_message
from src.api.gateway.session import Route, Session
from src.models.changes import BookChange, Change, TradeSeen
from src.models.live import STAR, Topic
from src.models.messages import Book

MOST_LINES = 20_000
MOST_PENDING_EVENTS = 10_000

Listeners = dict[Session, None]


class Stale:
    """A topic that is not fresh: its state, why, and since when."""

    __slots__ = ("reason", "since_ms", "state")

    def __init__(self, state: str, reason: str, since_ms: int) -> None:
        self.state = state
        self.reason = reason
        self.since_ms = since_ms


class _Line:
    """One topic: its listeners by spelling, what is to go out, and what newcomers get."""

    __slots__ = ("book", "due", "events", "is_new", "outlets", "recent", "stale", "topic", "window")

    def __init__(self, topic: Topic, recent: int) -> None:
        self.topic = topic
        self.outlets: dict[str, Listeners] = {}
        self.book: Book | None = None
        self.is_new = False
        self.events: deque[Change] = deque(maxlen=MOST_PENDING_EVENTS)
        self.recent: deque[TradeSeen] | None = deque(maxlen=recent) if topic.kind == "trade" and recent else None
        self.window = -1  # the last one in which it went out
        self.due: float | None = None
        self.stale: Stale | None = None


class Board:
    """All topics. ``interval_s``: the window within which a topic goes out once; ``recent``: trades for newcomers."""

    def __init__(self, *, interval_s: float, recent: int) -> None:
        self._interval_s = interval_s
        self._recent = recent
        self._lines: dict[Topic, _Line] = {}
        self._stars: dict[tuple[str, str], Listeners] = {}
        self._due: dict[Topic, _Line] = {}
        self.oldest_received_ms: list[int] = []
        """When what the last flush sent had arrived, one time for each topic."""

    # -- listeners -------------------------------------------------------------------------------------------------

    def join(self, session: Session, route: Route) -> None:
        """Let a session hear a topic in a spelling."""
        topic, spelling = route
        if topic.subject == STAR:
            self._stars.setdefault((topic.kind, topic.venue), {})[session] = None
        else:
            self._line(topic).outlets.setdefault(spelling, {})[session] = None

    def leave(self, session: Session, route: Route) -> None:
        """Let it hear that no longer."""
        topic, spelling = route
        if topic.subject == STAR:
            _remove(self._stars, (topic.kind, topic.venue), session)
            return
        line = self._lines.get(topic)
        if line is not None:
            _remove(line.outlets, spelling, session)

    def listeners(self, topic: Topic) -> list[Session]:
        """Sessions that hear a topic, each once."""
        line = self._lines.get(topic)
        named = [] if line is None else [session for outlet in line.outlets.values() for session in outlet]
        return list(dict.fromkeys([*named, *self._stars.get((topic.kind, topic.venue), ())]))

    def knows(self, topic: Topic) -> bool:
        """Whether something of this topic was seen."""
        line = self._lines.get(topic)
        return line is not None and (line.book is not None or bool(line.recent))

    def snapshot(self, topic: Topic) -> list[Change]:
        """What is known of a topic, for another process whose clients begin to listen."""
        line = self._lines.get(topic)
        if line is None:
            return []
        book: list[Change] = [] if line.book is None else [BookChange(line.book, changed=True)]
        return [*book, *(line.recent or ())]

    def counts(self) -> dict[Topic, int]:
        """How many sessions listen to each topic that has listeners."""
        return {topic: sum(map(len, line.outlets.values())) for topic, line in self._lines.items() if line.outlets}

    def is_repeated(self, change: Change) -> bool:
        """Whether this is a trade that newcomers are told already."""
        if not isinstance(change, TradeSeen):
            return False
        line = self._lines.get(Topic("trade", change.trade.venue, change.trade.symbol))
        return line is not None and any(one.trade.trade_id == change.trade.trade_id for one in line.recent or ())

    # -- what happens ----------------------------------------------------------------------------------------------

    def publish(self, topic: Topic, changes: Sequence[Change], now: float) -> None:
        """Take what is new of a topic."""
        line = self._line(topic)
        for change in changes:
            if isinstance(change, BookChange):
                line.book = change.book
                line.is_new = True
            else:
                line.events.append(change)
                if line.recent is not None and isinstance(change, TradeSeen):
                    line.recent.append(change)
        if not line.outlets and (topic.kind, topic.venue) not in self._stars:
            line.events.clear()
            line.is_new = False
        elif line.due is None:
            window = self._window(now)
            line.due = now if window > line.window else (window + 1) * self._interval_s
            self._due[topic] = line

    def mark(self, topic: Topic, stale: Stale | None) -> list[Session]:
        """Note how fresh a topic is (None = fresh again); returns whom that was queued for."""
        line = self._line(topic)
        if (None if line.stale is None else line.stale.state) == (None if stale is None else stale.state):
            return []
        line.stale = stale
        status = Topic("status", topic.venue, topic.subject)
        watching = self._lines.get(status)
        told: Listeners = {}
        for spelling, sessions in [*line.outlets.items(), *([] if watching is None else watching.outlets.items())]:
            frame = Frame(_status(spelling, topic, stale))
            for session in sessions:
                session.offer_state((topic, spelling), frame)
            told.update(sessions)
        stars = self._stars.get((topic.kind, topic.venue), {}) | self._stars.get(("status", topic.venue), {})
        if stars:
            frame = Frame(_status(topic.subject, topic, stale))
            for session in stars:
                if session not in told:
                    session.offer_state((topic, topic.subject), frame)
            told.update(stars)
        return list(told)

    def due(self) -> float | None:
        """When the next flush has something to do, None = when something happens."""
        return min((line.due for line in self._due.values() if line.due is not None), default=None)

    def flush(self, now: float) -> Listeners:
        """Queue what is due with its listeners; returns the sessions that have something to send."""
        awake: Listeners = {}
        self.oldest_received_ms = []
        for topic, line in list(self._due.items()):
            if line.due is not None and line.due <= now:
                del self._due[topic]
                line.due = None
                line.window = self._window(now)
                self._send(line, awake)
        return awake

    def current(self, session: Session, route: Route) -> None:
        """Queue for a newcomer what is known: the book, the last trades, and whether they are fresh."""
        topic, spelling = route
        if topic.subject == STAR:
            for line in [one for one in self._lines.values() if one.topic[:2] == topic[:2]]:
                self._show(session, line, line.topic.subject)
        elif (known := self._lines.get(topic)) is not None:
            self._show(session, known, spelling)

    def forget(self, topic: Topic) -> None:
        """Drop what was known: it is collected no longer and would be stale when somebody asks again."""
        line = self._lines.get(topic)
        if line is None:
            return
        self._due.pop(topic, None)
        if line.outlets:
            line.book, line.due, line.stale = None, None, None
            line.events.clear()
            if line.recent is not None:
                line.recent.clear()
        else:
            del self._lines[topic]

    # -- private ---------------------------------------------------------------------------------------------------

    def _window(self, now: float) -> int:
        return int(now / self._interval_s + 1e-9)  # a due time, divided, must not fall into the window before

    def _line(self, topic: Topic) -> _Line:
        line = self._lines.get(topic)
        if line is None:
            if len(self._lines) >= MOST_LINES:
                self._make_room()
            line = self._lines[topic] = _Line(topic, self._recent)
        return line

    def _make_room(self) -> None:
        """Forget the topic that has been there longest of those that nobody listens to."""
        for topic, line in self._lines.items():
            if not line.outlets and line.due is None:
                del self._lines[topic]
                return

    def _send(self, line: _Line, awake: Listeners) -> None:
        stars = self._stars.get((line.topic.kind, line.topic.venue), {})
        spellings: dict[str, Iterable[Session]] = dict(line.outlets)
        if stars:
            own = {session for outlet in line.outlets.values() for session in outlet}
            others = [session for session in stars if session not in own]
            native = line.topic.subject
            spellings[native] = [*spellings.get(native, ()), *others]
            awake.update(dict.fromkeys(others))
        for outlet in line.outlets.values():
            awake.update(outlet)
        if line.is_new and line.book is not None:
            line.is_new = False
            self._send_book(line, line.book, spellings)
        if line.events:
            self._send_events(line, spellings)

    def _send_book(self, line: _Line, book: Book, spellings: dict[str, Iterable[Session]]) -> None:
        self.oldest_received_ms.append(book.received_ms)
        data = book_data(book)
        for spelling, sessions in spellings.items():
            route = (line.topic, spelling)
            frame = Frame(book_update(spelling, book.venue, data))
            for session in sessions:
                session.latest[route] = frame

    def _send_events(self, line: _Line, spellings: dict[str, Iterable[Session]]) -> None:
        first = line.events[0]
        if isinstance(first, TradeSeen):
            self.oldest_received_ms.append(first.trade.received_ms)
        for spelling, sessions in spellings.items():
            route = (line.topic, spelling)
            for frame in [Frame(event_message(spelling, change)) for change in line.events]:
                for session in sessions:
                    session.offer_event(route, frame)
        line.events.clear()

    @staticmethod
    def _show(session: Session, line: _Line, spelling: str) -> None:
        route = (line.topic, spelling)
        if line.stale is not None:
            session.offer_state(route, Frame(_status(spelling, line.topic, line.stale)))
        if line.book is not None:
            session.latest[route] = Frame(book_update(spelling, line.book.venue, book_data(line.book)))
        pending = {id(change) for change in line.events}
        for seen in line.recent or ():
            if id(seen) not in pending:  # those go out in a moment anyway
                session.offer_event(route, Frame(trade_message(spelling, seen.trade, history=True)))


def _status(spelling: str, topic: Topic, stale: Stale | None) -> bytes:
    if stale is None:
        return status_message(spelling, topic, "live")
    return status_message(spelling, topic, stale.state, reason=stale.reason, since_ms=stale.since_ms)


def _remove(places: dict[str, Listeners] | dict[tuple[str, str], Listeners], key: object, session: Session) -> None:
    listeners = places.get(key)  # type: ignore[call-overload]
    if listeners is not None:
        listeners.pop(session, None)
        if not listeners:
            del places[key]  # type: ignore[arg-type]
