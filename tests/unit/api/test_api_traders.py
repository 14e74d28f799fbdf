"""Following and unfollowing traders over HTTP."""

import pytest

from src.models.writes import Collection


async def test_add_counts_the_new_ones_in_lower_case(world, client):
    body = {"addresses": [world.alice.upper().replace("X", "x"), world.alice, world.bob], "tags": ["whale", "whale"]}
    answer = await client.post("/api/traders", json=body)
    assert (answer.status_code, answer.json()) == (200, {"added": 2})
    assert world.traders.calls == [("add", [world.alice, world.bob], {"source": "manual", "tags": ["whale"]})]
    assert (await client.post("/api/traders", json={"addresses": [world.bob]})).json() == {"added": 0}


async def test_remove(world, client):
    world.traders.known = {world.alice}
    answer = await client.delete(f"/api/traders/{world.alice.replace('a', 'A')}")
    assert (answer.status_code, answer.json()) == (200, {"removed": 1})
    again = await client.delete(f"/api/traders/{world.alice}")
    assert again.status_code == 404
    assert world.alice in again.json()["detail"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "addresses"),
        ({"addresses": []}, "addresses"),
        ({"addresses": "0x" + "a" * 40}, "addresses"),
        ({"addresses": ["0x12"]}, "addresses.0"),
        ({"addresses": [{"$gt": ""}]}, "addresses.0"),
        ({"addresses": ["0x" + "a" * 40], "tags": ["$where"]}, "tags.0"),
        ({"addresses": ["0x" + "a" * 40], "tag": []}, "'tag' is not known"),
        ([], "body"),
    ],
)
async def test_wrong_bodies_say_where(world, client, body, told):
    answer = await client.post("/api/traders", json=body)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert world.traders.calls == []


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"{", {"content-type": "application/json"}),
        (b"", {"content-type": "application/json"}),
        (b'{"addresses": ["0x1"]}', {"content-type": "text/plain"}),
        (b"\xff\xfe", {"content-type": "application/json"}),
        (b"[" * 60_000, {"content-type": "application/json"}),
        (b'{"addresses": ' + b"9" * 9000 + b"}", {"content-type": "application/json"}),
    ],
)
async def test_what_is_no_json_is_refused(world, client, content, headers):
    answer = await client.post("/api/traders", content=content, headers=headers)
    assert answer.status_code in {400, 422}
    assert answer.json()["detail"]
    assert world.traders.calls == []


async def test_a_process_that_follows_nobody_says_so(world):
    async with world.client(traders=None) as client:
        for answer in (
            await client.post("/api/traders", json={"addresses": [world.alice]}),
            await client.delete(f"/api/traders/{world.alice}"),
        ):
            assert answer.status_code == 409
            assert "TRADER_WS_ENABLED" in answer.json()["detail"]
        assert (await client.get("/api/traders")).status_code == 200


async def test_the_list_says_how_each_is_followed_now(world, client):
    told = {"mode": "rotation", "lastLookAgeS": 12.5, "lookWithinS": 90.0, "late": False, "changesPerHour": 3.0}
    world.traders.views = {world.alice: told}
    world.store.documents[Collection.TRADERS] = [
        {"_id": address, "ethAddress": address, "enabled": True, "source": "manual"}
        for address in (world.alice, world.bob)
    ]
    items = (await client.get("/api/traders")).json()["items"]
    assert {item["ethAddress"]: item["now"] for item in items} == {world.alice: told, world.bob: None}
