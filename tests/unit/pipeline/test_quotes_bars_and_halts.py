"""Quotes, bars of the venue's own making, and halts: which are new, and how they are stored."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from src.models.changes import BarSeen, QuoteSeen, TradingStatusSeen
from src.models.messages import Bar, Quote, TradingStatus
from src.models.metrics import MESSAGES_OUTDATED, Metrics
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.pipeline.market_events import MarketEvents
from src.store.memory import MemoryStore

T0 = 1_765_553_445_123
QUOTE = Quote("alpaca", "AAPL", "230.14", "3", "0", "0", T0, T0 + 5, "Q", None, ("R",), "C", T0 * 10**6, "round_lots")
BAR = Bar("alpaca", "AAPL", "1m", "1", "2", "0.5", "1.5", "900", T0 - 45_123, T0 + 15_000, "1.2", 30)
HALT = TradingStatus("alpaca", "AAPL", "H", "Trading Halt", T0, T0 + 5, "T1", "News Pending", "C", T0 * 10**6 + 9)


async def stored(collection: Collection, *changes: Any) -> list[dict[str, Any]]:
    store = MemoryStore()
    for number, change in enumerate(changes, start=1):
        builder = BatchBuilder(number)
        builder.add(change)
        await store.write(builder.build())
    return store.documents(collection)


def test_an_older_quote_is_outdated_one_of_the_same_time_is_not() -> None:
    metrics = Metrics()
    events = MarketEvents(metrics=metrics)
    same, older = structs.replace(QUOTE, bid="230.15"), structs.replace(QUOTE, time_ms=T0 - 1)
    assert [list(events.apply(one)) for one in (QUOTE, same, older)] == [[QuoteSeen(QUOTE)], [QuoteSeen(same)], []]
    assert metrics.value(MESSAGES_OUTDATED, "quote") == 1


def test_an_update_of_an_earlier_minute_is_news_a_late_bar_is_not() -> None:
    metrics = Metrics()
    events = MarketEvents(metrics=metrics)
    following = structs.replace(BAR, time_ms=BAR.time_ms + 60_000)
    update = structs.replace(BAR, updated=True, close="1.6")
    said = [list(events.apply(one)) for one in (BAR, following, update, BAR)]
    assert said == [[BarSeen(BAR)], [BarSeen(following)], [BarSeen(update)], []]
    assert metrics.value(MESSAGES_OUTDATED, "bar") == 1
    assert events.apply(structs.replace(BAR, interval="1d")) != ()


def test_a_halt_is_told_once() -> None:
    events = MarketEvents(metrics=Metrics())
    assert [list(events.apply(HALT)) for _ in range(2)] == [[TradingStatusSeen(HALT)], []]
    resumed = structs.replace(HALT, code="T", ts_ns=HALT.ts_ns + 1)
    assert list(events.apply(resumed)) == [TradingStatusSeen(resumed)]


async def test_of_quotes_the_latest_is_stored() -> None:
    newer = structs.replace(QUOTE, bid="231", time_ms=T0 + 1)
    (document,) = await stored(Collection.QUOTES, QuoteSeen(QUOTE), QuoteSeen(newer), QuoteSeen(QUOTE))
    assert (document["_id"], document["bid"], document["ask"]) == ("alpaca:AAPL", 231.0, 0.0)
    assert (document["bidSize"], document["sizeUnit"], document["bidExchange"]) == (3.0, "round_lots", "Q")


async def test_a_later_state_of_a_bar_replaces_the_earlier() -> None:
    update = structs.replace(BAR, updated=True, close="1.6", received_ms=BAR.received_ms + 30_000)
    (document,) = await stored(Collection.BARS, BarSeen(BAR), BarSeen(update), BarSeen(BAR))
    assert document["_id"] == f"alpaca:AAPL:1m:{BAR.time_ms}"
    assert (document["close"], document["updated"], document["vwap"], document["count"]) == (1.6, True, 1.2, 30)


async def test_halts_are_a_history() -> None:
    resumed = structs.replace(HALT, code="T", ts_ns=HALT.ts_ns + 1)
    documents = await stored(
        Collection.TRADING_STATUS, TradingStatusSeen(HALT), TradingStatusSeen(HALT), TradingStatusSeen(resumed)
    )
    assert [document["code"] for document in documents] == ["H", "T"]
    assert (documents[0]["reason"], documents[0]["reasonText"], documents[0]["timeNs"]) == (
        "T1",
        "News Pending",
        HALT.ts_ns,
    )
