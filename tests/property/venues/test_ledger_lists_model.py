"""Lists, refusals, drops and time in any order: in the end all that a patient venue takes is confirmed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from src.models.messages import Refusal, RefusalKind
from src.models.streams import StreamKey, SubscriptionState
from src.venues.feed import Batching
from src.venues.ledger import Ledger
from src.venues.timing import Timing
from tests.support.list_venue import wanted

SUBSCRIPTIONS = {s.key: s for s in wanted("A", "B", "C", "D", "E", "F")}
KEYS = sorted(SUBSCRIPTIONS)
LISTS = st.frozensets(st.sampled_from(KEYS))
KINDS = st.sampled_from([RefusalKind.SUBSCRIPTION_CAP, RefusalKind.INVALID, RefusalKind.MESSAGE_RATE])
STEP = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(KEYS)),
    st.tuples(st.just("remove"), st.sampled_from(KEYS)),
    st.tuples(st.just("send"), st.just(0)),
    st.tuples(st.just("list"), LISTS),
    st.tuples(st.just("refuse"), KINDS),
    st.tuples(st.just("resubscribe"), st.sampled_from(KEYS)),
    st.tuples(st.just("wait"), st.floats(0, 700)),
    st.tuples(st.just("drop"), st.booleans()),
    st.tuples(st.just("fail_all"), st.just(0)),
)


class PatientVenue:
    """Takes at most ``limit`` streams and refuses a whole list that would be more; answers everything."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.has: set[StreamKey] = set()

    def take(self, ledger: Ledger, now: float) -> bool:
        sends = ledger.next_sends()
        if not sends:
            return False
        for send in sends:
            ledger.sent(send, now)
        keys = {send.subscription.key for send in sends}
        if sends[0].verb == "unsubscribe":
            self.has -= keys
        elif len(self.has | keys) > self.limit:
            ledger.on_refusal(Refusal(RefusalKind.SUBSCRIPTION_CAP, "full"), now)
            return True
        else:
            self.has |= keys
        ledger.on_list(frozenset(self.has))
        return True


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=50), st.integers(1, 6), st.integers(1, 7))
def test_a_limited_venue_ends_up_full_and_the_rest_is_failed(steps: list[tuple], most: int, limit: int) -> None:
    ledger, now, names = Ledger(Timing(), Batching(most=most)), 0.0, set()
    for name, value in steps:
        if name == "add" and value not in names:
            ledger.add(SUBSCRIPTIONS[value])
            names.add(value)
        elif name == "remove" and value in names:
            ledger.remove(value)
            names.discard(value)
        elif name == "send":
            for send in ledger.next_sends():
                now += 0.001
                ledger.sent(send, now)
        elif name == "list":
            confirmed, dropped = ledger.on_list(value)
            assert set(confirmed) <= value & names
            assert set(dropped) <= names - value
        elif name == "refuse":
            assert {s.key for s in ledger.on_refusal(Refusal(value, "no"), now)} <= names
        elif name == "resubscribe":
            ledger.resubscribe(value)
        elif name == "wait":
            now += value
            ledger.tick(now)
        elif name == "drop":
            assert set(ledger.disconnected(now, by_venue=value)) <= names
        elif name == "fail_all":
            ledger.fail_all("no", now)
        ledger.take_left()
        assert {entry.subscription.key for entry in ledger.entries()} == names
    ledger.disconnected(now, by_venue=False)
    venue = PatientVenue(limit)
    for _ in range(3):
        now += Timing().invalid_retry_s + 1
        ledger.tick(now)
        messages = 0
        while venue.take(ledger, now):
            messages += 1
            assert messages < 100, "the halving ends"
    counts = ledger.counts()
    assert counts[SubscriptionState.CONFIRMED] == min(len(names), limit)
    assert counts[SubscriptionState.FAILED] == max(0, len(names) - limit)
    assert venue.has <= names
