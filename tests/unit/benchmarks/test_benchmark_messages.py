"""The wire material of the benchmarks says what it claims to say, so that the figures are about the right work."""

import json

import pytest

from benchmarks import messages
from benchmarks.messages import SESSION, STEP_MS, VariedOrders, legacy_session, orders_voice, positions_voice
from src.models.messages import OrdersSnapshot, PositionsSnapshot
from src.models.orders import unpack_order
from src.venues.hyperliquid.mapper import HyperliquidMapper


def decoded(frame):
    return HyperliquidMapper().decode(frame, 1)


def snapshots(frame):
    return {type(message): message for message in decoded(frame).messages}


@pytest.fixture(params=["recorded", "composed"])
def session(request, monkeypatch, tmp_path):
    if request.param == "composed":
        monkeypatch.setattr(messages, "RECORDED", tmp_path)
    elif not (messages.RECORDED / SESSION).exists():
        pytest.skip("the recorded sessions are not beside this checkout")
    return legacy_session(orders=40, positions=12)


def test_the_legacy_message_has_the_size_and_contents_of_the_task(session):
    frame = session.voice.same()
    found = snapshots(frame)
    assert 100_000 < len(frame) < 130_000
    assert len(found[OrdersSnapshot].rows) == 40
    assert len(found[PositionsSnapshot].positions) == 12
    assert ("composed" in session.source) or ("recorded" in session.source)


def test_the_legacy_message_is_compact_json(session):
    frame = session.voice.same()
    assert json.dumps(json.loads(frame), separators=(",", ":"), ensure_ascii=False).encode() == frame


def test_an_unchanged_message_moves_only_the_times(session):
    first, second = json.loads(session.voice.same()), json.loads(session.voice.same())
    assert second["data"]["serverTime"] - first["data"]["serverTime"] == STEP_MS
    assert second["data"]["clearinghouseState"]["time"] == second["data"]["serverTime"]
    for frame in (first, second):
        del frame["data"]["serverTime"], frame["data"]["clearinghouseState"]["time"]
    assert first == second


def test_a_changed_message_changes_exactly_one_order_each_time(session):
    rows = snapshots(session.voice.same())[OrdersSnapshot].rows
    touched = []
    for _ in range(100):
        after = snapshots(session.voice.changed())[OrdersSnapshot].rows
        changed = [oid for oid in after if after[oid] != rows[oid]]
        assert len(changed) == 1
        assert after.keys() == rows.keys()
        touched += changed
        rows = after
    assert len(set(touched)) == 40


def test_voices_of_different_traders_differ():
    ours, theirs = (snapshots(orders_voice(number, orders=5).same())[OrdersSnapshot] for number in (1, 2))
    assert ours.trader != theirs.trader
    assert not ours.rows.keys() & theirs.rows.keys()
    state = snapshots(positions_voice(1, positions=20).same())[PositionsSnapshot]
    assert state.trader == ours.trader
    assert len(state.positions) == 20


def test_orders_of_the_memory_measure_are_varied_and_one_of_them_changes():
    first, second = (snapshots(frame)[OrdersSnapshot].rows for frame in VariedOrders(100).two_lists(7))
    orders = [unpack_order(row) for row in first.values()]
    assert len(orders) == 100
    assert sum(order.cloid is not None for order in orders) == 50
    assert len({order.cloid for order in orders}) == 51
    assert any(order.isTrigger for order in orders)
    assert sum(order.parentOid is not None for order in orders) == 5
    assert len({order.sz for order in orders}) > 90
    assert [oid for oid in first if first[oid] != second[oid]] == [min(first)]
    assert first.keys().isdisjoint(snapshots(VariedOrders(100).two_lists(8)[0])[OrdersSnapshot].rows)
