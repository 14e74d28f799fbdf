"""Answers of the info endpoint: contents, refusals, weights, the leaderboard file."""

import json
from http import HTTPStatus

import pytest

from src.venues.hyperliquid.simulator import Market, MarketConfig
from src.venues.hyperliquid.simulator.candles import CandleBook
from src.venues.hyperliquid.simulator.info import UNPARSABLE, InfoService
from src.venues.hyperliquid.simulator.leaderboard import leaderboard_chunks
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.shapes import TradeShape, encode

START_MS = 1_791_280_000_000
NOBODY = "0x" + "e" * 40


@pytest.fixture(scope="module")
def market():
    market = Market(MarketConfig(seed=9, traders=3, actions_per_s=50.0, trades_per_s=10.0), START_MS)
    market.step(START_MS + 30_000)
    return market


@pytest.fixture(scope="module")
def ask(market):
    service = InfoService(Payloads(market))

    def put(**request):
        answer = service.answer(request)
        return answer.status, json.loads(encode(answer.value)), answer.extra_weight

    put.service = service
    return put


@pytest.fixture(scope="module")
def user(market):
    return max(market.traders, key=lambda address: len(market.traders[address].orders))


def test_a_trader_is_described_the_same_way_everywhere(ask, market, user):
    _, frontend, _ = ask(type="frontendOpenOrders", user=user.upper().replace("0X", "0x"))
    _, plain, _ = ask(type="openOrders", user=user)
    live = market.traders[user].orders
    assert {row["oid"] for row in frontend} == {o.oid for o in live.values() if o.coin.dex == ""}
    assert [row["oid"] for row in plain] == [row["oid"] for row in frontend]
    assert "orderType" not in plain[0]
    _, other_dex, _ = ask(type="frontendOpenOrders", user=user, dex="xyz")
    assert all(row["coin"].startswith("xyz:") for row in other_dex)
    _, web, _ = ask(type="webData2", user=user)
    assert web["openOrders"] == frontend
    _, state, _ = ask(type="clearinghouseState", user=user)
    assert web["clearinghouseState"] == state


def test_order_status_by_oid_and_by_client_id(ask, market, user):
    trader = market.traders[user]
    live = next(iter(trader.orders))
    _, answer, _ = ask(type="orderStatus", user=user, oid=live)
    assert answer["order"]["status"] in ("open", "triggered")
    ended = next(e for e in trader.history if e.status == "canceled" and e.order.cloid)
    _, answer, _ = ask(type="orderStatus", user=user, oid=ended.order.oid)
    assert answer["order"]["status"] == "canceled"
    _, answer, _ = ask(type="orderStatus", user=user, oid=ended.order.cloid)
    assert answer["order"]["order"]["cloid"] == ended.order.cloid
    assert ask(type="orderStatus", user=NOBODY, oid=live)[1] == {"status": "unknownOid"}


def test_history_is_newest_first_and_fills_by_time_oldest_first(ask, user):
    _, history, weight = ask(type="historicalOrders", user=user)
    times = [row["statusTimestamp"] for row in history]
    assert times == sorted(times, reverse=True)
    assert weight == -(-len(history) // 20)
    _, fills, _ = ask(type="userFills", user=user)
    _, by_time, _ = ask(type="userFillsByTime", user=user, startTime=0)
    assert by_time == fills[::-1]
    middle = by_time[len(by_time) // 2]["time"]
    _, part, _ = ask(type="userFillsByTime", user=user, startTime=middle, endTime=middle)
    assert part
    assert {fill["time"] for fill in part} == {middle}


def test_somebody_unknown_is_empty_not_an_error(ask):
    for kind, empty in (("historicalOrders", []), ("userFills", []), ("frontendOpenOrders", [])):
        assert ask(type=kind, user=NOBODY)[:2] == (HTTPStatus.OK, empty)
    assert ask(type="userRole", user=NOBODY)[1] == {"role": "missing"}


def test_market_answers(ask, user):
    assert ask(type="userRole", user=user)[1] == {"role": "user"}
    assert set(ask(type="exchangeStatus")[1]) == {"time", "specialStatuses"}
    assert "BTC" in ask(type="allMids")[1]
    assert ask(type="l2Book", coin="BTC")[1]["coin"] == "BTC"
    assert "spread" in ask(type="l2Book", coin="BTC", nSigFigs=5)[1]
    _, trades, _ = ask(type="recentTrades", coin="BTC")
    times = [trade["time"] for trade in trades]
    assert times == sorted(times, reverse=True)
    assert 0 < len(trades) <= 30


@pytest.mark.parametrize(
    "request_body",
    [
        {"type": "noSuchType"}, {"type": 5}, {"type": "clearinghouseState"}, {"type": "openOrders", "user": "0x1"},
        {"type": "orderStatus", "user": NOBODY}, {"type": "orderStatus", "user": NOBODY, "oid": True},
        {"type": "l2Book"}, {"type": "userFillsByTime", "user": NOBODY},
        {"type": "userFillsByTime", "user": NOBODY, "startTime": "x"}, {"type": "candleSnapshot", "req": {}},
    ],
)  # fmt: skip
def test_ill_formed_requests_are_422(ask, request_body):
    answer = ask.service.answer(request_body)
    assert (answer.status, answer.value) == (HTTPStatus.UNPROCESSABLE_ENTITY, UNPARSABLE)


@pytest.mark.parametrize(
    "request_body",
    [
        {"type": "recentTrades", "coin": "NOPE"},
        {"type": "candleSnapshot", "req": {"coin": "NOPE", "interval": "1m", "startTime": 0}},
        {"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": 1},
        {"type": "allMids", "dex": "nope"},
    ],
)
def test_bad_parameters_are_500_null(ask, request_body):
    answer = ask.service.answer(request_body)
    assert (answer.status, answer.value) == (HTTPStatus.INTERNAL_SERVER_ERROR, None)


def test_an_unknown_book_is_null_and_fine(ask):
    assert ask(type="l2Book", coin="NOPE")[:2] == (HTTPStatus.OK, None)


@pytest.mark.parametrize("body", [None, [], 5, "x"])
def test_bodies_that_are_no_object(ask, body):
    assert ask.service.answer(body).status == HTTPStatus.UNPROCESSABLE_ENTITY


def test_weights(ask):
    weights = {kind: ask.service.weight({"type": kind}) for kind in ("l2Book", "userRole", "openOrders", "x")}
    assert weights == {"l2Book": 2, "userRole": 60, "openOrders": 20, "x": 20}
    assert ask.service.weight([]) == 20


def test_candles_come_from_trades():
    book = CandleBook()
    for second, px in ((0, "10.0"), (30, "9.0"), (61, "12.0"), (119, "11.0")):
        trade = TradeShape("BTC", "B", px, "0.5", 1_200_000 + second * 1000, "0x0", 1, ("a", "b"))
        book.add(trade)
    first, second = book.snapshot("BTC", "1m", 0, 10**12)
    assert (first["o"], first["c"], first["h"], first["l"], first["v"], first["n"]) == (
        "10.0", "9.0", "10.0", "9.0", "1.0", 2,
    )  # fmt: skip
    assert second["t"] == 1_260_000
    assert second["T"] == 1_319_999
    assert book.snapshot("BTC", "1m", 1_260_000, 1_260_000) == [second]
    (five,) = book.snapshot("BTC", "5m", 0, 10**12)
    assert (five["o"], five["c"], five["h"], five["l"], five["n"]) == ("10.0", "11.0", "12.0", "9.0", 4)
    assert book.current("BTC", "5m") == five
    assert book.current("ETH", "1m") is None


def test_the_leaderboard_begins_with_the_simulated_traders(market):
    rows = json.loads(b"".join(leaderboard_chunks(market, 450)))["leaderboardRows"]
    assert [row["ethAddress"] for row in rows[:3]] == list(market.traders)
    assert len({row["ethAddress"] for row in rows}) == 450
    for key in ("pnl", "roi", "vlm"):
        values = [float(dict(row["windowPerformances"])["month"][key]) for row in rows]
        assert values == sorted(values, reverse=True) or key == "vlm"
    accounts = [float(row["accountValue"]) for row in rows]
    assert accounts == sorted(accounts, reverse=True)
    assert set(rows[0]) == {"ethAddress", "accountValue", "windowPerformances", "prize", "displayName"}
    assert rows[5]["displayName"] is None


def test_the_leaderboard_is_as_big_as_the_real_one_and_comes_in_pieces(market):
    sizes = [len(chunk) for chunk in leaderboard_chunks(market, 35_000)]
    assert 17_000_000 < sum(sizes) < 30_000_000
    assert max(sizes) < 300_000
