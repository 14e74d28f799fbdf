"""Why orders ended: over the store in memory and a history that is scripted."""

import asyncio
from itertools import pairwise

import pytest

from src.jobs.repair import reasons as module
from src.models.changes import OrderEnded
from src.models.errors import StoreError, VenueError, VenueRequestError
from src.models.metrics import CLOSE_REASONS, REASONS_WAITING, REPAIRS_DROPPED
from src.pipeline.documents import to_date
from tests.support.repair_rig import FROM_MS, NOW_MS, OTHER, TRADER, Rig, ended, late, live, order_change


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
    assert rig.reasons.waiting() == 0


async def test_a_close_that_was_seen_waits_for_the_feed_before_it_is_asked_for(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1, "canceled")
    await rig.hear(live(1))
    await rig.work(module.GRACE_S - 1)
    assert rig.history.asked == []
    await rig.work(2.0)
    assert rig.order(1)["closeReason"] == rig.event(1)["closeReason"] == "canceled"
    assert rig.metrics.value(CLOSE_REASONS, "toy", "status") == 1
    assert [close.oid for close, _ in rig.explained] == [1]


async def test_what_the_feed_has_told_is_not_asked(rig):
    await rig.open_orders(1, 2)
    await rig.hear(live(1), live(2, reason="filled", ended_ms=FROM_MS))
    assert rig.reasons.waiting() == 1
    await rig.hear(OrderEnded("toy", TRADER, 1, 2, "siblingFilledCanceled", FROM_MS + 3, NOW_MS))
    await rig.work(module.GRACE_S)
    assert rig.history.asked == []
    assert rig.reasons.waiting() == 0
    assert rig.order(1)["closeReason"] == rig.event(1)["closeReason"] == "siblingFilledCanceled"
    assert rig.order(1)["closedAt"] == to_date(FROM_MS + 3)
    assert rig.order(2)["closeReason"] == rig.event(2)["closeReason"] == "filled"
    assert rig.metrics.value(CLOSE_REASONS, "toy", "feed") == 2


async def test_other_venues_and_other_changes_are_left_alone(rig):
    rig.tell(live(2, venue="elsewhere"), order_change(3, "new", 1), late(4, venue="elsewhere"))
    assert rig.reasons.waiting() == 0


async def test_one_whole_history_explains_those_that_are_not_due_yet(rig):
    oids = range(1, 51)
    await rig.open_orders(*oids)
    rig.history.listed = [ended(oid) for oid in oids]
    await rig.hear(late(1), *map(live, oids[1:]))
    await rig.work(0.0)
    assert rig.history.asked == [("orders", TRADER)]
    await rig.work(module.GRACE_S)
    assert rig.history.asked == [("orders", TRADER)]
    assert {rig.order(oid)["closeReason"] for oid in oids} == {"filled"}


async def test_what_a_history_costs_is_learned_from_its_last_reading(rig):
    oids = range(1, 46)
    await rig.open_orders(*oids)
    rig.history.listed = [ended(oid) for oid in oids[:42]] * 40  # 1,680 rows: weight 104, dearer than 45 questions
    rig.history.orders = {oid: ended(oid) for oid in oids}
    rig.reasons.learned(TRADER, rig.history.listed)
    await rig.hear(*map(late, oids))
    await rig.work()
    assert {question[0] for question in rig.history.asked} == {"order"}
    assert len(rig.history.asked) == 45


async def test_traders_are_asked_about_side_by_side_but_not_all_at_once(rig):
    traders = [f"0x{number:040x}" for number in range(10)]
    rig.history.gate = asyncio.Event()
    for trader in traders:
        await rig.put(order_change(1, "new", 1, trader=trader))
        await rig.hear(late(1, trader=trader))
    work = asyncio.create_task(rig.work())
    async with asyncio.timeout(5):
        while len(rig.history.asked) < module.TRADERS_AT_ONCE:  # noqa: ASYNC110 - nothing tells of a question
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert len(rig.history.asked) == module.TRADERS_AT_ONCE
    rig.history.gate.set()
    await work
    assert len(rig.history.asked) == 10


async def test_one_trader_the_venue_chokes_on_does_not_keep_the_others_from_their_reasons(rig):
    for trader in (OTHER, TRADER):
        await rig.put(order_change(1, "new", 1, trader=trader))
    rig.history.orders[1] = ended(1)
    ask = rig.history.past_order

    async def past_order(trader, oid):
        if trader == OTHER:
            raise VenueError("wrong shape")
        return await ask(trader, oid)

    rig.history.past_order = past_order
    await rig.hear(late(1, trader=OTHER), late(1))
    for _ in range(4):
        await rig.work(module.FAILED_FIRST_S)
    assert rig.order(1)["closeReason"] == "filled"
    assert rig.reasons.waiting() == 1


async def test_the_waits_for_an_order_the_venue_does_not_know_grow(rig):
    await rig.open_orders(1)
    await rig.hear(late(1))
    asked_at = []
    for second in range(1_300):
        await rig.work(1.0)
        if len(rig.history.asked) > len(asked_at):
            asked_at.append(second)
    waits = [later - earlier for earlier, later in pairwise(asked_at)]
    assert waits == pytest.approx([10, 20, 40, 80, 160, 320, 640][: len(waits)], abs=2)
    assert len(waits) >= 6
    assert rig.metrics.value(REASONS_WAITING) == 1
    assert rig.order(1)["closeReason"] == "unknown"


async def test_the_gauge_follows_what_waits_even_while_a_round_goes_on(rig):
    await rig.open_orders(1, 2)
    rig.history.gate = asyncio.Event()
    await rig.hear(late(1), late(2))
    assert rig.metrics.value(REASONS_WAITING) == 2
    working = asyncio.create_task(rig.work(1.0))
    for _ in range(1000):
        if not rig.history.asked:
            await asyncio.sleep(0)
    assert rig.history.asked
    rig.reasons.heard([OrderEnded("toy", TRADER, 2, 2, "filled", NOW_MS, NOW_MS)])
    assert rig.metrics.value(REASONS_WAITING) == 1
    rig.history.gate.set()
    await working


async def test_a_new_run_finds_closes_that_were_seen_but_not_explained(rig):
    await rig.open_orders(1, 2)
    rig.history.orders[1] = ended(1, "reduceOnlyCanceled")
    await rig.hear(live(1), live(2, reason="filled", ended_ms=FROM_MS))
    rig.restart()
    await rig.work()
    assert rig.order(1)["closeReason"] == "reduceOnlyCanceled"
    assert [question[2] for question in rig.history.asked] == [1]


async def test_nothing_is_asked_before_the_close_is_stored(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    rig.reasons.heard([late(1)])
    await rig.work()
    assert rig.history.asked == []
    await rig.put(late(1))
    await rig.work(60.0)
    assert rig.order(1)["closeReason"] == "filled"


async def test_many_closes_of_a_trader_are_one_question_and_a_few_single_ones(rig):
    oids = range(1, 43)
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
    rig.restart()
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
    rig = Rig(limit=2)
    oids = range(1, 7)
    await rig.open_orders(*oids)
    rig.history.orders = {oid: ended(oid) for oid in oids}
    await rig.hear(*map(late, oids))
    assert rig.reasons.waiting() == 2
    assert rig.metrics.value(REPAIRS_DROPPED, "closes", "queue_full") == 4
    for _ in range(6):
        await rig.work()
    assert {rig.order(oid)["closeReason"] for oid in oids} == {"filled"}
    assert rig.metrics.value(REASONS_WAITING) == 0


async def test_a_new_run_goes_on_with_what_the_last_one_left(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    await rig.hear(late(1))
    rig.restart()
    await rig.work()
    assert rig.order(1)["closeReason"] == "filled"


async def test_closes_of_days_ago_are_not_dug_out(rig):
    await rig.open_orders(1)
    await rig.put(late(1))
    rig.clock.advance(3 * 86_400)
    await rig.work()
    assert rig.reasons.waiting() == 0


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


async def test_a_database_that_is_away_costs_nothing(rig):
    await rig.open_orders(1)
    rig.history.orders[1] = ended(1)
    await rig.hear(late(1))
    rig.store.fail_next(*[StoreError("away")] * 5)
    for _ in range(5):
        await rig.reasons.work()
    assert rig.reasons.waiting() == 1
    await rig.work()
    assert rig.order(1)["closeReason"] == "filled"


async def test_running_works_by_itself_and_stops_although_a_request_hangs():
    rig = Rig()
    await rig.open_orders(1, 2)
    rig.history.orders = {1: ended(1), 2: ended(2)}
    stopping = asyncio.Event()
    task = asyncio.create_task(rig.reasons.run(stopping))
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
        await asyncio.wait_for(rig.reasons.run(asyncio.Event()), 5)


async def test_how_long_mongodb_took_does_not_count_for_how_long_the_venue_is_waited_for(rig):
    await rig.open_orders(1)
    rig.tell(late(1))
    for _ in range(6):
        await rig.work(module.BARRIER_CAP_S)
    await rig.put(late(1))
    await rig.work(module.BARRIER_CAP_S)
    assert len(rig.history.asked) == 1
    await rig.work(module.ASK_AGAIN_FIRST_S + 0.1)
    assert len(rig.history.asked) == 2


async def test_of_a_backlog_those_of_whom_most_wait_come_first(rig, monkeypatch):
    monkeypatch.setattr(module, "BACKLOG", 20)
    traders = [f"0x{number:040x}" for number in range(8)]
    rig.history.listed = [ended(oid) for oid in range(60)]
    rig.history.orders = {oid: ended(oid) for oid in range(60)}
    waiting = [1, 50, 2, 3, 50, 2, 50, 50]
    for trader, count in zip(traders, waiting, strict=True):
        changes = [order_change(oid, "new", 1, trader=trader) for oid in range(count)]
        await rig.put(*changes)
        await rig.hear(*(late(oid, trader=trader) for oid in range(count)))
    await rig.work()
    first = [question[1] for question in rig.history.asked[:4]]
    assert {question[0] for question in rig.history.asked[:4]} == {"orders"}
    assert set(first) == {trader for trader, count in zip(traders, waiting, strict=True) if count == 50}
    assert rig.reasons.waiting() == 0  # the rest, few as they are, in the order in which they came
    assert [question[0] for question in rig.history.asked[4:]] == ["order"] * 8
