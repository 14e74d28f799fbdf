"""Sessions and files put together from settings: what is written, what stands in the way, what is told."""

from __future__ import annotations

import asyncio

import pytest

from src.config import Settings, load_settings
from src.jobs.order_books.orderbooks import OrderBookJobs, link_to
from src.jobs.order_books.stream_sessions import Link
from src.models.changes import BookChange
from src.models.clock import ManualClock
from src.models.live import ACCEPTED
from src.models.metrics import Metrics
from src.pipeline.hub import Hub
from src.store.memory import MemoryStore
from src.venues.idx.calendar import IdxCalendar
from src.venues.idx.holidays import load_holidays
from tests.support.books import T0, read_rows, sided, told, whole

OPEN = {"state": "open", "failures_in_a_row": 0, "last_error": None}


class Source:
    def __init__(self, venue="stockbit", **status):
        self.venue = venue
        self.told = {"connections": [OPEN], **status}

    def status(self):
        return self.told


class Upstream:
    def hold(self, holder, topic):
        return ACCEPTED

    def release(self, holder, topic):
        pass

    def standing(self, topic):
        return ACCEPTED

    def connected(self):
        return {}


def made(folder, *sources, **settings):
    hub = Hub(metrics=Metrics())
    jobs = OrderBookJobs(
        Settings(data_dir=folder, **settings),
        store=MemoryStore(),
        hub=hub,
        upstream=Upstream(),
        sources=sources or (Source(), Source("hyperliquid")),
        calendar=IdxCalendar(load_holidays(None)),
        clock=ManualClock(wall_ms=T0),
        metrics=Metrics(),
    )
    return jobs, hub


async def run(jobs, scene):
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(work(), name=name) for name, work in jobs.works(stopping)]
    try:
        await scene()
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
        await jobs.finish()


@pytest.mark.parametrize(
    ("setting", "files"),
    [
        ("sessions", ["2026-02-04_BBCA.csv"]),
        ("all", ["2026-02-04_BBCA.csv", "hyperliquid/2026-02-04_BTC.csv"]),
        ("off", []),
    ],
)
async def test_the_setting_says_whose_books_become_files(tmp_path, setting, files):
    jobs, hub = made(tmp_path, orderbook_csv=setting)

    async def scene():
        started = await jobs.sessions.start(["BBCA"], venue="stockbit", session_id="a")
        assert started["session_id"] == "a"
        hub.publish([BookChange(sided(bids_told=told()), changed=True), BookChange(whole("BTC"), changed=True)])

    await run(jobs, scene)
    folder = tmp_path / "orderbook"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.csv"))
    assert found == files
    assert jobs.sessions.session("a")["message_counts"] == {"BBCA": 1}
    assert (jobs.csv is None) == (setting == "off")
    assert jobs.csv is None or jobs.csv_stats()["books_written"] == len(files)


async def test_directory_and_layout_are_those_of_the_settings(tmp_path):
    jobs, hub = made(tmp_path, orderbook_csv="all", orderbook_dir=tmp_path / "elsewhere", orderbook_csv_layout="full")

    async def scene():
        hub.publish([BookChange(sided(bids_told=told()), changed=True)])

    await run(jobs, scene)
    assert read_rows(tmp_path / "elsewhere" / "2026-02-04_BBCA.csv")[0][0] == "recv_time"


def test_the_directory_is_below_the_data_directory_unless_it_is_named(tmp_path):
    assert load_settings(tmp_path, {}).csv_dir == tmp_path / "data" / "orderbook"
    assert load_settings(tmp_path, {"DATA_DIR": "/srv/x"}).csv_dir.as_posix() == "/srv/x/orderbook"
    assert load_settings(tmp_path, {"ORDERBOOK_DIR": "books"}).csv_dir == tmp_path / "books"
    assert load_settings(tmp_path, {"ORDERBOOK_DIR": ""}).csv_dir == tmp_path / "data" / "orderbook"


def test_health_tells_when_nothing_can_be_written(tmp_path):
    jobs, _ = made(tmp_path)
    assert [check.ok for check in jobs.checks()] == [True]
    jobs.csv.problem = "No space left on device"
    assert [(check.name, check.ok, check.text) for check in jobs.checks()] == [
        ("csv", False, "No space left on device")
    ]
    assert made(tmp_path, orderbook_csv="off")[0].checks() == []


def test_the_market_is_that_of_the_calendar(tmp_path):
    told_now = made(tmp_path)[0].sessions.market_status()
    assert (told_now["status"], told_now["trading_day"]) == ("session_1", "2026-02-04")
    assert told_now["until"] == "2026-02-04T12:00:00+07:00"


@pytest.mark.parametrize(
    ("status", "link"),
    [
        ({}, Link(connected=True)),
        ({"login": {"state": "ready", "why": ""}}, Link(connected=True)),
        ({"login": {"state": "no token", "why": ""}}, Link(True, obstacle="no token", requires_login=True)),
        ({"login": {"state": "needs login", "why": "401"}}, Link(True, obstacle="401", requires_login=True)),
        ({"connections": []}, Link(connected=False)),
    ],
)
def test_how_a_source_stands(status, link):
    assert link_to(Source(**status)) == link


def test_a_source_that_is_off_has_no_connections():
    source = Source()
    source.told = {"venue": "futu", "enabled": False, "why": "FUTU_HOST is empty"}
    assert link_to(source) == Link(connected=False)
