"""The ledger of a venue that takes lists of subscriptions and answers them."""

from __future__ import annotations

import pytest

from src.models.messages import Refusal, RefusalKind
from src.models.streams import SubscriptionState
from src.venues.feed import Batching
from src.venues.ledger import SUSPECT_DROPS, Ledger
from src.venues.timing import Timing
from tests.support.list_venue import key, wanted

PENDING, CONFIRMED, FAILED = SubscriptionState.PENDING, SubscriptionState.CONFIRMED, SubscriptionState.FAILED


class Bench:
    """A ledger with a venue that does nothing by itself."""

    def __init__(self, batching: Batching | None = None) -> None:
        self.ledger = Ledger(Timing(), batching or Batching(most=100))
        self.now = 0.0

    def want(self, *subjects: str) -> None:
        for subscription in wanted(*subjects):
            self.ledger.add(subscription)

    def send(self) -> str:
        """The next message in short words, and it counts as sent."""
        sends = self.ledger.next_sends()
        for one in sends:
            self.ledger.sent(one, self.now)
        self.now += 0.001
        return f"{sends[0].verb} {' '.join(one.subscription.key.subject for one in sends)}" if sends else ""

    def has(self, *subjects: str) -> tuple[list[str], list[str]]:
        confirmed, dropped = self.ledger.on_list(frozenset(key(subject) for subject in subjects))
        return [one.subject for one in confirmed], [one.subject for one in dropped]

    def refuse(self, kind: RefusalKind = RefusalKind.SUBSCRIPTION_CAP, subject: str = "") -> list[str]:
        refusal = Refusal(kind, "no", key(subject) if subject else None)
        return [one.key.subject for one in self.ledger.on_refusal(refusal, self.now)]

    def states(self) -> dict[SubscriptionState, list[str]]:
        found: dict[SubscriptionState, list[str]] = {}
        for entry in self.ledger.entries():
            found.setdefault(entry.state, []).append(entry.subscription.key.subject)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_all_that_is_wanted_goes_into_one_message_and_one_list_confirms_it(bench: Bench) -> None:
    bench.want("A", "B", "C")
    assert bench.send() == "subscribe A B C"
    assert bench.has("A", "B", "C") == (["A", "B", "C"], [])
    assert bench.states() == {CONFIRMED: ["A", "B", "C"]}
    assert bench.send() == ""


def test_the_next_message_waits_for_the_answer_to_the_last(bench: Bench) -> None:
    bench.want("A")
    assert bench.send() == "subscribe A"
    bench.want("B")
    assert bench.send() == ""
    bench.has("A")
    assert bench.send() == "subscribe B"


def test_an_answer_that_never_comes_holds_the_next_message_up_only_until_the_deadline(bench: Bench) -> None:
    bench.want("A")
    bench.send()
    bench.want("B")
    bench.now += Timing().ack_deadline_s + 1
    assert [one.key.subject for one in bench.ledger.tick(bench.now)] == ["A"]
    assert bench.send() == "subscribe B"


def test_a_message_is_no_longer_than_the_venue_takes() -> None:
    bench = Bench(Batching(most=2))
    bench.want("A", "B", "C")
    assert bench.send() == "subscribe A B"
    bench.has("A", "B")
    assert bench.send() == "subscribe C"


def test_what_goes_is_told_first_and_comes_back_only_when_it_is_gone(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.has("A", "B")
    bench.ledger.remove(key("A"))
    bench.want("A", "C")
    assert bench.send() == "unsubscribe A"
    assert bench.has("B") == ([], [])
    assert [one.key.subject for one in bench.ledger.take_left()] == ["A"]
    assert bench.send() == "subscribe A C"


def test_a_list_that_still_has_what_should_go_does_not_let_it_go(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.has("A", "B")
    bench.ledger.remove(key("A"))
    bench.send()
    bench.has("A", "B")
    assert bench.ledger.take_left() == []
    bench.now += Timing().ack_deadline_s + 1
    bench.ledger.tick(bench.now)
    assert [one.key.subject for one in bench.ledger.take_left()] == ["A"]


def test_what_a_list_misses_was_dropped_by_the_venue_and_is_asked_for_again(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.has("A", "B")
    assert bench.has("B") == ([], ["A"])
    assert bench.states() == {PENDING: ["A"], CONFIRMED: ["B"]}
    assert bench.send() == "subscribe A"


def test_a_mute_stream_asked_for_afresh_is_not_taken_for_a_dropped_one(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.has("A", "B")
    bench.ledger.resubscribe(key("A"))
    assert bench.send() == "unsubscribe A"
    assert bench.has("B") == ([], [])
    assert bench.send() == "subscribe A"
    assert bench.has("A", "B") == (["A"], [])


@pytest.mark.parametrize("kind", [RefusalKind.SUBSCRIPTION_CAP, RefusalKind.INVALID, RefusalKind.OTHER])
def test_a_refused_list_is_halved_until_the_guilty_one_stands_alone(bench: Bench, kind: RefusalKind) -> None:
    bench.want("A", "B", "C", "X")
    assert bench.send() == "subscribe A B C X"
    assert bench.refuse(kind) == []
    assert bench.send() == "subscribe A B"
    bench.has("A", "B")
    assert bench.send() == "subscribe C X"
    assert bench.refuse(kind) == []
    assert bench.send() == "subscribe C"
    bench.has("A", "B", "C")
    assert bench.send() == "subscribe X"
    assert bench.refuse(kind) == (["X"] if kind is not RefusalKind.OTHER else [])
    if kind is not RefusalKind.OTHER:
        assert bench.states() == {CONFIRMED: ["A", "B", "C"], FAILED: ["X"]}


def test_a_refused_one_is_retried_alone_and_takes_nobody_down(bench: Bench) -> None:
    bench.want("A", "X")
    bench.send()
    bench.refuse(RefusalKind.INVALID)
    bench.send()
    bench.has("A")
    bench.send()
    assert bench.refuse(RefusalKind.INVALID) == ["X"]
    bench.now += Timing().invalid_retry_s + 1
    bench.ledger.tick(bench.now)
    bench.want("B", "C")
    assert [bench.send(), bench.has("A", "X"), bench.send()] == ["subscribe X", (["X"], []), "subscribe B C"]


def test_a_refusal_that_names_one_fails_that_one_and_asks_again_for_the_others(bench: Bench) -> None:
    bench.want("A", "X", "B")
    bench.send()
    assert bench.refuse(RefusalKind.INVALID, "X") == ["X"]
    assert bench.send() == "subscribe A B"


def test_a_refused_unsubscribe_ends_the_wait_for_it(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.has("A", "B")
    bench.ledger.remove(key("A"))
    bench.send()
    assert bench.refuse(RefusalKind.INVALID) == []
    assert [one.key.subject for one in bench.ledger.take_left()] == ["A"]


def test_too_many_messages_repeats_the_whole_list(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.refuse(RefusalKind.MESSAGE_RATE)
    assert bench.send() == "subscribe A B"


def test_a_venue_that_hangs_up_on_a_list_gets_shorter_ones_and_blames_one_alone(bench: Bench) -> None:
    bench.want("A")
    bench.send()
    bench.has("A")
    bench.want("B", "X")
    for expected in ("subscribe B X", "subscribe B"):
        assert bench.send() == expected
        if expected == "subscribe B":
            bench.has("A", "B")
            break
        assert [one.subject for one in bench.ledger.disconnected(bench.now, by_venue=True)] == ["A"]
        assert bench.send() == "subscribe A"
        bench.has("A")
    for _ in range(SUSPECT_DROPS):
        assert bench.send() == "subscribe X"
        bench.ledger.disconnected(bench.now, by_venue=True)
        assert bench.send() == "subscribe A B"
        bench.has("A", "B")
    assert bench.states() == {CONFIRMED: ["A", "B"], FAILED: ["X"]}


def test_when_the_venue_does_not_let_us_in_everything_is_failed_until_it_does(bench: Bench) -> None:
    bench.want("A", "B")
    bench.send()
    bench.has("A", "B")
    bench.ledger.disconnected(bench.now, by_venue=False)
    assert [one.key.subject for one in bench.ledger.fail_all("wrong key", bench.now)] == ["A", "B"]
    assert bench.ledger.fail_all("wrong key", bench.now) == ()
    assert bench.send() == ""
    bench.ledger.tick(bench.now)
    assert bench.send() == "subscribe A B"
    assert bench.has("A", "B") == (["A", "B"], [])


def test_a_venue_that_is_told_the_whole_each_time() -> None:
    bench = Bench(Batching(most=2, whole=True, acknowledged=False))
    bench.want("A", "B", "C")
    assert bench.send() == "subscribe A B C"
    assert [one.key.subject for one in bench.ledger.listed()] == ["A", "B", "C"]
    assert bench.ledger.on_data(key("A")) is True
    bench.ledger.remove(key("B"))
    bench.want("D")
    assert bench.send() == "unsubscribe B D"
    assert [one.key.subject for one in bench.ledger.listed()] == ["A", "C", "D"]
    assert [one.key.subject for one in bench.ledger.take_left()] == ["B"]
    bench.now += 1_000
    assert bench.ledger.tick(bench.now) == (), "without acknowledgements there is no deadline"
    assert bench.send() == ""
