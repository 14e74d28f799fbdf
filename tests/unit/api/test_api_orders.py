"""Orders: filters, pages, one with its history."""

from datetime import UTC, datetime, timedelta

import pytest

from src.models.writes import Collection


async def test_latest_placed_first(world, client):
    world.store.documents[Collection.TRADER_ORDERS] = [world.order(1), world.order(3), world.order(2)]
    answer = (await client.get("/api/orders")).json()
    assert [row["oid"] for row in answer["items"]] == [3, 2, 1]
    assert answer["items"][0]["timestamp"] == "2026-01-01T00:03:00Z"
    assert answer["nextCursor"] is None


async def test_filters(world, client):
    world.store.documents[Collection.TRADER_ORDERS] = [
        world.order(1),
        world.order(2, trader=world.bob),
        world.order(3, trader=world.bob, status="closed"),
        world.order(4, trader=world.bob, coin="xyz:TSLA"),
    ]

    async def oids(**params):
        return [row["oid"] for row in (await client.get("/api/orders", params=params)).json()["items"]]

    assert await oids(ethAddress=world.bob.upper().replace("X", "x")) == [4, 3, 2]
    assert await oids(ethAddress=world.bob, status="open", coin="xyz:TSLA") == [4]
    assert await oids(status="closed") == [3]
    assert await oids(coin="ETH") == []


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("2026-01-01T00:02:00Z", "2026-01-01T00:04:00Z"),
        ("2026-01-01T00:02:00", "2026-01-01T00:04"),
        ("2026-01-01T01:02:00+01:00", "2026-01-01T01:04:00 01:00"),  # the second lost its plus sign in the URL
        ("1767225720000", "1767225840000"),
    ],
)
async def test_from_is_inclusive_and_to_is_exclusive(world, client, begin, end):
    world.store.documents[Collection.TRADER_ORDERS] = [world.order(oid) for oid in range(1, 6)]
    answer = await client.get("/api/orders", params={"from": begin, "to": end})
    assert [row["oid"] for row in answer.json()["items"]] == [3, 2]


async def test_pages_meet_every_order_once_even_among_equal_and_missing_times(world, client):
    rows = [world.order(oid, minutes=oid // 7) for oid in range(40)]
    rows += [world.order(oid, timestamp=None) for oid in range(40, 45)]
    world.store.documents[Collection.TRADER_ORDERS] = rows
    for limit in (1, 2, 3, 7, 10, 44, 45, 46):
        seen, cursor = [], None
        while True:
            params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/api/orders", params=params)).json()
            assert len(page["items"]) <= limit
            seen += [(row["timestamp"] or "", row["_id"]) for row in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert seen == sorted(seen, reverse=True)
        assert len(set(seen)) == len(seen) == 45


async def test_an_order_that_arrives_between_pages_shifts_nothing(world, client):
    rows = [world.order(oid) for oid in range(1, 7)]
    world.store.documents[Collection.TRADER_ORDERS] = rows
    first = (await client.get("/api/orders", params={"limit": 3})).json()
    rows.append(world.order(99))
    second = (await client.get("/api/orders", params={"limit": 3, "cursor": first["nextCursor"]})).json()
    assert [row["oid"] for row in first["items"] + second["items"]] == [6, 5, 4, 3, 2, 1]


async def test_a_time_range_leaves_out_orders_without_a_time(world, client):
    world.store.documents[Collection.TRADER_ORDERS] = [world.order(1), world.order(2, timestamp=None)]
    answer = await client.get("/api/orders", params={"from": "2025-01-01"})
    assert [row["oid"] for row in answer.json()["items"]] == [1]


async def test_one_order_with_its_history(world, client):
    world.store.documents[Collection.TRADER_ORDERS] = [world.order(7), world.order(70)]
    world.store.documents[Collection.TRADER_ORDER_EVENTS] = [
        world.order(oid, _id=f"{trader}:{oid}:{revision}", trader=trader, revision=revision, changes={})
        for trader in (world.alice, world.bob)
        for oid in (7, 70)
        for revision in (10, 2, 1)
    ]
    answer = (await client.get(f"/api/orders/{world.alice}/7")).json()
    assert answer["order"]["oid"] == 7
    assert [event["_id"] for event in answer["history"]] == [f"{world.alice}:7:{n}" for n in (1, 2, 10)]
    assert answer["historyComplete"] is True


async def test_a_very_long_history_is_cut_and_says_so(world, client):
    world.store.documents[Collection.TRADER_ORDERS] = [world.order(7)]
    world.store.documents[Collection.TRADER_ORDER_EVENTS] = [
        world.order(7, _id=f"{world.alice}:7:{n}", revision=n) for n in range(1, 1003)
    ]
    answer = (await client.get(f"/api/orders/{world.alice}/7")).json()
    assert (len(answer["history"]), answer["historyComplete"]) == (1000, False)


async def test_an_unknown_order_is_404_with_advice(world, client):
    answer = await client.get(f"/api/orders/{world.alice}/12")
    assert answer.status_code == 404
    assert "GET /api/orders" in answer.json()["detail"]


async def test_driver_types_are_shown_as_json(world, client):
    class Int64(int):  # as the driver hands out 64-bit numbers
        pass

    local = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(milliseconds=5)
    world.store.documents[Collection.TRADER_ORDERS] = [
        world.order(
            Int64(2**53), minutes=1, sz=float("nan"), closedAt=local, changes={"sz": {"from": 1.0, "to": 0.5}}
        )
    ]
    row = (await client.get("/api/orders")).json()["items"][0]
    assert row["oid"] == 2**53
    assert row["sz"] is None
    assert row["closedAt"] == "2026-01-01T12:00:00.005000Z"
    assert row["changes"] == {"sz": {"from": 1.0, "to": 0.5}}
