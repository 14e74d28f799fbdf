"""What Alpaca's frames mean, on the vendor's own samples and on composed ones, in both encodings."""

from __future__ import annotations

import math

import msgspec
import pytest

from src.models.errors import WireError
from src.models.messages import (
    AckList,
    Bar,
    Data,
    Ignored,
    LoggedIn,
    LoginRefused,
    Quote,
    Refusal,
    RefusalKind,
    Several,
    Trade,
    TradeCancelled,
    TradeCorrected,
    TradingStatus,
    Unusable,
    Welcome,
)
from src.models.streams import StreamKey
from src.venues.alpaca.mapper import AlpacaMapper, decimal
from src.venues.alpaca.wire import TradesPage
from tests.support.alpaca_frames import (
    CANCEL,
    CORRECTION,
    QUOTE,
    RECEIVED_MS,
    TRADE,
    decoded,
    frame,
    only,
    recorded_pages,
    recorded_stream,
)

BOTH = pytest.mark.parametrize("encoding", ["json", "msgpack"])
PRINTED_TRADE = bytes.fromhex(
    "9189a154a174a153a44141504ca169cd0274a178a14ba170cb40645d70a3d70a3da17303a16394a140a146a154a149a174d7ffc7d9a284642eb2f2a17aa143"
)
CONNECTED = bytes.fromhex("9182a154a773756363657373a36d7367a9636f6e6e6563746564")


def key(symbol: str, channel: str = "trades") -> StreamKey:
    return StreamKey("alpaca", channel, symbol)


@BOTH
def test_a_trade(encoding: str) -> None:
    data = decoded(TRADE, encoding=encoding)
    assert isinstance(data, Data)
    assert (data.stream, data.venue_ms, data.received_ms) == (key("AAPL"), 1_765_553_445_123, RECEIVED_MS)
    assert data.messages == (
        Trade(
            "alpaca",
            "AAPL",
            "2025-12-12-V-1001",
            "230.15",
            "100",
            None,
            1_765_553_445_123,
            RECEIVED_MS,
            exchange="V",
            conditions=("@",),
            exchange_name="IEX",
            tape="C",
            ts_ns=1_765_553_445_123_456_789,
        ),
    )


def test_the_printed_bytes_of_a_trade_and_of_the_greeting() -> None:
    mapper = AlpacaMapper()
    assert mapper.decode(CONNECTED, RECEIVED_MS) == Welcome()
    (trade,) = mapper.decode(PRINTED_TRADE, RECEIVED_MS).messages
    assert (trade.price, trade.ts_ns, trade.exchange_name) == ("162.92", 1_680_782_066_838_232_225, "Cboe EDGX")


def test_text_frames_are_read_as_json_whatever_was_chosen() -> None:
    assert AlpacaMapper().decode('[{"T":"success","msg":"connected"}]', RECEIVED_MS) == Welcome()


@BOTH
def test_several_stocks_in_one_array_are_several_streams_in_order(encoding: str) -> None:
    other = TRADE | {"S": "TSLA", "i": 5}
    said = decoded(TRADE, other, TRADE | {"i": 1002}, QUOTE, encoding=encoding)
    assert isinstance(said, Several)
    assert [(part.stream, len(part.messages)) for part in said.parts] == [
        (key("AAPL"), 2),
        (key("TSLA"), 1),
        (key("AAPL", "quotes"), 1),
    ]
    assert [trade.trade_id for trade in said.parts[0].messages] == ["2025-12-12-V-1001", "2025-12-12-V-1002"]
    assert sum(part.size_bytes for part in said.parts) == len(
        frame(TRADE, other, TRADE | {"i": 1002}, QUOTE, encoding=encoding)
    )


@BOTH
def test_a_correction_and_a_cancel_name_the_trade_as_it_was_stored(encoding: str) -> None:
    trade = only(TRADE, encoding=encoding)
    correction = only(CORRECTION, encoding=encoding)
    cancel = only(CANCEL, encoding=encoding)
    assert isinstance(correction, TradeCorrected)
    assert isinstance(cancel, TradeCancelled)
    assert correction.original_id == cancel.trade_id == trade.trade_id
    assert (correction.original_price, correction.original_size) == ("230.15", "100")
    assert (correction.trade.trade_id, correction.trade.price, correction.trade.size) == (
        "2025-12-12-V-1002",
        "230.25",
        "90",
    )
    assert correction.trade.conditions == ("@", "I")
    assert (cancel.action, cancel.exchange_name, cancel.time_ms) == ("C", "IEX", 1_765_553_462_004)


def test_what_happens_to_a_trade_comes_after_it_in_the_same_stream() -> None:
    data = decoded(TRADE, CORRECTION, CANCEL)
    assert [type(message).__name__ for message in data.messages] == ["Trade", "TradeCorrected", "TradeCancelled"]
    assert data.venue_ms == 1_765_553_462_004


def test_the_day_of_a_trade_id_is_new_yorks() -> None:
    evening = TRADE | {"t": "2025-12-13T00:30:00Z"}  # 19:30 in New York
    assert only(evening).trade_id == "2025-12-12-V-1001"
    assert only(TRADE | {"t": "2025-07-01T23:59:00Z"}).trade_id == "2025-07-01-V-1001"


@BOTH
def test_a_quote_with_one_side_and_its_unit(encoding: str) -> None:
    quote = only(QUOTE | {"ax": " ", "ap": 0, "as": 0}, encoding=encoding)
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == ("230.14", "3", "0", "0")
    assert (quote.bid_exchange, quote.ask_exchange, quote.size_unit) == ("Q", None, None)
    assert only(QUOTE | {"t": "2023-04-06T11:54:21.67Z"}).size_unit == "round_lots"


@pytest.mark.parametrize(
    ("kind", "channel", "interval"), [("b", "bars", "1m"), ("u", "updatedBars", "1m"), ("d", "dailyBars", "1d")]
)
def test_bars(kind: str, channel: str, interval: str) -> None:
    bar = {"T": kind, "S": "SPY", "o": 388.985, "h": 389.13, "l": 388.975, "c": 389.12, "v": 49378, "n": 461,
           "vw": 389.062639, "t": "2021-02-22T19:15:00Z"}  # fmt: skip
    data = decoded(bar)
    assert data.stream == key("SPY", channel)
    assert data.messages == (
        Bar("alpaca", "SPY", interval, "388.985", "389.13", "388.975", "389.12", "49378", 1_614_021_300_000,
            RECEIVED_MS, vwap="389.062639", count=461, updated=kind == "u"),
    )  # fmt: skip


def test_a_status() -> None:
    halt = {
        "T": "s",
        "S": "AAPL",
        "sc": "H",
        "sm": "Trading Halt",
        "rc": "T12",
        "rm": "Info",
        "t": TRADE["t"],
        "z": "C",
    }
    status = only(halt)
    assert isinstance(status, TradingStatus)
    assert (status.code, status.text, status.reason, status.reason_text) == ("H", "Trading Halt", "T12", "Info")


# -- control -----------------------------------------------------------------------------------------------------------


def test_the_acknowledgement_is_the_whole_set_and_absent_lists_are_empty() -> None:
    said = decoded({"T": "subscription", "trades": ["AAPL"], "quotes": [], "bars": ["SPY"], "corrections": ["AAPL"]})
    assert said == AckList(frozenset({key("AAPL"), key("SPY", "bars")}))


def test_with_a_star_data_belongs_to_it_unless_the_stock_is_named_too() -> None:
    mapper = AlpacaMapper()
    decoded(TRADE, mapper=mapper)
    decoded({"T": "subscription", "trades": ["*", "AAPL"]}, mapper=mapper)
    said = decoded(TRADE, TRADE | {"S": "TSLA"}, TRADE | {"S": "AMD"}, QUOTE, mapper=mapper)
    assert {(part.stream, len(part.messages)) for part in said.parts} == {
        (key("AAPL"), 1),
        (key("*"), 2),
        (key("AAPL", "quotes"), 1),
    }
    decoded({"T": "subscription", "trades": ["AAPL"]}, mapper=mapper)
    assert decoded(TRADE | {"S": "TSLA"}, mapper=mapper).stream == key("TSLA")


@pytest.mark.parametrize(
    ("code", "kind", "has_remedy"),
    [
        (401, "retry", False),
        (402, "fatal", True),
        (404, "retry", False),
        (406, "slow", True),
        (407, "retry", False),
        (409, "fatal", True),
        (411, "fatal", True),
        (412, "fatal", True),
        (500, "retry", False),
    ],
)
def test_errors_that_end_the_session(code: int, kind: str, has_remedy: bool) -> None:
    said = decoded({"T": "error", "code": code, "msg": "words"})
    assert isinstance(said, LoginRefused)
    assert (said.kind, bool(said.remedy), said.text) == (kind, has_remedy, f"{code} words")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, RefusalKind.INVALID),
        (405, RefusalKind.SUBSCRIPTION_CAP),
        (408, RefusalKind.OTHER),
        (410, RefusalKind.UNKNOWN_TYPE),
        (413, RefusalKind.INVALID),
        (499, RefusalKind.OTHER),
    ],
)
def test_errors_about_what_we_said(code: int, kind: RefusalKind) -> None:
    said = decoded({"T": "error", "code": code, "msg": "words"})
    assert isinstance(said, Refusal)
    assert said.kind is kind


def test_being_told_that_we_are_in_already_is_being_in() -> None:
    assert decoded({"T": "error", "code": 403, "msg": "already authenticated"}) == LoggedIn()
    assert decoded({"T": "success", "msg": "authenticated"}) == LoggedIn()
    assert decoded({"T": "success", "msg": "something new"}) == Ignored("success")


# -- what is not as promised ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "broken",
    [
        {"p": None},
        {"p": "230"},
        {"S": ""},
        {"S": 5},
        {"i": 1.5},
        {"p": -1.0},
        {"s": -5},
        {"c": "@"},
    ],
)
def test_a_broken_element_costs_only_itself(encoding: str, broken: dict) -> None:
    said = decoded(TRADE, TRADE | broken, TRADE | {"i": 7}, encoding=encoding)
    assert isinstance(said, Several)
    bad, good = (part for part in said.parts)
    assert isinstance(bad, Unusable)
    assert bad.sample
    assert [trade.trade_id for trade in good.messages] == ["2025-12-12-V-1001", "2025-12-12-V-7"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_no_price(value: float) -> None:
    raw = msgspec.msgpack.encode([TRADE | {"p": value}])
    assert isinstance(AlpacaMapper().decode(raw, RECEIVED_MS), Unusable)


@pytest.mark.parametrize(
    "when", ["", "yesterday", "2025-12-12T15:30:45", "2025-12-12T15:30:45.1234567891Z", "2025-13-12T15:30:45Z", "1969-01-01T00:00:00Z",
             "2025-12-12T15:30:45.12x4Z", "9999-12-31T23:59:59Z"],
)  # fmt: skip
def test_a_time_that_is_none(when: str) -> None:
    raw = msgspec.json.encode([TRADE | {"t": when}])
    assert isinstance(AlpacaMapper().decode(raw, RECEIVED_MS), Unusable)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("l", "lulds"), ("i", "imbalances"), ("n", "news"), ("o", "crypto_books"), ("zz", "unknown_type")],
)
def test_types_that_are_not_kept_are_ignored_beside_those_that_are(kind: str, reason: str) -> None:
    said = decoded({"T": kind, "S": "AAPL", "new": {"deep": [1]}}, TRADE)
    assert said.parts[0] == Ignored(reason)
    assert len(said.parts[1].messages) == 1


def test_unknown_keys_and_missing_or_null_conditions() -> None:
    assert only(TRADE | {"news": [1, {"a": None}]}).trade_id == "2025-12-12-V-1001"
    assert only(TRADE | {"c": None}).conditions is None
    assert only({name: value for name, value in TRADE.items() if name not in ("c", "z")}).tape is None


def test_unknown_exchanges_are_data() -> None:
    trade = only(TRADE | {"x": "q"})
    assert (trade.exchange, trade.exchange_name, trade.trade_id) == ("q", None, "2025-12-12-q-1001")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[", "malformed_json"),
        (b"{}", "not_an_array"),
        (b'{"T":"success","msg":"connected"}', "not_an_array"),
        (b"[]", "empty_array"),
        (b"\x90", "empty_array"),
        (b"[1]x", "malformed_json"),
        (b"", "malformed_msgpack"),
        (b"\x91", "malformed_msgpack"),
        (b"\xc1", "malformed_msgpack"),
        (b"\x05", "not_an_array"),
    ],
)
def test_frames_that_are_no_array(raw: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        AlpacaMapper().decode(raw, RECEIVED_MS)
    assert caught.value.reason == reason


def test_elements_that_are_no_objects() -> None:
    assert isinstance(AlpacaMapper().decode(b"[7]", RECEIVED_MS), Unusable)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0, "0"), (100, "100"), (162.92, "162.92"), (140.0, "140"), (1e-7, "0.0000001"), (2.5e17, "250000000000000000"),
     (0.1 + 0.2, "0.30000000000000004")],
)  # fmt: skip
def test_decimals_have_the_fewest_digits_and_no_exponent(value: float, text: str) -> None:
    assert decimal(value) == text
    assert float(text) == value


# -- the vendor's samples ------------------------------------------------------------------------------------------


@BOTH
def test_every_printed_message_is_understood(encoding: str) -> None:
    seen: dict[str, int] = {}
    for row in recorded_stream():
        if row["dir"] == "out":
            continue
        said = decoded(*row["frame"], encoding=encoding)
        for part in said.parts if isinstance(said, Several) else (said,):
            assert not isinstance(part, Unusable), row
            name = part.reason if isinstance(part, Ignored) else type(part).__name__
            seen[name] = seen.get(name, 0) + 1
            if isinstance(part, Data):
                for message in part.messages:
                    seen[type(message).__name__] = seen.get(type(message).__name__, 0) + 1
    assert seen == {
        "Welcome": 2, "LoggedIn": 2, "AckList": 2, "Data": 11, "Trade": 4, "Quote": 5, "Bar": 2, "TradeCorrected": 1,
        "TradeCancelled": 1, "lulds": 1, "imbalances": 1,
    }  # fmt: skip


def test_every_recorded_row_of_the_history_is_a_trade_and_amended_ones_are_marked() -> None:
    mapper = AlpacaMapper()
    updates: list[str | None] = []
    for page in recorded_pages():
        decoded_page = msgspec.json.decode(msgspec.json.encode(page), type=TradesPage)
        for symbol, rows in (decoded_page.trades or {}).items():
            trades = [mapper.historical(symbol, row, RECEIVED_MS) for row in rows]
            assert len({trade.trade_id for trade in trades}) == len(rows)
            assert {trade.symbol for trade in trades} == {symbol}
            updates += [trade.update for trade in trades]
    assert updates.count("cancelled") == 2
    assert len(updates) > 8


def test_a_row_of_the_history_is_the_same_trade_as_on_the_stream() -> None:
    row = msgspec.convert({name: value for name, value in TRADE.items() if name not in "TS"}, type=_row_type())
    assert AlpacaMapper().historical("AAPL", row, RECEIVED_MS) == only(TRADE)
    row.p = math.nan
    with pytest.raises(WireError):
        AlpacaMapper().historical("AAPL", row, RECEIVED_MS)


@pytest.mark.parametrize(
    ("state", "update"),
    [("canceled", "cancelled"), ("incorrect", "corrected"), ("corrected", None), ("new word", None)],
)
def test_states_of_the_history(state: str, update: str | None) -> None:
    fields = {name: value for name, value in TRADE.items() if name not in "TS"}
    row = msgspec.convert(fields | {"u": state}, type=_row_type())
    assert AlpacaMapper().historical("AAPL", row, RECEIVED_MS).update == update


def _row_type() -> type:
    from src.venues.alpaca.wire import HistoricalTrade

    return HistoricalTrade
