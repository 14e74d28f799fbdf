"""From the simulator's socket through the pipeline into the store and to the hub, with a gap in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from src.core import build_core
from src.jobs.alpaca.source import AlpacaPace, AlpacaSource
from src.jobs.backfill.plan import Range
from src.jobs.backfill.sources import TRADES
from src.jobs.backfill.trades import TradesBackfill
from src.jobs.repair.trade_gaps import TradeGaps
from src.models.changes import TradeCancelledSeen, TradeCorrectedSeen, TradeSeen
from src.models.metrics import Metrics
from src.models.writes import Collection
from src.store.memory import MemoryStore
from src.venues.alpaca.simulator import AlpacaSimulator, SimulatorConfig
from src.venues.clock import SystemClock
from tests.support.alpaca_case import ACCOUNT, TIMING, settings_for
from tests.support.toy_venue import until

CONFIG = SimulatorConfig(
    accounts=(ACCOUNT,), trades_per_s=150.0, correction_share=0.05, cancel_share=0.05, page_most=25
)


class Collected:
    """A source, the pipeline behind it, and what the store has."""

    def __init__(self, venue: AlpacaSimulator) -> None:
        settings = settings_for(
            venue, trader_orders_ws_flush_interval=0.05, diff_interval=0.01, alpaca_symbols="AAPL"
        )
        self.store, self.metrics, clock = MemoryStore(), Metrics(), SystemClock()
        self.core = build_core(settings, store=self.store, metrics=self.metrics, clock=clock)
        self.source = AlpacaSource(
            settings, sink=self.core.pipeline, clock=clock, metrics=self.metrics, pace=AlpacaPace(TIMING)
        )
        self.gaps = TradeGaps(
            self.store,
            self.source.past,
            clock,
            self.metrics,
            publish=self.core.hub.publish,
            settle_s=0.1,
            poll_s=0.02,
        )
        self.heard: list[Any] = []
        self.core.hub.listen("test", self.heard.extend)
        self.core.hub.listen("gaps", self.gaps.heard)

    def trades(self) -> dict[str, dict[str, Any]]:
        return {document["tradeId"]: document for document in self.store.documents(Collection.TRADES)}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        works = [
            self.source.run(),
            self.core.pipeline.run_drain(stopping),
            self.core.flusher.run(stopping),
            self.gaps.run(stopping),
        ]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            await self.source.close()
            stopping.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 10)


def truth(venue: AlpacaSimulator) -> dict[tuple[str, int], Any]:
    return {(row["x"], row["i"]): row for row in venue.market.stocks["AAPL"].history}


async def test_every_trade_is_stored_with_what_became_of_it_and_a_gap_is_repaired() -> None:
    async with AlpacaSimulator(CONFIG) as venue:
        collected = Collected(venue)
        async with collected.running():
            await until(lambda: len(collected.trades()) > 30, within_s=40)
            first_ns = min(document["timeNs"] for document in collected.trades().values())
            venue.refuse_handshakes = 503
            venue.drop_all()
            made = len(truth(venue))
            await until(lambda: len(truth(venue)) > made + 60, within_s=40)
            venue.refuse_handshakes = None
            await until(lambda: venue.logins == 2 and venue.subscribed() == ["AAPL"], within_s=40)
            await until(
                lambda: any(hole["repaired"] for hole in collected.store.documents(Collection.COVERAGE)), within_s=40
            )
            await until(
                lambda: heard(collected, TradeCancelledSeen) and heard(collected, TradeCorrectedSeen), within_s=40
            )
            venue.market.running = False
            await until(lambda: missing(venue, collected, first_ns) == [], within_s=40)
        stored = collected.trades()
        for (exchange, number), row in truth(venue).items():
            if row["t"] < first_ns:
                continue
            document = next(one for key, one in stored.items() if key.endswith(f"-{exchange}-{number}"))
            assert (document["price"], document["size"], document["timeNs"]) == (row["p"], row["s"], row["t"])
        cancelled = {document["tradeId"] for document in stored.values() if document.get("cancelled")}
        corrected = {document["tradeId"] for document in stored.values() if document.get("corrected")}
        assert len(cancelled) >= heard(collected, TradeCancelledSeen)
        assert len(corrected) >= heard(collected, TradeCorrectedSeen)
        told = [change.trade.trade_id for change in collected.heard if isinstance(change, TradeSeen)]
        assert len(told) == len(set(told)), "nobody hears of a trade twice"
        (hole,) = [hole for hole in collected.store.documents(Collection.COVERAGE) if hole["reason"] == "disconnect"]
        assert hole["repair"]["complete"] is True


def heard(collected: Collected, kind: type) -> int:
    return sum(isinstance(change, kind) for change in collected.heard)


def missing(venue: AlpacaSimulator, collected: Collected, first_ns: int) -> list[Any]:
    stored = {tuple(key.rsplit("-", 2)[1:]) for key in collected.trades()}
    return [key for key, row in truth(venue).items() if row["t"] >= first_ns and (key[0], str(key[1])) not in stored]


async def test_the_past_is_read_page_by_page_through_the_command_s_own_way() -> None:
    config = msgspec.structs.replace(CONFIG, trades_per_s=0.0, correction_share=0.0, cancel_share=0.0)
    async with AlpacaSimulator(config) as venue:
        start_ns = venue.now_ns() - 3_600 * 10**9
        for number in range(60):
            venue.market.trade("AAPL", start_ns + number * 10**9)
        store, metrics, clock = MemoryStore(), Metrics(), SystemClock()
        async with TRADES["alpaca"](settings_for(venue), clock, metrics) as past:
            backfill = TradesBackfill(store, past, clock, metrics)
            from_ms = start_ns // 10**6
            assert await backfill.read("AAPL", Range(from_ms, from_ms + 30_000)) == 30
            assert await backfill.read("AAPL", Range(from_ms, from_ms + 60_000)) == 30
            assert await backfill.read("AAPL", Range(from_ms, from_ms + 60_000)) == 0
        assert len(store.documents(Collection.TRADES)) == 60
