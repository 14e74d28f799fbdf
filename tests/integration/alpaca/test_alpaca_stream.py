"""The Alpaca source against the simulator: real sockets, both encodings, and everything that goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from src.models.live import ACCEPTED, WANTED
from src.models.messages import GapReason, RefusalKind, Trade, TradeCancelled, TradeCorrected, TradingStatus
from src.models.metrics import CONNECT_ATTEMPTS, DISCONNECTS, FRAMES_IGNORED, SUBSCRIPTIONS_OVER_LIMIT
from src.venues.alpaca.simulator import Account, AlpacaSimulator, SimulatorConfig
from src.venues.alpaca.simulator.frames import Ns
from src.venues.feed import Heartbeat
from tests.support.alpaca_case import ACCOUNT, FREE, MarketClock, running_source, settings_for
from tests.support.toy_venue import until

CONFIG = SimulatorConfig(accounts=(ACCOUNT, FREE), trades_per_s=200.0)


@pytest.fixture
async def venue() -> AsyncIterator[AlpacaSimulator]:
    async with AlpacaSimulator(CONFIG) as simulator:
        yield simulator


def quiet(venue: AlpacaSimulator) -> None:
    """No trades but those of the test."""
    venue.market.running = False


def trade(venue: AlpacaSimulator, symbol: str = "AAPL", **more: Any) -> dict[str, Any]:
    """Let a trade happen; returns its message."""
    messages = venue.market.trade(symbol, venue.now_ns(), **more)
    venue.publish(messages)
    return messages[-1]


# -- in order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_trades_arrive_as_the_market_made_them(venue: AlpacaSimulator, encoding: str) -> None:
    async with running_source(settings_for(venue, alpaca_encoding=encoding)) as running:
        await until(lambda: len(running.messages(Trade)) > 100)
        assert running.states() == {"trades/AAPL": "fresh", "trades/TSLA": "fresh"}
        assert running.source.is_connected
        assert running.sink.letters == []
        made = {(row["i"], row["x"]): row for row in venue.market.stocks["AAPL"].history}
        got = [one for one in running.messages(Trade) if one.symbol == "AAPL"]
        assert len({one.trade_id for one in got}) == len(got)
        for one in got:
            row = made[int(one.trade_id.rsplit("-", 1)[1]), one.exchange]
            assert (float(one.price), int(one.size), one.ts_ns) == (row["p"], row["s"], row["t"])
        assert {one.symbol for one in running.messages(Trade)} == {"AAPL", "TSLA"}
        said = {type(frame) for client in venue.clients for frame in client.said}
        assert said == {str if encoding == "json" else bytes}


async def test_all_stocks_go_into_one_message_and_demand_is_added(venue: AlpacaSimulator) -> None:
    async with running_source(
        settings_for(venue, alpaca_encoding="json", alpaca_channels="trades,statuses")
    ) as running:
        await until(lambda: venue.subscribed() == ["AAPL", "TSLA"])
        said = [json.loads(frame) for frame in venue.clients[0].said]
        assert said[1:] == [{"action": "subscribe", "trades": ["AAPL", "TSLA"], "statuses": ["AAPL", "TSLA"]}]
        assert running.source.standing("trade", "MSFT") == WANTED
        running.source.want({"MSFT": frozenset({"trade"}), "AMD": frozenset({"status"})})
        await until(lambda: venue.subscribed() == ["AAPL", "MSFT", "TSLA"])
        await until(lambda: running.source.standing("trade", "MSFT") == ACCEPTED)
        running.source.want({})
        await until(lambda: venue.subscribed() == ["AAPL", "TSLA"])
        await until(lambda: len(running.source.streams()) == 4)
        assert running.sink.gap_reasons()["unsubscribed"] == 1
    assert venue.accepted == 1


async def test_a_star_subscribes_everything_where_the_plan_allows_it(venue: AlpacaSimulator) -> None:
    async with running_source(settings_for(venue, alpaca_symbols="*")) as running:
        await until(lambda: {one.symbol for one in running.messages(Trade)} >= {"AAPL", "TSLA", "MSFT", "NVDA"})
        assert running.states() == {"trades/*": "fresh"}
        assert running.source.standing("trade", "AMD") == ACCEPTED
        running.source.want({"AMD": frozenset({"trade"})})
        assert [key.subject for key in running.source.streams()] == ["*"]
        assert running.metrics.value(FRAMES_IGNORED, "alpaca", "not_subscribed") == 0


async def test_corrections_and_cancels_name_the_trades_that_came(venue: AlpacaSimulator) -> None:
    quiet(venue)
    async with running_source(settings_for(venue)) as running:
        await until(lambda: venue.subscribed() == ["AAPL", "TSLA"])
        first, second = trade(venue), trade(venue)
        venue.publish([venue.market.correct(first, venue.now_ns(), price=1.5, size=7)])
        venue.publish([venue.market.cancel(second, venue.now_ns(), action="E")])
        venue.publish([venue.market.cancel(first | {"i": 999_999}, venue.now_ns())])  # from before we came
        await until(lambda: len(running.messages(TradeCancelled)) == 2)
        came = running.messages(Trade)
        (correction,), cancels = running.messages(TradeCorrected), running.messages(TradeCancelled)
        assert correction.original_id == came[0].trade_id
        assert (correction.trade.price, correction.trade.size) == ("1.5", "7")
        assert cancels[0].trade_id == came[1].trade_id
        assert cancels[0].action == "E"


async def test_statuses_quotes_and_bars_where_they_are_wanted(venue: AlpacaSimulator) -> None:
    quiet(venue)
    async with running_source(settings_for(venue, alpaca_channels="trades,quotes,bars,statuses")) as running:
        await until(lambda: venue.subscribed("statuses") == ["AAPL", "TSLA"])
        now_ns = venue.now_ns()
        venue.publish([venue.market.status("AAPL", now_ns, halted=True), venue.market.quote("AAPL", now_ns)])
        await until(lambda: running.messages(TradingStatus))
        channels = {data.stream.channel for data in running.sink.received}
        assert channels == {"statuses", "quotes"}


async def test_a_channel_that_the_feed_does_not_have_is_dropped_and_the_others_live(venue: AlpacaSimulator) -> None:
    settings = settings_for(venue, alpaca_feed="test", alpaca_symbols="FAKEPACA", alpaca_channels="trades,statuses")
    with capture_logs() as logs:
        async with running_source(settings) as running:
            await until(lambda: venue.subscribed() == ["FAKEPACA"])
            await until(lambda: [key.channel for key in running.source.streams()] == ["trades"])
            await until(lambda: running.messages(Trade))
    assert [line["channels"] for line in logs if line["event"] == "alpaca_channel_not_offered"] == [["statuses"]]


# -- who may come in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_a_wrong_key_is_told_loudly_once_and_not_tried_again(venue: AlpacaSimulator, encoding: str) -> None:
    wrong = Account(key="PKWRONG", secret="hunter2hunter2")
    with capture_logs() as logs:
        async with running_source(settings_for(venue, wrong, alpaca_encoding=encoding)) as running:
            await until(lambda: running.source.pool.given_up)
            await until(lambda: set(running.states().values()) == {"failed"})
            assert running.last_error()["reason"] == "auth_failed"
            assert running.source.standing("trade", "AAPL").state == "refused"
            assert running.metrics.value(CONNECT_ATTEMPTS, "alpaca") == 1
            status = running.source.status()
    loud = [line for line in logs if line["log_level"] == "error"]
    assert len(loud) == 1
    assert "ALPACA_API_KEY" in loud[0]["remedy"]
    assert "hunter2" not in str(logs) + str(status)


async def test_a_feed_that_is_not_in_the_plan_is_fatal_and_names_the_way_out(venue: AlpacaSimulator) -> None:
    async with running_source(settings_for(venue, FREE, alpaca_feed="sip")) as running:
        await until(lambda: running.source.pool.given_up)
        assert running.last_error()["reason"] == "insufficient_subscription"
        assert "ALPACA_FEED=iex" in running.last_error()["remedy"]
        assert {kind for kind, _ in ((one.kind, s) for one, s in running.sink.refusals)} == {RefusalKind.LOGIN}


async def test_a_taken_slot_is_waited_for_and_then_used(venue: AlpacaSimulator) -> None:
    async with running_source(settings_for(venue)) as first:
        await until(lambda: first.states() == {"trades/AAPL": "fresh", "trades/TSLA": "fresh"})
        async with running_source(settings_for(venue)) as second:
            await until(lambda: second.last_error().get("reason") == "connection_limit")
            assert not second.source.pool.given_up
            assert second.last_error()["remedy"]
            await first.source.close()
            await until(lambda: second.messages(Trade))
            assert second.metrics.value(DISCONNECTS, "alpaca", "connection_limit") >= 1


async def test_a_dead_connection_that_still_holds_the_slot_is_outwaited() -> None:
    config = msgspec.structs.replace(CONFIG, slot_hold_s=0.5)
    async with AlpacaSimulator(config) as venue, running_source(settings_for(venue)) as running:
        await until(lambda: running.messages(Trade))
        venue.drop_all()
        await until(lambda: running.metrics.value(DISCONNECTS, "alpaca", "connection_limit") >= 1)
        await until(
            lambda: venue.logins == 2 and running.states() == {"trades/AAPL": "fresh", "trades/TSLA": "fresh"}
        )


async def test_a_log_in_that_the_venue_finds_too_late_is_repeated() -> None:
    config = msgspec.structs.replace(CONFIG, auth_timeout_s=0.0)
    async with AlpacaSimulator(config) as venue, running_source(settings_for(venue)) as running:
        await until(lambda: venue.accepted >= 2)
        assert not running.source.pool.given_up


async def test_more_stocks_than_the_plan_allows_fail_loudly_and_the_first_ones_live(venue: AlpacaSimulator) -> None:
    names = [f"S{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(35)]
    with capture_logs() as logs:
        async with running_source(settings_for(venue, FREE, alpaca_symbols=",".join(names))) as running:
            await until(lambda: len(venue.subscribed()) == 30)
            states = running.states()
            await until(lambda: running.metrics.value(SUBSCRIPTIONS_OVER_LIMIT, "alpaca") == 5)
            assert running.source.standing("trade", names[34]).state == "refused"
            assert running.source.standing("trade", "*").code == "limit"
    assert venue.subscribed() == [] or venue.subscribed() == names[:30]
    assert sum(state == "failed" for state in states.values()) == 5
    assert [line["not_collected"] for line in logs if line["event"] == "venue_limit_reached"] == [5]


async def test_a_plan_with_a_lower_limit_than_we_thought_takes_what_it_can(venue: AlpacaSimulator) -> None:
    names = [f"S{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(40)]
    settings = settings_for(venue, FREE, alpaca_symbols=",".join(names), alpaca_max_symbols=40)
    async with running_source(settings) as running:
        await until(lambda: len(venue.subscribed()) == 30, within_s=15)
        await until(lambda: list(running.states().values()).count("failed") == 10, within_s=15)
        failed = {s.key.subject for refusal, subscriptions in running.sink.refusals for s in subscriptions}
        assert failed | set(venue.subscribed()) == set(names)


# -- what goes wrong on the way ----------------------------------------------------------------------------------------


async def test_a_lost_connection_is_a_hole_and_everything_is_subscribed_again(venue: AlpacaSimulator) -> None:
    async with running_source(settings_for(venue)) as running:
        running.source.want({"NVDA": frozenset({"trade"})})
        await until(lambda: {one.symbol for one in running.messages(Trade)} == {"AAPL", "TSLA", "NVDA"})
        before = len(running.messages(Trade))
        venue.drop_all()
        await until(lambda: venue.logins == 2 and venue.subscribed() == ["AAPL", "NVDA", "TSLA"])
        await until(lambda: len(running.messages(Trade)) > before + 20)
    gaps = [gap for gap in running.sink.gaps if gap.reason is GapReason.DISCONNECT]
    assert [len(gap.streams) for gap in gaps] == [3]


@pytest.mark.parametrize(
    ("code", "reason"), [(407, "slow_client"), (500, "venue_internal_error"), (404, "auth_timeout")]
)
async def test_a_word_of_the_venue_that_ends_the_session(venue: AlpacaSimulator, code: int, reason: str) -> None:
    async with running_source(settings_for(venue)) as running:
        await until(lambda: running.messages(Trade))
        venue.say_error(code)
        await until(lambda: running.metrics.value(DISCONNECTS, "alpaca", reason) == 1)
        await until(lambda: venue.logins == 2 and len(venue.subscribed()) == 2)
        assert [gap.detail for gap in running.sink.gaps] == [reason]


async def test_a_wrong_word_of_ours_costs_nothing_else(venue: AlpacaSimulator) -> None:
    async with running_source(settings_for(venue)) as running:
        await until(lambda: running.messages(Trade))
        venue.say_error(400)
        venue.say_error(403)
        venue.say({"T": "error", "code": 418, "msg": "new"})
        await until(lambda: len(running.sink.refusals) >= 2)
        count = len(running.messages(Trade))
        await until(lambda: len(running.messages(Trade)) > count + 10)
        assert set(running.states().values()) == {"fresh"}
    assert venue.accepted == 1


async def test_a_reader_that_cannot_keep_up_is_thrown_out_and_comes_back() -> None:
    config = msgspec.structs.replace(CONFIG, queue_frames=3, trades_per_s=0.0)
    async with AlpacaSimulator(config) as venue, running_source(settings_for(venue)) as running:
        await until(lambda: len(venue.subscribed()) == 2)
        now = Ns(venue.now_ns())
        burst = [{"T": "t", "S": "AAPL", "i": n, "x": "V", "p": 1.0, "s": 1, "t": now} for n in range(1_000)]
        venue.publish(burst)  # ten frames at once: nothing lets a reader run in between
        await until(lambda: running.metrics.value(DISCONNECTS, "alpaca", "slow_client") == 1, within_s=20)
        await until(lambda: venue.logins == 2 and len(venue.subscribed()) == 2, within_s=20)
        assert [gap.detail for gap in running.sink.gaps] == ["slow_client"]


FRIDAY_MORNING_MS, SATURDAY_NIGHT_MS = 1_765_553_400_000, 1_765_612_800_000  # 10:30 and 3:00 in New York


async def test_silence_with_pongs_is_noticed_during_regular_hours() -> None:
    config = msgspec.structs.replace(CONFIG, start_ms=FRIDAY_MORNING_MS)
    async with AlpacaSimulator(config) as venue:
        settings = settings_for(venue, alpaca_silent_after=0.3)
        async with running_source(settings, clock=MarketClock(venue)) as running:
            await until(lambda: running.messages(Trade))
            venue.stalled = True
            await until(lambda: running.sink.gap_reasons()["silence"] >= 1)
            await until(lambda: venue.accepted >= 2)
            venue.stalled = False
            count = len(running.messages(Trade))
            await until(lambda: len(running.messages(Trade)) > count)


async def test_silence_at_night_means_nothing() -> None:
    config = msgspec.structs.replace(CONFIG, start_ms=SATURDAY_NIGHT_MS)
    async with AlpacaSimulator(config) as venue:
        settings = settings_for(venue, alpaca_silent_after=0.3)
        async with running_source(settings, clock=MarketClock(venue)) as running:
            await until(lambda: running.messages(Trade))
            venue.stalled = True
            since_ns = venue.now_ns()
            await until(lambda: venue.now_ns() - since_ns > 1_200_000_000)
            assert running.sink.gaps == []
            assert venue.accepted == 1
            assert set(running.states().values()) == {"fresh"}


async def test_a_peer_that_stops_answering_pings_is_left() -> None:
    async with AlpacaSimulator(CONFIG) as venue:
        heartbeat = Heartbeat(ping_every_s=0.1, deadline_s=0.3)
        async with running_source(settings_for(venue), heartbeat=heartbeat) as running:
            await until(lambda: running.messages(Trade))
            for client in venue.clients:
                client.socket.transport.pause_reading()
            venue.stalled = True
            await until(lambda: running.metrics.value(DISCONNECTS, "alpaca", "pong_timeout") >= 1)
            venue.stalled = False
            await until(lambda: venue.logins >= 2)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
async def test_refused_handshakes(venue: AlpacaSimulator, status: int) -> None:
    venue.refuse_handshakes = status
    async with running_source(settings_for(venue)) as running:
        await until(lambda: running.last_error().get("reason") == f"http_{status}")
        venue.refuse_handshakes = None
        await until(lambda: running.messages(Trade))


async def test_repeated_trades_after_a_reconnect_come_through_with_the_same_ids(venue: AlpacaSimulator) -> None:
    quiet(venue)
    async with running_source(settings_for(venue)) as running:
        await until(lambda: len(venue.subscribed()) == 2)
        trade(venue)
        trade(venue)
        await until(lambda: len(running.messages(Trade)) == 2)
        venue.repeats = 2
        venue.drop_all()
        await until(lambda: len(running.messages(Trade)) == 4)
        ids = [one.trade_id for one in running.messages(Trade)]
        assert ids[:2] == ids[2:]


# -- off ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"alpaca_api_key": ""}, "no key"),
        ({"alpaca_secret_key": ""}, "no key"),
        ({"alpaca_enabled": False}, "switched off"),
    ],
)
async def test_without_a_key_the_source_is_off_and_says_so_once(
    venue: AlpacaSimulator, change: dict, why: str
) -> None:
    with capture_logs() as logs:
        async with running_source(settings_for(venue, **change)) as running:
            running.source.want({"MSFT": frozenset({"trade"})})
            assert running.source.off == why
            assert running.source.streams() == ()
            assert running.source.standing("trade", "MSFT").state == "refused"
            assert running.source.works(asyncio.Event()) == ()
            assert running.source.status()["off"] == why
    assert [line["event"] for line in logs] == ["venue_off"]
    assert venue.accepted == 0
