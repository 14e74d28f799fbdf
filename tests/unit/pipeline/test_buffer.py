"""The bounded place between connections and diff: order, and what happens when it is full."""

from __future__ import annotations

from src.models.messages import Book, Data, Fill, OrdersSnapshot, PositionsSnapshot, Trade
from src.models.metrics import MESSAGES_BUFFERED, MESSAGES_COALESCED, MESSAGES_DROPPED, Metrics
from src.models.streams import StreamKey
from src.pipeline.buffer import Buffer
from tests.support.trader_states import TRADER, a_position, orders_data, positions_data, some_orders


def a_buffer(capacity: int) -> tuple[Buffer, Metrics]:
    metrics = Metrics()
    return Buffer(capacity, metrics=metrics), metrics


def trades(number: int, *, count: int = 1, symbol: str = "BTC") -> Data:
    rows = tuple(
        Trade("hyperliquid", symbol, f"{number}-{one}", "1.0", "1.0", "B", number, number) for one in range(count)
    )
    return Data(StreamKey("hyperliquid", "trades", symbol), number, rows)


def book(time_ms: int, symbol: str = "BTC") -> Data:
    return Data(
        StreamKey("hyperliquid", "l2Book", symbol), time_ms, (Book("hyperliquid", symbol, time_ms, time_ms, (), ()),)
    )


def both(time_ms: int | None, *, orders: tuple[int, ...] | None = None, coins: tuple[str, ...] | None = None) -> Data:
    """A webData2 frame with any of its two sections."""
    messages: list[OrdersSnapshot | PositionsSnapshot] = []
    received_ms = 10_000 + (time_ms or 0)
    if coins is not None:
        found = positions_data([a_position(coin) for coin in coins], received_ms=received_ms, venue_ms=time_ms)
        messages += found.messages
    if orders is not None:
        messages += orders_data(some_orders(*orders), received_ms=received_ms, venue_ms=time_ms).messages
    return Data(StreamKey("hyperliquid", "webData2", TRADER), time_ms, tuple(messages))


def sections(data: Data) -> dict[str, list[object]]:
    return {
        type(message).__name__: list(message.rows if isinstance(message, OrdersSnapshot) else message.positions)
        for message in data.messages
    }


def test_frames_leave_in_the_order_in_which_they_came():
    buffer, metrics = a_buffer(10)
    frames = [book(1), trades(2), book(3), book(1, "ETH")]
    assert [buffer.put(data) for data in frames] == [None] * 4
    assert len(buffer) == 4
    assert buffer.drain() == frames
    assert len(buffer) == 0
    assert buffer.drain() == []
    assert metrics.value(MESSAGES_BUFFERED) == 4


def test_it_is_full_when_the_next_frame_would_cost_another():
    buffer, _ = a_buffer(2)
    buffer.put(book(1))
    assert not buffer.is_full
    buffer.put(book(2))
    assert buffer.is_full
    buffer.drain()
    assert not buffer.is_full


def test_full_states_coalesce_to_the_newest_of_their_stream():
    buffer, metrics = a_buffer(1)
    buffer.put(book(1))
    for time_ms in (2, 3, 4):
        buffer.put(book(time_ms))
        buffer.put(book(time_ms, "ETH"))
    assert len(buffer) == 3
    assert [(data.stream.subject, data.venue_ms) for data in buffer.drain()] == [("BTC", 1), ("BTC", 4), ("ETH", 4)]
    assert metrics.by_label(MESSAGES_COALESCED) == {("l2Book",): 4}


def test_coalesced_states_leave_in_the_order_of_their_last_arrival():
    buffer, _ = a_buffer(0)
    for symbol in ("BTC", "ETH", "SOL", "BTC"):
        buffer.put(book(1, symbol))
    assert [data.stream.subject for data in buffer.drain()] == ["ETH", "SOL", "BTC"]


def test_an_older_state_never_replaces_a_newer_one():
    buffer, _ = a_buffer(0)
    buffer.put(book(5))
    buffer.put(book(4))
    assert [data.venue_ms for data in buffer.drain()] == [5]


def test_states_without_a_venue_time_replace_each_other_in_order_of_arrival():
    buffer, _ = a_buffer(0)
    buffer.put(orders_data(some_orders(1), received_ms=2))
    buffer.put(orders_data(some_orders(2), received_ms=1))
    [data] = buffer.drain()
    assert list(data.messages[0].rows) == [2]


def test_a_section_missing_from_the_newer_state_stays_from_the_earlier_one():
    buffer, _ = a_buffer(0)
    buffer.put(both(1, orders=(1, 2), coins=("BTC",)))
    buffer.put(both(2, coins=()))
    [data] = buffer.drain()
    assert sections(data) == {"OrdersSnapshot": [1, 2], "PositionsSnapshot": []}
    assert (data.venue_ms, data.arrived_ms) == (2, 10_002)


def test_a_section_in_the_newer_state_replaces_the_earlier_one():
    buffer, _ = a_buffer(0)
    buffer.put(both(1, orders=(1, 2), coins=("BTC",)))
    buffer.put(both(2, orders=(), coins=("ETH",)))
    [data] = buffer.drain()
    assert sections(data) == {"OrdersSnapshot": [], "PositionsSnapshot": ["ETH"]}


def test_states_of_different_dexes_in_one_frame_are_kept_apart():
    stream = StreamKey("hyperliquid", "allDexsClearinghouseState", TRADER)
    buffer, _ = a_buffer(0)
    for time_ms, dexes in ((1, ("", "xyz")), (2, ("xyz",))):
        messages = tuple(
            message
            for dex in dexes
            for message in positions_data([], received_ms=time_ms, venue_ms=time_ms, dex=dex).messages
        )
        buffer.put(Data(stream, time_ms, messages))
    [data] = buffer.drain()
    assert {(message.dex, message.time_ms) for message in data.messages} == {("", 1), ("xyz", 2)}


def test_increments_wait_in_order_and_the_oldest_is_lost_first():
    buffer, metrics = a_buffer(2)
    for number in range(4):
        assert buffer.put(trades(number)) is None
    lost = buffer.put(trades(4, count=3))
    assert lost == trades(2)
    assert buffer.put(trades(5)) == trades(3)
    assert buffer.put(trades(6)) == trades(4, count=3)
    assert [data.venue_ms for data in buffer.drain()] == [0, 1, 5, 6]
    assert metrics.by_label(MESSAGES_DROPPED) == {("trades", "buffer_full"): 5}
    assert metrics.value(MESSAGES_BUFFERED) == 4


def test_fills_are_never_coalesced():
    buffer, _ = a_buffer(0)
    fill = Fill("hyperliquid", TRADER, "BTC", "1", "1", "B", 1, 1, 1)
    data = Data(StreamKey("hyperliquid", "userFills", TRADER), 1, (fill,))
    assert buffer.put(data) == data  # there is no place at all


def test_order_within_a_stream_survives_coalescing():
    buffer, _ = a_buffer(1)
    for oids in ((1,), (1, 2), (2,), (2, 3)):
        buffer.put(orders_data(some_orders(*oids), received_ms=1))
    assert [list(data.messages[0].rows) for data in buffer.drain()] == [[1], [2, 3]]


def test_memory_is_bounded_by_capacity_and_number_of_streams():
    buffer, _ = a_buffer(3)
    for number in range(1_000):
        buffer.put(book(number, symbol=f"C{number % 5}"))
        buffer.put(trades(number))
    assert len(buffer) == 3 + 5 + 3
