"""The example frames, and everything that was recorded of the real venue."""

import json

import pytest

from src.models.errors import WireError
from src.models.messages import Data, Level, LoginRefused, Pong
from src.venues.stockbit.body import parse_body, write_body
from src.venues.stockbit.mapper import StockbitMapper
from src.venues.stockbit.stockbit_pb2 import Frame, Request
from src.venues.stockbit.wire import NestedCodec
from tests.support import stockbit_frames as samples
from tests.support.stockbit_frames import CREDENTIALS, START_MS

TICKERS = ["BBCA", "TLKM"]
FOUR_CHANNELS = dict.fromkeys(("order_book", "liveprice", "iepiev", "best_bid_offer"), TICKERS)


class TestToTheVenue:
    def test_subscribing_two_tickers_on_four_channels(self):
        frame = NestedCodec().subscribe_frame(CREDENTIALS, FOUR_CHANNELS)
        assert frame == samples.SUBSCRIBE
        assert len(frame) == 104

    def test_the_log_in_frame_has_no_channel_and_the_clearing_one_an_empty_channel(self):
        auth = Request.FromString(NestedCodec().auth_frame(CREDENTIALS))
        assert not auth.HasField("channel")
        assert (auth.user_id, auth.key) == ("1234567", "a2V5LWV4YW1wbGU=")
        cleared = NestedCodec().subscribe_frame(CREDENTIALS, {})
        assert Request.FromString(cleared).HasField("channel")
        assert b"\x12\x00" in cleared

    def test_the_ping_has_eight_bytes(self):
        assert NestedCodec().ping_frame() == samples.PING

    def test_reading_the_subscribe_frame_gives_what_went_in(self):
        request = Request.FromString(samples.SUBSCRIBE)
        assert list(request.channel.order_book) == list(request.channel.best_bid_offer) == TICKERS
        assert request.access_token == "eyJhbGciOiJub25lIn0.e30.x"
        assert request.SerializeToString() == samples.SUBSCRIBE

    def test_credentials_do_not_print(self):
        for text in (repr(CREDENTIALS), str(CREDENTIALS), f"{CREDENTIALS}"):
            assert text == "Credentials(***)"


class TestFromTheVenue:
    def test_a_book_frame_decodes_and_encodes_byte_for_byte(self):
        frame = Frame.FromString(samples.BOOK)
        assert frame.SerializeToString() == samples.BOOK
        assert len(samples.BOOK) == 177
        message = frame.orderbook
        assert (message.stock_code, message.body) == ("BBCA", samples.BOOK_BODY)
        assert (message.sequence_number, message.order_book_id, message.source, message.board) == (184467, 59, 1, 1)

    def test_its_meaning(self):
        mapper = StockbitMapper()
        data = mapper.decode(samples.BOOK, START_MS + 5)
        assert isinstance(data, Data)
        assert str(data.stream) == "stockbit/order_book/BBCA"
        assert data.venue_ms == START_MS
        (state,) = mapper.books
        assert state.bid.row == (
            Level("7725", "1840500", 412),
            Level("7700", "3020000", 655),
            Level("7675", "900100", 301),
        )
        assert state.bid.told.text == "2026-02-04T11:05:42.178723+07:00"
        assert state.bid.told.seq == 184467
        assert sum(level.n for level in state.bid.row) == 1368
        assert sum(int(level.sz) for level in state.bid.row) == 57606 * 100

    def test_the_refusal_has_29_bytes_and_ends_the_session(self):
        assert len(samples.REFUSAL) == 29
        refused = StockbitMapper().decode(samples.REFUSAL, START_MS)
        assert isinstance(refused, LoginRefused)
        assert refused.kind == "retry"

    def test_the_pong(self):
        assert StockbitMapper().decode(b"\x12\x06\x0a\x04pong", START_MS) == Pong()

    def test_every_beginning_of_a_frame_is_refused_or_understood(self):
        for length in range(len(samples.BOOK)):
            with pytest.raises(WireError):
                StockbitMapper().decode(samples.BOOK[:length], START_MS)


class TestRecorded:
    def test_bodies_read_and_write_the_same(self):
        for row in samples.recorded_bodies():
            body = parse_body(row["body"])
            ((side, levels),) = body.sides.items()
            assert write_body(body.ticker, side, list(levels.values()), body.trailer) == row["body"]
            assert all(int(level.sz) % 100 == 0 for level in levels.values())

    def test_the_recorded_trailer_names_the_second_of_the_event(self):
        row = samples.recorded_bodies()[0]
        body = parse_body(row["body"])
        mapper = StockbitMapper()
        mapper.decode(
            samples.book(
                "BBCA",
                "OFFER",
                body=row["body"],
                datetime=row["datetime"],
                itch_incoming_time=row["itch_incoming_time"],
            ),
            START_MS,
        )
        (state,) = mapper.books
        assert body.trailer.startswith(f"{state.offer.told.time_ms // 1000}-")

    def test_rows_agree_with_their_bodies(self):
        bodies = {parse_body(row["body"]).ticker: parse_body(row["body"]) for row in samples.recorded_bodies()}
        seen = 0
        for row in samples.recorded_rows():
            assert int(row["shares"]) % 100 == 0
            levels = bodies[row["ticker"]].sides.get(row["side"]) if row["ticker"] in bodies else None
            for level in (levels or {}).values():
                if level.px == row["price"]:
                    assert (str(level.n), level.sz) == (row["orders"], row["shares"])
                    seen += 1
        assert seen == 2

    def test_rest_numbers_call_orders_and_shares_what_bodies_do(self):
        data = json.loads(samples.recorded("rest_orderbook_vktr.json"))["data"]
        best = data["bid"][0]
        body = parse_body(f"#O|VKTR|BID|{best['price']};{best['que_num']};{best['volume']}")
        (level,) = body.sides["BID"].values()
        assert (level.n, level.sz) == (138, "823200")
        assert int(data["total_bid_offer"]["bid"]["raw_lot"]) > int(level.sz)
