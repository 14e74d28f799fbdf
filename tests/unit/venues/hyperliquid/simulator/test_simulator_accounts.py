"""Margin arithmetic: the formulas of recorded accounts, and sums that add up for ever."""

import random
from decimal import Decimal

import pytest

from src.venues.hyperliquid.simulator.accounts import Account
from src.venues.hyperliquid.simulator.instruments import build_universe
from src.venues.hyperliquid.simulator.units import MICRO

BTC, SOL, TSLA = build_universe(("BTC", "SOL", "xyz:TSLA"))


def make_account(deposit_dollars=1_000):
    return Account("0x" + "1" * 40, "", deposit_dollars * MICRO)


def test_the_numbers_of_a_recorded_account_come_out():
    """A short of 0.0001 BTC at 107851 with mark 107840: recorded webData2 session of 2025-06-26."""
    account = Account("0x" + "1" * 40, "", 29_995_147)  # so that the account value is the recorded one
    account.set_leverage(BTC, 1, isolated=False, mark=1_078_400)
    account.apply_fill(BTC, -10, 1_078_510, 0)
    state = account.state({"BTC": 1_078_400}, 1_750_912_503_968)
    position = state.assetPositions[0].position
    assert state.marginSummary.accountValue == "29.996247"
    assert state.marginSummary.totalNtlPos == "10.784"
    assert state.marginSummary.totalRawUsd == "40.780247"
    assert state.marginSummary.totalMarginUsed == "10.784"
    assert state.crossMarginSummary == state.marginSummary
    assert state.crossMaintenanceMarginUsed == "0.1348"
    assert state.withdrawable == "19.212247"
    assert position.szi == "-0.0001"
    assert position.entryPx == "107851.0"
    assert position.positionValue == "10.784"
    assert position.unrealizedPnl == "0.0011"
    assert position.returnOnEquity == "0.0001019926"
    assert float(position.liquidationPx) == pytest.approx(402767.8716049383, rel=1e-6)
    assert position.leverage.type == "cross"


@pytest.mark.parametrize(
    ("start", "delta", "kind", "direction"),
    [
        (0, 5, "open", "Open Long"),
        (0, -5, "open", "Open Short"),
        (5, 5, "increase", "Open Long"),
        (-5, -1, "increase", "Open Short"),
        (5, -2, "decrease", "Close Long"),
        (-5, 2, "decrease", "Close Short"),
        (5, -5, "close", "Close Long"),
        (-5, 5, "close", "Close Short"),
        (5, -8, "flip", "Long > Short"),
        (-5, 8, "flip", "Short > Long"),
    ],
)
def test_kind_and_direction_of_a_fill(start, delta, kind, direction):
    account = make_account()
    if start:
        account.apply_fill(SOL, start, 1_190_000, 0)
    effect = account.apply_fill(SOL, delta, 1_190_000, 0)
    assert (effect.kind, effect.start_lots, effect.direction) == (kind, start, direction)
    lots = account.positions["SOL"].lots if "SOL" in account.positions else 0
    assert lots == start + delta


def test_a_closed_position_disappears_and_its_profit_stays():
    account = make_account()
    account.apply_fill(SOL, 100, 1_000_000, 0)
    effect = account.apply_fill(SOL, -100, 1_100_000, 7)
    assert account.positions == {}
    assert effect.closed_pnl_micro == 10 * MICRO
    assert account.raw_micro == 1_010 * MICRO - 7
    assert account.state({"SOL": 1_100_000}, 1).assetPositions == []


def test_entry_price_averages_on_increase_and_stays_on_decrease():
    account = make_account(100_000)
    account.apply_fill(SOL, 100, 1_000_000, 0)
    account.apply_fill(SOL, 300, 1_200_000, 0)
    assert account.positions["SOL"].row()["entryPx"] == "115.0"
    account.apply_fill(SOL, -399, 1_900_000, 0)
    assert account.positions["SOL"].row()["entryPx"] == "115.0"


def test_flip_starts_a_new_entry_and_new_funding():
    account = make_account(100_000)
    account.apply_fill(SOL, 100, 1_000_000, 0)
    account.pay_funding({"SOL": 1_000_000}, 0.01)
    account.apply_fill(SOL, -250, 1_100_000, 0)
    position = account.positions["SOL"]
    assert position.lots == -150
    assert position.row()["entryPx"] == "110.0"
    assert position.funding.all_time == MICRO
    assert position.funding.since_open == 0
    assert position.funding.since_change == 0


def test_isolated_margin_is_put_aside_and_comes_back():
    account = make_account()
    account.set_leverage(SOL, 10, isolated=True, mark=1_000_000)
    account.apply_fill(SOL, 100, 1_000_000, 0)  # 100 dollars at 10x
    marks = {"SOL": 1_000_000}
    assert account.raw_micro == 990 * MICRO
    state = account.state(marks, 1)
    leverage = state.assetPositions[0].position.leverage
    assert (leverage.type, leverage.value, leverage.rawUsd) == ("isolated", 10, "-90.0")
    assert state.assetPositions[0].position.marginUsed == "10.0"
    assert state.marginSummary.accountValue == "1000.0"
    assert state.crossMarginSummary.accountValue == "990.0"
    account.apply_fill(SOL, -100, 1_010_000, 0)
    assert account.raw_micro == 1_001 * MICRO


def test_changing_the_mode_of_an_open_position_moves_no_money():
    account = make_account()
    account.apply_fill(SOL, -100, 1_000_000, 0)
    marks = {"SOL": 1_050_000}
    before = account.equity_micro(marks)
    assert account.set_leverage(SOL, 5, isolated=True, mark=1_050_000)
    assert account.equity_micro(marks) == before
    assert account.positions["SOL"].row()["leverageType"] == "isolated"
    assert account.set_leverage(SOL, 3, isolated=False, mark=1_050_000)
    assert account.equity_micro(marks) == before
    assert not account.set_leverage(SOL, 3, isolated=False, mark=1_050_000)
    assert not account.set_leverage(BTC, 3, isolated=False, mark=1)


def test_markets_without_cross_margin_open_isolated():
    account = make_account()
    account.apply_fill(TSLA, 100, 402_150, 0)
    assert account.positions["xyz:TSLA"].row()["leverageType"] == "isolated"


@pytest.mark.parametrize("seed", range(5))
def test_account_value_is_deposits_plus_profit_minus_fees(seed):
    rng = random.Random(seed)
    account = make_account(1_000_000)
    marks = {"BTC": BTC.start_px, "SOL": SOL.start_px}
    cash = 1_000_000 * MICRO  # what a plain cash ledger says: money minus what was paid for the coins held
    held = dict.fromkeys(marks, 0)
    for _ in range(300):
        coin = rng.choice((BTC, SOL))
        if rng.random() < 0.1:
            account.set_leverage(coin, rng.randint(1, 20), isolated=rng.random() < 0.5, mark=marks[coin.name])
            continue
        lots, px, fee = rng.choice((-7, -3, 2, 5, -held[coin.name] or 1)), marks[coin.name], rng.randint(0, 99)
        account.apply_fill(coin, lots, px, fee)
        cash -= lots * px + fee
        held[coin.name] += lots
        marks[coin.name] = coin.snap(px * rng.uniform(0.97, 1.03))
        expected = cash + sum(held[name] * marks[name] for name in marks)
        assert account.equity_micro(marks) == expected
        check_sums(account.state(marks, 1))


def check_sums(state):
    """Sums of the parts equal the totals, exactly."""
    total, cross = state.marginSummary, state.crossMarginSummary
    values = {"cross": Decimal(0), "isolated": Decimal(0)}
    signed, used, raw = dict(values), dict(values), Decimal(0)
    for item in state.assetPositions:
        position = item.position
        mode = position.leverage.type
        value = Decimal(position.positionValue)
        values[mode] += value
        signed[mode] += value if Decimal(position.szi) > 0 else -value
        used[mode] += Decimal(position.marginUsed)
        raw += Decimal(position.leverage.rawUsd) if mode == "isolated" else 0
    assert Decimal(cross.totalNtlPos) == values["cross"]
    assert Decimal(total.totalNtlPos) == values["cross"] + values["isolated"]
    assert Decimal(cross.accountValue) == Decimal(cross.totalRawUsd) + signed["cross"]
    assert Decimal(total.accountValue) == Decimal(total.totalRawUsd) + signed["cross"] + signed["isolated"]
    assert Decimal(total.totalRawUsd) == Decimal(cross.totalRawUsd) + raw
    assert Decimal(cross.totalMarginUsed) == used["cross"]
    assert Decimal(total.totalMarginUsed) == used["cross"] + used["isolated"]
    assert Decimal(state.withdrawable) >= 0


def test_a_partial_close_of_an_isolated_position_releases_its_share_of_the_margin():
    account = make_account()
    account.set_leverage(SOL, 10, isolated=True, mark=1_000_000)
    account.apply_fill(SOL, 100, 1_000_000, 0)  # 10 dollars of margin are put aside
    account.apply_fill(SOL, -40, 1_000_000, 0)
    position = account.positions["SOL"]
    assert position.margin_micro(1_000_000) == 6 * MICRO
    assert account.raw_micro == 994 * MICRO
