"""Texts of numbers and the tick rule."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.venues.hyperliquid.simulator.instruments import build_universe, describe_dexes, describe_meta
from src.venues.hyperliquid.simulator.units import decimal_text, money_text, ratio_text, significant_text


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0, 2, "0.0"),
        (12345, 2, "123.45"),
        (12300, 2, "123.0"),
        (12310, 2, "123.1"),
        (-5, 3, "-0.005"),
        (7, 0, "7.0"),
        (1000000, 6, "1.0"),
    ],
)
def test_decimal_text_is_written_as_the_venue_does(value, decimals, text):
    assert decimal_text(value, decimals) == text


@given(st.integers(-(10**15), 10**15), st.integers(0, 8))
def test_decimal_text_is_exact_and_canonical(value, decimals):
    text = decimal_text(value, decimals)
    assert Decimal(text) == Decimal(value).scaleb(-decimals)
    whole, _, fraction = text.partition(".")
    assert fraction
    assert fraction == "0" or not fraction.endswith("0")
    assert whole.lstrip("-").isdigit()


def test_money_and_ratio_texts():
    assert money_text(29_996_247) == "29.996247"
    assert ratio_text(0.0001019926) == "0.0001019926"
    assert ratio_text(-2.0) == "-2.0"


def test_significant_text_never_rounds_whole_numbers_away():
    assert significant_text(86123.456, 6, 1) == "8612.3"
    assert significant_text(1234567890.0, 6, 1) == "123456789.0"
    assert significant_text(0.0, 6, 4) == "0.0"
    assert significant_text(-1055.4, 3, 2) == "-10.6"


@given(st.floats(1e-4, 5.0), st.sampled_from(build_universe(("BTC", "ETH", "SOL", "DOGE", "kPEPE", "xyz:TSLA"))))
def test_snapped_prices_obey_five_significant_figures(factor, coin):
    px = coin.snap(coin.start_px * factor)
    text = coin.px_text(px)
    value = Decimal(text)
    assert px > 0
    digits = value.normalize().as_tuple().digits
    assert len(digits) <= 5 or value == value.to_integral_value()
    assert -value.normalize().as_tuple().exponent <= 6 - coin.sz_decimals


def test_universe_knows_dexes_indices_and_unknown_names():
    universe = build_universe(("BTC", "xyz:TSLA", "NEWCOIN", "BTC", "xyz:GOLD"), fillers=2)
    assert [coin.name for coin in universe] == ["BTC", "xyz:TSLA", "NEWCOIN", "xyz:GOLD", "ALT000", "ALT001"]
    assert [(coin.dex, coin.index) for coin in universe] == [
        ("", 0), ("xyz", 0), ("", 1), ("xyz", 1), ("", 2), ("", 3),
    ]  # fmt: skip
    assert all(coin.start_px > 0 for coin in universe)
    assert [row["name"] for row in describe_meta(universe, "xyz")["universe"]] == ["xyz:TSLA", "xyz:GOLD"]
    assert describe_dexes(universe)[0] is None
    assert describe_dexes(universe)[1]["name"] == "xyz"


def test_every_margin_table_of_the_universe_exists():
    universe = build_universe(("BTC", "ETH", "SOL", "HYPE", "xyz:TSLA"))
    for dex in ("", "xyz"):
        meta = describe_meta(universe, dex)
        tables = {number for number, _ in meta["marginTables"]}
        assert {row["marginTableId"] for row in meta["universe"]} <= tables
