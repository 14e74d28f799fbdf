"""The feed without a network: requests out, frames in, and what it remembers of one connection."""

import json
from pathlib import Path

import pytest

from src.models.clock import ManualClock
from src.models.errors import WireError
from src.models.messages import (
    Ack,
    AckList,
    Data,
    Ignored,
    LoggedIn,
    LoginRefused,
    Pong,
    Refusal,
    RefusalKind,
    Several,
)
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire
from src.venues.futu.codec import Frame, Splitter, pack, unpack
from src.venues.futu.feed import AUDIT_LEVELS, FutuFeed, book_subscriptions, stream_of
from src.venues.futu.session import AUDIT_QUIET_S, AUDITS_AT_ONCE, Quota
from src.venues.futu.simulator.market import SimulatedBook, SimulatedLevel, push_body

RECORDED = Path(__file__).resolve().parents[5] / "shared" / "data" / "futu" / "recorded" / "orderbook_pushes.jsonl"
NOW_MS = 1_700_000_000_000
AAPL, TENCENT = book_subscriptions(["US.AAPL", "HK.00700"])


@pytest.fixture
def clock():
    return ManualClock(wall_ms=NOW_MS)


@pytest.fixture
def feed(clock):
    made = FutuFeed("127.0.0.1", 11111, quota=10, clock=clock)
    made.login_frames()
    return made


def split(data):
    splitter, found = Splitter(), []
    splitter.feed(data)
    while (raw := splitter.take()) is not None:
        found.append(unpack(raw))
    assert not splitter.torn
    return found


def said(protocol, message, serial=0):
    return pack(Frame(protocol, serial, message.SerializePartialToString()))


def ok(serial):
    return said(wire.SUB, pb.Sub.Response(retType=0, s2c=pb.Sub.S2C()), serial)


def refused(serial, text):
    return said(wire.SUB, pb.Verdict(retType=-1, retMsg=text), serial)


def push(symbol, *, bid=100.0, time_ms=NOW_MS, serial=0, protocol=wire.ORDER_BOOK_PUSH):
    book = SimulatedBook(symbol, time_ms, (SimulatedLevel(bid, 100, 1),), (SimulatedLevel(bid + 1, 100, 1),))
    return said(protocol, push_body(book), serial)


def subscribe(feed, *subscriptions):
    """Subscribe and let the gateway agree; returns the request."""
    frames = split(feed.subscribe_frames(subscriptions)[0])
    feed.decode(ok(frames[-1].serial), NOW_MS)
    return frames[-1]


def ping(feed, protocol):
    """The frames of a kind in the next ping."""
    return [frame for frame in split(feed.ping_frame()) if frame.protocol == protocol]


def look(feed, clock=None):
    """Ping until the list of subscriptions is asked for; returns that request."""
    for _ in range(5):
        found = ping(feed, wire.SUB_INFO)
        if found:
            return found[0]
    raise AssertionError("never asked")


def info(serial, *symbols, used=2, left=8, own=True):
    books = pb.GetSubInfo.SubInfo(subType=2, securityList=[wire.security(symbol) for symbol in symbols])
    connection = pb.GetSubInfo.ConnSubInfo(subInfoList=[books], usedQuota=len(symbols), isOwnConnData=own)
    s2c = pb.GetSubInfo.S2C(connSubInfoList=[connection], totalUsedQuota=used, remainQuota=left)
    return said(wire.SUB_INFO, pb.GetSubInfo.Response(retType=0, s2c=s2c), serial)


class TestRequests:
    def test_the_first_subscription_also_asks_whether_the_gateway_is_logged_in(self, feed):
        assert [f.protocol for f in split(feed.subscribe_frames([AAPL])[0])] == [wire.GLOBAL_STATE, wire.SUB]
        assert [f.protocol for f in split(feed.subscribe_frames([TENCENT])[0])] == [wire.SUB]

    def test_one_request_for_a_list(self, feed):
        request = wire.read(pb.Sub.Request, split(feed.subscribe_frames([AAPL, TENCENT])[0])[-1]).c2s
        assert [wire.symbol_of(security) for security in request.securityList] == ["US.AAPL", "HK.00700"]
        assert (request.isSubOrUnSub, request.isRegOrUnRegPush, request.isFirstPush) == (True, True, True)

    def test_serial_numbers_are_never_used_twice(self, feed, clock):
        serials = [frame.serial for frame in split(feed.subscribe_frames([AAPL])[0])]
        for _ in range(10):
            serials += [frame.serial for frame in split(feed.ping_frame())]
        assert len(set(serials)) == len(serials)

    def test_an_ipv6_gateway(self, clock):
        assert FutuFeed("::1", 11111, quota=1, clock=clock).endpoint().url == "tcp://[::1]:11111"

    def test_limits(self, feed):
        assert (feed.limits.connections, feed.limits.subscriptions) == (1, 10)


class TestLogin:
    def test_let_in_with_an_interval(self, feed):
        s2c = pb.InitConnect.S2C(serverVer=1, loginUserID=1, connID=1, connAESKey="k" * 16, keepAliveInterval=15)
        answer = said(wire.INIT_CONNECT, pb.InitConnect.Response(retType=0, s2c=s2c), 1)
        assert feed.decode(answer, NOW_MS) == LoggedIn()
        assert feed.heartbeat.ping_every_s == 12.0

    @pytest.mark.parametrize(("named", "used"), [(0, 8.0), (-5, 8.0), (86_400, 48.0)])
    def test_an_absurd_interval_is_not_obeyed(self, feed, named, used):
        s2c = pb.InitConnect.S2C(serverVer=1, loginUserID=1, connID=1, connAESKey="", keepAliveInterval=named)
        feed.decode(said(wire.INIT_CONNECT, pb.InitConnect.Response(retType=0, s2c=s2c)), NOW_MS)
        assert feed.heartbeat.ping_every_s == used

    def test_refused(self, feed):
        found = feed.decode(said(wire.INIT_CONNECT, pb.Verdict(retType=-1, retMsg="no")), NOW_MS)
        assert isinstance(found, LoginRefused)
        assert found.kind == "slow"

    def test_an_acceptance_without_an_answer_is_malformed(self, feed):
        with pytest.raises(WireError):
            feed.decode(said(wire.INIT_CONNECT, pb.Verdict(retType=0)), NOW_MS)

    def test_keep_alive(self, feed):
        answer = pb.KeepAlive.Response(retType=0, s2c=pb.KeepAlive.S2C(time=1))
        assert feed.decode(said(wire.KEEP_ALIVE, answer), NOW_MS) == Pong()

    def test_a_state_that_is_refused_or_empty_changes_nothing(self, feed):
        for answer in (pb.Verdict(retType=-1), pb.Verdict(retType=0)):
            assert feed.decode(said(wire.GLOBAL_STATE, answer), NOW_MS) == Ignored("global_state_failed")


class TestSubscriptions:
    def test_an_answer_means_the_request_with_its_number(self, feed):
        request = split(feed.subscribe_frames([AAPL, TENCENT])[0])[-1]
        assert feed.decode(ok(request.serial), NOW_MS) == Several((Ack(AAPL.key, True), Ack(TENCENT.key, True)))
        assert feed.decode(ok(request.serial), NOW_MS) == Ignored("unasked_answer")
        assert feed.decode(ok(9999), NOW_MS) == Ignored("unasked_answer")

    def test_a_refused_list_names_nobody_a_refused_one_does(self, feed):
        request = split(feed.subscribe_frames([AAPL, TENCENT])[0])[-1]
        found = feed.decode(refused(request.serial, "unknown stock"), NOW_MS)
        assert (found.kind, found.stream) == (RefusalKind.INVALID, None)
        request = split(feed.subscribe_frames([TENCENT])[0])[-1]
        found = feed.decode(refused(request.serial, "quota exceeded"), NOW_MS)
        assert (found.kind, found.stream) == (RefusalKind.SUBSCRIPTION_CAP, TENCENT.key)
        assert "HK.00700" in found.text

    def test_an_answer_of_the_connection_before_means_nothing(self, feed):
        request = split(feed.subscribe_frames([AAPL])[0])[-1]
        feed.login_frames()
        assert feed.decode(ok(request.serial), NOW_MS) == Ignored("unasked_answer")
        assert feed.held_since(AAPL.key) is None

    def test_a_refused_cancellation_is_no_quota_problem(self, feed):
        subscribe(feed, AAPL)
        request = split(feed.unsubscribe_frames([AAPL])[0])[-1]
        found = feed.decode(refused(request.serial, "quota: hold it for a minute"), NOW_MS)
        assert isinstance(found, Refusal)
        assert found.kind is RefusalKind.OTHER

    def test_held_since_the_answer(self, feed, clock):
        assert feed.held_since(AAPL.key) is None
        feed.subscribe_frames([AAPL])
        clock.advance(5)
        assert feed.held_since(AAPL.key) == clock.monotonic()  # under way counts as now
        subscribe(feed, AAPL)
        clock.advance(5)
        assert feed.held_since(AAPL.key) == clock.monotonic() - 5

    def test_requests_without_answers_do_not_pile_up(self, feed):
        for _ in range(3000):
            feed.subscribe_frames([AAPL])
        assert len(feed._session._asked) == 1000


class TestTheGatewaysList:
    def test_it_is_asked_for_after_a_change_and_every_fourth_ping(self, feed):
        subscribe(feed, AAPL)
        asked = [bool(ping(feed, wire.SUB_INFO)) for _ in range(9)]
        assert asked == [True, False, False, True, False, False, False, True, False]

    def test_it_tells_the_quota(self, feed):
        subscribe(feed, AAPL, TENCENT)
        feed.decode(info(look(feed).serial, "US.AAPL", "HK.00700", used=7, left=3), NOW_MS)
        assert feed.quota == Quota(7, 3)
        assert feed.status()["quota_left"] == 3

    def test_what_it_lacks_is_no_longer_subscribed(self, feed):
        subscribe(feed, AAPL, TENCENT)
        found = feed.decode(info(look(feed).serial, "US.AAPL"), NOW_MS)
        assert found == AckList(frozenset({AAPL.key}))
        assert feed.held_since(TENCENT.key) is None

    def test_other_connections_do_not_count(self, feed):
        subscribe(feed, AAPL)
        assert feed.decode(info(look(feed).serial, "US.AAPL", own=False), NOW_MS) == AckList(frozenset())

    def test_one_that_may_be_older_than_an_acknowledgement_proves_nothing(self, feed):
        subscribe(feed, AAPL)
        request = look(feed)
        subscribe(feed, TENCENT)
        assert feed.decode(info(request.serial, "US.AAPL"), NOW_MS) == Ignored("sub_info")
        assert feed.held_since(TENCENT.key) is not None

    def test_one_that_was_asked_for_while_a_subscription_was_under_way_proves_nothing(self, feed):
        subscribe(feed, AAPL)
        feed.subscribe_frames([TENCENT])
        request = look(feed)
        assert feed.decode(info(request.serial, "US.AAPL"), NOW_MS) == Ignored("sub_info")

    def test_what_nobody_wants_is_cancelled_once_a_minute(self, feed, clock):
        subscribe(feed, AAPL)
        feed.decode(info(look(feed).serial, "US.AAPL", "US.TSLA"), NOW_MS)
        (cancel,) = ping(feed, wire.SUB)
        request = wire.read(pb.Sub.Request, cancel).c2s
        assert (request.isSubOrUnSub, [wire.symbol_of(s) for s in request.securityList]) == (False, ["US.TSLA"])
        assert ping(feed, wire.SUB) == []
        assert feed.decode(refused(cancel.serial, "one minute"), NOW_MS) == Ignored("stray_kept")
        clock.advance(61)
        assert len(ping(feed, wire.SUB)) == 1

    def test_what_is_being_asked_for_is_no_stray(self, feed):
        subscribe(feed, AAPL)
        request = split(feed.subscribe_frames([TENCENT])[0])[-1]
        feed.subscribe_frames([AAPL])  # the answer to the first never came, another request is under way
        feed.decode(ok(feed._session._current), NOW_MS)
        feed.decode(info(look(feed).serial, "US.AAPL", "HK.00700"), NOW_MS)
        assert ping(feed, wire.SUB) == []
        assert feed.decode(ok(request.serial), NOW_MS) == Ack(TENCENT.key, True)  # better late than never

    def test_a_failed_list_changes_nothing(self, feed):
        subscribe(feed, AAPL)
        answer = said(wire.SUB_INFO, pb.Verdict(retType=-1, retMsg="busy"), look(feed).serial)
        assert feed.decode(answer, NOW_MS) == Ignored("sub_info_failed")
        assert feed.held_since(AAPL.key) is not None


class TestAudits:
    def answer(self, feed, request, **changes):
        symbol = wire.symbol_of(wire.read(pb.OrderBook.Request, request).c2s.security)
        return feed.decode(push(symbol, serial=request.serial, protocol=wire.ORDER_BOOK, **changes), NOW_MS)

    def quiet(self, feed, clock):
        clock.advance(AUDIT_QUIET_S + 1)
        return ping(feed, wire.ORDER_BOOK)

    def test_the_quietest_are_looked_at_and_no_more_than_a_few(self, feed, clock):
        many = book_subscriptions([f"US.S{number}" for number in range(20)])
        subscribe(feed, *many)
        assert ping(feed, wire.ORDER_BOOK) == []
        asked = [len(self.quiet(feed, clock)) for _ in range(3)]
        assert asked == [AUDITS_AT_ONCE] * 3

    def test_a_book_that_agrees_is_in_order(self, feed, clock):
        subscribe(feed, AAPL)
        feed.decode(push("US.AAPL", bid=10.0), NOW_MS)
        for _ in range(3):
            (request,) = self.quiet(feed, clock)
            assert wire.read(pb.OrderBook.Request, request).c2s.num == AUDIT_LEVELS
            assert self.answer(feed, request, bid=10.0) == Ignored("audit_agrees")

    def test_twice_another_book_without_a_push_is_a_mute_stream(self, feed, clock):
        subscribe(feed, AAPL, TENCENT)
        feed.decode(push("US.AAPL", bid=10.0), NOW_MS)
        first = next(r for r in self.quiet(feed, clock) if b"AAPL" in r.body)
        assert self.answer(feed, first, bid=11.0) == Ignored("audit_differs")
        second = next(r for r in self.quiet(feed, clock) if b"AAPL" in r.body)
        assert self.answer(feed, second, bid=12.0) == AckList(frozenset({TENCENT.key}))

    def test_a_push_in_between_clears_the_doubt(self, feed, clock):
        subscribe(feed, AAPL)
        feed.decode(push("US.AAPL", bid=10.0), NOW_MS)
        for bid in (11.0, 12.0, 13.0):
            (request,) = self.quiet(feed, clock)
            assert self.answer(feed, request, bid=bid) == Ignored("audit_differs")
            feed.decode(push("US.AAPL", bid=bid), NOW_MS)

    def test_a_failed_audit_proves_nothing(self, feed, clock):
        subscribe(feed, AAPL)
        (request,) = self.quiet(feed, clock)
        answer = said(wire.ORDER_BOOK, pb.Verdict(retType=-1), request.serial)
        assert feed.decode(answer, NOW_MS) == Ignored("audit_failed")
        assert self.answer(feed, request) == Ignored("audit_failed")


class TestBooks:
    def test_repeats_are_signs_of_life_without_a_book(self, feed):
        first, again = (feed.decode(push("US.AAPL"), NOW_MS + n) for n in range(2))
        assert len(first.messages) == 1
        assert isinstance(again, Data)
        assert (again.messages, again.received_ms) == ((), NOW_MS + 1)

    def test_the_cached_first_push_without_a_time_repeats_too(self, feed):
        feed.decode(push("US.AAPL"), NOW_MS)
        feed.login_frames()
        assert feed.decode(push("US.AAPL", time_ms=0), NOW_MS + 5).messages == ()

    def test_times_rise_whatever_the_server_says(self, feed):
        times = []
        for number, server_ms in enumerate((NOW_MS - 50, NOW_MS - 50, NOW_MS - 80, 0, NOW_MS - 10)):
            found = feed.decode(push("US.AAPL", bid=10.0 + number, time_ms=server_ms), NOW_MS)
            times += [book.time_ms for book in found.messages]
        assert times == [NOW_MS - 50, NOW_MS - 49, NOW_MS - 48, NOW_MS, NOW_MS + 1]

    def test_a_server_clock_that_jumps_back_is_replaced_by_the_arrival(self, feed):
        feed.decode(push("US.AAPL", bid=1.0), NOW_MS)
        later = NOW_MS + 10_000
        found = feed.decode(push("US.AAPL", bid=2.0, time_ms=NOW_MS - 3_600_000), later)
        assert found.messages[0].time_ms == later

    def test_one_that_is_wanted_no_more_begins_afresh(self, feed):
        subscribe(feed, AAPL)
        feed.decode(push("US.AAPL"), NOW_MS)
        feed.unsubscribe_frames([AAPL])
        assert len(feed.decode(push("US.AAPL"), NOW_MS).messages) == 1

    def test_failures_and_text_are_no_books(self, feed):
        with pytest.raises(WireError, match="failed_push"):
            feed.decode(said(wire.ORDER_BOOK_PUSH, pb.Verdict(retType=-1)), NOW_MS)
        with pytest.raises(WireError, match="text_frame"):
            feed.decode("text", NOW_MS)

    @pytest.mark.parametrize(
        "body", [b"[" * 100_000, b'{"s2c":' * 100_000, b"{}", b"[]", b"\xff", b'{"retType":"x"}']
    )
    def test_json_that_is_none(self, feed, body):
        with pytest.raises(WireError, match="malformed_body"):
            feed.decode(pack(Frame(wire.ORDER_BOOK_PUSH, 0, body, 1)), NOW_MS)

    def test_json_with_numbers_as_text_and_unknown_fields(self, feed):
        level = {"price": 414.2, "volume": "60600", "orederCount": 63, "new": [1]}
        s2c = {"security": {"market": 1, "code": "00700"}, "orderBookBidList": [level], "orderBookAskList": []}
        body = json.dumps({"retType": 0, "retMsg": "", "s2c": s2c}).encode()
        (book,) = feed.decode(pack(Frame(wire.ORDER_BOOK_PUSH, 0, body, 1)), NOW_MS).messages
        assert (book.symbol, book.bids[0].px, book.bids[0].sz, book.bids[0].n) == ("HK.00700", "414.2", "60600", 63)

    def test_odd_lots_and_unknown_protocols_are_counted(self, feed):
        body = pb.OrderBook.Response(retType=0, s2c=pb.OrderBook.S2C(security=wire.security("HK.1"), orderBookType=1))
        assert feed.decode(said(wire.ORDER_BOOK_PUSH, body), NOW_MS) == Ignored("odd_lots")
        assert feed.decode(said(3452, pb.Verdict(retType=0)), NOW_MS) == Ignored("unknown_protocol")


class TestRecordedPushes:
    TIMES = (
        "2025-04-07T09:00:53.973Z",
        "2020-04-29T07:55:53.299Z",
        "2020-12-14T17:25:00.990Z",
        "2020-07-30T15:44:06.596Z",
    )

    def rows(self):
        if not RECORDED.exists():
            pytest.skip(f"no recorded pushes at {RECORDED}")
        return [json.loads(line) for line in RECORDED.read_text().splitlines()]

    def as_pushed(self, row):
        def levels(side):
            return [pb.OrderBookLevel(price=p, volume=v, orederCount=n) for p, v, n, *_ in side]

        s2c = pb.OrderBook.S2C(
            security=wire.security(row["code"]),
            orderBookBidList=levels(row["Bid"]),
            orderBookAskList=levels(row["Ask"]),
            svrRecvTimeBid=row["svr_recv_time_bid"],
            svrRecvTimeAsk=row["svr_recv_time_ask"],
        )
        return said(wire.ORDER_BOOK_PUSH, pb.OrderBook.Response(retType=0, retMsg="", s2c=s2c))

    def test_every_level_and_time_survives(self, feed):
        from datetime import datetime

        received = 1_780_000_000_000
        for row, expected in zip(self.rows(), self.TIMES, strict=True):
            data = feed.decode(self.as_pushed(row), received)
            (book,) = data.messages
            assert data.stream == stream_of(row["code"])
            for side, recorded in ((book.bids, row["Bid"]), (book.asks, row["Ask"])):
                assert [(float(x.px), float(x.sz), x.n) for x in side] == [(p, v, n) for p, v, n, *_ in recorded]
            assert book.time_ms == round(datetime.fromisoformat(expected).timestamp() * 1000)
