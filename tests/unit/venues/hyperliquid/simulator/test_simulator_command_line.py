"""The command line of a simulator in its own process."""

import pytest

from src.venues.hyperliquid.simulator import Limits
from src.venues.hyperliquid.simulator.__main__ import parse_arguments


def test_defaults():
    config, plan = parse_arguments([])
    assert plan is None
    assert config.limits == Limits()
    assert config.market.actions_per_s == 20.0
    assert not config.legacy
    assert not config.log_deliveries


def test_payload_sizes_become_counts():
    config, _ = parse_arguments(
        ["--traders", "500", "--payload-bytes-state", "65000", "--payload-bytes-orders", "28000", "--no-limits"]
    )
    assert config.market.traders == 500
    assert 150 <= config.market.positions_per_trader <= 200
    assert 75 <= config.market.orders_per_trader <= 95
    assert config.market.filler_coins > config.market.positions_per_trader
    assert config.market.actions_per_s == 0.0
    assert config.change_per_frame
    assert config.limits == Limits.off()


def test_everything_else():
    config, plan = parse_arguments(
        [
            "--seed",
            "5",
            "--coins",
            "BTC,xyz:TSLA",
            "--legacy",
            "--fault-rate",
            "12",
            "--trader-cadence",
            "0.5",
            "--logs",
        ]
    )
    assert config.market.coins == ("BTC", "xyz:TSLA")
    assert config.legacy
    assert config.cadences.trader_s == 0.5
    assert config.log_deliveries
    assert plan is not None
    assert (plan.seed, plan.rate) == (5, 12.0)


def test_nonsense_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--traders", "many"])
    assert "invalid int value" in capsys.readouterr().err
