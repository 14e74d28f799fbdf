"""Alpaca's HTTP side: pages, limits, refusals; against the simulator's answers over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr

from src.models.errors import VenueError, VenueFatalError, VenueRateLimitedError, VenueRequestError
from src.models.metrics import FRAMES_REJECTED, REST_REQUESTS, Metrics
from src.venues.alpaca.rest import AlpacaRest, RecentSipError
from src.venues.alpaca.simulator import AlpacaSimulator, SimulatorConfig
from src.venues.clock import SystemClock
from tests.support.alpaca_case import ACCOUNT, FREE
from tests.support.alpaca_frames import recorded_pages, recorded_snapshots
from tests.support.scripted_http import serve_script

CONFIG = SimulatorConfig(accounts=(ACCOUNT, FREE), trades_per_s=0.0, page_most=7, rest_per_minute=1_000)


class Ticking(SystemClock):
    """Time passes by sleeping only."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Bench:
    def __init__(self, url: str, account: Any = ACCOUNT, **options: Any) -> None:
        self.metrics = Metrics()
        self.slept: list[float] = []
        self.clock = Ticking()
        self.rest = AlpacaRest(
            url,
            key=SecretStr(account.key),
            secret=SecretStr(account.secret),
            clock=self.clock,
            metrics=self.metrics,
            sleep=self.sleep,
            **options,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds
        await asyncio.sleep(0)

    def outcomes(self) -> dict[str, float]:
        return {outcome: count for (_, outcome), count in self.metrics.by_label(REST_REQUESTS).items()}

    async def all_trades(self, symbols: list[str], start_ns: int, end_ns: int, feed: str = "sip") -> list[Any]:
        trades, token = [], None
        while True:
            page, token = await self.rest.trades(symbols, start_ns, end_ns, feed=feed, token=token)
            trades += page
            if token is None:
                return trades


@pytest.fixture
async def venue() -> AsyncIterator[AlpacaSimulator]:
    async with AlpacaSimulator(CONFIG) as simulator:
        yield simulator


@pytest.fixture
async def bench(venue: AlpacaSimulator) -> AsyncIterator[Bench]:
    one = Bench(venue.api_url)
    yield one
    await one.rest.close()


def past_trades(venue: AlpacaSimulator, count: int = 20, age_s: int = 3_600) -> int:
    """Trades of an hour ago, one a second; returns when they began."""
    start_ns = venue.now_ns() - age_s * 10**9
    for number in range(count):
        venue.market.trade("AAPL" if number % 2 else "TSLA", start_ns + number * 10**9)
    return start_ns


async def test_all_pages_of_several_stocks(venue: AlpacaSimulator, bench: Bench) -> None:
    start_ns = past_trades(venue)
    trades = await bench.all_trades(["TSLA", "AAPL", "NOSUCH"], start_ns, start_ns + 60 * 10**9)
    assert [trade.symbol for trade in trades] == ["AAPL"] * 10 + ["TSLA"] * 10
    assert len({(trade.symbol, trade.trade_id) for trade in trades}) == 20
    assert len(venue.rest.requests) == 3


async def test_both_ends_are_inclusive_to_the_nanosecond(venue: AlpacaSimulator, bench: Bench) -> None:
    start_ns = past_trades(venue)
    trades = await bench.all_trades(["AAPL", "TSLA"], start_ns + 10**9, start_ns + 3 * 10**9)
    assert [trade.ts_ns - start_ns for trade in trades] == [10**9, 3 * 10**9, 2 * 10**9]


async def test_amended_rows_are_marked(venue: AlpacaSimulator, bench: Bench) -> None:
    start_ns = venue.now_ns() - 10**12
    first, second, third = (venue.market.trade("AAPL", start_ns + number)[-1] for number in range(3))
    venue.market.cancel(first, start_ns + 10)
    venue.market.correct(second, start_ns + 11, price=9.0, size=3)
    trades = await bench.all_trades(["AAPL"], start_ns, start_ns + 100)
    assert [trade.update for trade in trades] == ["cancelled", "corrected", None, None]
    assert trades[2].trade_id.endswith(f"-{third['i']}")
    assert (trades[3].price, trades[3].size) == ("9", "3")


async def test_an_empty_page_with_a_token_is_not_the_end(venue: AlpacaSimulator, bench: Bench) -> None:
    start_ns = past_trades(venue)
    venue.rest.empty_pages = 1
    assert len(await bench.all_trades(["AAPL"], start_ns, start_ns + 60 * 10**9)) == 10


async def test_a_page_that_names_itself_as_the_next_one_is_an_error_not_a_loop(
    venue: AlpacaSimulator, bench: Bench
) -> None:
    start_ns = past_trades(venue)
    venue.rest.empty_pages = 5
    with pytest.raises(VenueError, match="names itself"):
        await bench.all_trades(["AAPL"], start_ns, start_ns + 60 * 10**9)


async def test_snapshots_of_many_stocks_go_in_several_requests(venue: AlpacaSimulator, bench: Bench) -> None:
    venue.market.trade("AAPL", venue.now_ns())
    found = await bench.rest.snapshots(
        ["AAPL", "NOSUCH", *(f"X{number}" for number in range(150)), "TSLA"], feed="sip"
    )
    assert set(found) == {"AAPL", "TSLA"}
    assert found["AAPL"].latestTrade is not None
    assert found["TSLA"].latestTrade is None
    assert len(venue.rest.requests) == 2


async def test_gainers(venue: AlpacaSimulator, bench: Bench) -> None:
    venue.market.set_day("AMD", gain=0.4, volume=1.0, previous_volume=1.0, now_ns=venue.now_ns())
    (best, *_) = await bench.rest.gainers(3)
    assert (best.symbol, best.percent_change) == ("AMD", 40.0)


async def test_the_free_plan_does_not_see_the_last_minutes_of_the_sip(venue: AlpacaSimulator) -> None:
    bench = Bench(venue.api_url, FREE)
    start_ns = past_trades(venue)
    with pytest.raises(RecentSipError) as caught:
        await bench.all_trades(["AAPL"], start_ns, venue.now_ns())
    assert caught.value.retry_after_s == 900.0
    assert bench.outcomes() == {"too_recent": 1}
    assert len(await bench.all_trades(["AAPL"], start_ns, start_ns + 60 * 10**9)) == 10
    assert await bench.all_trades(["AAPL"], venue.now_ns() - 10**9, venue.now_ns(), feed="iex") == []
    await bench.rest.close()


async def test_a_wrong_key_is_fatal_and_not_repeated(venue: AlpacaSimulator) -> None:
    bench = Bench(venue.api_url, FREE.__class__(key="PKX", secret="hunter2hunter2"))
    with pytest.raises(VenueFatalError) as caught:
        await bench.rest.snapshots(["AAPL"], feed="sip")
    assert "hunter2" not in str(caught.value)
    assert len(venue.rest.requests) == 1
    await bench.rest.close()


@pytest.mark.parametrize("statuses", [[500], [503, 502], [429], [429, 429, 500]])
async def test_what_may_pass_is_tried_again(venue: AlpacaSimulator, bench: Bench, statuses: list[int]) -> None:
    venue.rest.refuse_next = list(statuses)
    assert await bench.rest.snapshots(["AAPL"], feed="sip")
    assert bench.outcomes()["ok"] == 1
    assert len(venue.rest.requests) == len(statuses) + 1


async def test_a_wait_the_venue_asks_for_is_waited(venue: AlpacaSimulator, bench: Bench) -> None:
    venue.rest.refuse_next, venue.rest.retry_after_s = [429], 17
    assert await bench.rest.snapshots(["AAPL"], feed="sip")
    assert bench.clock.now >= 17


async def test_a_longer_wait_is_the_callers(venue: AlpacaSimulator, bench: Bench) -> None:
    venue.rest.refuse_next, venue.rest.retry_after_s = [429], 600
    with pytest.raises(VenueRateLimitedError) as caught:
        await bench.rest.snapshots(["AAPL"], feed="sip")
    assert caught.value.retry_after_s == 600
    assert len(venue.rest.requests) == 1


async def test_never_more_requests_a_minute_than_allowed(venue: AlpacaSimulator) -> None:
    times: list[float] = []
    bench = Bench(venue.api_url, requests_per_minute=10)
    for _ in range(25):
        await bench.rest.gainers(1)
        times.append(bench.clock.now)
    for first, eleventh in zip(times, times[10:], strict=False):
        assert eleventh - first >= 60
    await bench.rest.close()


async def test_a_wrong_question_is_not_repeated(venue: AlpacaSimulator, bench: Bench) -> None:
    with pytest.raises(VenueRequestError):
        await bench.rest.trades(["AAPL"], 10**18, 10**18, feed="nonsense")
    assert len(venue.rest.requests) == 1


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b'{"trades": 5}', b'{"trades": {"A": [{"i": "x"}]}}', b"\xff"]
)
async def test_answers_of_another_shape(body: bytes) -> None:
    async with serve_script() as http:
        http.answer(200, body)
        bench = Bench(http.url)
        with pytest.raises(VenueError, match="shape"):
            await bench.rest.trades(["A"], 1, 2, feed="sip")
        await bench.rest.close()


async def test_an_odd_row_costs_only_itself() -> None:
    rows = [
        {"i": 1, "p": 1.0, "s": 1, "t": "2025-12-12T15:30:45Z", "x": "V"},
        {"i": 2, "p": -1.0, "s": 1, "t": "2025-12-12T15:30:45Z", "x": "V"},
    ]
    async with serve_script() as http:
        http.answer(200, msgspec.json.encode({"trades": {"A": rows}, "next_page_token": None}))
        bench = Bench(http.url)
        trades, token = await bench.rest.trades(["A"], 1, 2, feed="sip")
        await bench.rest.close()
    assert ([trade.trade_id for trade in trades], token) == (["2025-12-12-V-1"], None)
    assert bench.metrics.value(FRAMES_REJECTED, "alpaca", "bad_value") == 1


async def test_no_answer_at_all() -> None:
    bench = Bench("http://127.0.0.1:9")
    with pytest.raises(VenueError):
        await bench.rest.gainers(1)
    assert bench.outcomes() == {"failed": 4}
    await bench.rest.close()


async def test_recorded_answers_are_read(venue: AlpacaSimulator) -> None:
    del venue
    answers = [*recorded_pages(), *recorded_snapshots()]
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, content=msgspec.json.encode(answers[0])))
    ) as client:
        bench = Bench("http://venue.test", client=client)
        for page in recorded_pages():
            answers[0] = page
            trades, _ = await bench.rest.trades(["X"], 1, 2, feed="sip")
            assert len(trades) == sum(len(rows) for rows in page["trades"].values())
        for snapshots in recorded_snapshots():
            answers[0] = snapshots
            found = await bench.rest.snapshots(["X"], feed="sip")
            assert any(one.dailyBar is not None and one.prevDailyBar is not None for one in found.values())
