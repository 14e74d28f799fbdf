"""Who may do what."""

import pytest

from src.api.security import LARGEST_BODY_BYTES, is_local_address, is_local_host

TOKEN = "correct-horse-battery"
ORIGIN = "https://desk.example:8443"


async def add(client, world, **headers):
    return await client.post("/api/traders", json={"addresses": [world.alice]}, headers=headers)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_without_a_token_this_machine_may_change(world, peer):
    async with world.client(peer=peer) as client:
        assert (await add(client, world)).status_code == 200


@pytest.mark.parametrize("peer", ["10.0.0.5", "::ffff:10.0.0.5", "fe80::1", "", "localhost.example"])
async def test_without_a_token_others_may_read_but_not_change(world, peer):
    async with world.client(peer=peer) as client:
        answer = await add(client, world)
        assert answer.status_code == 403
        assert "API_TOKEN" in answer.json()["detail"]
        assert (await client.get("/api/orders")).status_code == 200
    assert world.traders.calls == []


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_proxy_on_this_machine_does_not_make_everybody_local(world, client, header):
    assert (await add(client, world, **{header: "127.0.0.1"})).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8002", "127.0.0.1:9", "[::1]:8002"])
async def test_local_names_of_this_machine_are_served(world, client, host):
    assert (await add(client, world, host=host)).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8002", "localhost.evil.example", "", "[", "0.0.0.0"]
)
async def test_a_rebound_name_is_refused_for_reading_and_changing(world, client, host):
    assert (await add(client, world, host=host)).status_code == 403
    for path in ("/", "/stats", "/api/orders", "/docs"):
        answer = await client.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert "ALLOWED_ORIGINS" in answer.json()["detail"]
    assert world.traders.calls == []
    assert world.store.queries == []


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
async def test_probes_may_use_any_name(client, path):
    assert (await client.get(path, headers={"host": "collector.monitoring.svc"})).status_code == 200


async def test_with_a_token_any_host_is_served(world):
    async with world.client(token=TOKEN, peer="10.0.0.5") as client:
        assert (await client.get("/api/orders", headers={"host": "collector.example"})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8002"])
async def test_foreign_origins_are_refused_with_and_without_a_token(world, origin):
    for token in (None, TOKEN):
        async with world.client(token=token) as client:
            answer = await add(client, world, origin=origin, authorization=f"Bearer {TOKEN}")
            assert answer.status_code == 403
            assert "ALLOWED_ORIGINS" in answer.json()["detail"]
    assert world.traders.calls == []


async def test_our_own_origin_and_allowed_ones_are_accepted(world):
    async with world.client(allowed_origins=(ORIGIN,)) as client:
        for origin in ("http://127.0.0.1:8002", ORIGIN, ORIGIN.upper()):
            assert (await add(client, world, origin=origin)).status_code == 200
        assert (await add(client, world, origin=ORIGIN, host="desk.example:8443")).status_code == 200


async def test_browsers_are_told_which_origins_may_read(world):
    async with world.client(allowed_origins=(ORIGIN,)) as client:
        allowed = await client.get("/stats", headers={"origin": ORIGIN})
        foreign = await client.get("/stats", headers={"origin": "https://evil.example"})
        asked = await client.options(
            "/api/traders", headers={"origin": ORIGIN, "access-control-request-method": "POST"}
        )
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in foreign.headers
    assert asked.status_code == 200


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.5"])
@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \xe9", 401),
    ],
)
async def test_a_set_token_is_needed_from_everywhere(world, peer, authorization, code):
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    async with world.client(token=TOKEN, peer=peer) as client:
        added = await add(client, world, **headers)
        removed = await client.delete(f"/api/traders/{world.alice}", headers=headers)
    assert added.status_code == code
    assert removed.status_code == code
    if code == 401:
        assert added.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in added.text
        assert world.traders.calls == []


async def test_large_bodies_are_refused_whether_announced_or_not(world, client):
    async def pieces():
        for _ in range(20):
            yield b" " * (LARGEST_BODY_BYTES // 10)

    announced = await client.post("/api/traders", content=b" " * (LARGEST_BODY_BYTES + 1))
    streamed = await client.post("/api/traders", content=pieces())
    lying = await client.post("/api/traders", content=b"x", headers={"content-length": "9" * 50})
    odd = await client.post("/api/traders", content=b"x", headers={"content-length": "-1"})
    assert [answer.status_code for answer in (announced, streamed, lying, odd)] == [413] * 4
    body = {"addresses": [world.alice] * 1000}
    assert (await client.post("/api/traders", json=body)).status_code == 200


async def test_every_answer_carries_the_headers_that_bind_browsers(world, client):
    for path in ("/", "/docs", "/stats", "/nothing", "/api/orders?x=1"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
    refused = await client.get("/", headers={"host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("text", "local"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("localhost", False), ("", False)]
)
def test_local_addresses(text, local):
    assert is_local_address(text) is local


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost:1", True), ("[::1]", True), ("user@localhost", True), ("a:b:c", False), ("[x", False)],
)
def test_local_hosts(host, local):
    assert is_local_host(host) is local
