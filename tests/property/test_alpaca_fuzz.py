"""Whatever arrives, in either encoding, is understood, ignored, put aside or refused; nothing else happens."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.models.errors import WireError
from src.models.messages import Data, Several, Trade, Unusable
from src.venues.alpaca.mapper import AlpacaMapper
from tests.support.alpaca_frames import CANCEL, CORRECTION, QUOTE, RECEIVED_MS, TRADE, frame

STATUS = {"T": "s", "S": "AAPL", "sc": "H", "sm": "Halt", "rc": "T1", "rm": "News", "t": TRADE["t"], "z": "C"}
BAR = {"T": "b", "S": "SPY", "o": 1.5, "h": 2.0, "l": 1.0, "c": 1.5, "v": 7, "n": 3, "vw": 1.4, "t": TRADE["t"]}
CONTROL = [
    {"T": "success", "msg": "connected"},
    {"T": "error", "code": 405, "msg": "symbol limit exceeded"},
    {"T": "subscription", "trades": ["AAPL", "*"], "quotes": [], "bars": ["SPY"]},
]
SAMPLES = [TRADE, QUOTE, CORRECTION, CANCEL, STATUS, BAR, *CONTROL]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELD = st.sampled_from(sorted({name for sample in SAMPLES for name in sample}))


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, Any]:
    """A message with some fields taken away, replaced or added."""
    message = dict(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(FIELD)
        if draw(st.booleans()):
            message.pop(name, None)
        else:
            message[name] = draw(JSON)
    return message


def check(raw: bytes) -> None:
    mapper = AlpacaMapper()
    try:
        said = mapper.decode(raw, RECEIVED_MS)
    except WireError as error:
        reason = error.reason
        said = None
    if said is None:
        assert reason in {"malformed_json", "malformed_msgpack", "not_an_array", "empty_array"}
        return
    for part in said.parts if isinstance(said, Several) else (said,):
        assert not isinstance(part, Several)
        if isinstance(part, Unusable):
            assert part.reason in {"bad_value", "unexpected_shape"}
            assert len(part.sample) <= 512
        if isinstance(part, Data):
            assert part.messages
            assert part.stream.venue == "alpaca"
            for message in part.messages:
                assert message.symbol
                assert 0 <= message.time_ms < 2**63
                msgspec.json.encode(message)
                if isinstance(message, Trade):
                    assert float(message.price) >= 0
                    assert float(message.size) >= 0
                    assert "e" not in message.price
                    assert message.ts_ns is not None
                    assert message.ts_ns // 1_000_000 == message.time_ms


@settings(max_examples=400, deadline=None)
@given(st.lists(mangled(), max_size=4))
def test_mangled_messages_in_both_encodings(messages: list[dict[str, Any]]) -> None:
    check(msgspec.json.encode(messages))
    check(msgspec.msgpack.encode(messages))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"[[[[")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"[" * 5000)
@example(b"\x91" * 5000)
@example(b'[{"T":"t"}]')
def test_any_bytes(raw: bytes) -> None:
    check(raw)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["json", "msgpack"]), st.integers(0, 400), st.binary(min_size=1, max_size=4), st.data())
def test_good_frames_with_bytes_changed_or_cut(encoding: str, at: int, by: bytes, data: st.DataObject) -> None:
    raw = bytearray(frame(TRADE, QUOTE, CORRECTION, CANCEL, encoding=encoding))
    place = at % len(raw)
    if data.draw(st.booleans()):
        raw[place : place + len(by)] = by
    else:
        del raw[place:]
    check(bytes(raw))


@settings(max_examples=200, deadline=None)
@given(st.lists(mangled(), min_size=1, max_size=3))
def test_a_good_trade_survives_whatever_stands_beside_it(messages: list[dict[str, Any]]) -> None:
    good = TRADE | {"S": "GOOD", "i": 4711}
    said = AlpacaMapper().decode(frame(*messages[:0], good), RECEIVED_MS)
    beside = [message for message in messages if message.get("T") != "subscription"]
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        mixed = AlpacaMapper().decode(encode([*beside, good]), RECEIVED_MS)
        parts = mixed.parts if isinstance(mixed, Several) else (mixed,)
        found = [
            message
            for part in parts
            if isinstance(part, Data)
            for message in part.messages
            if isinstance(message, Trade) and message.trade_id.endswith("-4711") and message.symbol == "GOOD"
        ]
        assert found == list(said.messages)
