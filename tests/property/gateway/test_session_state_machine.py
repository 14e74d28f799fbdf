"""A client and its venue do what they like; what the client hears always makes sense."""

import json
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from src.api.gateway.board import Board
from src.api.gateway.dialects import Middleware, TimeAndSales
from src.api.gateway.session import Began, Client, Ended, Limits, Session, SubKey
from src.models.changes import BookChange, TradeSeen
from src.models.live import Topic
from src.models.messages import Book, Level, Trade

SYMBOLS = ["AAPL", "US.AAPL", "BTC", "ETH", "*"]
LIMIT = 4
EVENTS = 5
KINDS = {"trade": "trade", "orderbook_update": "book"}


def plain(symbol):
    return symbol.removeprefix("US.")


def topic(kind, symbol):
    return Topic(kind, "toy", plain(symbol))


class SessionMachine(RuleBasedStateMachine):
    """Two connections of one client id on one board; the model says what each may hear."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.board = Board(interval_s=0.1, recent=3)
        self.client = Client("c")
        limits = Limits(subscriptions=LIMIT, commands_per_s=1e9, events=EVENTS)
        self.sessions = [
            Session("client:1", TimeAndSales(), self.client, limits, self.now),
            Session("client:2", Middleware(), self.client, limits, self.now),
        ]
        self.wanted = [{}, {}]  # key -> confirmed, as the model knows it
        self.published = defaultdict(int)  # newest number by topic
        self.last_event = [defaultdict(int), defaultdict(int)]
        self.last_book = [defaultdict(int), defaultdict(int)]
        self.number = 0

    who = st.sampled_from([0, 1])
    kinds = st.sampled_from(["book", "trade"])
    symbols = st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=3, unique=True)

    @rule(who=who, kind=kinds, symbols=symbols)
    def subscribe(self, who, kind, symbols):
        session = self.sessions[who]
        command = {"action": "subscribe", "symbols": symbols, "topic": kind}
        for event in session.receive(json.dumps(command), self.now):
            assert isinstance(event, Began)
            assert event.key not in self.wanted[who]
            self.wanted[who][event.key] = False
            session.aim(event.key, [topic(kind, event.key.symbol)])
        for symbol in symbols:
            key = SubKey(kind, symbol)
            if key not in self.wanted[who]:
                assert len(self.held()) >= LIMIT, "only the limit keeps a client from subscribing"

    @precondition(lambda self: any(False in wanted.values() for wanted in self.wanted))
    @rule(data=st.data(), accepted=st.booleans())
    def answer_of_the_venue(self, data, accepted):
        who, key = data.draw(
            st.sampled_from([(w, k) for w in (0, 1) for k, confirmed in self.wanted[w].items() if not confirmed])
        )
        session = self.sessions[who]
        if accepted:
            session.confirm(key)
            self.wanted[who][key] = True
            for route in session.add_routes(key):
                self.board.current(session, route)
                self.board.join(session, route)
        else:
            session.refuse(key, "upstream_refused", "no")
            self.end(who, key)

    @rule(who=who, kind=kinds, symbols=symbols)
    def unsubscribe(self, who, kind, symbols):
        command = {"action": "unsubscribe", "symbols": symbols, "topic": kind}
        for event in self.sessions[who].receive(json.dumps(command), self.now):
            assert isinstance(event, Ended)
            self.end(who, event.key)

    @rule(kind=kinds, symbol=st.sampled_from(["AAPL", "BTC", "ETH"]))
    def publish(self, kind, symbol):
        self.number += 1
        at = topic(kind, symbol)
        if kind == "book":
            book = Book("toy", symbol, self.number, 0, (Level(str(self.number), "1"),), ())
            change = BookChange(book, changed=True)
        else:
            change = TradeSeen(Trade("toy", symbol, str(self.number), str(self.number), "1", None, 0, 0))
        self.published[at] = self.number
        self.board.publish(at, [change], self.now)

    @precondition(lambda self: any(self.wanted))
    @rule(data=st.data())
    def publish_what_somebody_hears(self, data):
        key = data.draw(st.sampled_from(sorted(self.held())))
        self.publish(
            key.kind, data.draw(st.sampled_from(["AAPL", "BTC"])) if key.symbol == "*" else plain(key.symbol)
        )
        self.time_passes(0.1)

    @precondition(lambda self: any(self.wanted))
    @rule(data=st.data())
    def unsubscribe_what_is_held_while_something_waits(self, data):
        who = data.draw(st.sampled_from([w for w in (0, 1) if self.wanted[w]]))
        key = data.draw(st.sampled_from(sorted(self.wanted[who])))
        self.unsubscribe(who, key.kind, [key.symbol])
        self.read(who)

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.1, 0.5]))
    def time_passes(self, seconds):
        self.now += seconds
        self.board.flush(self.now)

    @rule(who=who)
    def read(self, who):
        """The connection takes what waits; data is only of what is wanted, in order, never older than before."""
        for frame in self.sessions[who].take():
            said = json.loads(frame.payload)
            kind = KINDS.get(said["type"])
            if kind is None:
                continue
            symbol, venue_symbol = said["symbol"], plain(said["symbol"])
            keys = {SubKey(kind, symbol), SubKey(kind, "*")}
            confirmed = {key for key, is_confirmed in self.wanted[who].items() if is_confirmed}
            assert keys & confirmed, f"{said} came without a confirmed subscription: {self.wanted[who]}"
            if kind == "book":
                number = int(said["data"]["bids"][0]["price"])
                assert number >= self.last_book[who][symbol]
                self.last_book[who][symbol] = number
            else:
                number = int(said["data"]["price"])
                if not said.get("history"):
                    assert number > self.last_event[who][symbol]
                    self.last_event[who][symbol] = number
            assert number <= self.published[topic(kind, venue_symbol)]

    @rule(who=who)
    def a_connection_is_replaced(self, who):
        old = self.sessions[who]
        for key in old.leave():
            self.end(who, key, told=False)
        assert list(old.routes) == []
        self.sessions[who] = Session(
            old.name,
            old.dialect,
            self.client,
            Limits(subscriptions=LIMIT, commands_per_s=1e9, events=EVENTS),
            self.now,
        )
        self.last_event[who].clear()
        self.last_book[who].clear()

    @invariant()
    def subscriptions_are_as_the_model_says_and_within_the_limit(self):
        assert set(self.client.keys) == self.held()
        assert len(self.client) <= LIMIT
        for session, wanted in zip(self.sessions, self.wanted, strict=True):
            assert set(session.keys) == set(wanted)
            for key, confirmed in wanted.items():
                assert session.is_confirmed(key) is confirmed

    @invariant()
    def what_waits_is_bounded(self):
        for session in self.sessions:
            assert len(session.latest) <= 2 * len(SYMBOLS)
            assert len(session._events) <= EVENTS

    @invariant()
    def the_board_knows_exactly_the_listeners(self):
        for at in {topic(kind, symbol) for kind in ("book", "trade") for symbol in ("AAPL", "BTC", "ETH")}:
            expected = [
                session
                for session, wanted in zip(self.sessions, self.wanted, strict=True)
                if any(
                    confirmed and topic(key.kind, key.symbol) in (at, Topic(at.kind, "toy", "*"))
                    for key, confirmed in wanted.items()
                )
            ]
            assert set(self.board.listeners(at)) == set(expected)

    def held(self):
        return {key for wanted in self.wanted for key in wanted}

    def end(self, who, key, *, told=True):
        session = self.sessions[who]
        self.wanted[who].pop(key, None)
        for route in session.drop_routes(key):
            self.board.leave(session, route)
        if told:
            assert session.is_confirmed(key) is None


SessionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSession = SessionMachine.TestCase
