"""What every venue's feed promises to the connection machinery; one case per venue, the same tests for all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from src.models.clock import ManualClock
from src.models.errors import WireError
from src.models.messages import Ack, AckList, Data, Pong, Refusal, RefusalKind
from src.models.metrics import FRAMES_REJECTED, Metrics
from src.models.streams import Subscription
from src.venues.budget import Budget
from src.venues.clock import SystemClock
from src.venues.feed import BatchFeed, Feed, LoginFeed
from src.venues.pool import Pool
from tests.support import alpaca_contract, hyperliquid_case, stockbit_case
from tests.support.toy_venue import QUICK, MemorySink, ToyFeed, market, until, user_feeds

RECEIVED_MS = 1_700_000_000_123
VENUE_MS = 1_700_000_000_000


class FeedCase(Struct, frozen=True):
    """A venue and sample frames in its own words.

    Attributes:
        make: a fresh feed.
        subscriptions: at least two that are asked for in different words.
        ack: (subscription, subscribed) -> the venue's acknowledgement; None for a venue that has none.
        data: (subscription, venue time in ms) -> a data frame of that stream.
        pong: the answer to the ping, None when the protocol's own ping is used.
        refusals: error frames and what they mean.
        greeting: what the venue says first, None when it waits for us.
        answers: of a venue with a log-in or with lists of subscriptions: what it says to a frame of ours.
        reads: the sample frames are text (`str`) or binary (`bytes`).
    """

    make: Callable[[], Feed]
    subscriptions: tuple[Subscription, ...]
    ack: Callable[[Subscription, bool], str | bytes] | None
    data: Callable[[Subscription, int], str | bytes]
    pong: str | bytes | None
    refusals: tuple[tuple[str | bytes, RefusalKind], ...] = ()
    binary: bool = False
    greeting: str | bytes | None = None
    answers: Callable[[str | bytes], Sequence[str | bytes]] | None = None

    def samples(self) -> list[str | bytes]:
        frames = [self.data(subscription, VENUE_MS) for subscription in self.subscriptions]
        if self.ack is not None:
            frames += [self.ack(subscription, True) for subscription in self.subscriptions]
        return [*frames, *(frame for frame, _ in self.refusals), *([self.pong] if self.pong else [])]


def _toy_ack(subscription: Subscription, subscribed: bool) -> str:
    return json.dumps({"k": "ack", "ch": subscription.key.channel, "s": subscription.key.subject, "on": subscribed})


def _toy_data(subscription: Subscription, venue_ms: int) -> str:
    key = subscription.key
    return json.dumps({"k": "data", "ch": key.channel, "s": key.subject, "n": 1, "t": venue_ms})


TOY = FeedCase(
    make=ToyFeed,
    subscriptions=(market("BTC"), market("ETH"), *user_feeds("0xaa")),
    ack=_toy_ack,
    data=_toy_data,
    pong='{"k": "pong"}',
    refusals=(
        ('{"k": "err", "kind": "user_cap", "text": "Cannot track more than 10 total users."}', RefusalKind.USER_CAP),
        ('{"k": "err", "kind": "invalid_subscription", "s": "BTC"}', RefusalKind.INVALID),
    ),
)

HYPERLIQUID = FeedCase(
    make=hyperliquid_case.make_feed,
    subscriptions=hyperliquid_case.SUBSCRIPTIONS,
    ack=hyperliquid_case.ack,
    data=hyperliquid_case.data,
    pong=hyperliquid_case.PONG,
    refusals=hyperliquid_case.REFUSALS,
)

CASES = {
    "toy": TOY,
    "hyperliquid": HYPERLIQUID,
    "alpaca": FeedCase(**alpaca_contract.case("msgpack")),
    "alpaca-json": FeedCase(**alpaca_contract.case("json")),
    "stockbit": FeedCase(
        make=stockbit_case.make_feed,
        subscriptions=stockbit_case.SUBSCRIPTIONS,
        ack=None,
        data=stockbit_case.data,
        pong=stockbit_case.PONG,
        refusals=stockbit_case.REFUSALS,
        binary=True,
        answers=stockbit_case.answers,
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> FeedCase:
    return request.param


# -- the five answers --------------------------------------------------------------------------------------------------


def test_the_name_is_the_first_part_of_every_stream(case: FeedCase) -> None:
    feed = case.make()
    assert feed.venue == feed.venue.lower().strip() != ""
    assert {subscription.key.venue for subscription in case.subscriptions} == {feed.venue}


def test_the_endpoint_is_a_bounded_websocket(case: FeedCase) -> None:
    endpoint = case.make().endpoint()
    assert endpoint.url.startswith(("ws://", "wss://"))
    assert 0 < endpoint.max_size_bytes <= 64 * 1024 * 1024
    assert endpoint.binary is case.binary


def test_limits_and_heartbeat_make_sense(case: FeedCase) -> None:
    feed = case.make()
    limits = feed.limits
    for limit in (limits.connections, limits.connects_per_minute, limits.subscriptions, limits.users):
        assert limit is None or limit > 0
    assert 0 < feed.heartbeat.ping_every_s < 60
    assert 0 < feed.heartbeat.deadline_s < 60


def test_frames_to_the_venue_are_its_own_and_repeatable(case: FeedCase) -> None:
    feed = case.make()
    asked = [feed.subscribe_frame(subscription) for subscription in case.subscriptions]
    assert asked == [feed.subscribe_frame(subscription) for subscription in case.subscriptions]
    assert len(set(asked)) == len(asked)
    for subscription, frame in zip(case.subscriptions, asked, strict=True):
        assert frame
        assert feed.unsubscribe_frame(subscription) not in ("", b"", frame)


def test_acknowledgements_name_their_stream(case: FeedCase) -> None:
    if case.ack is None:
        pytest.skip("this venue does not acknowledge")
    feed = case.make()
    for subscription in case.subscriptions:
        for subscribed in (True, False):
            frame = case.ack(subscription, subscribed)
            listed = AckList(frozenset({subscription.key} if subscribed else ()))
            assert feed.decode(frame, RECEIVED_MS) in (Ack(subscription.key, subscribed), listed)


def test_data_names_its_stream_its_time_and_its_size(case: FeedCase) -> None:
    feed = case.make()
    for subscription in case.subscriptions:
        frame = case.data(subscription, VENUE_MS)
        data = feed.decode(frame, RECEIVED_MS)
        assert isinstance(data, Data)
        assert data.stream == subscription.key
        assert data.venue_ms in (VENUE_MS, None)
        assert data.size_bytes in (0, len(frame))
        assert all(message.received_ms == RECEIVED_MS for message in data.messages)


def test_a_pong_is_no_data(case: FeedCase) -> None:
    feed = case.make()
    assert (feed.ping_frame() is None) is (case.pong is None)
    if case.pong is not None:
        assert feed.decode(case.pong, RECEIVED_MS) == Pong()


def test_refusals_are_understood(case: FeedCase) -> None:
    feed = case.make()
    for frame, kind in case.refusals:
        refusal = feed.decode(frame, RECEIVED_MS)
        assert isinstance(refusal, Refusal)
        assert refusal.kind is kind


def test_text_means_the_same_as_bytes(case: FeedCase) -> None:
    if case.binary:
        pytest.skip("this venue speaks binary")
    for frame in case.samples():
        assert isinstance(frame, str)
        assert case.make().decode(frame.encode(), RECEIVED_MS) == case.make().decode(frame, RECEIVED_MS)


def test_a_repeated_frame_means_the_same_again(case: FeedCase) -> None:
    feed = case.make()
    for frame in case.samples():
        assert feed.decode(frame, RECEIVED_MS) == feed.decode(frame, RECEIVED_MS)


# -- malformed input ---------------------------------------------------------------------------------------------------

GARBAGE = [b"", b"{", b"[]", b"null", b"1", b"{}", b'"text"', b"\x00\xff", b'{"a":' * 500, b"NaN", b"9" * 400]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:12]))
def test_garbage_is_a_wire_error_with_a_short_reason(case: FeedCase, garbage: bytes) -> None:
    with contextlib.suppress(WireError):
        pytest.fail(f"accepted: {case.make().decode(garbage, RECEIVED_MS)}")
    with pytest.raises(WireError) as caught:
        case.make().decode(garbage, RECEIVED_MS)
    assert caught.value.reason.replace("_", "").isalnum()
    assert len(caught.value.reason) <= 40
    assert len(caught.value.detail) <= 1000


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_only_the_wire_error_leaves_a_decoder(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    sample = data.draw(st.sampled_from(case.samples()))
    raw = bytearray(sample.encode() if isinstance(sample, str) else sample)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        stop = data.draw(st.integers(start, min(len(raw), start + 8)))
        raw[start:stop] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"null", b"[]", b"{}", b"-1", b'"', b"1e999"])
        )
    with contextlib.suppress(WireError):
        case.make().decode(bytes(raw), RECEIVED_MS)


# -- a life with the machinery -----------------------------------------------------------------------------------------


class PlayedVenue:
    """Plays a venue in memory from the case's sample frames: acknowledges, sends one data frame, answers pings."""

    def __init__(self, case: FeedCase) -> None:
        self.case = case
        self.asked: list[list[str | bytes]] = []
        self.sockets: list[PlayedSocket] = []

    async def open(self, _endpoint: Any, _timing: Any) -> PlayedSocket:
        socket = PlayedSocket(self)
        if self.case.greeting is not None:
            socket.say(self.case.greeting)
        self.sockets.append(socket)
        self.asked.append([])
        return socket


class PlayedSocket:
    def __init__(self, venue: PlayedVenue) -> None:
        self.heard = 0
        self.closing = False
        self._venue = venue
        self._feed = venue.case.make()
        self._frames: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    def say(self, frame: str | bytes | None) -> None:
        self._frames.put_nowait(frame)

    async def recv(self) -> tuple[bytes, bool]:
        frame = await self._frames.get()
        if frame is None:
            raise ConnectionResetError("gone")
        self.heard += 1
        return (frame.encode(), False) if isinstance(frame, str) else (frame, self._venue.case.binary)

    async def send(self, frame: str | bytes) -> None:
        self._venue.asked[-1].append(frame)
        case = self._venue.case
        if case.answers is not None:
            for answer in case.answers(frame):
                self.say(answer)
            return
        if frame == self._feed.ping_frame():
            self.say(case.pong)
        for subscription in case.subscriptions:
            if frame == self._feed.subscribe_frame(subscription):
                if case.ack is not None:
                    self.say(case.ack(subscription, True))
                self.say(case.data(subscription, VENUE_MS))

    async def ping(self) -> None:
        self.heard += 1

    async def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


@contextlib.asynccontextmanager
async def playing(case: FeedCase) -> AsyncIterator[tuple[PlayedVenue, MemorySink, Pool, Metrics]]:
    venue, sink, clock, metrics = PlayedVenue(case), MemorySink(), SystemClock(), Metrics()
    feed = case.make()
    budget = Budget(feed.limits, clock=clock, spacing_s=0.0)
    pool = Pool(
        feed=feed, sink=sink, clock=clock, metrics=metrics, budget=budget, clients=1, timing=QUICK, opener=venue.open
    )
    pool.set_target(case.subscriptions)
    task = asyncio.create_task(pool.run())
    try:
        await until(lambda: len({data.stream for data in sink.received}) == len(case.subscriptions))
        yield venue, sink, pool, metrics
    finally:
        await pool.close()
        await task


async def test_every_subscription_is_asked_for_once_and_becomes_fresh(case: FeedCase) -> None:
    async with playing(case) as (venue, _, pool, _):
        asked = [frame for frame in venue.asked[0] if frame != case.make().ping_frame()]
        feed, wanted = case.make(), case.subscriptions
        expected = list(feed.login_frames()) if isinstance(feed, LoginFeed) else []
        if isinstance(feed, BatchFeed):
            expected += feed.subscribe_frames(wanted)
        else:
            expected += [feed.subscribe_frame(subscription) for subscription in wanted]
        expected = [frame for frame in expected if frame != feed.ping_frame()]
        assert sorted(map(str, asked)) == sorted(map(str, expected))
        assert not {row["state"] for row in pool.status()["streams"].values()} & {"failed", "pending"}


async def test_a_reconnect_replays_the_same_frames_and_tells_the_gap(case: FeedCase) -> None:
    async with playing(case) as (venue, sink, _, _):
        venue.sockets[0].say(None)
        await until(lambda: len(sink.received) >= 2 * len(case.subscriptions))
        first, second = (
            sorted(str(frame) for frame in frames if frame != case.make().ping_frame()) for frames in venue.asked[:2]
        )
        assert first == second
        assert {stream for gap in sink.gaps for stream in gap.streams} == {s.key for s in case.subscriptions}


async def test_garbage_costs_nothing_but_itself(case: FeedCase) -> None:
    async with playing(case) as (venue, sink, _, metrics):
        before = len(sink.received)
        for garbage in GARBAGE:
            venue.sockets[0].say(garbage if case.binary else garbage.decode("latin-1"))
        venue.sockets[0].say(case.data(case.subscriptions[0], VENUE_MS))
        await until(lambda: len(sink.received) == before + 1)
        assert metrics.total(FRAMES_REJECTED) == len(GARBAGE)
        assert not metrics.value(FRAMES_REJECTED, case.make().venue, "mapper_bug")
        assert len(venue.sockets) == 1


async def test_duplicates_are_handed_on_as_they_came(case: FeedCase) -> None:
    async with playing(case) as (venue, sink, _, _):
        before, frame = len(sink.received), case.data(case.subscriptions[0], VENUE_MS)
        for _ in range(3):
            venue.sockets[0].say(frame)
        await until(lambda: len(sink.received) == before + 3)


def test_a_decoder_asks_no_clock(case: FeedCase) -> None:
    clock = ManualClock()
    frame = case.data(case.subscriptions[0], VENUE_MS)
    early = case.make().decode(frame, clock.wall_ms())
    late = case.make().decode(frame, clock.wall_ms() + 10_000)
    assert isinstance(early, Data)
    assert isinstance(late, Data)
    assert early.venue_ms == late.venue_ms
    for one, other in zip(early.messages, late.messages, strict=True):
        assert other.received_ms - one.received_ms == 10_000
