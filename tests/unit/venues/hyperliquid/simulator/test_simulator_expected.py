"""The judge, tried on small cases worked out by hand."""

import pytest

from src.venues.hyperliquid.simulator.expected import ORDER_FIELDS, expected_events
from src.venues.hyperliquid.simulator.truth import Delivery

USER = "0x" + "a" * 40


def order(**fields):
    return dict.fromkeys(ORDER_FIELDS) | {"coin": "BTC", "sz": "1.0"} | fields


def position(szi, *, entry="100.0", leverage=10, mode="cross"):
    return {"szi": szi, "entryPx": entry, "leverageType": mode, "leverageValue": leverage}


def shown(orders=None, positions=None, *, time_ms=None, delivered=True, dex="", seq=0):
    return Delivery(
        seq=seq,
        session=1,
        channel="webData2",
        trader=USER,
        dex=dex,
        time_ms=time_ms,
        sent_ms=0,
        orders=orders,
        positions=positions,
        delivered=delivered,
    )


def actions(*deliveries, **options):
    return {oid: kinds for (_, oid), kinds in expected_events(deliveries, **options).orders.items()}


def kinds(*snapshots):
    expected = expected_events([shown(positions={"BTC": row} if row else {}) for row in snapshots])
    return expected.positions.get((USER, "", "BTC"), [])


def test_an_order_appears_changes_and_vanishes():
    verdict = expected_events(
        [shown({1: order()}), shown({1: order(sz="0.5")}), shown({1: order(sz="0.5")}), shown({})]
    )
    assert verdict.orders == {(USER, 1): ["new", "updated", "closed"]}
    assert verdict.order_states[USER, 1] == ("closed", order(sz="0.5"))
    assert verdict.uncertain == set()


def test_an_empty_list_closes_and_an_absent_section_says_nothing():
    assert actions(shown({1: order()}), shown(None), shown({1: order()})) == {1: ["new"]}
    assert actions(shown({1: order()}), shown({})) == {1: ["new", "closed"]}


def test_an_older_state_is_ignored_and_an_equal_one_changes_nothing():
    assert actions(shown({1: order()}, time_ms=10), shown({}, time_ms=9), shown({1: order()}, time_ms=10)) == {
        1: ["new"]
    }
    assert actions(shown({1: order()}), shown({}, time_ms=5), shown({2: order()})) == {
        1: ["new", "closed"],
        2: ["new"],
    }


def test_dexes_do_not_close_each_others_orders():
    verdict = expected_events([shown({1: order()}), shown({2: order()}, dex="xyz"), shown({1: order()})])
    assert verdict.orders == {(USER, 1): ["new"], (USER, 2): ["new"]}


def test_an_order_that_comes_back_is_reopened_when_a_second_list_agrees():
    gone_and_back = (shown({1: order()}), shown({}), shown({1: order()}))
    assert actions(*gone_and_back) == {1: ["new", "closed"]}
    assert actions(*gone_and_back, shown({1: order()})) == {1: ["new", "closed", "reopened"]}
    assert actions(*gone_and_back, shown({})) == {1: ["new", "closed"]}


def test_of_a_list_that_shows_a_closed_order_only_unknown_orders_count():
    before = (shown({1: order(), 2: order()}), shown({2: order()}))
    outdated = shown({1: order(), 2: order(sz="0.5"), 3: order()})
    assert actions(*before, outdated, shown({3: order(sz="0.1")})) == {
        1: ["new", "closed"],
        2: ["new", "closed"],
        3: ["new", "updated"],
    }


WHOLE = {oid: order() for oid in range(10)}
CUT = {oid: order() for oid in range(4)}


class TestSuspiciousLists:
    def test_a_cut_list_is_put_aside_once(self):
        assert actions(shown(WHOLE), shown(CUT), shown(WHOLE)) == {oid: ["new"] for oid in range(10)}

    def test_what_a_cut_list_shows_counts(self):
        cut = {**CUT, 1: order(sz="0.5"), 50: order()}
        verdict = actions(shown(WHOLE), shown(cut), shown({**WHOLE, **cut}))
        assert verdict[1] == ["new", "updated"]
        assert verdict[50] == ["new"]
        assert verdict[9] == ["new"]

    def test_what_two_lists_miss_is_closed(self):
        verdict = actions(shown(WHOLE), shown(CUT), shown({}))
        assert all(kinds == ["new", "closed"] for kinds in verdict.values())

    def test_half_is_not_more_than_half(self):
        half = {oid: order() for oid in range(5)}
        assert actions(shown(WHOLE), shown(half))[9] == ["new", "closed"]

    def test_nine_orders_are_too_few_to_doubt(self):
        nine = {oid: order() for oid in range(9)}
        assert actions(shown(nine), shown({}))[3] == ["new", "closed"]


@pytest.mark.parametrize(
    ("snapshots", "expected"),
    [
        ([position("1.0"), position("2.0"), position("0.5"), position("-0.5"), None],
         ["open", "increase", "decrease", "flip", "close"]),
        ([position("-1.0"), position("-2.0"), position("-0.5")], ["open", "increase", "decrease"]),
        ([position("1.0"), position("1.0", leverage=20)], ["open", "leverage"]),
        ([position("1.0"), position("1.0", mode="isolated")], ["open", "leverage"]),
        ([position("1.0"), position("1.5", leverage=20)], ["open", "increase"]),
        ([position("1.0"), position("1.0", entry="101.0")], ["open", "entry"]),
        ([position("1.0"), position("1.0")], ["open"]),
        ([position("1.0"), None, position("1.0")], ["open", "close", "open"]),
        ([], []),
    ],
)  # fmt: skip
def test_kinds_of_position_events(snapshots, expected):
    assert kinds(*snapshots) == expected


def test_lost_deliveries_do_not_count():
    assert actions(shown({1: order()}), shown({}, delivered=False), shown({1: order()})) == {1: ["new"]}


def test_what_hangs_on_unknown_deliveries_is_uncertain():
    verdict = expected_events(
        [shown({1: order(), 2: order()}), shown({1: order()}, delivered=None), shown({1: order(), 2: order()})]
    )
    assert verdict.uncertain == {(USER, 2)}
    assert verdict.orders[USER, 1] == ["new"]


def test_an_unknown_delivery_that_changes_nothing_leaves_no_doubt():
    verdict = expected_events([shown({1: order()}), shown({}, delivered=None), shown({})])
    assert verdict.orders == {(USER, 1): ["new", "closed"]}
    assert verdict.uncertain == set()


def test_compared_fields_can_be_chosen():
    frames = [shown({1: order(parentOid=7)}), shown({1: order(parentOid=None)})]
    assert actions(*frames) == {1: ["new", "updated"]}
    fields = tuple(name for name in ORDER_FIELDS if name != "parentOid")
    assert actions(*frames, order_fields=fields) == {1: ["new"]}
