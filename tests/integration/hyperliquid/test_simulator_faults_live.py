"""Each fault as a client meets it, and what the delivery log says about it afterwards."""

import itertools
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from src.venues.hyperliquid.simulator import FaultKind, FaultPlan, HyperliquidSimulator

pytestmark = pytest.mark.integration


@pytest.fixture
async def watched(venue, quick_config):
    """A running simulator and a client that follows one trader."""
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    user = sim.traders[0]
    await client.subscribe("clearinghouseState", user=user)
    await client.subscribe("openOrders", user=user)
    await client.wait("openOrders", 3)
    return sim, client, user


def of_channel(sim, channel):
    return [item for item in sim.deliveries if item.channel == channel]


def assert_log_equals_frames(sim, client, channel):
    """What the log calls delivered is exactly what the client received, in order."""
    received = client.data(channel)
    logged = [item for item in of_channel(sim, channel) if item.delivered]
    assert len(logged) == len(received)
    for item, data in zip(logged, received, strict=True):
        assert (item.trader, item.dex) == (data["user"], data["dex"])
        if channel == "openOrders":
            shown = {row["oid"]: row for order in data["orders"] for row in (order, *order["children"])}
            assert set(item.orders) == set(shown)
            assert all(item.orders[oid]["sz"] == row["sz"] for oid, row in shown.items())
        elif item.shown != "partial":
            positions = [entry["position"] for entry in data["clearinghouseState"]["assetPositions"]]
            assert {p["coin"]: p["szi"] for p in positions} == {c: r["szi"] for c, r in item.positions.items()}
            assert item.time_ms == data["clearinghouseState"]["time"]


async def test_every_state_shown_is_in_the_log(watched):
    sim, client, _ = watched
    await client.wait("openOrders", 20)
    await sim.faults.drop()
    assert await client.ended() == 1006
    for channel in ("openOrders", "clearinghouseState"):
        assert_log_equals_frames(sim, client, channel)
        assert all(item.delivered for item in of_channel(sim, channel))


@pytest.mark.parametrize("kind", ["drop", "expire", "half_open", "upgrade"])
async def test_before_a_connection_is_ended_it_is_known_what_arrived(watched, kind, wait_until):
    sim, client, _ = watched
    seconds = {"half_open": (0.1,), "upgrade": (0.1,)}.get(kind, ())
    await getattr(sim.faults, kind)(*seconds)
    code = await client.ended()
    assert code == (1000 if kind == "expire" else 1006)
    await wait_until(lambda: not sim.sessions)
    assert all(item.delivered for item in sim.deliveries)
    assert_log_equals_frames(sim, client, "openOrders")
    if kind == "expire":
        assert client.ws.close_reason == "Expired"


async def test_half_open_answers_nothing_and_stays_open(watched, wait_until):
    sim, client, _ = watched
    await sim.faults.half_open(0.6)
    count = len(client.frames)
    await client.send({"method": "ping"})
    await wait_until(lambda: not sim.sessions)
    assert len(client.frames) == count
    assert client.data("pong") == []


async def test_accept_then_close(watched, venue):
    sim, _, _ = watched
    sim.faults.accept_then_close(2)
    for _ in range(2):
        unlucky = await venue.connect(sim)
        assert await unlucky.ended() == 1006
        assert unlucky.frames == []
    lucky = await venue.connect(sim)
    await lucky.send({"method": "ping"})
    await lucky.wait("pong")
    assert sim.faults.struck[FaultKind.ACCEPT_THEN_CLOSE] == 2


async def test_silence_of_one_channel(watched, wait_until):
    sim, client, user = watched
    sim.faults.silence(60.0, channel="openOrders", user=user)
    count = len(client.data("openOrders"))
    await client.wait("clearinghouseState", len(client.data("clearinghouseState")) + 5)
    assert len(client.data("openOrders")) <= count + 1
    sim.faults.clear()
    await client.wait("openOrders", count + 3)


async def test_silence_of_everything_leaves_pings_answered(watched):
    sim, client, _ = watched
    sim.faults.silence(60.0)
    await client.send({"method": "ping"})
    await client.wait("pong")
    count = len(client.frames)
    await client.send({"method": "ping"})
    await client.wait("pong", 2)
    assert len(client.frames) == count + 1


async def test_late_frames_carry_an_older_state_and_an_older_time(watched, wait_until):
    sim, client, _ = watched
    sim.faults.arm(FaultKind.LATE, channel="clearinghouseState")
    await wait_until(lambda: any(item.shown == "late" and item.delivered for item in sim.deliveries))
    (late,) = [item for item in sim.deliveries if item.shown == "late"]
    before = [item for item in of_channel(sim, "clearinghouseState") if item.seq < late.seq]
    assert late.time_ms < before[-1].time_ms
    assert late.time_ms == before[-2].time_ms
    await client.wait("clearinghouseState", len(before) + 2)
    times = [data["clearinghouseState"]["time"] for data in client.data("clearinghouseState")]
    assert sum(a > b for a, b in itertools.pairwise(times)) == 1


async def test_late_frames_need_a_time(watched, wait_until):
    sim, client, _ = watched
    sim.faults.arm(FaultKind.LATE, channel="openOrders")
    await client.wait("openOrders", len(client.data("openOrders")) + 5)
    assert sim.faults.struck[FaultKind.LATE] == 0


async def test_late_books(venue, quick_config, wait_until):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    await client.subscribe("l2Book", coin="BTC")
    await client.wait("l2Book", 3)
    sim.faults.arm(FaultKind.LATE, channel="l2Book")
    await wait_until(lambda: sim.faults.struck[FaultKind.LATE])
    books = await client.wait("l2Book", len(client.data("l2Book")) + 3)
    times = [book["time"] for book in books]
    assert times != sorted(times)


async def test_duplicates_are_byte_for_byte(watched, wait_until):
    sim, client, _ = watched
    sim.faults.arm(FaultKind.DUPLICATE, channel="openOrders")
    await wait_until(lambda: any(item.shown == "duplicate" and item.delivered for item in sim.deliveries))
    index = next(i for i, item in enumerate(of_channel(sim, "openOrders")) if item.shown == "duplicate")
    frames = await client.wait("openOrders", index + 1)
    assert frames[index] == frames[index - 1]


async def test_a_section_is_left_out(watched, wait_until):
    sim, client, _ = watched
    sim.faults.arm(FaultKind.PARTIAL, channel="clearinghouseState")
    await wait_until(
        lambda: [d for d in client.data("clearinghouseState") if "assetPositions" not in d["clearinghouseState"]]
    )
    (partial,) = [item for item in sim.deliveries if item.shown == "partial"]
    assert partial.positions is None


async def test_sections_of_web_data2_are_left_out(venue, quick_config, wait_until):
    sim = await venue.start(msgspec.structs.replace(quick_config, legacy=True))
    client = await venue.connect(sim)
    await client.subscribe("webData2", user=sim.traders[0])
    sim.faults.arm(FaultKind.PARTIAL, count=12)
    await wait_until(lambda: sim.faults.struck[FaultKind.PARTIAL] == 12)
    await client.wait("webData2", 13)
    without_orders = [d for d in client.data("webData2") if "openOrders" not in d]
    without_positions = [d for d in client.data("webData2") if "assetPositions" not in d["clearinghouseState"]]
    assert len(without_orders) + len(without_positions) == 12
    assert without_orders
    assert without_positions
    for item in of_channel(sim, "webData2"):
        assert (item.orders is None) + (item.positions is None) == (item.shown == "partial")


async def test_a_glitch_cuts_the_list_once_and_it_is_whole_again(venue, quick_config, wait_until):
    market = msgspec.structs.replace(quick_config.market, actions_per_s=0.0, orders_per_trader=30)
    sim = await venue.start(msgspec.structs.replace(quick_config, market=market))
    client = await venue.connect(sim)
    await client.subscribe("openOrders", user=sim.traders[0])
    await client.wait("openOrders", 2)
    sim.faults.arm(FaultKind.GLITCH)
    await wait_until(lambda: sim.faults.struck[FaultKind.GLITCH])
    await wait_until(lambda: of_channel(sim, "openOrders")[-1].shown == "normal")
    items = of_channel(sim, "openOrders")
    index = next(i for i, item in enumerate(items) if item.shown == "glitch")
    whole = len(items[index - 1].orders)
    assert whole >= 10
    assert len(items[index].orders) < whole / 2
    assert len(items[index + 1].orders) > whole / 2
    assert sim.faults.struck[FaultKind.GLITCH] == 1


async def test_a_short_list_cannot_glitch(venue, quick_config):
    market = msgspec.structs.replace(quick_config.market, actions_per_s=0.0, orders_per_trader=3)
    sim = await venue.start(msgspec.structs.replace(quick_config, market=market))
    client = await venue.connect(sim)
    sim.faults.arm(FaultKind.GLITCH)
    await client.subscribe("openOrders", user=sim.traders[0])
    await client.wait("openOrders", 4)
    assert sim.faults.struck[FaultKind.GLITCH] == 0


async def test_malformed_frames_do_not_end_the_connection(watched, wait_until):
    sim, client, _ = watched
    sim.faults.arm(FaultKind.MALFORMED, count=25)
    await wait_until(lambda: sim.faults.struck[FaultKind.MALFORMED] == 25)
    count = len(client.data("openOrders"))
    await client.wait("openOrders", count + 2)
    assert len(client.broken) > 10
    assert any(isinstance(frame, bytes) for frame in client.broken)
    assert any(isinstance(frame, str) and frame.startswith('{"channel"') for frame in client.broken)


async def test_a_reset_in_mid_frame(watched):
    sim, client, _ = watched
    sim.faults.arm(FaultKind.RESET, channel="openOrders")
    assert await client.ended() == 1006
    assert sim.faults.struck[FaultKind.RESET] == 1


async def test_refused_subscriptions(watched):
    sim, client, _ = watched
    sim.faults.refuse_subscriptions(1)
    await client.subscribe("openOrders", user=sim.traders[1])
    assert await client.wait("error") == ["Cannot track more than 10 total users."]
    await client.subscribe("openOrders", user=sim.traders[1])
    await client.wait("subscriptionResponse", 3)


async def test_an_upgrade_drops_all_and_answers_502_for_a_while(watched, venue, wait_until):
    sim, client, _ = watched
    other = await venue.connect(sim)
    await sim.faults.upgrade(60.0)
    assert [await client.ended(), await other.ended()] == [1006, 1006]
    with pytest.raises(InvalidStatus) as refused:
        await venue.connect(sim)
    assert refused.value.response.status_code == 502
    sim.faults.clear()
    await venue.connect(sim)


async def test_rate_limited_handshakes(watched, venue):
    sim, _, _ = watched
    sim.faults.rate_limit(60.0)
    with pytest.raises(InvalidStatus) as refused:
        await venue.connect(sim)
    assert refused.value.response.status_code == 429


async def test_a_client_that_vanishes_leaves_the_fate_of_the_last_frames_open(watched, wait_until):
    sim, client, _ = watched
    client.ws.transport.abort()
    await wait_until(lambda: not sim.sessions)
    assert all(item.delivered is not False for item in sim.deliveries)
    assert any(item.delivered for item in sim.deliveries)


async def test_a_client_that_does_not_read_costs_no_memory(venue, quick_config, wait_until):
    sim = await venue.start(msgspec.structs.replace(quick_config, max_write_buffer_bytes=10_000))
    client = await venue.connect(sim)
    await client.subscribe("allMids")
    await client.wait("allMids")
    client.ws.transport.pause_reading()
    for coin in ("BTC", "ETH", "SOL", "HYPE"):
        await client.subscribe("l2Book", coin=coin)
    session = next(iter(sim.sessions.values()))
    session.ws.transport.get_write_buffer_size = lambda: 10_001  # what a full socket looks like
    await wait_until(lambda: session.skipped > 5)
    count = len(client.frames)
    del session.ws.transport.get_write_buffer_size
    client.ws.transport.resume_reading()
    await wait_until(lambda: len(client.frames) > count)


async def test_settle_freezes_and_shows_the_final_state_to_everybody(watched, venue):
    sim, client, user = watched
    other = await venue.connect(sim)
    await other.subscribe("allDexsClearinghouseState", user=sim.traders[1])
    await other.wait("allDexsClearinghouseState")
    await sim.settle()
    events = len(sim.truth)
    final = sim.market.traders[user]
    (last_orders,) = [client.data("openOrders")[-1]]
    assert [row["oid"] for row in last_orders["orders"]] == [o.oid for o in final.orders_on("")[::-1]]
    last_state = client.data("clearinghouseState")[-1]["clearinghouseState"]
    assert {p["position"]["coin"] for p in last_state["assetPositions"]} == set(final.account("").positions)
    dexes = dict(other.data("allDexsClearinghouseState")[-1]["clearinghouseStates"])
    assert set(dexes) == {"", "xyz"}
    await client.wait("openOrders", len(client.data("openOrders")) + 2)
    assert len(sim.truth) == events


async def test_settle_waits_for_clients_that_come_back_and_names_those_that_do_not(watched, venue):
    sim, _, user = watched
    await sim.faults.drop()
    with pytest.raises(TimeoutError, match="openOrders"):
        await sim.settle(timeout_s=0.2)
    back = await venue.connect(sim)
    await back.subscribe("openOrders", user=user)
    await back.subscribe("clearinghouseState", user=user)
    await sim.settle(timeout_s=10.0)


async def test_settle_does_not_wait_for_what_was_unsubscribed(watched):
    sim, client, user = watched
    await client.unsubscribe("openOrders", user=user)
    await client.wait("subscriptionResponse", 3)
    await sim.settle(timeout_s=5.0)
    await sim.settle(timeout_s=5.0, streams=[("clearinghouseState", user, "")])


async def test_settle_ends_faults_under_way(venue, quick_config, wait_until):
    plan = FaultPlan(seed=2, rate=6_000.0, kinds=(FaultKind.SILENCE, FaultKind.HALF_OPEN), duration_s=(50.0, 60.0))
    sim = await venue.start(quick_config, plan=plan)
    client = await venue.connect(sim)
    await wait_until(lambda: sim.faults.struck[FaultKind.SILENCE] and sim.faults.struck[FaultKind.HALF_OPEN])
    await sim.settle(timeout_s=5.0)
    assert await client.ended() == 1006
    again = await venue.connect(sim)
    await again.subscribe("openOrders", user=sim.traders[0])
    await again.wait("openOrders", 2)


async def test_a_plan_with_every_fault_leaves_a_log_that_agrees_with_the_client(venue, quick_config, wait_until):
    """A client that comes back again and again; per connection the log and the client's frames agree."""
    kinds = tuple(kind for kind in FaultKind if kind not in (FaultKind.UPGRADE, FaultKind.RATE_LIMIT))
    plan = FaultPlan(seed=5, rate=900.0, kinds=kinds, duration_s=(0.05, 0.2))
    limits = msgspec.structs.replace(quick_config.limits, connects_per_minute=None)
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=limits), plan=plan)
    frames = {}
    while sum(sim.faults.struck.values()) < 30:
        client = await venue.connect(sim)
        number = sim.connects
        with suppress(ConnectionClosed):  # accepted, then closed
            await client.subscribe("openOrders", user=sim.traders[0])
        await wait_until(lambda c=client: c.task.done() or sum(sim.faults.struck.values()) >= 30, 20)
        frames[number] = client
    await sim.faults.drop()
    await client.ended()
    for number, one in frames.items():
        logged = [item for item in sim.deliveries if item.session == number]
        known = [item for item in logged if item.delivered]
        received = [d for d in one.data("openOrders") if isinstance(d, dict)]
        assert len(known) <= len(received) <= len(logged)
        for item, data in zip(logged, received, strict=False):
            oids = {row["oid"] for order in data["orders"] for row in (order, *order["children"])}
            assert set(item.orders) == oids
    assert len(sim.faults.struck) >= 5


async def test_settle_needs_the_delivery_log(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, log_deliveries=False))
    with pytest.raises(ValueError, match="log_deliveries"):
        await sim.settle()


async def test_without_logs_nothing_is_kept_and_frames_are_the_same(venue, quick_config):
    market = msgspec.structs.replace(quick_config.market, log_truth=False)
    sim = await venue.start(msgspec.structs.replace(quick_config, market=market, log_deliveries=False))
    client = await venue.connect(sim)
    for kind in ("openOrders", "clearinghouseState", "allDexsClearinghouseState"):
        await client.subscribe(kind, user=sim.traders[0])
        frames = await client.wait(kind, 3)
        assert frames[0]["user"] == sim.traders[0]
    assert len(sim.deliveries) == len(sim.truth) == 0


async def test_one_order_changes_with_every_frame_when_asked(venue, quick_config):
    market = msgspec.structs.replace(quick_config.market, actions_per_s=0.0, trades_per_s=0.0, volatility=0.0)
    sim = await venue.start(msgspec.structs.replace(quick_config, market=market, change_per_frame=True))
    client = await venue.connect(sim)
    await client.subscribe("openOrders", user=sim.traders[0])
    frames = await client.wait("openOrders", 6)
    listed = [{order["oid"] for order in frame["orders"]} for frame in frames[:6]]
    assert all(len(before - after) == 1 for before, after in pairwise(listed))


async def test_the_death_of_the_pump_is_noticed(quick_config, wait_until):
    sim = HyperliquidSimulator(quick_config)
    await sim.start()
    sim.market.step = None  # a broken market
    await wait_until(lambda: sim.failure)
    with pytest.raises(TypeError):
        await sim.settle(timeout_s=5.0, streams=[("openOrders", sim.traders[0], "")])
    with pytest.raises(TypeError):
        await sim.stop()
