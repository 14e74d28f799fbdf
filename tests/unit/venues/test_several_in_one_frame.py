"""A frame that says several things: they count in their order, each as if it had come alone."""

from __future__ import annotations

import itertools

from src.models.clock import ManualClock
from src.models.messages import Ack, AckList, Data, GapReason, Ignored, Pong, Several, Trade, Unusable
from src.models.metrics import BYTES_RECEIVED, FRAMES_IGNORED, FRAMES_RECEIVED, FRAMES_REJECTED, Metrics
from src.models.streams import SubscriptionState
from src.venues.budget import Budget
from src.venues.feed import VenueLimits
from src.venues.freshness import Freshness
from src.venues.inbox import Inbox
from src.venues.ledger import Ledger
from src.venues.login import Login
from src.venues.parts import Parts
from src.venues.repeats import Repeats
from src.venues.timing import Timing
from tests.support.toy_venue import VENUE, MemorySink, ToyFeed, key, market


class TickingClock(ManualClock):
    """Every look at it is a microsecond later."""

    def monotonic(self) -> float:
        self.advance(1e-6)
        return super().monotonic()


class Scripted(ToyFeed):
    """Says what a test writes down, whatever the frame holds."""

    def __init__(self, *said) -> None:
        super().__init__()
        self._said = itertools.cycle(said)

    def decode(self, frame, received_ms):
        del frame, received_ms
        return next(self._said)


def data(subject: str) -> Data:
    return Data(key(subject), 1, (Trade(VENUE, subject, "1", "1", "1", None, 1, 2),))


class Bench:
    def __init__(self, *said) -> None:
        self.feed, self.sink, self.metrics, self.clock = Scripted(*said), MemorySink(), Metrics(), TickingClock()
        self.freshness = Freshness()
        self.parts = Parts(
            feed=self.feed,
            sink=self.sink,
            clock=self.clock,
            metrics=self.metrics,
            budget=Budget(VenueLimits(), clock=self.clock),
            freshness=self.freshness,
            timing=Timing(),
            random=lambda: 0.5,
            opener=None,
            tap=None,
            log_gate=Repeats(window_s=1.0),
            letter_gate=Repeats(window_s=1.0),
        )
        self.answered = 0
        self.ledger = Ledger(Timing())
        self.inbox = Inbox("toy-0", self.parts, self.ledger, Login(self.feed, on_refused=lambda: None), self.note)
        self.inbox.opened(binary=True)

    def note(self) -> None:
        self.answered += 1

    def want(self, *subjects: str) -> None:
        for subject in subjects:
            self.ledger.add(market(subject, silent=30.0))
            self.freshness.watch(market(subject, silent=30.0), 0)
        while (send := self.ledger.next_send()) is not None:
            self.ledger.sent(send, self.clock.monotonic())


def test_data_right_behind_its_acknowledgement_is_fresh() -> None:
    bench = Bench(Several((Ack(key("A"), True), data("A"), data("B"), Ack(key("B"), True))))
    bench.want("A", "B")
    bench.inbox.receive(b"x", binary=True)
    assert [bench.freshness.state(key(name)) for name in "AB"] == ["fresh", "fresh"]
    assert [one.stream.subject for one in bench.sink.received] == ["A", "B"]
    assert bench.answered == 2


def test_parts_within_parts_and_parts_of_every_kind() -> None:
    inner = Several((data("A"), Ignored("news")))
    bench = Bench(Several((Pong(), inner, Unusable("bad_value", "no price", b"{}"), data("A"), data("NOBODY"))))
    bench.want("A")
    bench.inbox.receive(b"xyz", binary=True)
    assert len(bench.sink.received) == 2
    assert bench.inbox.pong_at is not None
    assert [(letter.reason, letter.detail, letter.sample) for letter in bench.sink.letters] == [
        ("bad_value", "no price", b"{}")
    ]
    assert bench.metrics.value(FRAMES_REJECTED, VENUE, "bad_value") == 1
    assert bench.metrics.by_label(FRAMES_IGNORED) == {(VENUE, "news"): 1, (VENUE, "not_subscribed"): 1}
    assert bench.metrics.value(FRAMES_RECEIVED, VENUE) == 1
    assert bench.metrics.value(BYTES_RECEIVED, VENUE) == 3


def test_what_a_list_no_longer_names_is_a_gap_and_is_asked_for_again() -> None:
    bench = Bench(AckList(frozenset({key("A"), key("B")})), data("A"), data("B"), AckList(frozenset({key("B")})))
    bench.want("A", "B")
    for _ in range(4):
        bench.inbox.receive(b"x", binary=True)
    assert [(gap.reason, gap.streams) for gap in bench.sink.gaps] == [(GapReason.REFUSED, (key("A"),))]
    assert bench.ledger.counts()[SubscriptionState.PENDING] == 1
    assert bench.ledger.next_send().subscription.key == key("A")
