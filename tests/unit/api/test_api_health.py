"""Health, readiness, liveness, stats: from memory, whatever state the store is in."""

import pytest

from src.models.errors import StoreError
from src.models.status import Check, Health


async def test_health_says_what_was_checked(client):
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "ready": True,
        "version": "1.2.3",
        "checks": [{"name": "mongodb", "ok": True, "text": "answers"}],
    }


@pytest.mark.parametrize(("status", "code"), [("ok", 200), ("degraded", 200), ("down", 503)])
async def test_only_down_is_an_error(world, client, status, code):
    world.status.now = Health(status, ready=True, checks=())
    assert (await client.get("/health")).status_code == code


async def test_ready_follows_readiness_and_live_does_not(world, client):
    world.status.now = Health("down", ready=False, checks=(Check("mongodb", ok=False, text="start it"),))
    ready = await client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"][0]["text"] == "start it"
    live = await client.get("/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "ok"})


async def test_live_survives_a_broken_status_source(world, client):
    def fail():
        raise RuntimeError("no health")

    world.status.health = fail
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/health")).status_code == 500


async def test_stats_are_passed_on(client):
    assert (await client.get("/stats")).json() == {"tracked_orders": 3, "streams": [{"name": "x", "age_s": 0.2}]}


async def test_numbers_json_cannot_hold_do_not_break_stats(world, client):
    world.status.numbers = {"age_s": float("inf"), "ratio": float("nan")}
    assert (await client.get("/stats")).json() == {"age_s": None, "ratio": None}


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/stats", "/metrics", "/", "/docs"])
async def test_the_store_is_never_asked(world, client, path):
    world.store.error = StoreError("away")
    assert (await client.get(path)).status_code == 200
    assert world.store.queries == []
