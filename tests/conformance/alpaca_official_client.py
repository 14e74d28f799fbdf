"""Does the vendor's own client understand our simulator, and mean by it what we mean?

Not part of the test suite, as the client brings some 150 MB of packages. Run by hand::

    uv run --group conformance python -m tests.conformance.alpaca_official_client

Exit code 0 when all agrees.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from src.models.messages import Bar, Quote, Trade, TradingStatus
from src.models.metrics import Metrics
from src.venues.alpaca.feed import AlpacaFeed, subscriptions_of
from src.venues.alpaca.rest import AlpacaRest
from src.venues.alpaca.simulator import Account, AlpacaSimulator, SimulatorConfig
from src.venues.budget import Budget
from src.venues.clock import SystemClock
from src.venues.pool import Pool
from tests.support.toy_venue import MemorySink, until

WAIT_S = 30.0
SYMBOLS = ("AAPL", "TSLA")
OURS = Account()
# The account has one slot on each path: the two clients come from different accounts.
THEIRS = Account(key="PKOFFICIAL0000000001", secret="another-secret")
FREE = Account(key="PKFREE00000000000001", secret="free-secret", plan="free")


class Official:
    """The vendor's stream in a thread of its own, as its documentation shows it."""

    def __init__(self, simulator: AlpacaSimulator, account: Account) -> None:
        from alpaca.data.enums import DataFeed
        from alpaca.data.live import StockDataStream

        self.heard: dict[str, list[Any]] = {}
        self.stream = StockDataStream(
            account.key, account.secret, feed=DataFeed.SIP, url_override=f"{simulator.ws_url}/v2/sip"
        )
        self._thread = threading.Thread(target=self.stream.run, daemon=True)

    def subscribe(self) -> None:
        for kind, subscribe in (
            ("trades", self.stream.subscribe_trades),
            ("quotes", self.stream.subscribe_quotes),
            ("bars", self.stream.subscribe_bars),
            ("statuses", self.stream.subscribe_trading_statuses),
        ):
            subscribe(self._keep(kind), *SYMBOLS)
        self.stream.register_trade_corrections(self._keep("corrections"))
        self.stream.register_trade_cancels(self._keep("cancels"))

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self.stream.stop)
        await asyncio.to_thread(self._thread.join, WAIT_S)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _keep(self, kind: str) -> Callable[[Any], Any]:
        async def keep(message: Any) -> None:
            self.heard.setdefault(kind, []).append(message)

        return keep


@contextlib.asynccontextmanager
async def our_pool(simulator: AlpacaSimulator) -> AsyncIterator[MemorySink]:
    sink, clock = MemorySink(), SystemClock()
    feed = AlpacaFeed(simulator.ws_url, feed="sip", key=OURS.key, secret=OURS.secret)
    budget = Budget(feed.limits, clock=clock)
    pool = Pool(feed=feed, sink=sink, clock=clock, metrics=Metrics(), budget=budget, clients=1)
    pool.set_target(subscriptions_of(SYMBOLS, ["trades", "quotes", "bars", "statuses"]))
    task = asyncio.create_task(pool.run())
    try:
        yield sink
    finally:
        await pool.close()
        await task


async def same_messages() -> None:
    """Both clients hear the same trades, quotes, bars and halts, and read the same out of them."""
    config = SimulatorConfig(accounts=(OURS, THEIRS), trades_per_s=0.0)
    async with AlpacaSimulator(config) as simulator, our_pool(simulator) as sink:
        official = Official(simulator, THEIRS)
        official.subscribe()
        official.start()
        await until(
            lambda: len(simulator.clients) == 2 and all(one.session.sets["statuses"] for one in simulator.clients),
            within_s=WAIT_S,
        )
        market, now_ns = simulator.market, simulator.now_ns() - 120 * 10**9
        for number in range(200):
            simulator.publish(market.trade(SYMBOLS[number % 2], now_ns + number * 10**9 + 123_456_789))
        simulator.publish(
            [market.quote("AAPL", simulator.now_ns()), market.status("AAPL", simulator.now_ns(), halted=True)]
        )
        last = market.trade("AAPL", simulator.now_ns())
        simulator.publish(last)
        simulator.publish([market.cancel(last[-1], simulator.now_ns())])
        await until(
            lambda: len(official.heard.get("trades", ())) == 201 and official.heard.get("statuses"), within_s=WAIT_S
        )
        await until(lambda: len(ours(sink, Trade)) == 201 and ours(sink, TradingStatus), within_s=WAIT_S)
        assert [theirs_of(one) for one in official.heard["trades"]] == [of_ours(one) for one in ours(sink, Trade)]
        (their_quote,), (our_quote,) = official.heard["quotes"], ours(sink, Quote)
        assert (their_quote.bid_price, their_quote.ask_size) == (float(our_quote.bid), float(our_quote.ask_size))
        (their_halt,), (our_halt,) = official.heard["statuses"], ours(sink, TradingStatus)
        assert (their_halt.status_code, their_halt.reason_code) == (our_halt.code, our_halt.reason)
        assert [bar.close for bar in official.heard.get("bars", [])] == [float(bar.close) for bar in ours(sink, Bar)]
        await official.stop()


async def comes_back() -> None:
    """After a connection that ended without a word the official client subscribes again."""
    async with AlpacaSimulator(SimulatorConfig(accounts=(THEIRS,))) as simulator:
        official = Official(simulator, THEIRS)
        official.subscribe()
        official.start()
        await until(lambda: official.heard.get("trades"), within_s=WAIT_S)
        simulator.drop_all()
        await until(lambda: simulator.logins == 2 and simulator.subscribed() == sorted(SYMBOLS), within_s=WAIT_S)
        count = len(official.heard["trades"])
        await until(lambda: len(official.heard["trades"]) > count, within_s=WAIT_S)
        await official.stop()


async def refusals() -> None:
    """402 makes the official client try for ever, 409 makes it return; both as the vendor's client is known to."""
    async with AlpacaSimulator(SimulatorConfig(accounts=(FREE,))) as simulator:
        wrong = Official(simulator, Account(key="PKWRONG", secret="x"))
        wrong.subscribe()
        wrong.start()
        await until(lambda: simulator.accepted >= 2, within_s=WAIT_S)
        assert wrong.alive
        await wrong.stop()
        free = Official(simulator, FREE)
        free.subscribe()
        free.start()
        await until(lambda: not free.alive, within_s=WAIT_S)


async def same_history() -> None:
    """Both read the same trades out of the pages of the history."""
    from alpaca.data.enums import DataFeed
    from alpaca.data.historical import StockHistoricalDataClient
    from alpaca.data.requests import StockSnapshotRequest, StockTradesRequest

    async with AlpacaSimulator(SimulatorConfig(accounts=(OURS,), trades_per_s=0.0, page_most=7)) as simulator:
        start_ns = simulator.now_ns() - 3_600 * 10**9
        for number in range(40):
            simulator.market.trade(SYMBOLS[number % 2], start_ns + number * 10**9 + 999)
        end_ns = start_ns + 60 * 10**9
        client = StockHistoricalDataClient(OURS.key, OURS.secret, url_override=simulator.api_url)
        request = StockTradesRequest(
            symbol_or_symbols=list(SYMBOLS), start=moment(start_ns), end=moment(end_ns), feed=DataFeed.SIP
        )
        theirs = (await asyncio.to_thread(client.get_stock_trades, request)).data
        rest = AlpacaRest(
            simulator.api_url,
            key=SecretStr(OURS.key),
            secret=SecretStr(OURS.secret),
            clock=SystemClock(),
            metrics=Metrics(),
        )
        mine: list[Trade] = []
        token: str | None = None
        while True:
            page, token = await rest.trades(SYMBOLS, start_ns, end_ns, feed="sip", token=token)
            mine += page
            if token is None:
                break
        assert [theirs_of(one) for name in sorted(theirs) for one in theirs[name]] == [of_ours(one) for one in mine]
        assert len(mine) == 40
        snapshots = await asyncio.to_thread(
            client.get_stock_snapshot, StockSnapshotRequest(symbol_or_symbols=list(SYMBOLS), feed=DataFeed.SIP)
        )
        own = await rest.snapshots(SYMBOLS, feed="sip")
        for name in SYMBOLS:
            assert own[name].prevDailyBar is not None
            assert snapshots[name].previous_daily_bar.close == own[name].prevDailyBar.c
        await rest.close()


def ours(sink: MemorySink, kind: type) -> list[Any]:
    return [message for data in sink.received for message in data.messages if isinstance(message, kind)]


def theirs_of(trade: Any) -> tuple[Any, ...]:
    return (
        trade.symbol,
        trade.id,
        trade.exchange if isinstance(trade.exchange, str) else trade.exchange.value,
        float(trade.price),
        float(trade.size),
        list(trade.conditions or ()),
        trade.tape,
        round(trade.timestamp.timestamp() * 1_000_000),
    )


def of_ours(trade: Trade) -> tuple[Any, ...]:
    """Without the nanoseconds, which the official client's models cut off."""
    assert trade.ts_ns is not None
    return (
        trade.symbol,
        int(trade.trade_id.rsplit("-", 1)[1]),
        trade.exchange,
        float(trade.price),
        float(trade.size),
        list(trade.conditions or ()),
        trade.tape,
        trade.ts_ns // 1_000,
    )


def moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 10**9, UTC)


CHECKS = (same_messages, comes_back, refusals, same_history)


def main() -> int:
    """Run every check; returns how many failed."""
    logging.disable(logging.CRITICAL)  # the official client logs what we provoke
    failed = 0
    for check in CHECKS:
        try:
            asyncio.run(check())
        except (AssertionError, TimeoutError) as error:
            failed += 1
            print(f"FAIL {check.__name__}: {error}")
        else:
            print(f"ok   {check.__name__}: {(check.__doc__ or '').splitlines()[0]}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
