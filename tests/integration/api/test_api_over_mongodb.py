"""The routes over a real MongoDB: what a query means there, driver types, deadlines."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from src.api.app import create_app
from src.models.clock import ManualClock
from src.models.metrics import Metrics
from src.models.writes import Collection, Insert, WriteBatch
from src.store.mongo import MongoStore

pytestmark = pytest.mark.integration

EARLIEST = "1970-01-01T00:00:00Z"
START = datetime(2026, 1, 1, tzinfo=UTC)
TRADER = "0x" + "a1" * 20


@pytest.fixture
async def store(mongo_uri, database_name):
    """60 orders with few different times, some without one; events of two of them; a lasting and an ended hole."""
    store = MongoStore(mongo_uri, database_name, timeout_s=10)
    await store.prepare()
    orders = [
        {
            "_id": f"{TRADER}:{oid}",
            "ethAddress": TRADER,
            "oid": oid + 2**40,
            "coin": "BTC" if oid % 2 else "PURR/USDC",
            "status": "open",
            "timestamp": None if oid % 10 == 0 else START + timedelta(milliseconds=oid % 4),
        }
        for oid in range(60)
    ]
    events = [
        {
            "_id": f"{TRADER}:{oid}:{revision}",
            "ethAddress": TRADER,
            "oid": oid,
            "revision": revision,
            "receivedAt": START,
        }
        for oid in (2**40 + 1, (2**40 + 1) * 10)
        for revision in (1, 2, 10)
    ]
    hole = {"_id": "s:1", "venue": "v", "stream": "s", "from": START, "to": None, "reason": "silence"}
    documents = [(Collection.TRADER_ORDERS, order) for order in orders]
    documents += [(Collection.TRADER_ORDER_EVENTS, event) for event in events]
    documents += [(Collection.COVERAGE, hole)]
    documents += [(Collection.COVERAGE, hole | {"_id": "s:2", "to": START + timedelta(hours=1)})]
    await store.write(WriteBatch(1, [[Insert(collection, document) for collection, document in documents]]))
    yield store
    await store.close()


def client_of(store, **changes) -> httpx.AsyncClient:
    app = create_app(
        status=None,
        store=store,
        metrics=Metrics(),
        traders=None,
        token=None,
        allowed_origins=(),
        clock=ManualClock(),
        version="1",
        **changes,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize("limit", [1, 7, 60])
@pytest.mark.parametrize("filters", [{}, {"coin": "PURR/USDC"}, {"ethAddress": TRADER, "from": "2026-01-01"}])
async def test_pages_give_every_match_once_in_order(store, limit, filters):
    seen, cursor = [], None
    async with client_of(store) as client:
        while True:
            params = filters | {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/api/orders", params=params)).json()
            seen += [(datetime.fromisoformat(row["timestamp"] or EARLIEST), row["_id"]) for row in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
    wanted = [oid for oid in range(60) if "coin" not in filters or oid % 2 == 0]
    if "from" in filters:
        wanted = [oid for oid in wanted if oid % 10]
    assert seen == sorted(seen, reverse=True)
    assert sorted(key for _, key in seen) == sorted(f"{TRADER}:{oid}" for oid in wanted)


async def test_one_order_with_its_own_history_only(store):
    oid = 2**40 + 1
    async with client_of(store) as client:
        answer = (await client.get(f"/api/orders/{TRADER}/{oid}")).json()
    assert answer["order"]["oid"] == oid
    assert [(event["oid"], event["revision"]) for event in answer["history"]] == [(oid, 1), (oid, 2), (oid, 10)]


async def test_lasting_and_ended_holes(store):
    async with client_of(store) as client:
        for params, found in (
            ({}, ["s:2", "s:1"]),
            ({"open": "true"}, ["s:1"]),
            ({"open": "false"}, ["s:2"]),
            ({"from": "2026-02-01"}, ["s:1"]),
        ):
            items = (await client.get("/api/coverage", params=params)).json()["items"]
            assert [row["_id"] for row in items] == found


async def test_reads_cut_off_by_the_deadline_leave_the_store_usable(store):
    async with client_of(store, read_timeout_s=0.0001) as hasty:
        answers = await asyncio.gather(*(hasty.get("/api/orders") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {503}
    async with client_of(store) as client:
        assert len((await client.get("/api/orders")).json()["items"]) == 60
