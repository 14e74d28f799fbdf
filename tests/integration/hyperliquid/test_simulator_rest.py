"""The HTTP side over a real socket, and a simulator in a process of its own."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


async def test_info_answers_and_refusals(venue, quick_config):
    sim = await venue.start(quick_config)
    async with httpx.AsyncClient(base_url=sim.api_url) as http:
        state = await http.post("/info", json={"type": "clearinghouseState", "user": sim.traders[0]})
        assert state.status_code == 200
        assert state.headers["content-type"] == "application/json"
        assert state.json()["assetPositions"]
        unknown = await http.post("/info", json={"type": "nope"})
        assert unknown.status_code == 422
        assert unknown.text == "Failed to deserialize the JSON body into the target type"
        broken = await http.post("/info", content=b"{broken")
        assert broken.status_code == 422
        bad = await http.post("/info", json={"type": "recentTrades", "coin": "NOPE"})
        assert (bad.status_code, bad.text) == (500, "null")
        assert (await http.post("/info", json={"type": "l2Book", "coin": "NOPE"})).text == "null"


async def test_leaderboard_is_streamed(venue, quick_config):
    sim = await venue.start(msgspec.structs.replace(quick_config, leaderboard_rows=1_000))
    async with httpx.AsyncClient() as http, http.stream("GET", f"{sim.stats_url}/leaderboard") as answer:
        chunks = [chunk async for chunk in answer.aiter_raw()]
    rows = json.loads(b"".join(chunks))["leaderboardRows"]
    assert len(chunks) > 2
    assert len(rows) == 1_000
    assert [row["ethAddress"] for row in rows[:4]] == sim.traders


async def test_faults_reach_the_http_side(venue, quick_config):
    sim = await venue.start(quick_config)
    async with httpx.AsyncClient(base_url=sim.api_url) as http:
        sim.faults.rate_limit(60.0)
        assert (await http.post("/info", json={"type": "meta"})).status_code == 429
        sim.faults.clear()
        await sim.faults.upgrade(60.0)
        answer = await http.post("/info", json={"type": "meta"})
        assert answer.status_code == 502
        assert answer.text.startswith("<html>")
        assert (await http.get("/Mainnet/leaderboard")).status_code == 502
        sim.faults.clear()
        assert (await http.post("/info", json={"type": "meta"})).status_code == 200


async def start_process(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "src.venues.hyperliquid.simulator", *arguments,
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    return process, json.loads(line)


async def test_a_process_of_its_own_serves_and_stops_when_stdin_ends():
    process, addresses = await start_process("--traders", "3", "--seed", "8", "--trader-cadence", "0.1")
    try:
        assert len(addresses["traders"]) == 3
        async with connect(addresses["ws_url"]) as ws:
            await ws.send(
                json.dumps(
                    {"method": "subscribe", "subscription": {"type": "openOrders", "user": addresses["traders"][0]}}
                )
            )
            channels = [json.loads(await ws.recv())["channel"] for _ in range(3)]
            assert channels == ["subscriptionResponse", "openOrders", "openOrders"]
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_process_stops_on_sigterm():
    process, addresses = await start_process("--traders", "1", "--payload-bytes-state", "20000", "--no-limits")
    try:
        async with httpx.AsyncClient(base_url=addresses["api_url"]) as http:
            state = await http.post("/info", json={"type": "clearinghouseState", "user": addresses["traders"][0]})
        assert 16_000 < len(state.content) < 24_000
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
