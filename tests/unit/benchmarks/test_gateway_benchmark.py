"""The gateway's measure runs in a tiny form and does the work that it times."""

import pytest

from benchmarks import gateway
from benchmarks.rows import Effort, MeasureError

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_the_gateway_and_its_ceiling_carry_the_same_load():
    idle, load, disturbed, updates, cpu = gateway.measure(Effort.TINY)
    assert idle.value.median > 0
    assert (load.peer, disturbed.peer) == ("websockets.broadcast", "without it")
    assert load.value.low > 0
    assert load.holds == {"nothing was dropped": True}
    assert updates.value.median > 20
    assert updates.peer_value.median > 20
    assert cpu.value.median > 0


def test_a_round_in_which_nothing_arrives_is_no_figure():
    with pytest.raises(MeasureError, match="no update"):
        gateway._judge([], [], 1.0, [], [])
