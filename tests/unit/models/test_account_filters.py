"""Conditions on accounts, as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config import load_settings
from src.models.errors import ConfigurationError
from src.models.filters import FIELDS, Filter


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("accountValue>=100000", Filter("accountValue", ">=", 100_000.0)),
        (" month.ROI > 0.1 ", Filter("month.roi", ">", 0.1)),
        ("alltime.pnl<-1e6", Filter("allTime.pnl", "<", -1e6)),
        ("week.vlm<=5", Filter("week.vlm", "<=", 5.0)),
    ],
)
def test_a_condition_is_read(text, wanted):
    assert Filter.parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "accountValue", "accountValue=5", "year.pnl>1", "month>1", "month.roi>", "month.roi>1.2.3", "a>nan"]
)
def test_what_is_no_condition_is_refused_with_the_way_to_write_one(text):
    with pytest.raises(ValueError, match=r"write it as|use one of"):
        Filter.parse(text)


@given(st.sampled_from(FIELDS), st.sampled_from([">=", ">", "<=", "<"]), st.floats(-1e18, 1e18))
def test_a_condition_survives_being_written_down(field, operator, value):
    one = Filter(field, operator, value)
    assert Filter.parse(str(one)) == one


def test_an_unknown_figure_never_fulfils_a_condition():
    assert not Filter("month.roi", "<", 1.0).admits(None)
    assert Filter("month.roi", "<", 1.0).admits(0.5)
    assert not Filter("month.roi", ">=", 1.0).admits(0.5)


def test_settings_take_conditions_and_tell_what_is_wrong_with_them(tmp_path):
    settings = load_settings(tmp_path, {"HYPERLIQUID_LEADERBOARD_FILTERS": "month.roi>0.05, accountvalue>=1e6"})
    assert settings.hyperliquid_leaderboard_filters == ("month.roi>0.05", "accountValue>=1000000")
    assert load_settings(tmp_path, {"HYPERLIQUID_LEADERBOARD_FILTERS": ""}).hyperliquid_leaderboard_filters == ()
    with pytest.raises(ConfigurationError, match="HYPERLIQUID_LEADERBOARD_FILTERS"):
        load_settings(tmp_path, {"HYPERLIQUID_LEADERBOARD_FILTERS": "month>1"})
