"""Positions: what a complete list says, compared with the one before it."""

from __future__ import annotations

from zlib import crc32

import pytest

from src.models.changes import AccountSample, PositionChange, PositionMarks
from src.models.metrics import MESSAGES_OUTDATED, POSITION_CHANGES, TRACKED_POSITIONS, Metrics
from src.models.positions import Account, Leverage, MarginSummary
from src.models.writes import Collection
from src.pipeline.diff import Diff, Kinds
from tests.support.trader_states import (
    OTHER_TRADER,
    START_MS,
    TRADER,
    Watcher,
    a_position,
    positions_data,
    some_orders,
)

MINUTE_MS = 60_000


def kinds(changes) -> list[tuple[str, str, int]]:
    return [(change.action, change.kind, change.revision) for change in changes]


def test_a_position_that_appears_is_opened():
    watcher = Watcher()
    [change] = watcher.holds([a_position()])
    assert (change.action, change.kind, change.revision, change.changes) == ("new", "open", 1, {})
    assert change.observed is None


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("0.5", "0.7", "increase"),
        ("-0.5", "-0.7", "increase"),
        ("0.5", "0.2", "decrease"),
        ("-0.5", "-0.2", "decrease"),
        ("0.5", "-0.5", "flip"),
        ("-0.5", "0.1", "flip"),
        ("0.5", "-2.0", "flip"),
    ],
)
def test_the_kind_of_a_size_change(before, after, kind):
    watcher = Watcher()
    watcher.holds([a_position(szi=before)])
    [change] = watcher.holds([a_position(szi=after)])
    assert kinds([change]) == [("updated", kind, 2)]
    assert change.changes == {"szi": {"from": float(before), "to": float(after)}}


def test_a_size_change_that_moves_the_entry_is_one_change():
    watcher = Watcher()
    watcher.holds([a_position(szi="0.5", entryPx="86100.0")])
    [change] = watcher.holds([a_position(szi="0.6", entryPx="86150.0", leverage=Leverage("isolated", 20))])
    assert change.kind == "increase"
    assert change.changes == {
        "szi": {"from": 0.5, "to": 0.6},
        "entryPx": {"from": 86100.0, "to": 86150.0},
        "leverage.type": {"from": "cross", "to": "isolated"},
    }


def test_another_leverage_is_a_change():
    watcher = Watcher()
    watcher.holds([a_position()])
    [change] = watcher.holds([a_position(leverage=Leverage("cross", 10))])
    assert kinds([change]) == [("updated", "leverage", 2)]
    assert change.changes == {"leverage.value": {"from": 20, "to": 10}}


def test_another_margin_mode_is_a_change():
    watcher = Watcher()
    watcher.holds([a_position()])
    [change] = watcher.holds([a_position(leverage=Leverage("isolated", 20, "27985.6"))])
    assert kinds([change]) == [("updated", "leverage", 2)]


def test_isolated_margin_that_moves_is_no_change():
    watcher = Watcher()
    watcher.holds([a_position(leverage=Leverage("isolated", 20, "27985.6"))])
    assert watcher.holds([a_position(leverage=Leverage("isolated", 20, "11111.1"))]) == []


def test_another_entry_at_the_same_size_is_a_change():
    watcher = Watcher()
    watcher.holds([a_position()])
    [change] = watcher.holds([a_position(entryPx="86000.0")])
    assert kinds([change]) == [("updated", "entry", 2)]


def test_an_entry_that_becomes_known_is_a_change_and_one_that_stays_unknown_is_none():
    watcher = Watcher()
    watcher.holds([a_position(entryPx=None, leverage=None)])
    assert watcher.holds([a_position(entryPx=None, leverage=None)]) == []
    [change] = watcher.holds([a_position(entryPx="1.5", leverage=None)])
    assert change.changes == {"entryPx": {"from": None, "to": 1.5}}
    [change] = watcher.holds([a_position(entryPx="1.5")])
    assert change.kind == "leverage"


def test_marks_are_no_changes():
    watcher = Watcher()
    watcher.holds([a_position(positionValue="1.0", unrealizedPnl="-1.0", returnOnEquity="0.1", liquidationPx="5.0")])
    assert (
        watcher.holds([a_position(positionValue="2.0", unrealizedPnl="3.0", liquidationPx=None, marginUsed="9")])
        == []
    )


def test_another_text_of_the_same_number_is_no_change():
    watcher = Watcher()
    watcher.holds([a_position(szi="0.00001", entryPx="86100")])
    assert watcher.holds([a_position(szi="1e-05", entryPx="86100.0")]) == []
    assert watcher.holds([a_position(szi="0.000010", entryPx="86100.00")]) == []


def test_a_close_is_an_absence():
    watcher = Watcher()
    watcher.holds([a_position("BTC", "-0.4"), a_position("ETH")])
    [change] = watcher.holds([a_position("ETH")])
    assert kinds([change]) == [("closed", "close", 2)]
    assert change.observed == "live"
    assert change.changes == {"status": {"from": "open", "to": "closed"}, "szi": {"from": -0.4, "to": 0.0}}
    assert change.position.szi == "-0.4"


def test_an_empty_list_closes_everything():
    watcher = Watcher()
    watcher.holds([a_position("BTC"), a_position("ETH")])
    assert [change.position.coin for change in watcher.holds([])] == ["BTC", "ETH"]
    assert watcher.diff.open_positions == 0


def test_one_closes_while_another_opens():
    watcher = Watcher()
    watcher.holds([a_position("BTC")])
    assert [(c.kind, c.position.coin) for c in watcher.holds([a_position("ETH")])] == [
        ("close", "BTC"),
        ("open", "ETH"),
    ]


def test_a_reopened_position_goes_on_counting():
    watcher = Watcher()
    watcher.holds([a_position()])
    watcher.holds([])
    assert kinds(watcher.holds([a_position(szi="-1.0")])) == [("new", "open", 3)]
    assert kinds(watcher.holds([])) == [("closed", "close", 4)]


def test_an_older_message_never_wins():
    watcher = Watcher()
    watcher.holds([a_position()], at_ms=1_000)
    assert watcher.holds([], at_ms=999) == []
    assert watcher.holds([a_position(szi="9.0")], at_ms=999) == []
    assert watcher.metrics.value(MESSAGES_OUTDATED, "positions") == 2
    assert kinds(watcher.holds([], at_ms=1_001)) == [("closed", "close", 2)]


def test_of_two_messages_with_equal_times_the_later_to_arrive_counts():
    watcher = Watcher()
    watcher.holds([a_position()], at_ms=1_000)
    assert watcher.holds([a_position()], at_ms=1_000) == []
    assert kinds(watcher.holds([a_position(szi="0.6")], at_ms=1_000)) == [("updated", "increase", 2)]


def test_an_older_message_does_not_count_as_having_looked():
    watcher = Watcher()
    watcher.holds([a_position()], at_ms=1_000)
    watcher.loses_sight()
    watcher.holds([a_position()], at_ms=999)
    [change] = watcher.holds([], at_ms=1_001)
    assert change.observed == "late"


def test_positions_of_one_dex_never_close_those_of_another():
    watcher = Watcher()
    watcher.holds([a_position("BTC")])
    watcher.holds([a_position("xyz:TSLA")], dex="xyz")
    assert watcher.holds([], dex="abc") == []
    assert [change.dex for change in watcher.holds([], dex="xyz")] == ["xyz"]
    assert watcher.diff.open_positions == 1


def test_positions_of_one_trader_never_close_those_of_another():
    watcher = Watcher()
    watcher.holds([a_position()])
    assert watcher.holds([], trader=OTHER_TRADER) == []


def test_the_same_coin_on_two_dexes_counts_apart():
    watcher = Watcher()
    watcher.holds([a_position("BTC")])
    [change] = watcher.holds([a_position("BTC", "-3.0")], dex="xyz")
    assert kinds([change]) == [("new", "open", 1)]


def test_what_closes_in_a_gap_is_found_late():
    watcher = Watcher()
    watcher.holds([a_position("BTC"), a_position("ETH")])
    watcher.loses_sight("clearinghouseState")
    [change] = watcher.holds([a_position("ETH")])
    assert change.observed == "late"
    [change] = watcher.holds([])
    assert change.observed == "live"


def test_a_gap_in_the_orders_does_not_blind_the_positions():
    watcher = Watcher()
    watcher.shows(some_orders(1))
    watcher.holds([a_position()])
    watcher.loses_sight("openOrders")
    [change] = watcher.holds([])
    assert change.observed == "live"


def test_a_gap_in_a_stream_that_feeds_both_blinds_both():
    watcher = Watcher()
    watcher.shows(some_orders(1), channel="webData2", at_ms=START_MS)
    watcher.holds([a_position()], channel="webData2", at_ms=START_MS)
    watcher.loses_sight("webData2")
    assert watcher.holds([], channel="webData2", at_ms=START_MS)[0].observed == "late"
    assert watcher.shows([], channel="webData2", at_ms=START_MS)[0].observed == "late"


def test_a_stream_of_all_dexes_feeds_each_of_them():
    watcher = Watcher()
    watcher.applies(positions_data([a_position()], received_ms=1, channel="allDexsClearinghouseState"))
    from src.models.messages import Data

    xyz = positions_data([a_position("xyz:A")], received_ms=1, dex="xyz").messages
    stream = positions_data([], received_ms=1, channel="allDexsClearinghouseState").stream
    watcher.applies(Data(stream, None, xyz))
    watcher.loses_sight("allDexsClearinghouseState")
    closed = [
        change
        for dex in ("", "xyz")
        for change in watcher.applies(
            Data(stream, None, positions_data([], received_ms=START_MS + 99_000, dex=dex).messages)
        )
        if isinstance(change, PositionChange)
    ]
    assert [(change.dex, change.observed) for change in closed] == [("", "late"), ("xyz", "late")]


async def test_the_first_list_after_a_restart_is_compared_with_what_was_stored():
    before = Watcher()
    before.holds([a_position("BTC", "-0.00785"), a_position("ETH", "0.1334", entryPx="1705.82"), a_position("ATOM")])
    after = await before.restarted()
    assert after.diff.open_positions == 3
    changes = after.holds([a_position("BTC", "-0.00785"), a_position("ETH", "0.2", entryPx="1705.82")])
    assert [(c.position.coin, c.kind, c.revision, c.observed) for c in changes] == [
        ("ATOM", "close", 2, "late"),
        ("ETH", "increase", 2, None),
    ]


async def test_after_a_restart_with_nothing_changed_nothing_is_an_event():
    held = [
        a_position("kPEPE", "1e-05", entryPx="0.000010"),
        a_position("xyz:TSLA", "-123456789012345.0", entryPx=None, leverage=None, maxLeverage=None),
        a_position("BTC", "0.1", leverage=Leverage("isolated", 3, "-4999.5")),
    ]
    before = Watcher()
    before.holds(held)
    after = await before.restarted()
    assert after.holds(held) == []


async def test_a_position_closed_before_a_restart_goes_on_counting():
    before = Watcher()
    before.holds([a_position()])
    before.holds([])
    after = await before.restarted()
    assert after.diff.open_positions == 0
    assert kinds(after.holds([a_position()])) == [("new", "open", 3)]


async def test_the_marks_of_a_position_that_closed_while_we_were_away_are_kept():
    before = Watcher()
    before.holds([a_position(positionValue="43050.0", unrealizedPnl="-12.5", liquidationPx="60000.0")])
    after = await before.restarted()
    after.holds([])
    store = await before.stored()
    from tests.support.trader_states import store_changes

    await store_changes(store, after.changes)
    [stored] = store.documents(Collection.TRADER_POSITIONS)
    assert (stored["status"], stored["szi"], stored["unrealizedPnl"], stored["liquidationPx"]) == (
        "closed",
        0.0,
        -12.5,
        60000.0,
    )


def test_account_values_are_sampled_once_a_minute():
    watcher = Watcher()
    account = Account(MarginSummary("10.0"), None, "1.0", "9.0")
    minute = START_MS - START_MS % MINUTE_MS
    for offset_ms in (0, 5_000, 59_999, 60_000, 65_000, 180_000):
        watcher.holds([], at_ms=minute + offset_ms, account=account)
    samples = [change for change in watcher.changes if isinstance(change, AccountSample)]
    assert [sample.venue_ms - minute for sample in samples] == [0, 60_000, 180_000]


def test_account_values_that_are_not_told_are_not_sampled():
    watcher = Watcher()
    watcher.holds([], account=None)
    assert not [change for change in watcher.changes if isinstance(change, AccountSample)]


def test_marks_are_refreshed_once_a_minute_at_a_moment_of_the_traders_own():
    watcher = Watcher()
    shift_ms = crc32(TRADER.encode()) % MINUTE_MS
    minute = START_MS - START_MS % MINUTE_MS - shift_ms
    watcher.holds([a_position()], at_ms=minute)
    for offset_ms in (5_000, 59_999, 60_000, 65_000, 130_000):
        watcher.holds([a_position(positionValue=str(offset_ms))], at_ms=minute + offset_ms)
    marks = [change for change in watcher.changes if isinstance(change, PositionMarks)]
    assert [(m.position.positionValue, m.revision) for m in marks] == [("60000", 1), ("130000", 1)]


def test_a_position_that_just_changed_needs_no_refresh():
    watcher = Watcher()
    watcher.holds([a_position("BTC"), a_position("ETH")], at_ms=START_MS)
    watcher.holds([a_position("BTC", "9.0"), a_position("ETH")], at_ms=START_MS + MINUTE_MS)
    marks = [change for change in watcher.changes if isinstance(change, PositionMarks)]
    assert [mark.position.coin for mark in marks] == ["ETH"]


def test_without_a_venue_time_the_time_of_arrival_counts():
    watcher = Watcher()
    account = Account(MarginSummary("10.0"))
    watcher.applies(positions_data([a_position()], received_ms=START_MS, account=account))
    watcher.applies(positions_data([a_position()], received_ms=START_MS + MINUTE_MS, account=account))
    assert len([change for change in watcher.changes if isinstance(change, AccountSample)]) == 2


def test_everything_found_is_counted():
    watcher = Watcher()
    watcher.holds([a_position("BTC"), a_position("ETH")])
    watcher.holds([a_position("ETH", "0.6")])
    counted = {labels[0]: value for labels, value in watcher.metrics.by_label(POSITION_CHANGES).items()}
    assert counted == {"open": 2, "increase": 1, "close": 1}
    assert watcher.metrics.value(TRACKED_POSITIONS) == watcher.diff.open_positions == 1


def test_positions_are_not_followed_when_switched_off():
    diff = Diff(metrics=Metrics(), kinds=Kinds(positions=False))
    assert diff.apply(positions_data([a_position()], received_ms=START_MS)) == []


def test_forgetting_a_trader_forgets_the_positions():
    watcher = Watcher()
    watcher.holds([a_position()])
    watcher.holds([a_position()], trader=OTHER_TRADER)
    watcher.diff.forget(TRADER)
    assert watcher.diff.open_positions == 1
    assert watcher.diff.looks() == {OTHER_TRADER: watcher.now_ms}
