"""Holes in trades are filled from the venue's whole history, and only what is proved counts as repaired."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from src.jobs.backfill.past import TradesPage
from src.jobs.repair.trade_gaps import SKEW_MS, TradeGaps
from src.models.changes import HoleClosed, HoleOpened, TradeCancelledSeen, TradeSeen
from src.models.clock import ManualClock
from src.models.errors import StoreError, VenueError, VenueRateLimitedError, VenueRequestError
from src.models.messages import Trade, TradeCancelled
from src.models.metrics import REPAIRS, REPAIRS_DROPPED, Metrics
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.store.memory import MemoryStore
from tests.support.toy_venue import until

T0 = 1_765_553_445_000
FROM_MS, TO_MS = T0, T0 + 60_000
STREAM = "alpaca/trades/AAPL"


def a_trade(number: int, at_ms: int, update: Any = None) -> Trade:
    return Trade(
        "alpaca",
        "AAPL",
        f"d-V-{number}",
        "1.5",
        "10",
        None,
        at_ms,
        T0 + 99_000,
        exchange="V",
        tape="C",
        update=update,
    )


class FakePast:
    venue = "alpaca"
    reach = "for ever"
    is_complete = True

    def __init__(self, *pages: list[Trade]) -> None:
        self.pages = list(pages) or [[]]
        self.asked: list[tuple[str, int, int, str | None]] = []
        self.errors: list[Exception] = []

    async def page(self, symbol: str, from_ms: int, to_ms: int, token: str | None) -> TradesPage:
        self.asked.append((symbol, from_ms, to_ms, token))
        if self.errors:
            raise self.errors.pop(0)
        number = 0 if token is None else int(token)
        following = str(number + 1) if number + 1 < len(self.pages) else None
        return TradesPage(self.pages[number], following)


class Bench:
    def __init__(self, past: FakePast, *, delay_ms: int = 0) -> None:
        self.store = MemoryStore()
        self.clock = ManualClock(wall_ms=T0 + 100_000)
        self.metrics = Metrics()
        self.told: list[Any] = []
        self.past = past
        self.gaps = TradeGaps(
            self.store,
            past,
            self.clock,
            self.metrics,
            publish=self.told.extend,
            delay_ms=delay_ms,
            settle_s=0.0,
            poll_s=0.01,
        )

    async def keep(self, *changes: Any) -> None:
        """Store changes as the flush would."""
        for change in changes:
            builder = BatchBuilder(1)
            builder.add(change)
            await self.store.write(builder.build())

    async def hole(self, stream: str = STREAM, reason: str = "disconnect", *, stored: bool = True) -> None:
        """A hole that has ended, stored, and told on the hub."""
        venue = stream.split("/", 1)[0]
        closed = HoleClosed(stream, venue, FROM_MS, TO_MS, reason)
        if stored:
            await self.keep(HoleOpened(stream, venue, FROM_MS, reason), closed)
        self.gaps.heard([closed])

    def coverage(self) -> dict[str, Any]:
        (hole,) = self.store.documents(Collection.COVERAGE)
        return hole

    def trades(self) -> dict[str, dict[str, Any]]:
        return {document["tradeId"]: document for document in self.store.documents(Collection.TRADES)}


async def test_all_pages_of_the_hole_are_stored_and_the_hole_is_repaired() -> None:
    bench = Bench(FakePast([a_trade(1, T0), a_trade(2, T0 + 5)], [], [a_trade(3, T0 + 9)]))
    await bench.keep(TradeSeen(a_trade(1, T0)))
    await bench.hole()
    await bench.gaps.work()
    assert set(bench.trades()) == {"d-V-1", "d-V-2", "d-V-3"}
    assert [change.trade.trade_id for change in bench.told] == ["d-V-2", "d-V-3"], "only what was missing is told"
    hole = bench.coverage()
    assert hole["repaired"] is True
    assert hole["repair"]["complete"] is True
    assert "2 trades were missing" in hole["repair"]["note"]
    assert bench.metrics.value(REPAIRS, "trades", "complete") == 1
    assert bench.past.asked == [("AAPL", FROM_MS - SKEW_MS, TO_MS + SKEW_MS, token) for token in (None, "1", "2")]
    await bench.gaps.work()
    assert bench.gaps.waiting() == 0
    assert len(bench.past.asked) == 3


async def test_what_came_live_after_the_hole_but_is_not_stored_yet_is_not_told_again() -> None:
    bench = Bench(FakePast([a_trade(1, TO_MS), a_trade(2, TO_MS + 1), a_trade(3, TO_MS + 900)]))
    await bench.hole()
    await bench.gaps.work()
    assert [change.trade.trade_id for change in bench.told] == ["d-V-1"]
    assert set(bench.trades()) == {"d-V-1", "d-V-2", "d-V-3"}
    assert "1 trades were missing" in bench.coverage()["repair"]["note"]


async def test_of_a_delayed_feed_the_true_times_are_asked() -> None:
    bench = Bench(FakePast(), delay_ms=900_000)
    await bench.hole()
    await bench.gaps.work()
    assert bench.past.asked == [("AAPL", FROM_MS - 900_000 - SKEW_MS, TO_MS - 900_000 + SKEW_MS, None)]


async def test_amended_rows_are_stored_marked_but_not_told_as_trades() -> None:
    bench = Bench(FakePast([a_trade(1, T0, "cancelled"), a_trade(2, T0, "corrected"), a_trade(3, T0)]))
    await bench.hole()
    await bench.gaps.work()
    trades = bench.trades()
    assert (trades["d-V-1"]["cancelled"], trades["d-V-2"]["corrected"]) == (True, True)
    assert [change.trade.trade_id for change in bench.told] == ["d-V-3"]


async def test_a_stored_trade_that_was_cancelled_in_the_hole_gets_its_mark() -> None:
    bench = Bench(FakePast([a_trade(1, T0, "cancelled"), a_trade(2, T0, "corrected")]))
    await bench.keep(TradeSeen(a_trade(1, T0)), TradeSeen(a_trade(2, T0)))
    await bench.hole()
    await bench.gaps.work()
    assert (bench.trades()["d-V-1"]["cancelled"], bench.trades()["d-V-2"]["corrected"]) == (True, True)
    assert bench.told == []


async def test_a_trade_known_only_from_its_cancel_becomes_whole() -> None:
    bench = Bench(FakePast([structs.replace(a_trade(1, T0 - 50, "cancelled"), conditions=("@", "I"))]))
    await bench.keep(
        TradeCancelledSeen(TradeCancelled("alpaca", "AAPL", "d-V-1", "1.5", "10", T0 + 7, T0 + 8, "C", "V"))
    )
    assert bench.trades()["d-V-1"]["unseen"] is True
    await bench.hole()
    await bench.gaps.work()
    trade = bench.trades()["d-V-1"]
    assert (trade["unseen"], trade["cancelled"], trade["cancelAction"], trade["conditions"]) == (
        False,
        True,
        "C",
        ["@", "I"],
    )
    assert trade["timestamp"] == datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=T0 - 50)


async def test_nothing_is_read_before_the_end_of_the_hole_is_stored() -> None:
    bench = Bench(FakePast([a_trade(1, T0)]))
    await bench.hole(stored=False)
    await bench.gaps.work()
    assert bench.past.asked == []
    await bench.keep(
        HoleOpened(STREAM, "alpaca", FROM_MS, "disconnect"),
        HoleClosed(STREAM, "alpaca", FROM_MS, TO_MS, "disconnect"),
    )
    bench.clock.advance(60)
    await bench.gaps.work()
    assert len(bench.past.asked) == 1


async def test_a_hole_that_is_never_stored_is_let_go_and_counted() -> None:
    bench = Bench(FakePast())
    await bench.hole(stored=False)
    for _ in range(400):
        await bench.gaps.work()
        bench.clock.advance(60)
    assert bench.gaps.waiting() == 0
    assert bench.metrics.value(REPAIRS_DROPPED, "holes", "never_stored") == 1


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (STREAM, "unsubscribed"),
        (STREAM, "not_collected"),
        ("hyperliquid/trades/BTC", "disconnect"),
        ("alpaca/quotes/AAPL", "disconnect"),
    ],
)
async def test_holes_that_are_nobodys_trouble_or_of_something_else_are_left(stream: str, reason: str) -> None:
    bench = Bench(FakePast([a_trade(1, T0)]))
    bench.gaps._look_back = False
    await bench.hole(stream, reason)
    await bench.gaps.work()
    assert bench.past.asked == []


async def test_a_venue_that_does_not_answer_is_asked_again_later_and_nothing_is_lost() -> None:
    bench = Bench(FakePast([a_trade(1, T0)], [a_trade(2, T0)]))
    bench.past.errors = [VenueError("away"), VenueError("away")]
    await bench.hole()
    for _ in range(3):
        await bench.gaps.work()
        bench.clock.advance(30)
    assert bench.coverage()["repaired"] is True
    assert set(bench.trades()) == {"d-V-1", "d-V-2"}


async def test_a_wait_the_venue_asks_for_is_kept() -> None:
    bench = Bench(FakePast([a_trade(1, T0)]))
    bench.past.errors = [VenueRateLimitedError("recent SIP", 900.0)]
    await bench.hole()
    await bench.gaps.work()
    bench.clock.advance(899)
    await bench.gaps.work()
    assert len(bench.past.asked) == 1
    bench.clock.advance(2)
    await bench.gaps.work()
    assert bench.coverage()["repaired"] is True


async def test_what_the_venue_calls_wrong_is_left_unrepaired_with_its_words() -> None:
    bench = Bench(FakePast())
    bench.past.errors = [VenueRequestError("no such symbol")]
    await bench.hole()
    await bench.gaps.work()
    hole = bench.coverage()
    assert (hole["repaired"], hole["repair"]["complete"]) == (False, False)
    assert "no such symbol" in hole["repair"]["note"]
    assert bench.gaps.waiting() == 0


async def test_a_database_that_is_away_keeps_everything_waiting() -> None:
    bench = Bench(FakePast([a_trade(1, T0)]))
    await bench.hole()
    bench.store.fail_next(StoreError("away"), StoreError("away"))
    await bench.gaps.work()
    assert bench.gaps.waiting() == 1
    await bench.gaps.work()
    await bench.gaps.work()
    assert bench.coverage()["repaired"] is True


async def test_what_an_earlier_run_left_is_found_again() -> None:
    bench = Bench(FakePast([a_trade(1, T0)]))
    await bench.keep(
        HoleOpened(STREAM, "alpaca", FROM_MS, "process_down"),
        HoleClosed(STREAM, "alpaca", FROM_MS, TO_MS, "process_down"),
    )
    stopping = asyncio.Event()
    task = asyncio.create_task(bench.gaps.run(stopping))
    await until(lambda: bench.coverage()["repaired"])
    stopping.set()
    await asyncio.wait_for(task, 5)
