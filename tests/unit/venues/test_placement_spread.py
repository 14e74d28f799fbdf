from __future__ import annotations

from collections import Counter

from src.models.clock import ManualClock
from src.venues.budget import Budget
from src.venues.feed import VenueLimits
from src.venues.placement import Placement
from tests.support.toy_venue import key, market, user_feeds


def make(homes: int = 3, **limits: int) -> tuple[Placement, Budget]:
    budget = Budget(VenueLimits(**limits), clock=ManualClock())
    return Placement(homes, budget), budget


def test_spreads_evenly() -> None:
    placement, _ = make()
    placed = placement.want([market(str(n)) for n in range(9)])
    assert Counter(place.home for place in placed) == {0: 3, 1: 3, 2: 3}


def test_all_feeds_of_a_user_share_a_home_also_later_ones() -> None:
    placement, _ = make()
    first = placement.want(user_feeds("a", "orders"))[0]
    placement.want([market(str(n)) for n in range(5)])
    later = placement.want(user_feeds("a", "state", "fills"))
    assert {place.home for place in later} == {first.home}


def test_places_are_stable_when_others_come_and_go() -> None:
    placement, _ = make()
    placement.want([market(str(n)) for n in range(6)])
    before = {n: placement.place(key(str(n))) for n in range(6)}
    for place in placement.drop([key("0")]):
        placement.left(place)
    placement.want([market("x"), market("y")])
    assert {n: placement.place(key(str(n))) for n in range(1, 6)} == {n: before[n] for n in range(1, 6)}
    place = placement.place(key("x"))
    assert place is not None
    assert before[0] is not None
    assert place.home == before[0].home, "the least loaded"


def test_wanting_again_changes_nothing() -> None:
    placement, budget = make()
    placement.want([market("A")])
    assert placement.want([market("A")]) == []
    assert budget.usage()["subscriptions"]["used"] == 1


def test_users_beyond_the_limit_wait_in_order_and_say_why() -> None:
    placement, _ = make(users=2)
    placement.want([f for name in "abcd" for f in user_feeds(name)])
    assert [w.subscription.user for w in placement.waiting] == ["c", "c", "d", "d"]
    assert {w.why for w in placement.waiting} == {"user limit of 2 per address"}
    assert placement.fill() == []


def test_a_slot_is_free_only_when_the_venue_has_let_all_feeds_of_the_user_go() -> None:
    placement, _ = make(users=1)
    placement.want([*user_feeds("a"), *user_feeds("b")])
    orders, state = placement.drop([f.key for f in user_feeds("a")])
    assert placement.left(orders) is False
    assert placement.fill() == []
    assert placement.left(state) is True
    assert [place.subscription.user for place in placement.fill()] == ["b", "b"]
    assert placement.waiting == []


def test_the_subscription_limit_holds_and_gives_the_user_back() -> None:
    placement, budget = make(subscriptions=2, users=5)
    placement.want([market("A"), market("B"), *user_feeds("a")])
    assert [w.why for w in placement.waiting] == ["subscription limit of 2 per address"] * 2
    assert budget.usage()["users"]["used"] == 0
    placement.left(placement.drop([key("A")])[0])
    assert len(placement.fill()) == 1


def test_dropping_what_waits_needs_no_place() -> None:
    placement, _ = make(users=0)
    placement.want(user_feeds("a"))
    assert placement.drop([f.key for f in user_feeds("a")]) == []
    assert placement.waiting == []
    assert placement.wanted() == {}


def test_the_waiting_order_can_change() -> None:
    placement, _ = make(users=0)
    for name in "abc":
        placement.want(user_feeds(name, "orders"))
    placement.sort_waiting([key("c", "orders"), key("nobody"), key("a", "orders")])
    assert [w.subscription.user for w in placement.waiting] == ["c", "a", "b"]


def test_a_slot_freed_by_a_neighbour_on_the_same_address_is_noticed() -> None:
    placement, budget = make(users=1)
    budget.hold_user("elsewhere")
    placement.want(user_feeds("a", "orders"))
    assert placement.fill() == []
    budget.free_user("elsewhere")
    assert len(placement.fill()) == 1
