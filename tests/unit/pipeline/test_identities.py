"""The ``_id`` of what is stored; changed ones would make every stored document a stranger."""

import pytest

from src.models.messages import Fill
from src.models.streams import StreamKey
from src.pipeline import identities as i

ALICE = "0x" + "ab" * 20


@pytest.mark.parametrize(
    ("identity", "stored"),
    [
        (i.order_id(ALICE, 7), f"{ALICE}:7"),
        (i.position_id(ALICE, "", "BTC"), f"{ALICE}::BTC"),
        (i.position_id(ALICE, "xyz", "xyz:TSLA"), f"{ALICE}:xyz:xyz:TSLA"),
        (i.event_id(i.order_id(ALICE, 7), 2), f"{ALICE}:7:2"),
        (i.stored_trade_id("hyperliquid", "BTC", "99"), "hyperliquid:BTC:99"),
        (i.hole_id(StreamKey("hyperliquid", "trades", "BTC"), 5), "hyperliquid/trades/BTC:5"),
        (i.hole_id("hyperliquid/trades/BTC", 5), "hyperliquid/trades/BTC:5"),
    ],
)
def test_they_are_as_the_data_model_promises(identity, stored):
    assert identity == stored


@pytest.mark.parametrize(("tid", "told"), [(4, "4"), (None, "None")])
def test_a_fill_is_told_from_others_of_its_order(tid, told):
    fill = Fill("hyperliquid", ALICE, "BTC", "1.0", "2.0", "B", 1_000, 1_001, 7, tid)
    assert i.fill_id(fill) == f"{ALICE}:BTC:1000:{told}:7"


@pytest.mark.parametrize("state", [i.order_id(ALICE, 7), i.position_id(ALICE, "xyz", "xyz:TSLA")])
def test_an_event_names_its_order_or_position(state):
    assert i.state_id_of(i.event_id(state, 12)) == state
