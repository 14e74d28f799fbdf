"""Reading the leaderboard file as a stream, from files that are fine, broken, cut, slow and huge."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from contextlib import aclosing

import httpx
import pytest

from src.models.clock import ManualClock
from src.models.errors import VenueError, VenueFatalError, VenueRateLimitedError
from src.models.filters import Filter
from src.models.metrics import FRAMES_REJECTED, REST_REQUESTS, Metrics
from src.venues.clock import SystemClock
from src.venues.hyperliquid.leaderboard import (
    ATTEMPTS,
    read_row,
    stream_leaderboard,
    top_traders,
)
from src.venues.hyperliquid.ranking import LeaderboardRow, Ranking, WindowPerformance

MONTH_INDEX = 2


def address(number: int) -> str:
    return f"0x{number:040x}"


def row(number: int, *, value: float = 1_000_000, month: float = 0, week_volume: float = 1) -> dict:
    def figures(pnl: float, vlm: float) -> dict[str, str]:
        return {"pnl": str(pnl), "roi": "0.0939", "vlm": str(vlm)}

    return {
        "ethAddress": address(number),
        "accountValue": str(value),
        "windowPerformances": [
            ["day", figures(1.5, 0)],
            ["week", figures(-2.5, week_volume)],
            ["month", figures(month, 10)],
            ["allTime", figures(552000.9, 99502311.0)],
        ],
        "prize": 0,
        "displayName": None,
    }


def file_of(rows: list) -> bytes:
    return json.dumps({"leaderboardRows": rows}, separators=(",", ":")).encode()


async def read(url: str, **options) -> list[LeaderboardRow]:
    rows = stream_leaderboard(url, clock=SystemClock(), metrics=options.pop("metrics", Metrics()), **options)
    async with aclosing(rows):
        return [item async for item in rows]


async def best(url: str, n: int, **options) -> list[str]:
    async def no_wait(_seconds: float) -> None:
        await asyncio.sleep(0)

    options = {"metrics": Metrics(), "clock": SystemClock(), "sleep": no_wait, **options}
    return [item.address for item in await top_traders(url, n, **options)]


async def test_rows_come_as_typed_values_in_the_files_order(scripted_http) -> None:
    rows = [row(171, month=90321.0), row(2)]
    rows[0]["ethAddress"] = rows[0]["ethAddress"].upper().replace("0X", "0x")
    rows[1]["displayName"] = "a name"
    scripted_http.answer(200, file_of(rows))
    metrics = Metrics()
    first, second = await read(scripted_http.url, metrics=metrics)
    assert first == LeaderboardRow(
        address=address(171),
        account_value=1_000_000.0,
        day=WindowPerformance(1.5, 0.0939, 0.0),
        week=WindowPerformance(-2.5, 0.0939, 1.0),
        month=WindowPerformance(90321.0, 0.0939, 10.0),
        all_time=WindowPerformance(552000.9, 0.0939, 99502311.0),
        display_name=None,
    )
    assert (second.address, second.display_name) == (address(2), "a name")
    assert scripted_http.requests[0].startswith(b"GET /leaderboard HTTP/1.1\r\n")
    assert metrics.value(REST_REQUESTS, "hyperliquid", "ok") == 1


async def test_a_compressed_file_is_read_too(scripted_http) -> None:
    scripted_http.answer(200, gzip.compress(file_of([row(1), row(2)])), headers={"Content-Encoding": "gzip"})
    assert len(await read(scripted_http.url)) == 2


@pytest.mark.parametrize(
    "broken",
    [
        None,
        5,
        "text",
        [],
        {},
        {"ethAddress": "0x12", "accountValue": "1"},
        {"ethAddress": address(1)},
        {"ethAddress": address(1), "accountValue": None},
        {"ethAddress": address(1), "accountValue": "NaN"},
        {"ethAddress": address(1), "accountValue": "1e999"},
        {"ethAddress": address(1), "accountValue": True},
        {"ethAddress": address(1), "accountValue": {"a": [1]}},
        {"ethAddress": 7, "accountValue": "1"},
    ],
)
async def test_a_row_that_cannot_be_read_is_counted_and_skipped(scripted_http, broken) -> None:
    scripted_http.answer(200, file_of([broken, row(9)]))
    metrics = Metrics()
    assert [item.address for item in await read(scripted_http.url, metrics=metrics)] == [address(9)]
    assert metrics.value(FRAMES_REJECTED, "hyperliquid", "leaderboard_row") == 1


@pytest.mark.parametrize(
    "windows",
    [None, 5, {}, [], [["month"]], [5], [["month", None]], [["month", {"pnl": "x", "vlm": "1"}]], [[1, {}]]],
)
def test_a_row_without_readable_windows_is_kept_and_ranked_last(windows) -> None:
    ranking = Ranking(2, filters=[Filter.parse("week.vlm>0")], admitted_only=False)
    bare = read_row({**row(1), "windowPerformances": windows})
    assert bare is not None
    assert bare.month is None
    worst = read_row(row(2, month=-1e12))
    assert worst is not None
    ranking.take(bare)
    ranking.take(worst)
    assert [ranked.row for ranked in ranking.best()] == [worst, bare]


def test_numbers_may_be_written_as_numbers_and_unknown_fields_are_ignored() -> None:
    item = row(1)
    item["accountValue"] = 5
    item["windowPerformances"][MONTH_INDEX][1] = {"pnl": 3.5, "roi": None, "vlm": 4, "new": 1}
    found = read_row({**item, "somethingNew": {}})
    assert found is not None
    assert found.account_value == 5.0
    assert found.month == WindowPerformance(3.5, 0.0, 4.0)


async def test_the_best_are_those_with_the_largest_profit_of_the_month(scripted_http) -> None:
    rows = [row(number, month=(number * 7919) % 1000) for number in range(1, 301)]
    scripted_http.answer(200, file_of(rows))
    by_profit = sorted(rows, key=lambda item: float(item["windowPerformances"][MONTH_INDEX][1]["pnl"]), reverse=True)
    assert await best(scripted_http.url, 10) == [item["ethAddress"] for item in by_profit[:10]]


async def test_small_and_sleeping_accounts_come_after_all_others(scripted_http) -> None:
    rows = [
        row(1, value=99_999, month=9e9),
        row(2, month=8e9, week_volume=0),
        row(3, month=-5),
        row(4, value=100_000, month=1),
    ]
    scripted_http.answer(200, file_of(rows))
    assert await best(scripted_http.url, 4) == [address(4), address(3), address(1), address(2)]
    assert await best(scripted_http.url, 1) == [address(4)]
    assert await best(scripted_http.url, 2, min_account_value=0) == [address(1), address(4)]


async def test_an_account_listed_twice_takes_one_place_and_ties_are_broken_the_same_way(scripted_http) -> None:
    scripted_http.answer(200, file_of([row(1, month=5), row(1, month=5), row(3, month=4), row(2, month=4)]))
    assert await best(scripted_http.url, 3) == [address(1), address(3), address(2)]


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, VenueFatalError), (429, VenueRateLimitedError), (503, VenueError), (301, VenueFatalError)],
)
async def test_a_refusal_is_a_venue_error(scripted_http, status, error) -> None:
    scripted_http.answer(status, b"<html>no</html>", headers={"Location": "http://127.0.0.1:1/other"})
    with pytest.raises(error, match=str(status)):
        await read(scripted_http.url)
    assert len(scripted_http.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>maintenance</html>", b'{"leaderboardRows":[{"a":}]}', b"\xff\xfe{}"])
async def test_a_body_that_is_not_the_file_is_a_venue_error(scripted_http, body) -> None:
    scripted_http.answer(200, body)
    with pytest.raises(VenueError, match="not the leaderboard"):
        await read(scripted_http.url)


async def test_a_file_cut_off_in_the_middle_is_an_error_after_the_rows_before_it(scripted_http) -> None:
    scripted_http.answer(200, file_of([row(number) for number in range(1000)])[:-20])
    rows = stream_leaderboard(scripted_http.url, clock=SystemClock(), metrics=Metrics())
    seen: list[LeaderboardRow] = []

    async def read_on() -> None:
        async for item in rows:
            seen.append(item)  # noqa: PERF401 - what was read before the error counts

    with pytest.raises(VenueError, match="cut off"):
        await read_on()
    assert len(seen) == 999


async def test_a_connection_cut_in_the_middle_is_tried_again_from_the_start(scripted_http) -> None:
    body = file_of([row(number, month=number) for number in range(1, 500)])

    async def cut(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        await writer.drain()

    scripted_http.script.append(cut)
    scripted_http.answer(200, body)
    assert await best(scripted_http.url, 2) == [address(499), address(498)]
    assert len(scripted_http.requests) == 2


async def test_attempts_are_bounded(scripted_http) -> None:
    scripted_http.answer(503, b"")
    with pytest.raises(VenueError, match="503"):
        await best(scripted_http.url, 2)
    assert len(scripted_http.requests) == ATTEMPTS


async def test_a_refusal_for_good_is_not_tried_again(scripted_http) -> None:
    scripted_http.answer(403, b"")
    with pytest.raises(VenueFatalError):
        await best(scripted_http.url, 2)
    assert len(scripted_http.requests) == 1


async def test_a_file_without_rows_says_what_to_set_instead(scripted_http) -> None:
    scripted_http.answer(200, b'{"leaderboardRows":[]}')
    with pytest.raises(VenueError, match="HYPERLIQUID_TRADERS"):
        await best(scripted_http.url, 2)


async def test_nobody_listening_is_a_venue_error() -> None:
    with pytest.raises(VenueError, match="ConnectError"):
        await read("http://127.0.0.1:1")


async def test_a_file_beyond_the_bound_is_not_read_to_its_end(scripted_http) -> None:
    scripted_http.answer(200, file_of([row(number) for number in range(2000)]))
    with pytest.raises(VenueError, match="larger than 50,000 bytes"):
        await read(scripted_http.url, max_bytes=50_000)


async def test_a_file_that_drips_is_given_up_at_the_deadline(scripted_http) -> None:
    clock = ManualClock()

    async def drip(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"leaderboardRows":[')
        for _ in range(1000):
            writer.write(b" ")
            await writer.drain()
            clock.advance(1)
            await asyncio.sleep(0.001)

    scripted_http.script.append(drip)
    rows = stream_leaderboard(scripted_http.url, clock=clock, metrics=Metrics(), timeout_s=20)
    with pytest.raises(VenueError, match="not finished in time"):
        await anext(rows)


async def test_stopping_early_closes_the_connection(scripted_http) -> None:
    scripted_http.answer(200, file_of([row(number) for number in range(20_000)]))
    rows = stream_leaderboard(scripted_http.url, clock=SystemClock(), metrics=Metrics())
    async with aclosing(rows):
        async for _ in rows:
            break
    async with asyncio.timeout(5):
        await scripted_http.idle.wait()


async def test_a_client_passed_in_stays_open(scripted_http) -> None:
    scripted_http.answer(200, file_of([row(1)]))
    async with httpx.AsyncClient() as client:
        assert len(await read(scripted_http.url, client=client)) == 1
        assert not client.is_closed


@pytest.mark.slow
async def test_a_file_of_25_mb_is_read_in_bounded_memory_without_holding_the_event_loop(scripted_http) -> None:
    rows, size = 35_000, 0

    def pieces():
        yield b'{"leaderboardRows":['
        for number in range(rows):
            item = row(number, month=number % 997)
            item["displayName"] = "n" * 400
            yield json.dumps(item).encode() + (b"," if number < rows - 1 else b"")
        yield b"]}"

    async def respond(_request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for piece in pieces():
            size += len(piece)
            writer.write(piece)
            await writer.drain()

    scripted_http.script.append(respond)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(count_turns())
    tracemalloc.start()
    try:
        found = await best(scripted_http.url, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        ticker.cancel()
    assert len(found) == 10
    assert size > 25_000_000
    assert peak < 6_000_000
    assert turns > size / 64_000
