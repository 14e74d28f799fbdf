from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from src.models.messages import Refusal, RefusalKind
from src.models.streams import SubscriptionState
from src.venues.ledger import Ledger
from src.venues.timing import Timing
from tests.support.toy_venue import market, user_feeds

NAMES = ["A", "B", "C", "D"]
SUBSCRIPTIONS = {s.key: s for s in [*(market(name) for name in NAMES), *user_feeds("u"), *user_feeds("v")]}
KEYS = sorted(SUBSCRIPTIONS)

STEP = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(KEYS)),
    st.tuples(st.just("remove"), st.sampled_from(KEYS)),
    st.tuples(st.just("ack"), st.sampled_from(KEYS)),
    st.tuples(st.just("nack"), st.sampled_from(KEYS)),
    st.tuples(st.just("data"), st.sampled_from(KEYS)),
    st.tuples(st.just("resubscribe"), st.sampled_from(KEYS)),
    st.tuples(st.just("refuse"), st.sampled_from(list(RefusalKind)), st.none() | st.sampled_from(KEYS)),
    st.tuples(st.just("send"), st.integers(1, 5)),
    st.tuples(st.just("wait"), st.floats(0, 700)),
    st.tuples(st.just("drop"), st.booleans()),
    st.tuples(st.just("retry")),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_whatever_happens_every_wanted_one_is_confirmed_in_the_end(steps: list[tuple]) -> None:
    ledger, now = Ledger(Timing()), 0.0
    wanted: set = set()
    left = removed = 0
    for name, *args in steps:
        if name == "add" and args[0] not in wanted:
            ledger.add(SUBSCRIPTIONS[args[0]])
            wanted.add(args[0])
        elif name == "remove" and args[0] in wanted:
            ledger.remove(args[0])
            wanted.discard(args[0])
            removed += 1
        elif name in ("ack", "nack"):
            ledger.on_ack(args[0], subscribed=name == "ack")
        elif name == "data":
            assert (ledger.on_data(args[0]) is None) == (args[0] not in wanted)
        elif name == "resubscribe":
            ledger.resubscribe(args[0])
        elif name == "refuse":
            failed = ledger.on_refusal(Refusal(args[0], "no", args[1]), now)
            assert {s.key for s in failed} <= wanted
        elif name == "send":
            for _ in range(args[0]):
                if (send := ledger.next_send()) is not None:
                    now += 0.001
                    ledger.sent(send, now)
        elif name == "wait":
            now += args[0]
            ledger.tick(now)
        elif name == "drop":
            assert set(ledger.disconnected(now, by_venue=args[0])) <= wanted
        elif name == "retry":
            ledger.retry_users()
        left += len(ledger.take_left())
        assert {entry.subscription.key for entry in ledger.entries()} == wanted
        assert sum(ledger.counts().values()) == len(wanted)
        assert left <= removed
    # A venue that behaves again confirms everything and lets everything go, within the slowest retry.
    for _ in range(4):
        now += Timing().invalid_retry_s + 1
        ledger.tick(now)
        while (send := ledger.next_send()) is not None:
            ledger.sent(send, now)
            ledger.on_ack(send.subscription.key, subscribed=send.verb == "subscribe")
    left += len(ledger.take_left())
    assert ledger.counts()[SubscriptionState.CONFIRMED] == len(wanted)
    assert left == removed
