"""Limits per client address, over all of its connections, with the venue's words."""

import httpx
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from src.venues.hyperliquid.simulator import Limits

pytestmark = pytest.mark.integration


async def test_users_are_counted_over_all_connections_and_freed_with_them(venue, quick_config, wait_until):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(users=3)))
    first, second = await venue.connect(sim), await venue.connect(sim)
    await first.subscribe("openOrders", user=sim.traders[0])
    await first.subscribe("clearinghouseState", user=sim.traders[0])
    await first.subscribe("openOrders", user=sim.traders[1])
    await first.wait("subscriptionResponse", 3)
    await second.subscribe("openOrders", user=sim.traders[2])
    await second.wait("subscriptionResponse", 1)
    await second.subscribe("openOrders", user=sim.traders[3])
    assert await second.wait("error") == ["Cannot track more than 3 total users."]
    await second.subscribe("openOrders", user=sim.traders[0])
    await second.wait("subscriptionResponse", 2)
    await first.ws.close()
    await wait_until(lambda: len(sim.sessions) == 1)
    await second.subscribe("openOrders", user=sim.traders[3])
    await second.wait("subscriptionResponse", 3)


async def test_default_user_limit_has_the_text_of_the_venue(venue, quick_config):
    sim = await venue.start(quick_config)
    client = await venue.connect(sim)
    for number in range(11):
        await client.subscribe("openOrders", user=f"0x{number:040x}")
    await client.wait("subscriptionResponse", 10)
    assert await client.wait("error") == ["Cannot track more than 10 total users."]


async def test_subscriptions(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(subscriptions=2)))
    first, second = await venue.connect(sim), await venue.connect(sim)
    await first.subscribe("trades", coin="BTC")
    await first.subscribe("trades", coin="ETH")
    await first.wait("subscriptionResponse", 2)
    await second.subscribe("trades", coin="SOL")
    assert await second.wait("error") == ["Cannot subscribe to more than 2 channels."]
    await first.unsubscribe("trades", coin="ETH")
    await first.wait("subscriptionResponse", 3)
    await second.subscribe("trades", coin="SOL")
    await second.wait("subscriptionResponse")


async def test_messages(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(messages_per_minute=3)))
    client = await venue.connect(sim)
    for _ in range(4):
        await client.send({"method": "ping"})
    assert await client.wait("error") == ["Cannot send more than 3 messages per minute."]
    assert len(client.data("pong")) == 3


async def test_connections_at_a_time(venue, quick_config, wait_until):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(connections=2)))
    first = await venue.connect(sim)
    await venue.connect(sim)
    with pytest.raises(InvalidStatus) as refused:
        await venue.connect(sim)
    assert refused.value.response.status_code == 429
    await first.ws.close()
    await wait_until(lambda: len(sim.sessions) == 1)
    await venue.connect(sim)


async def test_connections_per_minute(venue, quick_config, wait_until):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(connects_per_minute=3)))
    for _ in range(3):
        client = await venue.connect(sim)
        await client.ws.close()
    with pytest.raises(InvalidStatus) as refused:
        await venue.connect(sim)
    assert refused.value.response.status_code == 429
    sim.limits.limits = Limits.off()
    await venue.connect(sim)


async def test_another_address_has_limits_of_its_own(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(connections=1)))
    await venue.connect(sim)
    other = await venue.connect(sim, local_addr=("127.0.0.2", 0))
    await other.send({"method": "ping"})
    await other.wait("pong")


async def test_weight_of_requests_and_posts_is_one_budget(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(rest_weight_per_minute=24)))
    client = await venue.connect(sim)
    async with httpx.AsyncClient(base_url=sim.api_url) as http:
        answer = await http.post("/info", json={"type": "meta"})
        assert answer.status_code == 200
        post = {"method": "post", "id": 1, "request": {"type": "info", "payload": {"type": "allMids"}}}
        await client.send(post)
        await client.wait("post")
        answer = await http.post("/info", json={"type": "meta"})
        assert (answer.status_code, answer.text) == (429, "null")
        await client.send(post)
        await client.send(post)
        answers = await client.wait("post", 3)
        assert answers[1]["response"]["type"] == "info"
        assert answers[2]["response"] == {"type": "error", "payload": "429 Too Many Requests"}


async def test_posts_in_flight(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, limits=Limits(posts_in_flight=0)))
    client = await venue.connect(sim)
    await client.send({"method": "post", "id": 1234, "request": {"type": "info", "payload": {"type": "allMids"}}})
    assert await client.wait("error") == ["too many pending post requests id=1234"]
