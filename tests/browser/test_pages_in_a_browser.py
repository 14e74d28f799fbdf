"""The pages as a person sees them: in a browser, against the running program, with nothing from the internet.

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


VISIBLE = "document.querySelector('{}').getBoundingClientRect().right <= document.body.clientWidth"


@pytest.fixture(scope="module")
def url(binary, mongod, tmp_path_factory):
    database = f"test_{secrets.token_hex(6)}"
    with simulated_venue(traders=3) as venue:
        settings = {
            **venue.urls,
            "MONGODB_URI": mongod.uri,
            "MONGODB_DATABASE": database,
            "HYPERLIQUID_TRADERS": ",".join(venue.traders),
            "HYPERLIQUID_COINS": "BTC,ETH,NOSUCH",
            "TRADER_WS_CLIENTS": "3",
        }
        with running(tmp_path_factory.mktemp("program"), **settings) as program:
            program.banner()
            program.until_stats(lambda stats: stats["orders_inserted"] > 20 and stats["states"].get("fresh", 0) > 8)
            yield program.url
    with MongoClient(mongod.uri, serverSelectionTimeoutMS=1000) as client:
        client.drop_database(database)


def only_from(page, url):
    return {urlsplit(one).netloc for one in page.requests if one.startswith("http")} == {urlsplit(url).netloc}


async def test_the_status_page_shows_what_is_collected_and_what_is_wrong(binary, url):
    async with chromium(binary) as page:
        await page.open(f"{url}/")
        await page.until("document.querySelectorAll('#streams tbody tr').length >= 10")
        text = await page.value("document.body.innerText")
        for word in ("openOrders", "clearinghouseState", "l2Book", "hyperliquid-0", "mongodb", "event loop"):
            assert word in text, word
        assert await page.value("document.getElementById('status').textContent") == "degraded"
        first = await page.value("document.querySelector('#streams tbody tr').innerText")
        assert "failed" in first
        assert "NOSUCH" in first
        assert await page.value(VISIBLE.format("#streams tbody tr td:nth-child(3)")), "the reason has to be in sight"
        cards = await page.value(
            "Object.fromEntries([...document.querySelectorAll('.card')].map((c) => [c.children[1].textContent,"
            " c.children[0].textContent]))"
        )
        assert int(cards["open orders"]) > 0
        assert int(cards["open positions"]) > 0
        messages = int(cards["messages received"].replace(",", ""))
        await page.until(
            "Number([...document.querySelectorAll('.card')].find((c) => c.innerText.includes('messages received'))"
            f".children[0].textContent.replaceAll(',', '')) > {messages}"
        )
        await picture(page, "status-light")
        await page.media("dark")
        assert await page.value("getComputedStyle(document.body).backgroundColor") != "rgb(246, 247, 249)"
        await picture(page, "status-dark")
        await page.width(380)
        await picture(page, "status-narrow")
        assert await page.value("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.complaints == []
        assert only_from(page, url)


async def test_the_status_page_says_so_when_the_program_is_gone(binary, url):
    async with chromium(binary) as page:
        await page.open(f"{url}/")
        await page.until("document.querySelectorAll('#streams tbody tr').length > 0")
        await page.call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        await page.until("document.getElementById('status').textContent === 'not reachable'")
        assert await page.value("document.querySelectorAll('#streams tbody tr').length") > 0
        await page.call(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        await page.until("document.getElementById('status').textContent === 'degraded'")


async def test_the_api_documentation_is_drawn_without_the_internet(binary, url):
    async with chromium(binary) as page:
        await page.open(f"{url}/docs")
        await page.until("document.querySelectorAll('.opblock').length > 10")
        assert "/api/traders" in await page.value("document.body.innerText")
        await page.value("document.querySelector('.opblock-summary-control').click()")
        await page.until("document.querySelectorAll('.opblock.is-open').length === 1")
        await page.until("document.querySelectorAll('.opblock.is-open .responses-wrapper').length === 1")
        await picture(page, "docs")
        assert page.complaints == []
        assert only_from(page, url)
