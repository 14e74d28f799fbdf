"""Round trips and fuzz: what we pack is read back, and no bytes make the decoder do anything but refuse."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from src.models.clock import ManualClock
from src.models.errors import WireError
from src.models.messages import Data
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire
from src.venues.futu.codec import LARGEST_SERIAL, Frame, FrameBoundaryLostError, Splitter, pack, unpack
from src.venues.futu.feed import FutuFeed, book_subscriptions
from src.venues.futu.simulator.market import SimulatedBook, SimulatedLevel, push_body

NOW_MS = 1_700_000_000_000
KNOWN = (
    wire.INIT_CONNECT,
    wire.GLOBAL_STATE,
    wire.NOTIFY,
    wire.KEEP_ALIVE,
    wire.SUB,
    wire.SUB_INFO,
    wire.ORDER_BOOK,
    wire.ORDER_BOOK_PUSH,
)
MESSAGES = (
    pb.InitConnect.Response,
    pb.GetGlobalState.Response,
    pb.Notify.Response,
    pb.KeepAlive.Response,
    pb.Sub.Response,
    pb.GetSubInfo.Response,
    pb.OrderBook.Response,
)
frames = st.builds(
    Frame,
    protocol=st.integers(0, 2**32 - 1),
    serial=st.integers(0, LARGEST_SERIAL),
    body=st.binary(max_size=300),
    format=st.integers(0, 255),
)
levels = st.builds(
    SimulatedLevel,
    price=st.decimals(min_value=0, max_value=10**9, places=6).map(float),
    volume=st.integers(0, 2**53),
    orders=st.integers(0, 2**31 - 1),
)
books = st.builds(
    SimulatedBook,
    symbol=st.sampled_from(["US.AAPL", "HK.00700", "SH.600519", "US..DJI", "HK.HSImain"]),
    time_ms=st.integers(NOW_MS - 10**9, NOW_MS),
    bids=st.lists(levels, max_size=12).map(tuple),
    asks=st.lists(levels, max_size=12).map(tuple),
)


def make_feed():
    feed = FutuFeed("127.0.0.1", 1, quota=5, clock=ManualClock())
    feed.login_frames()
    feed.subscribe_frames(book_subscriptions(["US.AAPL", "HK.00700"]))
    feed.ping_frame()
    return feed


@given(frames)
def test_frames_round_trip(frame):
    assert unpack(pack(frame)) == frame


@given(st.lists(frames, max_size=8), st.data())
def test_however_the_stream_is_cut_the_frames_are_the_same(sent, data):
    stream = b"".join(pack(frame) for frame in sent)
    splitter, found, start = Splitter(), [], 0
    while start < len(stream):
        end = start + data.draw(st.integers(1, len(stream) - start))
        splitter.feed(stream[start:end])
        start = end
        while (raw := splitter.take()) is not None:
            found.append(unpack(raw))
    assert found == sent
    assert not splitter.torn


@given(st.lists(frames, min_size=1, max_size=4), st.binary(max_size=200))
def test_garbage_after_frames_costs_none_of_them(sent, garbage):
    splitter = Splitter()
    with contextlib.suppress(FrameBoundaryLostError):
        splitter.feed(b"".join(pack(frame) for frame in sent) + garbage)
    assert [unpack(splitter.take()) for _ in sent] == sent


@given(books)
def test_books_round_trip_exactly(book):
    raw = pack(Frame(wire.ORDER_BOOK_PUSH, 0, push_body(book).SerializeToString()))
    data = make_feed().decode(raw, NOW_MS)
    assert isinstance(data, Data)
    (read,) = data.messages
    assert (read.symbol, read.time_ms) == (book.symbol, book.time_ms)
    for side, sent in ((read.bids, book.bids), (read.asks, book.asks)):
        assert [(float(x.px), int(x.sz), x.n) for x in side] == [(y.price, y.volume, y.orders) for y in sent]
        assert all("e" not in x.px and "e" not in x.sz for x in side)


@settings(max_examples=400)
@given(st.sampled_from(KNOWN), st.binary(max_size=200), st.integers(0, 2), st.integers(0, 12))
def test_random_bodies_are_refused_or_understood(protocol, body, kind, serial):
    with contextlib.suppress(WireError):
        make_feed().decode(pack(Frame(protocol, serial, body, kind)), NOW_MS)


@settings(max_examples=400)
@given(st.sampled_from(KNOWN), st.sampled_from(MESSAGES), st.data())
def test_well_formed_bodies_of_any_kind_and_value_are_refused_or_understood(protocol, kind, data):
    message = data.draw(filled(kind.DESCRIPTOR, 3))
    body = kind(**message).SerializePartialToString()
    with contextlib.suppress(WireError):
        make_feed().decode(pack(Frame(protocol, data.draw(st.integers(0, 12)), body)), NOW_MS)


@settings(max_examples=300)
@given(books, st.data())
def test_a_push_with_a_few_bytes_changed_is_refused_or_understood(book, data):
    body = bytearray(push_body(book).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        make_feed().decode(pack(Frame(wire.ORDER_BOOK_PUSH, 0, bytes(body))), NOW_MS)


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_raw_bytes_are_refused(raw):
    with contextlib.suppress(WireError):
        make_feed().decode(raw, NOW_MS)


def filled(descriptor, depth):
    """Arguments for a message of this kind: each field there or not, with any value it can hold."""
    fields = {}
    for field in descriptor.fields:
        one = value_of(field, depth)
        if one is not None:
            fields[field.name] = st.lists(one, max_size=3) if field.is_repeated else one
    return st.fixed_dictionaries({}, optional=fields)


def value_of(field, depth):
    if field.message_type is not None:
        return filled(field.message_type, depth - 1) if depth else None
    if field.type == field.TYPE_STRING:
        return st.sampled_from(["AAPL", "00700", "2026-02-04 10:00:00.123", ""]) | st.text(max_size=10)
    if field.type == field.TYPE_BOOL:
        return st.booleans()
    if field.type == field.TYPE_DOUBLE:
        return st.floats() | st.sampled_from([0.0, 1.5e9])
    if field.type == field.TYPE_UINT64:
        return st.integers(0, 2**64 - 1)
    bits = 31 if field.type == field.TYPE_INT32 else 63
    return st.sampled_from([0, 1, 2, 11]) | st.integers(-(2**bits), 2**bits - 1)
