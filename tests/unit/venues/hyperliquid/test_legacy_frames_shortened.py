"""A shortened legacy frame means exactly what the whole frame means, or it is not used."""

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.messages import legacy_session
from src.models.errors import WireError
from src.models.messages import Ignored, OrdersSnapshot
from src.venues.hyperliquid import mapper as mapper_module
from src.venues.hyperliquid.legacy import without_market
from src.venues.hyperliquid.mapper import HyperliquidMapper

MARKET = ("meta", "assetCtxs", "spotAssetCtxs")


def compact(frame) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()


def small_frame():
    """A frame in the recorded order of fields, with short market parts."""
    frame = json.loads(legacy_session(orders=3, positions=2).voice.same())
    data = frame["data"]
    data["meta"]["universe"] = data["meta"]["universe"][:2]
    data["assetCtxs"], data["spotAssetCtxs"] = data["assetCtxs"][:2], data["spotAssetCtxs"][:2]
    return frame


def meaning(frame: bytes):
    """What a fresh mapper makes of it; a refusal by its reason."""
    try:
        return HyperliquidMapper().decode(frame, 7)
    except WireError as error:
        return error.reason


def whole_meaning(frame: bytes):
    """The same without any shortening."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapper_module, "without_market", lambda _: None)
        return meaning(frame)


def is_used(frame: bytes) -> bool:
    return HyperliquidMapper()._shortened(frame) is not None


def test_the_recorded_layout_loses_its_market_and_nothing_else():
    frame = legacy_session(orders=40, positions=12).voice.same()
    short, whole = json.loads(without_market(frame)), json.loads(frame)
    assert len(without_market(frame)) * 5 < len(frame)
    for name in MARKET:
        del whole["data"][name]
    assert short == whole
    assert is_used(frame)


def test_a_shortened_frame_means_what_the_whole_one_means_and_keeps_its_size():
    frame = legacy_session(orders=40, positions=12).voice.same()
    found = meaning(frame)
    assert found == whole_meaning(frame)
    assert found.size_bytes == len(frame)
    assert len(found.messages) == 2


@pytest.mark.parametrize("order", list(permutations(["meta", "openOrders", "serverTime", "spotAssetCtxs"])))
def test_no_order_of_the_fields_loses_orders(order):
    frame = small_frame()
    data = frame["data"]
    frame["data"] = {name: data[name] for name in order} | data
    found = meaning(compact(frame))
    assert found == whole_meaning(compact(frame))
    [orders] = [message for message in found.messages if isinstance(message, OrdersSnapshot)]
    assert len(orders.rows) == 3


@pytest.mark.parametrize("name", ["openOrders", "clearinghouseState", "serverTime", *MARKET])
@pytest.mark.parametrize("change", ["missing", "null"])
def test_a_field_that_is_missing_or_null_means_the_same_as_in_the_whole_frame(name, change):
    frame = small_frame()
    if change == "missing":
        del frame["data"][name]
    else:
        frame["data"][name] = None
    assert meaning(compact(frame)) == whole_meaning(compact(frame))


def test_frames_that_are_not_legacy_ones_are_left_alone():
    frame = compact(small_frame())
    assert without_market(frame.decode()) is None
    assert without_market(frame.replace(b"webData2", b"webData3", 1)) is None
    assert without_market(b"") is None
    assert without_market(b'{"channel":"webData2","data":{}}') is None
    assert isinstance(meaning(frame.replace(b"webData2", b"webData3", 1)), Ignored)


def test_the_keys_inside_a_text_are_no_keys():
    frame = small_frame()
    frame["data"]["openOrders"][0]["orderType"] = '","meta":{"x":1},"serverTime":5,"spotAssetCtxs":[],"'
    assert meaning(compact(frame)) == whole_meaning(compact(frame))


def test_the_keys_inside_another_object_do_not_mislead():
    frame = small_frame()
    frame["data"]["clearinghouseState"]["extra"] = {"a": 1, "meta": {"b": 2}, "serverTime": 1, "spotAssetCtxs": []}
    assert meaning(compact(frame)) == whole_meaning(compact(frame))
    frame["data"]["perpsAtOpenInterestCap"] = [{"a": 1, "spotAssetCtxs": [1], "z": 2}]
    assert meaning(compact(frame)) == whole_meaning(compact(frame))


def test_a_frame_cut_off_anywhere_is_refused():
    frame = compact(small_frame())
    for length in range(40, len(frame)):
        assert meaning(frame[:length]) == "malformed_json", length


@given(cut=st.lists(st.integers(40, len(compact(small_frame()))), min_size=2, max_size=2).map(sorted))
def test_only_a_fault_inside_the_market_parts_may_go_unnoticed(cut):
    frame = compact(small_frame())
    start, end = cut
    damaged = frame[:start] + frame[end:]
    found, whole = meaning(damaged), whole_meaning(damaged)
    if found != whole:
        assert isinstance(whole, str)  # the whole frame would have been refused
        assert not isinstance(found, str)
        assert end > frame.index(b'"meta"')
