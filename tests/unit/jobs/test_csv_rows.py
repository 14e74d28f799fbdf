"""What a book looks like as lines, and what file it goes into: the documented columns, exact text, nothing that runs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from src.jobs.order_books.csv_rows import (
    Layout,
    SideUpdate,
    cell,
    file_name,
    header,
    lines,
    parse_file_name,
    ticker_of,
    updates_of,
)
from src.jobs.order_books.exchange_days import WIB, day_at, day_of, iso_text, zone_of
from src.models.messages import Level
from tests.support.books import ASKS, BIDS, DAY_MS, T0, sided, told, whole

RECORDED = Path(__file__).resolve().parents[4] / "shared/data/stockbit/recorded"


def written(layout, book, last=None):
    zone = zone_of(book.venue, book.symbol)
    return lines(layout, book, updates_of(book, last, zone), zone).decode()


class TestSimple:
    def test_the_documented_example(self):
        assert header(Layout.SIMPLE) == b"timestamp,price,lots,total_value,side\n"
        bids = sided(bids_told=told(), asks=())
        assert written(Layout.SIMPLE, bids).splitlines()[:2] == [
            "2026-02-04T11:05:42.178723+07:00,7725,412,1840500,BID",
            "2026-02-04T11:05:42.178723+07:00,7700,655,3020000,BID",
        ]
        offers = sided(bids_told=told(), asks_told=told(T0 + 12, "2026-02-04T11:05:42.190114+07:00"))
        assert written(Layout.SIMPLE, offers, bids).splitlines()[0] == (
            "2026-02-04T11:05:42.190114+07:00,7750,388,2211100,OFFER"
        )

    def test_the_recorded_rows(self):
        if not RECORDED.is_dir():
            pytest.skip(f"no recorded data in {RECORDED}")
        rows = list(csv.DictReader((RECORDED / "orderbook_rows_20260204.csv").read_text().splitlines()))
        for side in ("BID", "OFFER"):
            of_side = [row for row in rows if row["side"] == side]
            update = SideUpdate(
                side,
                [Level(row["price"], row["shares"], int(row["orders"])) for row in of_side],
                of_side[0]["timestamp"],
            )
            book = sided(of_side[0]["ticker"], bids_told=told())
            expected = [
                f"{row['timestamp']},{row['price']},{row['orders']},{row['shares']},{row['side']}" for row in of_side
            ]
            assert lines(Layout.SIMPLE, book, [update], WIB).decode().splitlines() == expected

    def test_the_recorded_bodies(self):
        if not RECORDED.is_dir():
            pytest.skip(f"no recorded data in {RECORDED}")
        for line in (RECORDED / "orderbook_bodies.jsonl").read_text().splitlines():
            _, _, side, *parts = json.loads(line)["body"].split("|")
            found = [part.split(";") for part in parts if ";" in part]
            update = SideUpdate(side, [Level(px, shares, int(orders)) for px, orders, shares in found], "t")
            text = lines(Layout.SIMPLE, sided(), [update], WIB).decode()
            assert text.splitlines() == [f"t,{px},{orders},{shares},{side}" for px, orders, shares in found]

    def test_a_side_is_written_when_it_was_told_and_only_then(self):
        first = sided(bids_told=told(), asks_told=told(seq=2))
        assert written(Layout.SIMPLE, first).count("\n") == 5
        later = sided(bids_told=told(), asks_told=told(T0 + 5, "later", 3))
        after = written(Layout.SIMPLE, later, first)
        assert after.splitlines() == ["later,7750,388,2211100,OFFER", "later,7775,324,2103400,OFFER"]
        assert written(Layout.SIMPLE, later, later) == ""

    def test_a_side_told_once_more_after_a_new_connection_is_not_written_again(self):
        first = sided(bids_told=told(), asks_told=told(seq=2))
        again = structs.replace(told(), received_ms=T0 + 90_000)
        news = told(T0 + 5, "later", 3)
        assert {
            row.split(",")[4]
            for row in written(Layout.SIMPLE, sided(bids_told=again, asks_told=news), first).splitlines()
        } == {"OFFER"}
        changed = sided(bids_told=again, asks_told=told(seq=2), bids=BIDS[:1])
        assert written(Layout.SIMPLE, changed, first).count("\n") == 1, "other levels are never left out"

    def test_a_book_whose_sides_come_together_is_written_whole_in_the_exchange_time(self):
        text = written(Layout.SIMPLE, whole())
        assert text.splitlines()[0] == "2026-02-04T04:05:42.178+00:00,7725,412,1840500,BID"
        assert text.splitlines()[-1] == "2026-02-04T04:05:42.178+00:00,7775,324,2103400,OFFER"

    def test_an_unknown_number_of_orders_stays_empty(self):
        book = whole(bids=(Level("1.5", "0.25"),), asks=())
        assert written(Layout.SIMPLE, book).splitlines()[0].split(",")[1:] == ["1.5", "", "0.25", "BID"]


class TestFull:
    def test_all_columns(self):
        assert header(Layout.FULL).decode().strip() == (
            "recv_time,event_time,ticker,board,side,level,price,orders,shares,lots,seq"
        )
        book = sided(board="NG", bids_told=told(seq=184467), asks=())
        assert written(Layout.FULL, book).splitlines()[1] == (
            "2026-02-04T11:05:42.179+07:00,2026-02-04T11:05:42.178723+07:00,BBCA,NG,BID,2,7700,655,3020000,30200,184467"
        )

    def test_an_empty_side_is_a_line_of_level_0(self):
        book = sided(bids_told=told(), asks_told=told(T0, "t", 7), asks=())
        assert written(Layout.FULL, book).splitlines()[-1].split(",")[2:] == [
            "BBCA", "RG", "OFFER", "0", "", "", "", "", "7",
        ]  # fmt: skip

    def test_lots_are_exact_and_only_where_lots_have_one_size(self):
        odd = sided(
            bids=(Level("50", "150", 1), Level("49", "10000", 1), Level("48", "x", 1)), bids_told=told(), asks=()
        )
        assert [line.split(",")[9] for line in written(Layout.FULL, odd).splitlines()] == ["1.5", "100", ""]
        assert {line.split(",")[9] for line in written(Layout.FULL, whole()).splitlines()} == {""}

    def test_a_ticker_that_a_spreadsheet_would_run_is_text(self):
        assert written(Layout.FULL, whole("@107")).splitlines()[0].split(",")[2] == "'@107"


@pytest.mark.parametrize(
    "value", ["7725", "0.5", "-5", "+3", "1e5", "", "BBCA", "2026-02-04T11:05:42+07:00", "US.AAPL"]
)
def test_harmless_text_stays_as_it_is(value):
    assert cell(value) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+cmd|' /C calc'!A0", "'-2+cmd|' /C calc'!A0"),
        ('=HYPERLINK("x")', '"\'=HYPERLINK(""x"")"'),
        ("\t=1", "'\t=1"),
        ("a,b", '"a,b"'),
        ('say "x"', '"say ""x"""'),
        ("two\nlines", '"two\nlines"'),
        ("-NaN", "'-NaN"),
        ("+Infinity", "'+Infinity"),
        ("\t0", "'\t0"),
        ("-1_0", "'-1_0"),
        ("-1.5e-7", "-1.5e-7"),
    ],
)
def test_text_that_could_run_or_break_a_line_is_disarmed(value, shown):
    assert cell(value) == shown


@given(
    st.text(max_size=30),
    st.text(max_size=30),
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4),
)
def test_whatever_a_venue_writes_every_line_has_its_columns_and_no_formula(time, seq_text, rows):
    made = [Level(px, sz, index) for index, (px, sz) in enumerate(rows)]
    for layout in Layout:
        update = SideUpdate("BID", made, time)
        text = lines(layout, whole(seq_text or "X"), [update], UTC).decode()
        found = list(csv.reader(io.StringIO(text, newline="")))
        expected = max(len(rows), 1) if layout is Layout.FULL else len(rows)
        assert len(found) == expected
        for line in found:
            assert len(line) == len(header(layout).split(b","))
            for value in line:
                assert not value.startswith(("=", "@", "\t", "\r")), value


class TestNames:
    @pytest.mark.parametrize(
        ("symbol", "name"),
        [
            ("BBCA", "2026-02-04_BBCA.csv"),
            ("@107", "2026-02-04_@107.csv"),
            ("US.AAPL", "2026-02-04_US.AAPL.csv"),
            ("PURR/USDC", "2026-02-04_PURR%2FUSDC.csv"),
            ("xyz:TSLA", "2026-02-04_xyz%3ATSLA.csv"),
            ("../../etc/passwd", "2026-02-04_..%2F..%2Fetc%2Fpasswd.csv"),
            ("a\\b\0c", "2026-02-04_a%5Cb%00c.csv"),
        ],
    )
    def test_any_symbol_is_safe_in_a_file_name(self, symbol, name):
        assert file_name(date(2026, 2, 4), symbol) == name
        assert parse_file_name(name) == (date(2026, 2, 4), symbol)

    @given(st.text(min_size=1, max_size=200))
    def test_names_are_short_plain_and_told_apart(self, symbol):
        name = file_name(date(2026, 2, 4), symbol)
        assert Path(name).name == name
        assert name.isascii()
        assert len(name) < 220
        other = symbol + "x"
        assert file_name(date(2026, 2, 4), other) != name

    @pytest.mark.parametrize(
        "name", ["notes.csv", "2026-13-01_X.csv", "2026-02-04_X.csv.zst", "2026-02-04.csv", ".lock"]
    )
    def test_other_files_are_none_of_ours(self, name):
        assert parse_file_name(name) is None


class TestDays:
    def test_the_day_of_jakarta_ends_at_17_utc(self):
        day = day_at(T0, WIB)
        assert day.date == date(2026, 2, 4)
        assert (iso_text(day.begin_ms, UTC), iso_text(day.end_ms, UTC)) == (
            "2026-02-03T17:00:00.000+00:00", "2026-02-04T17:00:00.000+00:00",
        )  # fmt: skip
        assert day_at(day.end_ms, WIB).date == date(2026, 2, 5)
        assert day_at(day.end_ms - 1, WIB) == day

    def test_each_exchange_has_its_own_midnight(self):
        at = day_of(date(2026, 2, 4), UTC).begin_ms + 16 * 3_600_000 + 1
        days = {
            (venue, symbol): day_at(at, zone_of(venue, symbol)).date.day
            for venue, symbol in [
                ("stockbit", "BBCA"), ("hyperliquid", "BTC"), ("futu", "HK.00700"), ("futu", "US.AAPL"), ("alpaca", "SPY"),
            ]
        }  # fmt: skip
        assert list(days.values()) == [4, 4, 5, 4, 4]

    def test_days_on_which_clocks_change_have_their_length(self):
        zone = zone_of("alpaca", "AAPL")
        lengths = [(day := day_of(date(2026, 3, number), zone)).end_ms - day.begin_ms for number in (7, 8)]
        assert lengths == [DAY_MS, DAY_MS - 3_600_000]


def test_the_ticker_is_what_is_traded_on_whichever_board():
    assert ticker_of(sided(board="TN")) == "BBCA"
    assert ticker_of(sided()) == "BBCA"
    assert ticker_of(whole("TN.X")) == "TN.X"
    assert BIDS[0].px == "7725"
    assert ASKS[0].px == "7750"
