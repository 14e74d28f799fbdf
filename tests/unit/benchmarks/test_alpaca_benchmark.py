"""The benchmark of Alpaca trades runs in a tiny form and does the work that it times."""

import pytest

from benchmarks import alpaca_trades
from benchmarks.rows import Effort, Goal, MeasureError


def test_all_readers_read_the_same_trades():
    rows = alpaca_trades.measure(Effort.TINY)
    assert len(rows) == (2 if alpaca_trades.has_official_client() else 1) * len(alpaca_trades.PER_FRAME)
    for row in rows:
        assert 0 < row.value.low <= row.value.high
        assert row.peer_value.low > 0
        assert "trades of 50 stocks" in row.note
        assert row.goal in (None, Goal(5.0, at_most=False))


def test_a_reader_that_misses_trades_is_an_error(monkeypatch):
    monkeypatch.setattr(alpaca_trades, "SYMBOLS", ("NOSUCH",))
    with (
        alpaca_trades.venue(100, per_frame=1) as addresses,
        pytest.raises(MeasureError, match="bare"),
    ):
        alpaca_trades.read("bare", {**addresses, "secret": "wrong"}, 100)
