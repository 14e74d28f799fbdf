"""Counting of demand: first in, last out, with a grace period."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.models.live import Topic
from src.pipeline.demand import Demand

BTC = Topic("book", "hyperliquid", "BTC")
ETH = Topic("trade", "hyperliquid", "ETH")


@pytest.fixture
def demand():
    return Demand(grace_s=10.0)


def test_the_first_holder_makes_it_wanted_and_the_others_do_not(demand):
    assert demand.hold("configuration", BTC) is True
    assert demand.hold("client:1", BTC) is False
    assert demand.hold("client:1", BTC) is False
    assert demand.count(BTC) == 2
    assert demand.wanted() == {"hyperliquid": {"BTC": {"book"}}}


def test_the_last_release_takes_effect_after_the_grace_period(demand):
    demand.hold("a", BTC)
    demand.hold("b", BTC)
    demand.release("a", BTC, 0.0)
    assert demand.expire(100.0) == []
    demand.release("b", BTC, 100.0)
    assert demand.expire(109.9) == []
    assert BTC in demand
    assert demand.expire(110.0) == [BTC]
    assert BTC not in demand
    assert demand.wanted() == {}


def test_who_comes_back_within_the_grace_period_keeps_it(demand):
    demand.hold("a", BTC)
    demand.release("a", BTC, 0.0)
    assert demand.hold("b", BTC) is False
    assert demand.expire(1000.0) == []


def test_a_release_of_what_was_not_held_changes_nothing(demand):
    demand.hold("a", BTC)
    demand.release("b", BTC, 0.0)
    demand.release("a", ETH, 0.0)
    assert demand.expire(1000.0) == []
    assert demand.count(BTC) == 1


def test_a_session_keeps_exactly_what_it_says(demand):
    assert demand.keep("session", [BTC, ETH], 0.0) is True
    assert demand.keep("session", [ETH], 0.0) is False
    assert demand.expire(10.0) == [BTC]
    demand.leave("session", 20.0)
    assert demand.expire(30.0) == [ETH]


def test_topics_are_bounded_but_more_holders_of_one_are_not():
    demand = Demand(grace_s=0.0, most_topics=1)
    demand.hold("a", BTC)
    assert demand.has_room(BTC)
    assert not demand.has_room(ETH)


def test_others_than_one_holder(demand):
    demand.hold("others", BTC)
    assert not demand.is_held_besides("others", BTC)
    demand.hold("client:1", BTC)
    assert demand.is_held_besides("others", BTC)


steps = st.lists(
    st.tuples(
        st.sampled_from(["hold", "release", "leave", "wait"]), st.sampled_from("abc"), st.sampled_from([BTC, ETH])
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens_it_is_wanted_from_the_first_holder_until_a_while_after_the_last(taken):
    demand, held, last_held, now = Demand(grace_s=10.0), {BTC: set(), ETH: set()}, {}, 0.0
    for verb, who, topic in taken:
        now += 4.0
        if verb == "hold":
            demand.hold(who, topic)
            held[topic].add(who)
        elif verb == "release":
            if held[topic] == {who}:
                last_held[topic] = now
            demand.release(who, topic, now)
            held[topic].discard(who)
        elif verb == "leave":
            for one, holders in held.items():
                if holders == {who}:
                    last_held[one] = now
                holders.discard(who)
            demand.leave(who, now)
        demand.expire(now)
        for one, holders in held.items():
            expected = bool(holders) or (one in last_held and now < last_held[one] + 10.0)
            assert (one in demand) == expected
            assert demand.count(one) == len(holders)
