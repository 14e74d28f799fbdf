"""Two spellings of one share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.models.market_symbols import MARKETS, bare, canonical, canonical_or_none, same_share
from src.models.symbols import FUTU, OUTSIDE, native_symbol


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("AAPL", "US.AAPL", "AAPL"),
        ("us.aapl", "US.AAPL", "AAPL"),
        ("BRK.B", "US.BRK.B", "BRK.B"),
        ("US..DJI", "US..DJI", ".DJI"),
        ("HK.00700", "HK.00700", "00700"),
        ("700", "HK.00700", "00700"),
        ("HK.700", "HK.00700", "00700"),
        ("HK.HSImain", "HK.HSImain", "HK.HSImain"),
        ("HK.999010", "HK.999010", "HK.999010"),
        ("600519", "SH.600519", "600519"),
        ("000001", "SZ.000001", "000001"),
        ("SH.000001", "SH.000001", "SH.000001"),
        ("CC.BTCUSD", "CC.BTCUSD", "CC.BTCUSD"),
    ],
)
def test_examples(text, full, short):
    assert (canonical(text), bare(text)) == (full, short)
    assert same_share(text, full)
    assert same_share(text, short)


@pytest.mark.parametrize("text", ["", " ", ".", "US.", "A B", "$where", "A" * 65, "日经", "US.\n", "US." + "A" * 60])
def test_what_is_no_symbol(text):
    assert canonical_or_none(text) is None
    with pytest.raises(ValueError, match="write US"):
        canonical(text)


@given(st.sampled_from([*MARKETS]), st.from_regex(r"[A-Za-z0-9.^/@#:_-]{1,48}", fullmatch=True))
def test_the_canonical_spelling_is_a_fixed_point(market, code):
    full = canonical_or_none(f"{market}.{code}")
    if full is not None:
        assert canonical(full) == full
        assert canonical(bare(full)) == full


@given(st.text(max_size=70))
def test_no_text_breaks_it(text):
    full = canonical_or_none(text)
    assert full is None or full.partition(".")[0] in MARKETS
    assert same_share(text, text)


@given(st.from_regex(r"((US|HK|SH|SZ)\.)?[A-Za-z0-9.]{1,8}", fullmatch=True))
def test_what_clients_write_means_what_the_venue_carries(text):
    native = FUTU.native(text)
    assert native is None or native == canonical(text)
    assert OUTSIDE.native(text) == native_symbol("outside", text)


def test_native_spellings():
    assert native_symbol("futu", "aapl") == "US.AAPL"
    assert native_symbol("outside", "US.AAPL") == "AAPL"
    assert native_symbol("hyperliquid", "kPEPE") == "kPEPE"
    assert native_symbol("elsewhere", "x.y") == "x.y"
