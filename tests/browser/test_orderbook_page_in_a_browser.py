"""The page of order-book sessions in a browser, against the running program: start, watch, stop.

Pictures are kept with ``SCREENSHOTS=some/directory``. Without Chromium the tests are skipped; ``REQUIRE_BROWSER=1``
lets them fail instead.
"""

import secrets
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient

from tests.support.browser import chromium, picture
from tests.support.program import running
from tests.support.simulated_venue import simulated_venue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BADGES = "[...document.querySelectorAll('.badge')].map((badge) => [badge.textContent, badge.className])"
COUNT = "Number(document.querySelector('.session td.number').textContent.replaceAll(',', ''))"


@pytest.fixture(scope="module")
def url(binary, mongod, tmp_path_factory):
    database = f"test_{secrets.token_hex(6)}"
    with simulated_venue(traders=1) as venue:
        settings = {
            **venue.urls,
            "MONGODB_URI": mongod.uri,
            "MONGODB_DATABASE": database,
            "HYPERLIQUID_COINS": "BTC",
            "TRADER_WS_ENABLED": "false",
        }
        with running(tmp_path_factory.mktemp("program"), **settings) as program:
            program.banner()
            yield program.url
    with MongoClient(mongod.uri, serverSelectionTimeoutMS=1000) as client:
        client.drop_database(database)


async def test_a_session_is_started_watched_and_stopped(binary, url):
    async with chromium(binary) as page:
        await page.open(f"{url}/orderbook")
        await page.until("document.getElementById('sessions').textContent === 'No session yet.'")
        await page.value("document.getElementById('tickers').value = 'BTC\\nETH\\nSOL'")
        await page.value("document.getElementById('venue').value = 'hyperliquid'")
        await page.value("document.getElementById('start').click()")
        await page.until(f"({BADGES}).length === 1 && ({BADGES})[0][0] === 'Connected'")
        assert await page.value(BADGES) == [["Connected", "badge on"]]
        assert "with 3 tickers" in await page.value("document.getElementById('message').textContent")
        first = await page.until(COUNT)
        await page.until(f"({COUNT}) > {first}")
        await page.until("document.querySelectorAll('#ladder tbody tr').length >= 5")
        await page.value("[...document.querySelectorAll('.session td button')][1].click()")
        await page.until("document.getElementById('chosen').value === 'hyperliquid/ETH'")
        await page.until("document.querySelectorAll('#ladder .bar').length >= 10")
        await page.media("light")
        await picture(page, "orderbook-light")
        await page.media("dark")
        assert await page.value("getComputedStyle(document.body).backgroundColor") != "rgb(246, 247, 249)"
        await picture(page, "orderbook-dark")
        await page.width(380)
        await picture(page, "orderbook-narrow")
        assert await page.value("document.documentElement.scrollWidth <= window.innerWidth")
        await page.value("document.querySelector('.session .top button').click()")
        await page.until(f"({BADGES})[0][0] === 'Disconnected'")
        assert await page.value(BADGES) == [["Disconnected", "badge off"]]
        assert page.complaints == []
        assert {urlsplit(one).netloc for one in page.requests if one.startswith("http")} == {urlsplit(url).netloc}


async def test_a_refused_start_says_why(binary, url):
    async with chromium(binary) as page:
        await page.open(f"{url}/orderbook")
        await page.until("document.getElementById('updated').textContent.startsWith('Updated')")
        await page.value("document.getElementById('start').click()")
        await page.until("document.getElementById('message').textContent.length > 5")
        assert "bad" in await page.value("document.getElementById('message').className")
