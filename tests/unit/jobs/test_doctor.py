"""The checks of ``doctor``: every finding has a line, every bad one a remedy, and no check can hide another."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import psutil
import pytest
from websockets.asyncio.server import ServerConnection, serve

from src.config import Settings
from src.jobs.doctor import doctor
from src.jobs.doctor import machine as doctor_machine
from src.jobs.doctor.doctor import Check, checks_for, examine, exit_code, run_checks, settings_lines
from src.jobs.doctor.lines import CheckLine, clock_line
from src.jobs.doctor.machine import check_data_directory, check_http_port, check_limits
from src.jobs.doctor.venue import check_leaderboard, check_rest, check_websocket
from src.models.clock import ManualClock
from src.models.errors import ConfigurationError, VenueError
from src.store.lockfile import DataDirectoryLock
from src.venues.clock import SystemClock

Answer = Callable[[ServerConnection], Awaitable[None]]


def states(lines: list[CheckLine]) -> dict[str, str]:
    return {line.name: line.state for line in lines}


@asynccontextmanager
async def websocket_venue(answer: Answer) -> AsyncIterator[str]:
    async with serve(answer, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


# -- lines ---------------------------------------------------------------------------------------------------------


def test_a_line_says_state_name_text_and_remedy() -> None:
    assert str(CheckLine("mongodb", "ok", "6.0.5 replica set")) == "ok   mongodb      6.0.5 replica set"
    assert str(CheckLine("disk", "FAIL", "0.1 GiB free", "free space")) == (
        "FAIL disk         0.1 GiB free  -> free space"
    )


def test_a_line_never_shows_credentials() -> None:
    line = CheckLine("rest", "FAIL", "http://user:hunter2@proxy.example:8080 refused")
    assert "hunter2" not in str(line)


@pytest.mark.parametrize(
    ("offset_ms", "state", "says"),
    [
        (0, "ok", "within 1 ms"),
        (1999, "ok", "within 1999 ms"),
        (2500, "warn", "2.5 s ahead"),
        (-9000, "warn", "9.0 s behind"),
    ],
)
def test_a_clock_that_is_off_by_more_than_allowed_is_a_warning(offset_ms, state, says) -> None:
    line = clock_line("clock", "the venue", offset_ms, warn_above_ms=2000, remedy="set it")
    assert (line.state, says in line.text) == (state, True)


def test_only_failures_make_the_exit_code_one() -> None:
    fine = [CheckLine("a", "ok", ""), CheckLine("b", "warn", ""), CheckLine("c", "skip", "")]
    assert exit_code(fine) == 0
    assert exit_code([*fine, CheckLine("d", "FAIL", "")]) == 1
    assert exit_code([]) == 0


# -- running -------------------------------------------------------------------------------------------------------


async def test_checks_run_side_by_side_and_are_reported_in_their_order() -> None:
    first_may_end = asyncio.Event()

    async def first() -> list[CheckLine]:
        await first_may_end.wait()
        return [CheckLine("first", "ok", "1"), CheckLine("first", "ok", "2")]

    async def second() -> list[CheckLine]:
        first_may_end.set()
        return [CheckLine("second", "ok", "3")]

    lines = await run_checks([Check("first", first), Check("second", second)])
    assert [line.text for line in lines] == ["1", "2", "3"]


async def test_a_check_that_hangs_fails_or_breaks_takes_only_its_own_line() -> None:
    async def hang() -> list[CheckLine]:
        await asyncio.Event().wait()
        return []

    async def refuse() -> list[CheckLine]:
        raise VenueError("not\nthere")

    async def crash() -> list[CheckLine]:
        raise KeyError("oops")

    async def fine() -> list[CheckLine]:
        return [CheckLine("fine", "ok", "yes")]

    lines = await run_checks(
        [Check("hang", hang, 0.01), Check("refuse", refuse), Check("crash", crash), Check("fine", fine)]
    )
    assert states(lines) == {"hang": "FAIL", "refuse": "FAIL", "crash": "FAIL", "fine": "ok"}
    assert [line.text for line in lines[:2]] == ["no result within 0.01 s", "not there"]
    assert "KeyError" in lines[2].text
    assert all(line.remedy for line in lines[:3])


# -- settings ------------------------------------------------------------------------------------------------------


async def test_wrong_settings_are_reported_all_at_once_and_nothing_else_is_checked(tmp_path) -> None:
    (tmp_path / ".env.local").write_text("HTTP_PORT=abc\nDIFF_INTERVAL=-1\n")
    lines = await examine(clock=SystemClock(), directory=tmp_path)
    assert [(line.name, line.state) for line in lines] == [("settings", "FAIL")] * 2
    assert any(line.text.startswith("HTTP_PORT=abc") for line in lines)
    assert exit_code(lines) == 1


def test_oddities_are_warnings() -> None:
    lines = list(settings_lines(None, ["API_TOKEN is short"]))
    assert [line.state for line in lines] == ["ok", "warn"]
    assert [line.state for line in settings_lines(ConfigurationError("one line"), ())] == ["FAIL"]


def test_the_checks_follow_the_settings() -> None:
    names = [check.name for check in checks_for(Settings(), clock=SystemClock())]
    assert names == ["data", "mongodb", "rest", "websocket", "leaderboard", "http", "limits"]
    without = checks_for(Settings(hyperliquid_enabled=False), clock=SystemClock())
    assert [check.name for check in without] == ["data", "mongodb", "hyperliquid", "http", "limits"]


# -- this machine --------------------------------------------------------------------------------------------------


async def test_a_new_directory_is_created_and_fine(tmp_path) -> None:
    lines = await check_data_directory(tmp_path / "new" / "data")
    assert states(lines)["data"] == "ok"
    assert states(lines)["instance"] == "ok"
    assert list((tmp_path / "new" / "data").iterdir()) == []


async def test_a_file_in_the_place_of_the_directory_is_a_failure(tmp_path) -> None:
    (tmp_path / "data").write_text("x")
    (line,) = await check_data_directory(tmp_path / "data")
    assert line.state == "FAIL"
    assert "DATA_DIR" in line.remedy


@pytest.mark.parametrize(("free_gib", "state"), [(100, "ok"), (2, "warn"), (0.1, "FAIL")])
async def test_little_disk_space_is_told(tmp_path, monkeypatch, free_gib, state) -> None:
    usage = SimpleNamespace(free=int(free_gib * doctor_machine.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    lines = await check_data_directory(tmp_path)
    assert states(lines)["disk"] == state


async def test_a_running_instance_is_named(tmp_path) -> None:
    with DataDirectoryLock(tmp_path, command="the other one"):
        lines = await check_data_directory(tmp_path)
    assert "the other one" in next(line.text for line in lines if line.name == "instance")
    after = await check_data_directory(tmp_path)
    assert "no other instance" in next(line.text for line in after if line.name == "instance")


async def test_looking_for_an_instance_does_not_keep_one_from_starting(tmp_path) -> None:
    with DataDirectoryLock(tmp_path):
        pass
    await check_data_directory(tmp_path)
    with DataDirectoryLock(tmp_path):
        pass


async def test_a_free_port_and_any_port_are_fine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert [line.state for line in await check_http_port("127.0.0.1", port)] == ["ok"]
    assert [line.state for line in await check_http_port("127.0.0.1", 0)] == ["ok"]


async def test_a_port_another_program_has_is_a_failure(scripted_http) -> None:
    scripted_http.answer(200, b"<html>something else</html>")
    (line,) = await check_http_port("127.0.0.1", int(scripted_http.url.rsplit(":", 1)[1]))
    assert line.state == "FAIL"
    assert "HTTP_PORT" in line.remedy


async def test_a_port_this_program_has_is_fine(scripted_http) -> None:
    scripted_http.answer(503, json.dumps({"status": "down", "ready": False, "version": "1.2", "checks": []}).encode())
    (line,) = await check_http_port("127.0.0.1", int(scripted_http.url.rsplit(":", 1)[1]))
    assert (line.state, "1.2" in line.text) == ("ok", True)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_a_failure(host) -> None:
    (line,) = await check_http_port(host, 8002)
    assert line.state == "FAIL"
    assert "HTTP_HOST" in line.remedy


@pytest.mark.parametrize(("soft", "state"), [(256, "warn"), (65_536, "ok"), (resource.RLIM_INFINITY, "ok")])
async def test_few_open_files_are_a_warning(monkeypatch, soft, state) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, 1_048_576))
    assert states(await check_limits())["open files"] == state


@pytest.mark.parametrize(("available_gib", "state"), [(0.5, "warn"), (8, "ok")])
async def test_little_memory_is_a_warning(monkeypatch, available_gib, state) -> None:
    memory = SimpleNamespace(available=int(available_gib * doctor_machine.GIB))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert states(await check_limits())["memory"] == state


# -- the venue -----------------------------------------------------------------------------------------------------


async def test_a_venue_that_answers_also_tells_our_clock(scripted_http) -> None:
    clock = ManualClock()
    scripted_http.answer(200, json.dumps({"time": clock.wall_ms() + 100, "specialStatuses": None}).encode())
    assert states(await check_rest(scripted_http.url, proxy=None, clock=clock)) == {"rest": "ok", "clock": "ok"}


async def test_a_clock_two_seconds_off_is_a_warning_and_a_special_status_is_told(scripted_http) -> None:
    clock = ManualClock()
    scripted_http.answer(200, json.dumps({"time": clock.wall_ms() - 5000, "specialStatuses": ["postOnly"]}).encode())
    lines = await check_rest(scripted_http.url, proxy=None, clock=clock)
    assert states(lines) == {"rest": "ok", "venue": "warn", "clock": "warn"}
    assert "postOnly" in lines[1].text


async def test_a_venue_that_refuses_is_a_failure_with_its_words(scripted_http) -> None:
    scripted_http.answer(403, b"<html>blocked</html>")
    (line,) = await check_rest(scripted_http.url, proxy=None, clock=SystemClock())
    assert line.state == "FAIL"
    assert "403" in line.text


async def test_a_websocket_that_answers_the_ping_is_fine() -> None:
    async def answer(connection: ServerConnection) -> None:
        async for frame in connection:
            assert json.loads(frame) == {"method": "ping"}
            await connection.send("Websocket connection established.")
            await connection.send('{"channel":"pong"}')

    async with websocket_venue(answer) as url:
        (line,) = await check_websocket(url, proxy=None, clock=SystemClock())
    assert line.state == "ok"


async def test_a_websocket_that_talks_but_never_pongs_is_a_failure() -> None:
    async def babble(connection: ServerConnection) -> None:
        await connection.recv()
        for _ in range(30):
            await connection.send('{"channel":"other"}')

    async with websocket_venue(babble) as url:
        (line,) = await check_websocket(url, proxy=None, clock=SystemClock())
    assert line.state == "FAIL"
    assert "does not answer a ping" in line.text


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/ws", "http://127.0.0.1:1", "ws://[::bad"])
async def test_a_websocket_out_of_reach_is_a_failure(url) -> None:
    (line,) = await check_websocket(url, proxy=None, clock=SystemClock())
    assert line.state == "FAIL"
    assert "HYPERLIQUID_WS_URL" in line.remedy


async def test_a_websocket_that_hangs_up_is_a_failure() -> None:
    async def hang_up(connection: ServerConnection) -> None:
        await connection.close()

    async with websocket_venue(hang_up) as url:
        (line,) = await check_websocket(url, proxy=None, clock=SystemClock())
    assert line.state == "FAIL"


async def test_the_leaderboard_is_read_up_to_its_first_row(scripted_http) -> None:
    row = {"ethAddress": f"0x{1:040x}", "accountValue": "5", "windowPerformances": []}
    scripted_http.answer(200, json.dumps({"leaderboardRows": [row] * 50_000}).encode())
    (line,) = await check_leaderboard(scripted_http.url, proxy=None, clock=SystemClock(), needed=True)
    assert line.state == "ok"


@pytest.mark.parametrize(("needed", "state"), [(True, "FAIL"), (False, "warn")])
@pytest.mark.parametrize("body", [b"", b'{"leaderboardRows":[]}'])
async def test_a_missing_leaderboard_matters_only_without_traders_of_ones_own(
    scripted_http, needed, state, body
) -> None:
    scripted_http.answer(200, body)
    (line,) = await check_leaderboard(scripted_http.url, proxy=None, clock=SystemClock(), needed=needed)
    assert line.state == state
    assert "HYPERLIQUID_TRADERS" in line.remedy


def test_mongodb_may_take_longer_than_other_checks() -> None:
    assert doctor.MONGODB_TIMEOUT_S > doctor.CHECK_TIMEOUT_S
