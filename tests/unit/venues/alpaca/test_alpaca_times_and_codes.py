"""Times to the nanosecond, and which trades count."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.venues.alpaca.codes import EXCHANGES, counts_as_last, counts_as_volume
from src.venues.alpaca.times import LATEST_NS, BadTimeError, rfc3339, time_ns


@given(st.integers(1, LATEST_NS))
def test_text_and_nanoseconds_are_the_same(ns: int) -> None:
    text = rfc3339(ns)
    assert time_ns(text) == ns
    assert not text.endswith("0Z") or "." not in text


@given(st.integers(1, LATEST_NS))
def test_all_three_sizes_of_the_extension(ns: int) -> None:
    seconds, rest = divmod(ns, 10**9)
    sizes = [struct.pack(">Iq", rest, seconds), struct.pack(">Q", rest << 34 | seconds)]
    if not rest and seconds < 2**32:
        sizes.append(struct.pack(">I", seconds))
    assert {time_ns(msgspec.msgpack.Ext(-1, data)) for data in sizes} == {ns}


@pytest.mark.parametrize(
    "value",
    [
        msgspec.msgpack.Ext(-2, b"\0" * 8),
        msgspec.msgpack.Ext(-1, b"\0" * 7),
        msgspec.msgpack.Ext(-1, b""),
        msgspec.msgpack.Ext(-1, struct.pack(">Iq", 0, -1)),
        msgspec.msgpack.Ext(-1, struct.pack(">Iq", 0, 2**62)),
        "2025-12-12T15:30:45.\u0661Z",
        "Z",
    ],
)
def test_what_is_no_time(value: str | msgspec.msgpack.Ext) -> None:
    with pytest.raises(BadTimeError):
        time_ns(value)


def test_trailing_zeros_are_cut_as_the_venue_does() -> None:
    assert rfc3339(1_765_553_445_200_000_000) == "2025-12-12T15:30:45.2Z"
    assert rfc3339(1_765_553_445_000_000_000) == "2025-12-12T15:30:45Z"


@pytest.mark.parametrize(
    ("conditions", "tape", "last", "volume"),
    [
        (("@",), "C", True, True),
        ((), "A", True, True),
        (None, None, True, True),
        (("@", "I"), "C", False, True),
        (("@", "F", "T", "I"), "C", False, True),
        (("@", "F"), "C", True, True),
        (("M",), "C", False, False),
        (("Q",), "A", False, False),
        (("9",), "C", True, False),
        (("B",), "A", False, True),
        (("B",), "C", True, True),
        (("@", "7", "V"), "C", False, True),
        ((" ",), "A", True, True),
    ],
)
def test_which_trades_count(conditions: tuple[str, ...] | None, tape: str | None, last: bool, volume: bool) -> None:
    assert (counts_as_last(conditions, tape), counts_as_volume(conditions)) == (last, volume)


def test_letters_have_names() -> None:
    assert (EXCHANGES["V"], EXCHANGES["D"], EXCHANGES["N"]) == ("IEX", "FINRA", "NYSE")
    assert len(EXCHANGES) == 22
