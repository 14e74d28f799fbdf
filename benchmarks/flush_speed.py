"""Order upserts through our writer against the driver's own ``bulk_write`` of the same operations.

One embedded server, two databases with the same indexes; writes are majority and journaled on both sides. Both sides
are given their operations ready made; encoding them is part of what is timed.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from bson.codec_options import CodecOptions
from msgspec import Struct
from pymongo import UpdateOne
from pymongo.write_concern import WriteConcern

from benchmarks.rows import Effort, Goal, MeasureError, Row, ratio, spread
from src.models.changes import OrderChange
from src.models.orders import Order
from src.models.writes import Collection, Upsert, WriteBatch
from src.pipeline.documents import writes_of_order
from src.store.embedded import open_embedded
from src.store.mongo import MongoStore, close_client, open_client

NAME = "flush-speed"
GOAL = Goal(0.8, at_most=False)

_SIZES = {Effort.TINY: (500,), Effort.QUICK: (500, 5_000), Effort.FULL: (500, 2_000, 5_000)}
_ROUNDS = {Effort.TINY: 1, Effort.QUICK: 5, Effort.FULL: 11}
_TIMEOUT_S = 60.0
_TRADERS = 100
_FIRST_OID = 566_617_880_000
_FIRST_MS = 1_791_280_000_000

_OURS, _PEER = "bench_ours", "bench_peer"


class Side(Struct, frozen=True):
    """One of the two: how it wants its operations, and how it stores them (returns how many took effect)."""

    name: str
    ready: Callable[[Sequence[Upsert]], Any]
    write: Callable[[Any], Awaitable[int]]


def measure(effort: Effort) -> Sequence[Row]:
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        async with open_embedded(Path(folder), cache_gib=0.5) as server, _sides(server.uri) as sides:
            for size in _SIZES[effort]:
                rows.extend(await _compare(size, _ROUNDS[effort], sides))
    return rows


@asynccontextmanager
async def _sides(uri: str) -> AsyncIterator[Sequence[Side]]:
    """Both sides, each with a prepared database."""
    store, peer_store = (MongoStore(uri, name, timeout_s=_TIMEOUT_S) for name in (_OURS, _PEER))
    client = open_client(uri, timeout_s=_TIMEOUT_S)
    database = client.get_database(
        _PEER,
        codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
        write_concern=WriteConcern(w="majority", j=True),
    )
    collection = database[Collection.TRADER_ORDERS.value]

    async def write_ours(upserts: Sequence[Upsert]) -> int:
        result = await store.write(WriteBatch(0, [upserts]))
        return sum(result.inserted.values()) + sum(result.modified.values())

    async def write_peer(operations: list[UpdateOne]) -> int:
        result = await collection.bulk_write(operations, ordered=False)
        return int(result.upserted_count + result.modified_count)

    try:
        await store.prepare()
        await peer_store.prepare()
        yield (
            Side(_OURS, list, write_ours),
            Side(_PEER, lambda upserts: [_operation(upsert) for upsert in upserts], write_peer),
        )
    finally:
        await store.close()
        await peer_store.close()
        await close_client(client)


async def _compare(size: int, rounds: int, sides: Sequence[Side]) -> list[Row]:
    rates: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):  # the first round warms both sides up
        first_oid = _FIRST_OID + (size * 100 + number) * size
        for kind, revision in (("new", 1), ("changed", 2)):
            for side in sides if number % 2 else reversed(sides):
                ready = side.ready(order_upserts(first_oid, size, revision))
                start = time.perf_counter()
                done = await side.write(ready)
                rate = size / (time.perf_counter() - start)
                if done != size:
                    raise MeasureError(f"{side.name}: {done} of {size} order upserts took effect")
                if number:
                    rates.setdefault((kind, side.name), []).append(rate)
    return [
        Row(
            f"flush of {size:,} {kind} orders",
            spread(rates[kind, _OURS]),
            "orders/s",
            peer="motor bulk_write",
            peer_value=spread(rates[kind, _PEER]),
            ratio=ratio(rates[kind, _OURS], rates[kind, _PEER]),
            goal=GOAL,
        )
        for kind in ("new", "changed")
    ]


def order_upserts(first_oid: int, count: int, revision: int) -> list[Upsert]:
    """States of ``count`` orders as the flush writes them; a second revision is a partial fill of the first."""
    return [_upsert(first_oid + number, number, revision) for number in range(count)]


def _upsert(oid: int, number: int, revision: int) -> Upsert:
    order = Order(
        oid=oid,
        coin="BTC",
        side="AB"[number % 2],
        limitPx=f"{80_000 + number}.5",
        sz=f"0.{98 - revision}",
        origSz="1.0",
        timestamp=_FIRST_MS + number,
        orderType="Limit",
        tif="Gtc",
        cloid=f"0x{oid:032x}" if number % 2 else None,
        reduceOnly=False,
        isTrigger=False,
        triggerPx="0.0",
        triggerCondition="N/A",
        isPositionTpsl=False,
    )
    change = OrderChange(
        venue="hyperliquid",
        trader=f"0x{number % _TRADERS:040x}",
        dex="",
        action="new" if revision == 1 else "updated",
        order=order,
        revision=revision,
        changes={},
        venue_ms=_FIRST_MS,
        received_ms=_FIRST_MS + revision,
    )
    upsert = writes_of_order(change)[1]
    assert isinstance(upsert, Upsert)
    return upsert


def _operation(upsert: Upsert) -> UpdateOne:
    """The operation our writer sends for an upsert, in the driver's plain terms."""
    version = upsert.version_field
    return UpdateOne(
        {"_id": upsert.id, version: {"$not": {"$gte": upsert.version}}},
        {"$set": dict(upsert.values) | {version: upsert.version}, "$setOnInsert": dict(upsert.on_insert)},
        upsert=True,
    )
