"""The source against a simulated gateway over real TCP: what it delivers, and what it does when things go wrong."""

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from src.api.live import NoAudience
from src.config import Settings
from src.core import build_core
from src.jobs.futu import FutuPace, FutuSource
from src.jobs.order_books.outside_books import OutsideBooks
from src.models.changes import BookChange
from src.models.errors import StoreError
from src.models.live import ACCEPTED, WANTED
from src.models.messages import Book, GapReason, Level
from src.models.metrics import DISCONNECTS, FRAMES_IGNORED, FRAMES_REJECTED, Metrics
from src.models.writes import Collection
from src.store.memory import MemoryStore
from src.venues.clock import SystemClock
from src.venues.feed import Heartbeat
from src.venues.futu import wire
from src.venues.futu.codec import unpack
from src.venues.futu.simulator import GatewayConfig
from src.venues.futu.simulator.market import SimulatedBook, SimulatedLevel
from tests.support.futu_rig import BEAT, QUICK, futu_rig
from tests.support.toy_venue import MemorySink
from tests.support.toy_venue import until as soon

pytestmark = pytest.mark.integration
until = partial(soon, within_s=40.0)


def subscribed(rig):
    number = max(rig.gateway.clients, default=0)
    return set(rig.gateway.subscriptions.of(number))


def requests(rig, protocol):
    return [frame for _, frame in rig.gateway.requests if frame.protocol == protocol]


class TestBooks:
    async def test_the_first_push_and_every_later_one_arrive_with_order_counts(self):
        async with futu_rig("US.AAPL", "HK.00700") as rig:
            await until(lambda: rig.books("US.AAPL") and rig.books("HK.00700"))
            pushed = [rig.gateway.push("US.AAPL") for _ in range(20)]
            await until(lambda: len(rig.books("US.AAPL")) == 21)
            last = rig.books("US.AAPL")[-1]
            assert [float(level.px) for level in last.bids] == [level.price for level in pushed[-1].bids]
            assert [int(level.sz) for level in last.asks] == [level.volume for level in pushed[-1].asks]
            assert [level.n for level in last.bids] == [level.orders for level in pushed[-1].bids]
            assert rig.states() == {"US.AAPL": "fresh", "HK.00700": "fresh"}

    async def test_books_of_one_symbol_never_share_a_time(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            same_ms = rig.gateway.clock.wall_ms()
            for number in range(1, 30):
                level = SimulatedLevel(100.0 + number, 100, 1)
                rig.gateway.push("US.AAPL", SimulatedBook("US.AAPL", same_ms, (level,), ()))
            await until(lambda: len(rig.books("US.AAPL")) == 30)
            times = [book.time_ms for book in rig.books("US.AAPL")]
            assert times == sorted(set(times))

    async def test_empty_sides_and_a_crossed_book_pass_as_they_are(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            now = rig.gateway.clock.wall_ms() + 5
            rig.gateway.push("US.AAPL", SimulatedBook("US.AAPL", now, (), ()))
            crossed = SimulatedBook("US.AAPL", now + 1, (SimulatedLevel(11.0, 1, 1),), (SimulatedLevel(10.0, 1, 1),))
            rig.gateway.push("US.AAPL", crossed)
            await until(lambda: len(rig.books("US.AAPL")) == 3)
            empty, last = rig.books("US.AAPL")[1:]
            assert empty.bids == empty.asks == ()
            assert (last.bids[0].px, last.asks[0].px) == ("11", "10")

    async def test_json_bodies_are_read_too(self):
        async with futu_rig("HK.00700") as rig:
            await until(lambda: rig.books("HK.00700"))
            rig.gateway.faults.json = True
            book = rig.gateway.push("HK.00700")
            await until(lambda: len(rig.books("HK.00700")) == 2)
            assert [int(level.sz) for level in rig.books("HK.00700")[-1].bids] == [x.volume for x in book.bids]

    async def test_bytes_one_by_one_make_the_same_books(self):
        async with futu_rig("US.AAPL", config=GatewayConfig(push_every_s=0.0, depth=2)) as rig:
            rig.gateway.faults.slice_bytes = 1
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.push("US.AAPL")
            await until(lambda: len(rig.books("US.AAPL")) == 2)
            assert rig.metrics.total(FRAMES_REJECTED) == 0

    async def test_both_spellings_mean_the_same_subscription(self):
        async with futu_rig("AAPL", "US.AAPL", "00700") as rig:
            await until(lambda: subscribed(rig) == {"US.AAPL", "HK.00700"})
            rig.source.want({"US.AAPL": {"book"}, "TSLA": {"book"}, "BTC/USD x": {"book"}, "HK.9988": {"trade"}})
            await until(lambda: subscribed(rig) == {"US.AAPL", "HK.00700", "US.TSLA"})

    async def test_frames_reach_a_recording_whole(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            assert {unpack(raw).protocol for raw in rig.records} >= {
                wire.INIT_CONNECT,
                wire.SUB,
                wire.ORDER_BOOK_PUSH,
            }


class TestLoginAndKeepAlive:
    async def test_the_first_frame_introduces_us_and_nothing_is_subscribed_before_the_answer(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            protocols = [frame.protocol for _, frame in rig.gateway.requests]
            assert protocols[:3] == [wire.INIT_CONNECT, wire.GLOBAL_STATE, wire.SUB]
            assert rig.source.status()["gateway"]["logged_in"] is True

    async def test_the_gateway_names_the_interval(self):
        config = GatewayConfig(push_every_s=0.0, keep_alive_s=1)
        pace = FutuPace(QUICK, None, minimum_hold_s=0.0)
        async with futu_rig("US.AAPL", config=config, pace=pace) as rig:
            assert rig.source.feed.heartbeat.ping_every_s == 8.0
            await until(lambda: requests(rig, wire.KEEP_ALIVE))
            assert rig.source.feed.heartbeat.ping_every_s == pytest.approx(0.8)
            assert rig.source.pool._connections[0]._pulse._heartbeat == rig.source.feed.heartbeat

    async def test_without_any_answer_the_connection_is_given_up(self):
        pace = FutuPace(QUICK, Heartbeat(0.05, 0.4), minimum_hold_s=0.0)
        async with futu_rig("US.AAPL", pace=pace) as rig:
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.faults.deaf = True
            await until(lambda: rig.metrics.value(DISCONNECTS, "futu", "pong_timeout"))
            rig.gateway.faults.deaf = False
            await until(lambda: rig.states() == {"US.AAPL": "fresh"} and rig.connection()["state"] == "open")

    async def test_a_refused_login_is_tried_again_slowly_with_a_remedy(self):
        with capture_logs() as logs:
            async with futu_rig("US.AAPL") as rig:
                rig.gateway.faults.refuse_login = "client version too low"
                rig.gateway.reset_all()
                await until(lambda: rig.metrics.value(DISCONNECTS, "futu", "login_refused"))
                rig.gateway.faults.refuse_login = ""
                await until(lambda: subscribed(rig) == {"US.AAPL"})
        loud = [entry for entry in logs if entry.get("reason") == "login_refused"]
        assert loud[0]["event"] == "venue_refuses_connection"
        assert "client version too low" in loud[0]["detail"]
        assert loud[0]["remedy"]


class TestConnectionTrouble:
    async def test_a_cut_inside_a_frame_costs_a_gap_and_nothing_more(self):
        async with futu_rig("US.AAPL", "HK.00700") as rig:
            await until(lambda: len(rig.states()) == 2 and set(rig.states().values()) == {"fresh"})
            for round_number in range(1, 4):
                before = rig.gateway.connects
                rig.gateway.cut_inside_a_frame()
                await until(lambda: rig.gateway.connects > before and subscribed(rig) == {"US.AAPL", "HK.00700"})  # noqa: B023
                await until(lambda: rig.connection()["state"] == "open")
                seen = len(rig.books("US.AAPL"))
                rig.gateway.push("US.AAPL")
                await until(lambda: len(rig.books("US.AAPL")) > seen)  # noqa: B023
                assert len(rig.sink.gaps) == round_number
            assert rig.metrics.total(FRAMES_REJECTED) == 0
            assert rig.metrics.value(DISCONNECTS, "futu", "closed_1006") == 3
            assert {gap.reason for gap in rig.sink.gaps} == {GapReason.DISCONNECT}

    async def test_a_lost_frame_boundary_starts_a_new_connection(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            before = rig.gateway.connects
            rig.gateway.faults.wrong_magic = 1
            rig.gateway.push("US.AAPL")
            await until(lambda: rig.gateway.connects > before and rig.states() == {"US.AAPL": "fresh"})

    async def test_a_frame_that_announces_gigabytes_starts_a_new_connection(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            before = rig.gateway.connects
            head = b"FT" + (3013).to_bytes(4, "little") + bytes(6) + (0xFFFFFFFF).to_bytes(4, "little") + bytes(28)
            for client in rig.gateway.clients.values():
                client.send_raw(head)
            await until(lambda: rig.gateway.connects > before and subscribed(rig) == {"US.AAPL"})

    async def test_a_wrong_hash_costs_that_frame_only(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.faults.bad_sha1 = 1
            rig.gateway.push("US.AAPL")
            rig.gateway.push("US.AAPL")
            await until(lambda: len(rig.books("US.AAPL")) == 2)
            assert rig.metrics.value(FRAMES_REJECTED, "futu", "bad_sha1") == 1
            assert rig.sink.letters[0].reason == "bad_sha1"
            assert rig.gateway.connects == 1

    async def test_unknown_protocols_are_counted_and_skipped(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.send_unknown_protocol()
            rig.gateway.push("US.AAPL")
            await until(lambda: len(rig.books("US.AAPL")) == 2)
            assert rig.metrics.value(FRAMES_IGNORED, "futu", "unknown_protocol") == 1

    async def test_a_name_that_does_not_resolve_is_tried_again_and_stops_at_once(self):
        async with futu_rig("US.AAPL", host="no-such-host.invalid") as rig:
            await until(lambda: rig.connection()["attempts"] >= 2)
            assert rig.connection()["last_error"]["reason"] in ("dns", "network", "timeout")
        assert rig.connection()["state"] == "closed"

    async def test_a_refused_port_is_tried_until_somebody_listens(self, unused_tcp_port_factory):
        port = unused_tcp_port_factory()
        async with futu_rig("US.AAPL", port=port) as rig:
            await until(lambda: rig.connection()["attempts"] >= 3)
            assert rig.connection()["last_error"]["reason"] == "refused"

    async def test_accept_and_close_at_once_is_not_answered_with_a_storm(self):
        timing = QUICK.__class__(tick_s=0.02, attempts_most=5, attempts_window_s=60.0, retry_first_s=0.01, drain_s=2)
        async with futu_rig("US.AAPL", pace=FutuPace(timing, BEAT, minimum_hold_s=0.0)) as rig:
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.faults.accept_then_close = True
            rig.gateway.reset_all()
            await until(lambda: rig.connection()["next_attempt_in_s"] and rig.connection()["next_attempt_in_s"] > 5)
            assert rig.gateway.connects <= 6

    async def test_resubscription_after_a_reset_is_verified_with_the_gateways_list(self):
        async with futu_rig("US.AAPL", "HK.00700") as rig:
            await until(lambda: rig.source.status()["quota_used"] == 2)
            rig.gateway.faults.forgetful = {"HK.00700"}
            rig.gateway.reset_all()
            await until(lambda: len(requests(rig, wire.SUB_INFO)) >= 2)
            await until(lambda: any("no longer lists" in detail for detail in rig.gap_details()))
            rig.gateway.faults.forgetful = set()
            await until(lambda: subscribed(rig) == {"US.AAPL", "HK.00700"})
            rig.gateway.push("HK.00700")
            await until(lambda: set(rig.states().values()) == {"fresh"})

    async def test_pushes_that_stop_are_found_by_audits(self, monkeypatch):
        monkeypatch.setattr("src.venues.futu.session.AUDIT_QUIET_S", 0.2)
        async with futu_rig("US.AAPL", "HK.00700") as rig:
            await until(lambda: len(rig.states()) == 2 and set(rig.states().values()) == {"fresh"})
            await until(lambda: rig.metrics.value(FRAMES_IGNORED, "futu", "audit_agrees") >= 3)
            assert not rig.sink.gaps
            rig.gateway.faults.mute = {"US.AAPL"}
            rig.gateway.push("US.AAPL")
            asked = len(requests(rig, wire.SUB))
            await until(lambda: len(requests(rig, wire.SUB)) > asked)
            assert [str(stream) for gap in rig.sink.gaps for stream in gap.streams] == ["futu/orderBook/US.AAPL"]
            await until(lambda: rig.states() == {"US.AAPL": "fresh", "HK.00700": "fresh"})


class TestNotices:
    @pytest.mark.parametrize(
        ("make_it_happen", "reason"),
        [
            (lambda gateway: gateway.kick_out(), "kicked_out"),
            (lambda gateway: gateway.lose_login(), "login_lost"),
            (lambda gateway: gateway.notify_event(4, "login failed"), "account_refused"),
            (lambda gateway: gateway.notify_event(11, "phone code"), "human_needed"),
        ],
    )
    async def test_quotes_that_end_though_tcp_lives_are_a_gap(self, make_it_happen, reason):
        with capture_logs() as logs:
            async with futu_rig("US.AAPL") as rig:
                await until(lambda: rig.books("US.AAPL"))
                make_it_happen(rig.gateway)
                await until(lambda: rig.sink.gaps)
                assert rig.gap_details() == [reason]
                rig.gateway.faults.logged_out = False
                await until(lambda: rig.connection()["state"] == "open" and subscribed(rig) == {"US.AAPL"})
                rig.gateway.push("US.AAPL")
                await until(lambda: rig.states() == {"US.AAPL": "fresh"})
        entry = next(entry for entry in logs if entry.get("reason") == reason)
        assert entry["log_level"] == "error"
        assert entry["remedy"]

    async def test_a_gateway_that_is_not_logged_in_is_asked_again_slowly(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.kick_out()
            await until(lambda: rig.metrics.value(DISCONNECTS, "futu", "login_lost") >= 2)
            assert rig.source.status()["gateway"]["logged_in"] is False
            rig.gateway.log_in_again()
            await until(lambda: subscribed(rig) == {"US.AAPL"} and rig.connection()["state"] == "open")

    async def test_harmless_events_change_nothing(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            for event in (6, 12, 13, 14, 99):
                rig.gateway.notify_event(event)
            rig.gateway.log_in_again()
            await until(lambda: rig.metrics.value(FRAMES_IGNORED, "futu", "gateway_event") == 5)
            assert rig.gateway.connects == 1
            assert not rig.sink.gaps


class TestQuota:
    async def test_what_is_beyond_the_plan_waits_and_says_why(self):
        async with futu_rig("US.AAPL", "US.TSLA", "HK.00700", quota=2) as rig:
            await until(lambda: len(subscribed(rig)) == 2)
            status = rig.source.status()
            assert status["over_limit"] == 1
            assert status["streams"]["futu/orderBook/HK.00700"]["why"] == "subscription limit of 2 per address"
            await until(lambda: rig.source.status()["quota_used"] == 2)

    async def test_a_smaller_quota_of_the_account_leaves_as_many_as_fit(self):
        config = GatewayConfig(push_every_s=0.0, quota=3, expiry_s=0.0, minimum_hold_s=0.0)
        with capture_logs() as logs:
            async with futu_rig("US.AAPL", "US.TSLA", "HK.00700", "HK.09988", config=config) as rig:
                await until(lambda: len(subscribed(rig)) == 3 and "failed" in rig.states().values())
                await until(lambda: rig.source.status()["quota_left"] == 0)
                await until(lambda: any(entry["event"] == "futu_quota_smaller_than_set" for entry in logs))
                failed = next(name for name, state in rig.states().items() if state == "failed")
                assert "quota" in rig.source.status()["streams"][f"futu/orderBook/{failed}"]["why"]
        assert sum(entry["event"] == "futu_quota_smaller_than_set" for entry in logs) == 1

    async def test_quota_of_the_lost_connection_comes_back_with_its_expiry(self):
        config = GatewayConfig(push_every_s=0.0, quota=4, expiry_s=1.0, minimum_hold_s=0.0)
        symbols = ("US.AAPL", "US.TSLA", "HK.00700", "HK.09988")
        async with futu_rig(*symbols, config=config) as rig:
            await until(lambda: len(subscribed(rig)) == 4)
            rig.gateway.reset_all()
            await until(lambda: rig.gateway.connects == 2 and "failed" in rig.states().values())
            await until(lambda: subscribed(rig) == set(symbols))
            await until(lambda: set(rig.states().values()) == {"fresh"})

    async def test_one_unknown_symbol_does_not_take_its_list_down(self):
        async with futu_rig("US.AAPL", "US.NOSUCH", "HK.00700", "US.TSLA") as rig:
            await until(lambda: subscribed(rig) == {"US.AAPL", "HK.00700", "US.TSLA"})
            await until(lambda: rig.states()["US.NOSUCH"] == "failed")
            assert "unknown stock" in rig.source.status()["streams"]["futu/orderBook/US.NOSUCH"]["why"]


class TestMinimumHold:
    async def test_nothing_is_cancelled_before_its_minute_is_over(self):
        async with futu_rig("US.AAPL", hold_s=0.8) as rig:
            rig.source.want(["US.TSLA"])
            await until(lambda: subscribed(rig) == {"US.AAPL", "US.TSLA"})
            rig.source.want([])
            assert rig.source.status()["lingering"] == 1
            assert {str(key) for key in rig.source.streams()} == {"futu/orderBook/US.AAPL", "futu/orderBook/US.TSLA"}
            await until(lambda: subscribed(rig) == {"US.AAPL"})
            refusals = [refusal for refusal, _ in rig.sink.refusals]
            assert not refusals
            assert rig.source.status()["lingering"] == 0

    async def test_a_symbol_wanted_again_meanwhile_stays_without_a_word(self):
        async with futu_rig("US.AAPL", hold_s=0.5) as rig:
            rig.source.want(["US.TSLA"])
            await until(lambda: subscribed(rig) == {"US.AAPL", "US.TSLA"})
            asked = len(requests(rig, wire.SUB))
            rig.source.want([])
            rig.source.want(["TSLA"])
            pings = len(requests(rig, wire.KEEP_ALIVE))
            await until(lambda: len(requests(rig, wire.KEEP_ALIVE)) > pings + 8)
            assert len(requests(rig, wire.SUB)) == asked
            assert subscribed(rig) == {"US.AAPL", "US.TSLA"}

    async def test_a_refused_cancellation_is_repeated_until_it_is_through(self, monkeypatch):
        monkeypatch.setattr("src.venues.futu.session.STRAY_AGAIN_S", 0.1)
        config = GatewayConfig(push_every_s=0.0, minimum_hold_s=1.0)
        pace = FutuPace(QUICK, BEAT, minimum_hold_s=0.0, look_every_s=0.02)  # a clock that runs too fast
        async with futu_rig("US.AAPL", config=config, pace=pace) as rig:
            rig.source.want(["US.TSLA"])
            await until(lambda: subscribed(rig) == {"US.AAPL", "US.TSLA"})
            rig.source.want([])
            await until(lambda: rig.sink.refusals)
            await until(lambda: subscribed(rig) == {"US.AAPL"})
            assert rig.source.status()["strays"] <= 1


class TestStanding:
    async def test_what_clients_ask_for_is_wanted_accepted_or_refused(self):
        async with futu_rig("US.AAPL") as rig:
            source = rig.source
            await until(lambda: source.is_connected and source.standing("book", "US.AAPL") == ACCEPTED)
            assert source.standing("book", "US.TSLA") == WANTED
            source.want({"US.TSLA": frozenset({"book"}), "US.NOSUCH": frozenset({"book"})})
            assert source.standing("book", "US.TSLA") == WANTED
            await until(lambda: source.standing("book", "US.TSLA") == ACCEPTED)
            await until(lambda: source.standing("book", "US.NOSUCH").state == "refused")
            assert "unknown stock" in source.standing("book", "US.NOSUCH").text
            assert source.standing("book", "*") == ACCEPTED
            assert source.standing("trade", "US.AAPL").code == "unknown_topic"
        assert not source.is_connected

    async def test_when_off_there_is_no_source(self):
        source = FutuSource(Settings(), sink=MemorySink(), clock=SystemClock(), metrics=Metrics())
        assert source.standing("book", "US.AAPL").code == "no_source"
        assert not source.is_connected


class TestStored:
    async def test_books_of_the_gateway_and_of_producers_outside_end_up_in_the_store(self):
        clock, metrics, store = SystemClock(), Metrics(), MemoryStore()
        core = build_core(Settings(), store=store, metrics=metrics, clock=clock)
        heard = []
        core.hub.listen("gateway", heard.extend)
        outside = OutsideBooks(sink=core.pipeline, audience=NoAudience(), clock=clock, metrics=metrics)
        async with futu_rig("US.AAPL", sink=core.pipeline) as rig:
            await until(lambda: core.buffer)
            book = rig.gateway.push("US.AAPL")
            await until(lambda: len(core.buffer) >= 2)
            now = clock.wall_ms()
            assert outside.publish_book(Book("outside", "AAPL", now, now, (Level("1", "2", 3),), ())) == 0
            core.pipeline.drain()
            store.fail_next(StoreError("away"))
            assert not await core.flusher.flush_once()
            assert [c.book.venue for c in heard if isinstance(c, BookChange)][-2:] == ["futu", "outside"]
            await core.flusher.drain()
        stored = {(doc["venue"], doc["symbol"]): doc for doc in store.documents(Collection.ORDERBOOKS)}
        best = book.bids[0]
        assert stored["futu", "US.AAPL"]["bids"][0] == [best.price, best.volume, best.orders]
        assert stored["outside", "AAPL"]["bids"] == [[1.0, 2.0, 3]]
        assert len(store.documents(Collection.ORDERBOOK_SNAPSHOTS)) == 3


class TestLife:
    async def test_off_without_a_host_and_says_so_once(self):
        with capture_logs() as logs:
            source = FutuSource(Settings(), sink=MemorySink(), clock=SystemClock(), metrics=Metrics())
            source.want(["US.AAPL"])
            await source.run()
            await source.close()
        assert [entry["event"] for entry in logs] == ["venue_off"]
        assert source.streams() == ()
        assert source.works(asyncio.Event()) == []
        assert source.status() == {"venue": "futu", "enabled": False, "why": "FUTU_HOST is empty"}

    async def test_stopping_while_the_gateway_is_deaf_does_not_hang(self):
        async with futu_rig("US.AAPL") as rig:
            await until(lambda: rig.books("US.AAPL"))
            rig.gateway.faults.deaf = True
        assert rig.connection()["state"] == "closed"

    async def test_nothing_wanted_means_no_connection(self):
        async with futu_rig() as rig:
            assert rig.connection()["state"] == "idle"
            rig.source.want(["AAPL"])
            await until(lambda: subscribed(rig) == {"US.AAPL"})
        assert rig.gateway.connects == 1
