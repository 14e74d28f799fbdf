"""Whatever is no frame of Hyperliquid is refused with a reason."""

from __future__ import annotations

import json

import pytest

from src.models.errors import WireError
from src.venues.hyperliquid.mapper import HyperliquidMapper
from tests.support.hyperliquid_messages import (
    USER,
    book,
    clearinghouse,
    decode,
    fill,
    frame,
    open_orders,
    order,
    position,
    reason_of,
    rows_of,
    state,
    trade,
    web_data2,
)

# -- what is no frame ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "malformed_json"),
        (b"   ", "malformed_json"),
        (b"{", "malformed_json"),
        (b'{"channel":"pong"', "malformed_json"),
        (b'{"channel":"pong"}}', "malformed_json"),
        (b'{"channel":"pong"}{"channel":"pong"}', "malformed_json"),
        (b"\x00\x01\x02\xff binary", "malformed_json"),
        (b"\x1f\x8b\x08\x00", "malformed_json"),
        (b'{"channel":"error","data":"\xff\xfe"}', "malformed_json"),
        (b'{"channel":"error","data":"\xed\xa0\x80"}', "malformed_json"),
        (b'{"channel":"error","data":"\\ud800"}', "malformed_json"),
        ('{"channel":"error","data":"\ud800"}', "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b"NaN", "malformed_json"),
        (b"[]", "no_channel"),
        (b"null", "no_channel"),
        (b'""', "no_channel"),
        (b'"text"', "no_channel"),
        (b"5", "no_channel"),
        (b"true", "no_channel"),
        (b"{}", "no_channel"),
        (b'{"data":{}}', "no_channel"),
        (b'{"channel":null}', "no_channel"),
        (b'{"channel":5,"data":{}}', "no_channel"),
        (b'{"channel":["openOrders"]}', "no_channel"),
        (b'{"channel":"","data":{}}', "unknown_channel"),
        (b'{"channel":"OpenOrders","data":{}}', "unknown_channel"),
        (b'{"channel":"openOrders"}', "wrong_type"),
        (b'{"channel":"openOrders","data":null}', "wrong_type"),
        (b'{"channel":"openOrders","data":[]}', "wrong_type"),
        (b'{"channel":"error","data":{"text":"x"}}', "wrong_type"),
        (b'{"channel":"error"}', "wrong_type"),
        (b'{"channel":"subscriptionResponse","data":{}}', "wrong_type"),
        (b'{"channel":"subscriptionResponse","data":{"method":"subscribe","subscription":{}}}', "wrong_type"),
        (b'{"channel":"trades","data":{}}', "wrong_type"),
        (b"[" * 100_000, None),
        (b'{"channel":"openOrders","data":' + b"[" * 100_000, None),
        (b'{"channel":"webData2","data":{"user":"a","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}}", None),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, None),
    ],
)
def test_what_is_no_frame_is_refused_with_a_reason(raw, reason):
    found = reason_of(raw)
    assert found == reason if reason else found in {"malformed_json", "no_channel", "wrong_type"}


def test_a_frame_as_text_means_the_same_as_its_bytes():
    raw = open_orders(order(coin="BTC"))
    assert decode(raw.decode()).messages == decode(raw).messages


def test_deeply_nested_children_are_refused_and_not_a_crash():
    head, tail = json.dumps(order(7)).split('"children": []')
    raw = (head + '"children": [') * 3_000 + (head + '"children": []' + tail) + ("]" + tail) * 3_000
    assert reason_of(f'{{"channel":"openOrders","data":{{"user":"{USER}","orders":[{raw}]}}}}') == "malformed_json"


# -- numbers, names, times -----------------------------------------------------------------------------------------

BAD_NUMBERS = [
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "inf",
    "1e5",
    "1E-5",
    "9" * 400,
    "0." + "1" * 400,
    "1_000",
    " 1",
    "1 ",
    "1\n",
    "",
    ".",
    "-",
    ".5",
    "5.",
    "+1",
    "--1",
    "1,5",
    "0x10",
    "١٢",
    "1\u0000",
    "one",
]


@pytest.mark.parametrize("text", BAD_NUMBERS)
@pytest.mark.parametrize("field", ["limitPx", "sz", "origSz", "triggerPx"])
def test_an_order_with_a_number_that_is_none_is_refused(field, text):
    assert reason_of(open_orders(order(1), order(2, **{field: text}))) == "bad_number"
    assert reason_of(open_orders(order(1, children=[order(2, **{field: text})]))) == "bad_number"


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_other_decisive_numbers_that_are_none_are_refused(text):
    levels = [[{"px": "1.0", "sz": text}], []]
    for raw in (
        clearinghouse(state(position(szi=text))),
        clearinghouse(state(position(entryPx=text))),
        web_data2(clearinghouseState=state(position(szi=text))),
        book(levels=levels),
        book(levels=levels[::-1]),
        book(levels=[[{"px": text, "sz": "1"}], []]),
        frame("trades", [trade(px=text)]),
        frame("trades", [trade(), trade(sz=text)]),
        frame("userFills", {"user": USER, "fills": [fill(px=text)]}),
        frame("userFills", {"user": USER, "fills": [fill(startPosition=text)]}),
        frame("userFills", {"user": USER, "fills": [fill(fee=text)]}),
    ):
        assert reason_of(raw) == "bad_number"


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-0.0", "71", "0.00001", "3155203.7660619998", "-3695042.8999999999", "9" * 30]
)
def test_decimals_of_any_sane_length_are_kept_as_text(text):
    assert rows_of(decode(open_orders(order(1, sz=text))))[1].sz == text
    [snapshot] = decode(clearinghouse(state(position(entryPx=text)))).messages
    assert snapshot.positions["BTC"].entryPx == text


@pytest.mark.parametrize("value", [5, 1.5, True, [], {}])
def test_a_number_that_is_no_text_is_refused(value):
    assert reason_of(open_orders(order(sz=value))) == "wrong_type"
    assert reason_of(clearinghouse(state(position(szi=value)))) == "wrong_type"
    assert reason_of(frame("trades", [trade(px=value)])) == "wrong_type"


@pytest.mark.parametrize("value", ["5", 1.5, -1, 2**63, 2**64, 10**400, None, True])
def test_an_order_id_that_is_none_is_refused(value):
    assert reason_of(open_orders(order(oid=value))) == "wrong_type"


@pytest.mark.parametrize("raw_value", ["9" * 400, "9" * 5_000, "1e400", "-1", str(2**63)])
def test_integers_beyond_64_bits_are_refused(raw_value):
    for raw in (
        json.dumps({"channel": "trades", "data": [trade(tid=12345)]}).replace("12345", raw_value),
        json.dumps({"channel": "userFills", "data": {"user": USER, "fills": [fill(tid=54321)]}}).replace(
            "54321", raw_value
        ),
        book(levels=[[{"px": "1", "sz": "1", "n": 98765}], []]).decode().replace("98765", raw_value),
    ):
        assert reason_of(raw) == "wrong_type"


@pytest.mark.parametrize("value", [2**63, 2**64, 10**30, -1])
def test_integers_that_could_neither_be_packed_nor_stored_are_refused(value):
    for raw in (
        open_orders(order(parentOid=value)),
        open_orders(order(children=[order(2, parentOid=value)])),
        clearinghouse(state(position(maxLeverage=value))),
        clearinghouse(state(position(leverage={"type": "cross", "value": value}))),
        web_data2(clearinghouseState=state(position(maxLeverage=value)), openOrders=[]),
    ):
        assert reason_of(raw) == "wrong_type"


@pytest.mark.parametrize("time", [253_402_300_800_000, 2**62, 10**30, -1, "1791280999484", 1.5])
def test_times_that_are_no_date_are_refused(time):
    for raw in (
        open_orders(order(timestamp=time)),
        clearinghouse(state(time=time)),
        web_data2(serverTime=time, openOrders=[]),
        book(time=time),
        frame("trades", [trade(time=time)]),
        frame("userFills", {"user": USER, "fills": [fill(time=time)]}),
    ):
        assert reason_of(raw) == "wrong_type"


def test_the_last_date_is_a_date():
    assert rows_of(decode(open_orders(order(1, timestamp=253_402_300_799_999))))[1].timestamp == 253_402_300_799_999


@pytest.mark.parametrize("side", ["", "b", "buy", "AB", "A" * 1_000])
def test_a_side_that_is_none_is_refused(side):
    assert reason_of(open_orders(order(side=side))) == "bad_side"


@pytest.mark.parametrize("user", [USER.upper().replace("X", "x"), "0x" + "Aa" * 20, "0X" + "aA" * 20])
def test_addresses_are_lower_case_from_here_on(user):
    for raw in (
        open_orders(order(), user=user),
        clearinghouse(state(position()), user=user),
        web_data2(user=user, openOrders=[]),
        frame("userFills", {"user": user, "fills": [fill()]}),
    ):
        data = decode(raw)
        assert data.stream.subject == user.lower()
        assert {message.trader for message in data.messages} == {user.lower()}


@pytest.mark.parametrize(
    "user", ["", "0x", "aa" * 20, "0x" + "a" * 39, "0x" + "a" * 41, "0x" + "g" * 40, "0x" + "a" * 39 + "\n"]
)
def test_an_address_that_is_none_is_refused(user):
    assert reason_of(open_orders(user=user)) == "bad_address"
    assert reason_of(web_data2(user=user, openOrders=[])) == "bad_address"


@pytest.mark.parametrize("name", ["x" * 65, "BT\u0000C"])
def test_a_name_that_cannot_be_one_is_refused(name):
    for raw in (
        open_orders(order(coin=name)),
        open_orders(dex=name),
        clearinghouse(state(position(coin=name))),
        book(coin=name),
        frame("trades", [trade(coin=name)]),
        frame("trades", [trade(), trade(coin=name)]),
        frame("userFills", {"user": USER, "fills": [fill(coin=name)]}),
    ):
        assert reason_of(raw) == "bad_name"


def test_a_bad_position_is_refused_also_when_its_neighbours_are_known():
    mapper = HyperliquidMapper()
    mapper.decode(clearinghouse(state(position())), 1)
    for bad in ({"szi": "NaN"}, {"entryPx": "1e5"}, {"coin": "x" * 65}):
        for _ in range(2):
            with pytest.raises(WireError):
                mapper.decode(clearinghouse(state(position(), position(**bad))), 2)


def test_one_bad_order_refuses_the_whole_list_each_time():
    # A list without it would say that the order is closed.
    mapper = HyperliquidMapper()
    for _ in range(3):
        with pytest.raises(WireError):
            mapper.decode(open_orders(order(1), order(2, limitPx="NaN")), 1)
