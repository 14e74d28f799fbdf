"""The two steps of a stop, without a program around them; real signals are sent in the integration tests."""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest

from src.stopping import EXIT_AT_ONCE, Stop


@pytest.fixture
def exits(monkeypatch):
    """Exit codes asked for; the process itself goes on."""
    codes = []
    monkeypatch.setattr("src.stopping.os._exit", codes.append)
    return codes


@pytest.fixture
async def stop(monkeypatch):
    monkeypatch.setattr("src.stopping.ECHO_S", 0.0)
    installed = Stop()
    installed.install()
    yield installed
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)


async def send(number, times=1):
    for _ in range(times):
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)  # lets the loop hear of it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_only_says_that_the_stop_is_wanted(stop, exits, number):
    await send(number)
    assert stop.event.is_set()
    assert exits == []


async def test_a_signal_while_the_database_is_being_opened_cancels_that(stop, exits):
    opening = stop.opening = asyncio.create_task(asyncio.sleep(60))
    await send(signal.SIGINT)
    await asyncio.wait([opening])
    assert opening.cancelled()
    assert exits == []


async def test_the_second_signal_ends_at_once_and_asks_the_embedded_server_to_stop(stop, exits, monkeypatch):
    told = []
    await send(signal.SIGINT)
    stop.embedded = SimpleNamespace(pid=4711)
    monkeypatch.setattr("src.stopping.os.kill", lambda *message: told.append(message))
    stop._on_signal()
    assert told == [(4711, signal.SIGTERM)]
    assert exits == [EXIT_AT_ONCE]


async def test_a_server_that_is_dead_already_does_not_keep_the_second_signal_from_ending(stop, exits):
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    stop.embedded = SimpleNamespace(pid=gone.pid)
    await send(signal.SIGTERM, times=2)
    assert exits == [EXIT_AT_ONCE]


async def test_time_runs_only_once_the_stop_has_begun(stop):
    assert stop.time_left_s() == float("inf")
    stop.begin(25.0)
    assert 24.0 < stop.time_left_s() <= 25.0


async def test_the_echo_of_a_signal_is_not_a_second_one(stop, exits, monkeypatch):
    monkeypatch.setattr("src.stopping.ECHO_S", 3600.0)
    await send(signal.SIGINT, times=3)
    assert stop.event.is_set()
    assert exits == []
