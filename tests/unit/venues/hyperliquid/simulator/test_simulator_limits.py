"""Limits per address, and the checks of subscriptions."""

import pytest

from src.venues.hyperliquid.simulator.config import Limits
from src.venues.hyperliquid.simulator.limits import ClientUsage, LimitBook
from src.venues.hyperliquid.simulator.subscriptions import (
    InvalidSubscriptionError,
    Subscription,
    UnknownTypeError,
    parse_subscription,
)

USER = "0x" + "aB" * 20


class TestUsage:
    def test_connections_per_minute_come_back_after_a_minute(self):
        usage = ClientUsage(Limits(connects_per_minute=2))
        assert [usage.may_connect(t) for t in (0.0, 1.0, 2.0, 59.9, 60.1, 60.2)] == [
            True, True, False, False, True, False,
        ]  # fmt: skip

    def test_open_connections(self):
        usage = ClientUsage(Limits(connections=1))
        usage.connections = 1
        assert not usage.may_connect(0.0)
        usage.connections = 0
        assert usage.may_connect(0.0)

    def test_a_user_counts_once_however_many_feeds_he_has(self):
        usage = ClientUsage(Limits(users=2))
        for user in ("a", "a", "b"):
            assert usage.refuse_subscription(user) is None
            usage.subscribed(user)
        assert usage.refuse_subscription("c") == "Cannot track more than 2 total users."
        assert usage.refuse_subscription("a") is None
        assert usage.refuse_subscription(None) is None
        usage.unsubscribed("b")
        assert usage.refuse_subscription("c") is None

    def test_a_user_is_freed_with_the_last_feed_only(self):
        usage = ClientUsage(Limits(users=1))
        usage.subscribed("a")
        usage.subscribed("a")
        usage.unsubscribed("a")
        assert usage.refuse_subscription("b") is not None
        usage.unsubscribed("a")
        assert usage.refuse_subscription("b") is None

    def test_subscriptions(self):
        usage = ClientUsage(Limits(subscriptions=1))
        usage.subscribed(None)
        assert usage.refuse_subscription(None) == "Cannot subscribe to more than 1 channels."

    def test_messages(self):
        usage = ClientUsage(Limits(messages_per_minute=2))
        texts = [usage.refuse_message(t) for t in (0.0, 0.1, 0.2, 60.15)]
        assert texts == [None, None, "Cannot send more than 2 messages per minute.", None]

    def test_weight_is_drawn_only_when_it_fits(self):
        usage = ClientUsage(Limits(rest_weight_per_minute=50))
        assert usage.may_spend(0.0, 30)
        assert not usage.may_spend(1.0, 30)
        assert usage.may_spend(1.0, 20)
        usage.spend(2.0, 100)
        assert not usage.may_spend(61.5, 1)
        assert usage.may_spend(62.5, 1)

    def test_everything_can_be_switched_off(self):
        usage = ClientUsage(Limits.off())
        usage.connections = usage.subscriptions = 10**6
        assert all(usage.may_connect(0.0) for _ in range(100))
        assert usage.refuse_message(0.0) is None
        assert usage.refuse_subscription("x") is None
        assert usage.may_spend(0.0, 10**9)

    def test_new_limits_reach_known_addresses(self):
        book = LimitBook(Limits())
        usage = book.of("127.0.0.1")
        book.limits = Limits(users=1)
        usage.subscribed("a")
        assert usage.refuse_subscription("b") == "Cannot track more than 1 total users."
        assert book.of("127.0.0.1") is usage
        assert book.of("127.0.0.2") is not usage


def parse(raw, *, legacy=False):
    return parse_subscription(raw, coins={"BTC": 1}, dexes=["", "xyz"], legacy=legacy)


class TestParsing:
    def test_addresses_are_lowered(self):
        assert parse({"type": "openOrders", "user": USER}).user == USER.lower()

    def test_echo_is_normalised(self):
        assert parse({"type": "l2Book", "coin": "BTC"}).echo() == {
            "type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": False,
        }  # fmt: skip
        assert parse({"type": "userFills", "user": USER}).echo()["aggregateByTime"] is False
        assert "dex" not in parse({"type": "openOrders", "user": USER}).echo()
        assert parse({"type": "openOrders", "user": USER, "dex": "xyz"}).echo()["dex"] == "xyz"
        assert parse({"type": "trades", "coin": "BTC"}).echo() == {"type": "trades", "coin": "BTC"}

    def test_parameters_that_do_not_belong_are_dropped(self):
        assert parse({"type": "trades", "coin": "BTC", "user": USER, "x": 1}) == Subscription(
            type="trades", coin="BTC"
        )

    @pytest.mark.parametrize(
        "raw",
        [
            None, [], "x", {}, {"type": 5}, {"type": "noSuchType"}, {"type": "trades"}, {"type": "trades", "coin": 5},
            {"type": "openOrders"}, {"type": "candle", "coin": "BTC"}, {"type": "webData2", "user": USER},
        ],
    )  # fmt: skip
    def test_what_cannot_be_parsed(self, raw):
        with pytest.raises(UnknownTypeError):
            parse(raw)

    @pytest.mark.parametrize(
        "raw",
        [
            {"type": "trades", "coin": "NOPE"},
            {"type": "openOrders", "user": "0x12"},
            {"type": "openOrders", "user": USER, "dex": "nope"},
            {"type": "candle", "coin": "BTC", "interval": "7m"},
            {"type": "l2Book", "coin": "BTC", "nSigFigs": 6},
            {"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": 1},
            {"type": "l2Book", "coin": "BTC", "nSigFigs": 4, "mantissa": 2},
        ],
    )
    def test_bad_parameters(self, raw):
        with pytest.raises(InvalidSubscriptionError):
            parse(raw)

    @pytest.mark.parametrize(
        "kind", ["clearinghouseState", "openOrders", "allDexsClearinghouseState", "spotState", "webData3"]
    )
    def test_the_old_protocol_knows_web_data2_and_none_of_its_successors(self, kind):
        assert parse({"type": "webData2", "user": USER}, legacy=True).type == "webData2"
        with pytest.raises(UnknownTypeError):
            parse({"type": kind, "user": USER}, legacy=True)


class TestUsersFreedWithTheConnection:
    def test_an_unsubscribed_user_counts_until_he_is_freed(self):
        usage = ClientUsage(Limits(users=1))
        usage.subscribed("a")
        usage.unsubscribed("a", frees_user=False)
        assert usage.subscriptions == 0
        assert usage.refuse_subscription("b") is not None
        usage.freed("a")
        assert usage.refuse_subscription("b") is None
        usage.freed("a")  # more than there is does no harm
        assert usage.refuse_subscription("b") is None

    def test_every_hit_of_a_limit_is_counted_by_its_name(self):
        usage = ClientUsage(Limits(users=0, subscriptions=5, messages_per_minute=1, connects_per_minute=0))
        usage.refuse_subscription("a")
        usage.refuse_message(0.0)
        usage.refuse_message(0.0)
        usage.may_connect(0.0)
        usage.may_spend(0.0, 5_000)
        assert usage.refused == {
            "users": 1, "messages_per_minute": 1, "connects_per_minute": 1, "rest_weight_per_minute": 1,
        }  # fmt: skip
