"""What the files in a data directory say about a server, and when they are not believed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from src.models.errors import ConfigurationError
from src.store import embedded_files
from src.store.embedded_files import (
    Files,
    ServerState,
    find_running,
    read_state,
    rotate_log,
    write_state,
)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.database.mkdir()
    return made


@pytest.fixture
def server(files: Files) -> Iterator[int]:
    """The pid of something that looks like a mongod on our directory."""
    process = subprocess.Popen(
        ["mongod", "-c", "import time; time.sleep(60)", "--dbpath", str(files.database), "--port", "27999"],
        executable=sys.executable,
    )
    while not psutil.Process(process.pid).cmdline():
        time.sleep(0.001)  # for a moment after its start a process has no arguments to show
    yield process.pid
    process.kill()
    process.wait()


def state(pid: int) -> ServerState:
    return ServerState(pid, 27999, 0.5, "6.0.5")


def test_the_state_comes_back_as_it_was_written(files: Files) -> None:
    assert read_state(files) is None
    write_state(files, state(7))
    assert read_state(files) == state(7)
    write_state(files, state(8))
    assert read_state(files) == state(8)
    assert not list(files.data_dir.glob("*.new"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff\xfe"])
def test_a_broken_state_is_no_state(files: Files, content: bytes) -> None:
    files.state.write_bytes(content)
    assert read_state(files) is None
    assert find_running(files) is None


def test_a_state_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="DATA_DIR"):
        write_state(Files(tmp_path / "missing"), state(1))


def test_a_running_server_is_found_by_its_state(files: Files, server: int) -> None:
    write_state(files, state(server))
    found = find_running(files)
    assert found is not None
    assert (found.process.pid, found.port) == (server, 27999)


@pytest.mark.parametrize("stale", [None, os.getpid(), 2**22 + 1], ids=["none", "another", "nobody"])
def test_it_is_found_by_its_own_lock_file_too(files: Files, server: int, stale: int | None) -> None:
    if stale is not None:
        write_state(files, state(stale))
    (files.database / "mongod.lock").write_text(f"{server}\n")
    found = find_running(files)
    assert found is not None
    assert found.process.pid == server


@pytest.mark.parametrize(
    "lock", ["", "nonsense", f"{os.getpid()}\n", "-1\n", "9" * 40], ids=["empty", "text", "another", "minus", "huge"]
)
def test_other_processes_are_never_taken_for_it(files: Files, lock: str) -> None:
    write_state(files, state(os.getpid()))
    (files.database / "mongod.lock").write_text(lock)
    assert find_running(files) is None


def test_a_server_of_another_directory_is_not_ours(files: Files, server: int, tmp_path: Path) -> None:
    other = Files(tmp_path / "other")
    other.database.mkdir(parents=True)
    write_state(other, state(server))
    assert find_running(other) is None


def test_a_log_is_set_aside_when_it_grows_too_large(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_files, "MAX_LOG_BYTES", 10)
    assert not rotate_log(files, None)
    files.log.write_text("x" * 10)
    assert not rotate_log(files, None)
    files.log.write_text("first" * 3)
    assert rotate_log(files, None)
    files.log.write_text("second" * 3)
    assert rotate_log(files, None)
    assert files.old_log.read_text() == "second" * 3
    assert not files.log.exists()
