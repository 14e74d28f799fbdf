"""Venues with hours, and venues of which single streams may be quiet: what counts as silence then."""

import pytest

from src.models.messages import GapReason
from src.models.streams import StreamKey, Subscription
from src.venues.freshness import Freshness, Muted, Reconnect, Resubscribe

SILENT_S = 90.0
WALL_MS = 1_700_000_000_000


def stream(name, *, silent_s=SILENT_S):
    return Subscription(StreamKey("v", "book", name), {}, silent_after_s=silent_s)


@pytest.fixture
def freshness():
    made = Freshness(silence_is_common=True)
    for name in ("A", "B"):
        made.watch(stream(name), 0)
        made.confirmed(StreamKey("v", "book", name), 1.0)
    return made


def keys(verdicts, kind):
    return {str(verdict.key) for verdict in verdicts if isinstance(verdict, kind)}


def seen(freshness, name, now):
    freshness.seen(StreamKey("v", "book", name), now, None)


def test_one_quiet_stream_is_no_silence_while_another_speaks(freshness):
    for now in range(0, 400, 10):
        seen(freshness, "A", float(now))
        assert freshness.check(float(now), WALL_MS) == []


def test_when_all_are_quiet_all_are_silent_and_asked_for_again_then_reconnected(freshness):
    seen(freshness, "A", 10.0)
    assert freshness.check(99.0, WALL_MS) == []
    verdicts = freshness.check(101.0, WALL_MS)
    assert keys(verdicts, Muted) == keys(verdicts, Resubscribe) == {"v/book/A", "v/book/B"}
    assert {verdict.reason for verdict in verdicts if isinstance(verdict, Muted)} == {GapReason.SILENCE}
    assert freshness.state(StreamKey("v", "book", "A")) == "silent"
    assert freshness.check(150.0, WALL_MS) == []
    assert len([v for v in freshness.check(192.0, WALL_MS) if isinstance(v, Reconnect)]) == 1


def test_the_first_that_speaks_ends_it_for_all(freshness):
    seen(freshness, "A", 10.0)
    freshness.check(101.0, WALL_MS)
    seen(freshness, "B", 105.0)
    assert freshness.check(106.0, WALL_MS) == []
    assert freshness.state(StreamKey("v", "book", "A")) == "fresh"
    # The next silence begins with asking afresh, not with a new connection.
    assert keys(freshness.check(196.0, WALL_MS), Resubscribe) == {"v/book/A", "v/book/B"}


def test_other_connections_do_not_count(freshness):
    freshness.watch(stream("C"), 1)
    freshness.confirmed(StreamKey("v", "book", "C"), 1.0)
    seen(freshness, "A", 80.0)
    assert keys(freshness.check(95.0, WALL_MS), Muted) == {"v/book/C"}


def test_while_the_venue_rests_nothing_is_silent_and_ages_begin_afterwards(freshness):
    seen(freshness, "A", 10.0)
    for now in range(20, 5_000, 20):
        freshness.rest(float(now))
    assert freshness.state(StreamKey("v", "book", "B")) == "fresh"
    assert freshness.check(5_060.0, WALL_MS) == []
    assert keys(freshness.check(5_080.0, WALL_MS), Muted) == {"v/book/A", "v/book/B"}


def test_a_rest_ends_what_was_silent_before_it(freshness):
    freshness.check(101.0, WALL_MS)
    freshness.rest(110.0)
    assert freshness.state(StreamKey("v", "book", "A")) == "fresh"
    assert freshness.check(111.0, WALL_MS) == []


def test_without_the_rule_each_stream_is_judged_alone():
    made = Freshness()
    for name in ("A", "B"):
        made.watch(stream(name), 0)
        made.confirmed(StreamKey("v", "book", name), 1.0)
    seen(made, "A", 80.0)
    assert keys(made.check(95.0, WALL_MS), Muted) == {"v/book/B"}
