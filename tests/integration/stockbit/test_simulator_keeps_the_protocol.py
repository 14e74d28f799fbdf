"""The simulated exchange against a bare client: what the protocol says of a server, point by point."""

import asyncio

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from src.venues.clock import SystemClock
from src.venues.stockbit.body import parse_body
from src.venues.stockbit.simulator import DayClock, StockbitSimulator, StockbitSimulatorConfig
from src.venues.stockbit.stockbit_pb2 import Channel, Frame, Ping, Request
from src.venues.stockbit.times import parse_time_ns
from tests.support.stockbit_frames import PING, REFUSAL
from tests.support.stockbit_world import until

pytestmark = pytest.mark.integration

USER = "1234567"
TRADES = "/order-trade/running-trade"
BOOK = "/company-price-feed/v2/orderbook/companies/BBCA"


@pytest.fixture
async def sim():
    config = StockbitSimulatorConfig(always_open=True, updates_per_s=10.0, trades_per_s=5.0)
    async with StockbitSimulator(config, clock=SystemClock()) as started:
        yield started


def client(sim, **options):
    return connect(sim.ws_url, subprotocols=["web"], compression=None, proxy=None, **options)


async def log_in(sim):
    """Access token and a key for it."""
    access, _ = sim.log_in()
    async with httpx.AsyncClient(base_url=sim.api_url, trust_env=False) as http:
        answer = await http.get("/auth/websocket/key", headers={"authorization": f"Bearer {access}"})
    return access, answer.json()["data"]["key"]


def request(access, key, *, user=USER, **channels):
    channel = Channel(**channels) if channels else None
    return Request(user_id=user, key=key, access_token=access, channel=channel).SerializeToString()


async def frames(ws, count):
    return [Frame.FromString(await asyncio.wait_for(ws.recv(), 20)) for _ in range(count)]


async def until_frame(ws, channel):
    while True:
        (frame,) = await frames(ws, 1)
        if frame.WhichOneof("channel") == channel:
            return frame


class TestHandshake:
    async def test_it_chooses_the_subprotocol(self, sim):
        async with client(sim) as ws:
            assert ws.subprotocol == "web"

    async def test_another_path_is_not_found(self, sim):
        with pytest.raises(InvalidStatus, match="404"):
            await connect(sim.ws_url.replace("/ws", "/other"), proxy=None)

    async def test_one_that_is_down_refuses(self, sim):
        sim.is_down = True
        with pytest.raises(InvalidStatus, match="502"):
            await client(sim)


class TestLogIn:
    async def test_one_combined_frame_is_enough(self, sim):
        access, key = await log_in(sim)
        async with client(sim) as ws:
            await ws.send(request(access, key, order_book=["BBCA"]))
            found = await frames(ws, 2)
        assert {parse_body(frame.orderbook.body).ticker for frame in found} == {"BBCA"}
        assert {next(iter(parse_body(frame.orderbook.body).sides)) for frame in found} == {"BID", "OFFER"}

    async def test_without_a_log_in_there_is_no_data(self, sim):
        async with client(sim) as ws:
            await ws.send(Request(channel=Channel(order_book=["BBCA"])).SerializeToString())
            assert await ws.recv() == REFUSAL
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.recv(), 0.3)

    @pytest.mark.parametrize("wrong", ["user", "key", "token"])
    async def test_what_does_not_belong_together_gets_the_29_bytes_and_an_open_socket(self, sim, wrong):
        access, key = await log_in(sim)
        other_access, other_key = await log_in(sim)
        shown = {
            "user": request(access, key, user="7654321", order_book=["BBCA"]),
            "key": request(access, other_key, order_book=["BBCA"]),
            "token": request(other_access, key, order_book=["BBCA"]),
        }[wrong]
        async with client(sim) as ws:
            await ws.send(shown)
            assert await ws.recv() == REFUSAL
            assert len(REFUSAL) == 29
            await ws.send(PING)
            assert Frame.FromString(await ws.recv()).ping.message == "pong"
        assert sim.refusals == 1

    async def test_by_switch_it_closes_instead(self):
        async with StockbitSimulator(StockbitSimulatorConfig(refuses_by="close")) as sim, client(sim) as ws:
            await ws.send(request("nobody", "nothing", order_book=["BBCA"]))
            with pytest.raises(ConnectionClosed):
                await frames(ws, 5)
            assert ws.close_code == 1006

    async def test_a_token_that_expires_ends_the_data(self):
        clock = DayClock(SystemClock().wall_ms(), speed=0.0)
        config = StockbitSimulatorConfig(always_open=True, updates_per_s=50.0, token_life_s=60.0)
        async with StockbitSimulator(config, clock=clock) as sim, client(sim) as ws:
            access, key = await log_in(sim)
            await ws.send(request(access, key, order_book=["BBCA"]))
            await frames(ws, 5)
            clock.jump_to(clock.wall_ms() + 60_000)
            frame = await until_frame(ws, "error")
            assert frame.error.code == 401
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.recv(), 0.3)


class TestSubscriptions:
    async def test_a_second_frame_replaces_the_set_and_an_empty_one_clears_it(self, sim):
        access, key = await log_in(sim)
        async with client(sim) as ws:
            await ws.send(request(access, key, order_book=["BBCA"]))
            await frames(ws, 4)
            await ws.send(request(access, key, order_book=["TLKM"], running_trade=["TLKM"]))
            (session,) = sim.sessions.values()
            await until(lambda: session.wants["order_book"] == {"TLKM"})
            await ws.send(Request(user_id=USER, key=key, access_token=access, channel=Channel()).SerializeToString())
            await until(lambda: session.wants["order_book"] == set() == session.wants["running_trade"])
            assert session.subscribes == 3

    async def test_by_switch_it_adds(self):
        config = StockbitSimulatorConfig(always_open=True, adds=True)
        async with StockbitSimulator(config) as sim, client(sim) as ws:
            access, key = await log_in(sim)
            await ws.send(request(access, key, order_book=["BBCA"]))
            await ws.send(request(access, key, order_book=["TLKM"]))
            await until(lambda: [s.wants["order_book"] for s in sim.sessions.values()] == [{"BBCA", "TLKM"}])

    async def test_sides_come_apart_with_growing_numbers_and_the_times_of_the_exchange(self, sim):
        access, key = await log_in(sim)
        async with client(sim) as ws:
            await ws.send(request(access, key, order_book=["BBCA"]))
            books = [frame.orderbook for frame in await frames(ws, 12)]
        numbers = [book.sequence_number for book in books]
        assert numbers == sorted(set(numbers))
        for book in books:
            assert len(parse_body(book.body).sides) == 1
            assert len(next(iter(parse_body(book.body).sides.values()))) == 60
            event, feed = (parse_time_ns(text, 0) for text in (book.datetime, book.itch_incoming_time))
            assert 0 < feed - event < 10_000_000
            second, _, totals = parse_body(book.body).trailer.partition("-")
            assert int(second) == event // 1_000_000_000
            orders, shares = map(int, totals.split("&"))
            rows = next(iter(parse_body(book.body).sides.values())).values()
            assert (orders, shares) == (sum(row.n for row in rows), sum(int(row.sz) for row in rows))

    async def test_recent_trades_are_told_again_and_then_each_new_one(self, sim):
        await until(lambda: len(sim.market.books["BBCA"].trades) >= 5)
        access, key = await log_in(sim)
        async with client(sim) as ws:
            await ws.send(request(access, key, running_trade=["BBCA"]))
            batch = (await until_frame(ws, "running_trade_batch")).running_trade_batch.trades
            trade = (await until_frame(ws, "running_trade")).running_trade
        assert len(batch) >= 5
        assert trade.trade_number > max(row.trade_number for row in batch)
        assert trade.value == trade.price * trade.volume
        assert trade.volume % 100 == 0

    async def test_the_figures_of_the_day_follow_each_trade(self, sim):
        access, key = await log_in(sim)
        async with client(sim) as ws:
            await ws.send(request(access, key, liveprice=["BBCA"]))
            first, second = [(await until_frame(ws, "liveprice")).liveprice for _ in range(2)]
        assert second.frequency == first.frequency + 1
        assert second.volume == first.volume + second.quantity


class TestLiveness:
    async def test_without_pings_the_socket_breaks_by_switch(self):
        config = StockbitSimulatorConfig(ping_deadline_s=0.2)
        async with StockbitSimulator(config) as sim, client(sim) as ws:
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 20)
            assert ws.close_code == 1006

    async def test_silence_with_pongs(self, sim):
        access, key = await log_in(sim)
        sim.is_paused = True
        async with client(sim) as ws:
            await ws.send(request(access, key, order_book=["BBCA"]))
            await frames(ws, 2)
            sim.is_paused, sim.is_silent = False, True
            for _ in range(5):
                await ws.send(Request(ping=Ping(message="ping")).SerializeToString())
                assert (await frames(ws, 1))[0].WhichOneof("channel") == "ping"

    async def test_text_and_garbage_are_not_understood_and_do_no_harm(self, sim):
        async with client(sim) as ws:
            for nonsense in ("text", b"\xff\xff\xff", b"", b"\x0a\x80"):
                await ws.send(nonsense)
            await ws.send(PING)
            assert await until_frame(ws, "ping")
        assert sim.failure is None


class TestPages:
    @pytest.fixture
    async def http(self, sim):
        access, _ = sim.log_in()
        headers = {"authorization": f"Bearer {access}"}
        async with httpx.AsyncClient(base_url=sim.api_url, headers=headers, trust_env=False) as opened:
            yield opened

    async def rows(self, http, **query):
        return (await http.get(TRADES, params=query)).json()["data"]["running_trade"]

    async def test_running_trades_of_several_shares_in_both_orders(self, sim, http):
        await until(lambda: all(len(sim.market.books[ticker].trades) >= 4 for ticker in ("BBCA", "TLKM")))
        sim.is_paused = True
        names = {"symbols[]": ["BBCA", "TLKM", "NONE"]}
        falling = await self.rows(http, **names, sort="DESC")
        rising = await self.rows(http, **names, sort="ASC")
        assert falling == rising[::-1]
        assert {row["code"] for row in rising} == {"BBCA", "TLKM"}
        assert len(await self.rows(http, **names, limit=3)) == 3
        known = {(trade.ticker, str(trade.number)): trade for book in sim.market for trade in book.trades}
        for row in rising:
            trade = known[row["code"], row["trade_number"]]
            assert int(row["price"].replace(",", "")) == trade.price
            assert int(row["lot"].replace(",", "")) * 100 == trade.shares
            assert row["action"] == ("buy" if trade.is_buy else "sell")

    async def test_nobody_and_nothing(self, http):
        assert await self.rows(http) == []
        assert await self.rows(http, **{"symbols[]": "NONE"}) == []

    @pytest.mark.parametrize("path", [TRADES, BOOK, "/auth/websocket/key"])
    async def test_every_page_knows_dead_tokens_outages_and_challenges(self, sim, http, path):
        assert (await http.get(path)).status_code == 200
        sim.rest.faults.challenges = True
        challenged = await http.get(path)
        assert (challenged.status_code, challenged.headers["cf-mitigated"]) == (403, "challenge")
        sim.rest.faults.challenges, sim.rest.faults.is_down = False, True
        assert (await http.get(path)).status_code == 502
        sim.rest.faults.is_down = False
        sim.accounts.kill_tokens()
        assert (await http.get(path)).status_code == 401
        assert sim.rest.faults.requests == [path] * 4

    async def test_a_refresh_token_is_good_for_one_use(self, sim):
        _, refresh = sim.log_in()
        async with httpx.AsyncClient(base_url=sim.api_url, trust_env=False) as http:
            headers = {"authorization": f"Bearer {refresh}"}
            first, second = [(await http.post("/login/refresh", headers=headers)).status_code for _ in range(2)]
        assert (first, second) == (200, 401)
        sim.accounts.kill_refresh_tokens()
        assert sim.accounts.refreshes == 1
