"""The pool against a real WebSocket server on loopback: the ordinary life."""

from __future__ import annotations

import asyncio
import json

import msgspec

from src.models.metrics import CONNECTIONS_OPEN, SUBSCRIPTIONS, SUBSCRIPTIONS_OVER_LIMIT
from src.venues.budget import Budget
from src.venues.clock import SystemClock
from src.venues.feed import Heartbeat, VenueLimits
from tests.support.toy_venue import ToyFeed, ToyServer, key, market, until, user_feeds


async def test_subscribes_and_hands_on_data(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC"), market("ETH")])
        await until(lambda: set(running.sink.subjects()) == {"BTC", "ETH"})
        assert running.states() == {"price/BTC": "fresh", "price/ETH": "fresh"}
        status = running.pool.status()
        assert status["connections"][0]["state"] == "open"
        assert status["connections"][0]["bytes"] > 0
        await until(lambda: running.metrics.value(CONNECTIONS_OPEN, "toy") == 1)
        assert running.metrics.value(SUBSCRIPTIONS, "toy", "confirmed") == 2
        json.dumps(status)


async def test_opens_nothing_without_subscriptions_and_closes_what_is_no_longer_needed(server, start) -> None:
    async with start(ToyFeed(server.url), clients=3) as running:
        await asyncio.sleep(0)
        running.pool.add([market("BTC")])
        await until(lambda: running.sink.received)
        assert server.accepted == 1
        assert running.connections("idle") == 2
        running.pool.remove([key("BTC")])
        await until(lambda: not server.subscribed)
        await until(lambda: running.connections("idle") == 3)
        assert server.ops("unsub") == ["BTC"]
        assert server.accepted == 1
        assert running.last_error() == ""


async def test_spreads_over_connections_and_keeps_the_feeds_of_a_user_together(server, start) -> None:
    feeds = [feed for n in range(6) for feed in user_feeds(f"u{n}")]
    async with start(ToyFeed(server.url), clients=3) as running:
        running.pool.set_target(feeds)
        await until(lambda: len(running.sink.subjects()) == 6)
        carried = [{s for _, s in streams} for streams in server.subscribed.values()]
        assert sorted(len(users) for users in carried) == [2, 2, 2]
        assert sum(len(users) for users in carried) == 6


async def test_adds_and_removes_while_running(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        running.pool.set_target([market("ETH")])
        await until(lambda: "ETH" in running.sink.subjects())
        await until(lambda: server.ops("unsub") == ["BTC"])
        assert [(gap.reason.value, gap.streams) for gap in running.sink.gaps] == [("unsubscribed", (key("BTC"),))]
        seen = running.sink.subjects()["BTC"]
        await server.say_to_all(server.data_frame("price", "BTC"))
        fresh = running.sink.subjects()["ETH"]
        await until(lambda: running.sink.subjects()["ETH"] > fresh + 1)
        assert running.sink.subjects()["BTC"] == seen, "data of a stream that was let go must not be handed on"
        assert server.accepted == 1


async def test_a_subscription_with_other_arguments_is_asked_for_afresh(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        running.pool.set_target([msgspec.structs.replace(market("BTC"), args={"ch": "price", "s": "BTC", "fast": 1})])
        await until(lambda: any("fast" in said for _, said in server.said))
        assert [said["op"] for _, said in server.said] == ["sub", "unsub", "sub"]
        await until(lambda: running.states() == {"price/BTC": "fresh"})


async def test_users_beyond_the_limit_are_not_asked_for_and_follow_when_a_slot_is_free(server, start) -> None:
    feed = ToyFeed(server.url, limits=VenueLimits(users=2))
    async with start(feed, clients=2) as running:
        running.pool.set_target([f for name in "abc" for f in user_feeds(name)])
        await until(lambda: set(running.sink.subjects()) == {"a", "b"})
        states = running.states()
        assert states["orders/c"] == states["state/c"] == "failed"
        row = running.pool.status()["streams"]["toy/orders/c"]
        assert row["why"] == "user limit of 2 per address"
        assert running.pool.status()["over_limit"] == 2
        await until(lambda: running.metrics.value(SUBSCRIPTIONS_OVER_LIMIT, "toy") == 2)
        assert "c" not in server.ops("sub")
        running.pool.remove([f.key for f in user_feeds("a")])
        await until(lambda: "c" in running.sink.subjects())
        assert server.users() == {"b", "c"}
        assert running.pool.status()["over_limit"] == 0


async def test_two_pools_behind_one_address_share_one_budget(server: ToyServer, start) -> None:
    feed = ToyFeed(server.url, limits=VenueLimits(users=1, connections=1))
    budget = Budget(feed.limits, clock=SystemClock(), spacing_s=0.0)
    async with start(feed, budget=budget) as one, start(feed, budget=budget) as two:
        one.pool.set_target(user_feeds("a"))
        await until(lambda: one.sink.received)
        two.pool.set_target([*user_feeds("b"), market("BTC")])
        await until(lambda: two.connections("waiting") == 1)
        assert server.accepted == 1
        one.pool.set_target([])
        await until(lambda: {"b", "BTC"} <= set(two.sink.subjects()))


async def test_pings_in_the_venues_words_and_notes_the_pong(server: ToyServer, start) -> None:
    server.push_every_s = 3600
    feed = ToyFeed(server.url, heartbeat=Heartbeat(ping_every_s=0.05, deadline_s=0.3))
    async with start(feed) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: server.pings >= 10)
        assert running.pool.status()["connections"][0]["pong_age_ms"] < 1000
        assert server.accepted == 1


async def test_a_quiet_connection_lives_on_the_protocols_own_ping(server: ToyServer, start) -> None:
    server.push_every_s = 3600
    feed = ToyFeed(server.url, heartbeat=Heartbeat(ping_every_s=0.05, deadline_s=0.1), protocol_ping=True)
    async with start(feed) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.states() == {"price/BTC": "fresh"})
        await asyncio.sleep(0.5)  # several deadlines long: nothing may happen
        assert (server.accepted, running.sink.gaps) == (1, [])


async def test_a_tap_sees_every_raw_frame_and_may_fail(server: ToyServer, start) -> None:
    seen: list[tuple[str, str | bytes, int]] = []

    def tap(name: str, frame: str | bytes, received_ms: int) -> None:
        seen.append((name, frame, received_ms))
        if len(seen) == 3:
            raise OSError("disk full")

    async with start(ToyFeed(server.url), tap=tap) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.subjects()["BTC"] > 5)
    assert len(seen) == 3
    assert seen[0][0] == "toy-0"
    assert json.loads(seen[0][1])["k"] == "ack"


async def test_messages_are_paced_by_the_budget(server: ToyServer, start) -> None:
    feed = ToyFeed(server.url, limits=VenueLimits(messages_per_minute=5))
    budget = Budget(feed.limits, clock=SystemClock(), margin=0.0, spacing_s=0.0)
    async with start(feed, budget=budget) as running:
        running.pool.set_target([market(f"S{n}") for n in range(9)])
        await until(lambda: len(running.sink.subjects()) == 5)
        await asyncio.sleep(0.2)
        assert len(server.said) == 5
        why = {row["why"] for row in running.pool.status()["streams"].values() if row["state"] == "pending"}
        assert why == {"not sent yet"}


async def test_close_says_goodbye_and_tells_that_the_process_goes(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url), clients=2) as running:
        running.pool.set_target([market("BTC"), market("ETH")])
        await until(lambda: len(running.sink.subjects()) == 2)
        sockets = list(server.subscribed)
        await running.pool.close()
        await until(lambda: not server.subscribed)
        assert {socket.close_code for socket in sockets} == {1000}
        assert running.sink.gap_reasons() == {"process_down": 2}
        await running.pool.close()
    assert running.connections("closed") == 2


async def test_a_pool_closed_before_it_ran_does_not_run(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        await running.pool.close()
        running.pool.set_target([market("BTC")])
    assert server.attempts == 0


async def test_cancelling_the_run_ends_everything_at_once(server: ToyServer, start) -> None:
    async with start(ToyFeed(server.url)) as running:
        running.pool.set_target([market("BTC")])
        await until(lambda: running.sink.received)
        running.task.cancel()
        await asyncio.wait([running.task])
        assert running.task.cancelled()
        await until(lambda: not server.subscribed)
