"""The simulator's own pages and process: order books and trades over REST, and the command that runs it."""

import asyncio
import json
import sys

import httpx
import pytest

from src.config import Settings
from src.jobs.stockbit.demo import stockbit_demo
from src.venues.stockbit.simulator import StockbitSimulator, StockbitSimulatorConfig
from src.venues.stockbit.simulator.__main__ import parse_arguments
from src.venues.stockbit.simulator.market import SimMarket, tick_of
from tests.support.stockbit_world import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def venue():
    async with StockbitSimulator(StockbitSimulatorConfig(always_open=True, trades_per_s=50.0)) as sim:
        yield sim


def client(sim, access=""):
    return httpx.AsyncClient(base_url=sim.api_url, headers={"authorization": f"Bearer {access}"}, trust_env=False)


async def test_an_order_book_over_rest_has_the_levels_of_the_feed(venue):
    venue.is_paused = True
    access, _ = venue.log_in()
    async with client(venue, access) as http:
        answer = await http.get("/company-price-feed/v2/orderbook/companies/BBCA")
        assert (await http.get("/company-price-feed/v2/orderbook/companies/NONE")).status_code == 404
    data = answer.json()["data"]
    for name, side in (("bid", "BID"), ("offer", "OFFER")):
        levels = venue.market.books["BBCA"].side(side)
        rows = [(row["price"], row["que_num"], row["volume"]) for row in data[name]]
        assert rows == [(level.px, str(level.n), level.sz) for level in levels]
        assert int(data["total_bid_offer"][name]["raw_freq"]) == sum(level.n for level in levels)


async def test_running_trades_come_in_pages(venue):
    await until(lambda: len(venue.market.books["BBCA"].trades) >= 30)
    venue.is_paused = True
    access, _ = venue.log_in()
    numbers, cursor = [], 0
    async with client(venue, access) as http:
        while True:
            query = {"symbols[]": "BBCA", "limit": 7, **({"trade_number": cursor} if cursor else {})}
            rows = (await http.get("/order-trade/running-trade", params=query)).json()["data"]["running_trade"]
            if not rows:
                break
            numbers += [int(row["trade_number"]) for row in rows]
            cursor = numbers[-1]
    assert numbers == sorted((trade.number for trade in venue.market.books["BBCA"].trades), reverse=True)


async def test_pages_want_a_token(venue):
    async with client(venue, "nobody") as http:
        for path in ("/auth/websocket/key", "/order-trade/running-trade"):
            assert (await http.get(path)).status_code == 401


def test_the_same_seed_makes_the_same_market():
    markets = [SimMarket(("BBCA", "GOTO"), seed=3, levels=60) for _ in range(2)]
    for _ in range(200):
        for one, other in zip(*markets, strict=True):
            assert one.change() == other.change()
    for one, other in zip(*markets, strict=True):
        assert one.side("BID") == other.side("BID")


def test_books_of_the_market_are_never_crossed_and_keep_the_steps():
    market = SimMarket(("BBCA", "GOTO", "BUMI"), seed=5, levels=60)
    for turn in range(300):
        for book in market:
            book.change()
            book.trade(turn, 0, in_auction=False)
            bids, offers = book.side("BID"), book.side("OFFER")
            assert int(bids[0].px) < int(offers[0].px)
            assert all(int(level.px) % tick_of(int(bids[0].px)) == 0 for level in bids[:5])
            assert all(int(level.sz) > 0 and int(level.sz) % 100 == 0 and level.n > 0 for level in (*bids, *offers))


async def test_the_command_tells_where_it_is_and_stops_with_its_input():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "src.venues.stockbit.simulator", "--always-open", "--tickers", "BBCA",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"authorization": f"Bearer {told['access_token']}"}
        assert (await http.get(f"{told['api_url']}/auth/websocket/key", headers=headers)).status_code == 200
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 30) == 0


def test_a_day_on_the_command_line():
    config, clock = parse_arguments(["--start", "2026-02-04T08:40:00+07:00", "--speed", "0", "--token-life", "60"])
    assert clock.wall_ms() == 1_770_169_200_000
    assert config.token_life_s == 60.0


async def test_the_demo_has_tokens_that_work(tmp_path):
    async with stockbit_demo(Settings(data_dir=tmp_path), seed=1) as demo:
        settings = demo.settings
        assert settings.stockbit_tickers
        assert demo.hours.is_continuous(0)
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"authorization": f"Bearer {settings.stockbit_access_token.get_secret_value()}"}
            answer = await http.get(f"{settings.stockbit_api_url}/auth/websocket/key", headers=headers)
            assert answer.status_code == 200
