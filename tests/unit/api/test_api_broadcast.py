"""Order books handed in over HTTP: what is accepted, what is answered, and what goes on from there."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.api.broadcast import MOST_LEVELS
from src.jobs.order_books.outside_books import OutsideBooks
from src.models.changes import BookChange, HoleOpened
from src.models.clock import ManualClock
from src.models.errors import BookRefusedError
from src.models.messages import Book, Level
from src.models.metrics import OUTSIDE_BOOKS, Metrics
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff
from src.pipeline.hub import Hub
from src.pipeline.pipeline import Pipeline
from tests.support.toy_venue import MemorySink

PATH = "/broadcast/orderbook"
BOOK = {
    "bids": [{"price": 180.2, "volume": 15, "orders": 3}],
    "asks": [{"price": 180.3, "volume": 100, "orders": 1}],
    "timestamp": "2023-11-14T22:13:20.123Z",
}
EMPTY = {"bids": [], "asks": [], "timestamp": "2023-01-01T12:00:00Z"}
TOKEN = "correct-horse-battery"


class Audience:
    def __init__(self, **counts):
        self.counts = counts
        self.asked = []

    def book_subscribers(self, venue, symbol):
        self.asked.append((venue, symbol))
        return self.counts.get(symbol.replace(".", "_"), 0)


@pytest.fixture
def taken(world):
    """The books that reached the pipeline; ``world.books`` is the intake."""
    sink = MemorySink()
    world.audience = Audience(AAPL=2, US_AAPL=5)
    world.books = OutsideBooks(
        sink=sink, audience=world.audience, clock=world.clock, metrics=world.metrics, collected={"hyperliquid"}
    )
    return lambda: [message for data in sink.received for message in data.messages]


@pytest.fixture
async def client(world, taken):
    async with world.client(books=world.books) as made:
        yield made


class TestAnswers:
    async def test_a_book_is_taken_and_the_subscribers_are_counted(self, world, client, taken):
        answer = await client.post(PATH, params={"symbol": "AAPL"}, json=BOOK)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "symbol": "AAPL", "subscribers": 2})
        assert taken() == [
            Book(
                "outside",
                "AAPL",
                1_700_000_000_123,
                world.clock.wall_ms(),
                (Level("180.2", "15", 3),),
                (Level("180.3", "100", 1),),
            )
        ]

    async def test_an_empty_book_is_a_book_again_and_again(self, client, taken):
        for _ in range(3):
            answer = await client.post(PATH, params={"symbol": "AAPL"}, json=EMPTY)
            assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        assert [(book.bids, book.asks) for book in taken()] == [((), ())] * 3

    async def test_both_spellings_are_one_book_and_the_answer_keeps_the_one_given(self, client, taken):
        for symbol in ("AAPL", "US.AAPL", "us.aapl"):
            answer = await client.post(PATH, params={"symbol": symbol}, json=BOOK)
            assert answer.json() == {"status": "ok", "symbol": symbol, "subscribers": 2}
        assert {book.symbol for book in taken()} == {"AAPL"}

    @pytest.mark.parametrize(("given", "kept"), [("00700", "HK.00700"), ("HK.700", "HK.00700"), ("BRK.B", "BRK.B")])
    async def test_other_markets(self, client, taken, given, kept):
        await client.post(PATH, params={"symbol": given}, json=BOOK)
        assert taken()[0].symbol == kept

    async def test_a_venue_may_be_named(self, client, taken):
        answer = await client.post(PATH, params={"symbol": "AAPL", "venue": "futu"}, json=BOOK)
        assert answer.json()["subscribers"] == 5
        assert (taken()[0].venue, taken()[0].symbol) == ("futu", "US.AAPL")

    async def test_a_venue_that_is_collected_here_is_not_written_by_others(self, world, client, taken):
        answer = await client.post(PATH, params={"symbol": "BTC", "venue": "hyperliquid"}, json=BOOK)
        assert answer.status_code == 409
        assert "hyperliquid" in answer.json()["detail"]
        assert taken() == []
        assert world.metrics.value(OUTSIDE_BOOKS, "refused") == 1

    async def test_a_standby_says_to_come_again(self, world):
        standby = OutsideBooks(
            sink=MemorySink(),
            audience=Audience(),
            clock=world.clock,
            metrics=world.metrics,
            is_collecting=lambda: False,
        )
        async with world.client(books=standby) as client:
            answer = await client.post(PATH, params={"symbol": "AAPL"}, json=BOOK)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]

    async def test_a_process_without_an_intake_says_so(self, world):
        async with world.client() as client:
            assert (await client.post(PATH, params={"symbol": "AAPL"}, json=BOOK)).status_code == 409


class TestBodies:
    async def test_levels_may_be_lists_and_are_put_in_order(self, client, taken):
        body = {"bids": [[1, 2], [3.5, "4.50", 1]], "asks": [["9", 1], ["8.25", 0]]}
        assert (await client.post(PATH, params={"symbol": "AAPL"}, json=body)).status_code == 200
        assert taken()[0].bids == (Level("3.5", "4.5", 1), Level("1", "2"))
        assert taken()[0].asks == (Level("8.25", "0"), Level("9", "1"))

    async def test_a_time_may_be_left_out_or_given_in_milliseconds(self, world, client, taken):
        await client.post(PATH, params={"symbol": "A"}, json={"bids": [], "asks": []})
        await client.post(PATH, params={"symbol": "B"}, json={"bids": [], "asks": [], "timestamp": 1_690_000_000_000})
        assert [book.time_ms for book in taken()] == [world.clock.wall_ms(), 1_690_000_000_000]

    @pytest.mark.parametrize(
        ("params", "body", "told"),
        [
            ({}, BOOK, "symbol"),
            ({"symbol": ""}, BOOK, "symbol"),
            ({"symbol": "$where"}, BOOK, "symbol"),
            ({"symbol": "A" * 65}, BOOK, "symbol"),
            ({"symbol": "AAPL", "venue": "Not A Venue"}, BOOK, "venue"),
            ({"symbol": "AAPL", "extra": "1"}, BOOK, "extra"),
            ({"symbol": "AAPL"}, {}, "bids"),
            ({"symbol": "AAPL"}, {"bids": []}, "asks"),
            ({"symbol": "AAPL"}, {"bids": {}, "asks": []}, "bids"),
            ({"symbol": "AAPL"}, [], "body"),
            ({"symbol": "AAPL"}, {"bids": [{"price": 1}], "asks": []}, "volume"),
            ({"symbol": "AAPL"}, {"bids": [[1]], "asks": []}, "bids.0"),
            ({"symbol": "AAPL"}, {"bids": [[1, 2, 3, 4]], "asks": []}, "bids.0"),
            ({"symbol": "AAPL"}, {"bids": [[1, -2]], "asks": []}, "volume"),
            ({"symbol": "AAPL"}, {"bids": [["NaN", 2]], "asks": []}, "price"),
            ({"symbol": "AAPL"}, {"bids": [["1e400", 2]], "asks": []}, "price"),
            ({"symbol": "AAPL"}, {"bids": [["1" * 40, 2]], "asks": []}, "price"),
            ({"symbol": "AAPL"}, {"bids": [[1, 2, -1]], "asks": []}, "orders"),
            ({"symbol": "AAPL"}, {"bids": [[1, 2, 2**40]], "asks": []}, "orders"),
            ({"symbol": "AAPL"}, {"bids": [], "asks": [], "timestamp": "soon"}, "timestamp"),
            ({"symbol": "AAPL"}, {"bids": [], "asks": [], "timestamp": "2099-01-01T00:00:00Z"}, "future"),
            ({"symbol": "AAPL"}, {"bids": [[1, 1]] * (MOST_LEVELS + 1), "asks": []}, "bids"),
        ],
    )
    async def test_what_is_no_order_book_is_refused_with_the_place(self, client, taken, params, body, told):
        answer = await client.post(PATH, params=params, json=body)
        assert answer.status_code == 422
        assert told in answer.json()["detail"]
        assert taken() == []

    async def test_a_symbol_given_twice_is_refused(self, client):
        assert (await client.post(f"{PATH}?symbol=A&symbol=B", json=BOOK)).status_code == 422

    async def test_a_body_beyond_the_bound_is_refused(self, client, taken):
        answer = await client.post(PATH, params={"symbol": "A"}, content=b" " * 200_000)
        assert answer.status_code == 413
        assert taken() == []

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        body=st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["bids", "asks", "timestamp", "price", "volume", "orders"]), inner)
            ),
            max_leaves=20,
        )
    )
    async def test_no_json_makes_it_fail(self, client, body):
        headers = {"content-type": "application/json"}  # with NaN and Infinity, which some producers write
        answer = await client.post(PATH, params={"symbol": "AAPL"}, content=json.dumps(body), headers=headers)
        assert answer.status_code in {200, 422}


class TestWhoMay:
    async def test_the_token_is_needed_where_there_is_one(self, world, taken):
        async with world.client(books=world.books, token=TOKEN, peer="10.0.0.5") as client:
            assert (await client.post(PATH, params={"symbol": "AAPL"}, json=BOOK)).status_code == 401
            headers = {"authorization": f"Bearer {TOKEN}"}
            answer = await client.post(PATH, params={"symbol": "AAPL"}, json=BOOK, headers=headers)
            assert answer.status_code == 200

    async def test_without_one_only_this_machine_may_and_no_foreign_page(self, world, taken, client):
        async with world.client(books=world.books, peer="10.0.0.5") as other:
            assert (await other.post(PATH, params={"symbol": "AAPL"}, json=BOOK)).status_code == 403
        foreign = {"origin": "https://evil.example"}
        assert (await client.post(PATH, params={"symbol": "AAPL"}, json=BOOK, headers=foreign)).status_code == 403
        assert taken() == []


def intake(sink=None, **changes):
    arguments = {"sink": sink or MemorySink(), "audience": Audience(), "clock": ManualClock(), "metrics": Metrics()}
    return OutsideBooks(**(arguments | changes))


def book(time_ms, received_ms, *, symbol="AAPL", bid="1"):
    return Book("outside", symbol, time_ms, received_ms, (Level(bid, "1"),), ())


class TestOrder:
    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1, max_size=40))
    def test_every_book_is_later_than_the_one_before(self, steps):
        sink, received = MemorySink(), 1_000
        books = intake(sink)
        for given_ms, passed in steps:
            received += passed
            books.publish_book(book(given_ms + 980, received))
        times = [data.venue_ms for data in sink.received]
        assert times == sorted(set(times))
        assert len(times) == len(steps)

    def test_true_times_are_kept_and_those_that_go_back_become_times_of_arrival(self):
        sink = MemorySink()
        books = intake(sink)
        for given_ms, received in ((100, 150), (120, 160), (50, 170), (165, 171), (180, 190)):
            books.publish_book(book(given_ms, received))
        assert [data.venue_ms for data in sink.received] == [100, 120, 170, 171, 180]

    def test_invented_symbols_do_not_fill_the_memory(self, monkeypatch):
        monkeypatch.setattr("src.jobs.order_books.outside_books.MOST_SYMBOLS", 3)
        books = intake()
        for number in range(3):
            books.publish_book(book(1, 1, symbol=f"S{number}"))
        with pytest.raises(BookRefusedError, match="3 symbols"):
            books.publish_book(book(1, 1, symbol="S4"))
        assert books.publish_book(book(2, 2, symbol="S1")) == 0


class BrokenPending:
    """A store side that takes nothing and fails at every touch."""

    is_full = False
    suspended = ()

    def __len__(self):
        return 0

    def add(self, changes, stream=None):
        raise OSError("disk full")


class TestStoreFailures:
    async def test_subscribers_get_the_book_before_the_store_is_touched(self):
        metrics, clock, heard = Metrics(), ManualClock(), []
        hub = Hub(metrics=metrics)
        hub.listen("gateway", heard.extend)
        pipeline = Pipeline(
            buffer=Buffer(10, metrics=metrics),
            diff=Diff(metrics=metrics),
            hub=hub,
            pending=BrokenPending(),
            flusher=None,
            metrics=metrics,
            clock=clock,
            drain_interval_s=0.01,
        )
        books = intake(pipeline, clock=clock, metrics=metrics)
        assert books.publish_book(book(clock.wall_ms(), clock.wall_ms())) == 0
        with pytest.raises(OSError, match="disk full"):
            pipeline.drain()
        assert [type(change) for change in heard if not isinstance(change, HoleOpened)] == [BookChange]

    async def test_the_answer_does_not_wait_for_the_store(self, world, client, taken):
        world.store.gate = asyncio.Event()  # every read of the store hangs
        answer = await asyncio.wait_for(client.post(PATH, params={"symbol": "AAPL"}, json=BOOK), 20)
        assert answer.status_code == 200
