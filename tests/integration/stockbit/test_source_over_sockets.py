"""The source against the simulated venue: nothing lost, drops healed, misfortunes counted, demand followed."""

import asyncio

import pytest

from src.models.messages import GapReason, Level
from src.models.metrics import BOOK_ODDITIES, BOOKS_CROSSED, DISCONNECTS, FRAMES_IGNORED, FRAMES_REJECTED
from src.venues.stockbit.simulator import Bad, StockbitSimulatorConfig
from tests.support.stockbit_world import QUICK, stockbit_world, until

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def level(price, orders=1, shares=100):
    return Level(str(price), str(shares), orders)


async def settled(world):
    """Freeze the market and wait until everything sent to the last connection has been handed on."""
    world.sim.is_paused = True
    last = max(world.sim.sessions)
    await until(lambda: world.told().keys() >= world.sent(last).keys(), "everything sent arrives")


async def test_every_side_and_every_trade_that_was_sent_is_handed_on(folder):
    async with stockbit_world(folder) as world:
        await until(lambda: len(world.sim.sent) > 200 and len(world.sim.trades) > 20)
        await settled(world)
        assert world.told() == world.sent()
        sent = {(trade.ticker, str(trade.price), str(trade.shares), trade.number) for trade in world.sim.trades}
        handed = {(t.symbol, t.price, t.size, int(t.trade_id.split("-")[1])) for t in world.trades()}
        assert sent <= handed
        assert {t.side for t in world.trades()} == {"B", "A"}
        assert world.sink.letters == []
        assert world.sim.refusals == 0
        for book in world.books():
            assert all(int(row.px) for row in (*book.bids, *book.asks))


async def test_one_connection_one_frame_for_all_tickers_and_a_log_in(folder):
    tickers = tuple(f"T{number:03d}" for number in range(40))
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=1.0, tickers=tickers, levels=5)
    async with stockbit_world(folder, config=config, stockbit_tickers=tickers, stockbit_trades=False) as world:
        await world.fresh()
        assert world.sim.connects == 1
        (session,) = world.sim.sessions.values()
        assert session.subscribes == 1
        assert session.wants["order_book"] == set(tickers)


async def test_quiet_streams_are_confirmed_by_the_pong(folder):
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=0.0, trades_per_s=0.0)
    async with stockbit_world(folder, config=config, stockbit_books=False) as world:
        await until(lambda: world.source.status()["connections"][0]["subscriptions"]["confirmed"] == 2)
        assert world.trades() == []


@pytest.mark.parametrize("adds", [False, True])
async def test_demand_comes_and_goes(folder, adds):
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=30.0, adds=adds)
    async with stockbit_world(folder, config=config, stockbit_tickers=("BBCA",)) as world:
        await world.fresh()
        world.source.want({"ASII": {"book"}, "TN.BMRI": {"trade", "status"}})
        names = {str(stream) for stream in world.source.streams()}
        assert names == {f"stockbit/{name}" for name in (
            "order_book/BBCA", "running_trade/BBCA", "order_book/ASII", "running_trade/BMRI",
        )}  # fmt: skip
        await until(lambda: world.books("ASII"), "books of the new share")
        world.source.want({})
        await until(lambda: "ASII" not in next(iter(world.sim.sessions.values())).wants["order_book"] or adds)
        told = {str(stream) for gap in world.sink.gaps for stream in gap.streams}
        assert told == {"stockbit/order_book/ASII", "stockbit/running_trade/BMRI"}
        assert set(world.gaps()) == {"unsubscribed"}
        before = len(world.books("ASII"))
        await until(lambda: len(world.books("BBCA")) > 30)
        assert len(world.books("ASII")) - before <= 1
        assert world.sim.connects == 1


async def test_a_venue_that_only_adds_is_cleared_when_tickers_linger(folder, monkeypatch):
    monkeypatch.setattr("src.venues.stockbit.feed.LINGERING_AFTER_MS", 300)
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=30.0, adds=True)
    async with stockbit_world(folder, config=config, stockbit_tickers=("BBCA", "ASII")) as world:
        await world.fresh()
        world.source._settings = world.source._settings.model_copy(update={"stockbit_tickers": ("BBCA",)})
        world.source.want({})
        session = next(iter(world.sim.sessions.values()))
        await until(lambda: session.wants["order_book"] == {"BBCA"}, "the set is cleared and said anew")
        assert world.metrics.value(FRAMES_IGNORED, "stockbit", "not_subscribed") > 0
        await world.fresh()


async def test_broken_sockets_are_healed_and_the_holes_told(folder):
    async with stockbit_world(folder) as world:
        for drops in range(1, 4):
            await world.fresh(after=drops - 1)
            await until(lambda: len(next(iter(world.sim.sessions.values())).wants["order_book"]) == 2)
            world.sim.drop_all()
            await until(lambda drops=drops: len(world.sink.gaps) >= drops)
        await world.fresh(after=3)
        assert all(gap.reason is GapReason.DISCONNECT for gap in world.sink.gaps)
        assert {str(stream) for stream in world.sink.gaps[0].streams} >= {"stockbit/order_book/BBCA"}
        await settled(world)
        last = {}
        for sent in world.sim.sent:
            last[sent.ticker, sent.side] = sent.levels
        for ticker in ("BBCA", "TLKM"):
            book = world.books(ticker)[-1]
            assert (book.bids, book.asks) == (last[ticker, "BID"], last[ticker, "OFFER"])


async def test_a_venue_without_pings_drops_us_and_with_them_it_does_not(folder):
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=20.0, ping_deadline_s=0.6)
    async with stockbit_world(folder, config=config, ping_s=0.0) as world:
        await until(lambda: world.metrics.value(DISCONNECTS, "stockbit", "closed_1006") >= 2, "dropped for silence")
    async with stockbit_world(folder, config=config, ping_s=0.1) as world:
        await until(lambda: world.sim.pings >= 15)
        assert world.sim.connects == 1


async def test_misfortunes_are_counted_and_cost_nothing_but_themselves(folder):
    async with stockbit_world(folder) as world:
        await world.fresh()
        world.sim.is_paused = True
        for how in Bad:
            world.sim.spoil("BBCA", how)
        world.sim.show("TLKM", "BID", [level(9_000 - n) for n in range(70)])
        world.sim.show("TLKM", "OFFER", [])
        world.sim.repeat("TLKM")
        world.sim.switch_source("BBCA")
        world.sim.show("BBCA", "BID", [level(50)], board=2)
        world.sim.show("BBCA", "OFFER", [level(51)], board=2)
        await until(lambda: world.books("TN.BBCA"))
        rejected = {labels[1]: value for labels, value in world.metrics.by_label(FRAMES_REJECTED).items()}
        assert rejected == {"malformed_protobuf": 1, "bad_order_book_body": 2, "text_frame": 1}
        assert len(world.sink.letters) == 4
        assert world.metrics.value(BOOK_ODDITIES, "stockbit", "level_skipped") == 3
        assert world.metrics.value(BOOK_ODDITIES, "stockbit", "switch_reset") == 1
        assert world.metrics.value(BOOK_ODDITIES, "stockbit", "repeated_side") == 1
        assert len(world.books("TLKM")[-2].bids) == 70
        assert world.books("TLKM")[-1].asks == ()
        board = world.books("TN.BBCA")[-1]
        assert (board.board, board.bids[0].px, board.asks[0].px) == ("TN", "50", "51")
        assert world.sim.connects == 1


async def test_a_book_that_stays_crossed_is_an_alert(folder):
    async with stockbit_world(folder) as world:
        await world.fresh()
        world.sim.is_paused = True
        best = int(world.sim.market.books["BBCA"].side("OFFER")[0].px)
        world.sim.show("BBCA", "BID", [level(best + 25)])
        await until(lambda: world.source.status()["crossed"] == ["BBCA/RG"])
        await until(lambda: world.metrics.value(BOOKS_CROSSED, "stockbit") == 1)
        assert world.metrics.value(BOOK_ODDITIES, "stockbit", "crossed_for_long") == 1
        world.sim.show("BBCA", "BID", [level(best - 25)])
        await until(lambda: world.metrics.value(BOOKS_CROSSED, "stockbit") == 0)


async def test_silence_in_trading_is_noticed_and_asked_about(folder, monkeypatch):
    monkeypatch.setattr("src.venues.stockbit.feed.SILENT_S", 0.5)
    async with stockbit_world(folder) as world:
        await world.fresh()
        world.sim.is_silent = True
        session = next(iter(world.sim.sessions.values()))
        before = session.subscribes
        await until(lambda: world.gaps().get("silence", 0) >= 2, "both books count as silent")
        await until(lambda: session.subscribes > before or world.sim.connects > 1, "asked afresh")
        world.sim.is_silent = False
        await world.fresh()


async def test_the_flat_layout_end_to_end(folder):
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=20.0, layout="flat")
    async with stockbit_world(
        folder, config=config, stockbit_layout="flat", stockbit_trades=False, ping_s=0.0
    ) as world:
        await world.fresh()
        await until(lambda: len(world.books("BBCA")) > 10)
        assert world.sink.letters == []
        assert all(book.bids and book.asks for book in world.books())


async def test_the_candle_of_the_day(folder):
    async with stockbit_world(folder, stockbit_live_prices=True) as world:
        await until(lambda: any("liveprice" in str(data.stream) and data.messages for data in world.sink.received))


async def test_a_stop_says_good_bye(folder):
    async with stockbit_world(folder, timing=QUICK) as world:
        await world.fresh()
        await world.source.close()
        await until(lambda: not world.sim.sessions)
        await asyncio.sleep(0)
        assert world.state == "closed"


async def test_how_topics_stand(folder):
    async with stockbit_world(folder, stockbit_tickers=("BBCA",)) as world:
        source = world.source
        await world.fresh()
        assert source.is_connected
        assert source.standing("book", "BBCA").state == "accepted"
        assert source.standing("book", "TN.BBCA").state == "accepted"
        assert source.standing("trade", "*").state == "accepted"
        assert source.standing("book", "ASII").state == "wanted"
        assert source.standing("position", "BBCA").code == "unknown_topic"
        source.want({"ASII": {"book"}, "*": {"book"}, "../X": {"book"}, "=1": {"trade"}})
        assert {stream.subject for stream in source.streams()} == {"BBCA", "ASII"}
        await until(lambda: source.standing("book", "ASII").state == "accepted")


async def test_without_a_token_topics_are_refused_with_the_remedy(folder):
    async with stockbit_world(folder, log_in=False) as world:
        world.source.want({"ASII": {"book"}})
        told = world.source.standing("book", "ASII")
        assert (told.state, told.code) == ("refused", "no_source")
        assert "POST /api/stockbit/token" in told.text
        assert not world.source.is_connected


async def test_switched_off_it_has_no_work(folder):
    async with stockbit_world(folder, stockbit_enabled=False) as world:
        assert world.source.works(asyncio.Event()) == ()
        assert world.source.streams() == ()
        assert world.source.status()["off"] == "STOCKBIT_ENABLED is false"
        assert world.sim.connects == 0
