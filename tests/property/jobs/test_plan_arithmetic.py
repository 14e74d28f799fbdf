"""Whatever the traders and the limits: a plan never asks for more than there is, and its rings are what they say."""

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from src.jobs.following.planner import Costs, Room, Tracked, Wishes, make_plan
from src.jobs.following.rings import Carousel, build_ring

ADDRESSES = [f"0x{number:040x}" for number in range(400)]

rooms = st.builds(
    Room,
    users=st.integers(0, 15),
    subscriptions=st.integers(0, 1000),
    messages_per_minute=st.floats(0, 2000),
    connects_per_minute=st.floats(0, 30),
    weight_per_minute=st.floats(0, 1200),
    freed=st.sampled_from(["unsubscribe", "connection", "never"]),
    look_s=st.floats(0.05, 20),
    connect_s=st.floats(0.05, 5),
)
costs = st.builds(
    Costs, live_streams=st.integers(1, 8), look_streams=st.integers(1, 6), poll_weight=st.integers(20, 90)
)
wishes = st.builds(Wishes, pinned=st.integers(0, 20), within_s=st.floats(10, 3600))


@st.composite
def tracked(draw):
    count = draw(st.integers(0, 180))
    rng = random.Random(draw(st.integers(0, 10_000)))
    return [
        Tracked(
            address,
            manual=rng.random() < 0.1,
            tier=rng.choice([None, 1, 2, 3]),
            score=rng.choice([None, rng.uniform(-1e6, 1e6)]),
            activity=rng.choice([0.0, rng.expovariate(0.01)]),
            looked_at=rng.choice([None, rng.uniform(0, 1e5)]),
            mode=rng.choice([None, "live", "rotation", "poll"]),
            egress=rng.choice([None, 0, 1, 2, 7]),
        )
        for address in ADDRESSES[:count]
    ]


@given(tracked(), st.lists(rooms, min_size=1, max_size=4), costs, wishes)
@settings(max_examples=300, deadline=None)
def test_no_limit_is_planned_to_be_exceeded(traders, rooms, costs, wishes):
    plan = make_plan(traders, rooms, costs, wishes)
    assert len(plan.addresses) == len(rooms)
    everybody = Counter()
    for number, (room, part) in enumerate(zip(rooms, plan.addresses, strict=True)):
        rotating, polled = set(part.rotation.ring.places), set(part.poll.ring.places)
        without = {a for a, as_ in plan.assignments.items() if as_.egress == number and as_.within_s is None}
        everybody.update([*part.live, *rotating, *polled, *(without - rotating - polled)])
        assert len(part.live) + part.rotation.batch <= room.users or not rotating
        assert len(part.live) <= room.users
        streams = len(part.live) * costs.live_streams
        streams += part.rotation.batch * costs.look_streams if rotating else 0
        assert streams <= room.subscriptions
        if rotating:
            assert room.freed != "never"
            looks_per_minute = 60 / part.rotation.spacing_s
            assert looks_per_minute * 2 * costs.look_streams <= room.messages_per_minute * 1.0001
            if room.freed == "connection":
                assert looks_per_minute / part.rotation.batch <= room.connects_per_minute * 1.0001
        if polled:
            assert 60 / part.poll.spacing_s * costs.poll_weight <= room.weight_per_minute * 1.0001
        for address in part.live:
            assert plan.assignments[address].mode == "live"
    assert everybody == Counter({trader.address: 1 for trader in traders})
    assert set(plan.assignments) == {trader.address for trader in traders}


@given(tracked(), st.lists(rooms, min_size=1, max_size=3), costs, wishes)
@settings(max_examples=200, deadline=None)
def test_who_was_added_by_hand_is_live_before_anybody_else(traders, rooms, costs, wishes):
    plan = make_plan(traders, rooms, costs, wishes)
    by_hand = {trader.address for trader in traders if trader.manual}
    live = {address for address, assignment in plan.assignments.items() if assignment.mode == "live"}
    assert live <= by_hand or by_hand <= live


@given(tracked(), st.lists(rooms, min_size=1, max_size=3), costs, wishes)
@settings(max_examples=100, deadline=None)
def test_the_same_input_gives_the_same_plan_in_any_order(traders, rooms, costs, wishes):
    plan = make_plan(traders, rooms, costs, wishes)
    again = make_plan(list(reversed(traders)), rooms, costs, wishes)
    assert {a: (x.mode, x.within_s, x.weight) for a, x in plan.assignments.items()} == {
        a: (x.mode, x.within_s, x.weight) for a, x in again.assignments.items()
    }


@given(st.integers(0, 200), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_a_ring_holds_everybody_as_often_as_they_weigh_and_no_further_apart_than_told(count, seed):
    rng = random.Random(seed)
    traders = rng.sample(ADDRESSES, count)
    weights = {trader: rng.choice([1, 2, 4]) for trader in traders}
    ring = build_ring(traders, weights)
    assert Counter(ring.places) == Counter(weights)
    for trader in traders:
        places = [index for index, address in enumerate(ring.places * 2) if address == trader]
        assert max(b - a for a, b in pairwise(places)) == ring.distances[trader]
        fair = len(ring.places) / weights[trader]
        assert ring.distances[trader] <= 2 * fair + 4


@given(st.integers(1, 60), st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_a_carousel_gives_everybody_a_turn_within_the_distance(count, seed):
    rng = random.Random(seed)
    traders = ADDRESSES[:count]
    ring = build_ring(traders, {trader: rng.choice([1, 2, 4]) for trader in traders})
    carousel, looked, turn_of = Carousel(), {}, dict.fromkeys(traders, 0)
    carousel.replace(ring, 1.0, 0.0)
    for turn in range(1, 4 * len(ring.places)):
        trader = carousel.next(float(turn), looked)
        if trader is None:
            continue
        looked[trader] = float(turn)
        assert turn - turn_of[trader] <= ring.distances[trader] + 1
        turn_of[trader] = turn
