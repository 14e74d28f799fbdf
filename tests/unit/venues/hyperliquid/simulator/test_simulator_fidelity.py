"""Frames have the same keys, types and number texts as recorded ones."""

import json
import re

import msgspec
import pytest

from src.venues.hyperliquid.simulator import Market, MarketConfig
from src.venues.hyperliquid.simulator.frames import FrameBuilder
from src.venues.hyperliquid.simulator.info import InfoService
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.shapes import Frame, encode
from src.venues.hyperliquid.simulator.subscriptions import Subscription

START_MS = 1_791_280_000_000
DECIMAL = re.compile(r"-?\d+\.\d+")


def shape_of(value):
    """The structure of a JSON value: keys, types, and whether texts are decimals."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape_of(item) for item in value]
    if isinstance(value, str):
        return "decimal" if DECIMAL.fullmatch(value) else "text"
    return type(value).__name__


@pytest.fixture(scope="module")
def payloads():
    market = Market(MarketConfig(seed=4, traders=4, actions_per_s=80.0, trades_per_s=30.0), START_MS)
    market.step(START_MS + 40_000)
    built = Payloads(market)
    for trades in market.exchange.recent_trades.values():
        for trade in trades:
            built.candles.add(trade)
    return built


@pytest.fixture(scope="module")
def frame_of(payloads):
    builder = FrameBuilder(payloads, with_rows=True)

    def build(**fields):
        return json.loads(builder.build(Subscription(**fields)).data)

    return build


@pytest.fixture(scope="module")
def trader(payloads):
    return max(payloads.market.traders.values(), key=lambda t: len(t.orders))


@pytest.fixture
def modern(recorded):
    """Recorded frames of 2026 by channel."""
    frames = {}
    for frame in recorded("gct_ws_frames_20261006.jsonl"):
        frames.setdefault(frame["channel"], []).append(frame)
    return frames


def positions_by_mode(state):
    return {item["position"]["leverage"]["type"]: item for item in state["assetPositions"]}


def test_clearinghouse_state(frame_of, modern, payloads):
    theirs = modern["clearinghouseState"][0]
    known = positions_by_mode(theirs["data"]["clearinghouseState"])
    seen = set()
    for user in payloads.market.traders:
        ours = frame_of(type="clearinghouseState", user=user)
        for mode, item in positions_by_mode(ours["data"]["clearinghouseState"]).items():
            mine = dict(item, position=dict(item["position"], liquidationPx="1.0"))
            assert shape_of(mine) == shape_of(known[mode])
            assert list(item["position"]) == list(known[mode]["position"])
            seen.add(mode)
        for frame in (ours, theirs):
            frame["data"]["clearinghouseState"] = dict(frame["data"]["clearinghouseState"], assetPositions=[])
        assert shape_of(ours) == shape_of(theirs)
        assert list(ours["data"]["clearinghouseState"]) == list(theirs["data"]["clearinghouseState"])
    assert seen == {"cross", "isolated"}


def test_an_address_without_account_is_all_zeros(frame_of, modern):
    ours = frame_of(type="clearinghouseState", user="0x" + "e" * 40, dex="xyz")
    theirs = modern["clearinghouseState"][1]
    state = theirs["data"]["clearinghouseState"]
    assert ours["data"]["clearinghouseState"] == dict(state, time=ours["data"]["clearinghouseState"]["time"])


def test_open_orders(frame_of, modern, trader, payloads):
    theirs = modern["openOrders"][0]["data"]["orders"]
    keys = [list(order) for order in theirs]
    assert keys[0] == keys[1]
    seen_child = False
    for user in payloads.market.traders:
        ours = frame_of(type="openOrders", user=user)
        assert list(ours) == ["channel", "data"]
        assert list(ours["data"]) == ["dex", "user", "orders"]
        for order in ours["data"]["orders"]:
            for one in (order, *order["children"]):
                assert list(one) == keys[0]
                plain = dict(one, cloid="x", tif="x", children=[])
                assert shape_of(plain) == shape_of(dict(theirs[0], cloid="x", tif="x", children=[]))
            seen_child |= bool(order["children"])
    assert seen_child


def test_a_position_take_profit_looks_as_recorded(recorded, payloads):
    theirs = recorded("gofront_ws_openorders_tpsl_20260723.jsonl")[0]["data"]["orders"][0]
    ours = next(
        json.loads(encode(order.shape()))
        for trader in payloads.market.traders.values()
        for order in trader.orders.values()
        if order.is_tpsl
    )
    assert (ours["sz"], ours["origSz"], ours["tif"]) == (theirs["sz"], theirs["origSz"], theirs["tif"])
    assert re.fullmatch(r"Price (above|below) \d+(\.\d+)?", ours["triggerCondition"])
    assert shape_of(dict(ours, cloid=None)) == shape_of(theirs)


def test_all_dexes_state(frame_of, modern, trader):
    ours = frame_of(type="allDexsClearinghouseState", user=trader.address)
    theirs = modern["allDexsClearinghouseState"][0]
    assert list(ours["data"]) == list(theirs["data"])
    assert [dex for dex, _ in ours["data"]["clearinghouseStates"]] == ["", "xyz"]
    for (_, mine), (_, known) in zip(
        ours["data"]["clearinghouseStates"], theirs["data"]["clearinghouseStates"], strict=True
    ):
        assert list(mine) == list(known)


def test_web_data2(frame_of, recorded, payloads):
    session = recorded("gareth_webSocketDataSample_4-webData2-openPosition-all.json")
    theirs = next(frame for frame in session if frame["channel"] == "webData2")
    first, second = list(payloads.market.traders)[:2]
    ours = frame_of(type="webData2", user=first)
    assert list(ours["data"]) == list(theirs["data"])
    without_spot = frame_of(type="webData2", user=second)
    assert list(without_spot["data"]) == [key for key in theirs["data"] if key != "spotState"]
    assert list(ours["data"]["assetCtxs"][0]) == list(theirs["data"]["assetCtxs"][0])
    assert list(ours["data"]["meta"]["universe"][0]) == list(theirs["data"]["meta"]["universe"][0])
    assert list(ours["data"]["spotAssetCtxs"][0]) == list(theirs["data"]["spotAssetCtxs"][0])
    assert len(ours["data"]["assetCtxs"]) == len(ours["data"]["meta"]["universe"])
    assert ours["data"]["serverTime"] == ours["data"]["clearinghouseState"]["time"]


def test_web_data3_and_spot_state(frame_of, modern, trader, payloads):
    ours = frame_of(type="webData3", user=trader.address)
    theirs = modern["webData3"][1]
    assert shape_of(ours["data"]["userState"]) == shape_of(theirs["data"]["userState"])
    assert len(ours["data"]["perpDexStates"]) == len(payloads.market.dexes)
    first = next(iter(payloads.market.traders))
    ours, theirs = frame_of(type="spotState", user=first), modern["spotState"][0]
    assert shape_of(ours["data"]["spotState"]["balances"][0]) == shape_of(theirs["data"]["spotState"]["balances"][0])


def test_books(frame_of, modern, recorded):
    fast, spread, plain = modern["l2Book"]
    assert list(frame_of(type="l2Book", coin="SOL", fast=True)["data"]) == list(fast["data"])
    assert list(frame_of(type="l2Book", coin="BTC", n_sig_figs=5, mantissa=2)["data"]) == list(spread["data"])
    ours = frame_of(type="l2Book", coin="BTC")
    assert list(ours["data"]) == list(plain["data"])
    assert shape_of(ours["data"]["levels"][0][0]) == shape_of(plain["data"]["levels"][0][0])
    empty = next(f for f in recorded("rustpool_ws_frames_mainnet_20260903.jsonl") if f["channel"] == "l2Book")
    assert frame_of(type="l2Book", coin="MATIC")["data"]["levels"] == empty["data"]["levels"]


def test_fast_books_are_five_deep_and_normal_ones_twenty(frame_of):
    assert [len(side) for side in frame_of(type="l2Book", coin="BTC", fast=True)["data"]["levels"]] == [5, 5]
    assert [len(side) for side in frame_of(type="l2Book", coin="BTC")["data"]["levels"]] == [20, 20]


@pytest.mark.parametrize(("figures", "mantissa", "step"), [(2, None, 1000), (3, None, 100), (4, None, 10), (5, 5, 5)])
def test_aggregated_books_use_coarser_prices(frame_of, figures, mantissa, step):
    data = frame_of(type="l2Book", coin="BTC", n_sig_figs=figures, mantissa=mantissa)["data"]
    prices = [float(level["px"]) for side in data["levels"] for level in side]
    assert all(px % step == 0 for px in prices)
    assert float(data["spread"]) == float(data["levels"][1][0]["px"]) - float(data["levels"][0][0]["px"])


def test_bbo_mids_candle_and_context(frame_of, modern, recorded):
    assert shape_of(frame_of(type="bbo", coin="BTC")) == shape_of(modern["bbo"][0])
    assert frame_of(type="bbo", coin="MATIC")["data"]["bbo"] == [None, None]
    assert "dex" not in frame_of(type="allMids")["data"]
    dex_mids = frame_of(type="allMids", dex="xyz")["data"]
    assert dex_mids["dex"] == "xyz"
    assert all(coin.startswith("xyz:") for coin in dex_mids["mids"])
    assert shape_of(frame_of(type="candle", coin="BTC", interval="5m")) == shape_of(modern["candle"][0])
    assert shape_of(frame_of(type="activeAssetCtx", coin="BTC")) == shape_of(modern["activeAssetCtx"][0])
    contexts = [f for f in recorded("rustpool_ws_frames_mainnet_20260903.jsonl") if f["channel"] == "activeAssetCtx"]
    delisted = next(f for f in contexts if f["data"]["coin"] == "MATIC")
    assert shape_of(frame_of(type="activeAssetCtx", coin="MATIC")) == shape_of(delisted)


def test_trades_fills_and_order_updates(payloads, modern):
    market = payloads.market
    trade = json.loads(encode(next(iter(market.exchange.outbox.trades))))
    assert shape_of(trade) == shape_of(modern["trades"][0]["data"][0])
    fills = [json.loads(encode(fill)) for trader in market.traders.values() for fill in trader.fills]
    theirs = dict(modern["userFills"][1]["data"]["fills"][0])
    for optional in ("builderFee", "liquidation"):
        del theirs[optional]
    with_id = [fill for fill in fills if "cloid" in fill]
    without = [fill for fill in fills if "cloid" not in fill]
    assert set(with_id[0]) == set(theirs)
    assert set(without[0]) == set(theirs) - {"cloid"}
    assert all(fill["twapId"] is None for fill in fills)
    updates = [json.loads(encode(update)) for _, update in market.exchange.outbox.updates]
    known = modern["orderUpdates"][0]["data"][0]
    assert all(list(update) == list(known) for update in updates)
    assert {frozenset(u["order"]) for u in updates} <= {
        frozenset(known["order"]) - {"cloid"} | extra
        for extra in (frozenset(), {"cloid"}, {"reduceOnly"}, {"cloid", "reduceOnly"})
    }


def test_history_and_status_over_rest(payloads, trader, recorded):
    service = InfoService(payloads)
    rows = json.loads(encode(service.answer({"type": "historicalOrders", "user": trader.address}).value))
    theirs = recorded("pysdk_historical_orders.json")[0]
    assert list(rows[0]) == list(theirs)
    assert list(rows[0]["order"]) == list(theirs["order"])
    known = json.loads(
        encode(service.answer({"type": "orderStatus", "user": trader.address, "oid": rows[0]["order"]["oid"]}).value)
    )
    assert known["status"] == "order"
    assert list(known["order"]) == list(theirs)
    unknown = service.answer({"type": "orderStatus", "user": trader.address, "oid": 5}).value
    assert unknown == recorded("gohl_QueryOrderByOid_0_orderStatus.json")


def test_meta_contexts_and_dexes_over_rest(payloads, recorded):
    service = InfoService(payloads)
    meta, contexts = json.loads(encode(service.answer({"type": "metaAndAssetCtxs", "dex": "xyz"}).value))
    their_meta, their_contexts = recorded("gohl_MetaAndAssetCtxs_4_metaAndAssetCtxs_xyz.json")
    assert set(meta["universe"][0]) <= set(their_meta["universe"][0])
    assert set(contexts[0]) == set(their_contexts[0])
    dexes = json.loads(encode(service.answer({"type": "perpDexs"}).value))
    theirs = recorded("gohl_PerpDexs_0_perpDexs.json")
    assert dexes[0] is None
    assert list(dexes[1]) == list(theirs[1])


def test_absent_is_absent_and_null_is_null(payloads):
    market = payloads.market
    text = encode(Frame("userFills", [f for t in market.traders.values() for f in t.fills]))
    assert b'"cloid":null' not in text
    orders = encode([order.raw() for t in market.traders.values() for order in t.orders.values()])
    assert b'"cloid":null' in orders
    assert msgspec.json.decode(orders)
