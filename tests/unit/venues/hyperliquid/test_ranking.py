"""Conditions, score and tags of leaderboard accounts, and keeping the best few of many."""

import random

import pytest

from src.models.filters import FIELDS, Filter
from src.venues.hyperliquid.ranking import (
    LeaderboardRow,
    Ranked,
    Ranking,
    WindowPerformance,
    admits,
    figure,
    score,
    tags,
)


def an_account(number, *, value=1e6, month=1e5, roi=0.1, week_volume=1e7, day=1.0, all_time=1e6):
    return LeaderboardRow(
        address=f"0x{number:040x}",
        account_value=value,
        day=WindowPerformance(day, 0.01, 1.0),
        week=WindowPerformance(1.0, 0.01, week_volume),
        month=WindowPerformance(month, roi, 1.0),
        all_time=WindowPerformance(all_time, 1.0, 1.0),
    )


def test_every_field_of_a_condition_has_its_figure():
    row = an_account(1, value=7.0, month=3.0, roi=0.5, week_volume=9.0)
    assert {field: figure(row, field) for field in FIELDS} | {} == {
        "accountValue": 7.0,
        "day.pnl": 1.0,
        "day.roi": 0.01,
        "day.vlm": 1.0,
        "week.pnl": 1.0,
        "week.roi": 0.01,
        "week.vlm": 9.0,
        "month.pnl": 3.0,
        "month.roi": 0.5,
        "month.vlm": 1.0,
        "allTime.pnl": 1e6,
        "allTime.roi": 1.0,
        "allTime.vlm": 1.0,
    }
    assert figure(LeaderboardRow("0x", 1.0), "month.pnl") is None


def test_all_conditions_have_to_be_fulfilled():
    filters = [Filter.parse("accountValue>=100"), Filter.parse("month.roi>0.2")]
    assert admits(filters, an_account(1, value=100, roi=0.3))
    assert not admits(filters, an_account(1, value=99, roi=0.3))
    assert not admits(filters, an_account(1, value=100, roi=0.2))
    assert admits([], an_account(1))


def test_the_score_is_the_documented_formula():
    row = LeaderboardRow(
        "0x",
        1.0,
        day=WindowPerformance(1, 0, 0),
        week=WindowPerformance(-1, 0, 1e9),
        month=WindowPerformance(1e7, 0.5, 0),
        all_time=WindowPerformance(1e7, 0, 0),
    )
    assert score(row) == pytest.approx(100 * (0.45 + 0.2 * 0.5 + 0.15 + 0.1 + 0.1 * 3 / 4))
    assert score(LeaderboardRow("0x", 1.0)) == 0.0


@pytest.mark.parametrize("better", [{"month": 2e5}, {"roi": 0.2}, {"week_volume": 2e7}, {"all_time": 2e6}])
def test_more_is_better_in_each_part(better):
    assert score(an_account(1, **better)) > score(an_account(1))
    assert score(an_account(1, month=-1e6)) < score(an_account(1, month=0.0))


def test_tags_say_what_stands_out_and_begin_alike():
    giant = Ranked(3, 90.0, an_account(1, value=2e7, week_volume=2e8))
    assert tags(giant) == ["lb:heavy", "lb:steady", "lb:top10", "lb:whale"]
    assert tags(Ranked(700, 1.0, an_account(1, month=-5.0))) == ["lb:losing"]
    assert tags(Ranked(42, 1.0, LeaderboardRow("0x", 1.0))) == ["lb:top50"]


def test_the_best_of_many_are_kept_in_order():
    rows = [an_account(number, month=number * 1000.0) for number in range(1, 500)]
    random.Random(4).shuffle(rows)
    ranking = Ranking(20)
    for row in rows:
        ranking.take(row)
    best = ranking.best()
    assert [int(one.row.address, 16) for one in best] == list(range(499, 479, -1))
    assert [one.rank for one in best] == list(range(1, 21))
    assert (ranking.rows, ranking.admitted) == (499, 499)


def test_who_does_not_fulfil_the_conditions_is_left_out_or_comes_last():
    filters = [Filter.parse("accountValue>=1000")]
    rows = [an_account(1, value=1.0, month=1e9), an_account(2, value=5000.0)]
    strict, kind = Ranking(5, filters=filters), Ranking(5, filters=filters, admitted_only=False)
    for row in rows:
        strict.take(row)
        kind.take(row)
    assert [int(one.row.address, 16) for one in strict.best()] == [2]
    assert [int(one.row.address, 16) for one in kind.best()] == [2, 1]
    assert strict.admitted == 1


def test_watched_accounts_are_kept_wherever_they_stand():
    low = an_account(7, month=-1e9)
    ranking = Ranking(1, watched=[low.address, "0x" + "f" * 40])
    ranking.take(an_account(1))
    ranking.take(low)
    assert ranking.watched() == {low.address: low}


def test_an_account_that_is_listed_twice_counts_once():
    ranking = Ranking(5)
    ranking.take(an_account(1, month=5.0))
    ranking.take(an_account(1, month=9e9))
    (one,) = ranking.best()
    assert one.row.month.pnl == 5.0
