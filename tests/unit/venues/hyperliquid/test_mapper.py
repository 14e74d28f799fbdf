"""What each frame of Hyperliquid about a trader means."""

from __future__ import annotations

import pytest

from src.models.errors import WireError
from src.models.messages import (
    Data,
    Fill,
    Ignored,
    OrdersSnapshot,
    PositionsSnapshot,
)
from src.models.orders import Order
from src.models.positions import Account, CumFunding, Leverage, MarginSummary, Position
from src.models.streams import StreamKey
from src.venues.hyperliquid import mapper as mapper_module
from src.venues.hyperliquid.mapper import HyperliquidMapper
from tests.support.hyperliquid_messages import (
    RECEIVED_MS,
    USER,
    clearinghouse,
    decode,
    fill,
    frame,
    open_orders,
    order,
    position,
    reason_of,
    rows_of,
    state,
    web_data2,
)

# -- orders --------------------------------------------------------------------------------------------------------


def test_open_orders_are_the_complete_list_of_a_trader_on_a_dex():
    raw = open_orders(order(), dex="xyz")
    data = decode(raw)
    assert isinstance(data, Data)
    assert data.stream == StreamKey("hyperliquid", "openOrders", USER, "xyz")
    assert (data.venue_ms, data.size_bytes) == (None, len(raw))
    [snapshot] = data.messages
    assert (snapshot.trader, snapshot.dex, snapshot.time_ms, snapshot.received_ms) == (USER, "xyz", None, RECEIVED_MS)
    assert rows_of(data) == {
        566617880209: Order(
            oid=566617880209,
            coin="BTC",
            side="B",
            limitPx="84000.0",
            sz="0.15",
            origSz="0.2",
            timestamp=1791280999484,
            orderType="Limit",
            tif="Gtc",
            cloid="0x000000000000000000065d291ba7c026",
            reduceOnly=False,
            isTrigger=False,
            triggerPx="0.0",
            triggerCondition="N/A",
            isPositionTpsl=False,
            parentOid=None,
        )
    }


def test_the_dex_is_the_main_one_when_none_is_named():
    raw = frame("openOrders", {"user": USER, "orders": []})
    assert decode(raw).stream == StreamKey("hyperliquid", "openOrders", USER, "")


def test_an_empty_list_of_orders_is_a_list():
    data = decode(open_orders())
    assert dict(data.messages[0].rows) == {}


def test_an_order_of_few_fields_is_an_order():
    bare = {"coin": "MATIC", "limitPx": "1.0357", "oid": 62269971, "side": "B", "sz": "208.7"}
    assert rows_of(decode(open_orders(bare))) == {62269971: Order(62269971, "MATIC", "B", "1.0357", "208.7")}


@pytest.mark.parametrize(
    "field",
    ["origSz", "timestamp", "orderType", "tif", "cloid", "triggerPx", "triggerCondition", "reduceOnly", "children"],
)
def test_null_says_the_same_as_absence(field):
    without = order()
    del without[field]
    assert rows_of(decode(open_orders(order(**{field: None})))) == rows_of(decode(open_orders(without)))


def test_unknown_fields_are_ignored():
    assert rows_of(decode(open_orders(order(news={"a": [1]})))) == rows_of(decode(open_orders(order())))


def test_children_are_orders_that_name_their_parent():
    family = order(1, children=[order(2, isTrigger=True), order(3, children=[order(4)])])
    found = rows_of(decode(open_orders(family, order(5))))
    assert {oid: row.parentOid for oid, row in found.items()} == {1: None, 2: 1, 3: 1, 4: 3, 5: None}
    assert found[2].isTrigger is True


def test_a_child_that_is_also_listed_by_itself_is_one_order():
    child = order(2)
    listed_first = rows_of(decode(open_orders(child, order(1, children=[child]))))
    listed_last = rows_of(decode(open_orders(order(1, children=[child]), child)))
    assert listed_first == listed_last
    assert listed_first[2].parentOid == 1


def test_of_two_rows_with_the_same_oid_the_last_counts():
    found = rows_of(decode(open_orders(order(1, sz="0.2"), order(1, sz="0.1"))))
    assert found[1].sz == "0.1"


def test_a_live_position_tpsl_of_size_zero_is_an_order():
    found = rows_of(decode(open_orders(order(1, sz="0.0", origSz="0.0", isPositionTpsl=True))))
    assert (found[1].sz, found[1].origSz) == ("0.0", "0.0")


def test_the_largest_order_id_is_kept_exactly():
    assert list(rows_of(decode(open_orders(order(2**63 - 1))))) == [2**63 - 1]


@pytest.mark.parametrize("section", [None, "absent"])
def test_a_missing_list_of_orders_is_unknown_and_not_empty(section):
    raw = frame("openOrders", {"dex": "", "user": USER, "orders": section})
    if section is None:
        assert decode(raw) == Ignored("section_missing")
    else:
        assert reason_of(frame("openOrders", {"dex": "", "user": USER})) == "wrong_type"


def test_the_same_list_again_is_the_very_same_mapping():
    mapper = HyperliquidMapper()
    first, again = (mapper.decode(open_orders(order()), at).messages[0] for at in (1, 2))
    assert first.rows is again.rows
    assert (first.received_ms, again.received_ms) == (1, 2)


def test_the_same_list_of_another_trader_or_dex_is_another_mapping():
    mapper = HyperliquidMapper()
    other = "0x" + "b" * 40
    rows = [
        mapper.decode(raw, 1).messages[0].rows
        for raw in (open_orders(order()), open_orders(order(), user=other), open_orders(order(), dex="xyz"))
    ]
    assert rows[0] == rows[1] == rows[2]
    assert len({id(one) for one in rows}) == 3


def test_an_unchanged_order_of_a_changed_list_is_kept_in_memory_once():
    mapper = HyperliquidMapper()
    before = mapper.decode(open_orders(order(1), order(2)), 1).messages[0].rows
    after = mapper.decode(open_orders(order(1), order(2, sz="0.1")), 2).messages[0].rows
    assert after[1] is before[1]
    assert after[2] != before[2]


def test_a_refused_list_leaves_no_trace():
    mapper = HyperliquidMapper()
    before = mapper.decode(open_orders(order(1)), 1).messages[0].rows
    for _ in range(2):
        with pytest.raises(WireError):
            mapper.decode(open_orders(order(1), order(2, sz="NaN")), 2)
    assert mapper.decode(open_orders(order(1)), 3).messages[0].rows is before


def test_what_the_mapper_remembers_is_bounded(monkeypatch):
    monkeypatch.setattr(mapper_module, "MAX_MEMO_STREAMS", 3)
    monkeypatch.setattr(mapper_module, "MAX_MEMO_TEXTS", 3)
    mapper = HyperliquidMapper()
    for number in range(20):
        user = f"0x{number:040x}"
        assert mapper.decode(open_orders(order(sz=f"{number}.5", coin=f"C{number}"), user=user), 1).messages
        assert mapper.decode(clearinghouse(state(position(szi=f"{number}.25", coin=f"C{number}"))), 1).messages
    assert max(len(mapper._sections), len(mapper._addresses)) <= 3
    assert len(mapper._checked) <= 3
    assert len(mapper._decimals) <= 4


# -- positions -----------------------------------------------------------------------------------------------------


def test_a_clearinghouse_state_holds_positions_and_account_values():
    data = decode(clearinghouse(state(position())))
    assert data.stream == StreamKey("hyperliquid", "clearinghouseState", USER, "")
    assert data.venue_ms == 1791279140401
    [snapshot] = data.messages
    assert isinstance(snapshot, PositionsSnapshot)
    assert (snapshot.time_ms, snapshot.received_ms) == (1791279140401, RECEIVED_MS)
    assert snapshot.positions == {
        "BTC": Position(
            coin="BTC",
            szi="-0.4",
            leverage=Leverage("cross", 20),
            entryPx="86100.0",
            positionValue="34500.0",
            unrealizedPnl="-60.0",
            returnOnEquity="-0.0348432",
            liquidationPx="109871.2",
            marginUsed="1725.0",
            maxLeverage=40,
            cumFunding=CumFunding("12.5", "-0.41", "-0.41"),
        )
    }
    assert snapshot.account == Account(
        MarginSummary("10250.5", "34500.0", "-44750.5", "1.0"),
        MarginSummary("9.0", "34500.0", "-44750.5", "1.0"),
        "431.25",
        "8525.5",
    )


def test_isolated_leverage_tells_its_raw_usd():
    [snapshot] = decode(
        clearinghouse(state(position(leverage={"type": "isolated", "value": 10, "rawUsd": "5.5"})))
    ).messages
    assert snapshot.positions["BTC"].leverage == Leverage("isolated", 10, "5.5")


def test_no_positions_means_flat():
    [snapshot] = decode(clearinghouse(state())).messages
    assert snapshot.positions == {}
    assert snapshot.account is not None


@pytest.mark.parametrize("missing", ["null", "absent"])
def test_missing_positions_are_unknown_and_not_flat(missing):
    inner = state(assetPositions=None)
    if missing == "absent":
        del inner["assetPositions"]
    assert decode(clearinghouse(inner)) == Ignored("section_missing")
    assert decode(clearinghouse(None)) == Ignored("section_missing")


def test_the_field_set_of_2023_is_a_position():
    old = {"coin": "BTC", "szi": "-0.00785", "maxTradeSzs": ["0.76534", "0.74964"], "liquidationPx": None}
    inner = {"assetPositions": [{"position": old, "type": "oneWay"}], "withdrawable": "1.0"}
    data = decode(clearinghouse(inner))
    assert data.venue_ms is None
    assert data.messages[0].positions == {"BTC": Position("BTC", "-0.00785")}


@pytest.mark.parametrize("size", ["0", "0.0", "-0.0", "0.00000", "-0"])
def test_a_position_of_size_zero_is_none(size):
    [snapshot] = decode(clearinghouse(state(position(szi=size), position(coin="ETH")))).messages
    assert list(snapshot.positions) == ["ETH"]


def test_states_of_all_dexes_come_as_one_frame():
    pairs = [["", state(position())], ["xyz", state(time=1791279140999)], ["abc", state(assetPositions=None)]]
    data = decode(frame("allDexsClearinghouseState", {"user": USER, "clearinghouseStates": pairs}))
    assert data.stream == StreamKey("hyperliquid", "allDexsClearinghouseState", USER, "")
    assert data.venue_ms == 1791279140999
    assert [(snapshot.dex, len(snapshot.positions)) for snapshot in data.messages] == [("", 1), ("xyz", 0)]


@pytest.mark.parametrize("pairs", [[], [["", {"time": 1}]]])
def test_all_dexes_without_a_single_state_say_nothing(pairs):
    raw = frame("allDexsClearinghouseState", {"user": USER, "clearinghouseStates": pairs})
    assert decode(raw) == Ignored("section_missing")


# -- webData2 ------------------------------------------------------------------------------------------------------


def test_web_data2_holds_both_with_the_time_of_the_server():
    data = decode(web_data2(clearinghouseState=state(position()), openOrders=[order()]))
    assert data.stream == StreamKey("hyperliquid", "webData2", USER, "")
    assert data.venue_ms == 1750912503968
    positions, orders = data.messages
    assert isinstance(positions, PositionsSnapshot)
    assert isinstance(orders, OrdersSnapshot)
    assert positions.time_ms == orders.time_ms == 1750912503968


@pytest.mark.parametrize(
    ("sections", "kinds"),
    [
        ({"openOrders": []}, [OrdersSnapshot]),
        ({"openOrders": [], "clearinghouseState": None}, [OrdersSnapshot]),
        ({"openOrders": None, "clearinghouseState": {"assetPositions": []}}, [PositionsSnapshot]),
        ({"clearinghouseState": {"assetPositions": []}}, [PositionsSnapshot]),
        ({"clearinghouseState": {"withdrawable": "1.0"}, "openOrders": []}, [OrdersSnapshot]),
    ],
)
def test_a_section_missing_from_web_data2_is_unknown(sections, kinds):
    assert [type(message) for message in decode(web_data2(**sections)).messages] == kinds


@pytest.mark.parametrize("sections", [{}, {"openOrders": None}, {"openOrders": None, "clearinghouseState": None}])
def test_web_data2_without_any_section_says_nothing(sections):
    assert decode(web_data2(**sections)) == Ignored("section_missing")


def test_web_data2_without_a_server_time_has_the_time_of_its_positions():
    raw = frame("webData2", {"user": USER, "clearinghouseState": state(), "openOrders": []})
    data = decode(raw)
    assert data.venue_ms is None
    assert [message.time_ms for message in data.messages] == [1791279140401, None]


# -- fills ---------------------------------------------------------------------------------------------------------


def test_user_fills_are_executions_of_the_trader():
    raw = frame(
        "userFills", {"user": USER, "isSnapshot": True, "fills": [fill(cloid="0x01", builderFee="0.1", twapId=7)]}
    )
    data = decode(raw)
    assert data.stream == StreamKey("hyperliquid", "userFills", USER, "")
    assert data.venue_ms == 1791280942711
    assert data.messages == (
        Fill(
            venue="hyperliquid",
            trader=USER,
            coin="BTC",
            px="86006.0",
            sz="0.07905",
            side="B",
            time_ms=1791280942711,
            received_ms=RECEIVED_MS,
            oid=566617233807,
            tid=669583051366496,
            crossed=True,
            dir="Close Short",
            start_position="-0.14136",
            closed_pnl="-2.600745",
            fee="2.106",
            fee_token="USDC",
            builder_fee="0.1",
            cloid="0x01",
            twap_id=7,
            hash="0x" + "a" * 64,
            liquidation=None,
            is_snapshot=True,
        ),
    )


def test_increments_of_fills_carry_no_snapshot_mark():
    data = decode(frame("userFills", {"user": USER, "fills": [fill(), fill(time=5)]}))
    assert [one.is_snapshot for one in data.messages] == [False, False]
    assert data.venue_ms == 1791280942711


def test_a_liquidation_is_kept_as_it_came():
    liquidation = {"liquidatedUser": USER, "markPx": "1.5", "method": "market", "extra": [1]}
    [one] = decode(frame("userFills", {"user": USER, "fills": [fill(liquidation=liquidation)]})).messages
    assert one.liquidation == liquidation


def test_a_trader_without_fills_is_a_sign_of_life():
    data = decode(frame("userFills", {"user": USER, "isSnapshot": True, "fills": []}))
    assert (data.messages, data.venue_ms, data.arrived_ms) == ((), None, RECEIVED_MS)
