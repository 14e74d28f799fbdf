"""Repair over the store in memory and a history that is scripted."""

import asyncio

import pytest

from src.jobs import repair as module
from src.jobs.history import PastOrder, Shown
from src.jobs.repair import Repair
from src.jobs.repair_trader import MANY_CLOSES
from src.models.changes import FillSeen, HoleClosed, HoleOpened, OrderChange, TradeSeen
from src.models.clock import ManualClock
from src.models.errors import StoreError, VenueError, VenueRequestError
from src.models.messages import Fill, Trade
from src.models.metrics import REPAIRS, REPAIRS_DROPPED, REPAIRS_WAITING, Metrics
from src.models.orders import Order
from src.models.streams import StreamKey
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.pipeline.documents import to_date
from src.store.memory import MemoryStore

NOW_MS = 1_700_000_000_000
FROM_MS, TO_MS = NOW_MS - 60_000, NOW_MS - 1_000
TRADER, OTHER = "0x" + "a" * 40, "0x" + "b" * 40


class ScriptedHistory:
    venue = "toy"
    shown = {  # noqa: RUF012 - read only
        "orders": frozenset({Shown.ORDERS}),
        "positions": frozenset({Shown.POSITIONS}),
        "both": frozenset({Shown.ORDERS, Shown.POSITIONS}),
        "fills": frozenset({Shown.FILLS}),
        "trades": frozenset({Shown.TRADES}),
        "books": frozenset({Shown.BOOKS}),
    }
    most_orders = 2_000
    fills_page = 3
    fills_reach = 100

    def __init__(self):
        self.orders, self.listed, self.all_fills, self.trades = {}, [], [], {}
        self.asked, self.errors = [], []
        self.gate = None

    async def _ask(self, *question):
        self.asked.append(question)
        if self.gate is not None:
            await self.gate.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def past_order(self, trader, oid):
        await self._ask("order", trader, oid)
        return self.orders.get(oid)

    async def past_orders(self, trader):
        await self._ask("orders", trader)
        return self.listed

    async def fills(self, trader, start_ms):
        await self._ask("fills", trader, start_ms)
        rows = [one for one in self.all_fills if one.trader == trader and one.time_ms >= start_ms]
        return rows[: self.fills_page]

    async def recent_trades(self, symbol):
        await self._ask("trades", symbol)
        return self.trades.get(symbol, [])


def order_change(oid, action, revision, *, observed=None, trader=TRADER, venue="toy", **more):
    order = Order(oid, "BTC", "B", "1.0", "2.0", timestamp=FROM_MS - 5_000)
    return OrderChange(venue, trader, "", action, order, revision, {}, None, NOW_MS, observed=observed, **more)


def late(oid, **more):
    return order_change(oid, "closed", 2, observed="late", **more)


def ended(oid, status="filled", at_ms=FROM_MS + 7):
    return PastOrder(oid, status, at_ms, ended=status not in {"open", "triggered"})


def a_fill(number, time_ms=None, received_ms=None):
    time_ms = FROM_MS + number if time_ms is None else time_ms
    return Fill("toy", TRADER, "BTC", "1", "1", "B", time_ms, received_ms or NOW_MS, oid=5, tid=number)


def a_trade(number, time_ms=None, received_ms=None):
    time_ms = FROM_MS + number if time_ms is None else time_ms
    return Trade("toy", "BTC", f"{number}", "1", "1", "B", time_ms, received_ms or NOW_MS)


class Rig:
    def __init__(self, **options):
        self.store, self.clock, self.metrics = MemoryStore(), ManualClock(wall_ms=NOW_MS), Metrics()
        self.history, self.published = ScriptedHistory(), []
        self.repair = self.new_repair(**options)

    def new_repair(self, **options):
        options = {"publish": self.published.extend, "poll_s": 0.01} | options
        return Repair(self.store, self.history, self.clock, self.metrics, **options)

    async def put(self, *changes):
        """Store changes as the flush would."""
        builder = BatchBuilder(1)
        for change in changes:
            builder.add(change)
        result = await self.store.write(builder.build())
        assert not result.rejected

    async def hear(self, *changes):
        """Tell the listener, then store: nothing may depend on the order."""
        self.repair.heard(changes)
        await self.put(*changes)

    async def open_orders(self, *oids):
        await self.put(*[order_change(oid, "new", 1) for oid in oids])

    async def work(self, seconds=module.SETTLE_S):
        """Let so much time pass, and work at its end."""
        self.clock.advance(seconds)
        await self.repair.work()

    async def hole(self, channel, subject=TRADER, reason="disconnect", *, stored=True, venue="toy", dex=""):
        stream = str(StreamKey(venue, channel, subject, dex))
        opened = HoleOpened(stream, venue, FROM_MS, reason)
        closed = HoleClosed(stream, venue, FROM_MS, TO_MS, reason)
        self.repair.heard([opened, closed])
        if stored:
            await self.put(opened, closed)
        return opened, closed

    def document(self, collection, identity):
        [found] = [d for d in self.store.documents(collection) if d["_id"] == identity]
        return found

    def order(self, oid):
        return self.document(Collection.TRADER_ORDERS, f"{TRADER}:{oid}")

    def event(self, oid, revision=2):
        return self.document(Collection.TRADER_ORDER_EVENTS, f"{TRADER}:{oid}:{revision}")

    def coverage(self, channel, subject=TRADER):
        return self.document(Collection.COVERAGE, f"toy/{channel}/{subject}:{FROM_MS}")

    def outcomes(self, what):
        return {labels[1]: n for labels, n in self.metrics.by_label(REPAIRS).items() if labels[0] == what}


@pytest.fixture
def rig():
    return Rig()


# -- closes --------------------------------------------------------------------------------------------------------


async def test_a_late_close_gets_its_reason_and_the_venues_time(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1, "marginCanceled")
    await rig.hear(late(1))
    await rig.work()
    for document in (rig.order(1), rig.event(1)):
        assert document["closeReason"] == "marginCanceled"
        assert document["closedAt"] == to_date(FROM_MS + 7)
        assert document["closeResolvedAt"] == to_date(rig.clock.wall_ms())
    assert rig.order(1)["revision"] == 2
    assert rig.outcomes("closes") == {"resolved": 1}
    assert rig.repair.waiting() == 0


async def test_what_was_seen_to_vanish_or_is_of_another_venue_is_left_alone(rig):
    rig.repair.heard(
        [order_change(1, "closed", 2, observed="live"), late(2, venue="elsewhere"), order_change(3, "new", 1)]
    )
    assert rig.repair.waiting() == 0


async def test_nothing_is_asked_before_the_close_is_stored(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    rig.repair.heard([late(1)])
    await rig.work()
    assert rig.history.asked == []
    await rig.put(late(1))
    await rig.work(60.0)
    assert rig.order(1)["closeReason"] == "filled"


async def test_many_closes_of_a_trader_are_one_question_and_a_few_single_ones(rig):
    oids = range(1, MANY_CLOSES + 3)
    await rig.open_orders(*oids)
    rig.history.listed = [ended(oid) for oid in oids[2:]] + [ended(oids[0], "open")]
    rig.history.orders = {oids[0]: ended(oids[0], "canceled"), oids[1]: ended(oids[1], "canceled")}
    await rig.hear(*map(late, oids))
    await rig.work()
    assert [question[0] for question in rig.history.asked] == ["orders", "order", "order"]
    assert {rig.order(oid)["closeReason"] for oid in oids[:2]} == {"canceled"}
    assert {rig.order(oid)["closeReason"] for oid in oids[2:]} == {"filled"}


@pytest.mark.parametrize(
    ("answer", "outcome"), [(None, "unknown"), (ended(1, "open"), "alive"), ("error", "unknown")]
)
async def test_an_order_the_venue_does_not_end_stays_unknown_and_is_not_asked_for_ever(rig, answer, outcome):
    await rig.open_orders(1)
    if answer == "error":
        rig.history.errors = [VenueRequestError("null")] * 10
    elif answer is not None:
        rig.history.orders[1] = answer
    await rig.hear(late(1))
    for _ in range(3 * module.MOST_ASKS):
        await rig.work(module.ASK_AGAIN_CAP_S)
    assert len(rig.history.asked) == module.MOST_ASKS
    assert rig.order(1)["closeReason"] == "unknown"
    assert "closeResolvedAt" not in rig.order(1)
    assert rig.outcomes("closes") == {outcome: 1}
    rig.repair = rig.new_repair()
    await rig.work()
    assert len(rig.history.asked) == module.MOST_ASKS  # nor by the next run


async def test_an_order_known_only_later_is_resolved_then(rig):
    await rig.open_orders(1)
    await rig.hear(late(1))
    await rig.work()
    rig.history.orders[1] = ended(1)
    await rig.work(module.ASK_AGAIN_CAP_S)
    assert rig.outcomes("closes") == {"resolved": 1}


async def test_an_order_that_is_open_again_is_not_touched(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    await rig.hear(late(1))
    await rig.put(order_change(1, "updated", 3, reopened=True))
    before = rig.order(1), rig.event(1)
    await rig.work()
    assert (rig.order(1), rig.event(1)) == before
    assert rig.outcomes("closes") == {"reopened": 1}


async def test_a_close_is_resolved_once_however_often_it_is_heard(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    for _ in range(3):
        await rig.hear(late(1))
        await rig.work()
    assert len(rig.history.asked) == 1
    assert rig.outcomes("closes") == {"resolved": 3}


async def test_a_full_queue_counts_and_finds_the_rest_in_the_database():
    rig = Rig(closes_limit=2)
    oids = range(1, 7)
    await rig.open_orders(*oids)
    rig.history.orders = {oid: ended(oid) for oid in oids}
    await rig.hear(*map(late, oids))
    assert rig.repair.waiting() == 2
    assert rig.metrics.value(REPAIRS_DROPPED, "closes", "queue_full") == 4
    for _ in range(6):
        await rig.work()
    assert {rig.order(oid)["closeReason"] for oid in oids} == {"filled"}
    assert rig.metrics.value(REPAIRS_WAITING) == 0


async def test_a_new_run_goes_on_with_what_the_last_one_left(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    await rig.hear(late(1))
    await rig.hole("books", "BTC")
    rig.repair = rig.new_repair()
    await rig.work()
    await rig.work()
    assert rig.order(1)["closeReason"] == "filled"
    assert rig.coverage("books", "BTC")["repair"]["complete"] is False


async def test_closes_of_days_ago_are_not_dug_out(rig):
    await rig.open_orders(1)
    await rig.put(late(1))
    rig.clock.advance(3 * 86_400)
    await rig.work()
    assert rig.repair.waiting() == 0


# -- the venue or the database is away -------------------------------------------------------------------------------


async def test_a_venue_that_fails_is_asked_again_with_growing_pauses(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    rig.history.errors = [VenueError("429")] * 3
    await rig.hear(late(1))
    await rig.work()
    await rig.work(module.FAILED_FIRST_S / 2)
    assert len(rig.history.asked) == 1
    for _ in range(10):
        await rig.work(module.FAILED_FIRST_S)
    assert rig.order(1)["closeReason"] == "filled"
    assert len(rig.history.asked) == 4


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


async def test_a_database_that_is_away_costs_nothing(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    await rig.hear(late(1))
    rig.store.fail_next(*[StoreError("away")] * 5)
    for _ in range(5):
        await rig.work()
    assert rig.repair.waiting() == 1
    await rig.work()
    assert rig.order(1)["closeReason"] == "filled"


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
    rig.repair = rig.new_repair()
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


# -- running ---------------------------------------------------------------------------------------------------------


async def test_running_works_by_itself_and_stops_although_a_request_hangs():
    rig = Rig(settle_s=0.0)
    await rig.open_orders(1, 2)
    rig.history.orders = {1: ended(1), 2: ended(2)}
    stopping = asyncio.Event()
    task = asyncio.create_task(rig.repair.run(stopping))
    async with asyncio.timeout(5):
        await rig.hear(late(1))
        while rig.order(1).get("closeReason") != "filled":
            rig.clock.advance(1.0)
            await asyncio.sleep(0.001)
        rig.history.gate = asyncio.Event()
        await rig.hear(late(2))
        while len(rig.history.asked) < 2:
            rig.clock.advance(1.0)
            await asyncio.sleep(0.001)
        stopping.set()
        await task
    assert rig.order(2)["closeReason"] == "unknown"


async def test_a_fault_of_its_own_reaches_who_supervises():
    rig = Rig()

    async def past_order(*_):
        raise ZeroDivisionError

    rig.history.past_order = past_order
    await rig.open_orders(1)
    await rig.hear(late(1))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(rig.repair.run(asyncio.Event()), 5)
