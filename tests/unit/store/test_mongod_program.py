"""Finding, describing and explaining the mongod program, without starting one."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.models.errors import EmbeddedServerError
from src.store import mongod
from src.store.mongod import (
    FIRST_PORT,
    MongodProcess,
    choose_port,
    command,
    command_of,
    explain_exit,
    find_binary,
    find_process,
    is_free,
    option,
    size_bytes,
    spawn,
    tail,
)


def line(severity: str, message: str, **attributes: object) -> str:
    return json.dumps({"s": severity, "msg": message, "attr": attributes})


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line looks like that of a mongod on ``tmp_path / "db"``."""
    process = subprocess.Popen(
        ["mongod", "-c", "import time; time.sleep(60)", "--dbpath", str(tmp_path / "db"), "--port", "27999"],
        executable=sys.executable,
    )
    yield process
    process.kill()
    process.wait()


class TestBinary:
    def test_it_is_found_among_the_installed_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        binary = tmp_path / "fiftyone" / "db" / "bin" / "mongod"
        binary.parent.mkdir(parents=True)
        binary.write_text("")
        binary.chmod(0o755)
        monkeypatch.setattr(sys, "path", ["/nowhere", str(tmp_path)])
        assert find_binary() == binary

    def test_none_for_this_system_names_the_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", ["/nowhere"])
        with pytest.raises(EmbeddedServerError) as missing:
            find_binary()
        for words in ("MONGODB_URI", "deploy/compose.yaml", "uv sync"):
            assert words in str(missing.value)

    def test_one_that_may_not_be_executed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        binary = tmp_path / "fiftyone" / "db" / "bin" / "mongod"
        binary.parent.mkdir(parents=True)
        binary.write_text("")
        binary.chmod(0o644)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.setattr(mongod.os, "access", lambda *_: False)  # root may do everything
        with pytest.raises(EmbeddedServerError, match="chmod"):
            find_binary()


class TestCommand:
    def test_it_listens_on_loopback_only_with_bounded_memory(self) -> None:
        arguments = command(Path("/b/mongod"), directory=Path("/d"), port=1234, cache_gib=0.5, log=Path("/l"))
        assert arguments[0] == "/b/mongod"
        assert option(arguments, "--bind_ip") == "127.0.0.1"
        assert option(arguments, "--port") == "1234"
        assert option(arguments, "--dbpath") == "/d"
        assert option(arguments, "--wiredTigerCacheSizeGB") == "0.5"
        assert option(arguments, "--setParameter") == "diagnosticDataCollectionEnabled=false"
        assert option(arguments, "--replSet")
        assert "--nounixsocket" in arguments

    def test_options_of_a_command_line(self) -> None:
        assert option(["a", "--x", "1"], "--x") == "1"
        assert option(["a", "--x"], "--x") is None
        assert option([], "--x") is None


class TestPorts:
    def test_the_preferred_port_when_it_is_free(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        assert choose_port(port) == port

    def test_another_when_it_is_not(self) -> None:
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", 0))
            squatter.listen()
            taken = squatter.getsockname()[1]
            assert not is_free(taken)
            assert choose_port(taken) >= FIRST_PORT
            assert choose_port(taken) != taken

    @pytest.mark.parametrize("port", [99_999, -1])
    def test_nonsense_is_not_free(self, port: int) -> None:
        assert not is_free(port)

    def test_none_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mongod, "is_free", lambda _: False)
        with pytest.raises(EmbeddedServerError, match="no free port"):
            choose_port(27117)


class TestProcesses:
    def test_a_mongod_on_our_directory_is_found(self, sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
        found = find_process(sleeper.pid, tmp_path / "db")
        assert found is not None
        assert found.pid == sleeper.pid
        assert found.is_running()
        assert option(command_of(sleeper.pid), "--port") == "27999"

    def test_one_on_another_directory_is_not_ours(self, sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
        assert find_process(sleeper.pid, tmp_path / "other") is None

    @pytest.mark.parametrize(
        "pid", [os.getpid(), 2**22 + 1, 0, -1, 2**80], ids=["another", "nobody", "zero", "minus", "huge"]
    )
    def test_other_processes_and_nonsense(self, pid: int, tmp_path: Path) -> None:
        assert find_process(pid, tmp_path) is None

    def test_a_dead_process_is_not_running_and_takes_no_signal(self, sleeper: subprocess.Popen[bytes]) -> None:
        found = MongodProcess(sleeper.pid)
        assert found.returncode is None
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has collected it
        assert not found.is_running()
        found.send(signal.SIGTERM)

    def test_a_process_that_never_was(self) -> None:
        ghost = MongodProcess(2**22 + 1)
        assert not ghost.is_running()
        ghost.send(signal.SIGTERM)
        ghost.detach()

    def test_a_child_tells_how_it_ended(self, tmp_path: Path) -> None:
        process = spawn(["/bin/sh", "-c", "echo said; exit 7"], output=tmp_path / "out")
        while process.is_running():
            pass
        assert process.returncode == 7
        assert tail(tmp_path / "out") == "said\n"

    def test_a_child_has_a_session_of_its_own_and_none_of_our_secrets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("API_TOKEN", "secret")
        process = spawn(["/bin/sh", "-c", "env; exec sleep 60"], output=tmp_path / "out")
        assert os.getsid(process.pid) == process.pid
        process.send(signal.SIGKILL)
        while process.is_running():
            pass
        assert "secret" not in tail(tmp_path / "out")
        assert process.returncode == -signal.SIGKILL

    def test_a_program_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(EmbeddedServerError, match="MONGODB_URI"):
            spawn([str(tmp_path / "none")], output=tmp_path / "out")


class TestExplanations:
    @pytest.mark.parametrize(
        ("returncode", "printed", "log", "expected"),
        [
            (127, "mongod: error while loading shared libraries: libcurl.so.4", [], ["libcurl4", "libcurl.so.4"]),
            (1, "error while loading shared libraries: libcrypto.so.3", [], ["libssl3", "libcrypto.so.3"]),
            (-signal.SIGILL, "", [], ["processor", "AVX", "signal 4"]),
            (-signal.SIGKILL, "", [], ["memory", "MONGODB_CACHE_GB"]),
            (62, "", [line("F", "UPGRADE PROBLEM")], ["another version", "UPGRADE PROBLEM"]),
            (14, "", [line("E", "WiredTiger error", error="No space left on device")], ["disk is full"]),
            (1, "", [line("I", "fine"), "{broken", line("E", "Bad", why="reason")], ["exit code 1", "Bad", "reason"]),
            (1, '{"json": 1}\nplain words\n', [], ["plain words"]),
            (None, "", [], ["nothing"]),
        ],
    )
    def test_they_say_what_to_do(
        self, returncode: int | None, printed: str, log: list[str], expected: list[str]
    ) -> None:
        text = explain_exit(returncode, printed, log)
        assert [words for words in [*expected, "MONGODB_URI", "deploy/compose.yaml"] if words not in text] == []

    def test_they_are_short(self) -> None:
        log = [line("E", "x" * 10_000)] * 50
        assert len(explain_exit(1, "y" * 10_000, log)) < 1200

    def test_the_end_of_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        assert (tail(path), size_bytes(path)) == ("", 0)
        path.write_text("old\nnew\n")
        assert tail(path, after_byte=4) == "new\n"
        path.write_bytes(b"x" * 200_000 + b"\xff end")
        assert tail(path).endswith("\N{REPLACEMENT CHARACTER} end")
        assert len(tail(path)) <= 64 * 1024


def test_the_limit_of_open_files_only_goes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for soft, hard in ((1024, 4096), (1024, resource.RLIM_INFINITY), (70_000, 80_000), (256, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=(soft, hard): found)
        mongod.raise_open_files_limit()
    assert asked == [(4096, 4096), (64_000, resource.RLIM_INFINITY)]


def test_a_system_that_refuses_more_open_files_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    mongod.raise_open_files_limit()
