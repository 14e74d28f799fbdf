"""The measure of ten shares does the work that it times, in a tiny form."""

import pytest

from benchmarks import stockbit_load
from benchmarks.rows import Effort, Goal


@pytest.mark.integration
@pytest.mark.slow
def test_ten_shares_are_collected_and_written_while_they_are_watched(mongod_binary):
    cpu, memory, *others = stockbit_load.measure(Effort.TINY)
    assert (cpu.goal, memory.goal) == (Goal(5.0), Goal(1.0))
    assert cpu.value.low > 0
    assert "0 rejected" in cpu.holds
    assert cpu.holds["0 rejected"]
    assert [name for name, held in cpu.holds.items() if "sides in files" in name and held]
    assert {other.unit for other in others} == {"µs", "% of a core"}


def test_messages_in_a_file_are_counted_by_time_and_side(tmp_path):
    path = tmp_path / "2026-02-04_BBCA.csv"
    rows = ["t1,7725,412,1840500,BID", "t1,7700,1,100,BID", "t1,7750,3,100,OFFER", "t2,7750,3,100,OFFER"]
    path.write_text("\n".join(["timestamp,price,lots,total_value,side", *rows]) + "\n")
    assert stockbit_load._sides(path) == 3


def test_a_slow_exchange_does_not_pass_as_the_documented_rate():
    seen = stockbit_load.Seen([2.0], [1.0], [400.0], [10.0], 100.0, 109.0)
    cpu, memory, *_ = stockbit_load._rows(
        stockbit_load.WATCHES[Effort.TINY], seen, {"messages_rejected": {"x": 1}}, written=0
    )
    assert cpu.ok is False
    assert not any(cpu.holds.values())
    assert (memory.value.median, memory.ok) == (1.0, True)
