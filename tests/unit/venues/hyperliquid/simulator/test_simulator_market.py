"""The market as a whole: the same seed gives the same events, and the truth log tells the whole story."""

import itertools

import msgspec
import pytest

from src.venues.hyperliquid.simulator import Market, MarketConfig
from src.venues.hyperliquid.simulator.truth import replay

START_MS = 1_791_280_000_000
BUSY = MarketConfig(seed=11, traders=6, actions_per_s=60.0, trades_per_s=20.0, funding_every_s=5.0)


def run(config, *, seconds, rhythm_ms=50, start_ms=START_MS):
    market = Market(config, start_ms)
    while market.now_ms < start_ms + seconds * 1000:
        market.step(market.now_ms + rhythm_ms)
    return market


def story(market, shift_ms=0):
    return [
        msgspec.json.encode(msgspec.structs.replace(e, time_ms=e.time_ms - shift_ms)) for e in market.truth.events
    ]


@pytest.fixture(scope="module")
def busy():
    return run(BUSY, seconds=60)


def test_the_same_seed_gives_the_same_events_in_any_rhythm(busy):
    other = run(BUSY, seconds=60, rhythm_ms=1700)
    shared = min(len(busy.truth), len(other.truth))
    assert shared > 3000
    assert story(busy)[:shared] == story(other)[:shared]


def test_another_start_time_changes_only_times():
    first = run(msgspec.structs.replace(BUSY, traders=2), seconds=10)
    second = run(msgspec.structs.replace(BUSY, traders=2), seconds=10, start_ms=START_MS + 77_000)
    kinds = [(e.kind, e.coin, e.oid, e.trader) for e in first.truth.events]
    assert kinds == [(e.kind, e.coin, e.oid, e.trader) for e in second.truth.events]


def test_another_seed_gives_another_story(busy):
    other = run(msgspec.structs.replace(BUSY, seed=12), seconds=10)
    assert story(busy)[:500] != story(other)[:500]


def test_reading_changes_nothing(busy):
    other = Market(BUSY, START_MS)
    while other.now_ms < START_MS + 10_000:
        other.step(other.now_ms + 50)
        for book in other.exchange.books.values():
            book.levels()
    assert story(busy)[: len(other.truth)] == story(other)


def test_replaying_the_truth_gives_the_final_state(busy):
    orders, positions = replay(busy.truth.events)
    live = {
        member.oid: member.row()
        for trader in busy.traders.values()
        for order in trader.orders.values()
        for member in order.family()
    }
    held = {
        (trader.address, account.dex, coin): row
        for trader in busy.traders.values()
        for account in trader.accounts.values()
        for coin, row in account.rows().items()
    }
    assert orders == live
    assert positions == held


def test_everything_happens(busy):
    kinds = {event.kind for event in busy.truth.events}
    assert kinds == {
        "placed", "amended", "activated", "partiallyFilled", "filled", "canceled", "triggered",
        "open", "increase", "decrease", "flip", "close", "leverage", "trade",
    }  # fmt: skip
    reasons = {event.reason for event in busy.truth.of("canceled")}
    assert {"canceled", "reduceOnlyCanceled", "siblingFilledCanceled"} <= reasons
    assert {event.dex for event in busy.truth.events} == {"", "xyz"}
    assert any(event.order["isPositionTpsl"] for event in busy.truth.of("placed"))


def test_every_order_is_placed_once_first_and_ended_at_most_once(busy):
    lives = {}
    for event in busy.truth.events:
        if event.oid is not None:
            lives.setdefault(event.oid, []).append(event.kind)
    for kinds in lives.values():
        assert kinds[0] == "placed"
        assert kinds.count("placed") == 1
        ends = [kind for kind in kinds if kind in ("filled", "canceled")]
        assert len(ends) <= 1
        assert not ends or kinds[-1] == ends[0]


def test_sequence_numbers_have_no_holes_and_time_never_runs_back(busy):
    events = busy.truth.events
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(a.time_ms <= b.time_ms for a, b in itertools.pairwise(events))


def test_books_are_never_crossed_sorted_and_at_most_twenty_deep():
    market = Market(BUSY, START_MS)
    for _ in range(400):
        market.step(market.now_ms + 50)
        for book in market.exchange.books.values():
            bids, asks = book.levels()
            if book.coin.delisted:
                assert bids == asks == []
                continue
            assert len(bids) == len(asks) == 20
            assert bids[0].px < asks[0].px
            assert [level.px for level in bids] == sorted({level.px for level in bids}, reverse=True)
            assert [level.px for level in asks] == sorted({level.px for level in asks})
            assert all(level.lots > 0 and level.n > 0 for level in (*bids, *asks))
            assert book.best_bid() == bids[0].px
            assert book.best_ask() == asks[0].px


def test_resting_orders_are_part_of_the_book_and_reduce_only_orders_can_reduce(busy):
    for trader in busy.traders.values():
        for order in trader.orders.values():
            book = busy.exchange.books[order.coin.name]
            if order.resting:
                best = book.best_ask() if order.is_buy else book.best_bid()
                assert order.limit_px < best if order.is_buy else order.limit_px > best
            if order.reduce_only:
                lots = trader.account(order.coin.dex).positions[order.coin.name].lots
                assert (lots > 0) != order.is_buy
                assert not order.resting or order.lots <= abs(lots)


def test_no_account_runs_dry(busy):
    for trader in busy.traders.values():
        for account in trader.accounts.values():
            state = account.state(busy.exchange.marks, busy.now_ms)
            assert float(state.crossMarginSummary.accountValue) > float(state.crossMaintenanceMarginUsed)


def test_prices_of_coins_move_together():
    market = Market(msgspec.structs.replace(BUSY, actions_per_s=0.0, trades_per_s=0.0), START_MS)
    coins = ("BTC", "ETH")
    moves = {coin: [] for coin in coins}
    for _ in range(300):
        before = {coin: market.exchange.books[coin].level for coin in coins}
        market.step(market.now_ms + 1000)
        for coin in coins:
            moves[coin].append(market.exchange.books[coin].level / before[coin] - 1)
    both = sum(a * b for a, b in zip(*moves.values(), strict=True))
    norm = (sum(a * a for a in moves["BTC"]) * sum(b * b for b in moves["ETH"])) ** 0.5
    assert 0.3 < both / norm < 0.9


def test_a_frozen_market_lets_only_time_pass(busy):
    market = run(BUSY, seconds=3)
    market.freeze()
    events, marks = len(market.truth), dict(market.exchange.marks)
    market.step(market.now_ms + 10_000)
    assert len(market.truth) == events
    assert market.exchange.marks == marks
    assert market.now_ms == START_MS + 13_000


def test_a_long_pause_is_skipped_not_lived_through():
    market = Market(msgspec.structs.replace(BUSY, traders=1), START_MS)
    assert market.step(START_MS + 24 * 3_600_000) == 2_000
    assert market.now_ms == START_MS + 24 * 3_600_000


def test_time_running_back_does_nothing():
    market = Market(BUSY, START_MS)
    assert market.step(START_MS - 5_000) == 0
    assert market.now_ms == START_MS


def test_traders_hover_about_the_wanted_numbers(busy):
    orders = [len(trader.orders) for trader in busy.traders.values()]
    assert 4 <= sum(orders) / len(orders) <= 25


def test_a_market_without_truth_log_keeps_nothing():
    market = run(msgspec.structs.replace(BUSY, log_truth=False), seconds=5)
    assert len(market.truth) == 0


def test_a_big_market_is_built_with_the_wanted_size():
    config = MarketConfig(
        traders=20, coins=("BTC",), filler_coins=160, positions_per_trader=150, orders_per_trader=90
    )
    market = Market(config, START_MS)
    for trader in market.traders.values():
        assert len(trader.account("").positions) == 150
        assert len(trader.orders) == 90


def test_changing_one_order_changes_exactly_one():
    market = Market(BUSY, START_MS)
    trader = next(t for t in market.traders.values() if any(o.resting and not o.children for o in t.orders.values()))
    before = set(trader.orders)
    market.change_one_order(trader)
    assert len(before - set(trader.orders)) == 1
    assert len(set(trader.orders) - before) == 1
