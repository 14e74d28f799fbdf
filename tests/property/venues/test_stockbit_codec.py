"""The codec of Stockbit: whatever is written is read back, and nothing that arrives can do more than be refused."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from src.models.errors import WireError
from src.models.messages import Book, Level, Several
from src.venues.stockbit.body import parse_body, write_body
from src.venues.stockbit.flat import FlatCodec, write_update
from src.venues.stockbit.mapper import StockbitMapper
from src.venues.stockbit.simulator.frames import Bad, book_frame, reset_frame, spoiled, trades_frame
from src.venues.stockbit.simulator.market import SimTrade
from src.venues.stockbit.simulator.sessions import read_request
from src.venues.stockbit.stockbit_pb2 import Frame, Orderbook, Request
from src.venues.stockbit.times import parse_time_ns, to_text
from src.venues.stockbit.tokens import TokenError, read_claims
from src.venues.stockbit.varints import BYTES, read_fields, read_varint, write_bytes, write_number, write_varint
from src.venues.stockbit.wire import NestedCodec
from tests.support.stockbit_frames import BOOK, CREDENTIALS, REFUSAL, START_MS, SUBSCRIBE

TICKERS = st.from_regex(r"[A-Z]{4}", fullmatch=True)
CHANNELS = st.dictionaries(
    st.sampled_from(["order_book", "running_trade", "liveprice", "iepiev", "best_bid_offer"]),
    st.lists(TICKERS, max_size=12),
)
COUNTS = st.integers(0, 999_999_999)
SHARES = st.integers(0, 10**13)


@st.composite
def sides(draw):
    """(side, levels best first)."""
    side = draw(st.sampled_from(["BID", "OFFER"]))
    prices = draw(st.lists(st.integers(1, 10**9), unique=True, max_size=80))
    prices.sort(reverse=side == "BID")
    return side, tuple(Level(str(price), str(draw(SHARES)), draw(COUNTS)) for price in prices)


class TestRoundTrips:
    @given(sides(), TICKERS, st.sampled_from(["", "1770177942-1368&5760600"]))
    def test_bodies(self, side, ticker, trailer):
        name, levels = side
        body = parse_body(write_body(ticker, name, levels, trailer))
        assert (body.ticker, tuple(body.sides[name].values()), body.trailer) == (ticker, levels, trailer)
        assert body.skipped == 0

    @given(st.lists(sides(), min_size=1, max_size=6))
    def test_frames_to_books(self, messages):
        """The book handed on last is made of the last message of each side."""
        mapper, last, made = StockbitMapper(), {}, None
        for number, (side, levels) in enumerate(messages, 1):
            last[side] = levels
            at_ms = START_MS + number
            decoded = mapper.decode(book_frame("BBCA", side, levels, seq=number, at_ms=at_ms), at_ms)
            for part in decoded.parts if isinstance(decoded, Several) else (decoded,):
                made = next((message for message in part.messages if isinstance(message, Book)), made)
        if len(last) == 2:
            assert (made.bids, made.asks) == (last["BID"], last["OFFER"])
            assert made.time_ms == START_MS + len(messages)

    @given(CHANNELS)
    def test_requests(self, channels):
        frame = NestedCodec().subscribe_frame(CREDENTIALS, channels)
        request = Request.FromString(frame)
        for name, tickers in channels.items():
            assert list(getattr(request.channel, name)) == tickers
        asked = read_request(frame, "nested")
        assert asked.channels["order_book"] == channels.get("order_book", [])

    @given(CHANNELS)
    def test_flat_requests(self, channels):
        frame = FlatCodec().subscribe_frame(CREDENTIALS, channels)
        asked = read_request(frame, "flat")
        assert asked.channels["order_book"] == list(dict.fromkeys(t for named in channels.values() for t in named))

    @given(st.integers(0, 2**64 - 1), st.binary(max_size=5))
    def test_varints(self, value, rest):
        written = write_varint(value)
        assert read_varint(written + rest, 0) == (value, len(written))

    @given(
        st.lists(st.tuples(st.integers(1, 2**29 - 1), st.binary(max_size=30) | st.integers(0, 2**64 - 1)), max_size=9)
    )
    def test_fields_by_hand_are_those_of_the_official_runtime(self, fields):
        data = b"".join(write_bytes(n, v) if isinstance(v, bytes) else write_number(n, v) for n, v in fields)
        assert [(number, value) for number, _, value in read_fields(data)] == fields
        again = Frame.FromString(data) if all(n > 19 for n, _ in fields) else None
        assert again is None or sorted(again.SerializeToString()) == sorted(data)

    @given(st.integers(0, 4_000_000_000_000_000_000))
    def test_times(self, time_ns):
        assert parse_time_ns(to_text(time_ns, digits=9), 0) == time_ns
        assert parse_time_ns(to_text(time_ns), 0) == time_ns // 1000 * 1000


class TestUnknownFields:
    @given(sides(), st.lists(st.tuples(st.integers(50, 5000), st.binary(max_size=20)), max_size=5))
    def test_they_change_nothing(self, side, extra):
        name, levels = side
        frame = book_frame("BBCA", name, levels, seq=1, at_ms=START_MS)
        more = b"".join(write_bytes(number, value) for number, value in extra)
        for changed in (frame + more, more + frame, spoiled(frame, Bad.UNKNOWN_FIELDS)):
            one, other = StockbitMapper(), StockbitMapper()
            assert one.decode(frame, START_MS).messages == other.decode(changed, START_MS).messages
            assert next(iter(one.books)).bid == next(iter(other.books)).bid

    @given(sides(), st.integers(50, 5000), st.binary(max_size=20))
    def test_inside_of_the_message_neither(self, side, number, value):
        name, levels = side
        frame = book_frame("BBCA", name, levels, seq=1, at_ms=START_MS)
        inner = Frame.FromString(frame).orderbook.SerializeToString() + write_bytes(number, value)
        mapper = StockbitMapper()
        mapper.decode(write_bytes(10, inner), START_MS)
        state = next(iter(mapper.books))
        assert (state.bid if name == "BID" else state.offer).row == levels


SAMPLES = [
    BOOK,
    REFUSAL,
    SUBSCRIBE,
    b"\x12\x06\x0a\x04pong",
    reset_frame("BBCA", START_MS),
    trades_frame([SimTrade("BBCA", 7725, 100, is_buy=True, number=1, at_ms=START_MS)] * 3),
    write_update("TLKM", "BID|3300;288;1138300|3290;238;763700", "2026-02-04T11:05:41"),
]


@st.composite
def mangled(draw):
    raw = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(raw)))
        stop = draw(st.integers(start, min(len(raw), start + 8)))
        raw[start:stop] = draw(
            st.binary(max_size=6) | st.sampled_from([b"|", b";", b"#O|", b"\xff" * 10, b"1e9", b"\x80"])
        )
    return bytes(raw)


class TestOnlyTheWireErrorLeaves:
    @settings(max_examples=600, deadline=None)
    @given(st.lists(mangled() | st.binary(max_size=64), min_size=1, max_size=4))
    def test_the_nested_layout(self, frames):
        mapper = StockbitMapper()
        for number, frame in enumerate(frames):
            with contextlib.suppress(WireError):
                mapper.decode(frame, START_MS + 400 * number)

    @settings(max_examples=400, deadline=None)
    @given(st.lists(mangled() | st.binary(max_size=64), min_size=1, max_size=4))
    def test_the_flat_layout(self, frames):
        mapper = StockbitMapper(FlatCodec())
        for number, frame in enumerate(frames):
            with contextlib.suppress(WireError):
                mapper.decode(frame, START_MS + 400 * number)

    @settings(max_examples=400, deadline=None)
    @given(st.text(alphabet="#O|;BIDFER0123456789.-& \x00é", max_size=80), st.text(max_size=40), TICKERS)
    def test_bodies_and_times(self, body, time, ticker):
        for text in (body, f"#O|{ticker}|BID|{body}", f"#O|{ticker}|OFFER|{body}"):
            message = Orderbook(stock_code=ticker, body=text, datetime=time)
            with contextlib.suppress(WireError):
                StockbitMapper().decode(Frame(orderbook=message).SerializeToString(), START_MS)

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{0,10}"))
    def test_tokens(self, text):
        with contextlib.suppress(TokenError):
            read_claims(text)

    @given(st.binary(max_size=80))
    def test_requests_at_the_simulated_venue(self, frame):
        for layout in ("nested", "flat"):
            read_request(frame, layout)

    @given(st.binary(max_size=80))
    def test_fields_by_hand_end(self, data):
        with contextlib.suppress(WireError):
            for number, wire_type, value in read_fields(data):
                assert number > 0
                assert isinstance(value, bytes) is (wire_type != 0)
                assert wire_type != BYTES or len(value) <= len(data)
