"""Order-book sessions: one subscription however many want it, exact statistics, restarts, refusals, outages."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from src.jobs.order_books import streams as streams_module
from src.jobs.order_books.stream_sessions import Link, from_document, link_of
from src.jobs.order_books.streams import MOST_RUNNING, MOST_STOPPED, MOST_TICKERS, StreamSessions
from src.models.changes import BookChange, TradeSeen
from src.models.clock import ManualClock
from src.models.errors import StoreError, StoreFatalError, StreamRefusedError
from src.models.live import WANTED, Standing
from src.models.messages import Trade
from src.models.metrics import STREAM_SESSIONS, Metrics
from src.models.symbols import ALL_VENUES
from src.models.writes import Collection, Upsert, WriteBatch
from src.store.memory import MemoryStore
from tests.support.books import sided, told, whole
from tests.support.virtual_time import run_virtually

T0 = 1_770_170_401_120  # 2026-02-04 09:00:01.120 in Jakarta


class Upstream:
    """Counts holders like the program's own demand."""

    def __init__(self):
        self.holders = {}
        self.standings = {}
        self.asked = []

    def hold(self, holder, topic):
        self.asked.append(topic)
        self.holders.setdefault(topic, set()).add(holder)
        return self.standing(topic)

    def release(self, holder, topic):
        self.holders[topic].discard(holder)
        if not self.holders[topic]:
            del self.holders[topic]

    def standing(self, topic):
        return self.standings.get(topic.subject, WANTED)

    def connected(self):
        return {}

    def wanted(self):
        return sorted(f"{topic.venue}/{topic.subject}" for topic in self.holders)


class Bench:
    def __init__(self, store=None, clock=None, venues=("stockbit", "hyperliquid")):
        self.clock = clock or ManualClock(wall_ms=T0)
        self.store = store or MemoryStore()
        self.metrics = Metrics()
        self.upstream = Upstream()
        self.links = dict.fromkeys(venues, Link(connected=True))
        self.sessions = StreamSessions(
            self.store,
            upstream=self.upstream,
            venues=ALL_VENUES,
            links={venue: lambda venue=venue: self.links[venue] for venue in venues},
            market=lambda: {"status": "closed"},
            clock=self.clock,
            metrics=self.metrics,
        )
        self.stopping = asyncio.Event()
        self.task = None

    async def __aenter__(self):
        self.task = asyncio.create_task(self.sessions.run(self.stopping))
        await self.settle()
        return self

    async def __aexit__(self, *_):
        self.stopping.set()
        await self.task
        await self.sessions.stop_all()

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)

    async def kill(self):
        """End without a word, as a crash does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def start(self, *tickers, venue="stockbit", session_id=None):
        return await self.sessions.start(tickers, venue=venue, session_id=session_id)

    def see(self, *books):
        self.sessions.listen([BookChange(book, changed=True) for book in books])

    def stats(self, session_id):
        return self.sessions.session(session_id)

    def documents(self):
        return {document["_id"]: document for document in self.store.documents(Collection.STREAMS)}


def refused(coroutine, text, **also):
    async def check():
        with pytest.raises(StreamRefusedError, match=text) as told_:
            await coroutine
        for name, value in also.items():
            assert getattr(told_.value, name) == value

    return check()


class TestStatistics:
    async def test_the_documented_answer_to_a_start(self):
        async with Bench() as bench:
            assert await bench.start("BBCA", "TLKM") == {
                "session_id": "stream_20260204_090001",
                "tickers": ["BBCA", "TLKM"],
                "started_at": "2026-02-04T09:00:01.120000",
            }

    async def test_the_documented_statistics(self):
        async with Bench() as bench:
            await bench.start("BBCA", "TLKM")
            bench.clock.advance(20)
            bench.see(
                *[sided("BBCA", bids_told=told())] * 39, *[sided("TLKM", at=T0 + 19_890, bids_told=told())] * 130
            )
            assert bench.stats("stream_20260204_090001") == {
                "session_id": "stream_20260204_090001",
                "running": True,
                "tickers": ["BBCA", "TLKM"],
                "message_counts": {"BBCA": 39, "TLKM": 130},
                "last_updates": {"BBCA": "2026-02-04T11:05:42.179000", "TLKM": "2026-02-04T09:00:21.011000"},
                "connection_time": "2026-02-04T09:00:01.120000",
                "uptime_seconds": 20.0,
                "status": "running",
                "started_at": "2026-02-04T09:00:01.120000",
                "venue": "stockbit",
                "connection_status": "connected",
                "retry_count": 0,
                "total_reconnects": 0,
                "last_error": None,
                "last_disconnect_time": None,
            }
            assert bench.sessions.sessions() == [bench.stats("stream_20260204_090001")]

    async def test_books_of_others_and_other_changes_do_not_count(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            bench.see(sided("TLKM", bids_told=told()), whole("BBCA"), sided("BBCA", board="NG", bids_told=told()))
            bench.sessions.listen([TradeSeen(Trade("stockbit", "BBCA", "1", "1", "1", None, T0, T0))])
            assert bench.stats("a")["message_counts"] == {"BBCA": 1}

    async def test_a_connection_that_comes_and_goes(self):
        async with Bench() as bench:
            bench.links["stockbit"] = Link(connected=False, attempts=1)
            await bench.start("BBCA", session_id="a")
            first = bench.stats("a")
            assert (first["running"], first["status"], first["connection_status"]) == (False, "running", "connecting")
            assert (first["connection_time"], first["uptime_seconds"], first["retry_count"]) == (None, 0.0, 1)
            bench.links["stockbit"] = Link(connected=True)
            bench.clock.advance(5)
            assert bench.stats("a")["running"] is True
            bench.links["stockbit"] = Link(connected=False, attempts=3, error="1006 abnormal closure")
            bench.clock.advance(5)
            lost = bench.stats("a")
            assert (lost["running"], lost["connection_status"], lost["retry_count"]) == (False, "retrying", 3)
            assert lost["last_error"] == "1006 abnormal closure"
            assert lost["last_disconnect_time"] == "2026-02-04T09:00:11.120000"
            bench.links["stockbit"] = Link(connected=True)
            bench.clock.advance(3)
            back = bench.stats("a")
            assert (back["total_reconnects"], back["connection_status"]) == (1, "connected")
            bench.clock.advance(7)
            assert bench.stats("a")["uptime_seconds"] == 7.0

    async def test_a_connection_that_is_lost_and_back_between_two_looks(self):
        async with Bench() as bench:
            bench.links["stockbit"] = Link(connected=True, connects=4, error="of before")
            await bench.start("BBCA", session_id="a")
            assert bench.stats("a")["total_reconnects"] == 0
            assert bench.stats("a")["last_error"] is None
            bench.clock.advance(60)
            bench.links["stockbit"] = Link(connected=True, connects=6, error="closed_1006", lost_ms=T0)
            told = bench.stats("a")
            assert (told["running"], told["total_reconnects"], told["last_error"]) == (True, 2, "closed_1006")
            assert told["uptime_seconds"] == 0.0
            assert told["last_disconnect_time"] == "2026-02-04T09:00:01.120000"
            bench.clock.advance(3)
            assert bench.stats("a")["total_reconnects"] == 2
            bench.links["stockbit"] = Link(connected=False, connects=6)
            bench.stats("a")
            bench.links["stockbit"] = Link(connected=True, connects=8)
            assert bench.stats("a")["total_reconnects"] == 4, "one of them was not seen"

    async def test_an_obstacle_is_an_error_that_is_told(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            bench.links["stockbit"] = Link(connected=False, obstacle="needs login", requires_login=True)
            stats = bench.stats("a")
            assert (stats["connection_status"], stats["last_error"]) == ("error", "needs login")

    async def test_a_ticker_the_venue_refuses_is_told(self):
        async with Bench() as bench:
            await bench.start("BBCA", "XXXX", session_id="a")
            bench.upstream.standings["XXXX"] = Standing("refused", "invalid", "no such share")
            assert bench.stats("a")["last_error"] == "XXXX: no such share"

    async def test_times_are_those_of_the_exchange(self):
        async with Bench() as bench:
            started = await bench.start("BTC", venue="hyperliquid")
            assert started["session_id"] == "stream_20260204_020001"
            assert started["started_at"] == "2026-02-04T02:00:01.120000"

    async def test_a_clock_set_back_makes_no_negative_uptime(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            bench.clock.jump(-3600)
            assert bench.stats("a")["uptime_seconds"] == 0.0

    def test_how_a_venue_stands_is_read_from_its_connections(self):
        error = {"reason": "closed", "detail": "bye", "remedy": "", "at_ms": 5}
        rows = [
            {"state": "waiting", "failures_in_a_row": 2, "last_error": {**error, "at_ms": 9, "detail": ""}},
            {"state": "open", "failures_in_a_row": 0, "last_error": error},
        ]
        assert link_of(rows) == Link(connected=True, attempts=2, error="closed", lost_ms=9)
        assert link_of(rows[:1]) == Link(connected=False, attempts=2, error="closed", lost_ms=9)
        assert link_of([{**rows[1], "connects": 7}]) == Link(True, error="bye", connects=7, lost_ms=5)
        assert link_of([], obstacle="x", requires_login=True) == Link(False, obstacle="x", requires_login=True)


class TestSharing:
    async def test_sessions_share_a_subscription_until_the_last_one_stops(self):
        async with Bench() as bench:
            await bench.start("BBCA", "TLKM", session_id="a")
            await bench.start("BBCA", "BMRI", session_id="b")
            assert bench.upstream.wanted() == ["stockbit/BBCA", "stockbit/BMRI", "stockbit/TLKM"]
            bench.see(sided("BBCA", bids_told=told()))
            assert [bench.stats(name)["message_counts"]["BBCA"] for name in "ab"] == [1, 1]
            await bench.sessions.stop("a")
            assert bench.upstream.wanted() == ["stockbit/BBCA", "stockbit/BMRI"]
            bench.see(sided("BBCA", bids_told=told()))
            assert [bench.stats(name)["message_counts"]["BBCA"] for name in "ab"] == [1, 2]
            assert bench.sessions.is_wanted("stockbit", "BBCA")
            await bench.sessions.stop("b")
            assert bench.upstream.wanted() == []
            assert not bench.sessions.is_wanted("stockbit", "BBCA")

    async def test_tickers_are_spelt_as_the_venue_does_and_each_once(self):
        async with Bench() as bench:
            started = await bench.start(" bbca ", "TLKM", "BBCA", "", "bbri-w")
            assert started["tickers"] == ["BBCA", "TLKM", "BBRI-W"]
            assert (await bench.start("PURR/USDC", "kPEPE", venue="hyperliquid"))["tickers"] == ["PURR/USDC", "kPEPE"]

    async def test_venues_are_kept_apart(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            await bench.start("BBCA", venue="hyperliquid", session_id="b")
            bench.see(whole("BBCA"))
            assert bench.stats("a")["message_counts"] == {"BBCA": 0}
            assert bench.stats("b")["message_counts"] == {"BBCA": 1}


class TestRefusals:
    async def test_no_ticker(self):
        async with Bench() as bench:
            await refused(bench.start(), "^At least one ticker required$")
            await refused(bench.start(" ", "\t"), "^At least one ticker required$")

    async def test_no_token(self):
        async with Bench() as bench:
            bench.links["stockbit"] = Link(connected=False, obstacle="expired", requires_login=True)
            await refused(bench.start("BBCA"), "^No valid token$", requires_login=True)
            assert bench.sessions.sessions() == []
            assert (await bench.start("BTC", venue="hyperliquid"))["tickers"] == ["BTC"]

    async def test_an_id_twice_also_of_a_stopped_session(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            await refused(bench.start("BBCA", session_id="a"), "^Session a already exists$")
            await bench.sessions.stop("a")
            await refused(bench.start("BBCA", session_id="a"), "^Session a already exists$")

    async def test_ids_made_in_the_same_second_differ(self):
        async with Bench() as bench:
            names = [(await bench.start("BBCA"))["session_id"] for _ in range(3)]
            assert names == [f"stream_20260204_090001{tail}" for tail in ("", "_2", "_3")]

    @pytest.mark.parametrize(
        ("venue", "ticker", "text"),
        [
            ("nasdaq", "AAPL", "not collected by this program; it collects hyperliquid, stockbit"),
            ("futu", "AAPL", "not collected"),
            ("stockbit", "../../etc", r"Not a ticker of stockbit: \.\./\.\./etc"),
            ("stockbit", "$where", "Not a ticker"),
            ("hyperliquid", "BTC;drop", "Not a ticker"),
        ],
    )
    async def test_what_cannot_be_asked_for(self, venue, ticker, text):
        async with Bench() as bench:
            await refused(bench.start(ticker, venue=venue), text)

    async def test_a_venue_without_order_books(self):
        async with Bench(venues=("alpaca",)) as bench:
            await refused(bench.start("AAPL", venue="alpaca"), "no order books")

    async def test_limits(self):
        async with Bench() as bench:
            await refused(bench.start(*(f"A{n:04}" for n in range(MOST_TICKERS + 1))), "too many")
            for _ in range(MOST_RUNNING):
                await bench.start("BBCA")
            await refused(bench.start("BBCA"), "running already")

    async def test_stopping_what_does_not_run(self):
        async with Bench() as bench:
            await refused(bench.sessions.stop("nosuch"), "^Session nosuch not found$")
            await bench.start("BBCA", session_id="a")
            stopped = await bench.sessions.stop("a")
            assert stopped == {"session_id": "a", "stopped_at": "2026-02-04T09:00:01.120000"}
            await refused(bench.sessions.stop("a"), "^Session a is not running$")
            assert bench.sessions.session("nosuch") is None

    async def test_only_the_last_stopped_sessions_are_listed(self, monkeypatch):
        monkeypatch.setattr(streams_module, "MOST_STOPPED", 3)
        async with Bench() as bench:
            for number in range(6):
                await bench.start("BBCA", session_id=f"s{number}")
                bench.clock.advance(1)
                await bench.sessions.stop(f"s{number}")
            assert [stats["session_id"] for stats in bench.sessions.sessions()] == ["s3", "s4", "s5"]
            assert len(bench.documents()) == 6
            await refused(bench.start("BBCA", session_id="s0"), "^Session s0 already exists$")


class TestRestarts:
    async def test_a_clean_stop_ends_all_and_the_next_start_goes_on(self):
        async with Bench() as bench:
            await bench.start("BBCA", "TLKM", session_id="a")
            await bench.start("BBCA", session_id="b")
            await bench.sessions.stop("b")
            bench.see(*[sided("BBCA", bids_told=told())] * 5)
        assert bench.upstream.wanted() == []
        assert bench.stats("a")["status"] == "stopped"
        assert {name: document["status"] for name, document in bench.documents().items()} == {
            "a": "interrupted", "b": "stopped",
        }  # fmt: skip
        bench.clock.advance(60)
        async with Bench(bench.store, bench.clock) as again:
            assert again.upstream.wanted() == ["stockbit/BBCA", "stockbit/TLKM"]
            again.see(sided("BBCA", bids_told=told()))
            stats = again.stats("a")
            assert (stats["status"], stats["message_counts"]) == ("running", {"BBCA": 6, "TLKM": 0})
            assert (stats["started_at"], stats["uptime_seconds"]) == ("2026-02-04T09:00:01.120000", 0.0)
            assert again.stats("b")["status"] == "stopped"

    async def test_a_crash_loses_at_most_what_was_counted_since_the_last_store(self):
        bench = Bench()
        await bench.__aenter__()
        await bench.start("BBCA", session_id="a")
        bench.see(*[sided("BBCA", bids_told=told())] * 5)
        await bench.kill()
        assert bench.documents()["a"]["status"] == "running"
        async with Bench(bench.store) as again:
            assert again.stats("a")["status"] == "running"
            assert again.upstream.wanted() == ["stockbit/BBCA"]

    def test_counts_are_stored_every_few_seconds(self):
        async def scene():
            async with Bench() as bench:
                await bench.start("BBCA", session_id="a")
                bench.see(*[sided("BBCA", bids_told=told())] * 5)
                for _ in range(14):
                    bench.clock.advance(1)
                    await asyncio.sleep(1)
                document = bench.documents()["a"]
                assert [row["count"] for row in document["messages"]] == [5]
                assert document["connectedAt"] == datetime.fromtimestamp(T0 / 1000, UTC)
                revision = document["revision"]
                for _ in range(30):
                    bench.clock.advance(1)
                    await asyncio.sleep(1)
                assert bench.documents()["a"]["revision"] == revision, "nothing happened, nothing to store"

        run_virtually(scene())

    async def test_a_session_of_a_venue_that_is_off_waits_and_can_be_stopped(self):
        async with Bench() as bench:
            await bench.start("BTC", venue="hyperliquid", session_id="a")
        async with Bench(bench.store, venues=("stockbit",)) as off:
            assert off.upstream.wanted() == []
            assert off.stats("a")["status"] == "stopped"
        async with Bench(bench.store) as on:
            assert on.stats("a")["status"] == "running"
        async with Bench(bench.store, venues=("stockbit",)) as off:
            await off.sessions.stop("a")
        async with Bench(bench.store) as on:
            assert on.stats("a")["status"] == "stopped"

    async def test_a_refresh_begins_anew(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            bench.clock.advance(9)
            assert (await bench.sessions.refresh("a"))["session_id"] == "a"
            assert bench.stats("a")["uptime_seconds"] == 0.0
            assert len(bench.upstream.asked) == 2
            await bench.sessions.stop("a")
            await bench.sessions.refresh("a")
            assert bench.stats("a")["status"] == "running"
            assert "stopped_at" not in bench.stats("a")
            assert bench.upstream.wanted() == ["stockbit/BBCA"]
            await refused(bench.sessions.refresh("nosuch"), "not found")
            bench.links["stockbit"] = Link(connected=False, requires_login=True, obstacle="x")
            await refused(bench.sessions.refresh("a"), "No valid token", requires_login=True)

    async def test_a_foreign_document_is_passed_over(self):
        store = MemoryStore()
        foreign = Upsert(Collection.STREAMS, "odd", "revision", 1, {"status": "running", "tickers": 5})
        await store.write(WriteBatch(1, [[foreign]]))
        with capture_logs() as logs:
            async with Bench(store) as bench:
                assert bench.sessions.sessions() == []
        assert [log["id"] for log in logs if log["event"] == "stream_not_understood"] == ["odd"]
        assert from_document({}) is None
        assert MOST_STOPPED > 0

    async def test_running_sessions_are_counted(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            await bench.start("BBCA", session_id="b")
            await bench.sessions.stop("a")
            counted = [bench.metrics.value(STREAM_SESSIONS, state) for state in ("running", "stopped")]
            assert counted == [1, 1]
        assert bench.metrics.value(STREAM_SESSIONS, "running") == 0


class TestOutages:
    async def test_a_start_is_effective_though_the_database_is_away(self):
        async with Bench() as bench:
            bench.store.fail_next(StoreError("away"))
            await bench.start("BBCA")
            assert bench.upstream.wanted() == ["stockbit/BBCA"]
            assert bench.documents() == {}
        assert len(bench.documents()) == 1, "stored as soon as it is back"

    def test_before_the_sessions_are_read_nothing_can_be_started(self):
        async def scene():
            store = MemoryStore()
            store.fail_next(StoreError("away"))
            bench = Bench(store)
            await refused(bench.start("BBCA"), "not collecting yet", later=True)
            with pytest.raises(StreamRefusedError, match="not collecting yet"):
                bench.sessions.sessions()
            with pytest.raises(StreamRefusedError, match="not collecting yet"):
                bench.sessions.session("a")
            async with bench:
                started = await bench.start("BBCA")
                assert started["tickers"] == ["BBCA"]

        run_virtually(scene())

    async def test_a_database_that_refuses_for_good_ends_the_task(self):
        store = MemoryStore()
        store.fail_next(StoreFatalError("no rights"))
        with pytest.raises(StoreFatalError):
            await Bench(store).sessions.run(asyncio.Event())

    def test_a_database_that_hangs_does_not_hold_up_the_stop(self):
        async def scene():
            bench = Bench()
            await bench.__aenter__()
            await bench.start("BBCA")

            async def hang(batch):
                await asyncio.sleep(3600)

            bench.store.write = hang
            bench.see(sided("BBCA", bids_told=told()))
            with capture_logs() as logs:
                await bench.__aexit__()
            assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["streams_not_stored"]

        run_virtually(scene())

    async def test_what_arrives_until_the_end_is_counted(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            bench.stopping.set()
            await bench.task
            bench.see(sided("BBCA", bids_told=told()))
            assert bench.sessions.is_wanted("stockbit", "BBCA")
        assert bench.documents()["a"]["messages"][0]["count"] == 1

    async def test_another_program_that_took_over_is_not_written_over(self):
        async with Bench() as bench:
            await bench.start("BBCA", session_id="a")
            before = bench.documents()
            await bench.sessions.stop_all(stored=False)
            assert bench.documents() == before
            assert bench.upstream.wanted() == []

    async def test_a_program_that_stops_takes_no_session(self):
        async with Bench() as bench:
            pass
        await refused(bench.start("BBCA"), "stops")


def test_the_exchange_is_asked_of_the_calendar():
    assert Bench().sessions.market_status() == {"status": "closed"}
