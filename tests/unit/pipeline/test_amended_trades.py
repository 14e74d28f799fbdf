"""Corrections and cancels: what is new of them, and what becomes of the stored trades."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from msgspec import structs

from src.models.changes import TradeCancelledSeen, TradeCorrectedSeen, TradeSeen
from src.models.live import Topic, topic_of
from src.models.messages import Data, Trade, TradeCancelled, TradeCorrected
from src.models.metrics import TRADES_AMENDED, Metrics
from src.models.streams import StreamKey
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.pipeline.diff import Diff
from src.store.memory import MemoryStore

T0 = 1_765_553_445_123
TRADE = Trade("alpaca", "AAPL", "d-V-1", "230.15", "100", None, T0, T0 + 5, exchange="V", conditions=("@",),
              exchange_name="IEX", tape="C", ts_ns=T0 * 10**6 + 7)  # fmt: skip
NEW = structs.replace(
    TRADE, trade_id="d-V-2", price="230.25", size="90", time_ms=T0 + 1000, ts_ns=(T0 + 1000) * 10**6
)
CORRECTION = TradeCorrected(
    "alpaca", "AAPL", "d-V-1", "230.15", "100", NEW, T0 + 1000, T0 + 1005, ("@",), (T0 + 1000) * 10**6
)
CANCEL = TradeCancelled(
    "alpaca", "AAPL", "d-V-1", "230.15", "100", T0 + 2000, T0 + 2005, "C", "V", "IEX", "C", (T0 + 2000) * 10**6
)
IN_PLACE = structs.replace(CORRECTION, trade=structs.replace(NEW, trade_id="d-V-1"))


async def stored(*batches: list[Any]) -> dict[str, dict[str, Any]]:
    """The trades after these batches of changes, by trade id."""
    store = MemoryStore()
    for number, changes in enumerate(batches, start=1):
        builder = BatchBuilder(number)
        for change in changes:
            builder.add(change)
        await store.write(builder.build())
    return {document["tradeId"]: document for document in store.documents(Collection.TRADES)}


def apply(diff: Diff, *messages: Any) -> list[Any]:
    return diff.apply(Data(StreamKey("alpaca", "trades", "AAPL"), T0, messages))


def test_each_amendment_is_told_once_and_counted() -> None:
    metrics = Metrics()
    diff = Diff(metrics=metrics)
    assert apply(diff, TRADE, CORRECTION, CANCEL) == [
        TradeSeen(TRADE),
        TradeCorrectedSeen(CORRECTION),
        TradeCancelledSeen(CANCEL),
    ]
    assert apply(diff, TRADE, CORRECTION, CANCEL) == []
    later = structs.replace(CORRECTION, ts_ns=CORRECTION.ts_ns + 1)
    assert apply(diff, later) == [TradeCorrectedSeen(later)]
    assert metrics.by_label(TRADES_AMENDED) == {("alpaca", "corrected"): 2, ("alpaca", "cancelled"): 1}


def test_amendments_belong_to_the_topic_of_the_trades() -> None:
    topic = Topic("trade", "alpaca", "AAPL")
    assert [
        topic_of(change) for change in (TradeSeen(TRADE), TradeCorrectedSeen(CORRECTION), TradeCancelledSeen(CANCEL))
    ] == [topic] * 3


async def test_a_stored_trade_has_exchange_tape_and_nanoseconds() -> None:
    (trade,) = (await stored([TradeSeen(TRADE)])).values()
    assert trade["_id"] == "alpaca:AAPL:d-V-1"
    assert (trade["exchange"], trade["exchangeName"], trade["tape"], trade["timeNs"]) == (
        "V",
        "IEX",
        "C",
        T0 * 10**6 + 7,
    )
    assert "cancelled" not in trade
    assert "corrected" not in trade


@pytest.mark.parametrize("apart", [True, False])
async def test_a_cancel_marks_the_trade_and_keeps_it(apart: bool) -> None:
    changes = [TradeSeen(TRADE), TradeCancelledSeen(CANCEL)]
    trades = await stored(*([change] for change in changes)) if apart else await stored(changes)
    trade = trades["d-V-1"]
    assert (trade["cancelled"], trade["cancelAction"], trade["price"], trade["size"]) == (True, "C", 230.15, 100.0)
    assert trade["timestamp"].timestamp() * 1000 == T0
    assert trade["cancelledAt"].timestamp() * 1000 == T0 + 2000
    assert "unseen" not in trade


@pytest.mark.parametrize("apart", [True, False])
async def test_a_correction_marks_the_original_and_adds_the_trade_that_counts(apart: bool) -> None:
    changes = [TradeSeen(TRADE), TradeCorrectedSeen(CORRECTION)]
    trades = await stored(*([change] for change in changes)) if apart else await stored(changes)
    original, new = trades["d-V-1"], trades["d-V-2"]
    assert (original["corrected"], original["correctedBy"], original["price"]) == (True, "d-V-2", 230.15)
    assert (new["corrects"], new["price"], new["size"]) == ("d-V-1", 230.25, 90.0)
    assert "corrected" not in new


@pytest.mark.parametrize("apart", [True, False])
async def test_a_correction_under_the_same_id_keeps_the_old_values_beside_the_new(apart: bool) -> None:
    changes = [TradeSeen(TRADE), TradeCorrectedSeen(IN_PLACE)]
    trades = await stored(*([change] for change in changes)) if apart else await stored(changes)
    (trade,) = trades.values()
    assert (trade["price"], trade["size"]) == (230.25, 90.0)
    assert trade["original"] == {"price": 230.15, "size": 100.0, "conditions": ["@"]}
    assert "corrected" not in trade
    assert trade["timestamp"].timestamp() * 1000 == T0


async def test_amendments_of_trades_never_seen_are_kept_and_marked() -> None:
    trades = await stored([TradeCancelledSeen(CANCEL)])
    assert (trades["d-V-1"]["cancelled"], trades["d-V-1"]["unseen"], trades["d-V-1"]["price"]) == (True, True, 230.15)
    trades = await stored([TradeCorrectedSeen(CORRECTION)])
    assert (trades["d-V-1"]["corrected"], trades["d-V-1"]["unseen"], trades["d-V-1"]["exchange"]) == (True, True, "V")
    assert trades["d-V-2"]["price"] == 230.25
    (trade,) = (await stored([TradeCorrectedSeen(IN_PLACE)])).values()
    assert (trade["price"], trade["original"]["price"]) == (230.25, 230.15)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_in_whatever_order_a_batch_holds_them_and_however_often(order: tuple[int, ...]) -> None:
    changes = [TradeSeen(TRADE), TradeCorrectedSeen(CORRECTION), TradeCancelledSeen(CANCEL)]
    mixed = [changes[position] for position in order]
    once = await stored(mixed)
    twice = await stored(mixed, mixed)
    assert once == twice
    original = once["d-V-1"]
    assert (original["corrected"], original["cancelled"], original["price"]) == (True, True, 230.15)


async def test_an_older_amendment_changes_nothing() -> None:
    older = structs.replace(CANCEL, ts_ns=CANCEL.ts_ns - 5, action="E")
    trades = await stored([TradeSeen(TRADE)], [TradeCancelledSeen(CANCEL)], [TradeCancelledSeen(older)])
    assert trades["d-V-1"]["cancelAction"] == "C"


async def test_rows_of_the_history_carry_their_marks() -> None:
    rows = [structs.replace(TRADE, update="cancelled"), structs.replace(NEW, update="corrected")]
    trades = await stored([TradeSeen(row) for row in rows])
    assert trades["d-V-1"]["cancelled"] is True
    assert trades["d-V-2"]["corrected"] is True
