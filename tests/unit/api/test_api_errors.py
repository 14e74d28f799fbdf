"""Wrong requests and an absent store: which answer, and does it say what to change."""

import asyncio

import pytest

from src.models.errors import ConfigurationError, StoreError, StoreFatalError
from src.models.writes import Collection

LISTS = [
    "/api/orders",
    "/api/positions",
    "/api/trades?symbol=BTC",
    "/api/candles?symbol=BTC",
    "/api/coverage",
    "/api/traders",
]


@pytest.mark.parametrize("path", LISTS)
async def test_unknown_parameters_are_named_with_the_known_ones(client, path):
    answer = await client.get(path + ("&" if "?" in path else "?") + "etAddress=x&limit=5")
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert "'etAddress' is not known" in detail
    assert "limit, cursor" in detail


@pytest.mark.parametrize("path", ["/api/orders/0x" + "a" * 40 + "/1", "/api/orderbook/hyperliquid/BTC"])
async def test_single_documents_take_no_parameters(client, path):
    answer = await client.get(path + "?coin=BTC")
    assert answer.status_code == 422
    assert "'coin' is not known" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=0", "limit='0'"),
        ("limit=1001", "less than or equal to 1000"),
        ("limit=ten", "valid integer"),
        ("ethAddress=0x12", "ethAddress='0x12'"),
        ("ethAddress[$ne]=x", "is not known"),
        ("coin=$gt", "coin='$gt'"),
        ("coin=%00", "coin="),
        ("status=opne", "'open', 'closed' or 'untracked'"),
        ("from=yesterday", "2026-01-31T12:00:00Z"),
        ("from=99999999999999999999", "milliseconds"),
        ("to=-1", "milliseconds"),
        ("from=2026-02-01&to=2026-01-01", "'from' has to be before 'to'"),
        ("coin=BTC&coin=ETH", "more than once"),
        ("cursor=abc", "cursor"),
        ("cursor=" + "A" * 5000, "cursor"),
    ],
)
async def test_wrong_values_are_named_and_nothing_is_read(world, client, query, told):
    answer = await client.get(f"/api/orders?{query}")
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 600
    assert world.store.queries == []


@pytest.mark.parametrize("oid", ["x", "-1", str(2**63), "9" * 400])
async def test_order_ids_have_to_be_64_bit_integers(world, client, oid):
    answer = await client.get(f"/api/orders/{world.alice}/{oid}")
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) < 400


async def test_every_wrong_value_is_reported_at_once(client):
    detail = (await client.get("/api/orders?limit=0&status=x&from=y")).json()["detail"]
    assert all(name in detail for name in ("limit", "status", "from"))


async def test_a_cursor_belongs_to_one_endpoint_and_its_filters(world, client):
    world.store.documents[Collection.TRADER_ORDERS] = [world.order(n) for n in (1, 2, 3)]
    cursor = (await client.get("/api/orders?coin=BTC&limit=1")).json()["nextCursor"]
    assert (await client.get(f"/api/orders?coin=BTC&limit=2&cursor={cursor}")).status_code == 200
    for path in (f"/api/orders?limit=1&cursor={cursor}", f"/api/coverage?cursor={cursor}"):
        answer = await client.get(path)
        assert answer.status_code == 422
        assert "same filters" in answer.json()["detail"]


async def test_every_read_is_bounded(world, client):
    for path in [*LISTS, f"/api/orders/{world.alice}/1", "/api/orderbook/hyperliquid/BTC"]:
        await client.get(path)
    assert len(world.store.queries) >= len(LISTS) + 2
    assert all(query.limit is not None and query.limit <= 1002 for _, query in world.store.queries)


@pytest.mark.parametrize("path", [*LISTS, "/api/orders/0x" + "a" * 40 + "/1", "/api/orderbook/hyperliquid/BTC"])
async def test_an_absent_mongodb_is_503_with_retry_after(world, client, path):
    world.store.error = StoreError("connection refused: mongodb://root:hunter2@db")
    answer = await client.get(path)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "MongoDB" in answer.json()["detail"]
    assert "hunter2" not in answer.text


async def test_a_silent_mongodb_is_503_within_the_deadline(world):
    world.store.gate = asyncio.Event()
    async with world.client(read_timeout_s=0.05) as client, asyncio.timeout(5):
        answers = await asyncio.gather(*(client.get("/api/orders") for _ in range(30)))
        assert {answer.status_code for answer in answers} == {503}
        world.store.gate.set()
        assert (await client.get("/api/orders")).status_code == 200


async def test_a_refusing_mongodb_is_not_worth_retrying(world, client):
    world.store.error = StoreFatalError("not authorized")
    answer = await client.get("/api/orders")
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers
    assert "doctor" in answer.json()["detail"]


async def test_a_fault_of_ours_tells_nothing_of_the_inside(world, client):
    world.store.error = RuntimeError("secret detail")
    answer = await client.get("/api/orders")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["detail"]


async def test_refused_changes_keep_their_reason(world, client):
    world.traders.error = ConfigurationError("at most 10 traders; raise HYPERLIQUID_MAX_USERS")
    answer = await client.post("/api/traders", json={"addresses": [world.alice]})
    assert answer.status_code == 422
    assert "HYPERLIQUID_MAX_USERS" in answer.json()["detail"]


async def test_unknown_paths_and_methods(client):
    missing = await client.get("/api/nothing")
    assert (missing.status_code, "/docs" in missing.json()["detail"]) == (404, True)
    wrong = await client.put("/api/orders")
    assert wrong.status_code == 405
    assert "GET" in wrong.json()["detail"]
