"""Settings of Futu: both spellings, and what is said about wrong ones."""

from pathlib import Path

import pytest

from src.config import load_settings
from src.models.errors import ConfigurationError

NOWHERE = Path("/nonexistent")


def test_off_by_default():
    settings = load_settings(NOWHERE, {})
    assert (settings.futu_host, settings.futu_port, settings.futu_symbols, settings.futu_quota) == (
        "",
        11111,
        (),
        100,
    )


def test_both_spellings_are_one_symbol():
    settings = load_settings(NOWHERE, {"FUTU_SYMBOLS": "AAPL, US.AAPL,00700 ,HK.700, 600519,us..dji"})
    assert settings.futu_symbols == ("US.AAPL", "HK.00700", "SH.600519", "US..DJI")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FUTU_HOST", "tcp://x", "without scheme"),
        ("FUTU_HOST", "a b", "host name"),
        ("FUTU_PORT", "0", "greater than or equal to 1"),
        ("FUTU_PORT", "70000", "65535"),
        ("FUTU_SYMBOLS", "AAPL,$x,B C", "'B C' is not a symbol"),
        ("FUTU_QUOTA", "0", "greater than or equal to 1"),
        ("FUTU_SYMBOL", "AAPL", "did you mean FUTU_SYMBOLS"),
    ],
)
def test_mistakes_are_named(name, value, told):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(NOWHERE, {name: value})
    assert name in str(caught.value)
    assert told in str(caught.value)
