"""Log-in and lists of subscriptions over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from structlog.testing import capture_logs

from src.models.messages import GapReason, RefusalKind
from src.models.metrics import DISCONNECTS, FRAMES_IGNORED
from src.venues.feed import Batching
from tests.support.list_venue import ListFeed, ListServer, wanted
from tests.support.toy_venue import QUICK, until

TIMING = msgspec.structs.replace(QUICK, login_deadline_s=0.3, slow_retry_s=0.4)


@pytest.fixture
async def venue() -> AsyncIterator[ListServer]:
    async with ListServer().running() as running:
        yield running


@pytest.mark.parametrize("greets", [True, False])
async def test_nothing_is_asked_for_before_the_venue_has_let_us_in(venue: ListServer, start, greets: bool) -> None:
    venue.greets, venue.greeting_after_s = greets, 0.1
    async with start(ListFeed(venue.url, greets=greets), timing=TIMING) as running:
        running.pool.set_target(wanted("A", "B", "C"))
        await until(lambda: running.states() == {f"trades/{name}": "fresh" for name in "ABC"})
        assert running.pool.status()["connections"][0]["state"] == "open"
    assert venue.logins == [{"op": "login", "password": "open sesame"}]
    assert venue.too_early == []
    assert venue.said == [{"op": "sub", "s": ["A", "B", "C"]}], "one message for all"


async def test_a_venue_that_logs_us_in_by_itself_gets_no_log_in(venue: ListServer, start) -> None:
    venue.needs_no_login = True
    feed = ListFeed(venue.url)
    feed.login_frames = list
    async with start(feed, timing=TIMING) as running:
        running.pool.set_target(wanted("A"))
        await until(lambda: venue.subscribed() == ["A"])
    assert venue.logins == []


async def test_several_things_in_one_frame_all_count_in_their_order(venue: ListServer, start) -> None:
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A", "B"))
        await until(lambda: len(venue.subscribed()) == 2)
        await venue.push("A", "B", "A", "UNKNOWN")
        await until(lambda: len(running.sink.received) == 3)
        assert [data.stream.subject for data in running.sink.received] == ["A", "B", "A"]
        assert running.metrics.value(FRAMES_IGNORED, "lists", "not_subscribed") == 1


async def test_changes_are_told_in_lists_and_slots_come_back(venue: ListServer, start) -> None:
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A", "B"))
        await until(lambda: venue.subscribed() == ["A", "B"])
        running.pool.set_target(wanted("B", "C", "D"))
        await until(lambda: venue.subscribed() == ["B", "C", "D"])
        await until(lambda: running.pool.status()["budget"]["subscriptions"]["used"] == 3)
    assert venue.said[1:] == [{"op": "unsub", "s": ["A"]}, {"op": "sub", "s": ["C", "D"]}]


async def test_no_answer_to_the_log_in_is_a_lost_connection_like_any_other(venue: ListServer, start) -> None:
    venue.answers_login = False
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A"))
        await until(lambda: running.metrics.value(DISCONNECTS, "lists", "login_timeout") >= 2)
        venue.answers_login = True
        await until(lambda: venue.subscribed() == ["A"])


async def test_a_venue_that_never_greets_is_left_in_time(venue: ListServer, start) -> None:
    venue.greeting_after_s = 60
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A"))
        await until(lambda: running.metrics.value(DISCONNECTS, "lists", "login_timeout") >= 1)
        assert venue.logins == []


@pytest.mark.parametrize("closes", [True, False])
async def test_wrong_credentials_are_told_once_and_never_tried_again_by_themselves(
    venue, start, closes: bool
) -> None:
    venue.refuses_login = {"kind": "fatal", "text": "auth failed", "remedy": "check the key", "why": "auth_failed"}
    venue.closes_after_refusal = closes
    with capture_logs() as logs:
        async with start(ListFeed(venue.url), timing=TIMING) as running:
            running.pool.set_target(wanted("A", "B"))
            await until(lambda: running.pool.given_up)
            await until(lambda: running.states() == {"trades/A": "failed", "trades/B": "failed"})
            running.pool.add(wanted("C"))  # what is wanted meanwhile is refused as well, and told
            await until(lambda: running.states().get("trades/C") == "failed")
            assert venue.accepted == 1
            row = running.pool.status()["streams"]["lists/trades/C"]
            error = running.pool.status()["connections"][0]["last_error"]
            assert running.pool.status()["connections"][0]["next_attempt_in_s"] is None
            # a person mends it
            venue.refuses_login = None
            running.pool.reconnect("new credentials")
            await until(lambda: venue.subscribed() == ["A", "B", "C"])
            await until(lambda: set(running.states().values()) == {"fresh"})
    assert row["why"] == error["remedy"] == "check the key"
    assert error["reason"] == "auth_failed"
    refused = [(refusal.kind, [s.key.subject for s in failed]) for refusal, failed in running.sink.refusals]
    assert refused == [(RefusalKind.LOGIN, ["A", "B"]), (RefusalKind.LOGIN, ["C"])]
    loud = [line for line in logs if line["log_level"] == "error"]
    assert [(line["event"], line["remedy"]) for line in loud] == [("venue_refuses_connection", "check the key")]


async def test_a_taken_slot_is_asked_for_slowly(venue: ListServer, start) -> None:
    venue.refuses_login = {"kind": "slow", "text": "connection limit exceeded", "why": "connection_limit"}
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A"))
        await until(lambda: len(venue.logins) >= 2)
        assert running.pool.status()["connections"][0]["last_error"]["reason"] == "connection_limit"
        assert not running.pool.given_up
        venue.refuses_login = None
        await until(lambda: venue.subscribed() == ["A"])
    assert venue.most_open == 1


async def test_thrown_out_of_a_session_tells_the_gap_and_comes_back(venue: ListServer, start) -> None:
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A"))
        await until(lambda: venue.subscribed() == ["A"])
        await venue.push("A")
        await until(lambda: running.sink.received)
        await venue.say({"k": "no", "kind": "retry", "text": "slow client", "why": "slow_client"})
        await until(lambda: venue.accepted == 2 and venue.subscribed() == ["A"])
        assert running.metrics.value(DISCONNECTS, "lists", "slow_client") == 1
    assert next((gap.reason, gap.detail) for gap in running.sink.gaps) == (GapReason.DISCONNECT, "slow_client")


async def test_a_limit_hit_subscribes_as_many_as_have_room_and_names_the_others(venue: ListServer, start) -> None:
    venue.limit = 5
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted(*"ABCDEFGH"))
        await until(lambda: len(venue.subscribed()) == 5)
        await until(lambda: sorted(running.states().values()) == ["failed"] * 3 + ["fresh"] * 5)
        failed = {s.key.subject for _, subscriptions in running.sink.refusals for s in subscriptions}
        assert failed | set(venue.subscribed()) == set("ABCDEFGH")


async def test_one_bad_name_takes_no_other_down(venue: ListServer, start) -> None:
    venue.unknown = {"BAD"}
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A", "BAD", "B", "C"))
        await until(lambda: venue.subscribed() == ["A", "B", "C"])
        await until(lambda: running.states()["trades/BAD"] == "failed")


async def test_what_the_venue_drops_silently_is_a_gap_and_asked_for_again(venue: ListServer, start) -> None:
    async with start(ListFeed(venue.url), timing=TIMING) as running:
        running.pool.set_target(wanted("A", "B"))
        await until(lambda: set(running.states().values()) == {"fresh"} and len(running.states()) == 2)
        next(iter(venue.sets.values())).remove("A")
        await venue.say({"k": "list", "s": ["B"]})
        await until(lambda: venue.subscribed() == ["A", "B"])
        assert [(gap.reason, gap.streams[0].subject) for gap in running.sink.gaps] == [(GapReason.REFUSED, "A")]


async def test_a_venue_that_is_told_the_whole_set_each_time(venue: ListServer, start) -> None:
    venue.answers_lists = False
    feed = ListFeed(venue.url, batching=Batching(most=10, whole=True, acknowledged=False))
    async with start(feed, timing=TIMING) as running:
        running.pool.set_target(wanted("A", "B"))
        await until(lambda: len(venue.said) == 1)
        running.pool.set_target(wanted("B", "C"))
        await until(lambda: len(venue.said) == 2)
        running.pool.set_target([])
        await until(lambda: len(venue.said) == 3)
    assert venue.said == [
        {"op": "sub", "s": ["A", "B"]},
        {"op": "sub", "s": ["B", "C"]},
        {"op": "unsub", "s": ["B", "C"]},
    ]
