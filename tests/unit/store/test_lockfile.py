"""Locks that vanish with their process."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.models.errors import ConfigurationError, DataDirectoryBusyError
from src.store import lockfile
from src.store.lockfile import (
    INSTANCE_LOCK_NAME,
    DataDirectoryLock,
    FileLock,
    acquire,
    command_line,
    make_directory,
)

HOLD = """
import sys
from pathlib import Path
from src.store.lockfile import DataDirectoryLock
with DataDirectoryLock(Path(sys.argv[1]), command="collector run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


class TestFileLock:
    def test_only_one_exclusive_holder(self, path: Path) -> None:
        one, other = FileLock(path), FileLock(path)
        assert one.try_acquire()
        assert not other.try_acquire()
        assert not other.try_acquire(shared=True)
        one.release()
        assert other.try_acquire()
        other.release()

    def test_several_shared_holders_keep_an_exclusive_one_out(self, path: Path) -> None:
        one, two, exclusive = FileLock(path), FileLock(path), FileLock(path)
        assert one.try_acquire(shared=True)
        assert two.try_acquire(shared=True)
        assert not exclusive.try_acquire()
        one.release()
        assert not exclusive.try_acquire()
        two.release()
        assert exclusive.try_acquire()
        exclusive.release()

    def test_release_may_be_repeated(self, path: Path) -> None:
        lock = FileLock(path)
        lock.release()
        assert lock.try_acquire()
        lock.release()
        lock.release()

    def test_the_holder_signs(self, path: Path) -> None:
        lock = FileLock(path)
        assert lock.try_acquire()
        lock.sign("collector run")
        assert FileLock(path).holder().startswith(f"pid {os.getpid()} (collector run), running since 20")
        lock.release()

    @pytest.mark.parametrize(
        "content", ["", "nonsense", "[]", '{"pid": "x"}', '{"pid": null, "command": 1}', "{" * 9000]
    )
    def test_an_unreadable_signature_is_another_process(self, path: Path, content: str) -> None:
        path.write_text(content)
        assert FileLock(path).holder() == "another process"

    def test_a_missing_directory_is_explained(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="DATA_DIR"):
            FileLock(tmp_path / "missing" / "x.lock").try_acquire()

    def test_a_file_system_without_locks_is_explained(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(lockfile.fcntl, "flock", no_locks)
        with pytest.raises(ConfigurationError, match=r"not supported.*local disk"):
            FileLock(path).try_acquire()

    def test_a_child_process_does_not_inherit_the_lock(self, path: Path) -> None:
        lock = FileLock(path)
        assert lock.try_acquire()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        lock.release()
        again = FileLock(path)
        deadline = time.monotonic() + 20
        # Spawning returns a moment before the new program's inherited files are closed.
        while not again.try_acquire():
            assert time.monotonic() < deadline
        again.release()
        assert child.poll() is None
        child.communicate(b"\n")


class TestWaiting:
    async def test_waits_for_the_release(self, path: Path) -> None:
        holder, waiter = FileLock(path), FileLock(path)
        assert holder.try_acquire()
        waiting = asyncio.create_task(acquire(waiter, timeout_s=20))
        await asyncio.sleep(0)
        assert not waiting.done()
        holder.release()
        assert await waiting
        waiter.release()

    async def test_gives_up_after_the_timeout(self, path: Path) -> None:
        holder = FileLock(path)
        assert holder.try_acquire()
        assert not await acquire(FileLock(path), timeout_s=0.01)
        holder.release()


class TestDataDirectoryLock:
    def test_a_second_one_is_refused_with_who_and_what_to_do(self, tmp_path: Path) -> None:
        with DataDirectoryLock(tmp_path / "data", command="collector run"):
            with pytest.raises(DataDirectoryBusyError) as refused, DataDirectoryLock(tmp_path / "data"):
                raise AssertionError("must not get that far")
            for words in (f"pid {os.getpid()} (collector run)", str(tmp_path / "data"), "DATA_DIR"):
                assert words in str(refused.value)
        with DataDirectoryLock(tmp_path / "data"):
            pass

    def test_directories_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        with DataDirectoryLock(tmp_path / "a"), DataDirectoryLock(tmp_path / "b"):
            assert json.loads((tmp_path / "a" / INSTANCE_LOCK_NAME).read_text())["pid"] == os.getpid()

    def test_the_same_directory_by_another_path_is_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "data")
        with (
            DataDirectoryLock(tmp_path / "data"),
            pytest.raises(DataDirectoryBusyError),
            DataDirectoryLock(tmp_path / "link"),
        ):
            raise AssertionError("must not get that far")

    def test_it_vanishes_with_a_killed_process(self, tmp_path: Path) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(DataDirectoryBusyError, match=rf"pid {holder.pid} \(collector run\)"),
            DataDirectoryLock(tmp_path),
        ):
            raise AssertionError("must not get that far")
        holder.kill()
        holder.communicate()
        with DataDirectoryLock(tmp_path):
            pass


class TestDirectory:
    def test_it_is_private(self, tmp_path: Path) -> None:
        make_directory(tmp_path / "a" / "b")
        make_directory(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("")
        with pytest.raises(ConfigurationError, match="DATA_DIR"):
            make_directory(tmp_path / "a")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/x/main.py", "traders", "list"], "main.py traders"),
        (["/x/main.py"], "main.py"),
        (["/x/main.py", "--token=secret"], "main.py"),
        ([], "python"),
        (["", "x"], "python x"),
    ],
)
def test_the_command_as_a_person_types_it(arguments: list[str], shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert command_line() == shown
