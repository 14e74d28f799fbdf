"""Positions, trades, candles, books, holes, followed traders."""

from datetime import timedelta

import pytest

from src.models.writes import Collection


async def test_positions_in_stable_order_with_pages(world, client):
    world.store.documents[Collection.TRADER_POSITIONS] = [
        {"_id": f"{trader}:{dex}:{coin}", "ethAddress": trader, "dex": dex, "coin": coin, "status": "open"}
        for trader in (world.bob, world.alice)
        for dex, coin in (("xyz", "xyz:TSLA"), ("", "ETH"), ("", "BTC"))
    ]
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/positions", params=params)).json()
        seen += [row["_id"] for row in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == sorted(seen)
    assert len(seen) == 6
    only = (await client.get("/api/positions", params={"ethAddress": world.alice, "dex": "", "coin": "BTC"})).json()
    assert [row["_id"] for row in only["items"]] == [f"{world.alice}::BTC"]


async def test_trades_of_one_symbol(world, client):
    world.store.documents[Collection.TRADES] = [
        {"_id": f"{venue}:{symbol}:{n}", "venue": venue, "symbol": symbol, "timestamp": world.start + timedelta(n)}
        for venue in ("hyperliquid", "alpaca")
        for symbol in ("BTC", "PURR/USDC")
        for n in range(3)
    ]
    answer = (await client.get("/api/trades", params={"symbol": "PURR/USDC"})).json()
    assert [row["_id"] for row in answer["items"]] == [f"hyperliquid:PURR/USDC:{n}" for n in (2, 1, 0)]
    missing = await client.get("/api/trades")
    assert missing.status_code == 422
    assert "symbol" in missing.json()["detail"]


async def test_candles_by_interval(world, client):
    world.store.documents[Collection.CANDLES] = [
        {"_id": i, "venue": "hyperliquid", "symbol": "BTC", "interval": i, "timestamp": world.start}
        for i in ("1m", "1h")
    ]
    for params, found in (({}, ["1m"]), ({"interval": "1h"}, ["1h"]), ({"interval": "1d"}, [])):
        answer = await client.get("/api/candles", params={"symbol": "BTC"} | params)
        assert [row["_id"] for row in answer.json()["items"]] == found
    assert (await client.get("/api/candles", params={"symbol": "BTC", "interval": "$gt"})).status_code == 422


@pytest.mark.parametrize("symbol", ["BTC", "@107", "PURR/USDC", "xyz:TSLA", "#12"])
async def test_books_of_symbols_with_any_punctuation(world, client, symbol):
    world.store.documents[Collection.ORDERBOOKS] = [
        {"_id": symbol, "venue": "hyperliquid", "symbol": symbol, "bids": [[1.0, 2.0, 3]], "asks": []}
    ]
    written = symbol.replace("#", "%23")
    for path in (written, written.replace("/", "%2F")):
        answer = await client.get(f"/api/orderbook/hyperliquid/{path}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["symbol"] == symbol
    assert (await client.get(f"/api/orderbook/alpaca/{written}")).status_code == 404


async def test_an_unknown_book_says_where_to_look(client):
    answer = await client.get("/api/orderbook/hyperliquid/NOPE")
    assert answer.status_code == 404
    assert "NOPE" in answer.json()["detail"]
    assert (await client.get("/api/orderbook/hyperliquid/a b")).status_code == 422


@pytest.fixture
def holes(world):
    """Three of a stream: ended on day 2, ended on day 6, begun on day 8 and lasting; one of another stream."""

    def hole(begin, end, stream="hyperliquid/l2Book/BTC"):
        day = world.start
        return {
            "_id": f"{stream}:{begin}",
            "venue": "hyperliquid",
            "stream": stream,
            "reason": "silence",
            "from": day + timedelta(begin),
            "to": None if end is None else day + timedelta(end),
        }

    rows = [hole(1, 2), hole(5, 6), hole(8, None), hole(0, None, "hyperliquid/l2Book/ETH")]
    world.store.documents[Collection.COVERAGE] = rows


@pytest.mark.usefixtures("holes")
@pytest.mark.parametrize(
    ("params", "days"),
    [
        ({}, [8, 5, 1, 0]),
        ({"stream": "hyperliquid/l2Book/BTC"}, [8, 5, 1]),
        ({"open": "true"}, [8, 0]),
        ({"open": "false"}, [5, 1]),
        ({"from": "2026-01-03T00:00:01", "to": "2026-01-05"}, [0]),
        ({"from": "2026-01-02T12:00:00", "to": "2026-01-07"}, [5, 1, 0]),
        ({"to": "2026-01-04"}, [1, 0]),
        ({"reason": "disconnect"}, []),
    ],
)
async def test_holes_that_overlap_the_range(client, params, days):
    answer = (await client.get("/api/coverage", params=params)).json()
    assert [int(row["_id"].rpartition(":")[2]) for row in answer["items"]] == days


@pytest.mark.usefixtures("holes")
async def test_holes_come_in_pages_although_two_queries_find_them(client):
    seen, cursor = [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/coverage", params=params)).json()
        seen += [int(row["_id"].rpartition(":")[2]) for row in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == [8, 5, 1, 0]


async def test_followed_traders(world, client):
    world.store.documents[Collection.TRADERS] = [
        {"_id": world.bob, "ethAddress": world.bob, "enabled": True, "source": "manual"},
        {"_id": world.alice, "ethAddress": world.alice, "enabled": False, "source": "leaderboard"},
    ]
    everyone = (await client.get("/api/traders")).json()["items"]
    assert [row["ethAddress"] for row in everyone] == [world.alice, world.bob]
    enabled = (await client.get("/api/traders", params={"enabled": "true"})).json()["items"]
    assert [row["ethAddress"] for row in enabled] == [world.bob]
    first = (await client.get("/api/traders", params={"limit": 1})).json()
    second = (await client.get("/api/traders", params={"limit": 1, "cursor": first["nextCursor"]})).json()
    assert [row["ethAddress"] for row in second["items"]] == [world.bob]
    assert second["nextCursor"] is None
