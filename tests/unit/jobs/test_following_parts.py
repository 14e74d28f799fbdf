"""Ceilings, looks, names of egress addresses, and looks over REST as the WebSocket would have shown them."""

import json

import pytest

from src.jobs.following.ceilings import Ceiling
from src.jobs.following.egress import names_of
from src.jobs.following.looks import Looks
from src.jobs.following.planner import Assignment
from src.jobs.following.polling import Request, poll_weight
from src.jobs.following.rings import Carousel, build_ring
from src.jobs.tracking import profile_of
from src.models.clock import ManualClock
from src.models.messages import Data, OrdersSnapshot, PositionsSnapshot
from src.models.metrics import LOOK_BOUND, LOOKS, LOOKS_LATE, Metrics
from src.models.streams import StreamKey
from src.venues.hyperliquid.feed import HyperliquidFeed
from src.venues.hyperliquid.simulator import Market, MarketConfig
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.shapes import encode
from tests.support.trader_states import orders_data, some_orders

ALICE, BOB = "0x" + "a" * 40, "0x" + "b" * 40


class TestCeiling:
    def test_one_refusal_alone_changes_nothing(self):
        ceiling = Ceiling(10)
        assert not ceiling.refused(6, 0.0)
        assert ceiling.allowed(1.0) == 10
        assert ceiling.suspected

    def test_a_second_one_soon_lowers_it_to_what_was_granted(self):
        ceiling = Ceiling(10)
        ceiling.refused(6, 0.0)
        assert ceiling.refused(6, 60.0)
        assert ceiling.allowed(61.0) == 6

    def test_refusals_of_one_burst_count_once(self):
        ceiling = Ceiling(10)
        assert not any(ceiling.refused(7 - n, n * 0.1) for n in range(4))
        assert ceiling.allowed(1.0) == 10

    def test_who_is_accepted_after_all_clears_the_suspicion(self):
        ceiling = Ceiling(10)
        ceiling.refused(6, 0.0)
        ceiling.accepted(6)
        assert ceiling.suspected
        ceiling.accepted(7)
        assert not ceiling.suspected
        assert not ceiling.refused(6, 60.0)

    def test_it_grows_back_one_by_one_and_slower_each_time(self):
        ceiling, now = Ceiling(10), 0.0
        ceiling.refused(8, now)
        ceiling.refused(8, now + 2)
        assert [ceiling.allowed(now + t) for t in (599, 603, 604, 1204)] == [8, 9, 9, 10]
        ceiling.refused(8, 1300.0)
        ceiling.refused(8, 1302.0)
        assert [ceiling.allowed(t) for t in (1303.0, 2000.0, 2600.0)] == [8, 8, 9]

    def test_never_below_one(self):
        ceiling = Ceiling(3)
        ceiling.refused(0, 0.0)
        ceiling.refused(0, 2.0)
        assert ceiling.allowed(3.0) == 1


class TestLooks:
    def world(self, *traders, mode="rotation", within_s=60.0):
        self.clock, self.metrics = ManualClock(), Metrics()
        looks = Looks(clock=self.clock, metrics=self.metrics)
        looks.follow(traders)
        looks.assign({trader: Assignment(mode, 0, within_s) for trader in traders})
        return looks

    def test_late_is_told_once_until_the_next_look(self):
        looks = self.world(ALICE, BOB)
        self.clock.advance(61)
        assert looks.newly_late() == []  # within the grace
        self.clock.advance(2)
        assert sorted(looks.newly_late()) == [ALICE, BOB]
        assert looks.newly_late() == []
        looks.looked(ALICE, "rotation")
        self.clock.advance(100)
        assert looks.newly_late() == [ALICE]
        assert looks.status()["late"] == 2
        assert self.metrics.value(LOOKS_LATE, "hyperliquid") == 2

    def test_a_shorter_promise_begins_with_the_next_look_a_longer_one_at_once(self):
        looks = self.world(ALICE, within_s=60.0)
        looks.assign({ALICE: Assignment("rotation", 0, 20.0)})
        assert looks[ALICE].within_s == 60.0
        looks.looked(ALICE, "rotation")
        assert looks[ALICE].within_s == 20.0
        looks.assign({ALICE: Assignment("poll", 0, 300.0)})
        assert looks[ALICE].within_s == 300.0
        assert looks.status()["bound_s"] == 300.0
        assert self.metrics.value(LOOK_BOUND, "hyperliquid") == 300.0

    def test_the_live_are_never_late(self):
        looks = self.world(ALICE, mode="live", within_s=0.0)
        self.clock.advance(1000)
        assert looks.newly_late() == []

    def test_without_a_promise_nobody_is_late(self):
        looks = self.world(ALICE, mode="poll", within_s=None)
        self.clock.advance(10_000)
        assert looks.newly_late() == []
        assert looks.status()["without_bound"] == 1

    def test_activity_counts_changes_per_hour_and_fades(self):
        looks = self.world(ALICE)
        looks.saw(orders_data(some_orders(1, 2, 3), received_ms=0, trader=ALICE))
        assert looks.activity(ALICE) == 0  # the first list changed nothing
        for oid in range(4, 64):
            looks.saw(orders_data(some_orders(*range(oid)), received_ms=0, trader=ALICE))
        busy = looks.activity(ALICE)
        assert busy == pytest.approx(60 * 0.693 * 2, rel=0.05)
        self.clock.advance(1800)
        assert looks.activity(ALICE) == pytest.approx(busy / 2)

    def test_the_view_of_one_trader(self):
        looks = self.world(ALICE)
        assert looks.view(BOB) is None
        assert looks.view(ALICE)["lastLookAgeS"] is None
        looks.looked(ALICE, "rotation")
        self.clock.advance(12.34)
        assert looks.view(ALICE) == {
            "mode": "rotation", "lastLookAgeS": 12.3, "lookWithinS": 60.0, "late": False, "changesPerHour": 0.0,
        }  # fmt: skip
        assert looks.times() == {ALICE: ManualClock().wall_ms()}

    def test_who_is_no_longer_followed_is_forgotten(self):
        looks = self.world(ALICE, BOB)
        looks.looked(ALICE, "rotation")
        looks.follow([BOB])
        looks.looked(ALICE, "rotation")
        looks.saw(orders_data(some_orders(1), received_ms=0, trader=ALICE))
        assert ALICE not in looks
        assert looks.times() == {}
        assert looks.looked_at == {}

    def test_looks_per_minute_and_outcomes(self):
        looks = self.world(ALICE)
        for _ in range(5):
            looks.looked(ALICE, "rotation")
            self.clock.advance(20)
        looks.failed("poll", "failed")
        assert looks.status()["looks_per_minute"] == {"rotation": 2, "poll": 0}
        assert self.metrics.value(LOOKS, "hyperliquid", "rotation", "complete") == 5
        assert self.metrics.value(LOOKS, "hyperliquid", "poll", "failed") == 1


class TestCarousel:
    def test_a_failed_look_is_repeated_out_of_order_but_takes_only_some_places(self):
        traders = [f"0x{n:040x}" for n in range(20)]
        carousel, looked = Carousel(), {}
        carousel.replace(build_ring(traders, {}), 1.0, 0.0)
        carousel.hurry(traders[19])
        turns = []
        for now in range(15):
            trader = carousel.next(float(now), looked)
            looked[trader] = float(now)
            turns.append(trader)
        assert traders[19] in turns[:5]
        assert turns.count(traders[19]) == 1

    def test_who_is_busy_is_passed_over(self):
        carousel = Carousel()
        carousel.replace(build_ring([ALICE, BOB], {}), 1.0, 0.0)
        assert carousel.next(0.0, {}, {ALICE}) == BOB
        assert carousel.next(0.0, {}, {ALICE, BOB}) is None

    def test_an_empty_one_gives_nobody(self):
        assert Carousel().next(0.0, {}) is None

    def test_a_new_ring_waits_until_a_round_is_through(self):
        traders = [f"0x{n:040x}" for n in range(200)]
        carousel = Carousel()
        carousel.replace(build_ring(traders, {}), 1.0, 0.0)
        first = carousel.ring
        busy = build_ring(traders, {traders[0]: 4})
        carousel.replace(busy, 1.0, 100.0)  # only weights changed, and it has not gone round
        assert carousel.ring is first
        carousel.replace(busy, 1.0, 200.0)
        assert carousel.ring is busy

    def test_who_comes_and_goes_meanwhile_is_looked_at_and_passed_over_at_once(self):
        traders = [f"0x{n:040x}" for n in range(200)]
        carousel, looked = Carousel(), {}
        carousel.replace(build_ring(traders, {}), 1.0, 0.0)
        carousel.next(0.0, looked)
        carousel.replace(build_ring([*traders[:1], *traders[2:], ALICE], {}), 1.0, 10.0)
        assert traders[1] not in carousel
        assert ALICE in carousel
        turns = [carousel.next(float(now), looked) for now in range(10, 20)]
        assert traders[1] not in turns
        assert ALICE in turns[:5]
        carousel.replace(build_ring([ALICE, *traders[2:]], {}), 1.0, 60.0)
        assert ALICE in carousel.ring.distances

    def test_the_same_members_and_weights_in_another_order_change_nothing(self):
        traders = [f"0x{n:040x}" for n in range(8)]
        carousel = Carousel()
        carousel.replace(build_ring(traders, {}), 1.0, 0.0)
        first = carousel.ring
        carousel.replace(build_ring(traders[::-1], {}), 2.0, 10_000.0)
        assert carousel.ring is first
        assert carousel.spacing_s == 2.0


class TestNames:
    def test_names_hide_credentials_and_differ(self):
        proxies = [None, "http://user:secret@proxy:3128", "http://other@proxy:3128", "https://plain"]
        assert names_of(proxies) == ["direct", "proxy:3128", "proxy:3128#3", "plain"]


class TestProfile:
    def test_by_hand_and_by_settings_come_first(self):
        assert profile_of({"source": "manual"}).manual
        assert profile_of({"source": "settings"}).manual
        assert not profile_of({"source": "leaderboard", "score": 2, "tier": 1}).manual
        assert profile_of({"score": 2, "tier": 1}).score == 2.0

    def test_odd_documents_do_no_harm(self):
        odd = profile_of({"score": "high", "tier": 1.5})
        assert (odd.score, odd.tier, odd.manual) == (None, None, False)


class TestRequests:
    def answers(self, stream):
        market = Market(MarketConfig(traders=2, orders_per_trader=6, positions_per_trader=3), 1_790_000_000_000)
        trader = next(iter(market.traders))
        request = Request(stream(trader))
        answer = InfoService(Payloads(market)).answer(json.loads(json.dumps(request.payload())))
        feed = HyperliquidFeed("wss://127.0.0.1/ws", max_users=10)
        return request, feed.decode(request.frame(encode(answer.value)), 1_790_000_000_123)

    @pytest.mark.parametrize("dex", ["", "xyz"])
    def test_open_orders(self, dex):
        request, data = self.answers(lambda trader: StreamKey("hyperliquid", "openOrders", trader, dex))
        assert request.type == "frontendOpenOrders"
        assert isinstance(data, Data)
        assert data.stream == request.stream
        (snapshot,) = data.messages
        assert isinstance(snapshot, OrdersSnapshot)
        assert (snapshot.dex, snapshot.received_ms) == (dex, 1_790_000_000_123)
        assert dex or snapshot.rows

    @pytest.mark.parametrize("dex", ["", "xyz"])
    def test_positions(self, dex):
        request, data = self.answers(lambda trader: StreamKey("hyperliquid", "clearinghouseState", trader, dex))
        assert data.stream == request.stream
        (snapshot,) = data.messages
        assert isinstance(snapshot, PositionsSnapshot)
        assert snapshot.account is not None

    def test_the_legacy_state(self):
        request, data = self.answers(lambda trader: StreamKey("hyperliquid", "webData2", trader))
        assert data.stream == request.stream
        assert {type(message) for message in data.messages} == {OrdersSnapshot, PositionsSnapshot}

    def test_weights(self):
        names = ("clearinghouseState", "openOrders")
        streams = [StreamKey("hyperliquid", name, ALICE, dex) for dex in ("", "xyz") for name in names]
        assert poll_weight(streams) == 44
        assert poll_weight([StreamKey("hyperliquid", "webData2", ALICE)]) == 20
