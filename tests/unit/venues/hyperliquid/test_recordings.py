"""Real messages of the venue, from 2023 to 2026, mean what their provenance says."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from src.models.changes import PositionChange
from src.models.messages import (
    Ack,
    Data,
    Fill,
    Ignored,
    OrdersSnapshot,
    Pong,
    PositionsSnapshot,
    Refusal,
    RefusalKind,
)
from src.models.metrics import Metrics
from src.models.orders import unpack_order
from src.models.streams import StreamKey
from src.pipeline.diff import Diff
from src.venues.hyperliquid.mapper import HyperliquidMapper
from tests.support.hyperliquid_recordings import (
    SESSIONS,
    frame,
    needs_recordings,
    recorded_frames,
    recorded_json,
    recorded_lines,
)

pytestmark = needs_recordings

USER = "0x5e9ee1089755c3435139848e47e6635505d5a13a"


def decode(raw: bytes):
    return HyperliquidMapper().decode(raw, 1_800_000_000_000)


def lines(name: str):
    return [decode(json.dumps(line.get("msg", line)).encode()) for line in recorded_lines(name)]


def session(name: str):
    return [decode(json.dumps(one).encode()) for one in recorded_json(SESSIONS[name])]


def orders_of(data: Data):
    [snapshot] = [message for message in data.messages if isinstance(message, OrdersSnapshot)]
    return {oid: unpack_order(row) for oid, row in snapshot.rows.items()}


def positions_of(data: Data):
    [snapshot] = [message for message in data.messages if isinstance(message, PositionsSnapshot)]
    return snapshot.positions


def test_every_recorded_frame_decodes():
    mapper = HyperliquidMapper()
    kinds = Counter(type(mapper.decode(raw, 1)).__name__ for _, raw in recorded_frames())
    assert sum(kinds.values()) > 110
    assert set(kinds) == {"Data", "Ack", "Pong", "Refusal", "Ignored"}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_web_data2_session_is_an_acknowledgement_a_message_and_a_farewell(name):
    hello, data, goodbye = session(name)
    assert isinstance(data, Data)
    assert hello == Ack(data.stream, subscribed=True)
    assert goodbye == Ack(data.stream, subscribed=False)
    assert [type(message) for message in data.messages] == [PositionsSnapshot, OrdersSnapshot]
    assert orders_of(data) == {}
    assert data.venue_ms is not None
    assert 90_000 < data.size_bytes < 180_000


def test_before_the_close_there_is_one_short_and_after_it_none():
    before, after = session("open position")[1], session("closed position")[1]
    assert before.stream == after.stream
    assert [(position.coin, position.szi) for position in positions_of(before).values()] == [("BTC", "-0.0001")]
    assert positions_of(after) == {}
    assert before.venue_ms < after.venue_ms


def test_the_position_is_opened_and_closed_once():
    diff = Diff(metrics=Metrics())
    frames = [
        data for name in ("open position", "closed position") for data in session(name) if isinstance(data, Data)
    ]
    changes = [
        change for data in (*frames, *frames) for change in diff.apply(data) if isinstance(change, PositionChange)
    ]
    assert [(change.kind, change.position.coin, change.revision) for change in changes] == [
        ("open", "BTC", 1),
        ("close", "BTC", 2),
    ]


@pytest.mark.parametrize("name", ["6-webData2-spotAndPerps", "9-webData2-shortPosition-spotAndPerps"])
def test_web_data2_without_orders_says_nothing_about_orders(name):
    [data] = [decode(json.dumps(one).encode()) for one in recorded_json(f"gareth_webSocketDataSample_{name}.json")]
    assert [type(message) for message in data.messages] == [PositionsSnapshot]
    assert list(positions_of(data)) == ["BTC"]


def test_web_data2_as_a_node_answers_it():
    answer = recorded_json("gareth_hyperliquidNodeDataSample_info-endpoint_webData2.json")
    data = decode(frame("webData2", answer))
    assert positions_of(data)["BTC"].szi == "0.00009"
    assert orders_of(data) == {}
    assert data.venue_ms == answer["serverTime"]


def test_web_data2_cut_to_the_users_part():
    [data] = lines("rustfork_ws_webdata2_20250425.jsonl")
    assert positions_of(data)["HYPE"].szi == "1.0"
    assert positions_of(data)["HYPE"].leverage.value == 5


def test_the_channels_that_replaced_web_data2():
    decoded = lines("gct_ws_frames_20261006.jsonl")
    kept = Counter(one.stream.channel for one in decoded if isinstance(one, Data))
    assert kept == {
        "clearinghouseState": 2,
        "openOrders": 1,
        "allDexsClearinghouseState": 1,
        "l2Book": 3,
        "trades": 1,
        "userFills": 2,
    }
    ignored = {one.reason for one in decoded if isinstance(one, Ignored)}
    assert {
        "webData3",
        "twapStates",
        "spotState",
        "orderUpdates",
        "user",
        "fastAssetCtxs",
        "bbo",
        "candle",
    } <= ignored
    assert len(decoded) == sum(kept.values()) + sum(isinstance(one, Ignored) for one in decoded)


def test_children_are_flattened_in_the_modern_list_of_orders():
    [data] = [
        one
        for one in lines("gct_ws_frames_20261006.jsonl")
        if isinstance(one, Data) and one.stream.channel == "openOrders"
    ]
    assert data.stream.dex == "xyz"
    assert {oid: order.parentOid for oid, order in orders_of(data).items()} == {
        566617880209: None,
        566617880210: None,
        566617880211: 566617880210,
    }


def test_cross_and_isolated_positions_of_the_modern_state():
    main, builder = [
        one
        for one in lines("gct_ws_frames_20261006.jsonl")
        if isinstance(one, Data) and one.stream.channel == "clearinghouseState"
    ]
    assert (main.stream.dex, builder.stream.dex) == ("", "xyz")
    assert {coin: position.leverage.type for coin, position in positions_of(main).items()} == {
        "SAGA": "cross",
        "SOL": "isolated",
    }
    assert positions_of(builder) == {}


def test_a_live_take_profit_of_size_zero_is_an_open_order():
    [data] = lines("gofront_ws_openorders_tpsl_20260723.jsonl")
    [order] = orders_of(data).values()
    assert (order.sz, order.origSz, order.isPositionTpsl, order.orderType) == (
        "0.0",
        "0.0",
        True,
        "Take Profit Market",
    )
    diff = Diff(metrics=Metrics())
    assert [change.action for change in diff.apply(data)] == ["new"]
    assert diff.apply(data) == []
    assert diff.open_orders == 1


def test_nulls_and_empty_books_on_the_main_net():
    decoded = lines("rustpool_ws_frames_mainnet_20260903.jsonl")
    [book] = [one.messages[0] for one in decoded if isinstance(one, Data) and one.stream.channel == "l2Book"]
    assert (book.symbol, book.bids, book.asks) == ("MATIC", (), ())
    assert Pong() in decoded
    assert decoded[-1] == Refusal(
        RefusalKind.ALREADY_UNSUBSCRIBED,
        'Already unsubscribed: {"type":"trades","coin":"ETH"}',
        StreamKey("hyperliquid", "trades", "ETH"),
    )
    acks = [one for one in decoded if isinstance(one, Ack)]
    assert [(ack.stream.channel, ack.subscribed) for ack in acks] == [
        ("bbo", True),
        ("userFills", True),
        ("bbo", False),
    ]


def test_fast_books_and_a_parse_error_on_the_test_net():
    decoded = lines("rustcap_ws_frames_testnet_20260728.jsonl")
    books = [one.messages[0] for one in decoded if isinstance(one, Data) and one.stream.channel == "l2Book"]
    assert [len(book.bids) for book in books] == [5, 5]
    [refusal] = [one for one in decoded if isinstance(one, Refusal)]
    assert refusal.kind is RefusalKind.UNKNOWN_TYPE
    assert refusal.stream == StreamKey("hyperliquid", "noSuchType", "BTC")


def test_a_minute_of_market_data_of_2025():
    decoded = lines("hftbacktest_ws_btc_20250126.jsonl")
    assert len(decoded) == 55
    assert Counter(one.stream.channel for one in decoded) == {"l2Book": 46, "trades": 9}
    diff = Diff(metrics=Metrics())
    assert sum(len(diff.apply(one)) for one in decoded) > 46
    assert [change for one in decoded for change in diff.apply(one)] == []  # all of it is known now


def test_positions_of_2023_map_without_the_fields_that_came_later():
    answer = recorded_json("pysdk_get_user_state.json")
    data = decode(frame("clearinghouseState", {"user": USER, "clearinghouseState": answer}))
    held = positions_of(data)
    assert len(held) == len(answer["assetPositions"]) == 12
    assert data.venue_ms is None
    assert (held["BTC"].szi, held["BTC"].maxLeverage, held["BTC"].cumFunding) == ("-0.00785", None, None)
    assert held["ETH"].liquidationPx is None


def test_orders_of_2023_map_without_the_fields_that_came_later():
    answer = recorded_json("pysdk_get_open_orders.json")
    orders = orders_of(decode(frame("openOrders", {"user": USER, "orders": answer})))
    assert len(orders) == len(answer) == 196
    assert {order.origSz for order in orders.values()} == {None}
    assert orders[62269971].limitPx == "1.0357"


def test_children_of_2023_that_are_also_listed_by_themselves_are_three_orders():
    answer = recorded_json("pysdk_get_frontend_open_orders.json")
    orders = orders_of(decode(frame("openOrders", {"user": USER, "orders": answer})))
    assert {oid: order.parentOid for oid, order in orders.items()} == {
        3184595905: None,
        3184595906: 3184595905,
        3184595907: 3184595905,
    }


@pytest.mark.parametrize(
    ("name", "count", "with_tid"),
    [("pysdk_get_user_fills", 500, False), ("gohl_UserFillsByTime_2_userFillsByTime", 2, True)],
)
def test_fills_of_every_age_map(name, count, with_tid):
    answer = recorded_json(f"{name}.json")
    data = decode(frame("userFills", {"user": USER, "isSnapshot": True, "fills": answer}))
    assert len(data.messages) == count
    assert all(isinstance(fill, Fill) and (fill.tid is not None) is with_tid for fill in data.messages)


def test_orders_with_a_status_map_in_a_list_of_orders():
    answer = [row["order"] for row in recorded_json("pysdk_historical_orders.json")]
    answer += [row["order"] for row in recorded_lines("gareth_node_order_statuses_20250716.jsonl")]
    orders = orders_of(decode(frame("openOrders", {"user": USER, "orders": answer})))
    assert set(orders) == {row["oid"] for row in answer}


def test_the_states_of_a_busy_account_map():
    dump = recorded_json("gareth_dataFromMultiClient_0xf27ebb91ea420f73b59b205ac7e0b77a90ec8f3c.json")
    answer = dump["lowestAccountValueMetrics"]["clearinghouseState"]
    data = decode(frame("clearinghouseState", {"user": dump["userAddress"], "clearinghouseState": answer}))
    held = positions_of(data)
    assert len(held) == len(answer["assetPositions"]) > 50
    assert {position.leverage.type for position in held.values()} == {"cross", "isolated"}


def test_states_of_other_dexes_map():
    for number in (0, 1):
        answer = recorded_json(f"gohl_UserState_WithDex_{number}_clearinghouseState.json")
        data = decode(frame("clearinghouseState", {"user": USER, "dex": "xyz", "clearinghouseState": answer}))
        assert positions_of(data) == {}
        assert data.venue_ms == answer["time"]


def test_the_market_parts_that_are_left_out_change_nothing(monkeypatch):
    whole = HyperliquidMapper()
    monkeypatch.setattr(whole, "_shortened", lambda _frame: None)
    shortened = 0
    for name in SESSIONS.values():
        for one in recorded_json(name):
            raw = json.dumps(one, separators=(",", ":")).encode()
            mapper = HyperliquidMapper()
            assert mapper.decode(raw, 1) == whole.decode(raw, 1)
            shortened += mapper._shortened(raw) is not None
    assert shortened == len(SESSIONS)
