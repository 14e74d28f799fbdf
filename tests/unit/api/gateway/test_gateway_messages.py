"""What clients are told, byte for byte where it matters."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.api.gateway.commands import Command, CommandError, parse_command
from src.api.gateway.frames import Frame, joined
from src.api.gateway.messages import book_data, book_update, event_message, number, trade_message
from src.models.changes import OrderChange, TradeCancelledSeen, TradeCorrectedSeen
from src.models.messages import Book, Level, Trade, TradeCancelled, TradeCorrected
from src.models.orders import Order

decimals = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9)


@given(decimals)
def test_numbers_keep_the_digits_of_the_venue(value):
    text = format(value, "f")
    assert number(text) == text
    assert json.loads(number(text)) == float(text)


@pytest.mark.parametrize(
    ("text", "told"), [("1e5", 100000.0), (".5", 0.5), ("007", 7.0), ("", None), ("NaN", None), ("nonsense", None)]
)
def test_other_texts_become_numbers_or_null(text, told):
    assert json.loads(number(text)) == told


@given(
    st.lists(st.tuples(decimals, decimals, st.none() | st.integers(0, 99)), max_size=5),
    st.text(min_size=1, max_size=12),
)
def test_books_are_json_whatever_the_symbol_is_called(levels, symbol):
    side = tuple(Level(format(px, "f"), format(sz, "f"), n) for px, sz, n in levels)
    book = Book("toy", symbol, 1_700_000_000_123, 0, side, side)
    said = json.loads(book_update(symbol, "toy", book_data(book)))
    assert said["symbol"] == symbol
    assert [level["price"] for level in said["data"]["bids"]] == [float(px) for px, _, _ in levels]
    assert [level.get("orders") for level in said["data"]["asks"]] == [n for _, _, n in levels]
    assert said["data"]["timestamp"] == "2023-11-14T22:13:20.123Z"


def test_an_empty_book_is_a_book():
    assert json.loads(book_data(Book("toy", "A", 0, 0, (), ()))) == {
        "bids": [],
        "asks": [],
        "timestamp": "1970-01-01T00:00:00.000Z",
    }


def test_a_stock_trade_tells_exchange_conditions_and_nanoseconds():
    trade = Trade("alpaca", "AAPL", "9", "230.15", "100", None, 1, 1, exchange="V", conditions=("@",), tape="C")
    data = json.loads(trade_message("AAPL", trade))["data"]
    assert (data["price"], data["size"], data["exchange"], data["conditions"]) == (230.15, 100, "V", ["@"])
    assert (data["tape"], "side" in data) == ("C", False)


def test_corrections_and_cancels_have_types_of_their_own():
    new = Trade("alpaca", "AAPL", "10", "2", "5", None, 1, 1)
    corrected = TradeCorrectedSeen(TradeCorrected("alpaca", "AAPL", "9", "1", "5", new, 2, 2))
    said = json.loads(event_message("US.AAPL", corrected))
    assert (said["type"], said["symbol"], said["original"]["id"], said["data"]["id"]) == (
        "correction",
        "US.AAPL",
        "9",
        "10",
    )
    cancelled = TradeCancelledSeen(TradeCancelled("alpaca", "AAPL", "9", "1", "5", 2, 2))
    said = json.loads(event_message("AAPL", cancelled))
    assert (said["type"], said["data"]["id"]) == ("cancel", "9")


def test_an_order_event():
    order = Order(oid=5, coin="BTC", side="B", limitPx="70000.0", sz="0.1")
    change = OrderChange("toy", "0xab", "", "new", order, 1, {}, 1, 2)
    said = json.loads(event_message("0xAB", change))
    assert (said["type"], said["symbol"], said["data"]["oid"], said["data"]["action"]) == ("order", "0xAB", 5, "new")
    assert said["data"]["receivedAt"] == "1970-01-01T00:00:00.002Z"


@given(st.binary(max_size=70_000))
def test_compressed_frames_read_back(payload):
    frame = Frame(payload)
    assert unframed(frame.wire) == (0x81, payload)
    first, data = unframed(frame.compressed)
    if first == 0xC1:
        data = zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")
    assert data == payload


def unframed(wire):
    size, at = wire[1], 2
    if size == 126:
        size, at = int.from_bytes(wire[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(wire[2:10], "big"), 10
    assert len(wire) == at + size
    return wire[0], wire[at:]


def test_joined_frames_are_an_array():
    assert json.loads(joined([Frame(b'{"a":1}'), Frame(b'{"b":2}')]).payload) == [{"a": 1}, {"b": 2}]


@given(st.text() | st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_said_is_a_command_or_an_error_with_a_code(raw):
    found = outcome(raw)
    if isinstance(found, CommandError):
        assert found.code in {"bad_json", "bad_request", "bad_symbol", "unknown_action"}
        assert len(str(found)) < 400
    else:
        assert isinstance(found, Command)


def outcome(raw):
    try:
        return parse_command(raw)
    except CommandError as wrong:
        return wrong


def test_symbols_may_stand_in_several_fields():
    command = parse_command('{"action":"subscribe","symbol":"A","symbols":["B","A"],"topics":["trades","orderbook"]}')
    assert command == Command("subscribe", ("A", "B"), ("trade", "book"))
