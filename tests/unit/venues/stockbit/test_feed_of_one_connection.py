"""What a connection says and hears: log-in, whole sets, confirmation without acknowledgement, tickers that linger."""

import math
from types import SimpleNamespace

import pytest

from src.models.errors import WireError
from src.models.messages import AckList, Data, LoginRefused, Pong, Refusal, Several
from src.models.streams import StreamKey
from src.venues.feed import BatchFeed, HoursFeed, LoginFeed
from src.venues.stockbit.feed import LINGERING_AFTER_MS, StockbitFeed, subscription
from src.venues.stockbit.flat import FlatCodec, write_update
from src.venues.stockbit.stockbit_pb2 import Request
from src.venues.stockbit.varints import read_fields
from tests.support.stockbit_frames import CREDENTIALS, PING, REFUSAL, START_MS, bids, offers

PONG = b"\x12\x06\x0a\x04pong"
URL = "wss://127.0.0.1/ws"


class Account:
    def __init__(self):
        self.heard = []

    def refused(self, why):
        self.heard.append(("refused", why))

    def accepted(self):
        self.heard.append("accepted")


@pytest.fixture
def account():
    return Account()


def make(account, **options):
    feed = StockbitFeed(URL, session=account, hours=SimpleNamespace(expects_data=lambda ms: ms == 7), **options)
    feed.credentials = CREDENTIALS
    feed.endpoint()
    return feed


def wanted(*tickers, channel="order_book"):
    return [subscription(channel, ticker) for ticker in tickers]


def key(ticker, channel="order_book"):
    return StreamKey("stockbit", channel, ticker)


def channels(frame):
    request = Request.FromString(frame)
    return {field.name: list(value) for field, value in request.channel.ListFields()}


class TestTheFiveAnswers:
    def test_the_machinery_knows_what_it_can(self, account):
        feed = make(account)
        assert isinstance(feed, BatchFeed)
        assert isinstance(feed, HoursFeed)
        assert not isinstance(feed, LoginFeed)
        assert feed.batching.whole
        assert not feed.batching.acknowledged

    def test_the_documented_parameters_of_the_socket(self, account):
        endpoint = make(account).endpoint()
        assert endpoint.max_size_bytes == 10 * 1024 * 1024
        assert (endpoint.ping_every_s, endpoint.ping_timeout_s) == (30.0, 10.0)
        assert not endpoint.compression
        assert endpoint.binary
        assert endpoint.subprotocols == ("web",)
        assert endpoint.headers["Origin"] == "https://stockbit.com"

    @pytest.mark.parametrize(("app_s", "ws_s"), [(15.0, 0.0), (0.0, 30.0), (0.0, 0.0), (15.0, 30.0)])
    def test_both_keepalives_can_be_switched_off(self, account, app_s, ws_s):
        feed = make(account, app_ping_s=app_s, ws_ping_s=ws_s)
        assert feed.heartbeat.ping_every_s == (app_s or math.inf)
        assert feed.endpoint().ping_every_s == (ws_s or None)
        frames = feed.subscribe_frames(wanted("BBCA"))
        assert (PING in frames) is bool(app_s)

    def test_hours_are_asked_of_the_calendar(self, account):
        feed = make(account)
        assert feed.expects_data(7)
        assert not feed.expects_data(8)


class TestWhatIsSaid:
    def test_first_the_log_in_then_everything_then_a_ping(self, account):
        feed = make(account)
        auth, subscribe, ping = feed.subscribe_frames(
            [*wanted("BBCA", "TLKM"), *wanted("BBCA", channel="running_trade")]
        )
        assert not Request.FromString(auth).HasField("channel")
        assert channels(subscribe) == {"order_book": ["BBCA", "TLKM"], "running_trade": ["BBCA"]}
        assert ping == PING

    def test_the_log_in_is_said_once_for_each_connection(self, account):
        feed = make(account)
        assert len(feed.subscribe_frames(wanted("BBCA"))) == 3
        assert len(feed.subscribe_frames(wanted("BBCA", "TLKM"))) == 2
        feed.endpoint()
        assert len(feed.subscribe_frames(wanted("BBCA", "TLKM"))) == 3

    def test_nothing_wanted_is_an_empty_set(self, account):
        feed = make(account)
        feed.subscribe_frames(wanted("BBCA"))
        (frame,) = feed.unsubscribe_frames(wanted("BBCA"))
        assert Request.FromString(frame).HasField("channel")
        assert channels(frame) == {}

    def test_single_frames_leave_no_trace(self, account):
        feed = make(account)
        one, other = wanted("BBCA", "TLKM")
        assert feed.subscribe_frame(one) == feed.subscribe_frame(one)
        assert channels(feed.subscribe_frame(one)) == {"order_book": ["BBCA"]}
        feed.subscribe_frames([one, other])
        assert channels(feed.unsubscribe_frame(one)) == {"order_book": ["TLKM"]}


class TestWhatIsHeard:
    @pytest.mark.parametrize("frame", [bids(), PONG])
    def test_the_first_word_confirms_all_that_was_asked_for(self, account, frame):
        feed = make(account)
        feed.subscribe_frames([*wanted("BBCA"), *wanted("TLKM", channel="running_trade")])
        decoded = feed.decode(frame, START_MS)
        assert isinstance(decoded, Several)
        assert decoded.parts[0] == AckList(frozenset({key("BBCA"), key("TLKM", "running_trade")}))
        assert isinstance(feed.decode(frame, START_MS), Data | Pong)

    def test_an_error_confirms_nothing(self, account):
        feed = make(account)
        feed.subscribe_frames(wanted("BBCA"))
        assert isinstance(feed.decode(b"\x3a\x02\x08\x01", START_MS), Refusal)
        with pytest.raises(WireError):
            feed.decode(b"\xff", START_MS)
        assert isinstance(feed.decode(PONG, START_MS), Several)

    def test_data_shows_that_the_log_in_was_accepted_and_a_pong_does_not(self, account):
        feed = make(account)
        feed.subscribe_frames(wanted("BBCA"))
        feed.decode(PONG, START_MS)
        assert account.heard == []
        feed.decode(bids(), START_MS)
        feed.decode(offers(), START_MS)
        assert account.heard == ["accepted"]

    def test_a_refusal_reaches_the_account(self, account):
        feed = make(account)
        feed.subscribe_frames(wanted("BBCA"))
        assert isinstance(feed.decode(REFUSAL, START_MS), LoginRefused)
        assert account.heard == [("refused", "401: you are not authorized")]


class TestTickersThatLinger:
    def test_the_set_is_cleared_only_when_the_venue_goes_on(self, account):
        feed = make(account)
        feed.subscribe_frames(wanted("BBCA", "TLKM"))
        feed.decode(bids(), START_MS)
        assert len(feed.subscribe_frames(wanted("BBCA"))) == 2
        feed.decode(bids(ticker="TLKM", at_ms=START_MS + 10), START_MS + 10)  # was on its way
        assert not feed.lingering
        feed.decode(bids(ticker="TLKM", at_ms=START_MS + 20), START_MS + LINGERING_AFTER_MS + 1)
        assert feed.lingering
        cleared, whole, _ = feed.subscribe_frames(wanted("BBCA"))
        assert (channels(cleared), channels(whole)) == ({}, {"order_book": ["BBCA"]})
        assert not feed.lingering

    def test_a_ticker_that_is_wanted_again_does_not_linger(self, account):
        feed = make(account)
        feed.subscribe_frames(wanted("BBCA", "TLKM"))
        feed.decode(bids(), START_MS)
        feed.subscribe_frames(wanted("BBCA"))
        feed.subscribe_frames(wanted("BBCA", "TLKM"))
        feed.decode(bids(ticker="TLKM"), START_MS + 10 * LINGERING_AFTER_MS)
        assert not feed.lingering


class TestTheFlatLayout:
    def test_requests(self, account):
        feed = make(account, codec=FlatCodec())
        frame, ping = feed.subscribe_frames([*wanted("BBCA", "TLKM"), *wanted("BBCA", channel="running_trade")])
        assert [(number, value) for number, _, value in read_fields(frame)] == [
            (1, 1234567),
            (2, b"BBCATLKM"),
            (3, b":BBCA:TLKM"),
            (4, b"JBBCAJTLKM"),
            (5, b"a2V5LWV4YW1wbGU="),
            (6, b"eyJhbGciOiJub25lIn0.e30.x"),
        ]
        assert ping == b"ping"

    def test_updates(self, account):
        feed = make(account, codec=FlatCodec())
        feed.subscribe_frames(wanted("TLKM"))
        feed.decode(
            write_update("TLKM", "BUY|3300;288;1138300|3290;238;763700", "2026-02-04T11:05:41.556826"), START_MS
        )
        decoded = feed.decode(write_update("TLKM", "OFFER|3310;1;100", "", "2026-02-04T11:05:42"), START_MS)
        (book,) = decoded.messages
        assert [(level.px, level.n, level.sz) for level in book.bids] == [
            ("3300", 288, "1138300"),
            ("3290", 238, "763700"),
        ]
        assert book.bids_told.text == "2026-02-04T11:05:41.556826"

    def test_a_frame_of_the_other_layout_is_nothing_it_knows(self, account):
        feed = make(account, codec=FlatCodec())
        assert feed.decode(bids(), START_MS).reason == "unknown_channel"

    @pytest.mark.parametrize("frame", [b"\x0a\x04BB", b"\x12\x02\xff\xfe", b"\x80", b"\x03", b"\x00\x01"])
    def test_what_is_no_protobuf_is_refused(self, account, frame):
        with pytest.raises(WireError):
            make(account, codec=FlatCodec()).decode(frame, START_MS)
