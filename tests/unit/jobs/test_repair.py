"""Repair of holes over the store in memory and a history that is scripted."""

import pytest

from src.jobs.repair import repair as module
from src.models.changes import FillSeen, TradeSeen
from src.models.errors import VenueError, VenueRequestError
from src.models.metrics import REPAIRS_DROPPED
from src.models.writes import Collection
from src.pipeline.documents import to_date
from tests.support.repair_rig import FROM_MS, OTHER, TRADER, Rig, a_fill, a_trade, ended, late, past


@pytest.fixture
def rig():
    return Rig()


# -- the venue or the database is away -------------------------------------------------------------------------------


async def test_a_failure_between_two_pages_does_not_lose_the_place(rig):
    rig.history.all_fills = [a_fill(number) for number in range(8)]
    await rig.put(FillSeen(a_fill(0, received_ms=FROM_MS)))
    await rig.hole("fills")
    rig.history.errors = [None, VenueError("500"), VenueError("429"), None]
    for _ in range(8):
        await rig.work(module.FAILED_CAP_S)
    starts = [question[2] - FROM_MS for question in rig.history.asked]
    assert starts == [0, 2, 2, 2, 4, 6]
    assert len(rig.store.documents(Collection.TRADER_FILLS)) == 8
    assert rig.coverage("fills")["repaired"] is True


async def test_one_trader_the_venue_chokes_on_does_not_hold_up_the_others(rig):
    await rig.hole("fills", OTHER)
    await rig.hole("fills", TRADER)
    fails = rig.history.fills

    async def fills(trader, start_ms):
        if trader == OTHER:
            raise VenueError("wrong shape")
        return await fails(trader, start_ms)

    rig.history.fills = fills
    for _ in range(6):
        await rig.work(module.FAILED_FIRST_S)
    assert rig.coverage("fills", TRADER)["repaired"] is True
    assert rig.coverage("fills", OTHER).get("repair") is None


async def test_one_coin_the_venue_chokes_on_does_not_hold_up_the_rest(rig):
    await rig.hole("trades", "BAD")
    await rig.hole("trades", "BTC")
    await rig.hole("fills", TRADER)

    async def recent_trades(symbol):
        if symbol == "BAD":
            raise VenueError("wrong shape")
        return []

    rig.history.recent_trades = recent_trades
    for _ in range(6):
        await rig.work(module.FAILED_CAP_S)
    assert rig.coverage("fills", TRADER)["repaired"] is True
    assert rig.coverage("trades", "BTC")["repair"]["complete"] is False
    assert rig.coverage("trades", "BAD").get("repair") is None


async def test_a_hole_the_venue_never_answers_for_is_left_with_a_note(rig, monkeypatch):
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 3)
    rig.history.errors = [VenueError("down")] * 100
    await rig.hole("fills")
    for _ in range(10):
        await rig.work(module.FAILED_CAP_S)
    assert rig.coverage("fills")["repaired"] is False
    assert "could not be read: down" in rig.coverage("fills")["repair"]["note"]
    assert rig.repair.waiting() == 0


async def test_a_question_the_venue_calls_wrong_is_not_repeated(rig):
    rig.history.errors = [VenueRequestError("null")]
    await rig.hole("trades", "NOPE")
    await rig.work()
    await rig.work(module.FAILED_CAP_S)
    assert len(rig.history.asked) == 1
    assert "could not be read" in rig.coverage("trades", "NOPE")["repair"]["note"]


# -- holes -----------------------------------------------------------------------------------------------------------


async def test_fills_of_a_hole_are_read_from_the_newest_one_known_before(rig):
    rig.history.all_fills = [a_fill(number) for number in range(-2, 5)]
    await rig.put(*[FillSeen(a_fill(number, received_ms=FROM_MS - 10)) for number in (-2, -1)])
    await rig.put(FillSeen(a_fill(4)))  # came with the stream when it was back
    await rig.hole("fills")
    await rig.work()
    assert rig.history.asked[0] == ("fills", TRADER, FROM_MS - 1)
    stored = [d["_id"] for d in rig.store.documents(Collection.TRADER_FILLS)]
    assert len(stored) == len(set(stored)) == 7
    assert [change.fill.tid for change in rig.published] == [0, 1, 2, 3]
    hole = rig.coverage("fills")
    assert hole["repaired"] is True
    assert hole["repair"]["from"] == to_date(FROM_MS - 1)


async def test_holes_of_one_trader_share_their_questions(rig):
    for channel in ("fills", "positions", "orders"):
        await rig.hole(channel)
    await rig.work()
    assert sorted(question[0] for question in rig.history.asked) == ["fills", "orders"]
    assert all(rig.coverage(channel)["repaired"] for channel in ("fills", "positions", "orders"))


async def test_a_stream_of_orders_and_positions_needs_both_proofs(rig):
    rig.history.listed = [ended(9)]
    await rig.hole("both")
    await rig.work()
    repair = rig.coverage("both")["repair"]
    assert (repair["what"], repair["complete"], repair["oids"]) == ("orders and positions", False, [9])
    assert rig.outcomes("positions") == {"complete": 1}


async def test_an_order_that_lived_unseen_is_named(rig):
    await rig.open_orders(8)
    rig.history.listed = [ended(8), ended(9)]
    await rig.hole("orders")
    await rig.work()
    assert rig.coverage("orders")["repair"]["oids"] == [9]
    assert rig.coverage("orders")["repaired"] is False


async def test_without_fills_positions_cannot_be_proved():
    rig = Rig(fills=False)
    await rig.hole("positions")
    await rig.work()
    assert rig.history.asked == []
    assert "not collected" in rig.coverage("positions")["repair"]["note"]


async def test_trades_are_fetched_at_once_and_judged_when_the_database_is_as_far(rig):
    rig.history.trades["BTC"] = [a_trade(number) for number in range(5, 0, -1)]
    await rig.put(TradeSeen(a_trade(1, received_ms=FROM_MS)), TradeSeen(a_trade(5)))
    changes = await rig.hole("trades", "BTC", stored=False)
    await rig.repair.work()
    assert rig.history.asked == [("trades", "BTC")]
    rig.history.trades["BTC"] = []
    await rig.work()
    assert rig.published == []
    await rig.put(*changes)
    await rig.work(60.0)
    assert [change.trade.trade_id for change in rig.published] == ["4", "3", "2"]
    assert len(rig.store.documents(Collection.TRADES)) == 5
    assert rig.coverage("trades", "BTC")["repaired"] is True
    assert len(rig.history.asked) == 1


async def test_trades_the_venue_no_longer_has_are_lost_and_the_rest_is_kept(rig):
    rig.history.trades["BTC"] = [a_trade(9), a_trade(8)]
    await rig.put(TradeSeen(a_trade(1, received_ms=FROM_MS)))
    await rig.hole("trades", "BTC")
    await rig.work()
    assert len(rig.store.documents(Collection.TRADES)) == 3
    assert rig.coverage("trades", "BTC")["repaired"] is False
    assert "lost" in rig.coverage("trades", "BTC")["repair"]["note"]


async def test_books_are_never_repaired(rig):
    await rig.hole("books", "BTC")
    await rig.work()
    assert rig.coverage("books", "BTC")["repaired"] is False
    assert rig.coverage("books", "BTC")["repair"]["what"] == "books"
    assert rig.history.asked == []


@pytest.mark.parametrize("reason", ["unsubscribed", "not_collected"])
async def test_holes_in_which_nothing_was_asked_for_are_left_alone(rig, reason):
    await rig.hole("fills", reason=reason)
    rig.restart()
    await rig.work()
    assert rig.history.asked == []
    assert rig.coverage("fills").get("repair") is None


async def test_streams_of_another_venue_or_an_unknown_kind_are_left_alone(rig):
    await rig.hole("fills", venue="elsewhere")
    await rig.hole("candles")
    assert rig.repair.waiting() == 0


async def test_a_hole_that_is_never_stored_is_given_up_and_counted(rig, monkeypatch):
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 3)
    await rig.hole("fills", stored=False)
    for _ in range(10):
        await rig.work(module.BARRIER_CAP_S)
    assert rig.repair.waiting() == 0
    assert rig.metrics.value(REPAIRS_DROPPED, "holes", "never_stored") == 1


async def test_too_many_trade_holes_at_once_take_turns(rig, monkeypatch):
    monkeypatch.setattr(module, "WINDOWS_LIMIT", 2)
    for number in range(5):
        await rig.hole("trades", f"C{number}")
    for _ in range(10):
        await rig.work(module.BARRIER_CAP_S)
    assert rig.repair.waiting() == 0
    assert rig.outcomes("trades") == {"incomplete": 5}


# -- orders that lived in a hole -------------------------------------------------------------------------------------


async def test_an_order_that_lived_unseen_gets_its_documents_from_the_history(rig):
    await rig.open_orders(8)
    rig.history.listed = [past(8), past(9, "canceled"), past(10, "open"), past(11, at_ms=FROM_MS - 60_000)]
    await rig.hole("orders")
    await rig.work()
    assert rig.coverage("orders")["repaired"] is True
    state = rig.order(9)
    assert (state["status"], state["closeReason"], state["source"]) == ("closed", "canceled", "history")
    assert state["closedAt"] == to_date(FROM_MS + 7)
    assert [rig.event(9, revision)["action"] for revision in (1, 2)] == ["new", "closed"]
    assert rig.order(8)["status"] == "open"  # the lists tell what becomes of it
    assert {change.order.oid for change in rig.published} == {9}
    assert len(rig.store.documents(Collection.TRADER_ORDERS)) == 2


async def test_what_the_history_told_about_a_hole_also_explains_closes(rig):
    await rig.open_orders(*range(1, 6))
    rig.history.listed = [past(oid, "marginCanceled") for oid in range(1, 6)]
    await rig.hear(*map(late, range(1, 6)))
    await rig.hole("orders")
    await rig.work()
    assert [question[0] for question in rig.history.asked] == ["orders"]
    assert {rig.order(oid)["closeReason"] for oid in range(1, 6)} == {"marginCanceled"}
