"""The embedded MongoDB through its whole life, with real processes, signals and locks."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from src.models.errors import ConfigurationError, DataDirectoryBusyError, EmbeddedServerError, StoreError
from src.models.writes import Collection, Insert, WriteBatch
from src.store import embedded, embedded_files, mongod
from src.store.base import Query
from src.store.embedded import EmbeddedServer, open_embedded
from src.store.embedded_files import Files, ServerState, find_running, read_state, write_state
from src.store.mongo import MongoStore
from src.store.mongod import MongodProcess, choose_port
from src.store.replica import ProcessEndedError

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("mongod_binary")]

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("embedded_user_process.py")


@pytest.fixture
def data_dir(tmp_path: Path) -> Any:
    """A data directory; whatever mongod a failed test leaves on it is ended."""
    yield tmp_path / "data"
    left = find_running(Files(tmp_path / "data"))
    if left is not None:
        left.process.send(signal.SIGKILL)
        wait_until(lambda: not left.process.is_running())


def small(data_dir: Path, **options: Any) -> contextlib.AbstractAsyncContextManager[EmbeddedServer]:
    """A server with little memory; a new one on any port, so that it does not meet those of other tests."""
    if data_dir.parent.is_dir() and not data_dir.exists():
        data_dir.mkdir(mode=0o700)
        port = random.randrange(mongod.FIRST_PORT + 1, mongod.LAST_PORT)
        write_state(Files(data_dir), ServerState(2**22 + 1, port, 0.25, ""))
    return open_embedded(data_dir, cache_gib=0.25, **options)


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - files tell of nothing by themselves
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    return MongodProcess(pid).is_running()


async def put(server: EmbeddedServer, *names: str) -> None:
    async with using(server) as store:
        await store.write(WriteBatch(1, [[Insert(Collection.TRADES, {"_id": name}) for name in names]]))


async def names_in(server: EmbeddedServer) -> set[str]:
    async with using(server) as store:
        return {str(document["_id"]) async for document in store.find(Collection.TRADES, Query())}


@asynccontextmanager
async def using(server: EmbeddedServer) -> AsyncIterator[MongoStore]:
    store = MongoStore(server.uri, "life")
    try:
        yield store
    finally:
        await store.close()


class UserProcess:
    """The script beside this file, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid

    async def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := await asyncio.wait_for(self.process.stdout.readline(), 30):
            if line.startswith(b"{"):
                facts: dict[str, Any] = json.loads(line)
                return facts
        raise AssertionError("the process ended without a word")

    async def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()
        assert await asyncio.wait_for(self.process.wait(), 30) == 0


@asynccontextmanager
async def user_process(data_dir: Path, *options: str) -> AsyncIterator[UserProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        str(data_dir),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        yield UserProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


class TestStartAndStop:
    async def test_data_is_there_again_on_another_port(self, data_dir: Path) -> None:
        async with small(data_dir) as server:
            first_uri, first_pid = server.uri, server.pid
            port = server.uri.rpartition(":")[2].split("/")[0]
            await put(server, "kept")
        assert not runs(first_pid)

        squatter = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        async with squatter, small(data_dir) as server:
            assert server.uri != first_uri
            assert await names_in(server) == {"kept"}
            await put(server, "and writable")

    async def test_the_port_stays_the_same_where_it_is_free(self, data_dir: Path) -> None:
        async with small(data_dir) as server:
            first_uri = server.uri
        async with small(data_dir) as server:
            assert server.uri == first_uri
            assert not server.was_running

    async def test_it_is_a_replica_set_on_loopback_with_a_small_cache_and_no_secrets(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("API_TOKEN", "very secret")
        async with small(data_dir) as server, using(server) as store:
            facts = await store.prepare()
            process = psutil.Process(server.pid)
            addresses = {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
            sockets = [c.laddr for c in process.net_connections("unix") if "mongodb" in str(c.laddr)]
            cache = next(a for a in process.cmdline() if a == "0.25")
            assert (facts.topology, facts.version, facts.uri) == ("replica set", server.version, server.uri)
            assert (addresses, sockets, cache) == ({"127.0.0.1"}, [], "0.25")
            assert "API_TOKEN" not in process.environ()
        assert (data_dir / "mongodb" / "mongod.lock").read_text() == ""  # stopped in order
        assert stat.S_IMODE(os.stat(data_dir).st_mode) == 0o700  # noqa: PTH116 - no blocking call of its own

    async def test_a_cancelled_start_leaves_no_server_behind(self, data_dir: Path) -> None:
        async def start() -> None:
            async with small(data_dir):
                raise AssertionError("must not get that far")

        starting = asyncio.create_task(start())
        lock = data_dir / "mongodb" / "mongod.lock"
        await until(lambda: lock.exists() and lock.read_text() != "")
        pid = int(lock.read_text())
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not runs(pid)

    async def test_an_error_in_the_body_still_stops_the_server(self, data_dir: Path) -> None:
        pids = []

        async def fail() -> None:
            async with small(data_dir) as server:
                pids.append(server.pid)
                raise RuntimeError("from the body")

        with pytest.raises(RuntimeError, match="from the body"):
            await fail()
        assert not runs(pids[0])

    async def test_a_server_that_ignores_every_request_is_killed(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.2)
        monkeypatch.setattr(embedded, "TERMINATE_TIMEOUT_S", 0.2)
        async with small(data_dir) as server:
            pid = server.pid
            os.kill(pid, signal.SIGSTOP)
        assert not runs(pid)


class TestPorts:
    async def test_directories_started_at_once_get_different_ports(self, tmp_path: Path) -> None:
        met = asyncio.Barrier(3)

        async def use(name: str) -> str:
            async with small(tmp_path / name) as server:
                await met.wait()
                await put(server, name)
                assert await names_in(server) == {name}
                return server.uri

        assert len(set(await asyncio.gather(use("a"), use("b"), use("c")))) == 3

    async def test_the_server_of_somebody_else_on_the_port_is_never_touched(
        self, data_dir: Path, tmp_path: Path, mongod_binary: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It took the port between our look and our start; it waits for its owner to initiate it."""
        port = choose_port(None)
        (tmp_path / "theirs").mkdir()
        arguments = ["--dbpath", str(tmp_path / "theirs"), "--port", str(port), "--replSet", "collector"]
        theirs = await asyncio.create_subprocess_exec(
            str(mongod_binary), *arguments, "--nounixsocket", stdout=asyncio.subprocess.DEVNULL
        )
        try:
            with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
                client.admin.command("ping")
                monkeypatch.setattr(embedded.mongod, "is_free", lambda _: True)
                monkeypatch.setattr(embedded.mongod, "choose_port", lambda _: port)
                monkeypatch.setattr(embedded, "_PORT_RETRY_INTERVAL_S", 0.01)
                with pytest.raises(EmbeddedServerError, match=f"port {port} is taken"):
                    async with small(data_dir):
                        raise AssertionError("must not get that far")
                with pytest.raises(OperationFailure) as still_new:
                    client.admin.command("replSetGetConfig")
                assert still_new.value.code == 94
        finally:
            theirs.kill()
            await theirs.wait()


class TestOneCollectorPerDirectory:
    async def test_a_second_collector_is_refused_with_name_and_remedy(self, data_dir: Path) -> None:
        async with small(data_dir) as server:
            with pytest.raises(DataDirectoryBusyError) as refused:
                async with small(data_dir):
                    raise AssertionError("must not get that far")
            assert f"pid {os.getpid()}" in str(refused.value)
            assert str(data_dir) in str(refused.value)
            assert "DATA_DIR" in str(refused.value)
            assert runs(server.pid)

    async def test_the_refusal_names_another_process(self, data_dir: Path) -> None:
        async with user_process(data_dir) as owner:
            await owner.says()
            with pytest.raises(DataDirectoryBusyError, match=f"pid {owner.pid} .*embedded_user_process.py"):
                async with small(data_dir):
                    raise AssertionError("must not get that far")
            await owner.finish()
        async with small(data_dir) as server:
            assert len(await names_in(server)) == 2

    async def test_a_mongod_out_of_sight_is_respected(
        self, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with small(data_dir) as server:
            await put(server, "theirs")
            monkeypatch.setattr(embedded, "find_running", lambda _files: None)
            with pytest.raises(DataDirectoryBusyError, match="another mongod works on"):
                async with small(data_dir, shared=True):
                    raise AssertionError("must not get that far")
            monkeypatch.undo()
            assert await names_in(server) == {"theirs"}

    async def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="DATA_DIR"):
            async with small(tmp_path / "file" / "data"):
                raise AssertionError("must not get that far")

    async def test_a_cache_too_small_for_mongodb(self, data_dir: Path) -> None:
        with pytest.raises(ConfigurationError, match="MONGODB_CACHE_GB"):
            async with open_embedded(data_dir, cache_gib=0.1):
                raise AssertionError("must not get that far")


class TestSharing:
    async def test_a_command_finds_the_running_server_and_leaves_it_running(self, data_dir: Path) -> None:
        async with small(data_dir) as server:
            async with user_process(data_dir, "shared") as command:
                said = await command.says()
                assert said == {"uri": server.uri, "mongod": server.pid, "was_running": True}
                await command.finish()
            assert await names_in(server) == {f"start:{command.pid}", f"stop:{command.pid}"}
            assert not server.died.is_set()

    async def test_the_last_user_stops_the_server(self, data_dir: Path) -> None:
        async with user_process(data_dir, "shared") as command:
            said = await command.says()
            async with small(data_dir) as server:
                assert server.was_running
            assert runs(said["mongod"])  # the command still needs it
            await command.finish()
            assert not runs(said["mongod"])

    async def test_users_that_come_at_once_share_one_server(self, data_dir: Path) -> None:
        met = asyncio.Barrier(4)

        async def use() -> int:
            async with small(data_dir, shared=True) as server:
                await met.wait()
                return server.pid

        assert len(set(await asyncio.gather(*(use() for _ in range(4))))) == 1
        assert find_running(Files(data_dir)) is None


class TestSignals:
    async def test_ctrl_c_reaches_the_program_but_not_the_database(self, data_dir: Path) -> None:
        async with user_process(data_dir) as owner:
            mongod_pid = (await owner.says())["mongod"]
            assert os.getpgid(mongod_pid) != os.getpgid(owner.pid)
            os.killpg(owner.pid, signal.SIGINT)
            assert await owner.says() == {"closed": True}  # its last write was taken
            assert await owner.process.wait() == 0
        assert not runs(mongod_pid)
        async with small(data_dir) as server:
            assert await names_in(server) == {f"start:{owner.pid}", f"stop:{owner.pid}"}

    @pytest.mark.parametrize("state_file", ["kept", "lost", "broken"])
    async def test_the_server_of_a_killed_owner_is_taken_over(self, data_dir: Path, state_file: str) -> None:
        async with user_process(data_dir) as owner:
            said = await owner.says()
            os.kill(owner.pid, signal.SIGKILL)
            await owner.process.wait()
        assert runs(said["mongod"])
        if state_file == "lost":
            Files(data_dir).state.unlink()
        elif state_file == "broken":
            Files(data_dir).state.write_text('{"pid": ')

        async with small(data_dir) as server:
            assert (server.was_running, server.pid, server.uri) == (True, said["mongod"], said["uri"])
            assert await names_in(server) == {f"start:{owner.pid}"}
        assert not runs(said["mongod"])

    async def test_an_orphan_with_another_cache_size_is_replaced(self, data_dir: Path) -> None:
        async with user_process(data_dir) as owner:
            said = await owner.says()
            os.kill(owner.pid, signal.SIGKILL)
            await owner.process.wait()
        async with open_embedded(data_dir, cache_gib=0.3) as server:
            assert server.pid != said["mongod"]
            assert not runs(said["mongod"])
            assert await names_in(server) == {f"start:{owner.pid}"}
            state = read_state(Files(data_dir))
            assert state is not None
            assert state.cache_gib == 0.3

    async def test_a_frozen_orphan_is_replaced(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ORPHAN_TIMEOUT_S", "STOP_TIMEOUT_S", "TERMINATE_TIMEOUT_S"):
            monkeypatch.setattr(embedded, name, 0.2)
        async with user_process(data_dir) as owner:
            said = await owner.says()
            os.kill(owner.pid, signal.SIGKILL)
            await owner.process.wait()
        os.kill(said["mongod"], signal.SIGSTOP)
        async with small(data_dir, start_timeout_s=60) as server:
            assert server.pid != said["mongod"]
            assert await names_in(server) == {f"start:{owner.pid}"}

    async def test_a_directory_that_a_dying_server_still_holds_is_tried_again(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start_on, held = EmbeddedServer._start_on, [True, True]

        async def held_at_first(self: Any, binary: Path, port: int) -> Any:
            if held and held.pop():
                raise ProcessEndedError(mongod.EXIT_DIRECTORY_TAKEN)
            return await start_on(self, binary, port)

        monkeypatch.setattr(EmbeddedServer, "_start_on", held_at_first)
        async with small(data_dir) as server:
            assert await names_in(server) == set()
        assert not held

    async def test_the_pid_of_somebody_else_is_left_alone(self, data_dir: Path) -> None:
        async with small(data_dir):
            pass
        files = Files(data_dir)
        state = read_state(files)
        assert state is not None
        bystander = await asyncio.create_subprocess_exec("sleep", "60")
        try:
            embedded_files.write_state(files, type(state)(bystander.pid, state.port, state.cache_gib, state.version))
            (files.database / "mongod.lock").write_text(f"{bystander.pid}\n")
            async with small(data_dir) as server:
                assert server.pid != bystander.pid
            assert bystander.returncode is None
        finally:
            bystander.kill()
            await bystander.wait()


class TestDeath:
    async def test_acknowledged_writes_survive_a_kill_and_the_server_comes_back(self, data_dir: Path) -> None:
        async with small(data_dir) as server:
            uri = server.uri
            await put(server, *(f"n{number}" for number in range(2000)))
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(server.died.wait(), 10)

            await server.restart()

            assert not server.died.is_set()
            assert server.uri == uri
            assert len(await names_in(server)) == 2000

            os.kill(server.pid, signal.SIGKILL)  # and it is noticed again
            await asyncio.wait_for(server.died.wait(), 10)

    async def test_a_store_that_was_open_goes_on_after_a_restart(self, data_dir: Path) -> None:
        async with small(data_dir) as server, using(server) as store:
            batch = WriteBatch(1, [[Insert(Collection.TRADES, {"_id": "a"})]])
            await store.write(batch)
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(server.died.wait(), 10)
            await server.restart()
            assert (await store.write(batch)).repeated == 1

    async def test_a_running_server_is_not_restarted(self, data_dir: Path) -> None:
        async with small(data_dir) as server:
            pid = server.pid
            await server.restart()
            assert server.pid == pid

    async def test_several_users_restart_it_once(self, data_dir: Path) -> None:
        async with small(data_dir) as one, small(data_dir, shared=True) as other:
            os.kill(one.pid, signal.SIGKILL)
            await asyncio.wait_for(asyncio.gather(one.died.wait(), other.died.wait()), 10)
            await asyncio.gather(one.restart(), other.restart())
            assert one.pid == other.pid
            assert one.uri == other.uri
            assert runs(one.pid)

    async def test_a_restart_needs_its_port_and_works_once_it_is_free(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "_PORT_RETRY_INTERVAL_S", 0.01)
        async with small(data_dir) as server:
            uri, port = server.uri, int(server.uri.split(":")[2].split("/")[0])
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(server.died.wait(), 10)
            with socket.socket() as squatter:
                squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                squatter.bind(("127.0.0.1", port))
                squatter.listen()
                with pytest.raises(EmbeddedServerError, match=f"port {port} is taken"):
                    await server.restart()
            await server.restart()
            assert server.uri == uri

    async def test_a_watch_that_fails_counts_as_a_death(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> bool:
            raise OSError("no more files")

        async with small(data_dir) as server:
            monkeypatch.setattr(embedded, "_LOG_CHECK_EVERY", 1)
            monkeypatch.setattr(embedded, "rotate_log", broken)
            await asyncio.wait_for(server.died.wait(), 10)


class TestLog:
    async def test_a_large_log_is_set_aside_and_a_new_one_opened(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = Files(data_dir)
        async with small(data_dir) as server:
            assert not embedded_files.rotate_log(files, None)
            monkeypatch.setattr(embedded_files, "MAX_LOG_BYTES", 1000)
            monkeypatch.setattr(embedded, "_LOG_CHECK_EVERY", 1)
            await until(files.old_log.exists)
            monkeypatch.setattr(embedded_files, "MAX_LOG_BYTES", 10**9)
            await until(files.log.exists)
            assert server.log_path == files.log
            assert not server.died.is_set()


def fake_mongod(tmp_path: Path, script: str) -> Path:
    binary = tmp_path / "mongod"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    return binary


class TestRemedies:
    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            (
                "echo 'mongod: error while loading shared libraries: libcurl.so.4: cannot open' >&2; exit 127",
                ["libcurl4", "libcurl.so.4", "MONGODB_URI", "deploy/compose.yaml"],
            ),
            ("kill -ILL $$", ["processor", "AVX", "MONGODB_URI"]),
            ("exit 62", ["another version", "DATA_DIR"]),
            ("kill -KILL $$", ["memory", "MONGODB_CACHE_GB"]),
            ("echo something odd; exit 3", ["exit code 3", "something odd", "MONGODB_URI"]),
        ],
    )
    async def test_a_server_that_does_not_start(
        self, data_dir: Path, tmp_path: Path, script: str, expected: list[str]
    ) -> None:
        with pytest.raises(EmbeddedServerError) as failed:
            async with small(data_dir, binary=fake_mongod(tmp_path, script)):
                raise AssertionError("must not get that far")
        assert [word for word in expected if word not in str(failed.value)] == []

    async def test_a_binary_that_cannot_be_executed(self, data_dir: Path, tmp_path: Path) -> None:
        binary = tmp_path / "mongod"
        binary.write_bytes(b"\x7fELF nonsense")
        binary.chmod(0o755)
        with pytest.raises(EmbeddedServerError, match="MONGODB_URI"):
            async with small(data_dir, binary=binary):
                raise AssertionError("must not get that far")

    async def test_a_server_that_is_never_ready_is_ended(self, data_dir: Path, tmp_path: Path) -> None:
        binary = fake_mongod(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
        with pytest.raises(EmbeddedServerError, match="not ready after 1 s"):
            async with small(data_dir, binary=binary, start_timeout_s=1):
                raise AssertionError("must not get that far")
        assert not runs(int((tmp_path / "pid").read_text()))

    async def test_the_directory_can_be_used_after_a_failed_start(self, data_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(EmbeddedServerError):
            async with small(data_dir, binary=fake_mongod(tmp_path, "exit 1")):
                raise AssertionError("must not get that far")
        async with small(data_dir) as server:
            assert runs(server.pid)


async def test_starting_waits_for_whoever_starts_or_stops_it_now(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends with an error that names the one in the way."""
    embedded.make_directory(data_dir)
    mutex = embedded.FileLock(Files(data_dir).mutex)
    assert mutex.try_acquire()
    mutex.sign("traders list")
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.1)

    async def start() -> None:
        async with small(data_dir, start_timeout_s=0.1):
            raise AssertionError("must not get that far")

    with pytest.raises(DataDirectoryBusyError, match="traders list"):
        await start()
    mutex.release()
    async with small(data_dir) as server:
        assert runs(server.pid)


class TestStrangers:
    """Two programs, each with a server of its own, and one port that changes hands."""

    async def test_a_store_refuses_the_server_that_got_its_port(self, tmp_path: Path, mongod_binary: Path) -> None:
        async with open_embedded(tmp_path / "a", cache_gib=0.25, binary=mongod_binary) as ours:
            store = MongoStore(ours.uri, "strangers", timeout_s=1.0)
            await store.prepare()
            port = int(ours.uri.split(":")[2].split("/")[0])
            os.kill(ours.pid, signal.SIGKILL)
            await asyncio.wait_for(ours.died.wait(), 10)
            (tmp_path / "b").mkdir()
            write_state(Files(tmp_path / "b"), ServerState(2**22 + 1, port, 0.25, "6.0.5"))
            async with open_embedded(tmp_path / "b", cache_gib=0.25, binary=mongod_binary) as theirs:
                assert int(theirs.uri.split(":")[2].split("/")[0]) == port
                assert theirs.uri != ours.uri
                with pytest.raises(StoreError):
                    await store.ping()
                with MongoClient(theirs.uri) as client:
                    assert "strangers" not in client.list_database_names()
            await ours.restart()
            assert await store.ping() > 0
            await store.close()
