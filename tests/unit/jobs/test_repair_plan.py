"""What is concluded from a venue's history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.jobs.repair.history import PastOrder, Shown
from src.jobs.repair.plan import (
    SKEW_MS,
    Close,
    ClosedHole,
    FillWalk,
    Verdict,
    ended_inside,
    judge_orders,
    judge_positions,
    judge_trades,
    latest_by_oid,
    no_history,
    patch_of_hole,
    patch_of_unknown,
    patches_of_close,
)
from src.models.messages import Fill, Trade
from src.models.streams import StreamKey
from src.models.writes import Collection
from src.pipeline.documents import to_date
from src.pipeline.identities import fill_id

TRADER = "0x" + "ab" * 20
HOLE = ClosedHole(StreamKey("toy", "openOrders", TRADER), 100_000, 200_000)


def fill(time_ms, tid, coin="BTC"):
    return Fill("toy", TRADER, coin, "1.0", "2.0", "B", time_ms, time_ms + 40, oid=7, tid=tid)


def trade(time_ms, number):
    return Trade("toy", "BTC", f"{number}", "1.0", "2.0", "B", time_ms, time_ms)


def past(oid, status, status_ms, *, rested=True):
    return PastOrder(oid, status, status_ms, ended=status not in {"open", "triggered"}, rested=rested)


# -- closes --------------------------------------------------------------------------------------------------------


def test_the_newest_status_counts_and_of_equally_new_ones_the_end():
    rows = [
        past(1, "open", 5),
        past(1, "filled", 5),
        past(2, "canceled", 9),
        past(2, "triggered", 3),
        past(3, "open", 1),
    ]
    for order in (rows, rows[::-1]):
        assert {oid: row.status for oid, row in latest_by_oid(order).items()} == {
            1: "filled",
            2: "canceled",
            3: "open",
        }


def test_a_reason_is_written_on_the_order_and_its_event_unless_it_is_open_again():
    state, event = patches_of_close(Close(TRADER, 7, 3), past(7, "filled", 150_000), 300_000)
    assert (state.collection, state.id) == (Collection.TRADER_ORDERS, f"{TRADER}:7")
    assert (event.collection, event.id) == (Collection.TRADER_ORDER_EVENTS, f"{TRADER}:7:3")
    assert state.guard == {"revision": 3, "status": "closed"}
    assert state.values == event.values
    assert state.values == {
        "closeReason": "filled",
        "closedAt": to_date(150_000),
        "closeResolvedAt": to_date(300_000),
    }


def test_a_reason_nobody_knows_is_marked_on_the_event_only():
    patch = patch_of_unknown(Close(TRADER, 7, 3))
    assert (patch.collection, patch.id) == (Collection.TRADER_ORDER_EVENTS, f"{TRADER}:7:3")
    assert patch.values == {"closeReason": "unknown"}
    assert patch.guard["closeReason"] is None


# -- fills ---------------------------------------------------------------------------------------------------------


class HistoryOfFills:
    """Answers as the venue does: from a time on, inclusive, oldest first, at most a page, only the newest exist."""

    def __init__(self, fills, *, page, reach=10_000):
        self.kept = sorted(fills, key=lambda one: one.time_ms)[-reach:]
        self.page = page

    def from_(self, start_ms):
        return [one for one in self.kept if one.time_ms >= start_ms][: self.page]


def read_all(history, walk):
    found = []
    while not walk.done:
        found += walk.take(history.from_(walk.start_ms))
    return found


def walk_from(anchor, *, page, begin_ms=0, reach=10_000):
    begin_ms = begin_ms if anchor is None else anchor.time_ms
    identity = None if anchor is None else fill_id(anchor)
    return FillWalk(begin_ms=begin_ms, anchor=identity, page_rows=page, reach=reach)


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=120).map(sorted),
    st.integers(2, 12),
    st.integers(0, 119),
)
def test_every_fill_is_found_once_or_the_walk_says_that_some_may_be_missing(times, page, start):
    fills = [fill(time_ms, number) for number, time_ms in enumerate(times)]
    anchor = fills[start % len(fills)]
    walk = walk_from(anchor, page=page)
    found = read_all(HistoryOfFills(fills, page=page), walk)
    identities = [fill_id(one) for one in found]
    assert len(identities) == len(set(identities))
    if walk.verdict().complete:
        assert set(identities) == {fill_id(one) for one in fills if one.time_ms >= anchor.time_ms}


def test_many_pages_are_read_on_without_a_break():
    fills = [fill(1_000 + number // 3, number) for number in range(5_000)]
    walk = walk_from(fills[0], page=2_000)
    assert len(read_all(HistoryOfFills(fills, page=2_000), walk)) == 5_000
    verdict = walk.verdict()
    assert verdict.complete
    assert (verdict.from_ms, verdict.to_ms) == (1_000, fills[-1].time_ms)


def test_a_page_within_one_millisecond_is_a_possible_loss():
    fills = [fill(1_000, number) for number in range(30)] + [fill(1_001, 99)]
    walk = walk_from(fills[0], page=10)
    found = read_all(HistoryOfFills(fills, page=10), walk)
    assert fill_id(fills[-1]) in {fill_id(one) for one in found}
    assert not walk.verdict().complete
    assert "one millisecond" in walk.verdict().note


def test_rows_beyond_the_reach_are_told_to_be_lost():
    fills = [fill(1_000 + number, number) for number in range(60)]
    walk = walk_from(fills[0], page=20, reach=50)
    read_all(HistoryOfFills(fills, page=20, reach=50), walk)
    assert not walk.verdict().complete
    assert "no longer" in walk.verdict().note


@pytest.mark.parametrize(("count", "complete"), [(49, True), (50, False)])
def test_without_an_anchor_the_reach_decides(count, complete):
    fills = [fill(1_000 + number, number) for number in range(count)]
    walk = walk_from(None, page=20, reach=50)
    read_all(HistoryOfFills(fills, page=20, reach=50), walk)
    assert walk.verdict().complete is complete


def test_an_empty_history_ends_the_walk():
    walk = walk_from(None, page=20)
    assert read_all(HistoryOfFills([], page=20), walk) == []
    assert walk.verdict().complete


def test_a_venue_that_always_has_more_is_not_read_for_ever():
    walk = walk_from(None, page=2)
    number = 0
    while not walk.done:
        walk.take([fill(walk.start_ms + 1, number), fill(walk.start_ms + 2, number + 1)])
        number += 2
    assert "pages" in walk.verdict().note


# -- trades --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "anchor", "complete"),
    [
        ([trade(50, 2), trade(40, 1)], ("1", 40), True),
        ([trade(50, 2), trade(30, 0)], ("1", 40), True),  # older than the anchor: it reaches back over it
        ([trade(50, 2), trade(40, 9)], ("1", 40), False),  # the same millisecond may go on before the window
        ([trade(50, 2)], ("1", 40), False),
        ([trade(50, 2)], None, False),
        ([], ("1", 40), False),
        ([], None, False),
    ],
)
def test_trades_are_complete_when_the_window_reaches_back_to_a_stored_one(window, anchor, complete):
    assert judge_trades(window, anchor).complete is complete


# -- orders and positions ------------------------------------------------------------------------------------------


def test_orders_that_ended_inside_and_could_be_seen():
    rows = [
        past(1, "filled", 150_000),
        past(2, "canceled", HOLE.from_ms - SKEW_MS - 1),
        past(3, "canceled", HOLE.to_ms + SKEW_MS + 1),
        past(4, "filled", 150_000, rested=False),
        past(5, "open", 150_000),
    ]
    assert ended_inside(HOLE, rows) == {1}


@pytest.mark.parametrize(
    ("rows", "stored", "most", "complete", "missing"),
    [
        ([past(1, "filled", 150_000)], {1}, 10, True, ()),
        ([past(1, "filled", 150_000)], set(), 10, False, (1,)),
        ([], set(), 10, True, ()),
        ([past(1, "filled", 150_000), past(2, "open", 160_000)], {1}, 2, False, ()),  # it may go on further back
        ([past(1, "filled", 150_000), past(2, "canceled", 90_000)], {1, 2}, 2, True, ()),
    ],
)
def test_orders_are_complete_when_the_history_reaches_back_and_misses_none(rows, stored, most, complete, missing):
    verdict = judge_orders(HOLE, rows, stored, most_rows=most)
    assert (verdict.complete, verdict.missing) == (complete, missing)


@pytest.mark.parametrize(
    ("fills", "stream", "complete"),
    [
        ([], HOLE.stream, True),
        ([fill(150_000, 1)], HOLE.stream, False),
        ([fill(50_000, 1), fill(300_000, 2)], HOLE.stream, True),
        ([fill(150_000, 1, "xyz:TSLA")], HOLE.stream, True),
        ([fill(150_000, 1, "xyz:TSLA")], HOLE.stream._replace(dex="xyz"), False),
        ([fill(150_000, 1, "xyz:TSLA")], HOLE.stream._replace(channel="allDexsClearinghouseState"), False),
        ([fill(150_000, 1, "@107"), fill(150_001, 2, "PURR/USDC")], HOLE.stream, True),
    ],
)
def test_positions_are_complete_when_no_fill_was_made(fills, stream, complete):
    walk = walk_from(None, page=100)
    read_all(HistoryOfFills(fills, page=100), walk)
    hole = ClosedHole(stream, HOLE.from_ms, HOLE.to_ms)
    assert judge_positions(hole, walk.verdict(), walk).complete is complete


def test_positions_are_not_complete_when_fills_are_not():
    walk = walk_from(fill(1, 1), page=100)
    read_all(HistoryOfFills([], page=100), walk)
    assert not judge_positions(HOLE, walk.verdict(), walk).complete


# -- the hole's document -------------------------------------------------------------------------------------------


def test_a_hole_is_repaired_when_everything_it_hid_is_known():
    good = Verdict("fills", complete=True, note="fine", from_ms=1, to_ms=5)
    bad = Verdict("orders", complete=False, note="2 lost", from_ms=3, to_ms=9, missing=(7, 8))
    patch = patch_of_hole(HOLE, [good], 300_000)
    assert (patch.collection, patch.id) == (Collection.COVERAGE, f"toy/openOrders/{TRADER}:100000")
    assert patch.values["repaired"] is True
    assert "missing" not in patch.values["repair"]
    both = patch_of_hole(HOLE, [good, bad], 300_000).values
    assert both["repaired"] is False
    assert both["repair"] == {
        "what": "fills and orders",
        "from": to_date(1),
        "to": to_date(9),
        "complete": False,
        "note": "fine; 2 lost",
        "at": to_date(300_000),
        "missing": 2,
        "oids": [7, 8],
    }


def test_what_has_no_history_is_never_repaired():
    values = patch_of_hole(HOLE, [no_history(Shown.BOOKS)], 1).values
    assert values["repaired"] is False
    assert values["repair"]["from"] is None
