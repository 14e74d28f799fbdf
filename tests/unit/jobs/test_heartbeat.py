"""Heartbeats, and the holes that a start opens for the time in which nobody looked."""

import asyncio

import pytest

from src.jobs.writer.heartbeat import HEARTBEAT_ID, Heartbeat, LastRun, absences, find_absences
from src.models.changes import HoleClosed, HoleOpened
from src.models.clock import ManualClock
from src.models.errors import StoreError
from src.models.messages import Gap, GapReason
from src.models.streams import StreamKey
from src.models.writes import Collection, WriteBatch
from src.pipeline.documents import to_date, write_of_hole, write_of_hole_end
from src.store.memory import MemoryStore

A, B, C = (StreamKey("toy", "list", f"0x{letter * 40}") for letter in "abc")
NOW_MS = 1_700_000_000_000


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def clock():
    return ManualClock(wall_ms=NOW_MS)


def beats(store):
    return [d for d in store.documents(Collection.SCHEMA) if d["_id"] == HEARTBEAT_ID]


async def test_a_heartbeat_says_who_lives_since_when_and_what_is_collected(store, clock):
    heartbeat = Heartbeat(store, clock, version="1.2", streams=lambda: [A, B])
    clock.advance(7.0)
    await heartbeat.beat()
    [beat] = beats(store)
    assert beat["at"] == to_date(NOW_MS + 7_000)
    assert beat["startedAt"] == to_date(NOW_MS)
    assert beat["version"] == "1.2"
    assert beat["pid"] > 0
    assert beat["host"]
    assert beat["streams"] == [list(A), list(B)]


async def test_streams_are_written_again_only_when_they_changed(store, clock):
    streams = [A]
    heartbeat = Heartbeat(store, clock, version="1", streams=lambda: streams)
    for _ in range(2):
        await heartbeat.beat()
        clock.advance(5.0)
    assert "streams" not in store.batches[-1].groups[0][0].values
    streams.append(B)
    await heartbeat.beat()
    assert beats(store)[0]["streams"] == [list(A), list(B)]


async def test_the_last_run_is_the_one_before_this_one(store, clock):
    first = Heartbeat(store, clock, version="1", streams=lambda: [A])
    assert await first.last() is None
    await first.beat()
    assert await first.last() is None
    clock.advance(60.0)
    second = Heartbeat(store, clock, version="1", streams=lambda: [B])
    earlier = LastRun(NOW_MS, frozenset({A}))
    assert await second.last() == earlier
    await second.beat()
    clock.advance(5.0)
    await second.beat()
    assert await second.last() == earlier


async def test_the_first_beat_of_a_run_that_never_looked_still_remembers_the_run_before(store, clock):
    await Heartbeat(store, clock, version="1", streams=lambda: [A]).beat()
    clock.advance(60.0)
    heartbeat = Heartbeat(store, clock, version="1")
    await heartbeat.beat()
    assert (await heartbeat.last()).at_ms == NOW_MS


async def test_a_heartbeat_that_somebody_removed_is_whole_again_soon(store, clock):
    heartbeat = Heartbeat(store, clock, version="1", streams=lambda: [A])
    await heartbeat.beat()
    store._documents[Collection.SCHEMA].clear()
    for _ in range(2):
        clock.advance(5.0)
        await heartbeat.beat()
    assert beats(store)[0]["streams"] == [list(A)]
    assert beats(store)[0]["run"]


async def test_beating_survives_a_database_that_is_away(store, clock):
    store.fail_next(*[StoreError("away")] * 3)
    stopping = asyncio.Event()
    heartbeat = Heartbeat(store, clock, version="1", streams=lambda: [A], interval_s=0.001)
    task = asyncio.create_task(heartbeat.run(stopping))
    async with asyncio.timeout(5):
        while not beats(store):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.001)
        stopping.set()
        await task


async def test_the_file_goes_on_where_the_database_could_not(store, clock, tmp_path):
    file = tmp_path / "heartbeat"
    first = Heartbeat(store, clock, version="1", streams=lambda: [A], file=file)
    await first.beat()
    clock.advance(3600.0)
    store.fail_next(StoreError("away"))
    with pytest.raises(StoreError):
        await first.beat()
    second = Heartbeat(store, clock, version="1", file=file)
    assert await second.last() == LastRun(NOW_MS + 3_600_000, frozenset({A}))


@pytest.mark.parametrize("body", [b"", b"{", b'{"run":"somebody else","at_ms":9999999999999}', None])
async def test_a_file_of_another_run_or_a_broken_one_does_not_count(store, clock, tmp_path, body):
    await Heartbeat(store, clock, version="1").beat()
    clock.advance(60.0)
    file = tmp_path / "heartbeat"
    if body is not None:
        file.write_bytes(body)
    assert (await Heartbeat(store, clock, version="1", file=file).last()).at_ms == NOW_MS


async def test_a_file_that_cannot_be_written_harms_nothing(store, clock, tmp_path):
    await Heartbeat(store, clock, version="1", file=tmp_path / "missing" / "heartbeat").beat()
    assert beats(store)


# -- holes at the start --------------------------------------------------------------------------------------------


def test_a_first_start_has_only_the_holes_of_before_it_was_asked_for():
    gaps = absences([A, B], known=(), last=None, open_holes=(), now_ms=NOW_MS)
    assert gaps == [Gap((A, B), GapReason.NOT_COLLECTED, 0)]


def test_what_was_collected_before_was_not_seen_since_the_last_heartbeat():
    last = LastRun(NOW_MS - 60_000, frozenset({A, B}))
    gaps = absences([A, B, C], known={A, B}, last=last, open_holes=(), now_ms=NOW_MS)
    assert gaps == [
        Gap((C,), GapReason.NOT_COLLECTED, 0),
        Gap((A, B), GapReason.PROCESS_DOWN, NOW_MS - 60_000),
    ]


def test_an_open_hole_stays_as_it_is():
    last = LastRun(NOW_MS - 60_000, frozenset({A, B}))
    gaps = absences([A, B], known={A, B}, last=last, open_holes={A}, now_ms=NOW_MS)
    assert gaps == [Gap((B,), GapReason.PROCESS_DOWN, NOW_MS - 60_000)]


def test_what_is_not_wanted_any_more_is_not_seen_either():
    last = LastRun(NOW_MS - 60_000, frozenset({A, B, C}))
    gaps = absences([A], known={A}, last=last, open_holes={C}, now_ms=NOW_MS)
    assert gaps == [
        Gap((A,), GapReason.PROCESS_DOWN, NOW_MS - 60_000),
        Gap((B,), GapReason.UNSUBSCRIBED, NOW_MS - 60_000),
    ]


def test_a_heartbeat_from_the_future_counts_as_from_now():
    last = LastRun(NOW_MS + 3_600_000, frozenset({A}))
    [gap] = absences([A], known={A}, last=last, open_holes=(), now_ms=NOW_MS)
    assert gap.at_ms == NOW_MS


def test_streams_added_later_need_no_earlier_run():
    assert absences([A, B], known={A}, last=None, open_holes=(), now_ms=NOW_MS) == [
        Gap((B,), GapReason.NOT_COLLECTED, 0)
    ]


async def test_a_stream_is_known_by_any_hole_it_ever_had(store):
    first = HoleOpened(str(A), "toy", 0, "not_collected")
    later = HoleOpened(str(B), "toy", NOW_MS, "disconnect")
    ends = [HoleClosed(one.stream, "toy", one.from_ms, NOW_MS + 5, one.reason) for one in (first, later)]
    writes = [*map(write_of_hole, (first, later)), *map(write_of_hole_end, ends)]
    await store.write(WriteBatch(1, [writes]))
    last = LastRun(NOW_MS, frozenset())
    gaps = await find_absences(store, [A, B, C], last=last, open_holes=(), now_ms=NOW_MS)
    assert gaps == [Gap((C,), GapReason.NOT_COLLECTED, 0), Gap((A, B), GapReason.PROCESS_DOWN, NOW_MS)]


@pytest.mark.parametrize(
    "stream",
    [
        A,
        StreamKey("hyperliquid", "openOrders", "0x" + "ab" * 20, "xyz"),
        StreamKey("hyperliquid", "trades", "PURR/USDC"),
        StreamKey("hyperliquid", "l2Book", "xyz:TSLA"),
    ],
)
def test_names_of_streams_are_read_back(stream):
    assert StreamKey.parse(str(stream)) == stream


def test_what_is_no_name_of_a_stream_is_refused():
    with pytest.raises(ValueError, match="not enough values"):
        StreamKey.parse("hyperliquid/trades")
