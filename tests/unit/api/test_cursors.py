"""Cursors: opaque, bound to their query, and impossible to turn into anything but a bound."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.api.cursors import CursorError, Place, decode_cursor, encode_cursor, scope_of

SCOPE = scope_of("orders", {"coin": "BTC"})


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")


@given(time_us=st.none() | st.integers(0, 253_402_300_799_999_999), key=st.text(max_size=100).filter(str.isprintable))
def test_round_trip(time_us, key):
    place = Place(SCOPE, time_us, key)
    text = encode_cursor(place)
    assert decode_cursor(text, SCOPE) == place
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=200))
def test_nothing_else_is_accepted(text):
    with pytest.raises(CursorError):
        decode_cursor(text, SCOPE)


@pytest.mark.parametrize(
    "value",
    [
        ["other", 1, "x"],
        [SCOPE, "1", "x"],
        [SCOPE, 1.5, "x"],
        [SCOPE, -1, "x"],
        [SCOPE, 10**30, "x"],
        [SCOPE, 253_402_300_800_000_000, "x"],
        [SCOPE, 1, {"$gt": ""}],
        [SCOPE, {"$gt": 0}, "x"],
        [SCOPE, 1, None],
        [SCOPE, 1],
        [SCOPE, 1, "x", "y"],
        {"scope": SCOPE, "time_us": 1, "key": "x"},
        "x",
    ],
)
def test_forged_contents_are_refused(value):
    with pytest.raises(CursorError):
        decode_cursor(packed(value), SCOPE)


def test_the_scope_knows_endpoint_and_filters_in_any_order():
    assert scope_of("a", {"x": 1, "y": 2}) == scope_of("a", {"y": 2, "x": 1})
    scopes = {scope_of("a", {}), scope_of("b", {}), scope_of("a", {"x": 1}), scope_of("a", {"x": 2})}
    assert len(scopes) == 4
