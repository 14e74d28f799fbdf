from __future__ import annotations

import pytest

from src.models.messages import Refusal, RefusalKind
from src.models.streams import StreamKey, SubscriptionState
from src.venues.ledger import NO_ACK, SUSPECT, Ledger
from src.venues.timing import Timing
from tests.support.toy_venue import key, market, user_feeds

PENDING, CONFIRMED, FAILED = SubscriptionState.PENDING, SubscriptionState.CONFIRMED, SubscriptionState.FAILED
CAP = Refusal(RefusalKind.USER_CAP, "Cannot track more than 10 total users.")


class Bench:
    """A ledger with a venue that does nothing by itself."""

    def __init__(self) -> None:
        self.ledger = Ledger(Timing())
        self.now = 0.0

    def send_all(self) -> list[str]:
        said = []
        while (send := self.ledger.next_send()) is not None:
            self.ledger.sent(send, self.now)
            said.append(f"{send.verb} {send.subscription.key.channel}/{send.subscription.key.subject}")
            self.now += 0.001
        return said

    def state(self, stream: StreamKey) -> SubscriptionState | None:
        entry = self.ledger.entry(stream)
        return entry.state if entry else None

    def why(self, stream: StreamKey) -> str:
        entry = self.ledger.entry(stream)
        assert entry is not None
        return entry.why

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        return [str(s.key) for s in self.ledger.tick(self.now)]

    def refuse(self, kind: RefusalKind, stream: StreamKey | None = None, text: str = "no") -> list[StreamKey]:
        return [s.key for s in self.ledger.on_refusal(Refusal(kind, text, stream), self.now)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_pending_until_acknowledged(bench: Bench) -> None:
    bench.ledger.add(market("BTC"))
    assert bench.state(key("BTC")) is PENDING
    assert bench.send_all() == ["subscribe price/BTC"]
    assert bench.state(key("BTC")) is PENDING
    assert bench.ledger.on_ack(key("BTC"), subscribed=True) is True
    assert bench.state(key("BTC")) is CONFIRMED
    assert bench.ledger.on_ack(key("BTC"), subscribed=True) is False
    assert bench.ledger.counts() == {PENDING: 0, CONFIRMED: 1, FAILED: 0}


def test_data_confirms_and_the_late_acknowledgement_changes_nothing(bench: Bench) -> None:
    bench.ledger.add(market("BTC"))
    bench.send_all()
    assert [bench.ledger.on_data(key("BTC")) for _ in range(2)] == [True, False]
    assert bench.ledger.on_ack(key("BTC"), subscribed=True) is False
    assert bench.wait(60) == []


def test_data_that_nobody_wants_is_told_apart(bench: Bench) -> None:
    assert bench.ledger.on_data(key("BTC")) is None
    assert bench.ledger.on_ack(key("BTC"), subscribed=True) is False


def test_no_acknowledgement_within_the_deadline_is_a_failure_and_is_tried_again_slowly(bench: Bench) -> None:
    bench.ledger.add(market("BTC"))
    bench.send_all()
    assert bench.wait(9.9) == []
    assert bench.wait(0.2) == ["toy/price/BTC"]
    assert (bench.state(key("BTC")), bench.why(key("BTC"))) == (FAILED, NO_ACK)
    assert bench.send_all() == []
    assert bench.wait(60) == []
    assert bench.send_all() == ["subscribe price/BTC"]
    assert bench.state(key("BTC")) is FAILED, "failed in everybody's eyes until confirmed"
    assert bench.wait(11) == [], "told once, not per retry"
    bench.wait(60)
    bench.send_all()
    assert bench.ledger.on_ack(key("BTC"), subscribed=True)
    assert (bench.state(key("BTC")), bench.why(key("BTC"))) == (CONFIRMED, "")


def test_the_deadline_runs_from_sending_not_from_wanting(bench: Bench) -> None:
    bench.ledger.add(market("BTC"))
    assert bench.wait(100) == []
    bench.send_all()
    assert bench.wait(9) == []


def test_the_user_cap_fails_all_feeds_of_users_of_whom_nothing_is_confirmed(bench: Bench) -> None:
    for subscription in [*user_feeds("a"), *user_feeds("b"), market("BTC"), *user_feeds("c")]:
        bench.ledger.add(subscription)
    for _ in range(4):  # a and b's feeds; BTC and c stay in flight or unsent
        send = bench.ledger.next_send()
        assert send is not None
        bench.ledger.sent(send, bench.now)
    bench.ledger.on_ack(key("a", "orders"), subscribed=True)
    failed = bench.ledger.on_refusal(CAP, bench.now)
    assert {s.key for s in failed} == {key("b", "orders"), key("b", "state")}
    assert bench.state(key("a", "state")) is PENDING, "a is tracked, its second feed is merely under way"
    assert bench.state(key("BTC")) is PENDING
    assert bench.state(key("c", "orders")) is PENDING, "was never sent"
    assert bench.ledger.on_refusal(CAP, bench.now) == (), "the second feed's refusal means the same user"


def test_a_user_whose_second_feed_was_not_yet_sent_fails_whole(bench: Bench) -> None:
    for subscription in user_feeds("a"):
        bench.ledger.add(subscription)
    send = bench.ledger.next_send()
    assert send is not None
    bench.ledger.sent(send, 0.0)
    assert len(bench.ledger.on_refusal(CAP, 0.0)) == 2
    assert bench.send_all() == []


def test_a_user_declared_failed_by_mistake_is_cured_by_its_acknowledgement(bench: Bench) -> None:
    for subscription in user_feeds("a"):
        bench.ledger.add(subscription)
    bench.send_all()
    bench.ledger.on_refusal(CAP, 0.0)
    assert bench.ledger.on_ack(key("a", "orders"), subscribed=True)
    assert bench.ledger.on_data(key("a", "state"))
    assert bench.ledger.counts()[CONFIRMED] == 2


def test_capped_users_are_asked_for_again_as_soon_as_a_slot_is_free_others_are_not(bench: Bench) -> None:
    for subscription in [*user_feeds("a", "orders"), market("NOPE")]:
        bench.ledger.add(subscription)
    bench.send_all()
    bench.refuse(RefusalKind.INVALID, key("NOPE"))
    bench.ledger.on_refusal(CAP, 0.0)
    bench.ledger.retry_users()
    assert bench.send_all() == ["subscribe orders/a"]
    bench.ledger.retry_users()
    assert bench.send_all() == [], "it is under way"


def test_a_slot_that_becomes_free_while_the_answer_is_under_way_is_not_missed(bench: Bench) -> None:
    bench.ledger.add(user_feeds("a", "orders")[0])
    bench.send_all()
    bench.ledger.on_refusal(CAP, bench.now)
    bench.ledger.retry_users()
    bench.send_all()
    bench.ledger.retry_users()
    bench.ledger.on_refusal(CAP, bench.now)
    bench.wait(0)
    assert bench.send_all() == ["subscribe orders/a"]
    bench.ledger.on_refusal(CAP, bench.now)
    bench.wait(1)
    assert bench.send_all() == [], "then slowly again"


@pytest.mark.parametrize("kind", [RefusalKind.INVALID, RefusalKind.UNKNOWN_TYPE, RefusalKind.OTHER])
def test_a_refusal_with_a_name_fails_exactly_that_one(bench: Bench, kind: RefusalKind) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.add(market("B"))
    bench.send_all()
    assert bench.refuse(kind, key("B"), "Invalid B") == [key("B")]
    assert (bench.state(key("A")), bench.state(key("B")), bench.why(key("B"))) == (PENDING, FAILED, "Invalid B")
    assert bench.refuse(kind, key("B")) == []
    assert bench.refuse(kind, key("nobody")) == []


def test_a_nameless_refusal_fails_one_only_where_there_is_no_doubt(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.add(market("B"))
    bench.send_all()
    assert bench.refuse(RefusalKind.INVALID) == []
    bench.ledger.on_ack(key("A"), subscribed=True)
    assert bench.refuse(RefusalKind.INVALID) == [key("B")]
    assert bench.refuse(RefusalKind.UNKNOWN_TYPE) == []


@pytest.mark.parametrize("kind", [RefusalKind.OTHER, RefusalKind.POST_CAP])
def test_errors_about_something_else_touch_no_subscription(bench: Bench, kind: RefusalKind) -> None:
    bench.ledger.add(market("A"))
    bench.send_all()
    assert bench.refuse(kind) == []
    assert bench.state(key("A")) is PENDING


def test_the_subscription_cap_fails_what_is_under_way(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.add(market("B"))
    bench.send_all()
    bench.ledger.on_ack(key("A"), subscribed=True)
    assert bench.refuse(RefusalKind.SUBSCRIPTION_CAP) == [key("B")]


def test_too_many_messages_repeats_what_is_unanswered(bench: Bench) -> None:
    for name in "ABC":
        bench.ledger.add(market(name))
    bench.send_all()
    bench.ledger.on_ack(key("A"), subscribed=True)
    bench.ledger.on_ack(key("C"), subscribed=True)
    bench.ledger.remove(key("C"))
    bench.send_all()
    assert bench.refuse(RefusalKind.MESSAGE_RATE) == []
    assert bench.send_all() == ["unsubscribe price/C", "subscribe price/B"]


def test_what_was_never_sent_leaves_at_once(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    assert bench.ledger.remove(key("A")) is False
    assert bench.send_all() == []
    assert [s.key for s in bench.ledger.take_left()] == [key("A")]
    assert bench.ledger.take_left() == []
    assert bench.ledger.idle


def test_what_is_live_leaves_with_the_acknowledgement_of_its_unsubscribe(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.send_all()
    bench.ledger.on_ack(key("A"), subscribed=True)
    assert bench.ledger.remove(key("A")) is True
    assert not bench.ledger.idle
    assert bench.send_all() == ["unsubscribe price/A"]
    assert bench.ledger.take_left() == []
    bench.ledger.on_ack(key("A"), subscribed=False)
    assert len(bench.ledger.take_left()) == 1
    assert bench.ledger.idle


def test_an_unsubscribe_without_answer_counts_as_through_after_the_deadline(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.send_all()
    bench.ledger.remove(key("A"))
    bench.send_all()
    bench.wait(9)
    assert bench.ledger.take_left() == []
    bench.wait(2)
    assert len(bench.ledger.take_left()) == 1


def test_a_refused_one_needs_no_unsubscribe_but_an_unanswered_one_does(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.add(market("B"))
    bench.send_all()
    bench.refuse(RefusalKind.INVALID, key("A"))
    bench.wait(11)
    bench.ledger.remove(key("A"))
    bench.ledger.remove(key("B"))
    assert bench.send_all() == ["unsubscribe price/B"]


def test_one_that_comes_back_while_leaving_waits_for_its_turn(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.send_all()
    bench.ledger.on_ack(key("A"), subscribed=True)
    bench.ledger.remove(key("A"))
    bench.ledger.add(market("A"))
    assert bench.send_all() == ["unsubscribe price/A"]
    bench.ledger.on_ack(key("A"), subscribed=False)
    assert bench.send_all() == ["subscribe price/A"]
    assert bench.ledger.on_ack(key("A"), subscribed=True)


def test_resubscribe_takes_back_and_asks_again(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.resubscribe(key("A"))
    assert bench.send_all() == ["subscribe price/A"], "not confirmed: nothing to resubscribe"
    bench.ledger.resubscribe(key("A"))
    assert bench.send_all() == []
    bench.ledger.on_ack(key("A"), subscribed=True)
    bench.ledger.resubscribe(key("A"))
    bench.ledger.resubscribe(key("nobody"))
    assert bench.send_all() == ["unsubscribe price/A", "subscribe price/A"]
    bench.ledger.on_ack(key("A"), subscribed=False)
    assert bench.state(key("A")) is PENDING
    assert bench.ledger.on_ack(key("A"), subscribed=True)
    assert bench.ledger.take_left() == []


def test_a_reconnect_replays_everything_with_the_original_arguments(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.add(market("B"))
    bench.send_all()
    bench.ledger.on_ack(key("A"), subscribed=True)
    assert bench.ledger.disconnected(bench.now, by_venue=True) == [key("A")]
    assert bench.ledger.counts() == {PENDING: 2, CONFIRMED: 0, FAILED: 0}
    send = bench.ledger.next_send()
    assert send is not None
    assert send.subscription == market("A")
    assert bench.send_all() == ["subscribe price/A", "subscribe price/B"]


def test_a_reconnect_frees_what_was_leaving(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.send_all()
    bench.ledger.remove(key("A"))
    bench.ledger.disconnected(bench.now, by_venue=False)
    assert len(bench.ledger.take_left()) == 1
    assert bench.send_all() == []
    assert bench.ledger.idle


def test_a_reconnect_gives_capped_and_unanswered_ones_a_new_chance_but_not_invalid_ones(bench: Bench) -> None:
    for subscription in [market("SLOW"), market("NOPE"), *user_feeds("a", "orders")]:
        bench.ledger.add(subscription)
    bench.send_all()
    bench.refuse(RefusalKind.INVALID, key("NOPE"))
    bench.ledger.on_refusal(CAP, bench.now)
    bench.wait(11)
    assert bench.ledger.counts()[FAILED] == 3
    bench.ledger.disconnected(bench.now, by_venue=False)
    assert bench.send_all() == ["subscribe price/SLOW", "subscribe orders/a"]
    assert bench.ledger.counts()[FAILED] == 3
    bench.wait(600)
    assert bench.send_all() == ["subscribe price/NOPE"]
    bench.ledger.disconnected(bench.now, by_venue=False)
    assert "subscribe price/NOPE" not in bench.send_all(), "not even when the connection ends meanwhile"


def drop_at(bench: Bench, poison: str) -> list[str]:
    """The venue handles frames in order, acknowledges, and hangs up at the poison."""
    said = [line.rsplit("/", 1)[1] for line in bench.send_all()]
    for name in said:
        if name == poison:
            bench.ledger.disconnected(bench.now, by_venue=True)
            break
        bench.ledger.on_ack(key(name), subscribed=True)
    return said


@pytest.mark.parametrize("order", ["XAB", "AXB", "ABX"])
def test_the_one_that_makes_the_venue_hang_up_is_found_and_put_aside(bench: Bench, order: str) -> None:
    for name in order:
        bench.ledger.add(market(name))
    rounds = 0
    while "X" in drop_at(bench, "X"):
        rounds += 1
        assert rounds < 6
    assert (bench.state(key("X")), bench.why(key("X"))) == (FAILED, SUSPECT)
    assert bench.ledger.counts()[CONFIRMED] == 2


def test_our_own_deadlines_make_nobody_suspect(bench: Bench) -> None:
    bench.ledger.add(market("A"))
    bench.ledger.add(market("B"))
    for _ in range(10):
        bench.send_all()
        bench.ledger.on_ack(key("A"), subscribed=True)
        bench.ledger.disconnected(bench.now, by_venue=False)
    assert bench.ledger.counts()[FAILED] == 0


def test_accept_then_close_makes_nobody_suspect(bench: Bench) -> None:
    for name in "ABC":
        bench.ledger.add(market(name))
    for _ in range(20):
        bench.send_all()
        bench.ledger.disconnected(bench.now, by_venue=True)
    assert bench.ledger.counts()[FAILED] == 0
