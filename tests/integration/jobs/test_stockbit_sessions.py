"""Sessions of IDX shares end to end: simulated venue, real sockets, real MongoDB, HTTP, and files of both layouts."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr

from src.api.app import create_app
from src.config import Settings
from src.core import build_core
from src.jobs.order_books.orderbooks import OrderBookJobs
from src.jobs.stockbit.source import StockbitPace, StockbitSource
from src.models.live import ACCEPTED, Topic
from src.models.metrics import CSV_DROPPED, Metrics
from src.models.writes import Collection
from src.pipeline.demand import Demand
from src.store.base import Query
from src.store.mongo import MongoStore
from src.venues.clock import SystemClock
from src.venues.idx.calendar import IdxCalendar
from src.venues.idx.holidays import load_holidays
from src.venues.stockbit.simulator import Hours, StockbitSimulator, StockbitSimulatorConfig
from tests.support.books import read_rows
from tests.support.stockbit_world import QUICK, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

URL = "/api/orderbook/streams"


class DirectUpstream:
    """Hands what is held straight to one source."""

    def __init__(self, source):
        self._source = source
        self._demand = Demand(grace_s=0.0)

    def hold(self, holder, topic):
        self._demand.hold(holder, topic)
        return self._tell()

    def release(self, holder, topic):
        self._demand.release(holder, topic, 0.0)
        self._demand.expire(0.0)
        self._tell()

    def standing(self, topic: Topic):
        return ACCEPTED

    def connected(self):
        return {}

    def _tell(self):
        self._source.want(self._demand.wanted().get(self._source.venue, {}))
        return ACCEPTED


class Rig:
    """A program that collects from the simulated venue, without its outer shell."""

    def __init__(self, folder, sim, store, **settings):
        clock, self.metrics = SystemClock(), Metrics()
        self.sim = sim
        self.settings = Settings(
            data_dir=folder, stockbit_ws_url=sim.ws_url, stockbit_api_url=sim.api_url, diff_interval=0.02, **settings
        )
        self.core = build_core(self.settings, store=store, metrics=self.metrics, clock=clock)
        self.source = StockbitSource(
            self.settings,
            sink=self.core.pipeline,
            clock=clock,
            metrics=self.metrics,
            hours=Hours(always_open=True),
            pace=StockbitPace(QUICK, ping_s=0.2, watch_every_s=0.05),
        )
        self.jobs = OrderBookJobs(
            self.settings,
            store=store,
            hub=self.core.hub,
            upstream=DirectUpstream(self.source),
            sources=[self.source],
            calendar=IdxCalendar(load_holidays(None)),
            clock=clock,
            metrics=self.metrics,
        )
        app = create_app(
            status=None,
            store=store,
            metrics=self.metrics,
            traders=None,
            token=None,
            allowed_origins=(),
            clock=clock,
            version="0",
            streams=self.jobs.sessions,
        )
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 5))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    @asynccontextmanager
    async def running(self):
        stopping = asyncio.Event()
        works = [
            *self.source.works(stopping),
            *self.jobs.works(stopping),
            ("drain", lambda: self.core.pipeline.run_drain(stopping)),
            ("flush", lambda: self.core.flusher.run(stopping)),
        ]
        tasks = [asyncio.create_task(work(), name=name) for name, work in works]
        try:
            yield self
        finally:
            stopping.set()
            await self.source.close()
            await asyncio.wait_for(asyncio.gather(*tasks), 20)
            self.core.pipeline.drain()
            await self.jobs.finish()
            assert not await self.core.pipeline.finish(10.0)
            await self.http.aclose()

    async def start(self, *tickers, **more):
        return await self.http.post(URL, json={"tickers": list(tickers), **more})

    async def stats(self, session_id):
        return (await self.http.get(f"{URL}/{session_id}")).json()["stats"]


@pytest.fixture
async def store(mongo_uri, database_name):
    made = MongoStore(mongo_uri, database_name, timeout_s=10.0)
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture
async def sim():
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=30.0, trades_per_s=1.0)
    async with StockbitSimulator(config, clock=SystemClock()) as started:
        yield started


def tokens(sim):
    access, refresh = sim.log_in()
    return {"stockbit_access_token": SecretStr(access), "stockbit_refresh_token": SecretStr(refresh)}


def told_in(rows):
    """Sides in a file of the full layout: ``{(ticker, side, seq): [(price, orders, shares), …]}``."""
    found = defaultdict(list)
    for row in rows:
        _, _, ticker, _, side, level, price, orders, shares, lots, seq = row
        levels = found[ticker, side, int(seq)]
        if level != "0":
            assert int(level) == len(levels) + 1
            assert int(lots) * 100 == int(shares)
            levels.append((price, int(orders), int(shares)))
    return found


async def test_every_side_the_venue_sent_is_in_the_file_once_and_exact(tmp_path, sim, store):
    rig = Rig(tmp_path, sim, store, orderbook_csv_layout="full", **tokens(sim))
    async with rig.running():
        first = (await rig.start("BBCA", "TLKM")).json()
        await rig.start("bbca", session_id="second")
        await until(lambda: sum(rig.jobs.sessions.session("second")["message_counts"].values()) > 150, "150 books")
        stats = await rig.stats(first["session_id"])
        assert (stats["running"], stats["connection_status"]) == (True, "connected")
        assert stats["message_counts"]["TLKM"] > 0
    assert rig.metrics.total(CSV_DROPPED) == 0
    for ticker in ("BBCA", "TLKM"):
        (path,) = (tmp_path / "orderbook").glob(f"*_{ticker}.csv")
        header, *rows = read_rows(path)
        assert header[:3] == ["recv_time", "event_time", "ticker"]
        found = told_in(rows)
        sent = {
            (one.ticker, one.side, one.seq): [(level.px, level.n, int(level.sz)) for level in one.levels]
            for one in rig.sim.sent
            if one.ticker == ticker
        }
        last = max(seq for _, _, seq in found)
        missing = [key for key in sent if key not in found and key[2] <= last]
        assert not missing, missing[:5]
        assert {key: sent[key] for key in found} == dict(found)


async def test_files_of_the_documented_layout_and_books_in_mongodb(tmp_path, sim, store):
    rig = Rig(tmp_path, sim, store, **tokens(sim))
    async with rig.running():
        session = (await rig.start("BBCA")).json()["session_id"]
        await until(lambda: rig.jobs.sessions.session(session)["message_counts"]["BBCA"] > 30, "30 books")
        answer = await rig.http.post(f"{URL}/{session}/stop")
        assert answer.json()["success"] is True
        await until(lambda: not rig.source.streams(), "nothing is asked for any more")
    (path,) = (tmp_path / "orderbook").glob("*.csv")
    header, *rows = read_rows(path)
    assert header == ["timestamp", "price", "lots", "total_value", "side"]
    assert {row[4] for row in rows} == {"BID", "OFFER"}
    assert all(row[0].endswith("+07:00") for row in rows)
    query = Query(equals={"venue": "stockbit", "symbol": "BBCA"}, limit=1)
    (book,) = [one async for one in store.find(Collection.ORDERBOOKS, query)]
    assert len(book["bids"][0]) == 3, "price, shares and orders"


async def test_without_a_token_a_start_says_that_a_person_has_to_log_in(tmp_path, sim, store):
    rig = Rig(tmp_path, sim, store)
    async with rig.running():
        await until(rig.jobs.sessions._restored.is_set, "sessions are read")
        answer = await rig.start("BBCA")
        assert answer.status_code == 400
        assert answer.json() == {"success": False, "error": "No valid token", "requires_login": True}
        access, _ = sim.log_in()
        rig.source.hand_in(SecretStr(access), None)
        session = (await rig.start("BBCA")).json()["session_id"]
        await until(lambda: rig.jobs.sessions.session(session)["message_counts"]["BBCA"] > 5, "books")


async def test_a_token_that_dies_and_a_new_one(tmp_path, sim, store):
    access, _ = sim.log_in()
    rig = Rig(tmp_path, sim, store, stockbit_access_token=SecretStr(access))
    async with rig.running():
        session = (await rig.start("BBCA")).json()["session_id"]
        count = rig.jobs.sessions.session
        await until(lambda: count(session)["message_counts"]["BBCA"] > 5, "books")
        sim.accounts.kill_tokens()
        sim.drop_all()
        await until(lambda: count(session)["connection_status"] == "error", "it says that something is wrong")
        told = await rig.stats(session)
        assert (told["running"], told["status"]) == (False, "running")
        assert told["last_error"]
        assert access not in str(told)
        access, _ = sim.log_in()
        rig.source.hand_in(SecretStr(access), None)
        before = count(session)["message_counts"]["BBCA"]
        await until(lambda: count(session)["message_counts"]["BBCA"] > before + 5, "books again")
        assert count(session)["total_reconnects"] == 1
